package contracts_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/go-playground/validator/v10"

	"example.com/orderflow/messaging/contracts"
)

// A golden payload is what some process has written once, and some queue or log
// still holds. testdata has one for every version of a kind, <kind>.v<N>.json,
// with all its fields, and <kind>.v<N>.least.json without those that may be
// missing, if any may. What landed there is never edited: a change of what is
// written is the next version with a file of its own.
func TestGoldenPayloads(t *testing.T) {
	t.Parallel()
	for _, m := range contracts.All() {
		for _, p := range problems(os.DirFS("testdata"), m.Kind(), schemaVersion(m), reflect.TypeOf(m)) {
			t.Error(p)
		}
	}
}

func TestEveryGoldenPayloadHasAKind(t *testing.T) {
	t.Parallel()
	files, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatalf("read testdata: %v", err)
	}
	versions := map[string]int{}
	for _, m := range contracts.All() {
		versions[m.Kind()] = schemaVersion(m)
	}
	name := regexp.MustCompile(`^(.+)\.v([1-9][0-9]*)(\.least)?\.json$`)
	for _, f := range files {
		found := name.FindStringSubmatch(f.Name())
		if found == nil {
			t.Errorf("testdata/%s: want <kind>.v<version>.json or <kind>.v<version>.least.json", f.Name())
			continue
		}
		if version, err := strconv.Atoi(found[2]); err != nil || version > versions[found[1]] {
			t.Errorf("testdata/%s: no such version of a kind", f.Name())
		}
	}
}

// schemaVersion is the version in which m is written.
func schemaVersion(m any) int {
	if v, ok := m.(interface{ SchemaVersion() int }); ok {
		return v.SchemaVersion()
	}
	return 1
}

// problems are what is wrong between body, the type of kind in its newest
// version, and the golden payloads in files.
func problems(files fs.FS, kind string, version int, body reflect.Type) []string {
	var found []string
	report := func(file, format string, args ...any) {
		found = append(found, fmt.Sprintf("%s: "+format, append([]any{file}, args...)...))
	}
	all, optional := fields(body)
	for v := 1; v <= version; v++ {
		full := fmt.Sprintf("%s.v%d.json", kind, v)
		golden, err := fs.ReadFile(files, full)
		if err != nil {
			report(full, "every version has a golden payload, all fields filled: %v", err)
			continue
		}
		least := fmt.Sprintf("%s.v%d.least.json", kind, v)
		without, err := fs.ReadFile(files, least)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			report(least, "%v", err)
		}
		if v == version {
			if diff := difference(all, written(value(golden))); diff != "" {
				report(full, "what is written has changed since (%s): raise SchemaVersion and add %s.v%d.json", diff, kind, v+1)
			}
			want := maps.Clone(all)
			for path := range optional {
				delete(want, path)
			}
			if without == nil && len(optional) > 0 {
				report(least, "fields may be missing: this golden payload is to be without %s", strings.Join(slices.Sorted(maps.Keys(optional)), ", "))
			} else if without != nil {
				if diff := difference(want, written(value(without))); diff != "" {
					report(least, "what may be missing has changed since (%s): raise SchemaVersion and add %s.v%d.least.json", diff, kind, v+1)
				}
			}
		}
		for file, payload := range map[string][]byte{full: golden, least: without} {
			if payload == nil {
				continue
			}
			if err := readable(payload, body, v == version); err != nil {
				report(file, "what was written once can't be read any more: %v", err)
			}
		}
	}
	return found
}

// readable returns why payload is no valid body, or isn't kept as it is when it
// is written again: exactly, or with what was added since.
func readable(payload []byte, body reflect.Type, exactly bool) error {
	now, _ := fields(body)
	for path, kind := range written(value(payload)) {
		if now[path] != kind {
			return fmt.Errorf("%s is written as %s, the type has %q", path, kind, now[path])
		}
	}
	read := reflect.New(body)
	d := json.NewDecoder(bytes.NewReader(payload))
	d.DisallowUnknownFields()
	if err := d.Decode(read.Interface()); err != nil {
		return err
	}
	if d.More() {
		return errors.New("something follows the payload")
	}
	if err := validator.New(validator.WithRequiredStructEnabled()).Struct(read.Interface()); err != nil {
		return err
	}
	again, err := json.Marshal(read.Interface())
	if err != nil {
		return err
	}
	if was, is := value(payload), value(again); exactly && !reflect.DeepEqual(was, is) || !keeps(is, was) {
		return fmt.Errorf("it is written again as %s", again)
	}
	return nil
}

// value is what JSON means, numbers as written; nil if it is none.
func value(body []byte) any {
	var v any
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return nil
	}
	return v
}

// keeps reports whether is has everything that was has.
func keeps(is, was any) bool {
	switch was := was.(type) {
	case map[string]any:
		is, ok := is.(map[string]any)
		for k, v := range was {
			ok = ok && keeps(is[k], v)
		}
		return ok
	case []any:
		is, ok := is.([]any)
		ok = ok && len(is) == len(was)
		for i := 0; ok && i < len(was); i++ {
			ok = keeps(is[i], was[i])
		}
		return ok
	}
	return is == was
}

// fields are the paths in the JSON of a type, each with what stands there
// (string, time, integer, number, boolean), and those of them that may be missing.
func fields(body reflect.Type) (all map[string]string, optional map[string]bool) {
	all, optional = map[string]string{}, map[string]bool{}
	var walk func(reflect.Type, string, bool)
	walk = func(t reflect.Type, path string, may bool) {
		switch k := t.Kind(); {
		case k == reflect.Pointer:
			walk(t.Elem(), path, may)
			return
		case k == reflect.Slice:
			walk(t.Elem(), path+"[]", may)
			return
		case k == reflect.Struct && t != reflect.TypeFor[time.Time]():
			for i := range t.NumField() {
				name, options, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
				if t.Field(i).Anonymous && name == "" {
					walk(t.Field(i).Type, path, may)
					continue
				}
				walk(t.Field(i).Type, path+"."+name, may || strings.Contains(options, "omit"))
			}
			return
		case t == reflect.TypeFor[time.Time]():
			all[path] = "time"
		case k == reflect.String:
			all[path] = "string"
		case k == reflect.Bool:
			all[path] = "boolean"
		case k >= reflect.Int && k <= reflect.Uint64:
			all[path] = "integer"
		case k == reflect.Float32, k == reflect.Float64:
			all[path] = "number"
		default:
			all[path] = "a " + k.String() + ", which contracts have no use for"
		}
		if may {
			optional[path] = true
		}
	}
	walk(body, "", false)
	return all, optional
}

// written are the paths in a payload with what stands there.
func written(v any) map[string]string {
	all := map[string]string{}
	var walk func(any, string)
	walk = func(v any, path string) {
		switch v := v.(type) {
		case map[string]any:
			for name, field := range v {
				walk(field, path+"."+name)
			}
		case []any:
			for _, element := range v {
				walk(element, path+"[]")
			}
		case string:
			all[path] = "string"
			if _, err := time.Parse(time.RFC3339Nano, v); err == nil {
				all[path] = "time"
			}
		case json.Number:
			all[path] = "integer"
			if strings.ContainsAny(v.String(), ".eE") {
				all[path] = "number"
			}
		case bool:
			all[path] = "boolean"
		default:
			all[path] = fmt.Sprint(v)
		}
	}
	walk(v, "")
	return all
}

// difference tells what the fields of a type and of a payload don't share.
func difference(typed, written map[string]string) string {
	var list []string
	for path, kind := range typed {
		if written[path] != kind {
			list = append(list, fmt.Sprintf("the type has %s %s, the file %q", kind, path, written[path]))
		}
	}
	for path := range written {
		if typed[path] == "" {
			list = append(list, "the file has "+path+", the type has not")
		}
	}
	slices.Sort(list)
	return strings.Join(list, "; ")
}

// Every way of breaking a contract is found, and the right way of changing one isn't taken for that.
func TestBreakingChangesAreFound(t *testing.T) {
	t.Parallel()
	type first struct {
		ID    string    `json:"id" validate:"required"`
		Count int       `json:"count" validate:"min=1"`
		At    time.Time `json:"at" validate:"required"`
		Note  string    `json:"note,omitempty"`
	}
	landed := map[string]string{
		"v1.json":       `{"id": "a", "count": 3, "at": "2025-07-18T09:30:12Z", "note": "hello"}`,
		"v1.least.json": `{"id": "a", "count": 3, "at": "2025-07-18T09:30:12Z"}`,
	}
	for _, tt := range []struct {
		name    string
		version int
		body    any
		added   map[string]string // golden payloads
		want    string            // part of a problem, "" = there is none
	}{
		{"nothing changed", 1, first{}, nil, ""},
		{"field added under the same version", 1, struct {
			first
			New string `json:"new"`
		}{}, nil, "raise SchemaVersion"},
		{"optional field added under the same version", 1, struct {
			first
			New string `json:"new,omitempty"`
		}{}, nil, "raise SchemaVersion"},
		{"version raised without a golden payload", 2, first{}, nil, "every version has a golden payload"},
		{"field added in a new version", 2, struct {
			first
			New string `json:"new"`
		}{}, map[string]string{
			"v2.json":       `{"id": "a", "count": 3, "at": "2025-07-18T09:30:12Z", "note": "hello", "new": "b"}`,
			"v2.least.json": `{"id": "a", "count": 3, "at": "2025-07-18T09:30:12Z", "new": "b"}`,
		}, ""},
		{"required field added in a new version", 2, struct {
			first
			New string `json:"new" validate:"required"`
		}{}, map[string]string{
			"v2.json":       `{"id": "a", "count": 3, "at": "2025-07-18T09:30:12Z", "note": "hello", "new": "b"}`,
			"v2.least.json": `{"id": "a", "count": 3, "at": "2025-07-18T09:30:12Z", "new": "b"}`,
		}, "v1.json: what was written once can't be read"},
		{"field removed in a new version", 2, struct {
			ID    string `json:"id" validate:"required"`
			Count int    `json:"count" validate:"min=1"`
		}{}, map[string]string{"v2.json": `{"id": "a", "count": 3}`}, "v1.json: what was written once can't be read"},
		{"field renamed", 1, struct {
			ID    string    `json:"id" validate:"required"`
			Total int       `json:"total"`
			At    time.Time `json:"at" validate:"required"`
			Note  string    `json:"note,omitempty"`
		}{}, nil, "can't be read"},
		{"number retyped to a text", 1, struct {
			ID    string    `json:"id" validate:"required"`
			Count string    `json:"count"`
			At    time.Time `json:"at" validate:"required"`
			Note  string    `json:"note,omitempty"`
		}{}, nil, "can't be read"},
		{"integer retyped to any number", 1, struct {
			ID    string    `json:"id" validate:"required"`
			Count float64   `json:"count"`
			At    time.Time `json:"at" validate:"required"`
			Note  string    `json:"note,omitempty"`
		}{}, nil, "can't be read"},
		{"time retyped to a text", 1, struct {
			ID    string `json:"id" validate:"required"`
			Count int    `json:"count" validate:"min=1"`
			At    string `json:"at"`
			Note  string `json:"note,omitempty"`
		}{}, nil, "can't be read"},
		{"rule made stricter", 1, struct {
			ID    string    `json:"id" validate:"required"`
			Count int       `json:"count" validate:"min=4"`
			At    time.Time `json:"at" validate:"required"`
			Note  string    `json:"note,omitempty"`
		}{}, nil, "can't be read"},
		{"optional field made required", 2, struct {
			ID    string    `json:"id" validate:"required"`
			Count int       `json:"count" validate:"min=1"`
			At    time.Time `json:"at" validate:"required"`
			Note  string    `json:"note" validate:"required"`
		}{}, map[string]string{"v2.json": landed["v1.json"]}, "v1.least.json: what was written once can't be read"},
		{"optional field always written", 1, struct {
			ID    string    `json:"id" validate:"required"`
			Count int       `json:"count" validate:"min=1"`
			At    time.Time `json:"at" validate:"required"`
			Note  string    `json:"note"`
		}{}, nil, "what may be missing has changed"},
		{"field made optional", 1, struct {
			ID    string    `json:"id,omitempty"`
			Count int       `json:"count" validate:"min=1"`
			At    time.Time `json:"at" validate:"required"`
			Note  string    `json:"note,omitempty"`
		}{}, nil, "what may be missing has changed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			files := fstest.MapFS{}
			for _, some := range []map[string]string{landed, tt.added} {
				for name, payload := range some {
					files["test.kind."+name] = &fstest.MapFile{Data: []byte(payload)}
				}
			}
			found := problems(files, "test.kind", tt.version, reflect.TypeOf(tt.body))
			if tt.want == "" && len(found) > 0 {
				t.Errorf("problems: got %q, want none", found)
			}
			if tt.want != "" && !slices.ContainsFunc(found, func(p string) bool { return strings.Contains(p, tt.want) }) {
				t.Errorf("problems: got %q, want one that says %q", found, tt.want)
			}
		})
	}
}
