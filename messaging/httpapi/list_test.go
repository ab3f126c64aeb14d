package httpapi_test

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"example.com/orderflow/messaging/httpapi"
)

func TestListParam(t *testing.T) {
	t.Parallel()
	var many []string
	for n := range 51 {
		many = append(many, fmt.Sprintf("A-%d", n))
	}
	for _, c := range []struct {
		query string
		want  []string // nil: a problem
	}{
		{"sku=MUG-01", []string{"MUG-01"}},
		{"sku=MUG-01,TEA-01", []string{"MUG-01", "TEA-01"}},
		{"sku=MUG-01%2CTEA-01", []string{"MUG-01", "TEA-01"}},
		{"sku=" + strings.Join(many[:50], ","), many[:50]},
		{"sku=" + strings.Join(many, ","), nil},
		{"sku=" + strings.Repeat(",", 60_000), nil},
		{"", nil},
		{"sku=", nil},
		{"sku", nil},
		{"sku=MUG-01,", nil},
		{"sku=,MUG-01", nil},
		{"sku=MUG-01,,TEA-01", nil},
		{"sku=mug-01", nil},
		{"sku=MUG-01,%20TEA-01", nil},
		{"sku=MUG-01,MUG-01", nil},
		{"sku=MUG-01&sku=TEA-01", nil},
		{"sku=MUG-01&limit=1", nil},
		{"SKU=MUG-01", nil},
		{"sku=%00", nil},
		{"sku=A%27;DROP", nil},
		{"%zz", nil},
	} {
		got, err := httpapi.ListParam(httptest.NewRequest("GET", "/v1/availability?"+c.query, nil), "sku", "sku", 50)
		var p *httpapi.Problem
		switch {
		case c.want == nil && (!errors.As(err, &p) || p.Status != 400 || p.Code() != "invalid-parameter"):
			t.Errorf("%.80q: got %v, %v, want invalid-parameter", c.query, got, err)
		case c.want != nil && (err != nil || !slices.Equal(got, c.want)):
			t.Errorf("%.80q: got %v, %v, want %v", c.query, got, err, c.want)
		}
	}
}
