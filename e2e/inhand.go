package e2e

import (
	"context"
	"fmt"
	"time"
)

// still returns when the database has done what a frozen service had sent before:
// when nothing of it runs there any more, in several looks in a row, since the
// server of a busy machine may not have read it yet.
func (s *Stack) still(ctx context.Context, service string) error {
	for still := 0; still < 3; {
		time.Sleep(15 * time.Millisecond)
		var active int
		err := s.Admin.GetContext(ctx, &active, `
			SELECT count(*) FROM pg_stat_activity WHERE usename = 'orderflow_' || $1 AND state = 'active'`, service)
		if err != nil {
			return fmt.Errorf("look what the database does for %s: %w", service, err)
		}
		if still++; active > 0 {
			still = 0
		}
	}
	return nil
}

// hold says what a frozen service has begun and not finished, "" for nothing,
// with the ids of the messages among it. requests is how many customers wait for
// an answer.
func (s *Stack) hold(ctx context.Context, service string, requests int64) (what string, messages []string, err error) {
	switch service {
	case "console":
		if requests > 0 {
			what = fmt.Sprintf("%d requests", requests)
		}
		return what, nil, nil
	case "paysim":
		// What payments has in hand waits for the provider's answer.
		what, _, err = s.hold(ctx, "payments", requests)
		return what, nil, err
	}
	err = s.Admin.SelectContext(ctx, &messages, `
		SELECT message_id::text FROM messaging.queue_`+service+` WHERE token IS NOT NULL AND dead_reason IS NULL`)
	if err != nil {
		return "", nil, fmt.Errorf("look what %s has in hand: %w", service, err)
	}
	if len(messages) > 0 {
		what = fmt.Sprintf("%d messages", len(messages))
	}
	return what, messages, nil
}
