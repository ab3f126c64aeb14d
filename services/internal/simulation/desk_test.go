package simulation

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/payments"
)

// call is a row of payments' provider_calls: an intent, and what came of it.
type call struct {
	op       payments.Operation
	answered bool
}

// booking is a row of payments' ledger.
type booking struct {
	kind      string // capture, refund
	ref       string // the provider's, of the authorization or the refund
	paymentID string
	amount    int64
}

// desk is payments: its database, and its handlers with the statements of its store
// replaced by these rows.
type desk struct {
	w        *world
	decider  payments.Decider
	payments []*payments.Payment
	calls    map[string]*call // by key
	ledger   []booking
	inVain   map[string]int // voids of a stray hold that were answered, by its name
}

func newDesk(w *world, gateway payments.Gateway) *desk {
	k := &desk{w: w, calls: map[string]*call{}, inVain: map[string]int{}}
	k.decider = payments.NewDecider(gateway, payments.Notes{
		Unknown: func(_ context.Context, a payments.Attempt) error {
			w.commit("the note of an unknown outcome", func() {
				if row := k.attempt(a); row.Status == payments.Authorizing {
					row.Status = payments.Unknown
				}
			})
			return nil
		},
		UnknownRefund: func(_ context.Context, r payments.Repayment) error {
			w.commit("the note of an unknown outcome", func() {
				if row := k.repayment(r.PaymentID, r.ID); row.Status == payments.Refunding && row.Try == r.Try {
					row.Status = payments.RefundUnknown
				}
			})
			return nil
		},
		Voiding: func(_ context.Context, a payments.Attempt) error {
			w.commit("the intent", func() { k.intend(a, payments.OpVoid, payments.OpAuthorize) })
			return nil
		},
		Spent: func(_ context.Context, a payments.Attempt, op payments.Operation) error {
			w.commit("the note of a spent key", func() { k.spend(a, op) })
			return nil
		},
	})
	return k
}

func (k *desk) find(id string) *payments.Payment {
	for _, p := range k.payments {
		if p.ID == id {
			return p
		}
	}
	return nil
}

// open returns the payment of that id, made when there is none.
func (k *desk) open(id, orderID string) *payments.Payment {
	p := k.find(id)
	if p == nil {
		p = &payments.Payment{ID: id, OrderID: orderID}
		k.payments = append(k.payments, p)
	}
	return p
}

// attempt is the row of a.
func (k *desk) attempt(a payments.Attempt) *payments.Attempt {
	p := k.find(a.PaymentID)
	i := slices.IndexFunc(p.Attempts, func(b payments.Attempt) bool { return b.Number == a.Number })
	return &p.Attempts[i]
}

// repayment is the row of a refund.
func (k *desk) repayment(paymentID, id string) *payments.Repayment {
	p := k.find(paymentID)
	i := slices.IndexFunc(p.Repayments, func(r payments.Repayment) bool { return r.ID == id })
	return &p.Repayments[i]
}

// locked is a payment as a transaction has read it.
func locked(p *payments.Payment) payments.Payment {
	c := *p
	c.Attempts, c.Repayments = slices.Clone(p.Attempts), slices.Clone(p.Repayments)
	return c
}

// intend writes the intent to do each op to a; one that is there stays.
func (k *desk) intend(a payments.Attempt, ops ...payments.Operation) {
	for _, op := range ops {
		k.intendUnder(op, k.decider.KeyOf(a, op))
	}
}

func (k *desk) intendUnder(op payments.Operation, key string) {
	if k.calls[key] == nil {
		k.calls[key] = &call{op: op}
	}
}

func (k *desk) answered(key string) {
	if c := k.calls[key]; c != nil {
		c.answered = true
	}
}

// spend has the next key of op used, unless that was written before.
func (k *desk) spend(a payments.Attempt, op payments.Operation) {
	c := k.calls[k.decider.KeyOf(a, op)]
	if c == nil || c.answered {
		return
	}
	c.answered = true
	row := k.attempt(a)
	switch op {
	case payments.OpAuthorize:
		row.AuthorizeTry++
	case payments.OpCapture:
		row.CaptureTry++
	case payments.OpVoid:
		row.VoidTry++
	}
	k.w.saw("next key after a spent one")
}

// record is what a handler has written with the ack.
type record func() ([]messaging.Body, error)

func say(bodies ...messaging.Body) record {
	return func() ([]messaging.Body, error) { return bodies, nil }
}

// handle does what the handler of m does.
func (k *desk) handle(m messaging.Body) (record, error) {
	switch m := m.(type) {
	case contracts.AuthorizePayment:
		return k.authorize(m)
	case contracts.CapturePayment:
		return k.capture(m)
	case contracts.VoidPayment:
		return k.void(m)
	case contracts.RefundPayment:
		return k.refund(m)
	case contracts.ReconcilePayments:
		return k.reconcile()
	}
	return nil, fmt.Errorf("%s is no command to payments", m.Kind())
}

func (k *desk) authorize(c contracts.AuthorizePayment) (record, error) {
	var p payments.Payment
	var a payments.Attempt
	var todo payments.Todo
	var err error
	k.w.commit("the intent", func() {
		row := k.open(c.PaymentID, c.OrderID)
		if row.CustomerID == "" {
			row.CustomerID, row.Currency = c.CustomerID, c.Currency
		}
		p = locked(row)
		if todo, a, err = k.decider.BeginAuthorize(p, c); err != nil {
			return
		}
		switch todo {
		case payments.Ask, payments.Find:
			if _, begun := row.Attempt(a.Number); !begun {
				row.Attempts = append(row.Attempts, a)
				slices.SortFunc(row.Attempts, func(a, b payments.Attempt) int { return a.Number - b.Number })
			}
			k.intend(a, payments.OpAuthorize)
		case payments.Undo:
			k.intend(a, payments.OpVoid, payments.OpAuthorize)
		}
	})
	if err != nil {
		return nil, err
	}
	k.w.sawAuthorize(p, a, todo)
	switch todo {
	case payments.Tell:
		return say(k.decider.AuthorizeAnswer(a, c)), nil
	case payments.Undo:
		found, refused, err := k.decider.Undo(context.Background(), p, a)
		if err != nil {
			return nil, err
		}
		return func() ([]messaging.Body, error) {
			after, write, err := k.undone(a, found, refused)
			if err != nil {
				return nil, err
			}
			write()
			return []messaging.Body{k.decider.AuthorizeAnswer(after, c)}, nil
		}, nil
	}
	got, err := k.decider.Authorize(context.Background(), p, a, todo)
	if errors.Is(err, payments.ErrSpent) {
		return nil, k.decider.UseNextKey(context.Background(), a, payments.OpAuthorize, err)
	}
	if err != nil {
		return nil, err
	}
	return func() ([]messaging.Body, error) {
		row := k.attempt(a)
		if k.decider.GaveUp(*row, a) {
			k.w.saw("answer under a key that isn't in use any more")
			return nil, errors.New("somebody may be asking under the next key")
		}
		after, changed, err := k.decider.Authorized(*row, got)
		if err != nil {
			return nil, err
		}
		if changed {
			*row = after
			k.answered(k.decider.KeyOf(after, payments.OpAuthorize))
		}
		return []messaging.Body{k.decider.AuthorizeAnswer(after, c)}, nil
	}, nil
}

func (k *desk) capture(c contracts.CapturePayment) (record, error) {
	var p payments.Payment
	var a payments.Attempt
	var todo payments.Todo
	var err error
	k.w.commit("the intent", func() {
		row := k.find(c.PaymentID)
		if row == nil {
			err = messaging.Permanent(fmt.Errorf("there is no payment %s", c.PaymentID))
			return
		}
		p = locked(row)
		if todo, a, err = k.decider.BeginCapture(p, c); err != nil {
			return
		}
		switch todo {
		case payments.Ask, payments.Find:
			if row := k.attempt(a); row.CaptureID == "" {
				row.CaptureID = a.CaptureID
			}
			k.intend(a, payments.OpCapture)
		case payments.Undo:
			k.intend(a, payments.OpVoid, payments.OpAuthorize)
		}
	})
	if err != nil {
		return nil, err
	}
	switch todo {
	case payments.Tell:
		return say(k.decider.CaptureAnswer(a, c)), nil
	case payments.Undo:
		k.w.saw("capture overtaken by a void")
		found, refused, err := k.decider.Undo(context.Background(), p, a)
		if err != nil {
			return nil, err
		}
		return func() ([]messaging.Body, error) {
			after, write, err := k.undone(a, found, refused)
			switch {
			case err != nil:
				return nil, err
			case after.Status == payments.Authorized:
				return nil, messaging.Permanent(fmt.Errorf("capture %s: to be voided, which the provider refuses", c.CaptureID))
			}
			write()
			return []messaging.Body{k.decider.CaptureAnswer(after, c)}, nil
		}, nil
	}
	got, refused, err := k.decider.Capture(context.Background(), p, a, c.AmountMinor, todo)
	if err != nil {
		return nil, err
	}
	return func() ([]messaging.Body, error) {
		row := k.attempt(a)
		after, changed, err := k.decider.Captured(*row, got, refused)
		if err != nil {
			return nil, err
		}
		if changed {
			*row = after
			if after.Status == payments.Captured {
				k.book(booking{"capture", after.ProviderRef, p.ID, after.CapturedMinor})
			}
			k.answered(k.decider.KeyOf(after, payments.OpCapture))
			k.answered(k.decider.KeyOf(after, payments.OpVoid))
		}
		return []messaging.Body{k.decider.CaptureAnswer(after, c)}, nil
	}, nil
}

func (k *desk) void(c contracts.VoidPayment) (record, error) {
	var p payments.Payment
	var open []payments.Attempt
	var keeps string
	var err error
	k.w.commit("the intent", func() {
		row := k.open(c.PaymentID, c.OrderID)
		if !k.w.off(voidTombstones) {
			row.VoidedThrough = max(row.VoidedThrough, c.Attempt)
		}
		p = locked(row)
		if open, keeps, err = k.decider.BeginVoid(p, c); err == nil {
			for _, a := range open {
				k.intend(a, payments.OpVoid, payments.OpAuthorize)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	k.w.sawVoid(p, c)
	found := make([]payments.Authorization, len(open))
	refused := make([]string, len(open))
	for i, a := range open {
		if found[i], refused[i], err = k.decider.Undo(context.Background(), p, a); err != nil {
			return nil, err
		}
	}
	return func() ([]messaging.Body, error) {
		writes := make([]func(), len(open))
		for i, a := range open {
			after, write, err := k.undone(a, found[i], refused[i])
			if err != nil {
				return nil, err
			}
			writes[i] = write
			if why := k.decider.Left(after, refused[i]); why != "" && keeps != contracts.ReasonCaptured {
				keeps = why
			}
		}
		for _, write := range writes {
			write()
		}
		return []messaging.Body{k.decider.VoidAnswer(c, keeps)}, nil
	}, nil
}

// undone is what undoing an attempt makes of it; write writes that.
func (k *desk) undone(a payments.Attempt, found payments.Authorization, refused string) (after payments.Attempt, write func(), err error) {
	row := k.attempt(a)
	switch {
	case k.decider.GaveUp(*row, a):
		k.w.saw("undone under a key that isn't in use any more")
		return *row, func() {}, errors.New("somebody may be asking under the next key")
	case found.Status == payments.Approved && row.VoidTry != a.VoidTry:
		return *row, func() {}, nil
	}
	key := k.decider.KeyOf(*row, payments.OpVoid)
	after, changed, err := k.decider.Undone(*row, found, refused)
	if err != nil || !changed {
		return after, func() {}, err
	}
	return after, func() {
		*k.attempt(a) = after
		if c := k.calls[k.decider.KeyOf(after, payments.OpCapture)]; after.Status == payments.Captured && c != nil && !c.answered {
			k.book(booking{"capture", after.ProviderRef, after.PaymentID, after.CapturedMinor})
		}
		k.answered(key)
		k.answered(k.decider.KeyOf(after, payments.OpAuthorize))
		k.answered(k.decider.KeyOf(after, payments.OpCapture))
	}, nil
}

func (k *desk) refund(c contracts.RefundPayment) (record, error) {
	var p payments.Payment
	var r payments.Repayment
	var todo payments.Todo
	var err error
	k.w.commit("the intent", func() {
		row := k.find(c.PaymentID)
		if row == nil {
			err = messaging.Permanent(fmt.Errorf("there is no payment %s", c.PaymentID))
			return
		}
		p = locked(row)
		if todo, r, err = k.decider.BeginRefund(p, c); err != nil || todo == payments.Tell {
			return
		}
		i := slices.IndexFunc(row.Repayments, func(b payments.Repayment) bool { return b.ID == r.ID })
		switch {
		case i < 0:
			row.Repayments = append(row.Repayments, r)
		case row.Repayments[i].Status == payments.Failed:
			row.Repayments[i].Status, row.Repayments[i].Try, row.Repayments[i].ReasonCode = r.Status, r.Try, ""
			k.w.saw("refund tried anew after a refusal")
		}
		k.intendUnder(payments.OpRefund, k.decider.RefundKeyOf(r))
	})
	if err != nil {
		return nil, err
	}
	if todo == payments.Tell {
		return say(k.decider.RefundAnswer(r, c)), nil
	}
	a, _ := p.Attempt(r.Attempt)
	got, err := k.decider.Refund(context.Background(), p, r, a, todo)
	if err != nil {
		return nil, err
	}
	return func() ([]messaging.Body, error) {
		row := k.repayment(p.ID, r.ID)
		after, changed := k.decider.Repaid(*row, k.decider.RefundKeyOf(r), got)
		if changed {
			*row = after
			k.answered(k.decider.RefundKeyOf(after))
			if after.Status == payments.Succeeded {
				k.book(booking{"refund", after.ProviderRef, p.ID, after.AmountMinor})
			}
		}
		if after.Status != payments.Succeeded && after.Status != payments.Failed {
			return nil, errors.New("it is being tried under another key")
		}
		return []messaging.Body{k.decider.RefundAnswer(after, c)}, nil
	}, nil
}

// book writes a row of the ledger.
func (k *desk) book(b booking) {
	if k.w.off(ledgerKept) {
		return
	}
	k.w.note("  booked: %+v", b)
	k.ledger = append(k.ledger, b)
}
