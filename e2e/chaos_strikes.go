package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// strikeKill kills services (SIGKILL) that have something in hand.
func (c *chaos) strikeKill(ctx context.Context, f fault) (wound, error) {
	hits, what, err := c.catch(ctx, f.Whom)
	if err != nil {
		return wound{}, err
	}
	for _, name := range f.Whom {
		err = errors.Join(err, c.Kill(first(name)))
		c.setUp(first(name), false)
	}
	return wound{at: time.Now(), hits: hits, what: what, heal: func(ctx context.Context) error {
		var err error
		for _, name := range f.Whom {
			err = errors.Join(err, c.launch(ctx, name))
		}
		return err
	}}, err
}

// strikeTerminate ends a service that has something in hand, as an operator does.
func (c *chaos) strikeTerminate(ctx context.Context, f fault) (wound, error) {
	hits, what, err := c.catch(ctx, f.Whom)
	if err != nil {
		return wound{}, err
	}
	w := wound{at: time.Now(), hits: hits, what: what}
	if err := c.thaw(f.Whom); err != nil {
		return w, err
	}
	c.end(f.Whom[0])
	w.heal = func(ctx context.Context) error { return c.launch(ctx, f.Whom[0]) }
	return w, nil
}

// strikePause freezes a service that has something in hand.
func (c *chaos) strikePause(ctx context.Context, f fault) (wound, error) {
	hits, what, err := c.catch(ctx, f.Whom)
	if err != nil {
		return wound{}, err
	}
	return wound{at: time.Now(), hits: hits, what: what, heal: func(context.Context) error { return c.thaw(f.Whom) }}, nil
}

// handlerDelay is how slow a slow handler is: more than it may be among others, less
// than it may be alone.
const handlerDelay = 1200 * time.Millisecond

// strikeSlowHandler makes the handler of one kind of messages slow.
func (c *chaos) strikeSlowHandler(ctx context.Context, f fault) (wound, error) {
	service := f.Whom[0]
	c.end(service)
	w := wound{at: time.Now(), heal: func(ctx context.Context) error {
		c.end(service)
		return c.launch(ctx, service)
	}}
	w.count = func(ctx context.Context) (int, string, error) {
		n, err := c.number(ctx, `
			SELECT count(*) FROM messaging.inbox_`+service+` WHERE kind = $1 AND handled_at > $2 AND ran > make_interval(secs => $3)`,
			f.How, w.at, handlerDelay.Seconds())
		return n, fmt.Sprintf("%d messages handled slowly", n), err
	}
	return w, c.launch(ctx, service, fmt.Sprintf("FAULT_SLOW=%s=%s", f.How, handlerDelay))
}

// cutLink cuts the link when something is under way on it.
func cutLink(ctx context.Context, l *Link) (wound, error) {
	for ctx.Err() == nil {
		if n := l.CutUnderWay(); n > 0 {
			return wound{at: time.Now(), hits: n, what: fmt.Sprintf("%d requests were under way", n), heal: func(context.Context) error {
				l.Heal()
				return nil
			}}, nil
		}
		pause(ctx, time.Millisecond)
	}
	return wound{}, errMissed
}

// slowLink holds up what passes the link.
func slowLink(l *Link, delay string) (wound, error) {
	d, err := time.ParseDuration(delay)
	if err != nil {
		return wound{}, err
	}
	l.Slow(d)
	count := func(context.Context) (int, string, error) {
		n := l.Hits()
		return n, fmt.Sprintf("%d packets held up", n), nil
	}
	return wound{at: time.Now(), count: count, heal: func(context.Context) error {
		l.Heal()
		return nil
	}}, nil
}

// strikeCommits cuts connections of a service in the midst of COMMITs: before the
// server has heard of them, or after it has done them.
func (c *chaos) strikeCommits(_ context.Context, f fault) (wound, error) {
	l := c.database[f.Whom[0]]
	l.CutCommits(mostCommits, "", f.How == "after")
	count := func(context.Context) (int, string, error) {
		n, _ := l.CommitsCut()
		return n, fmt.Sprintf("%d COMMITs cut", n), nil
	}
	return wound{at: time.Now(), count: count, heal: func(context.Context) error {
		l.CutCommits(0, "", false)
		return nil
	}}, nil
}

// mostCommits is how many COMMITs are cut at most by one fault.
const mostCommits = 20

// strikeConduct makes the provider misbehave in f.How: operations, a misdeed and in
// how many requests of each.
func (c *chaos) strikeConduct(ctx context.Context, f fault) (wound, error) {
	var operations, misdeed string
	var each int
	if _, err := fmt.Sscan(f.How, &operations, &misdeed, &each); err != nil {
		return wound{}, err
	}
	var rules []conduct
	for operation := range strings.SplitSeq(operations, ",") {
		rules = append(rules, conduct{Operation: operation, Misdeed: misdeed, Count: each})
	}
	w := wound{at: time.Now()}
	w.count = func(ctx context.Context) (int, string, error) {
		left, err := c.conduct(ctx, http.MethodGet, nil)
		if err != nil {
			return 0, "", err
		}
		n := len(rules) * each
		for _, l := range left {
			n -= l.Count
		}
		return n, fmt.Sprintf("%d requests went wrong", n), nil
	}
	w.heal = func(ctx context.Context) error {
		_, err := c.conduct(ctx, http.MethodPut, []conduct{})
		return err
	}
	_, err := c.conduct(ctx, http.MethodPut, rules)
	return w, err
}

// conduct reads or sets how the provider behaves.
func (c *chaos) conduct(ctx context.Context, method string, rules []conduct) ([]conduct, error) {
	type document struct {
		Rules []conduct `json:"rules"`
	}
	body, err := json.Marshal(document{rules})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, c.Reach(first("paysim"))+"/provider/v1/admin/conduct", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.passwords["paysim"])
	req.Header.Set("Content-Type", "application/json")
	res, err := c.asking.Do(req)
	if err != nil {
		return nil, fmt.Errorf("conduct of the provider: %w", err)
	}
	var d document
	err = json.NewDecoder(res.Body).Decode(&d)
	if res.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", res.StatusCode)
	}
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return nil, fmt.Errorf("conduct of the provider: %w", err)
	}
	return d.Rules, nil
}
