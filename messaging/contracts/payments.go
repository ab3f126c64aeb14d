package contracts

import "time"

// The kinds that payments owns.
const (
	KindAuthorizePayment = "payments.authorize_payment"
	KindCapturePayment   = "payments.capture_payment"
	KindVoidPayment      = "payments.void_payment"
	KindRefundPayment    = "payments.refund_payment"

	KindLookUpPayment     = "payments.look_up_payment"
	KindReconcilePayments = "payments.reconcile_payments"

	KindPaymentAuthorized  = "payments.payment_authorized"
	KindPaymentDeclined    = "payments.payment_declined"
	KindPaymentCaptured    = "payments.payment_captured"
	KindCaptureFailed      = "payments.capture_failed"
	KindPaymentVoided      = "payments.payment_voided"
	KindPaymentVoidRefused = "payments.payment_void_refused"
	KindRefundSucceeded    = "payments.refund_succeeded"
	KindRefundFailed       = "payments.refund_failed"
)

// AuthorizePayment asks for the customer's money to be set aside. Answered by
// PaymentAuthorized or PaymentDeclined for this attempt; repeated, by the same
// answer again.
type AuthorizePayment struct {
	PaymentID   string `json:"payment_id" validate:"required,uuid"`
	Attempt     int    `json:"attempt" validate:"min=1"` // counts the methods tried, from 1
	OrderID     string `json:"order_id" validate:"required,uuid"`
	CustomerID  string `json:"customer_id" validate:"required"`
	AmountMinor int64  `json:"amount_minor" validate:"min=1"`
	Currency    string `json:"currency" validate:"required,iso4217"`
	MethodToken string `json:"method_token" validate:"required"` // the provider's name of the method; never logged
}

func (AuthorizePayment) Kind() string    { return KindAuthorizePayment }
func (m AuthorizePayment) Order() string { return m.OrderID }

// CapturePayment takes the money that the attempt set aside. Answered by
// PaymentCaptured or CaptureFailed; repeated under the same CaptureID, by the same
// answer again.
type CapturePayment struct {
	PaymentID   string `json:"payment_id" validate:"required,uuid"`
	Attempt     int    `json:"attempt" validate:"min=1"`
	CaptureID   string `json:"capture_id" validate:"required,uuid"`
	OrderID     string `json:"order_id" validate:"required,uuid"`
	AmountMinor int64  `json:"amount_minor" validate:"min=1"`
}

func (CapturePayment) Kind() string    { return KindCapturePayment }
func (m CapturePayment) Order() string { return m.OrderID }

// VoidPayment gives back what the attempt, and any before it, set aside. Of an
// attempt that never was it leaves a tombstone, so that an overtaken
// AuthorizePayment is refused. Answered by PaymentVoided or PaymentVoidRefused;
// after the latter, a repeated one is tried anew.
type VoidPayment struct {
	PaymentID string `json:"payment_id" validate:"required,uuid"`
	Attempt   int    `json:"attempt" validate:"min=1"`
	OrderID   string `json:"order_id" validate:"required,uuid"`
}

func (VoidPayment) Kind() string    { return KindVoidPayment }
func (m VoidPayment) Order() string { return m.OrderID }

// RefundPayment gives AmountMinor of what was captured back to the customer.
// Answered by RefundSucceeded or RefundFailed; repeated under the same RefundID
// and amount, by the same success again, while a failed one is tried anew.
type RefundPayment struct {
	RefundID    string `json:"refund_id" validate:"required,uuid"`
	PaymentID   string `json:"payment_id" validate:"required,uuid"`
	OrderID     string `json:"order_id" validate:"required,uuid"`
	AmountMinor int64  `json:"amount_minor" validate:"min=1"`
	Reason      string `json:"reason" validate:"required"` // a code: returned, lost, not_sent_back, …
}

func (RefundPayment) Kind() string    { return KindRefundPayment }
func (m RefundPayment) Order() string { return m.OrderID }

// LookUpPayment has an attempt looked up at the provider, whose webhook said that
// something happened to it. Payments sends it to itself: what a webhook says is not
// believed. It has no answer; what it finds is told as its command would have been.
type LookUpPayment struct {
	PaymentID string `json:"payment_id" validate:"required,uuid"`
	Attempt   int    `json:"attempt" validate:"min=1"`
	OrderID   string `json:"order_id" validate:"required,uuid"`
}

func (LookUpPayment) Kind() string    { return KindLookUpPayment }
func (m LookUpPayment) Order() string { return m.OrderID }

// ReconcilePayments has payments' ledger compared with the provider's books: what
// was moved from From to before Until. Payments sends it to itself, on a schedule or
// because an operator asked. Repeated, it compares once more.
type ReconcilePayments struct {
	ReconciliationID string    `json:"reconciliation_id" validate:"required,uuid"`
	From             time.Time `json:"from" validate:"required"`
	Until            time.Time `json:"until" validate:"required"`
}

func (ReconcilePayments) Kind() string  { return KindReconcilePayments }
func (ReconcilePayments) Order() string { return "" }

// PaymentAuthorized: the amount is set aside at the provider.
type PaymentAuthorized struct {
	PaymentID   string `json:"payment_id" validate:"required,uuid"`
	Attempt     int    `json:"attempt" validate:"min=1"`
	OrderID     string `json:"order_id" validate:"required,uuid"`
	AmountMinor int64  `json:"amount_minor" validate:"min=1"`
	Currency    string `json:"currency" validate:"required,iso4217"`
}

func (PaymentAuthorized) Kind() string    { return KindPaymentAuthorized }
func (m PaymentAuthorized) Order() string { return m.OrderID }

// PaymentDeclined: the provider refused this attempt for good. ReasonCode is the
// provider's (card_declined, insufficient_funds, …), or voided for an attempt
// that a VoidPayment overtook.
type PaymentDeclined struct {
	PaymentID  string `json:"payment_id" validate:"required,uuid"`
	Attempt    int    `json:"attempt" validate:"min=1"`
	OrderID    string `json:"order_id" validate:"required,uuid"`
	ReasonCode string `json:"reason_code" validate:"required"`
}

func (PaymentDeclined) Kind() string    { return KindPaymentDeclined }
func (m PaymentDeclined) Order() string { return m.OrderID }

// PaymentCaptured: the money is ours.
type PaymentCaptured struct {
	PaymentID   string `json:"payment_id" validate:"required,uuid"`
	Attempt     int    `json:"attempt" validate:"min=1"`
	CaptureID   string `json:"capture_id" validate:"required,uuid"`
	OrderID     string `json:"order_id" validate:"required,uuid"`
	AmountMinor int64  `json:"amount_minor" validate:"min=1"`
}

func (PaymentCaptured) Kind() string    { return KindPaymentCaptured }
func (m PaymentCaptured) Order() string { return m.OrderID }

// PaymentVoided: nothing is set aside for the attempt any more.
type PaymentVoided struct {
	PaymentID string `json:"payment_id" validate:"required,uuid"`
	Attempt   int    `json:"attempt" validate:"min=1"`
	OrderID   string `json:"order_id" validate:"required,uuid"`
}

func (PaymentVoided) Kind() string    { return KindPaymentVoided }
func (m PaymentVoided) Order() string { return m.OrderID }

// CaptureFailed: the provider will not give the money that the attempt set aside,
// and that authorisation is closed. ReasonCode is the provider's.
type CaptureFailed struct {
	PaymentID  string `json:"payment_id" validate:"required,uuid"`
	Attempt    int    `json:"attempt" validate:"min=1"`
	CaptureID  string `json:"capture_id" validate:"required,uuid"`
	OrderID    string `json:"order_id" validate:"required,uuid"`
	ReasonCode string `json:"reason_code" validate:"required"`
}

func (CaptureFailed) Kind() string    { return KindCaptureFailed }
func (m CaptureFailed) Order() string { return m.OrderID }

// ReasonCaptured is the ReasonCode of a PaymentVoidRefused whose money was
// captured: it can only be refunded.
const ReasonCaptured = "captured"

// PaymentVoidRefused: what is set aside for the attempt can't be given back.
// ReasonCode is ReasonCaptured or the provider's.
type PaymentVoidRefused struct {
	PaymentID  string `json:"payment_id" validate:"required,uuid"`
	Attempt    int    `json:"attempt" validate:"min=1"`
	OrderID    string `json:"order_id" validate:"required,uuid"`
	ReasonCode string `json:"reason_code" validate:"required"`
}

func (PaymentVoidRefused) Kind() string    { return KindPaymentVoidRefused }
func (m PaymentVoidRefused) Order() string { return m.OrderID }

// RefundSucceeded: the money is on its way back to the customer.
type RefundSucceeded struct {
	RefundID    string `json:"refund_id" validate:"required,uuid"`
	PaymentID   string `json:"payment_id" validate:"required,uuid"`
	OrderID     string `json:"order_id" validate:"required,uuid"`
	AmountMinor int64  `json:"amount_minor" validate:"min=1"`
}

func (RefundSucceeded) Kind() string    { return KindRefundSucceeded }
func (m RefundSucceeded) Order() string { return m.OrderID }

// RefundFailed: the provider refused the refund. ReasonCode is the provider's.
type RefundFailed struct {
	RefundID   string `json:"refund_id" validate:"required,uuid"`
	PaymentID  string `json:"payment_id" validate:"required,uuid"`
	OrderID    string `json:"order_id" validate:"required,uuid"`
	ReasonCode string `json:"reason_code" validate:"required"`
}

func (RefundFailed) Kind() string    { return KindRefundFailed }
func (m RefundFailed) Order() string { return m.OrderID }
