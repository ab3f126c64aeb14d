package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/alecthomas/kong"
	"github.com/google/uuid"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/messagingtest"
)

func TestMain(m *testing.M) { messagingtest.Main(m) }

// newDB is a database with two queues, mine and yours, which hear the same event.
func newDB(t *testing.T) *messagingtest.DB {
	t.Helper()
	nothing := fstest.MapFS{"migrations/0001_nothing.sql": {Data: []byte("-- +goose Up\n")}}
	spec := func(name string) messaging.Spec {
		return messaging.Spec{Name: name, Queues: []messaging.Queue{{Name: name, Kinds: []string{"mine.happened"}}}, Migrations: nothing}
	}
	mine := spec("mine")
	mine.Speaks = []string{"mine.happened"}
	return messagingtest.NewDB(t, mine, spec("yours"))
}

func bury(t *testing.T, db *messagingtest.DB, queue, payload, reason string) (id string) {
	t.Helper()
	id = uuid.Must(uuid.NewV7()).String()
	_, err := db.Admin.Exec(`
		INSERT INTO messaging.queue_`+queue+` (message_id, kind, payload, attempts, dead_reason)
		VALUES ($1, 'mine.happened', $2, 8, $3)`, id, []byte(payload), reason)
	if err != nil {
		t.Fatalf("bury a message in queue %s: %v", queue, err)
	}
	return id
}

// shopctl runs a command line as main does and returns what it prints.
func shopctl(t *testing.T, db *messagingtest.DB, in string, args ...string) (out, told string, err error) {
	t.Helper()
	var o, e bytes.Buffer
	var c commands
	parser, err := kong.New(&c, append(options(t.Context(), streams{in: strings.NewReader(in), out: &o, err: &e}), kong.Exit(func(code int) {
		t.Errorf("shopctl %v ends with %d", args, code)
	}))...)
	if err != nil {
		t.Fatal(err)
	}
	k, err := parser.Parse(negatives(append(args, "--database-url", db.DSN(""))))
	if err != nil {
		return "", "", err
	}
	err = k.Run()
	return o.String(), e.String(), err
}

func TestDeadCommands(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	run := func(in string, args ...string) string {
		t.Helper()
		out, _, err := shopctl(t, db, in, append([]string{"dead"}, args...)...)
		if err != nil {
			t.Fatalf("shopctl dead %v: %v", args, err)
		}
		return out
	}
	want := func(out string, parts ...string) {
		t.Helper()
		for _, p := range parts {
			if !strings.Contains(out, p) {
				t.Errorf("got:\n%s\nwant in it: %q", out, p)
			}
		}
	}
	for _, command := range []string{"groups", "list"} {
		want(run("", command), "no dead letters")
	}
	first := bury(t, db, "mine", `{"name": "Ada"}`, "order 1 is\nunknown")
	second := bury(t, db, "mine", "{\x1b]0;forged\x07", "order 2 is unknown")
	third := bury(t, db, "yours", `{"a":"\u009b"}`, "broken")

	out := run("")
	want(out, "COUNT", "mine.happened", "order # is unknown", first, "broken", third)
	if lines := strings.Count(out, "\n"); lines != 3 {
		t.Errorf("groups: got %d lines, want a heading and two:\n%s", lines, out)
	}
	want(run("", "--limit", "1"), "and 1 more groups")
	var groups []messaging.DeadGroup
	if err := json.Unmarshal([]byte(run("", "--queue", "mine", "--json")), &groups); err != nil || len(groups) != 1 || groups[0].Count != 2 {
		t.Errorf("groups of queue mine as JSON: got %+v, %v; want one of two letters", groups, err)
	}

	out = run("", "list")
	want(out, first, second, third, "order 1 is unknown")
	if strings.Contains(out, "Ada") {
		t.Errorf("the list shows a payload:\n%s", out)
	}
	out = run("", "list", "--reason", "order # is unknown", "--limit", "1")
	want(out, first, "there are more: --after 'mine/1'")
	var page struct {
		Letters []messaging.DeadLetter
		Next    string
	}
	if err := json.Unmarshal([]byte(run("", "list", "--after", "mine/1", "--kind", "mine.happened", "--within", "1h", "--json")), &page); err != nil || len(page.Letters) != 2 || page.Letters[0].MessageID != second || page.Next != "" {
		t.Errorf("the second page as JSON: got %+v, %v; want the second and third letter", page, err)
	}

	want(run("", "show", first), first, "attempts       8", `"name": "Ada"`)
	for _, id := range []string{second, third} {
		if out := run("", "show", id); strings.ContainsAny(out, "\x1b\x07\u009b") {
			t.Errorf("what is shown commands the terminal: %q", out)
		}
	}
	if out := run("", "show", first, "--payload"); out != `{"name": "Ada"}` {
		t.Errorf("payload: got %q, want it byte by byte", out)
	}
	want(run("", "show", second, "--json"), `"payload_base64"`)
	want(run("", "show", first, "--json"), `"name": "Ada"`)

	file := filepath.Join(t.TempDir(), "payload.json")
	if err := os.WriteFile(file, []byte("{\"name\": \"Eve\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run("", "edit", first, "--file", file, "--why", "a typing error", "--actor", "Bob")
	run(`{"name": "Dan"}`, "edit", second, "--file", "-", "--schema-version", "2")
	want(run("", "show", first), `"name": "Eve"`)
	want(run("", "show", second), `"name": "Dan"`, "version        2")
	want(run("", "discard", third, "--reason", "not needed"), third+" discarded")

	out, told, err := shopctl(t, db, "", "dead", "retry", first, "--why", "mended")
	if err != nil || out != "1 handled again\n" || !strings.Contains(told, "1 of about 1") {
		t.Errorf("retry of one: got %q, %q, %v", out, told, err)
	}
	want(run("", "retry", "--reason", "unknown", "--rate", "0"), "1 handled again")
	want(run("", "retry", "--all"), "0 handled again")
	if n := living(t, db); n != 2 {
		t.Errorf("living messages: got %d, want 2", n)
	}

	out = run("", "actions")
	want(out, "dead.edit", "Bob", "a typing error", "dead.discard", "not needed", "dead.redrive", "mended", loggedIn())
	for _, secret := range []string{"Ada", "Eve", "Dan"} {
		if strings.Contains(out, secret) {
			t.Errorf("the record shows a payload:\n%s", out)
		}
	}
	var actions []messaging.Action
	if err := json.Unmarshal([]byte(run("", "actions", "--json", "--limit", "3")), &actions); err != nil || len(actions) != 3 || actions[0].Action != "dead.redrive" {
		t.Errorf("actions as JSON: got %+v, %v; want three", actions, err)
	}
}

func living(t *testing.T, db *messagingtest.DB) (n int) {
	t.Helper()
	if err := db.Admin.Get(&n, `SELECT count(*) FROM messaging.queue_mine WHERE dead_reason IS NULL`); err != nil {
		t.Fatal(err)
	}
	return n
}

// What is asked for wrongly changes nothing and says what is wrong.
func TestDeadCommandsThatAreRefused(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	id := bury(t, db, "mine", `{}`, "broken")
	if _, err := db.Admin.Exec(`INSERT INTO messaging.queue_yours (message_id, kind, payload, dead_reason) VALUES ($1, 'mine.happened', '{}', 'broken')`, id); err != nil {
		t.Fatal(err)
	}
	unknown := uuid.Must(uuid.NewV7()).String()
	for line, want := range map[string]string{
		"retry":                                 "--all",
		"retry --all --queue mine":              "--all",
		"retry --all " + id:                     "--all",
		"retry " + unknown:                      "no such dead letter",
		"retry --queue their":                   "no such queue",
		"retry --all --rate -1":                 "rate",
		"show " + unknown:                       "no such dead letter",
		"show 17":                               "17",
		"show " + id + " --payload":             "--queue",
		"edit " + id:                            "--file",
		"edit " + id + " --file -":              "name one",
		"edit " + id + " --file no.json":        "no.json",
		"edit " + id + " --queue mine --file -": "not JSON",
		"discard " + id:                         "--why",
		"discard " + id + " --why x":            "name one",
		"discard " + unknown + " --why x":       "no such dead letter",
		"list --after nowhere":                  "nowhere",
		"list --limit 0":                        "limit",
		"--order 17":                            "17",
	} {
		in := `{"a": 1}`
		if want == "not JSON" {
			in = `{"a": `
		}
		_, _, err := shopctl(t, db, in, append([]string{"dead"}, strings.Fields(line)...)...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("shopctl dead %s: got %v, want an error with %q", line, err, want)
		}
	}
	for _, what := range []string{`SELECT count(*) FROM messaging.actions`, `SELECT count(*) FROM messaging.queue_mine WHERE dead_reason IS NULL OR payload <> '{}'`} {
		var n int
		if err := db.Admin.Get(&n, what); err != nil || n != 0 {
			t.Errorf("%s: got %d, %v; want 0", what, n, err)
		}
	}
	large := fmt.Sprintf("%q", strings.Repeat("x", messaging.MaxPayload))
	_, _, err := shopctl(t, db, large, "dead", "edit", id, "--queue", "mine", "--file", "-")
	if err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("edit with a payload that is too large: got %v", err)
	}
}
