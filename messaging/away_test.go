package messaging_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

// closeFigure is how long a leased queue may take to be closed while the server hangs.
const closeFigure = 10 * time.Second

// A server that hangs when everything in hand is to be recorded doesn't hold up the
// end of the process: what was answered is not recorded one by one. Afterwards all of
// it is done, once.
func TestC16CloseWhileTheServerHangs(t *testing.T) {
	t.Parallel()
	cluster := messagingtest.NewCluster(t)
	db := cluster.NewDB(t, gamma(t))
	makeEffects(t, db.Admin)
	const inHand = 16
	var reached sync.WaitGroup
	reached.Add(inHand)
	answer := make(chan struct{})
	handle := func(b *messaging.Bus, ask func()) *messaging.Bus {
		messaging.HandleOutside(b, func(_ context.Context, m outside) (messaging.Record, error) {
			ask()
			return func(ctx context.Context, tx *messaging.Tx) error { return effect(ctx, tx, "gamma", m.body) }, nil
		})
		return b
	}
	var said lines
	b := handle(db.NewBus(t, gamma(t), func(c *messaging.Config) {
		c.InFlight, c.Log = inHand, slog.New(slog.NewTextHandler(&said, nil))
	}), func() {
		reached.Done()
		<-answer
	})
	for n := range inHand {
		db.Send(t, outside{body{N: n}})
	}
	stop := start(t, b)
	reached.Wait()
	thaw := freeze(t, db.Admin)
	close(answer)
	time.Sleep(100 * time.Millisecond) // the recorders have begun
	began := time.Now()
	stop()
	took := time.Since(began)
	t.Logf("with %d messages answered the process ended %s after it was told to, the server hanging (to reach: %s)", inHand, took.Round(time.Millisecond), closeFigure)
	if took > closeFigure {
		t.Errorf("it took %s to end, want %s at most", took, closeFigure)
	}
	thaw()
	if n := strings.Count(said.String(), "given back"); n != inHand {
		t.Errorf("%d messages were not recorded, want %d: the server must have hung", n, inHand)
	}

	start(t, handle(db.NewBus(t, gamma(t), func(c *messaging.Config) { c.InFlight = inHand }), func() {}))
	within(t, time.Minute, "all to be done", func() bool { return count(t, db.Admin, `SELECT count(*) FROM messaging.queue_gamma`) == 0 })
	for what, query := range map[string]string{
		"done":            `SELECT count(*) FROM public.effects`,
		"done, each once": `SELECT count(DISTINCT n) FROM public.effects`,
		"remembered":      `SELECT count(*) FROM messaging.inbox_gamma`,
	} {
		if n := count(t, db.Admin, query); n != inHand {
			t.Errorf("%s: got %d, want %d", what, n, inHand)
		}
	}
}

// freeze stops the server of db's, as a machine does whose disk hangs, until the
// returned function is called, or t ends.
func freeze(t testing.TB, db *sqlx.DB) (thaw func()) {
	t.Helper()
	var dir string
	if err := db.Get(&dir, `SHOW data_directory`); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(file), "\n")
	postmaster, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	if err := db.Select(&pids, `SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()`); err != nil {
		t.Fatal(err)
	}
	pids = append([]int{postmaster}, pids...) // it would start others
	signal := func(sig syscall.Signal) {
		for _, pid := range pids {
			if err := syscall.Kill(pid, sig); err != nil {
				t.Errorf("send %s to process %d of the server: %v", sig, pid, err)
			}
		}
	}
	signal(syscall.SIGSTOP)
	thaw = sync.OnceFunc(func() { signal(syscall.SIGCONT) })
	t.Cleanup(thaw)
	return thaw
}

// A record that waits for a lock for too long is not the server's being away: those
// that share its transaction are recorded all the same, at their first attempt.
func TestC16ARecordThatWaitsDelaysNobody(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	if _, err := db.Admin.Exec(`CREATE TABLE public.locked (n integer); INSERT INTO public.locked VALUES (0); GRANT ALL ON public.locked TO PUBLIC`); err != nil {
		t.Fatal(err)
	}
	holder, err := db.Admin.Beginx()
	if err != nil {
		t.Fatal(err)
	}
	release := sync.OnceFunc(func() {
		if err := holder.Rollback(); err != nil {
			t.Error(err)
		}
	})
	defer release()
	if _, err := holder.Exec(`SET LOCAL idle_in_transaction_session_timeout = 0; UPDATE public.locked SET n = 0`); err != nil {
		t.Fatal(err)
	}
	// The first two keep the recorders busy until all others are answered.
	const busy, waits, all = 2, 2, 10
	b := db.NewBus(t, gamma(t), quick, func(c *messaging.Config) {
		c.InFlight = all
		messaging.SetLimits(c, func(l *messaging.Limits) { l.Alone = 3 * time.Second })
	})
	var begun, answered, others sync.WaitGroup // others than the one that waits
	begun.Add(busy)
	answered.Add(all - busy)
	others.Add(all - busy - 1)
	gate := make(chan struct{})
	var mu sync.Mutex
	seen := map[int]bool{}
	together := map[*messaging.Tx]int{} // records that have begun in each transaction
	most := 0                           // of those that shared the first of the one that waits
	messaging.HandleOutside(b, func(_ context.Context, m outside) (messaging.Record, error) {
		mu.Lock()
		again := seen[m.N]
		seen[m.N] = true
		mu.Unlock()
		if m.N >= busy && !again {
			defer answered.Done()
			if m.N != waits {
				others.Done()
			} else {
				// It comes last: whatever has been answered shares its transaction.
				others.Wait()
				time.Sleep(50 * time.Millisecond) // they stand before the recorders
			}
		}
		return func(ctx context.Context, tx *messaging.Tx) error {
			mu.Lock()
			together[tx]++
			if m.N == waits {
				most = max(most, together[tx])
			}
			mu.Unlock()
			if m.N < busy && !again {
				begun.Done()
				<-gate
			}
			if m.N == waits {
				if _, err := tx.ExecContext(ctx, `UPDATE public.locked SET n = n + 1`); err != nil {
					return err
				}
			}
			return effect(ctx, tx, "gamma", m.body)
		}, nil
	})
	start(t, b)
	for n := range busy {
		db.Send(t, outside{body{N: n}})
	}
	begun.Wait()
	for n := busy; n < all; n++ {
		db.Send(t, outside{body{N: n}})
	}
	answered.Wait()
	time.Sleep(50 * time.Millisecond) // the last stands there, too
	close(gate)
	within(t, 20*time.Second, "all but one to be done", func() bool { return count(t, db.Admin, `SELECT count(*) FROM public.effects`) == all-1 })
	if n := count(t, db.Admin, `SELECT count(*) FROM public.effects WHERE attempt > 1 AND n >= $1`, busy); n != 0 {
		t.Errorf("%d were done at a later attempt, want 0", n)
	}
	release()
	within(t, 20*time.Second, "the last one to be done", func() bool { return count(t, db.Admin, `SELECT count(*) FROM messaging.queue_gamma`) == 0 })
	if n := count(t, db.Admin, `SELECT count(DISTINCT n) FROM public.effects`); n != all {
		t.Errorf("%d were done, want %d", n, all)
	}
	t.Logf("%d shared the transaction of the one that waits", most-1)
	if most < 2 {
		t.Error("nobody shared the transaction of the one that waits: nobody could be delayed")
	}
}
