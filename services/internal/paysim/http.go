package paysim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

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
	Code          string `json:"code,omitempty"` // with 402: why it was refused
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
	if c.slow || c.errorOnce {
		// What was answered before is answered again at once.
		if done, err := s.replay(w, r, key, fingerprint); done || err != nil {
			return err
		}
		if failed, err := s.misbehave(w, r, key, c); failed || err != nil {
			return err
		}
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make an authorization id: %w", err)
	}
	a := authorization{
		ID: id.String(), Status: "authorized", Key: key, Reference: body.Reference,
		AmountMinor: body.AmountMinor, Currency: body.Currency,
	}
	status := http.StatusCreated
	if c.decline != "" {
		status, a.Status, a.Code = http.StatusPaymentRequired, "declined", c.decline
	}
	ans, err := newAnswer(key, fingerprint, status, result{ID: a.ID, Status: a.Status, Code: a.Code})
	if err != nil {
		return err
	}
	err = s.store.insertAuthorization(r.Context(), a, ans)
	if errors.Is(err, errKeyTaken) {
		_, err := s.replay(w, r, key, fingerprint)
		return err
	}
	if err != nil {
		return err
	}
	s.log.Debug("authorization answered", "service", "paysim", "key", key, "status", a.Status)
	return write(w, ans, false)
}

// misbehave does what c says before any effect; true when that was the answer.
func (s *Server) misbehave(w http.ResponseWriter, r *http.Request, key string, c conduct) (bool, error) {
	if c.errorOnce {
		first, err := s.store.failOnce(r.Context(), key)
		if err != nil {
			return false, err
		}
		if first {
			return true, httpapi.WriteJSON(w, http.StatusInternalServerError, result{Code: "provider_error"})
		}
	}
	if c.slow {
		timer := time.NewTimer(s.cfg.Slow)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			return false, r.Context().Err()
		}
	}
	return false, nil
}

// lookUp answers GET /provider/v1/authorizations?key=: what was asked for under
// that Idempotency-Key and where it stands now; 404 when nothing was done under it.
func (s *Server) lookUp(w http.ResponseWriter, r *http.Request) error {
	key := r.URL.Query().Get("key")
	if key == "" {
		return httpapi.NewProblem(http.StatusBadRequest, "invalid-parameter", "key: the Idempotency-Key of the authorization")
	}
	a, err := s.store.findAuthorization(r.Context(), key)
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
	return s.settle(w, r, "capture", body, result{Status: "captured", CapturedMinor: body.AmountMinor},
		func(ctx context.Context, id string, ans answer) (bool, error) {
			return s.store.captureAuthorization(ctx, id, body.AmountMinor, ans)
		})
}

// void answers POST /provider/v1/authorizations/{id}/void; it takes no body.
func (s *Server) void(w http.ResponseWriter, r *http.Request) error {
	return s.settle(w, r, "void", nil, result{Status: "voided"}, s.store.voidAuthorization)
}

// settle ends the authorization of r's path by act, once per key: 200 with res,
// 404 for one that isn't there, 409 for one that has ended, 422 for one that is
// smaller than what is taken.
func (s *Server) settle(w http.ResponseWriter, r *http.Request, verb string, body any, res result,
	act func(context.Context, string, answer) (bool, error),
) error {
	key, err := httpapi.IdempotencyKey(r)
	if err != nil {
		return err
	}
	res.ID, err = httpapi.Path(r, "id", "uuid")
	if err != nil {
		return err
	}
	fingerprint, err := fingerprintOf(verb, res.ID, body)
	if err != nil {
		return err
	}
	ans, err := newAnswer(key, fingerprint, http.StatusOK, res)
	if err != nil {
		return err
	}
	ok, err := act(r.Context(), res.ID, ans)
	if err != nil && !errors.Is(err, errKeyTaken) {
		return err
	}
	if ok {
		return write(w, ans, false)
	}
	if done, err := s.replay(w, r, key, fingerprint); done || err != nil {
		return err
	}
	a, err := s.store.findAuthorizationByID(r.Context(), res.ID)
	switch {
	case errors.Is(err, errNotFound):
		return httpapi.NotFound()
	case err != nil:
		return err
	case a.Status == "authorized":
		return httpapi.NewProblem(http.StatusUnprocessableEntity, "amount-too-large", "more than was authorized")
	}
	return httpapi.NewProblem(http.StatusConflict, "authorization-"+a.Status, "the authorization is "+a.Status+": it can't be ended once more")
}

// cursor is where a page of the books ended.
type cursor struct {
	ID int64 `json:"id" validate:"min=1"`
}

// listOperations answers GET /provider/v1/books?reference=&limit=&cursor=: the
// books, oldest row first; without a reference all of them.
func (s *Server) listOperations(w http.ResponseWriter, r *http.Request) error {
	page, err := httpapi.PageParams(r, "reference")
	if err != nil {
		return err
	}
	var last cursor
	if page.Cursor != "" {
		if last, err = httpapi.DecodeCursor[cursor](page.Cursor); err != nil {
			return err
		}
	}
	list, err := s.store.pageOperations(r.Context(), page.Filters["reference"], last.ID, page.Limit+1)
	if err != nil {
		return err
	}
	next := ""
	if len(list) > page.Limit {
		list = list[:page.Limit]
		if next, err = httpapi.EncodeCursor(cursor{list[page.Limit-1].ID}); err != nil {
			return err
		}
	}
	return httpapi.WriteJSON(w, http.StatusOK, struct {
		Operations []operation `json:"operations"`
		NextCursor string      `json:"next_cursor,omitempty"` // "" = that was all
	}{list, next})
}

// replay writes what was answered under key before; false when nothing was. A
// key of another request is a problem.
func (s *Server) replay(w http.ResponseWriter, r *http.Request, key, fingerprint string) (bool, error) {
	ans, err := s.store.findAnswer(r.Context(), key)
	if errors.Is(err, errNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if ans.Fingerprint != fingerprint {
		return false, httpapi.NewProblem(http.StatusUnprocessableEntity, "idempotency-key-reused", "another request was made under this Idempotency-Key")
	}
	return true, write(w, ans, true)
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

// write sends ans as it was stored.
func write(w http.ResponseWriter, ans answer, replayed bool) error {
	w.Header().Set("Content-Type", "application/json")
	if replayed {
		w.Header().Set("Idempotency-Replayed", "true")
	}
	w.WriteHeader(ans.Status)
	_, err := w.Write(ans.Body)
	return err
}
