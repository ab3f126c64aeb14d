package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// helperVariable makes the test binary a program that starts a crew and waits to
// be killed.
const helperVariable = "E2E_TEST_CREW"

// crewHelper is that program: it prints the crew's directory and the process ids
// of its shell and of a member.
func crewHelper() error {
	c, err := newCrew("helper")
	if err != nil {
		return err
	}
	member := c.command(context.Background(), "sleep", "600")
	if err := member.Start(); err != nil {
		return err
	}
	fmt.Println(c.dir, c.shell.Process.Pid, member.Process.Pid)
	return member.Wait()
}

func TestNothingOutlivesAKilledTest(t *testing.T) {
	t.Parallel()
	helper := exec.CommandContext(t.Context(), os.Args[0])
	helper.Env = append(os.Environ(), helperVariable+"=1")
	out, err := helper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := helper.Start(); err != nil {
		t.Fatal(err)
	}
	said, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the helper said %q: %v", said, err)
	}
	var dir string
	var shell, member int
	if _, err := fmt.Sscan(said, &dir, &shell, &member); err != nil {
		t.Fatalf("the helper said %q: %v", strings.TrimSpace(said), err)
	}
	if err := helper.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := helper.Wait(); !errors.As(err, &exit) {
		t.Fatalf("the helper ended with %v, want by SIGKILL", err)
	}
	eventually(t, 10*time.Second, func() error {
		for _, pid := range []int{shell, member} {
			if alive(pid) {
				return fmt.Errorf("process %d of the crew still runs", pid)
			}
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("the crew's directory %s is still there", dir)
		}
		return nil
	})
}
