package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// contender is what others would take. Of the settings tried these were good for
// burst and latency together; each has one configuration for both, as chain has.
type contender struct {
	name, title, settings string
	atOnce                int // orders being placed at once in the burst
}

var contenders = []contender{
	{"stock", "watermill-sql v3 + forwarder", "a process of its own, polling every 10 ms (the default of 1 s takes seconds per order), outbox through components/forwarder as documented", 8},
	{"river", "River v0.51", "a process of its own, 200 workers, 48 connections, fetch cooldown 5 ms and poll 1 s (with the default cooldown of 100 ms an order takes some 200 ms more at a low rate)", 8},
	{"dbos", "DBOS v0.6", "a process of its own, one workflow of five steps per order, no messages, 32 workflows at once in the burst, 40 connections", 32},
}

// prepareContenders builds the program that runs the contenders asked for, and
// returns their cases and what removes it.
func (r *run) prepareContenders(ctx context.Context) (cases []aCase, done func() error, err error) {
	nothing := func() error { return nil }
	var wanted []contender
	for _, c := range contenders {
		if r.wants(c.name) {
			wanted = append(wanted, c)
		}
	}
	if len(wanted) == 0 {
		return nil, nothing, nil
	}
	r.tell("building the contenders (a Go module of their own; its first build takes longest)")
	dir, err := os.MkdirTemp("", "orderflow-bench-")
	if err != nil {
		return nil, nothing, fmt.Errorf("a place for the contenders: %w", err)
	}
	done = func() error { return os.RemoveAll(dir) }
	program := filepath.Join(dir, "contenders")
	if err := buildContenders(ctx, program); err != nil {
		return nil, nothing, errors.Join(err, done())
	}
	for _, c := range wanted {
		cases = append(cases, aCase{
			name: c.name, title: c.title, settings: c.settings, load: r.load(2000, 400), books: shopBooks,
			newBase: func(ctx context.Context) (*base, error) { return r.stand.newShopBase(ctx, c.name) },
			start: func(ctx context.Context, b *base) (system, error) {
				p, err := startRival(ctx, b, program, c)
				if err != nil {
					return nil, err
				}
				return p, nil
			},
			check: func(ctx context.Context, b *base, placed int) error { return checkRows(ctx, b.db, placed) },
		})
	}
	return cases, done, nil
}

// buildContenders builds their module, which lies beside this package.
func buildContenders(ctx context.Context, program string) error {
	const here = "example.com/orderflow/services/internal/bench"
	dir, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", here).Output()
	if err != nil {
		return fmt.Errorf("find the contenders' module (the go command must be run inside a checkout): %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-C", filepath.Join(strings.TrimSpace(string(dir)), "contenders"), "-o", program, ".")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the contenders: %w: %s", err, out)
	}
	return nil
}

// rival is a contender at work in a process of its own. Orders are told to it
// line by line, and it tells line by line which are stored.
type rival struct {
	atOnce int
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stderr strings.Builder
	read   chan error // how the reading of its lines ended

	mu      sync.Mutex
	waiting map[string]chan error // orders that it has been told and hasn't answered
	ended   error
}

// startRival starts it on b's database and waits until it is ready.
func startRival(ctx context.Context, b *base, program string, c contender) (_ *rival, err error) {
	if err := b.settle(ctx); err != nil {
		return nil, err
	}
	p := &rival{atOnce: c.atOnce, waiting: map[string]chan error{}, read: make(chan error, 1)}
	p.cmd = exec.Command(program, c.name)
	p.cmd.Env = append(os.Environ(), "DATABASE_URL="+b.dsn(""))
	p.cmd.Stderr = &p.stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	ready := make(chan struct{})
	go func() { p.read <- p.listen(stdout, ready) }()
	select {
	case <-ready:
		return p, nil
	case <-time.After(time.Minute):
		err = errors.New("not ready after a minute")
	case err = <-p.read:
		p.read <- err
		err = errors.Join(errors.New("ended before it was ready"), err)
	case <-ctx.Done():
		err = ctx.Err()
	}
	return nil, errors.Join(err, p.stop(ctx))
}

// listen reads what the process says until it says no more.
func (p *rival) listen(out io.Reader, ready chan<- struct{}) error {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case "ready":
			close(ready)
		case "placed":
			p.answer(rest, nil)
		case "failed":
			id, why, _ := strings.Cut(rest, ": ")
			p.answer(id, errors.New(why))
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = errors.Join(errors.New("the process has ended"), lines.Err())
	for id, c := range p.waiting {
		c <- p.ended
		delete(p.waiting, id)
	}
	return lines.Err()
}

func (p *rival) answer(id string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, ok := p.waiting[id]; ok {
		c <- err
		delete(p.waiting, id)
	}
}

func (p *rival) place(ctx context.Context) (string, error) {
	o := newOrder()
	id := strconv.FormatInt(o.ID, 10)
	answered := make(chan error, 1)
	if err := p.tell(id, fmt.Sprintf("%s %s %s\n", id, o.Items[0].SKU, o.Items[1].SKU), answered); err != nil {
		return "", fmt.Errorf("place order %s: %w", id, err)
	}
	select {
	case err := <-answered:
		if err != nil {
			return "", fmt.Errorf("place order %s: %w", id, err)
		}
		return id, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (p *rival) tell(id, line string, answered chan error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended != nil {
		return p.ended
	}
	p.waiting[id] = answered
	_, err := io.WriteString(p.stdin, line)
	return err
}

func (p *rival) clients() int { return p.atOnce }

func (p *rival) pids() []int { return []int{p.cmd.Process.Pid} }

// stop has the process end by itself; after 20 s it is killed.
func (p *rival) stop(context.Context) error {
	err := p.stdin.Close()
	kill := time.AfterFunc(20*time.Second, func() {
		if kerr := p.cmd.Process.Kill(); kerr != nil && !errors.Is(kerr, os.ErrProcessDone) {
			p.mu.Lock()
			p.ended = errors.Join(p.ended, kerr)
			p.mu.Unlock()
		}
	})
	defer kill.Stop()
	err = errors.Join(err, <-p.read)
	if werr := p.cmd.Wait(); werr != nil {
		err = errors.Join(err, fmt.Errorf("ended: %w: %s", werr, strings.TrimSpace(p.stderr.String())))
	}
	return err
}
