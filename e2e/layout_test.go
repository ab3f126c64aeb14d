package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "example.com/orderflow"

// listed is a package as "go list -json" shows it.
type listed struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// edges is what a package of this module may import of it.
type edges struct {
	code  []string
	tests []string // besides
}

// allowed is what the package at path ("orders", "services/demo") may import.
// The rules follow the tree, so that a fifth service needs no line here.
func allowed(path string) edges {
	parts := strings.Split(path, "/")
	last := parts[len(parts)-1]
	switch {
	case path == "messaging":
		return edges{tests: []string{"messaging", "messaging/messagingtest", "deployments/postgres"}}
	case path == "messaging/contracts":
		return edges{tests: []string{"messaging/contracts"}}
	case path == "messaging/httpapi":
		return edges{code: []string{"messaging"}, tests: []string{"messaging/httpapi"}}
	case path == "messaging/messagingtest":
		return edges{code: []string{"messaging", "deployments/postgres"}}
	case parts[0] == "deployments":
		return edges{tests: []string{path}}
	case path == "e2e":
		return edges{code: []string{"deployments/postgres"}, tests: []string{"messaging"}} // for the names of its crash points
	case path == "services/demo":
		return edges{code: []string{"*"}}
	case path == "services/shopctl":
		return edges{code: []string{"messaging", "services/internal/*"}, tests: []string{"messaging/messagingtest"}}
	case path == "services/internal/shop", path == "services/internal/bench": // lists all services; assembles the shop
		return edges{code: []string{"*"}}
	case path == "services/internal/verify": // reads what all services have written; tested with the whole shop
		return edges{code: []string{"messaging", "orders"}, tests: []string{"messaging/messagingtest", "services/internal/*"}}
	case path == "services/internal/paysim": // tested with its customer, payments
		return edges{code: []string{"messaging", "messaging/httpapi"}, tests: []string{path, "messaging/contracts", "messaging/messagingtest", "payments"}}
	case path == "services/internal/scenario": // customers' stories, over HTTP
		return edges{code: []string{"services/internal/client"}, tests: []string{path}}
	case path == "services/internal/simulation": // no code; its tests put all services together
		return edges{tests: []string{"*"}}
	case strings.HasPrefix(path, "services/internal/"):
		return edges{code: []string{"messaging", "messaging/httpapi"}, tests: []string{path}}
	case parts[0] == "services": // a service's program
		return edges{code: []string{last, "messaging", "services/internal/boot", "services/internal/" + last}}
	default: // a service
		return edges{
			code:  []string{"messaging", "messaging/contracts", "messaging/httpapi"},
			tests: []string{path, "messaging/messagingtest"},
		}
	}
}

// forbidden returns every import between the packages that isn't allowed.
func forbidden(packages []listed) []string {
	var found []string
	for _, p := range packages {
		path := strings.TrimPrefix(p.ImportPath, module+"/")
		may := allowed(path)
		check := func(imports []string, what string, patterns []string) {
			for _, i := range imports {
				to, ours := strings.CutPrefix(i, module+"/")
				if ours && !slices.ContainsFunc(patterns, func(pattern string) bool { return matches(pattern, to) }) {
					found = append(found, fmt.Sprintf("%s%s imports %s", path, what, to))
				}
			}
		}
		check(p.Imports, "", may.code)
		tests := append(slices.Clone(may.code), may.tests...)
		check(p.TestImports, "'s tests", tests)
		check(p.XTestImports, "'s tests", tests)
	}
	return found
}

func matches(pattern, path string) bool {
	prefix, open := strings.CutSuffix(pattern, "*")
	return path == pattern || open && strings.HasPrefix(path, prefix)
}

func TestServicesKnowEachOtherByMessagesOnly(t *testing.T) {
	t.Parallel()
	packages := listPackages(t)
	for _, want := range []string{"orders", "payments", "inventory", "notifications", "messaging", "services/demo"} {
		if !slices.ContainsFunc(packages, func(p listed) bool { return p.ImportPath == module+"/"+want }) {
			t.Errorf("package %s isn't listed", want)
		}
	}
	for _, f := range forbidden(packages) {
		t.Errorf("%s, which is not allowed: between services only messages cross", f)
	}
}

func listPackages(t *testing.T) []listed {
	t.Helper()
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	if err := lookAtSources(root); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		packages = append(packages, p)
	}
}

func TestForbiddenImportsAreFound(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, from, to string
		tests, want    bool
	}{
		{"service imports another", "orders", "payments", false, true},
		{"service's tests import another", "orders", "inventory", true, true},
		{"service imports contracts", "orders", "messaging/contracts", false, false},
		{"service imports the test harness", "payments", "messaging/messagingtest", false, true},
		{"service's tests import the test harness", "payments", "messaging/messagingtest", true, false},
		{"service imports a program's package", "notifications", "services/internal/boot", false, true},
		{"fifth service imports messaging", "loyalty", "messaging", false, false},
		{"fifth service imports orders", "loyalty", "orders", false, true},
		{"messaging imports contracts", "messaging", "messaging/contracts", false, true},
		{"messaging imports a service", "messaging", "orders", false, true},
		{"contracts imports messaging", "messaging/contracts", "messaging", false, true},
		{"HTTP layer imports contracts", "messaging/httpapi", "messaging/contracts", false, true},
		{"program imports its service", "services/orders", "orders", false, false},
		{"program imports another service", "services/orders", "payments", false, true},
		{"program imports all services", "services/orders", "services/internal/shop", false, true},
		{"boot imports a service", "services/internal/boot", "orders", false, true},
		{"simulation's code imports a service", "services/internal/simulation", "orders", false, true},
		{"simulation's tests import all", "services/internal/simulation", "orders", true, false},
		{"stories import the client", "services/internal/scenario", "services/internal/client", false, false},
		{"stories import a service", "services/internal/scenario", "orders", false, true},
		{"client imports contracts", "services/internal/client", "messaging/contracts", false, true},
		{"launcher imports messaging", "deployments/postgres", "messaging", false, true},
		{"demo imports all", "services/demo", "inventory", false, false},
		{"black box imports a service", "e2e", "orders", true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := listed{ImportPath: module + "/" + tt.from, Imports: []string{"fmt"}}
			if tt.tests {
				p.XTestImports = []string{module + "/" + tt.to}
			} else {
				p.Imports = append(p.Imports, module+"/"+tt.to)
			}
			if got := len(forbidden([]listed{p})) > 0; got != tt.want {
				t.Errorf("forbidden: %v, want %v", got, tt.want)
			}
		})
	}
}
