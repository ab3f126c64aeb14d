package payments

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
)

// provider is a Gateway in memory that keeps its promises: one effect and one
// answer per key. Tests may step in before and after each effect.
type provider struct {
	before func(op Operation, key string) error // nil, or called before the effect
	after  func(op Operation, key string) error // nil, or called after it

	mu    sync.Mutex
	auths map[string]*Authorization // by the key of Authorize
	done  map[string]bool           // keys of captures and voids
	calls []string                  // "<op> <attempt>" of every call, in order
}

const opLookup Operation = "lookup"

func newProvider() *provider {
	return &provider{auths: map[string]*Authorization{}, done: map[string]bool{}}
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

func (p *provider) Capture(_ context.Context, key, ref string, _ int64) error {
	return p.end(OpCapture, key, ref, Taken)
}

func (p *provider) Void(_ context.Context, key, ref string) error {
	return p.end(OpVoid, key, ref, Closed)
}

func (p *provider) end(op Operation, key, ref string, as Outcome) error {
	if err := p.enter(op, key); err != nil {
		return err
	}
	p.mu.Lock()
	if !p.done[key] {
		for _, a := range p.auths {
			if a.Ref == ref {
				if a.Status != Approved {
					p.mu.Unlock()
					return fmt.Errorf("%s of %s, which is %s", op, ref, a.Status)
				}
				a.Status, p.done[key] = as, true
			}
		}
	}
	p.mu.Unlock()
	return p.leave(op, key)
}

func (p *provider) Lookup(_ context.Context, key string) (Authorization, error) {
	if err := p.enter(opLookup, key); err != nil {
		return Authorization{}, err
	}
	p.mu.Lock()
	got := Authorization{Status: Unknown}
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
