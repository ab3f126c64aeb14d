package payments

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
)

// provider is a Gateway in memory that keeps its promises: one effect and one
// answer per key. Tests may step in before and after each effect.
type provider struct {
	before func(op Operation, key string) error // nil, or called before the effect
	after  func(op Operation, key string) error // nil, or called after it

	mu      sync.Mutex
	auths   map[string]*Authorization // by the key of Authorize
	done    map[string]bool           // keys of captures and voids
	refunds map[string]Refund         // by key
	calls   []string                  // "<op> <attempt>" of every call, in order
}

const opLookup Operation = "lookup"

func newProvider() *provider {
	return &provider{auths: map[string]*Authorization{}, done: map[string]bool{}, refunds: map[string]Refund{}}
}

// enter notes a call and runs the hook before its effect.
func (p *provider) enter(op Operation, key string) error {
	p.mu.Lock()
	p.calls = append(p.calls, string(op)+" "+strings.Split(key, ":")[1])
	p.mu.Unlock()
	if p.before != nil {
		return p.before(op, key)
	}
	return nil
}

func (p *provider) leave(op Operation, key string) error {
	if p.after != nil {
		return p.after(op, key)
	}
	return nil
}

func (p *provider) Authorize(_ context.Context, r AuthorizeRequest) (Authorization, error) {
	if err := p.enter(OpAuthorize, r.Key); err != nil {
		return Authorization{}, err
	}
	p.mu.Lock()
	a := p.auths[r.Key]
	if a == nil {
		a = &Authorization{Ref: "ref-" + r.Key, Status: Approved}
		if r.MethodToken == "tok_declined" {
			a.Status, a.ReasonCode = Refused, "card_declined"
		}
		p.auths[r.Key] = a
	}
	got := *a
	p.mu.Unlock()
	if got.Status == Closed || got.Status == Taken {
		got.Status = Approved // the stored answer of this key
	}
	return got, p.leave(OpAuthorize, r.Key)
}

func (p *provider) Capture(_ context.Context, r CaptureRequest) (Authorization, error) {
	return p.end(OpCapture, r.Key, r.Ref, Taken, r.AmountMinor)
}

func (p *provider) Void(_ context.Context, r VoidRequest) (Authorization, error) {
	return p.end(OpVoid, r.Key, r.Ref, Closed, 0)
}

func (p *provider) end(op Operation, key, ref string, as Outcome, amountMinor int64) (Authorization, error) {
	if err := p.enter(op, key); err != nil {
		return Authorization{}, err
	}
	p.mu.Lock()
	if !p.done[key] {
		for _, a := range p.auths {
			if a.Ref == ref {
				if a.Status != Approved {
					p.mu.Unlock()
					return *a, &RefusedError{Status: 409, Code: "authorization_" + string(a.Status)}
				}
				a.Status, a.CapturedMinor, p.done[key] = as, amountMinor, true
			}
		}
	}
	p.mu.Unlock()
	return Authorization{Ref: ref, Status: as, CapturedMinor: amountMinor}, p.leave(op, key)
}

func (p *provider) Refund(_ context.Context, r RefundRequest) (Refund, error) {
	if err := p.enter(OpRefund, r.Key); err != nil {
		return Refund{}, err
	}
	p.mu.Lock()
	got, ok := p.refunds[r.Key]
	if !ok {
		got = Refund{Ref: "ref-" + r.Key, Status: Refunded, AmountMinor: r.AmountMinor}
		p.refunds[r.Key] = got
	}
	p.mu.Unlock()
	return got, p.leave(OpRefund, r.Key)
}

func (p *provider) FindRefund(_ context.Context, q RefundQuery) (Refund, error) {
	if err := p.enter(opLookup, q.Key); err != nil {
		return Refund{}, err
	}
	p.mu.Lock()
	got, ok := p.refunds[q.Key]
	p.mu.Unlock()
	if !ok {
		got.Status = RefundMissing
	}
	return got, p.leave(opLookup, q.Key)
}

func (p *provider) ListMovements(context.Context, MovementQuery) ([]Movement, string, error) {
	return nil, "", errAway
}

func (p *provider) ParseEvent(http.Header, []byte) (Event, error) { return Event{}, ErrBadSignature }

func (p *provider) FindAuthorization(_ context.Context, q AuthorizationQuery) (Authorization, error) {
	key := q.Key
	if err := p.enter(opLookup, key); err != nil {
		return Authorization{}, err
	}
	p.mu.Lock()
	got := Authorization{Status: Missing}
	if a := p.auths[key]; a != nil {
		got = *a
	}
	p.mu.Unlock()
	return got, p.leave(opLookup, key)
}

// books counts the authorizations by what became of them.
func (p *provider) books() map[Outcome]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := map[Outcome]int{}
	for _, a := range p.auths {
		n[a.Status]++
	}
	return n
}

// log is every call so far.
func (p *provider) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.calls, ", ")
}

var errAway = errors.New("the provider is away")

// once makes a hook that fails the first call of op.
func once(op Operation) func(Operation, string) error {
	var first sync.Once
	return func(got Operation, _ string) (err error) {
		if got == op {
			first.Do(func() { err = errAway })
		}
		return err
	}
}
