package paysim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/uuid"

	"example.com/orderflow/messaging/httpapi"
)

// authorizeRequest is the body of POST /provider/v1/authorizations.
type authorizeRequest struct {
	AmountMinor int64  `json:"amount_minor" validate:"min=1,max=1000000000000"`
	Currency    string `json:"currency" validate:"required,iso4217"`
	MethodToken string `json:"method_token" validate:"required,max=100"`
	Reference   string `json:"reference" validate:"required,max=200"`
}

// captureRequest is the body of POST /provider/v1/authorizations/{id}/capture.
type captureRequest struct {
	AmountMinor int64 `json:"amount_minor" validate:"min=1,max=1000000000000"`
}

// result answers whatever had an effect: the authorization as it is then.
type result struct {
	ID            string `json:"id"`
	Status        string `json:"status"`
	Code          string `json:"code,omitempty"`         // with 402 and 409: why it was refused
	AmountMinor   int64  `json:"amount_minor,omitempty"` // authorized or refunded
	CapturedMinor int64  `json:"captured_minor,omitempty"`
}

// authorize answers POST /provider/v1/authorizations: 201 authorized, 402 refused.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) error {
	key, err := httpapi.IdempotencyKey(r)
	if err != nil {
		return err
	}
	body, err := httpapi.Decode[authorizeRequest](w, r)
	if err != nil {
		return err
	}
	c, ok := conductOf(body.MethodToken)
	if !ok {
		return httpapi.NewProblem(http.StatusUnprocessableEntity, "invalid_method", "the provider knows no such method token")
	}
	fingerprint, err := fingerprintOf("authorize", "", body)
	if err != nil {
		return err
	}
	subject := key
	if c.misdeed == errorStuck { // this key is lost: the next one isn't
		subject = body.Reference + ":" + opAuthorize
	}
	m, answered, err := s.mischief(w, r, opAuthorize, c, key, fingerprint, subject)
	if answered || err != nil {
		return err
	}
	if m.does(refused) {
		c.decline = "card_declined"
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make an authorization id: %w", err)
	}
	a := authorization{
		ID: id.String(), Status: "authorized", Key: key, Reference: body.Reference,
		AmountMinor: body.AmountMinor, Currency: body.Currency,
	}
	if c.op != opAuthorize { // what goes wrong later
		a.ConductOp, a.Misdeed = c.op, string(c.misdeed)
	}
	status, says := http.StatusCreated, result{ID: a.ID, Status: a.Status, AmountMinor: a.AmountMinor}
	if c.decline != "" {
		status, a.Status, a.Code = http.StatusPaymentRequired, "declined", c.decline
		says = result{ID: a.ID, Status: a.Status, Code: a.Code}
	}
	ans, err := newAnswer(key, fingerprint, status, says)
	if err != nil {
		return err
	}
	ans.hooks = s.hooksFor("authorization."+a.Status, a.ID, key, body.Reference)
	return s.perform(w, r, m, ans, func(ctx context.Context, ans answer) (answer, bool, error) {
		err := s.store.insertAuthorization(ctx, a, ans)
		if errors.Is(err, errKeyTaken) {
			ans, _, err := s.answered(ctx, key, fingerprint)
			return ans, true, err
		}
		return ans, false, err
	})
}

// lookUp answers GET /provider/v1/authorizations?key=: what was asked for under
// that Idempotency-Key and where it stands now; 404 when nothing was done under it.
func (s *Server) lookUp(w http.ResponseWriter, r *http.Request) error {
	key := r.URL.Query().Get("key")
	if key == "" {
		return httpapi.NewProblem(http.StatusBadRequest, "invalid-parameter", "key: the Idempotency-Key of the authorization")
	}
	if done, err := s.misread(w, r, opLookUp); done || err != nil {
		return err
	}
	if err := s.store.lookedUp(r.Context(), key); err != nil {
		return err
	}
	a, err := s.store.findAuthorization(r.Context(), key)
	return showAuthorization(w, a, err)
}

// showOne answers GET /provider/v1/authorizations/{id}.
func (s *Server) showOne(w http.ResponseWriter, r *http.Request) error {
	id, err := httpapi.Path(r, "id", "uuid")
	if err != nil {
		return err
	}
	if done, err := s.misread(w, r, opLookUp); done || err != nil {
		return err
	}
	a, err := s.store.findAuthorizationByID(r.Context(), id)
	return showAuthorization(w, a, err)
}

func showAuthorization(w http.ResponseWriter, a authorization, err error) error {
	if errors.Is(err, errNotFound) {
		return httpapi.NotFound()
	}
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, a)
}

// capture answers POST /provider/v1/authorizations/{id}/capture.
func (s *Server) capture(w http.ResponseWriter, r *http.Request) error {
	body, err := httpapi.Decode[captureRequest](w, r)
	if err != nil {
		return err
	}
	return s.settle(w, r, settlement{
		op: opCapture, body: body, says: result{Status: "captured", CapturedMinor: body.AmountMinor},
		act: func(ctx context.Context, id string, anyway bool, ans answer) (bool, error) {
			return s.store.captureAuthorization(ctx, id, body.AmountMinor, anyway, ans)
		},
	})
}

// void answers POST /provider/v1/authorizations/{id}/void; it takes no body.
func (s *Server) void(w http.ResponseWriter, r *http.Request) error {
	return s.settle(w, r, settlement{
		op: opVoid, says: result{Status: "voided"},
		act: func(ctx context.Context, id string, anyway bool, ans answer) (bool, error) {
			return s.store.endAuthorization(ctx, id, "voided", opVoid, anyway, ans)
		},
	})
}

// answered returns what was answered under key before; false when nothing was. A
// key of another request is a problem.
func (s *Server) answered(ctx context.Context, key, fingerprint string) (answer, bool, error) {
	ans, err := s.store.findAnswer(ctx, key)
	if errors.Is(err, errNotFound) {
		return ans, false, nil
	}
	if err != nil {
		return ans, false, err
	}
	if ans.Fingerprint != fingerprint {
		return ans, false, httpapi.NewProblem(http.StatusUnprocessableEntity, "idempotency-key-reused", "another request was made under this Idempotency-Key")
	}
	return ans, true, nil
}

// fingerprintOf is the same for the same request, and tells nothing about it.
func fingerprintOf(verb, id string, body any) (string, error) {
	b, err := json.Marshal(struct {
		Verb, ID string
		Body     any
	}{verb, id, body})
	if err != nil {
		return "", fmt.Errorf("fingerprint a request to %s: %w", verb, err)
	}
	return httpapi.Fingerprint(b)
}

// newAnswer puts res into the form in which it is stored and sent.
func newAnswer(key, fingerprint string, status int, res result) (answer, error) {
	body, err := json.Marshal(res)
	if err != nil {
		return answer{}, fmt.Errorf("encode the answer under key %s: %w", key, err)
	}
	return answer{Key: key, Fingerprint: fingerprint, Status: status, Body: append(body, '\n')}, nil
}

// write sends ans as it was stored, or the error that is given instead of it.
func write(w http.ResponseWriter, ans answer, replayed bool) error {
	if replayed {
		w.Header().Set("Idempotency-Replayed", "true")
	}
	if ans.Failure != "" {
		return httpapi.WriteJSON(w, http.StatusInternalServerError, result{Code: "provider_error"})
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(ans.Status)
	_, err := w.Write(ans.Body)
	return err
}
