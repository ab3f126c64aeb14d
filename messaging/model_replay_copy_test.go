package messaging_test

import (
	"context"
	"errors"
	"slices"
	"time"

	"pgregory.net/rapid"

	"example.com/orderflow/messaging"
)

// How a replay goes.
const (
	whole       = "whole"
	interrupted = "interrupted"
	cut         = "cut"
	fromATime   = "from a time"
)

// replay begins or continues a replay of a group.
func (w *replayWorld) replay(rt *rapid.T, how string) {
	name, g := w.anyGroup(rt)
	opts := messaging.ReplayOptions{}
	size := rapid.IntRange(1, 8).Draw(rt, "page")
	messaging.SetPage(&opts, size)
	if how == fromATime && len(w.log) > 0 {
		opts.Since = w.log[rapid.IntRange(0, len(w.log)-1).Draw(rt, "since")].at
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	pages := 1 << 30
	switch how {
	case interrupted:
		pages = rapid.IntRange(1, 4).Draw(rt, "pages")
	case cut:
		time.AfterFunc(time.Duration(rapid.IntRange(0, 20).Draw(rt, "ms"))*time.Millisecond, cancel)
	}
	n := 0
	opts.Progress = func(messaging.Replay) {
		if n++; n == pages {
			cancel()
		}
	}
	r, err := w.op.Replay(ctx, name, opts)
	switch {
	case !g.replayable && !errors.Is(err, messaging.ErrNotReplayable) && (how != cut || err == nil):
		rt.Fatalf("replay of %s: got %v, want ErrNotReplayable", name, err)
	case !g.replayable:
		w.seen["replay refused"]++
		return
	case g.unfinished != nil && !opts.Since.IsZero():
		if !errors.Is(err, messaging.ErrReplaying) {
			rt.Fatalf("replay of %s from a time while another isn't finished: got %v, want ErrReplaying", name, err)
		}
		w.seen["replay refused"]++
		return
	case how == cut:
		w.adopt(rt, name, g, r, err)
		return
	}
	if g.paused {
		w.seen["replay while paused"]++
	}
	w.beginOrContinue(rt, name, g, opts.Since)
	finished := w.copyPages(g, size, pages)
	switch {
	case finished && (err != nil || r.FinishedAt == nil):
		rt.Fatalf("replay of %s: got %+v, %v; want it finished", name, r, err)
	case !finished && !errors.Is(err, context.Canceled):
		rt.Fatalf("replay of %s, interrupted after %d pages of %d: got %+v, %v; want it canceled", name, pages, size, r, err)
	case !finished:
		w.seen["replay interrupted"]++
	}
	if r.Run != g.run {
		rt.Fatalf("replay of %s: got run %d, want %d", name, r.Run, g.run)
	}
}

// beginOrContinue has the model do what a replay does before it copies.
func (w *replayWorld) beginOrContinue(rt *rapid.T, name string, g *group, since time.Time) {
	if u := g.unfinished; u != nil {
		w.seen["replay continued"]++
		if len(w.log) > 0 && w.log[len(w.log)-1].id > u.asOf {
			w.seen["replay continued after more was spoken"]++
		}
	} else {
		g.run++
		g.live = false
		if !since.IsZero() {
			w.seen["replay from a time"]++
		}
		if w.gone.After(since) {
			since = w.gone
		}
		// Where it begins to read is the engine's choice, unless it would miss something.
		first := int64(count(w.t, w.db.Admin, `SELECT first FROM messaging.replay_positions WHERE queue = $1 AND run = $2`, name, g.run))
		for _, m := range w.log {
			if m.id <= first && !m.at.Before(since) {
				rt.Errorf("replay of %s from %s begins after entry %d, and would miss %d, sent at %s", name, since, first, m.id, m.at)
			}
		}
		g.unfinished = &replayed{run: g.run, since: since, position: first}
	}
	if !g.unfinished.fenced {
		w.fence(g)
		g.unfinished.fenced = true
	}
}

// fence takes out of the queue what the replay brings again.
func (w *replayWorld) fence(g *group) {
	u := g.unfinished
	g.queue = slices.DeleteFunc(g.queue, func(c copied) bool {
		if !w.fenced(c, u) {
			switch m := w.messages[c.n]; {
			case !m.event:
				w.seen["command among replayed events"]++
			case c.run < u.run && !slices.Contains(w.log, m):
				w.seen["replay leaves what the log has forgotten"]++
			case c.run < u.run:
				w.seen["replay leaves older messages of the log"]++
			}
			return false
		}
		w.seen[map[bool]string{true: "replay takes out dead letters", false: "replay takes out what waits"}[c.dead]]++
		return true
	})
}

func (w *replayWorld) fenced(c copied, u *replayed) bool {
	m := w.messages[c.n]
	return m.event && c.run < u.run && !m.at.Before(u.since)
}

// copyPages copies up to so many pages of the log, each so many ids long, and
// reports whether that was the end.
func (w *replayWorld) copyPages(g *group, size, pages int) (finished bool) {
	u := g.unfinished
	for last := false; pages > 0; pages-- {
		i := slices.IndexFunc(w.log, func(m *spoken) bool { return m.id > u.position })
		more := false
		if i >= 0 {
			page := w.log[i:]
			if end := slices.IndexFunc(page, func(m *spoken) bool { return m.id >= page[0].id+int64(size) }); end >= 0 {
				page, more = page[:end], true
			}
			w.copyUpTo(g, page[len(page)-1].id)
		}
		if last && !more {
			g.live, g.unfinished = true, nil
			return true
		}
		last = !more
	}
	w.leave(g)
	return false
}

// copyUpTo puts into the queue what is in the log up to id.
func (w *replayWorld) copyUpTo(g *group, id int64) {
	u := g.unfinished
	for _, m := range w.log {
		if m.id > u.position && m.id <= id && !m.at.Before(u.since) {
			g.queue = append(g.queue, copied{n: m.n, run: u.run})
		}
	}
	u.position = max(u.position, id)
}

// leave notes how the log stands when a replay is left.
func (w *replayWorld) leave(g *group) {
	if len(w.log) > 0 {
		g.unfinished.asOf = w.log[len(w.log)-1].id
	}
}

// adopt takes over how far a replay came that was cut at some moment, if it may
// have come there.
func (w *replayWorld) adopt(rt *rapid.T, name string, g *group, r messaging.Replay, err error) {
	var is struct {
		Run, Begun   int
		Fenced, Done bool
		Position     int64
	}
	gerr := w.db.Admin.Get(&is, `
		SELECT k.run, (SELECT count(*) FROM messaging.replays r WHERE r.queue = k.name AND r.run = k.run) AS begun, coalesce(r.fenced_at IS NOT NULL, false) AS fenced,
		       coalesce(r.finished_at IS NOT NULL, false) AS done, coalesce(p.position, 0) AS position
		FROM messaging.queues k
		LEFT JOIN messaging.replays r ON r.queue = k.name AND r.run = k.run
		LEFT JOIN messaging.replay_positions p ON p.queue = k.name AND p.run = k.run
		WHERE k.name = $1`, name)
	if gerr != nil {
		rt.Fatalf("look at the replay of %s: %v", name, gerr)
	}
	if err == nil && !is.Done {
		rt.Fatalf("replay of %s: got %+v and no error, though it isn't finished: %+v", name, r, is)
	}
	if is.Run == g.run && g.unfinished == nil {
		w.seen["replay cut before it began"]++
		return
	}
	w.beginOrContinue(rt, name, g, time.Time{})
	if is.Run != g.run {
		rt.Fatalf("replay of %s: got run %d, want %d", name, is.Run, g.run)
	}
	if !is.Fenced { // how much it has taken out is its choice: the rest goes now
		g.unfinished.fenced = false
		w.exec(`DELETE FROM messaging.queue_`+name+` q USING messaging.replay_positions p
			WHERE p.queue = $1 AND p.run = $2 AND q.kind = 'alpha.happened' AND q.run < $2 AND q.occurred_at >= p.since`, name, is.Run)
	}
	w.copyUpTo(g, is.Position)
	if is.Done {
		g.live, g.unfinished = true, nil
		return
	}
	w.seen["replay cut in the middle"]++
	w.leave(g)
}
