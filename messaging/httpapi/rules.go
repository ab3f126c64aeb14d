package httpapi

import (
	"reflect"
	"regexp"
	"strings"
	"sync"

	"github.com/go-playground/validator/v10"
)

// skuForm is what a SKU looks like: "MUG-BLUE-01".
var skuForm = regexp.MustCompile(`^[A-Z0-9]+(-[A-Z0-9]+)*$`)

// maxSKU is the most characters that a SKU has.
const maxSKU = 40

// rules is the one validator of the process: it caches what it learns of types.
var rules = sync.OnceValue(func() *validator.Validate {
	v := validator.New(validator.WithRequiredStructEnabled())
	v.RegisterTagNameFunc(func(field reflect.StructField) string {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		return name
	})
	for tag, rule := range map[string]func(string) bool{
		"sku": func(s string) bool { return len(s) <= maxSKU && skuForm.MatchString(s) },
		// ISO 4217 also lists metals, funds and tests, which nobody pays with.
		"currency": func(s string) bool { return v.Var(s, "iso4217") == nil && !strings.HasPrefix(s, "X") || payableX[s] },
	} {
		if err := v.RegisterValidation(tag, func(f validator.FieldLevel) bool { return rule(f.Field().String()) }); err != nil {
			panic(err) // a tag that validator reserves
		}
	}
	return v
})

// payableX are the currencies of several countries: legal tender whose code
// begins with X.
var payableX = map[string]bool{"XAF": true, "XCD": true, "XCG": true, "XOF": true, "XPF": true}

// describe is the code and the detail for a broken rule. Neither says what the
// value is.
func describe(b validator.FieldError) (code, detail string) {
	unit := ""
	switch b.Kind() {
	case reflect.String:
		unit = " characters"
	case reflect.Slice:
		unit = " items"
	}
	switch b.Tag() {
	case "required":
		return "required", "is required"
	case "min", "gte":
		return "min", "must be at least " + b.Param() + unit
	case "max", "lte":
		return "max", "must be at most " + b.Param() + unit
	case "gt":
		return "min", "must be more than " + b.Param() + unit
	case "lt":
		return "max", "must be less than " + b.Param() + unit
	case "oneof":
		return "oneof", "must be one of: " + b.Param()
	case "unique":
		return "unique", "must not name the same twice"
	case "currency", "iso4217":
		return "currency", "must be a currency (ISO 4217, upper case)"
	case "email":
		return "email", "must be an e-mail address"
	case "sku":
		return "pattern", "must be upper case letters and digits in groups with hyphens between them"
	case "uuid", "uuid7", "uuid_rfc4122":
		return "uuid", "must be a UUID, lower case"
	case "url", "http_url", "https_url":
		return "url", "must be a URL"
	default:
		return b.Tag(), "is not valid"
	}
}
