package paysim

import (
	"context"
	"errors"
	"net/http"

	"example.com/orderflow/messaging/httpapi"
)

// settlement is what is done to an authorization that is there: a capture, a void,
// a refund.
type settlement struct {
	op   string
	body any    // of the request, nil = it has none
	says result // the answer, but for the id

	// act does it and keeps ans; false when it can't be done, or is to go wrong, and
	// not anyway.
	act func(ctx context.Context, id string, anyway bool, ans answer) (bool, error)
	// refuse keeps ans, which is a refusal; nil = nothing but the answer is kept.
	refuse func(ctx context.Context, id string, ans answer) error
}

// settle does what t says to the authorization of r's path, once per key: 200; 404
// for one that isn't there, 409 for one that isn't open (or, for a refund, captured),
// 422 for one that is smaller than what is asked for.
func (s *Server) settle(w http.ResponseWriter, r *http.Request, t settlement) error {
	key, err := httpapi.IdempotencyKey(r)
	if err != nil {
		return err
	}
	id, err := httpapi.Path(r, "id", "uuid")
	if err != nil {
		return err
	}
	fingerprint, err := fingerprintOf(t.op, id, t.body)
	if err != nil {
		return err
	}
	if t.says.ID == "" {
		t.says.ID = id
	}
	ans, err := newAnswer(key, fingerprint, http.StatusOK, t.says)
	if err != nil {
		return err
	}
	ans.hooks = s.hooksFor("authorization."+t.says.Status, id, key, "")
	m := mischief{rule: s.conducts.take(t.op)}
	if m.does(none) {
		// As is nearly always so: it is tried, and looked at only when it doesn't work.
		if ok, err := t.act(r.Context(), id, false, ans); ok || err != nil && !errors.Is(err, errKeyTaken) {
			if err != nil {
				return err
			}
			return write(w, ans, false)
		}
		a, err := s.store.findAuthorizationByID(r.Context(), id)
		if err != nil && !errors.Is(err, errNotFound) {
			return err
		}
		var c conduct
		if a.ConductOp == t.op {
			c = conduct{op: t.op, misdeed: misdeed(a.Misdeed)}
		}
		var answered bool
		if m, answered, err = s.tokenMischief(w, r, t.op, c, key, fingerprint, id+":"+t.op); answered || err != nil {
			return err
		}
	}
	switch {
	case m.does(refused):
		return s.refuse(w, r, t, id, ans)
	case m.does(expired):
		return s.expire(w, r, t, id, ans)
	}
	return s.perform(w, r, m, ans, func(ctx context.Context, ans answer) (answer, bool, error) {
		ok, err := t.act(ctx, id, true, ans)
		if ok || err != nil && !errors.Is(err, errKeyTaken) {
			return ans, false, err
		}
		if ans, done, err := s.answered(ctx, key, fingerprint); done || err != nil {
			return ans, true, err
		}
		return ans, false, s.unsettled(ctx, t, id)
	})
}

// unsettled is the problem of a request that the authorization's state forbids.
func (s *Server) unsettled(ctx context.Context, t settlement, id string) error {
	a, err := s.store.findAuthorizationByID(ctx, id)
	switch {
	case errors.Is(err, errNotFound):
		return httpapi.NotFound()
	case err != nil:
		return err
	case a.Status == "authorized" && t.op == opCapture:
		return httpapi.NewProblem(http.StatusUnprocessableEntity, "amount-too-large", "more than was authorized")
	case a.Status == "captured" && t.op == opRefund:
		return httpapi.NewProblem(http.StatusUnprocessableEntity, "amount-too-large", "more than is left of what was captured")
	}
	return httpapi.NewProblem(http.StatusConflict, "authorization-"+a.Status, "the authorization is "+a.Status+": this can't be done to it")
}

// refusalCode is why the provider refuses op, where it is told to.
func refusalCode(op string) string { return op + "_refused" }

// refuse keeps and gives the answer 409 under ans's key.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, t settlement, id string, ans answer) error {
	no, err := newAnswer(ans.Key, ans.Fingerprint, http.StatusConflict, result{ID: id, Status: "refused", Code: refusalCode(t.op)})
	if err != nil {
		return err
	}
	keep := t.refuse
	if keep == nil {
		keep = func(ctx context.Context, _ string, ans answer) error { return s.store.insertAnswer(ctx, ans) }
	}
	return s.kept(w, r, no, keep(r.Context(), id, no))
}

// expire ends the authorization, if it is open, because its time is over; the
// answer 409 is kept under ans's key.
func (s *Server) expire(w http.ResponseWriter, r *http.Request, t settlement, id string, ans answer) error {
	no, err := newAnswer(ans.Key, ans.Fingerprint, http.StatusConflict, result{ID: id, Status: "expired", Code: "authorization_expired"})
	if err != nil {
		return err
	}
	no.hooks = s.hooksFor("authorization.expired", id, ans.Key, "")
	ok, err := s.store.endAuthorization(r.Context(), id, "expired", t.op, true, no)
	if err == nil && !ok {
		return s.unsettled(r.Context(), t, id)
	}
	return s.kept(w, r, no, err)
}

// kept gives ans, which was kept unless err says otherwise, or what was kept
// under its key before.
func (s *Server) kept(w http.ResponseWriter, r *http.Request, ans answer, err error) error {
	if errors.Is(err, errKeyTaken) {
		before, _, err := s.answered(r.Context(), ans.Key, ans.Fingerprint)
		if err != nil {
			return err
		}
		return write(w, before, true)
	}
	if err != nil {
		return err
	}
	return write(w, ans, false)
}
