package paysim

import (
	"fmt"
	"net/http"

	"example.com/orderflow/messaging/httpapi"
)

// conductDoc is the body of PUT /provider/v1/admin/conduct, and its answer.
type conductDoc struct {
	Rules []rule `json:"rules" validate:"required,max=20,dive"`
}

// setConduct answers PUT /provider/v1/admin/conduct: from now on requests go wrong
// as the rules say, the first that fits each; no rules = all is well again.
func (s *Server) setConduct(w http.ResponseWriter, r *http.Request) error {
	body, err := httpapi.Decode[conductDoc](w, r)
	if err != nil {
		return err
	}
	problem := httpapi.NewProblem(http.StatusUnprocessableEntity, "validation", "the body is not valid: see errors")
	for i, rule := range body.Rules {
		if !misdeed(rule.Misdeed).fits(rule.Operation) {
			problem.WithError(fmt.Sprintf("/rules/%d/misdeed", i), "oneof", "nothing that can happen to this operation")
		}
		if rule.Count == 0 && rule.Seconds == 0 {
			problem.WithError(fmt.Sprintf("/rules/%d", i), "required", "count or seconds: when does it end?")
		}
	}
	if len(problem.Errors) > 0 {
		return problem
	}
	s.conducts.set(body.Rules)
	s.log.Info("conduct set", "service", "paysim", "rules", len(body.Rules))
	return s.showConduct(w, r)
}

// showConduct answers GET /provider/v1/admin/conduct: the rules in force, each
// with what is left of its count.
func (s *Server) showConduct(w http.ResponseWriter, _ *http.Request) error {
	rules := s.conducts.list()
	if rules == nil {
		rules = []rule{}
	}
	return httpapi.WriteJSON(w, http.StatusOK, conductDoc{rules})
}
