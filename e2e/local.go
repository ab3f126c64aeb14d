package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"example.com/orderflow/deployments/postgres"
)

// local is the Backend of plain processes: the programs as they are built, on
// loopback, beside a private PostgreSQL.
type local struct {
	server *postgres.Server
	crew   *crew

	mu      sync.Mutex
	ports   map[Process]int
	running map[Process]*running
}

// running is one run of a program.
type running struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it is gone
	exit int           // readable then
}

func newLocal(ctx context.Context) (_ *local, err error) {
	if _, err := built(); err != nil {
		return nil, err
	}
	c, err := newCrew("stack")
	if err != nil {
		return nil, err
	}
	server, err := postgres.Start(ctx, postgres.Config{Temp: true})
	if err != nil {
		return nil, errors.Join(err, c.end())
	}
	return &local{server: server, crew: c, ports: map[Process]int{}, running: map[Process]*running{}}, nil
}

func (l *local) Name() string { return "local" }

func (l *local) DSN(role, password string) string { return l.server.DSN(role, password, "") }

func (l *local) Peer(p Process) string { return "http://" + l.addr(p) }

// addr is where p serves. A port is chosen once, below those that the kernel
// gives to outgoing connections: one of them could sit on it during a restart.
func (l *local) addr(p Process) string {
	const lowest, highest = 15000, 32000
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.ports[p] == 0 {
		port := lowest + rand.IntN(highest-lowest)
		probe, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err == nil && probe.Close() == nil && !l.taken(port) {
			l.ports[p] = port
		}
	}
	return "127.0.0.1:" + strconv.Itoa(l.ports[p])
}

func (l *local) taken(port int) bool {
	for _, other := range l.ports {
		if other == port {
			return true
		}
	}
	return false
}

func (l *local) logPath(p Process) string { return filepath.Join(l.crew.dir, p.String()+".log") }

func (l *local) Start(ctx context.Context, p Process, env map[string]string) (string, error) {
	path, err := program(p.Service)
	if err != nil {
		return "", err
	}
	addr := l.addr(p)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running[p] != nil {
		return "", fmt.Errorf("start %s: it runs already", p)
	}
	log, err := os.OpenFile(l.logPath(p), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return "", fmt.Errorf("start %s: %w", p, err)
	}
	cmd := l.crew.command(context.WithoutCancel(ctx), path)
	cmd.Env = append(environment(env), "ADDR="+addr)
	cmd.Stdout, cmd.Stderr = log, log
	if err := errors.Join(cmd.Start(), log.Close()); err != nil {
		return "", fmt.Errorf("start %s: %w", p, err)
	}
	r := &running{cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		// How it ended is in ProcessState; an error says the same.
		if err := cmd.Wait(); cmd.ProcessState == nil {
			panic(fmt.Sprintf("wait for %s: %v", p, err))
		}
		r.exit = cmd.ProcessState.ExitCode()
	}()
	l.running[p] = r
	return "http://" + addr, nil
}

func (l *local) find(p Process) (*running, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.running[p]
	if r == nil {
		return nil, fmt.Errorf("%s was not started, or has been stopped", p)
	}
	return r, nil
}

func (l *local) forget(p Process) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.running, p)
}

func (l *local) Stop(ctx context.Context, p Process) (int, error) {
	r, err := l.find(p)
	if err != nil {
		return 0, err
	}
	if err := r.signal(syscall.SIGTERM); err != nil {
		return 0, fmt.Errorf("stop %s: %w", p, err)
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		return 0, fmt.Errorf("%s still runs after SIGTERM: %w", p, ctx.Err())
	}
	l.forget(p)
	return r.exit, nil
}

func (l *local) Kill(p Process) error {
	r, err := l.find(p)
	if err != nil {
		return err
	}
	if err := r.signal(syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill %s: %w", p, err)
	}
	<-r.done
	l.forget(p)
	return nil
}

func (l *local) Pause(p Process) error { return l.send(p, syscall.SIGSTOP) }

func (l *local) Resume(p Process) error { return l.send(p, syscall.SIGCONT) }

func (l *local) send(p Process, sig syscall.Signal) error {
	r, err := l.find(p)
	if err != nil {
		return err
	}
	if err := r.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("send %s to %s: %w", sig, p, err)
	}
	return nil
}

// signal is harmless to a process that has ended.
func (r *running) signal(sig syscall.Signal) error {
	if err := r.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

func (l *local) Logs(p Process) string {
	b, err := os.ReadFile(l.logPath(p))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (l *local) Close(ctx context.Context) error {
	err := l.crew.end()
	l.mu.Lock()
	defer l.mu.Unlock()
	for p, r := range l.running {
		<-r.done
		delete(l.running, p)
	}
	return errors.Join(err, l.server.Stop(ctx))
}
