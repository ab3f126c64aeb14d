package simulation

import (
	"context"
	"errors"
	"net/http"
	"time"

	"example.com/orderflow/payments"
)

// authorization is the provider's side of an attempt.
type authorization struct {
	payments.Authorization
	key, reference string
}

// refund is money that the provider gave back, or refused to.
type refund struct {
	payments.Refund
	key, authRef string
}

// answer is what the provider says to a request, and keeps under its key.
type answer struct {
	about   *authorization // that the request was; nil for a new one
	auth    payments.Authorization
	refund  payments.Refund
	err     error  // a refusal
	done    bool   // the request has been carried out, or refused
	failure string // a stored error is given instead; "" = the answer is
}

// Stored errors.
const (
	untilLookedUp = "until looked up"
	forGood       = "for good"
)

// request is what the provider is asked to do.
type request struct {
	op      payments.Operation
	key     string
	auth    *authorization // that it is about; nil for a new one
	perform func() answer
	refuse  func() answer
}

// provider is a payment provider with books of its own: a payments.Gateway.
type provider struct {
	payments.Gateway // nil: what no command uses

	w       *world
	auths   []*authorization
	refunds []*refund
	kept    map[string]*answer // by key
	late    []request          // on their way
	// doubtful are keys to authorize that didn't keep their promise while another
	// request under them was about: there may be more than one hold.
	doubtful map[string]bool
	next     map[payments.Operation]misdeed // what goes wrong next, whatever chance says
}

var errSilence = errors.New("no answer")

// ask has the provider carry r out, once under its key, or whatever goes wrong.
func (p *provider) ask(r request) (answer, error) {
	w := p.w
	w.checkIntent(r)
	w.pause() // the request is on its way
	m := p.goesWrong(r.op)
	// An error that is stored until a look-up, and a key that is forgotten, while somebody
	// else is about to use that key, too: a hold that this doubles is found by
	// reconciliation and voided; a refund is not, it is money that has gone.
	if sole := len(w.jobs) == 1 && !p.isLate(r.key); !sole {
		switch {
		case m == storedBefore && r.op == payments.OpRefund:
			m = lostBefore
		case m == forgotten && r.op == payments.OpRefund:
			m = lostAfter
		case (m == storedBefore || m == forgotten) && r.op == payments.OpAuthorize:
			p.doubtful[r.key] = true
		}
	}
	w.note("  the provider is asked to %s under %s: %v", r.op, r.key, m)
	switch m {
	case lostBefore:
		return answer{}, p.silent("request lost")
	case tooMany:
		w.saw("provider too busy")
		return answer{}, &payments.AwayError{NothingHappened: true, RetryAfter: time.Second, Err: errSilence}
	case late:
		p.late = append(p.late, r)
		return answer{}, p.silent("request under way for long")
	}
	if r.auth == nil && r.op != payments.OpAuthorize {
		return answer{}, &payments.RefusedError{Status: http.StatusNotFound, Code: "not-found"}
	}
	if a := p.kept[r.key]; a != nil {
		if a.about != r.auth {
			return answer{}, &payments.RefusedError{Status: http.StatusUnprocessableEntity, Code: "idempotency-key-reused"}
		}
		w.saw("request repeated under its key")
		return p.say(a, true)
	}
	a := &answer{about: r.auth}
	switch m {
	case storedBefore, stuck:
		a.failure = untilLookedUp
		if m == stuck {
			a.failure = forGood
		}
		p.kept[r.key] = a
		w.saw("error stored without effect")
		return p.say(a, false)
	case refused:
		*a = r.refuse()
	default:
		*a = r.perform()
	}
	a.about, a.done = r.auth, true
	p.kept[r.key] = a
	switch m {
	case lostAfter:
		return answer{}, p.silent("answer lost")
	case forgotten:
		delete(p.kept, r.key)
		return answer{}, p.silent("key forgotten")
	case storedAfter:
		a.failure = untilLookedUp
		w.saw("error stored after the effect")
		return p.say(a, false)
	}
	w.pause() // the answer is on its way
	return p.say(a, false)
}

// say gives a, or the error that is stored in its place.
func (p *provider) say(a *answer, again bool) (answer, error) {
	if a.failure != "" {
		return answer{}, &payments.AwayError{Spent: again, Err: errSilence}
	}
	return *a, a.err
}

func (p *provider) silent(what string) error {
	p.w.saw(what)
	return &payments.AwayError{Err: errSilence}
}

// arrive lets a request have its effect that was on its way for long.
func (p *provider) arrive(i int) {
	r := p.late[i]
	p.late = append(p.late[:i:i], p.late[i+1:]...)
	if p.kept[r.key] != nil {
		p.w.saw("late request finds its key used")
		return
	}
	a := r.perform()
	a.about, a.done = r.auth, true
	p.kept[r.key] = &a
	p.w.saw("late request has its effect")
	p.w.note("the provider carries %s out late, under %s", r.op, r.key)
}

func (p *provider) isLate(key string) bool {
	for _, r := range p.late {
		if r.key == key {
			return true
		}
	}
	return false
}

func refusal(code string) answer {
	return answer{err: &payments.RefusedError{Status: http.StatusConflict, Code: code}}
}

// Authorize sets money aside.
func (p *provider) Authorize(_ context.Context, r payments.AuthorizeRequest) (payments.Authorization, error) {
	open := func(status payments.Outcome, amount int64, code string) answer {
		a := &authorization{key: r.Key, reference: r.Reference}
		a.Authorization = payments.Authorization{Ref: p.w.newID(), Status: status, AmountMinor: amount, ReasonCode: code}
		p.auths = append(p.auths, a)
		return answer{auth: a.Authorization}
	}
	a, err := p.ask(request{
		op: payments.OpAuthorize, key: r.Key,
		perform: func() answer { return open(payments.Approved, r.AmountMinor, "") },
		refuse:  func() answer { return open(payments.Refused, 0, "card_declined") },
	})
	return a.auth, err
}

// Capture takes money that is set aside. It may find that it isn't any more.
func (p *provider) Capture(_ context.Context, r payments.CaptureRequest) (payments.Authorization, error) {
	auth := p.find(func(a *authorization) bool { return a.Ref == r.Ref })
	a, err := p.ask(request{
		op: payments.OpCapture, key: r.Key, auth: auth,
		perform: func() answer {
			if auth.Status != payments.Approved {
				return refusal("authorization-" + string(auth.Status))
			}
			if r.AmountMinor > auth.AmountMinor {
				return refusal("amount-too-large")
			}
			auth.Status, auth.CapturedMinor = payments.Taken, r.AmountMinor
			return answer{auth: auth.Authorization}
		},
		refuse: func() answer {
			if auth.Status == payments.Approved && p.w.below(2) == 0 {
				auth.Status = payments.Lapsed
				p.w.saw("authorization expired")
				return refusal(payments.ReasonExpired)
			}
			return refusal("capture_refused")
		},
	})
	return a.auth, err
}

// Void gives back what is set aside.
func (p *provider) Void(_ context.Context, r payments.VoidRequest) (payments.Authorization, error) {
	auth := p.find(func(a *authorization) bool { return a.Ref == r.Ref })
	a, err := p.ask(request{
		op: payments.OpVoid, key: r.Key, auth: auth,
		perform: func() answer {
			if auth.Status != payments.Approved {
				return refusal("authorization-" + string(auth.Status))
			}
			auth.Status = payments.Closed
			return answer{auth: auth.Authorization}
		},
		refuse: func() answer { return refusal("void_refused") },
	})
	return a.auth, err
}

// Refund gives back what was taken.
func (p *provider) Refund(_ context.Context, r payments.RefundRequest) (payments.Refund, error) {
	auth := p.find(func(a *authorization) bool { return a.Ref == r.Ref })
	give := func(status payments.RefundOutcome, code string) answer {
		f := &refund{key: r.Key, authRef: r.Ref}
		f.Refund = payments.Refund{Ref: p.w.newID(), Status: status, AmountMinor: r.AmountMinor, ReasonCode: code}
		p.refunds = append(p.refunds, f)
		return answer{refund: f.Refund}
	}
	a, err := p.ask(request{
		op: payments.OpRefund, key: r.Key, auth: auth,
		perform: func() answer {
			if auth.Status != payments.Taken || auth.RefundedMinor+r.AmountMinor > auth.CapturedMinor {
				return refusal("amount-too-large")
			}
			auth.RefundedMinor += r.AmountMinor
			return give(payments.Refunded, "")
		},
		refuse: func() answer {
			give(payments.NotRefunded, "refund_refused")
			return refusal("refund_refused")
		},
	})
	return a.refund, err
}

// FindAuthorization looks an authorization up by its name or, while that isn't known,
// by the key that it was asked for under.
func (p *provider) FindAuthorization(_ context.Context, q payments.AuthorizationQuery) (payments.Authorization, error) {
	key := q.Key
	if q.Ref != "" {
		key = "" // by its name: no stored error is ended
	}
	if err := p.lookUp(key); err != nil {
		return payments.Authorization{}, err
	}
	found := payments.Authorization{Status: payments.Missing}
	if a := p.find(func(a *authorization) bool { return a.Ref == q.Ref || q.Ref == "" && a.key == q.Key }); a != nil {
		found = a.Authorization
	}
	p.w.note("  the provider is asked about %s: %s", q.Key, found.Status)
	p.w.pause()
	return found, nil
}

// FindRefund looks a refund up by its key.
func (p *provider) FindRefund(_ context.Context, q payments.RefundQuery) (payments.Refund, error) {
	if err := p.lookUp(q.Key); err != nil {
		return payments.Refund{}, err
	}
	found := payments.Refund{Status: payments.RefundMissing}
	for _, f := range p.refunds {
		if f.key == q.Key {
			found = f.Refund
			break
		}
	}
	p.w.note("  the provider is asked about %s: %s", q.Key, found.Status)
	p.w.pause()
	return found, nil
}

// lookUp ends the stored error under key, unless the look-up itself goes wrong.
func (p *provider) lookUp(key string) error {
	p.w.pause()
	if !p.w.calm && p.w.below(8) == 1 {
		return p.silent("look-up lost")
	}
	if a := p.kept[key]; a != nil && a.failure == untilLookedUp {
		if a.failure = ""; !a.done {
			delete(p.kept, key)
		}
		p.w.saw("stored error ended by a look-up")
	}
	return nil
}

func (p *provider) find(is func(*authorization) bool) *authorization {
	for _, a := range p.auths {
		if is(a) {
			return a
		}
	}
	return nil
}
