package simulation

import (
	"context"

	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/orders"
	"example.com/orderflow/payments"
)

// stray is a, if it is a hold that the attempt which asked for it didn't come to.
func (k *desk) stray(a *authorization) (payments.Stray, bool) {
	for _, p := range k.payments {
		for _, b := range p.Attempts {
			for try := 1; try <= b.AuthorizeTry; try++ {
				if payments.Key(p.ID, b.Number, payments.OpAuthorize, try) == a.key && a.Status == payments.Approved && k.decider.HasStray(b, a.Ref) {
					return payments.Stray{Attempt: b, Ref: a.Ref, AuthorizeKey: a.key, OrderID: p.OrderID, Try: 1 + k.inVain[a.Ref]}, true
				}
			}
		}
	}
	return payments.Stray{}, false
}

// strays are those in the provider's books.
func (k *desk) strays() (list []payments.Stray) {
	for _, a := range k.w.provider.auths {
		if s, is := k.stray(a); is {
			list = append(list, s)
		}
	}
	return list
}

// reconcile voids what is stray, as the handler does after it has read the books.
func (k *desk) reconcile() (record, error) {
	strays := k.strays()
	k.w.commit("the intent", func() {
		for _, s := range strays {
			k.intendUnder(payments.OpVoid, k.decider.StrayKey(s))
		}
	})
	for _, s := range strays {
		got, err := k.decider.LetGo(context.Background(), s)
		if err != nil {
			return nil, err
		}
		k.w.commit("the record", func() {
			c := k.calls[k.decider.StrayKey(s)]
			if c.answered {
				return
			}
			c.answered = true
			k.inVain[s.Ref]++
			k.w.saw("stray hold: " + string(got.Status))
		})
	}
	return say(), nil
}

// reconcile has the two books compared.
func (w *world) reconcile() { w.send(contracts.ReconcilePayments{ReconciliationID: w.newID()}) }

// reconcileAll has them compared until nothing is stray.
func (w *world) reconcileAll() {
	for tries := 0; len(w.desk.strays()) > 0; tries++ {
		if tries == 3 {
			w.broken("reconciliation leaves stray holds")
		}
		w.reconcile()
		w.settle(orders.Status.Ended, func(*order) bool { return false })
	}
}

// awaitsReconciliation reports whether a is a stray, and the provider is to blame.
func (w *world) awaitsReconciliation(a *authorization) bool {
	_, is := w.desk.stray(a)
	return is && w.provider.doubtful[a.key]
}
