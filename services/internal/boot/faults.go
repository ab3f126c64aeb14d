package boot

import (
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// slow is the middleware that delays the handlers of some kinds.
func slow(delays map[string]time.Duration) []message.HandlerMiddleware {
	if len(delays) == 0 {
		return nil
	}
	return []message.HandlerMiddleware{func(next message.HandlerFunc) message.HandlerFunc {
		return func(m *message.Message) ([]*message.Message, error) {
			if d := delays[m.Metadata.Get("kind")]; d > 0 {
				select {
				case <-time.After(d):
				case <-m.Context().Done():
				}
			}
			return next(m)
		}
	}}
}
