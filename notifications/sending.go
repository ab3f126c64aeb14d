package notifications

import (
	"context"
	"errors"
	"sync"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

// mailing is a notification as its channel needs it.
type mailing struct {
	Notification
	Recipient     string        `db:"recipient"` // of a mail; personal data, as is the name
	RecipientName string        `db:"recipient_name"`
	HTML          string        `db:"html"`
	Now           time.Time     `db:"now"` // by the database's clock
	Waited        time.Duration `db:"-"`   // since the message in hand was sent
}

// sendNotification has a pending notification delivered by its channel, outside
// any transaction, and writes down what came of it with NotificationSent or
// NotificationFailed. What is settled already is ignored: a second command
// delivers nothing. A process that dies between delivering and writing down leaves
// a notification that is delivered again, under the same id.
func (s *Service) sendNotification(ctx context.Context, c contracts.SendNotification) (messaging.Record, error) {
	n, err := findMailing(ctx, s.db, c.NotificationID, messaging.MessageFrom(ctx).OccurredAt)
	if errors.Is(err, errNotFound) {
		return ignore("there is no such notification"), nil
	}
	if err != nil {
		return nil, err
	}
	switch {
	case n.Channel == channelWebhook:
		return s.callEndpoints(ctx, n, "")
	case n.Status != Pending:
		return ignore("the notification is " + string(n.Status) + " already"), nil
	default:
		return s.sendMail(ctx, n, "")
	}
}

// resendNotification has a notification delivered once more, whatever came of it
// before: a mail, or a webhook to every endpoint that was called and is open. It
// is ignored when that wish was granted already.
func (s *Service) resendNotification(ctx context.Context, c contracts.ResendNotification) (messaging.Record, error) {
	granted, err := wasResent(ctx, s.db, c.ResendID)
	if err != nil {
		return nil, err
	}
	if granted {
		return ignore("the wish was granted already"), nil
	}
	n, err := findMailing(ctx, s.db, c.NotificationID, messaging.MessageFrom(ctx).OccurredAt)
	if errors.Is(err, errNotFound) {
		return ignore("there is no such notification"), nil
	}
	if err != nil {
		return nil, err
	}
	if n.Channel == channelWebhook {
		return s.callEndpoints(ctx, n, c.ResendID)
	}
	return s.sendMail(ctx, n, c.ResendID)
}

func ignore(reason string) messaging.Record {
	return func(_ context.Context, tx *messaging.Tx) error {
		tx.Ignore(reason)
		return nil
	}
}

// sendMail sends n's mail and returns the writing down.
func (s *Service) sendMail(ctx context.Context, n mailing, resendID string) (messaging.Record, error) {
	out := outcome{Failed, "channel_off"} // it was on when the mail was written
	begun := time.Now()
	if s.mailer != nil && n.Channel == channelEmail {
		var err error
		if out, err = s.mailer.send(ctx, n, resendID); err != nil {
			return nil, err
		}
	}
	a := attempt{Sent: out.Status == Sent, ReasonCode: out.ReasonCode, Duration: time.Since(begun)}
	return func(_ context.Context, tx *messaging.Tx) error {
		insertAttempt(tx, n.ID, resendID, a)
		return s.settle(tx, n, out)
	}, nil
}

// callEndpoints calls the endpoints that n is on its way to, side by side, and
// returns the writing down. With a resendID those are all that are open, else those
// whose delivery was handed to this command.
func (s *Service) callEndpoints(ctx context.Context, n mailing, resendID string) (messaging.Record, error) {
	list, err := listDeliveries(ctx, s.db, n.ID, resendID != "")
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return ignore("no delivery of it is due"), nil
	}
	attempts := make([]attempt, len(list))
	var calls sync.WaitGroup
	for i, d := range list {
		calls.Go(func() { attempts[i] = s.hooks.post(ctx, n, d) })
	}
	calls.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err // we gave up, not the endpoints
	}
	return func(ctx context.Context, tx *messaging.Tx) error {
		all, err := lockDeliveries(ctx, tx, n.ID)
		if err != nil {
			return err
		}
		for i, d := range list {
			a := attempts[i]
			insertAttempt(tx, n.ID, resendID, a)
			noteEndpoint(tx, a, d.Closed == "", s.hooks.cfg.DisableAfter)
			for j := range all {
				if all[j].EndpointID == d.EndpointID {
					all[j] = d.after(a, s.hooks.cfg.Retries)
					saveDelivery(tx, all[j])
				}
			}
			if !a.Sent {
				s.log.Info("webhook not taken", "service", "notifications", "order_id", n.OrderID, "notification_id", n.ID,
					"endpoint_id", d.EndpointID, "reason_code", a.ReasonCode, "duration_ms", a.Duration.Milliseconds())
			}
		}
		if out := outcomeOf(all); out.Status != Pending && out.Status != n.Status && n.Status != Sent {
			return s.settle(tx, n, out)
		}
		return nil
	}, nil
}

// settle writes down the channel's last word about n and tells it.
func (s *Service) settle(tx *messaging.Tx, n mailing, out outcome) error {
	settleNotification(tx, n.ID, out)
	s.log.Info("notification settled", "service", "notifications", "order_id", n.OrderID, "notification_id", n.ID,
		"channel", n.Channel, "status", string(out.Status), "reason_code", out.ReasonCode)
	if out.Status == Sent {
		return tx.Publish(contracts.NotificationSent{NotificationID: n.ID, OrderID: n.OrderID, Channel: n.Channel})
	}
	return tx.Publish(contracts.NotificationFailed{NotificationID: n.ID, OrderID: n.OrderID, Channel: n.Channel, ReasonCode: out.ReasonCode})
}
