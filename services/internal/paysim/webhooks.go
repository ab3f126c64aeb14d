package paysim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const (
	webhookBatch    = 20               // delivered at once
	webhookTimeout  = 5 * time.Second  // of one delivery
	webhookLease    = 15 * time.Second // after which a delivery of a process that died is made again
	webhookAttempts = 12               // then nobody is told any more: about an hour and a half
)

// hooks are the deliveries of one event; those of the zero hooks are none.
type hooks struct {
	id    any       // UUID of the event, nil without any
	body  string    // as it is sent, and signed
	after []float64 // seconds until each delivery
}

// event is the body of a webhook: that something happened, never all about it.
type event struct {
	Type      string    `json:"type"` // authorization.authorized, .declined, .captured, .voided, .expired, .refunded
	Timestamp time.Time `json:"timestamp"`
	Data      eventData `json:"data"`
}

type eventData struct {
	AuthorizationID string `json:"authorization_id"`
	Key             string `json:"key"` // under which what happened was asked for
	Reference       string `json:"reference,omitempty"`
}

// hooksFor are the deliveries of an event about the authorization id, as the rules
// in force have them; none when nobody wants to be told.
func (s *Server) hooksFor(kind, id, key, reference string) hooks {
	if s.cfg.WebhookURL == "" {
		return hooks{}
	}
	eventID, err := uuid.NewV7()
	if err != nil {
		s.log.Error("no event id could be made", "service", "paysim", "err", err)
		return hooks{}
	}
	body, err := json.Marshal(event{kind, time.Now().UTC(), eventData{id, key, reference}})
	if err != nil {
		s.log.Error("no event could be made", "service", "paysim", "err", err)
		return hooks{}
	}
	h := hooks{id: eventID.String(), body: string(body), after: []float64{0}}
	switch r := s.conducts.take(opWebhook); misdeed(r.Misdeed) {
	case doubled:
		h.after = []float64{0, 0}
	case delayed:
		h.after = []float64{r.delay().Seconds()}
	case shuffled:
		h.after = []float64{rand.Float64() * r.delay().Seconds()}
	case lost:
		h.after = nil
	}
	return h
}

// Run delivers webhooks until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	defer close(s.closing)
	if s.cfg.WebhookURL == "" {
		<-ctx.Done()
		return nil
	}
	defer s.client.CloseIdleConnections()
	for ctx.Err() == nil {
		n, err := s.deliverDue(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.Warn("webhooks will be delivered later", "service", "paysim", "err", err)
		}
		if n == webhookBatch && err == nil {
			continue
		}
		timer := time.NewTimer(s.cfg.WebhookPoll)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return nil
}

// webhook is a delivery to be made.
type webhook struct {
	ID       int64  `db:"id"`
	EventID  string `db:"event_id"`
	Body     string `db:"body"`
	Attempts int    `db:"attempts"`
}

// deliverDue makes a batch of deliveries and returns how many.
func (s *Server) deliverDue(ctx context.Context) (int, error) {
	list, err := s.store.claimWebhooks(ctx, webhookBatch)
	if err != nil {
		return 0, err
	}
	errs := make([]error, len(list))
	var all sync.WaitGroup
	for i, h := range list {
		all.Go(func() {
			if err := s.deliver(ctx, h); err != nil {
				errs[i] = errors.Join(err, s.store.delayWebhook(ctx, h))
				return
			}
			errs[i] = s.store.deleteWebhook(ctx, h.ID)
		})
	}
	all.Wait()
	return len(list), errors.Join(errs...)
}

// deliver sends h, signed now (Standard Webhooks). Any 2xx ends it.
func (s *Server) deliver(ctx context.Context, h webhook) error {
	ctx, cancel := context.WithTimeout(ctx, webhookTimeout)
	defer cancel()
	now := time.Now()
	signature, err := s.signer.Sign(h.EventID, now, []byte(h.Body))
	if err != nil {
		return fmt.Errorf("sign event %s: %w", h.EventID, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.cfg.WebhookURL, bytes.NewReader([]byte(h.Body)))
	if err != nil {
		return fmt.Errorf("deliver event %s: %w", h.EventID, err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(standardwebhooks.HeaderWebhookID, h.EventID)
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	req.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	res, err := s.client.Do(req)
	if err != nil {
		return fmt.Errorf("deliver event %s: %w", h.EventID, err)
	}
	_, err = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10))
	err = errors.Join(err, res.Body.Close())
	if res.StatusCode/100 != 2 {
		err = errors.Join(err, fmt.Errorf("deliver event %s: answer %d", h.EventID, res.StatusCode))
	}
	return err
}

// claimWebhooks takes up to limit deliveries that are due; another process gets
// them again after webhookLease.
func (s store) claimWebhooks(ctx context.Context, limit int) ([]webhook, error) {
	var list []webhook
	err := s.db.SelectContext(ctx, &list, `
		UPDATE paysim.webhooks
		SET due = clock_timestamp() + make_interval(secs => $2), attempts = attempts + 1
		WHERE id IN (
			SELECT id FROM paysim.webhooks
			WHERE due <= statement_timestamp()
			ORDER BY due
			LIMIT $1
			FOR UPDATE SKIP LOCKED)
		RETURNING id, event_id, body, attempts`, limit, webhookLease.Seconds())
	if err != nil {
		return nil, fmt.Errorf("take webhooks that are due: %w", err)
	}
	return list, nil
}

// delayWebhook has a delivery that failed made again, twice as late each time, or
// gives it up.
func (s store) delayWebhook(ctx context.Context, h webhook) error {
	if h.Attempts >= webhookAttempts {
		return s.deleteWebhook(ctx, h.ID)
	}
	_, err := s.db.ExecContext(ctx, `
		UPDATE paysim.webhooks
		SET due = clock_timestamp() + make_interval(secs => $2)
		WHERE id = $1`, h.ID, float64(int(1)<<h.Attempts))
	if err != nil {
		return fmt.Errorf("delay webhook %d: %w", h.ID, err)
	}
	return nil
}

func (s store) deleteWebhook(ctx context.Context, id int64) error {
	if _, err := s.db.ExecContext(ctx, `DELETE FROM paysim.webhooks WHERE id = $1`, id); err != nil {
		return fmt.Errorf("end webhook %d: %w", id, err)
	}
	return nil
}

// webhookClient follows no redirects: a signed event is for one address.
func webhookClient() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: webhookBatch},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
