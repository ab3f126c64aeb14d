package payments

import (
	"net/http"
	"time"

	"example.com/orderflow/messaging/httpapi"
)

// Routes adds the service's routes to mux.
func (s *Service) Routes(mux *httpapi.Mux) {
	mux.Handle("GET /v1/payments", s.showPayments)
	mux.Handle("GET /v1/payments/breaks", s.showBreaks)
	mux.Handle("POST /v1/payments/reconciliations", s.startReconciliation)
	mux.Handle("POST /v1/provider-webhooks", s.receiveWebhook)
}

// paymentDoc is a payment as callers see it.
type paymentDoc struct {
	ID            string       `json:"id"`
	OrderID       string       `json:"order_id"`
	Status        Status       `json:"status"`
	AmountMinor   int64        `json:"amount_minor"` // of the last attempt
	CapturedMinor int64        `json:"captured_minor"`
	RefundedMinor int64        `json:"refunded_minor"`
	Currency      string       `json:"currency"`
	Attempts      []attemptDoc `json:"attempts"`
	Refunds       []refundDoc  `json:"refunds,omitempty"`
}

// refundDoc is money that goes back.
type refundDoc struct {
	ID          string          `json:"id"`
	Status      RepaymentStatus `json:"status"`
	AmountMinor int64           `json:"amount_minor"`
	Reason      string          `json:"reason"`
	ReasonCode  string          `json:"reason_code,omitempty"` // why it failed
	At          time.Time       `json:"at"`
}

// attemptDoc is one method that was tried; which one it was is not told.
type attemptDoc struct {
	Attempt    int       `json:"attempt"`
	Status     Status    `json:"status"`
	ReasonCode string    `json:"reason_code,omitempty"`
	At         time.Time `json:"at"`
}

// showPayments answers GET /v1/payments?order_id=: the caller's payments of that
// order. Another customer's order has none.
func (s *Service) showPayments(w http.ResponseWriter, r *http.Request) error {
	page, err := httpapi.PageParams(r, "order_id=uuid")
	if err != nil {
		return err
	}
	orderID := page.Filters["order_id"]
	if orderID == "" {
		return httpapi.NewProblem(http.StatusBadRequest, "invalid-parameter", "order_id: the order whose payments are asked for")
	}
	payments, err := s.store.listPayments(r.Context(), orderID, httpapi.CustomerID(r))
	if err != nil {
		return err
	}
	docs := make([]paymentDoc, len(payments))
	for i, p := range payments {
		docs[i] = p.doc()
	}
	return httpapi.WriteJSON(w, http.StatusOK, struct {
		Payments []paymentDoc `json:"payments"`
	}{docs})
}

func (p Payment) doc() paymentDoc {
	attempts := make([]attemptDoc, len(p.Attempts))
	for i, a := range p.Attempts {
		attempts[i] = attemptDoc{Attempt: a.Number, Status: a.Status, ReasonCode: a.ReasonCode, At: a.At.UTC()}
	}
	refunds := make([]refundDoc, len(p.Repayments))
	for i, r := range p.Repayments {
		refunds[i] = refundDoc{r.ID, r.Status, r.AmountMinor, r.Reason, r.ReasonCode, r.At.UTC()}
	}
	return paymentDoc{
		ID: p.ID, OrderID: p.OrderID, Status: p.Status(), AmountMinor: p.AmountMinor(), CapturedMinor: p.CapturedMinor(),
		RefundedMinor: p.RefundedMinor(), Currency: p.Currency, Attempts: attempts, Refunds: refunds,
	}
}
