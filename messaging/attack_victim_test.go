package messaging_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"example.com/orderflow/messaging"
)

// victimVariable, when set, makes the test binary a victim: its value says which.
const victimVariable = "ORDERFLOW_VICTIM"

// victim is a process of a service that is to be killed or frozen. It stands
// still at its point, held up by the database, which knows it by its name.
type victim struct {
	Service  string
	Number   int
	Point    string
	DSN      string
	Provider string // gamma: where the outside is
	Batch    int
	Lease    time.Duration
}

// name is the victim's application_name.
func (v victim) name() string { return fmt.Sprintf("victim/%d/%s", v.Number, v.Point) }

// beVictim is the process of a victim. It returns only when something is wrong.
func beVictim(script string) error {
	var v victim
	if err := json.Unmarshal([]byte(script), &v); err != nil {
		return err
	}
	go func() { // nobody is left to kill it when whoever started it is gone
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	db, err := messaging.OpenDB(v.DSN, v.name(), 8)
	if err != nil {
		return err
	}
	cfg := messaging.Config{
		DB: db, DSN: v.DSN, Consumers: 1, InFlight: v.Batch, WithoutRelay: v.Service != "alpha",
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	messaging.SetLimits(&cfg, func(l *messaging.Limits) {
		l.Batch, l.Lease = v.Batch, v.Lease
		l.Slow, l.Alone = time.Minute, time.Minute // a pause is no slow handler
	})
	specs := map[string]func(testing.TB) messaging.Spec{"alpha": alpha, "beta": beta, "gamma": gamma}
	cfg.Spec = specs[v.Service](nil)
	b, err := messaging.New(cfg)
	if err != nil {
		return err
	}
	switch v.Service {
	case "beta":
		v.handle(b)
	case "gamma":
		handleOutside(b, v.Provider)
	}
	return errors.Join(b.Run(context.Background()), db.Close())
}

// handle does every work as a doer does, and stops at the points inside.
func (v victim) handle(b *messaging.Bus) {
	stopAt := func(ctx context.Context, tx *messaging.Tx, point string) error {
		_, err := tx.ExecContext(ctx, `SELECT public.stop_at($1)`, point)
		return err
	}
	b.Preload("beta", func(ctx context.Context, tx *messaging.Tx, _ []messaging.Message) error {
		return stopAt(ctx, tx, "after the claim")
	})
	begun := 0
	messaging.Handle(b, nothing[happened])
	messaging.Handle(b, func(ctx context.Context, tx *messaging.Tx, m work) error {
		if err := deed(ctx, tx, m.body); err != nil {
			return err
		}
		if m.Do == "kill" {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		if begun++; begun == 2 {
			return stopAt(ctx, tx, "in mid-batch")
		}
		return stopAt(ctx, tx, "in the handler")
	})
}

// handleOutside notes the intent, asks the provider under a key that it knows
// again, and records what it said.
func handleOutside(b *messaging.Bus, provider string) {
	messaging.HandleOutside(b, func(ctx context.Context, m outside) (messaging.Record, error) {
		err := b.InTx(ctx, func(ctx context.Context, tx *messaging.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO public.intents (n) VALUES ($1) ON CONFLICT DO NOTHING`, m.N)
			return err
		})
		if err != nil {
			return nil, err
		}
		if err := call(ctx, fmt.Sprintf("%s/%d", provider, m.N)); err != nil {
			return nil, messaging.Later(50*time.Millisecond, err)
		}
		return func(ctx context.Context, tx *messaging.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO public.effects (who, n) VALUES ('direct', $1)`, m.N)
			return errors.Join(err, effect(ctx, tx, "queued", m.body))
		}, nil
	})
}

func call(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	if err := res.Body.Close(); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("provider: %s", res.Status)
	}
	return nil
}

// process is a victim at work.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	log   *lines
	ended chan struct{}
}

// lines is what a process says.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// launch starts the victim's process, which is killed at the latest when t ends.
func (v victim) launch(t testing.TB) *process {
	script, err := json.Marshal(v)
	if err != nil {
		t.Error(err)
		return nil
	}
	p := &process{cmd: exec.Command(os.Args[0]), log: &lines{}, ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), victimVariable+"="+string(script))
	p.cmd.Stderr = p.log
	stdin, err := p.cmd.StdinPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Errorf("start a victim: %v", err)
		return nil
	}
	p.stdin = stdin
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // it is killed: that is no news
	}()
	t.Cleanup(p.kill)
	return p
}

// gone reports whether the process has ended.
func (p *process) gone() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// kill kills the process as kill -9 does and returns when it is gone.
func (p *process) kill() {
	if p.gone() {
		return
	}
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// freeze stops the process and returns when it stands still.
func (p *process) freeze(t testing.TB) {
	pid := p.cmd.Process.Pid
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Errorf("freeze a victim: %v", err)
		return
	}
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(pid, &status, syscall.WUNTRACED, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || !status.Stopped() {
			t.Errorf("freeze a victim: %v, it is gone", err)
		}
		return
	}
}

// thaw lets a frozen process go on.
func (p *process) thaw(t testing.TB) {
	if err := syscall.Kill(p.cmd.Process.Pid, syscall.SIGCONT); err != nil {
		t.Errorf("let a victim go on: %v", err)
	}
}

// stopAt makes the functions that hold up a victim: at its point it waits for a
// lock that the test holds. trap is for triggers whose argument is the point.
const stopAt = `
	CREATE FUNCTION public.stop_at(point text) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF split_part(current_setting('application_name'), '/', 3) = point THEN
			PERFORM set_config('idle_in_transaction_session_timeout', '60s', true); -- it is the test who ends it
			PERFORM pg_advisory_xact_lock_shared(1, split_part(current_setting('application_name'), '/', 2)::integer);
		END IF;
	END $$;
	CREATE FUNCTION public.trap() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM public.stop_at(TG_ARGV[0]);
		RETURN coalesce(NEW, OLD);
	END $$;`

// trapBefore holds up the victims of point before the first row that they write
// by operation to table, for which condition (of a WHEN, or "") is true.
func (f *field) trapBefore(point, operation, table, condition string) {
	f.t.Helper()
	if condition != "" {
		condition = "WHEN (" + condition + ")"
	}
	f.exec(fmt.Sprintf(`CREATE TRIGGER %[1]q BEFORE %[2]s ON %[3]s FOR EACH ROW %[4]s EXECUTE FUNCTION public.trap('%[1]s')`, point, operation, table, condition))
}

// trapCommit holds up the victims of point when they have done everything and
// asked for the commit: that is when a deferred trigger runs.
func (f *field) trapCommit(point, operation, table, condition string) {
	f.t.Helper()
	if condition != "" {
		condition = "WHEN (" + condition + ")"
	}
	f.exec(fmt.Sprintf(`CREATE CONSTRAINT TRIGGER %[1]q AFTER %[2]s ON %[3]s DEFERRABLE INITIALLY DEFERRED FOR EACH ROW %[4]s EXECUTE FUNCTION public.trap('%[1]s')`,
		point, operation, table, condition))
}

// ending is what becomes of the transaction of a victim that dies at its point.
type ending string

const (
	goesOn ending = "goes on" // the server, which doesn't know, does what it was sent
	isCut  ending = "is cut"  // the server ends it
	isDone ending = "commits" // the process is frozen first: it never hears of the commit
)

// hold takes the lock that v will wait for. Release gives it back.
func (f *field) hold(v victim) (release func(), err error) {
	conn, err := f.raw.Connx(context.Background())
	if err != nil {
		return nil, err
	}
	if _, err := conn.ExecContext(context.Background(), `SELECT pg_advisory_lock(1, $1)`, v.Number); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return sync.OnceFunc(func() {
		_, err := conn.ExecContext(context.Background(), `SELECT pg_advisory_unlock(1, $1)`, v.Number)
		if err := errors.Join(err, conn.Close()); err != nil {
			f.t.Errorf("let victim %d go: %v", v.Number, err)
		}
	}), nil
}

// caught waits until v is held up and returns its server process; 0 when it never is.
func (f *field) caught(v victim) (pid int) {
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		err := f.raw.Get(&pid, `
			SELECT coalesce(min(pid), 0) FROM pg_locks
			WHERE locktype = 'advisory' AND classid = 1 AND objid = $1 AND NOT granted
			  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`, v.Number)
		if err != nil {
			f.t.Errorf("look for victim %d: %v", v.Number, err)
			return 0
		}
		if pid != 0 {
			return pid
		}
	}
	return 0
}

// strike starts v, kills it at its point and reports whether it got there. How
// says what becomes of the transaction that it was in.
func (f *field) strike(v victim, how ending) (hit bool) {
	release, err := f.hold(v)
	if err != nil {
		f.t.Errorf("lie in wait for victim %d: %v", v.Number, err)
		return false
	}
	defer release()
	p := v.launch(f.t)
	if p == nil {
		return false
	}
	defer p.kill()
	pid := f.caught(v)
	if pid == 0 {
		f.t.Logf("victim %d never came to the point %q; it said:\n%s", v.Number, v.Point, p.log)
		return false
	}
	switch how {
	case goesOn:
		p.kill()
	case isCut:
		p.kill()
		f.cut(pid)
	case isDone:
		p.freeze(f.t)
		release()
		f.awaitIdle(pid)
		p.kill()
	}
	return true
}

// cut ends a server process.
func (f *field) cut(pid int) {
	if _, err := f.raw.Exec(`SELECT pg_terminate_backend($1)`, pid); err != nil {
		f.t.Errorf("end server process %d: %v", pid, err)
	}
}

// awaitIdle waits until the server process has done what it was sent.
func (f *field) awaitIdle(pid int) {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		var active bool
		err := f.raw.Get(&active, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND state = 'active')`, pid)
		if err != nil {
			f.t.Errorf("look at server process %d: %v", pid, err)
			return
		}
		if !active {
			return
		}
	}
	f.t.Errorf("server process %d is still at work", pid)
}

// letGo waits until nothing of the victims is left on the server: a process of it
// may go on for a while with what it was sent.
func (f *field) letGo() {
	f.t.Helper()
	within(f.t, 30*time.Second, "the server to let the victims go", func() bool {
		return count(f.t, f.raw, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'victim/%'`) == 0
	})
}

// bury ends the leases of what victims that are gone had in hand.
func (f *field) bury(queue string) {
	f.t.Helper()
	f.letGo()
	f.exec(`UPDATE messaging.queue_` + queue + ` SET due = clock_timestamp() WHERE token IS NOT NULL AND dead_reason IS NULL`)
}
