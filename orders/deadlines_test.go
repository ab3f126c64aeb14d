package orders

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/messagingtest"
)

func TestOverdueAnswersAreAskedForAgain(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	again := map[Status]string{
		Placed: contracts.KindReserveStock, Authorizing: contracts.KindAuthorizePayment, Confirmed: contracts.KindFulfilOrder,
		Fulfilling: contracts.KindFulfilOrder, Stopping: contracts.KindStopFulfilment, Capturing: contracts.KindCapturePayment,
		Dispatching: contracts.KindDispatchShipment, Shipped: contracts.KindDispatchShipment, Refunding: contracts.KindRefundPayment,
	}
	before := map[string]Order{}
	for status := range again {
		id := s.place(string(status))
		s.bring(id, status)
		before[id] = s.row(id)
	}
	for range 2 {
		s.advance(4 * time.Hour)
		sent := map[string][]string{}
		messagingtest.Wait(t, "all commands to be sent again", func() bool {
			for _, m := range s.db.Published(t, service) {
				sent[m.OrderID] = append(sent[m.OrderID], m.Kind)
			}
			return len(sent) == len(again)
		})
		for id, o := range before {
			if want := []string{again[o.Status]}; !slices.Equal(sent[id], want) {
				t.Errorf("sent again while %s: got %v, want %v", o.Status, sent[id], want)
			}
		}
	}
	for id, o := range before {
		got := s.row(id)
		if !got.Deadline.After(*o.Deadline) || got.Resends != 2 {
			t.Errorf("while %s: got deadline %v and %d commands repeated, want it after %v and 2", o.Status, got.Deadline, got.Resends, o.Deadline)
		}
		got.Deadline, got.Resends = o.Deadline, 0
		if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", o) {
			t.Errorf("after two deadlines:\n got %+v\nwant %+v with another deadline", got, o)
		}
	}
}

func TestResentCommandIsTheSame(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	id := s.place("k")
	first := s.db.Published(t, service)[0]
	s.advance(time.Minute)
	due := s.row(id).Deadline
	messagingtest.Wait(t, "the deadline to be handled", func() bool { return s.row(id).Deadline.After(*due) })
	again := s.wants(id, Placed, contracts.KindReserveStock)[0]
	if string(again.Payload) != string(first.Payload) || again.ID == first.ID {
		t.Errorf("sent again:\n got %s (%s)\nwant %s under another id than %s", again.Payload, again.ID, first.Payload, first.ID)
	}
}

func TestUndoingIsAskedForAgain(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	id := s.place("k")
	s.bring(id, Confirmed)
	s.must(202, "POST", "/v1/orders/"+id+"/cancel", "")
	s.wants(id, Compensating, contracts.KindReleaseStock, contracts.KindVoidPayment, changed)
	s.deliver("done", says(contracts.KindPaymentVoided, s.row(id)).Body)
	s.advance(2 * time.Minute)
	due := s.row(id).Deadline
	messagingtest.Wait(t, "the deadline to be handled", func() bool { return s.row(id).Deadline.After(*due) })
	s.wants(id, Compensating, contracts.KindReleaseStock)
	s.deliver("done", says(contracts.KindStockReleased, s.row(id)).Body)
	s.wants(id, Cancelled, contracts.KindOrderCancelled, changed)
}

func TestPaymentNotCompletedRejects(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	id := s.place("k")
	s.bring(id, Authorizing)
	s.deliver("done", says(contracts.KindPaymentDeclined, s.row(id)).Body)
	s.db.Published(t, service)
	s.advance(time.Hour)
	messagingtest.Wait(t, "the order to be undone", func() bool { return s.row(id).Status == Compensating })
	messages := s.wants(id, Compensating, contracts.KindReleaseStock, contracts.KindVoidPayment, changed)
	if got := messagingtest.As[contracts.OrderStatusChanged](t, messages[2]).ReasonCode; got != "payment_not_completed" {
		t.Errorf("reason: got %q, want payment_not_completed", got)
	}
	s.checkHistory(id, Placed, Authorizing, PaymentFailed, Compensating)
}

// TestReplicasShareDeadlines lets two transactions look for due orders at once:
// no order is in both hands, and a full batch asks for the next one at once.
func TestReplicasShareDeadlines(t *testing.T) {
	t.Parallel()
	s := stockedIdle(t)
	const more = 10
	for i := range dueBatch + more {
		s.place(fmt.Sprintf("k%d", i))
	}
	s.db.Published(t, service)
	s.advance(time.Minute)
	s.inTx(func(ctx context.Context, tx *messaging.Tx) error {
		wait, err := s.svc.deadlines(ctx, tx)
		if err != nil || wait != 0 {
			t.Errorf("a full batch: got %v and error %v, want 0 and none", wait, err)
		}
		s.inTx(func(ctx context.Context, tx *messaging.Tx) error {
			wait, err := s.svc.deadlines(ctx, tx)
			if err != nil || wait != dueEvery {
				t.Errorf("the rest: got %v and error %v, want %v and none", wait, err, dueEvery)
			}
			return nil
		})
		if got := len(s.db.Published(t, service)); got != more {
			t.Errorf("sent by the second: got %d commands, want %d", got, more)
		}
		return nil
	})
	if got := len(s.db.Published(t, service)); got != dueBatch {
		t.Errorf("sent by the first: got %d commands, want %d", got, dueBatch)
	}
}
