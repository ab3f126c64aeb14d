package postgres

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// dockerLimit is how long Docker has to answer that it is there.
const dockerLimit = 2 * time.Second

// docker is Docker's command-line client. It knows the user's contexts, sockets
// and keys to registries, which the API alone doesn't tell.
type docker struct {
	path string
	env  []string
}

// findDocker returns a client whose daemon answers within dockerLimit and runs
// containers on this machine, else an unavailableError. env is added to the
// environment.
func findDocker(ctx context.Context, env []string) (docker, error) {
	path, err := exec.LookPath("docker")
	if err != nil {
		return docker{}, unavailable("there is no command docker")
	}
	d := docker{path: path, env: append(os.Environ(), env...)}
	ctx, cancel := context.WithTimeoutCause(ctx, dockerLimit, fmt.Errorf("no answer within %s", dockerLimit))
	defer cancel()
	system, err := d.run(ctx, "version", "--format", "{{.Server.Os}}")
	if err != nil {
		return docker{}, unavailable("it can't be used: %v", err)
	}
	if system != "linux" {
		return docker{}, unavailable("it runs containers of %s, not of linux", system)
	}
	at, err := d.run(ctx, "context", "inspect", "--format", "{{.Endpoints.docker.Host}}")
	if err != nil {
		return docker{}, unavailable("it can't be used: %v", err)
	}
	if !onThisMachine(at) {
		return docker{}, unavailable("it runs on another machine, at %s, whose ports aren't ours", at)
	}
	return d, nil
}

// onThisMachine tells whether a daemon's address ("unix:///var/run/docker.sock")
// is of this machine: 127.0.0.1 is where a container's port is opened.
func onThisMachine(at string) bool {
	u, err := url.Parse(at)
	if err != nil {
		return false
	}
	switch u.Scheme {
	case "unix":
		return true
	case "tcp", "http", "https":
		ip := net.ParseIP(u.Hostname())
		return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	}
	return false
}

// command prepares a call in a session of its own, which Ctrl-C doesn't reach.
func (d docker) command(ctx context.Context, args ...string) *exec.Cmd {
	return d.session(ctx, d.path, args...)
}

func (d docker) session(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = "/"
	cmd.Env = d.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.WaitDelay = 500 * time.Millisecond // for helpers of the client that hold its output
	return cmd
}

// run makes a call and returns what it prints, without the space around it.
func (d docker) run(ctx context.Context, args ...string) (string, error) {
	return said(ctx, d.command(ctx, args...), "docker "+args[0])
}

// said runs cmd and returns what it prints, unless that goes elsewhere. An error
// has the reason that cmd gives.
func said(ctx context.Context, cmd *exec.Cmd, what string) (string, error) {
	var out, complaints bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &out
	}
	cmd.Stderr = &complaints
	err := cmd.Run()
	if err == nil {
		return strings.TrimSpace(out.String()), nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return "", fmt.Errorf("%s: %w", what, cause)
	}
	lines := strings.Split(strings.TrimSpace(complaints.String()), "\n")
	for _, l := range lines { // what comes after the reason is help on how to use docker
		if reason, ok := strings.CutPrefix(l, "Error response from daemon: "); ok {
			return "", fmt.Errorf("%s: %s", what, reason)
		}
	}
	if lines[0] != "" {
		return "", fmt.Errorf("%s: %s", what, lines[0])
	}
	return "", fmt.Errorf("%s: %w", what, err)
}

// haveImage sees to it that the image is there: it is pulled if it isn't, which
// is reported to progress. One that can't be had is an unavailableError.
func (d docker) haveImage(ctx context.Context, image string, progress io.Writer) error {
	if _, err := d.run(ctx, "image", "inspect", "--format", "{{.Id}}", image); err == nil {
		return nil
	} else if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	report(progress, "pulling Docker's image %s", image)
	cmd := d.command(ctx, "pull", image)
	r, w := io.Pipe()
	cmd.Stdout = w
	reading := make(chan error, 1)
	go func() { reading <- pulled(r, image, progress) }()
	_, err := said(ctx, cmd, "docker pull "+image)
	err = errors.Join(err, w.Close(), <-reading)
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("pull Docker's image %s: %w", image, cause)
	}
	if err != nil {
		return unavailable("image %s is not there and can't be pulled: %v", image, err)
	}
	return nil
}

// pulled reports each layer that has arrived. It reads to the end.
func pulled(r io.Reader, image string, progress io.Writer) error {
	layers, done := 0, 0
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		switch _, state, _ := strings.Cut(lines.Text(), ": "); state {
		case "Pulling fs layer":
			layers++
		case "Pull complete":
			done++
			report(progress, "image %s: %d of %d layers", image, done, layers)
		}
	}
	_, err := io.Copy(io.Discard, r) // after a line too long to be one of Docker's
	return errors.Join(lines.Err(), err)
}
