package httpapi

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/go-playground/validator/v10"
)

// filling makes a Go value from nodes and collects what is wrong with them.
type filling struct {
	errors  []FieldError
	settled map[string]bool // pointers about whose values all is said
}

// fill makes root the struct that into points to and returns all that is wrong,
// by form first, then by the rules of the struct's tags. It panics for a T that
// Decode can't make: a mistake of the program.
func fill(into any, root *node) []FieldError {
	f := &filling{settled: map[string]bool{}}
	v := reflect.ValueOf(into).Elem()
	if v.Kind() != reflect.Struct {
		panic(fmt.Sprintf("decode a %s: want a struct", v.Type()))
	}
	f.value(v, root, "")
	if root.kind == object {
		f.checkRules(into, v.Type().Name())
	}
	return f.errors
}

func (f *filling) add(at, code, detail string) {
	f.errors = append(f.errors, FieldError{Pointer: at, Code: code, Detail: detail})
	f.settled[at] = true
}

// value sets v to n, or adds what is wrong with n.
func (f *filling) value(v reflect.Value, n *node, at string) {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if f.is(n, text, at, "must be a string") && u.UnmarshalText([]byte(n.text)) != nil {
			f.add(at, "format", "is not of the form asked for")
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.value(v.Elem(), n, at)
	case reflect.String:
		if !f.is(n, text, at, "must be a string") {
			return
		}
		if !plainText(n.text) {
			f.add(at, "character", "contains a control, zero-width or text direction character")
			return
		}
		v.SetString(n.text)
	case reflect.Bool:
		if f.is(n, boolean, at, "must be true or false") {
			v.SetBool(n.truth)
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		f.integer(v, n, at)
	case reflect.Slice:
		if !f.is(n, array, at, "must be an array") {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(n.items), len(n.items)))
		for i, item := range n.items {
			f.value(v.Index(i), item, at+"/"+strconv.Itoa(i))
		}
	case reflect.Struct:
		if f.is(n, object, at, "must be an object") {
			f.members(v, n, at)
		}
	default:
		panic(fmt.Sprintf("decode a %s: not a type for bodies", v.Type()))
	}
}

// is adds an error unless n is of the kind wanted.
func (f *filling) is(n *node, want kind, at, detail string) bool {
	if n.kind != want {
		f.add(at, "type", detail)
	}
	return n.kind == want
}

// integer takes plain digits only: 1.0 and 1e3 are integers to some readers and
// not to others.
func (f *filling) integer(v reflect.Value, n *node, at string) {
	if !f.is(n, number, at, "must be an integer") {
		return
	}
	i, err := strconv.ParseInt(n.text, 10, v.Type().Bits())
	switch {
	case err == nil:
		v.SetInt(i)
	case !errors.Is(err, strconv.ErrRange):
		f.add(at, "integer", "must be an integer, written without fraction and exponent")
	case strings.HasPrefix(n.text, "-"):
		f.add(at, "min", "is too small")
	default:
		f.add(at, "max", "is too large")
	}
}

// members sets the fields of v to the members of n.
func (f *filling) members(v reflect.Value, n *node, at string) {
	t := v.Type()
	known := make([]bool, len(n.names))
	for i := range t.NumField() {
		name, ok := memberName(t.Field(i))
		if !ok {
			continue
		}
		below := child(at, name)
		tag := t.Field(i).Tag.Get("validate")
		required := slices.Contains(strings.Split(tag, ","), "required")
		m := slices.Index(n.names, name)
		if m >= 0 {
			known[m] = true
		}
		if m < 0 || n.items[m].kind == null {
			if required {
				f.add(below, "required", "is required")
			}
			continue
		}
		f.value(v.Field(i), n.items[m], below)
		if !required || f.settled[below] {
			continue
		}
		switch field := v.Field(i); {
		case field.Kind() == reflect.String && strings.TrimSpace(field.String()) == "":
			f.add(below, "required", "must not be blank")
		case field.CanInt() && field.Int() == 0, field.Kind() == reflect.Bool && !field.Bool():
			f.zero(field, tag, below)
		}
	}
	for m, name := range n.names {
		if !known[m] {
			f.errors = append(f.errors, FieldError{Pointer: child(at, name), Code: "unknown-member", Detail: "is not known here"})
		}
	}
}

// zero checks a 0 or false that was given: to validator it would be missing.
func (f *filling) zero(v reflect.Value, tag, at string) {
	left := slices.DeleteFunc(strings.Split(tag, ","), func(rule string) bool { return rule == "required" })
	var broken validator.ValidationErrors
	if errors.As(rules().Var(v.Interface(), strings.Join(left, ",")), &broken) {
		code, detail := describe(broken[0])
		f.add(at, code, detail)
	}
	f.settled[at] = true
}

// checkRules adds what breaks the rules of the tags, except where something is wrong
// already: the value there isn't the client's.
func (f *filling) checkRules(into any, root string) {
	var broken validator.ValidationErrors
	if !errors.As(rules().Struct(into), &broken) {
		return
	}
	for _, b := range broken {
		at := pointerOf(strings.TrimPrefix(b.Namespace(), root+"."))
		// Zero values left by errors further down look equal, or like nothing.
		if f.isSettled(at) || (b.Tag() == "unique" || b.Tag() == "required") && f.settledBelow(at) {
			continue
		}
		code, detail := describe(b)
		f.add(at, code, detail)
	}
}

// isSettled reports whether all is said about the value at a pointer or about
// one that it is part of.
func (f *filling) isSettled(at string) bool {
	for at != "" {
		if f.settled[at] {
			return true
		}
		at = at[:strings.LastIndexByte(at, '/')]
	}
	return false
}

// settledBelow reports whether all is said about a part of the value at a pointer.
func (f *filling) settledBelow(at string) bool {
	for other := range f.settled {
		if strings.HasPrefix(other, at+"/") {
			return true
		}
	}
	return false
}

// pointerOf makes "lines[0].sku", as validator names a field, "/lines/0/sku".
func pointerOf(namespace string) string {
	return "/" + strings.NewReplacer(".", "/", "[", "/", "]", "").Replace(namespace)
}

// memberName is the JSON name of a field; false for one that isn't part of a body.
func memberName(field reflect.StructField) (string, bool) {
	name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
	if !field.IsExported() || name == "-" {
		return "", false
	}
	if name == "" {
		panic(fmt.Sprintf("decode field %s: it needs a json tag with a name", field.Name))
	}
	return name, true
}
