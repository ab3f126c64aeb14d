package e2e

import (
	"context"
	"os/exec"
	"testing"

	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	tcnetwork "github.com/testcontainers/testcontainers-go/network"
)

// deadOwner is a process that has ended.
func deadOwner(t *testing.T) owner {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	o := thisOwner()
	o.pid, o.start = cmd.Process.Pid, startOf(cmd.Process.Pid)
	if o.gone() {
		t.Errorf("%s runs and counts as gone", o)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("what was killed ended well")
	}
	return o
}

func TestOwnersAreToldApart(t *testing.T) {
	t.Parallel()
	me := thisOwner()
	reused, elsewhere, dead := me, deadOwner(t), deadOwner(t)
	reused.start += "0"
	elsewhere.host = "elsewhere"
	for name, tt := range map[string]struct {
		owner owner
		gone  bool
	}{
		"this one":                    {me, false},
		"one that was killed":         {dead, true},
		"an earlier one of our id":    {reused, true},
		"one that is on another host": {elsewhere, false},
	} {
		read, known := parseOwner(tt.owner.String())
		if !known || read != tt.owner {
			t.Errorf("%s: %q is read as %+v, %v", name, tt.owner, read, known)
		}
		if got := read.gone(); got != tt.gone {
			t.Errorf("%s: gone %v, want %v", name, got, tt.gone)
		}
	}
	for _, s := range []string{"", "host", "host x 1", "host 1", "host 0 1", "host -1 1"} {
		if o, known := parseOwner(s); known {
			t.Errorf("%q is read as %+v, want nothing", s, o)
		}
	}
}

// TestDeadRunIsSwept leaves containers behind as a run does that is killed, and
// others as one does that lives. Where the backend isn't docker there is nothing
// to leave: of processes, see TestNothingOutlivesAKilledTest.
func TestDeadRunIsSwept(t *testing.T) {
	t.Parallel()
	chosen, err := decided()
	if err != nil {
		t.Fatal(err)
	}
	dead, living := deadOwner(t), thisOwner()
	if chosen.backend != "docker" {
		if !dead.gone() || living.gone() {
			t.Errorf("gone: %v and %v, want only the first", dead.gone(), living.gone())
		}
		return
	}
	e, err := opened()
	if err != nil {
		t.Fatal(err)
	}
	left := map[string]owner{leave(t, e, dead): dead, leave(t, e, living): living}
	if err := e.sweep(t.Context(), owner.gone); err != nil {
		t.Fatal(err)
	}
	for id, o := range left {
		if got, want := exists(t, e, id), o == living; got != want {
			t.Errorf("container of %s exists: %v, want %v", o, got, want)
		}
	}
	networks, err := e.client.NetworkList(t.Context(), client.NetworkListOptions{Filters: make(client.Filters).Add("label", ownerLabel+"="+dead.String())})
	if err != nil || len(networks.Items) > 0 {
		t.Errorf("%d networks of %s are left, %v", len(networks.Items), dead, err)
	}
}

// leave starts a container on a network of its own, as o's.
func leave(t *testing.T, e *engine, o owner) string {
	t.Helper()
	labels := map[string]string{ownerLabel: o.String()}
	n, err := tcnetwork.New(t.Context(), tcnetwork.WithLabels(labels))
	if err != nil {
		t.Fatal(err)
	}
	c, err := testcontainers.GenericContainer(t.Context(), testcontainers.GenericContainerRequest{
		ContainerRequest: testcontainers.ContainerRequest{Image: e.image, Entrypoint: []string{"/console"}, Labels: labels, Networks: []string{n.Name}},
		Started:          true,
	})
	if err != nil {
		t.Fatal(err)
	}
	id := c.GetContainerID()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), callLimit)
		defer cancel()
		if err := e.remove(ctx, id); err != nil {
			t.Error(err)
		}
		if _, err := e.client.NetworkRemove(ctx, n.ID, client.NetworkRemoveOptions{}); unlessNotFound(err) != nil {
			t.Error(err)
		}
	})
	return id
}

func exists(t *testing.T, e *engine, id string) bool {
	t.Helper()
	list, err := e.client.ContainerList(t.Context(), client.ContainerListOptions{All: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list.Items {
		if c.ID == id {
			return true
		}
	}
	return false
}
