package messaging

import (
	"context"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// newRouter hangs the service's handlers on a Watermill Router: one consumer
// handler per queue, which knows the kinds that arrive there.
func (b *Bus) newRouter() (*message.Router, []*Subscriber, error) {
	r, err := message.NewRouter(message.RouterConfig{CloseTimeout: b.cfg.Deadline + 5*time.Second}, watermillLog{b.log})
	if err != nil {
		return nil, nil, fmt.Errorf("router of %s: %w", b.spec.Name, err)
	}
	r.AddMiddleware(judged) // outermost: it sees what the others make of a message
	r.AddMiddleware(b.cfg.Middleware...)
	var subs []*Subscriber
	for _, q := range b.spec.Queues {
		consumers := b.cfg.Consumers
		if q.Mode == Leased {
			consumers = b.cfg.InFlight
		}
		s := NewSubscriber(SubscriberConfig{
			DB: b.db, Log: b.log, Mode: q.Mode, Consumers: consumers, Deadline: b.cfg.Deadline, limits: b.cfg.limits,
		})
		s.bus, s.wakes = b, b.wakes
		subs = append(subs, s)
		r.AddConsumerHandler(q.Name, q.Name, s, b.dispatch)
	}
	return r, subs, nil
}

// judged leaves what goes wrong, in the handler of a message or in a middleware
// around it, in the delivery for the consumer, who decides what becomes of the
// message; the Router only learns whether to ack.
func judged(next message.HandlerFunc) message.HandlerFunc {
	return func(w *message.Message) (out []*message.Message, err error) {
		if d := deliveryFrom(w.Context()); d != nil {
			defer func() { d.err = err }()
		}
		defer catch(&err)
		return next(w)
	}
}

// dispatch hands a message to the handler of its kind.
func (b *Bus) dispatch(w *message.Message) (err error) {
	d := deliveryFrom(w.Context())
	if d == nil {
		return fmt.Errorf("message %s came from no queue of ours", w.UUID)
	}
	defer catch(&err) // so that a middleware sees a panic as an error, too
	h, ok := b.handlers[d.message.Kind]
	if !ok {
		return Permanent(fmt.Errorf("service %s doesn't know %s; upgrade it, then redrive", b.spec.Name, d.message.Kind))
	}
	ctx := WithCorrelation(w.Context(), d.message.CorrelationID)
	switch {
	case h.inside != nil && d.tx != nil:
		return h.inside(ctx, d.tx, d.message)
	case h.outside != nil && d.tx == nil:
		d.record, err = h.outside(ctx, d.message)
		return err
	}
	return Permanent(fmt.Errorf("%s arrived in a queue of the other mode", d.message.Kind))
}

// MessageFrom returns the envelope of the message being handled; its zero value
// outside a handler.
func MessageFrom(ctx context.Context) Message {
	if d := deliveryFrom(ctx); d != nil {
		return d.message
	}
	return Message{}
}
