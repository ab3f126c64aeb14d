package contracts

import "time"

// The kinds that orders owns.
const (
	KindOrderPlaced         = "orders.order_placed"
	KindOrderStatusChanged  = "orders.order_status_changed"
	KindOrderActionRequired = "orders.order_action_required"
	KindOrderAmended        = "orders.order_amended"
	KindOrderConfirmed      = "orders.order_confirmed"
	KindOrderShipped        = "orders.order_shipped"
	KindOrderDelivered      = "orders.order_delivered"
	KindOrderCompleted      = "orders.order_completed"
	KindOrderCancelled      = "orders.order_cancelled"
	KindCancelRefused       = "orders.cancel_refused"
	KindOrderRejected       = "orders.order_rejected"
	KindOrderExpired        = "orders.order_expired"
	KindOrderRefunded       = "orders.order_refunded"
	KindOrderNeedsAttention = "orders.order_needs_attention"
)

// Customer is whom an order's events are about. Personal data: never logged.
type Customer struct {
	ID    string `json:"id" validate:"required"`
	Name  string `json:"name" validate:"required"`
	Email string `json:"email" validate:"required,email"`
}

// PricedLine is a line of an order at the price it was placed at.
type PricedLine struct {
	SKU            string `json:"sku" validate:"required"`
	Name           string `json:"name" validate:"required"`
	Quantity       int    `json:"quantity" validate:"min=1"`
	UnitPriceMinor int64  `json:"unit_price_minor" validate:"min=1"`
}

// OrderPlaced: a customer placed an order; nothing is held or paid yet.
type OrderPlaced struct {
	OrderID    string       `json:"order_id" validate:"required,uuid"`
	Customer   Customer     `json:"customer"`
	Lines      []PricedLine `json:"lines" validate:"min=1,dive"`
	TotalMinor int64        `json:"total_minor" validate:"min=1"`
	Currency   string       `json:"currency" validate:"required,iso4217"`
}

func (OrderPlaced) Kind() string    { return KindOrderPlaced }
func (m OrderPlaced) Order() string { return m.OrderID }

// OrderStatusChanged is the status feed: one for every accepted transition, with
// the version that it made. From is "" for the first.
type OrderStatusChanged struct {
	OrderID    string    `json:"order_id" validate:"required,uuid"`
	From       string    `json:"from"`
	To         string    `json:"to" validate:"required"`
	Version    int       `json:"version" validate:"min=1"`
	ReasonCode string    `json:"reason_code,omitempty"`
	At         time.Time `json:"at" validate:"required"`
}

func (OrderStatusChanged) Kind() string    { return KindOrderStatusChanged }
func (m OrderStatusChanged) Order() string { return m.OrderID }

// OrderActionRequired: the customer has to do something until DecideUntil.
// Action is payment_method (another one may be tried) or, since version 2,
// stock_decision: only Lines are there, which may be accepted or the order cancelled.
type OrderActionRequired struct {
	OrderID     string       `json:"order_id" validate:"required,uuid"`
	Customer    Customer     `json:"customer"`
	Action      string       `json:"action" validate:"required"`
	ReasonCode  string       `json:"reason_code" validate:"required"`
	Options     []string     `json:"options" validate:"min=1"`
	DecideUntil time.Time    `json:"decide_until" validate:"required"`
	Lines       []PricedLine `json:"lines,omitempty" validate:"dive"`
}

func (OrderActionRequired) Kind() string       { return KindOrderActionRequired }
func (m OrderActionRequired) Order() string    { return m.OrderID }
func (OrderActionRequired) SchemaVersion() int { return 2 }

// OrderAmended: the order is for less than before, because not all was there.
// Lines and TotalMinor are what it is for now.
type OrderAmended struct {
	OrderID    string       `json:"order_id" validate:"required,uuid"`
	Customer   Customer     `json:"customer"`
	Lines      []PricedLine `json:"lines" validate:"min=1,dive"`
	TotalMinor int64        `json:"total_minor" validate:"min=1"`
	Currency   string       `json:"currency" validate:"required,iso4217"`
	ReasonCode string       `json:"reason_code" validate:"required"` // part_accepted, short_pick
}

func (OrderAmended) Kind() string    { return KindOrderAmended }
func (m OrderAmended) Order() string { return m.OrderID }

// OrderConfirmed: stock is held and the money set aside.
type OrderConfirmed struct {
	OrderID    string   `json:"order_id" validate:"required,uuid"`
	Customer   Customer `json:"customer"`
	TotalMinor int64    `json:"total_minor" validate:"min=1"`
	Currency   string   `json:"currency" validate:"required,iso4217"`
}

func (OrderConfirmed) Kind() string    { return KindOrderConfirmed }
func (m OrderConfirmed) Order() string { return m.OrderID }

// OrderShipped: the carrier has it.
type OrderShipped struct {
	OrderID  string   `json:"order_id" validate:"required,uuid"`
	Customer Customer `json:"customer"`
	Tracking string   `json:"tracking" validate:"required"`
}

func (OrderShipped) Kind() string    { return KindOrderShipped }
func (m OrderShipped) Order() string { return m.OrderID }

// OrderDelivered: the customer has it.
type OrderDelivered struct {
	OrderID  string   `json:"order_id" validate:"required,uuid"`
	Customer Customer `json:"customer"`
}

func (OrderDelivered) Kind() string    { return KindOrderDelivered }
func (m OrderDelivered) Order() string { return m.OrderID }

// OrderCancelled: undone at somebody's wish; nothing is held or owed.
type OrderCancelled struct {
	OrderID    string   `json:"order_id" validate:"required,uuid"`
	Customer   Customer `json:"customer"`
	ReasonCode string   `json:"reason_code" validate:"required"`
}

func (OrderCancelled) Kind() string    { return KindOrderCancelled }
func (m OrderCancelled) Order() string { return m.OrderID }

// OrderRejected: it can't be done (out of stock, payment refused); nothing is held or owed.
type OrderRejected struct {
	OrderID    string   `json:"order_id" validate:"required,uuid"`
	Customer   Customer `json:"customer"`
	ReasonCode string   `json:"reason_code" validate:"required"`
}

func (OrderRejected) Kind() string    { return KindOrderRejected }
func (m OrderRejected) Order() string { return m.OrderID }

// OrderExpired: the stock was not held long enough; nothing is held or owed.
type OrderExpired struct {
	OrderID    string   `json:"order_id" validate:"required,uuid"`
	Customer   Customer `json:"customer"`
	ReasonCode string   `json:"reason_code" validate:"required"`
}

func (OrderExpired) Kind() string    { return KindOrderExpired }
func (m OrderExpired) Order() string { return m.OrderID }

// OrderCompleted: delivered, and the time for returns is over.
type OrderCompleted struct {
	OrderID  string   `json:"order_id" validate:"required,uuid"`
	Customer Customer `json:"customer"`
}

func (OrderCompleted) Kind() string    { return KindOrderCompleted }
func (m OrderCompleted) Order() string { return m.OrderID }

// CancelRefused: the customer wanted to cancel, and the parcel was packed first.
// The order goes on.
type CancelRefused struct {
	OrderID    string   `json:"order_id" validate:"required,uuid"`
	Customer   Customer `json:"customer"`
	ReasonCode string   `json:"reason_code" validate:"required"`
}

func (CancelRefused) Kind() string    { return KindCancelRefused }
func (m CancelRefused) Order() string { return m.OrderID }

// OrderRefunded: money went back to the customer, AmountMinor by the refunds that
// have just succeeded. Full says that the customer has paid nothing in the end.
type OrderRefunded struct {
	OrderID     string   `json:"order_id" validate:"required,uuid"`
	Customer    Customer `json:"customer"`
	AmountMinor int64    `json:"amount_minor" validate:"min=1"`
	Currency    string   `json:"currency" validate:"required,iso4217"`
	Full        bool     `json:"full"`
	ReasonCode  string   `json:"reason_code" validate:"required"` // returned, lost, not_sent_back, …
}

func (OrderRefunded) Kind() string    { return KindOrderRefunded }
func (m OrderRefunded) Order() string { return m.OrderID }

// OrderNeedsAttention: an operator has to decide how the order goes on. Resume is
// the status that it is taken up from.
type OrderNeedsAttention struct {
	OrderID    string `json:"order_id" validate:"required,uuid"`
	Resume     string `json:"resume" validate:"required"`
	ReasonCode string `json:"reason_code" validate:"required"`
}

func (OrderNeedsAttention) Kind() string    { return KindOrderNeedsAttention }
func (m OrderNeedsAttention) Order() string { return m.OrderID }
