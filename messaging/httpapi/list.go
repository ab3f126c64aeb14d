package httpapi

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// ListParam reads the query's only parameter name: 1 to limit values with commas
// between them, each fulfilling a rule of validator ("sku") and none twice. The
// error is a *Problem, invalid-parameter.
func ListParam(r *http.Request, name, rule string, limit int) ([]string, error) {
	values, err := query(r)
	if err != nil {
		return nil, err
	}
	if len(values) > 1 || len(values) == 1 && !values.Has(name) {
		return nil, invalidParameter("a parameter is not known here; known is " + name)
	}
	if len(values[name]) != 1 {
		return nil, invalidParameter(fmt.Sprintf("%s: once, with 1 to %d values and commas between them", name, limit))
	}
	list := strings.SplitN(values.Get(name), ",", limit+1)
	if len(list) > limit {
		return nil, invalidParameter(fmt.Sprintf("%s: at most %d values", name, limit))
	}
	for i, v := range list {
		if rules().Var(v, "required,"+rule) != nil {
			return nil, invalidParameter(fmt.Sprintf("%s: value %d is not one that it can have", name, i+1))
		}
		if slices.Contains(list[:i], v) {
			return nil, invalidParameter(fmt.Sprintf("%s: value %d was given before", name, i+1))
		}
	}
	return list, nil
}
