package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"

	"example.com/orderflow/deployments/postgres"
)

// local is the Backend of plain processes: the programs as they are built, on
// loopback, beside a private PostgreSQL. With a database from elsewhere it is the
// backend external.
type local struct {
	name     string
	database localDatabase
	crew     *crew
	disk     string // a small one for the database's data, "" when there is none

	ports   ports
	mu      sync.Mutex
	running map[Process]*running
}

// running is one run of a program.
type running struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it is gone
	exit int           // readable then
}

func newLocal(ctx context.Context, smallDisk bool) (*local, error) {
	return newProcesses("local", func(l *local) (localDatabase, error) {
		cfg := postgres.Config{Temp: true, TempDir: scaled(postgres.MemoryDir(), "")} // at full length on the disk, as in production
		if smallDisk {
			if err := l.mountDisk(ctx); err != nil {
				return nil, err
			}
			// On a full disk it couldn't log.
			cfg = postgres.Config{Data: filepath.Join(l.disk, "data"), LogFile: l.logPath(Database), Settings: smallDiskSettings}
		}
		server, err := postgres.Start(ctx, cfg)
		return privateDatabase{server}, err
	})
}

func newProcesses(name string, open func(*local) (localDatabase, error)) (*local, error) {
	if _, err := built(); err != nil {
		return nil, err
	}
	c, err := newCrew("stack")
	if err != nil {
		return nil, err
	}
	l := &local{name: name, crew: c, running: map[Process]*running{}}
	if l.database, err = open(l); err != nil {
		return nil, errors.Join(err, l.dismiss())
	}
	return l, nil
}

func (l *local) Name() string { return l.name }

func (l *local) DSN(role, password string) string { return l.database.DSN(role, password) }

func (l *local) Peer(p Process) string { return l.Reach(p) }

func (l *local) Reach(p Process) string { return "http://" + l.ports.addr(p) }

func (l *local) TestHost(context.Context) (listen, name string, err error) {
	return "127.0.0.1", "127.0.0.1", nil
}

func (l *local) logPath(p Process) string { return filepath.Join(l.crew.dir, p.String()+".log") }

func (l *local) Start(ctx context.Context, p Process, env map[string]string) (string, error) {
	if p == Database {
		return l.startDatabase(ctx)
	}
	path, err := program(p.Service)
	if err != nil {
		return "", err
	}
	addr := l.ports.addr(p)
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
	l.note(p, cmd)
	return "http://" + addr, nil
}

// note notes p, which has just been started, and waits for its end.
func (l *local) note(p Process, cmd *exec.Cmd) {
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
	if p == Database {
		return 0, l.halt(ctx, "stop", postgres.Fast)
	}
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
	if p == Database {
		return l.halt(context.Background(), "kill", postgres.Killed)
	}
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

func (l *local) Pause(p Process) error {
	if p == Database {
		return l.toServer("pause", func(s *postgres.Server) error { return s.Freeze(context.Background()) })
	}
	return l.send(p, syscall.SIGSTOP)
}

func (l *local) Resume(p Process) error {
	if p == Database {
		return l.toServer("resume", func(s *postgres.Server) error { return s.Thaw(context.Background()) })
	}
	return l.send(p, syscall.SIGCONT)
}

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
	if p == Database {
		return l.databaseLog()
	}
	b, err := os.ReadFile(l.logPath(p))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (l *local) Close(ctx context.Context) error {
	return errors.Join(l.dismiss(), l.database.Stop(ctx), l.ports.release())
}

// dismiss ends the crew.
func (l *local) dismiss() error {
	err := l.crew.end()
	l.mu.Lock()
	defer l.mu.Unlock()
	for p, r := range l.running {
		<-r.done
		delete(l.running, p)
	}
	return err
}
