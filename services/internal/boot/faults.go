package boot

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"example.com/orderflow/messaging"
)

// faults is the middleware of what cfg has go wrong.
func faults(cfg Config) []message.HandlerMiddleware {
	var list []message.HandlerMiddleware
	if len(cfg.Slow) > 0 {
		list = append(list, slow(cfg.Slow))
	}
	if len(cfg.Panics) > 0 {
		list = append(list, failing(cfg.Panics, func(*message.Message) error { panic("FAULT_PANIC") }))
	}
	if len(cfg.SQLErrors) > 0 {
		list = append(list, failing(cfg.SQLErrors, spoilTransaction))
	}
	return list
}

// slow is the middleware that delays the handlers of some kinds.
func slow(delays map[string]time.Duration) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(m *message.Message) ([]*message.Message, error) {
			if d := delays[m.Metadata.Get("kind")]; d > 0 {
				select {
				case <-time.After(d):
				case <-m.Context().Done():
				}
			}
			return next(m)
		}
	}
}

// failing is the middleware that has fail happen to one message of each kind, so
// many times as times says: the first to come. Its handler has done its work by
// then, so that there is something to be undone, or known again.
func failing(times map[string]int, fail func(*message.Message) error) message.HandlerMiddleware {
	var mu sync.Mutex
	left, victims := maps.Clone(times), map[string]string{} // by kind; ids of messages
	hit := func(m *message.Message) bool {
		mu.Lock()
		defer mu.Unlock()
		kind := m.Metadata.Get("kind")
		if victims[kind] == "" {
			victims[kind] = m.UUID
		}
		if left[kind] <= 0 || victims[kind] != m.UUID {
			return false
		}
		left[kind]--
		return true
	}
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(m *message.Message) ([]*message.Message, error) {
			out, err := next(m)
			if err == nil && hit(m) {
				err = fail(m)
			}
			return out, err
		}
	}
}

// spoilTransaction has the database refuse a statement in the transaction of m.
func spoilTransaction(m *message.Message) error {
	tx, ok := messaging.TxFrom(m.Context())
	if !ok {
		return errors.New("FAULT_SQL: a message of a leased queue has no transaction while it is handled")
	}
	_, err := tx.ExecContext(m.Context(), `SELECT 1 / 0`)
	return fmt.Errorf("FAULT_SQL: %w", err)
}
