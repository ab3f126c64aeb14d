package contracts_test

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/go-playground/validator/v10"

	"example.com/orderflow/messaging/contracts"
)

var kindForm = regexp.MustCompile(`^[a-z]+\.[a-z0-9]+(_[a-z0-9]+)*$`)

func TestKindsAreUniqueAndOfOneForm(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, m := range contracts.All() {
		if !kindForm.MatchString(m.Kind()) {
			t.Errorf("kind %q of %T: want <owner>.<snake_name>", m.Kind(), m)
		}
		if seen[m.Kind()] {
			t.Errorf("kind %q stands twice in All", m.Kind())
		}
		seen[m.Kind()] = true
	}
}

// A golden payload is what some process has written once: it must be readable by
// today's type, be valid, and be what today's type writes.
func TestGoldenPayloads(t *testing.T) {
	t.Parallel()
	validate := validator.New(validator.WithRequiredStructEnabled())
	for _, m := range contracts.All() {
		t.Run(m.Kind(), func(t *testing.T) {
			t.Parallel()
			golden, err := os.ReadFile(filepath.Join("testdata", m.Kind()+".json"))
			if err != nil {
				t.Fatalf("read the golden payload: %v", err)
			}
			body := reflect.New(reflect.TypeOf(m))
			d := json.NewDecoder(bytes.NewReader(golden))
			d.DisallowUnknownFields()
			if err := d.Decode(body.Interface()); err != nil {
				t.Fatalf("decode the golden payload: %v", err)
			}
			if d.More() {
				t.Error("something follows the golden payload")
			}
			if err := validate.Struct(body.Interface()); err != nil {
				t.Errorf("the golden payload is not valid: %v", err)
			}
			again, err := json.Marshal(body.Interface())
			if err != nil {
				t.Fatalf("encode again: %v", err)
			}
			if want, got := value(t, golden), value(t, again); !reflect.DeepEqual(got, want) {
				t.Errorf("got %s, want %s", again, golden)
			}
		})
	}
}

// value is what JSON means, numbers as written.
func value(t *testing.T, body []byte) any {
	t.Helper()
	var v any
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("decode %s: %v", body, err)
	}
	return v
}

func TestEveryGoldenPayloadHasAKind(t *testing.T) {
	t.Parallel()
	files, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatalf("read testdata: %v", err)
	}
	known := map[string]bool{}
	for _, m := range contracts.All() {
		known[m.Kind()+".json"] = true
	}
	for _, f := range files {
		if !known[f.Name()] {
			t.Errorf("testdata/%s: no such kind", f.Name())
		}
	}
}

// Whoever writes a message and forgets All, or puts it into another owner's
// file, is told here.
func TestAllKnowsEveryMessageOfThePackage(t *testing.T) {
	t.Parallel()
	all := map[string]string{}
	for _, m := range contracts.All() {
		all[reflect.TypeOf(m).Name()] = m.Kind()
	}
	for name, file := range messages(t) {
		kind, ok := all[name]
		if !ok {
			t.Errorf("%s has a method Kind and is missing in All", name)
		} else if owner, _, _ := strings.Cut(kind, "."); owner+".go" != file {
			t.Errorf("%s of kind %s stands in %s, want %s.go", name, kind, file, owner)
		}
		delete(all, name)
	}
	for name := range all {
		t.Errorf("%s stands in All and was not found in the sources", name)
	}
}

// messages is the file of every exported type of the package with a method Kind.
func messages(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatalf("list the sources: %v", err)
	}
	found := map[string]string{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatalf("parse %s: %v", file, err)
		}
		for _, d := range source.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv == nil || f.Name.Name != "Kind" {
				continue
			}
			receiver := f.Recv.List[0].Type
			if pointer, ok := receiver.(*ast.StarExpr); ok {
				receiver = pointer.X
			}
			if name, ok := receiver.(*ast.Ident); ok && name.IsExported() {
				found[name.Name] = file
			}
		}
	}
	return found
}
