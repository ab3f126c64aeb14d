package contracts_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

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
