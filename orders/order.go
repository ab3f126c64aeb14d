package orders

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

// Status is where an order stands.
type Status string

// The statuses. Unplaced is that of an order that is not stored yet.
const (
	Unplaced      Status = ""
	Placed        Status = "placed"         // stock asked for
	Authorizing   Status = "authorizing"    // stock held; payment asked for
	PaymentFailed Status = "payment_failed" // declined; hold kept; another method may be tried
	Confirmed     Status = "confirmed"      // money set aside; warehouse asked
	Fulfilling    Status = "fulfilling"     // being picked
	Capturing     Status = "capturing"      // packed; taking the money
	Dispatching   Status = "dispatching"    // paid; the carrier is asked
	Shipped       Status = "shipped"        // the carrier has it
	Delivered     Status = "delivered"      // the customer has it
	Compensating  Status = "compensating"   // undoing; ends_as says how it will end
	Cancelled     Status = "cancelled"
	Rejected      Status = "rejected"
	Expired       Status = "expired"
)

// Ended reports whether nothing can happen to the order any more.
func (s Status) Ended() bool {
	return s == Cancelled || s == Rejected || s == Expired
}

// settled reports whether the customer has an answer: the order is confirmed or
// beyond, waits for another method of payment, or has ended.
func (s Status) settled() bool {
	return !slices.Contains([]Status{Unplaced, Placed, Authorizing, Compensating}, s)
}

// Line is a quantity of one product at the price it was ordered at.
type Line struct {
	SKU            string `json:"sku"`
	Name           string `json:"name"`
	Quantity       int    `json:"quantity"`         // 1..1000
	UnitPriceMinor int64  `json:"unit_price_minor"` // of the order's currency, > 0
}

// Order is an order's row. Ids are UUIDs.
type Order struct {
	ID              string          `db:"id"`
	CustomerID      string          `db:"customer_id"`
	CustomerName    string          `db:"customer_name"`
	CustomerEmail   string          `db:"customer_email"`
	CustomerAddress string          `db:"customer_address"` // read by nobody who decides
	Note            string          `db:"note"`             // the customer's; likewise
	Class           messaging.Class `db:"class"`            // of all messages about it
	Currency        string          `db:"currency"`
	TotalMinor      int64           `db:"total_minor"`
	Lines           Lines           `db:"lines"` // read only where they matter, else nil

	Status     Status `db:"status"`
	ReasonCode string `db:"reason_code"` // why it is there, "" when that needs no reason
	Version    int    `db:"version"`     // counts the accepted transitions
	EndsAs     Status `db:"ends_as"`     // while compensating: how it will end

	ReservationID string `db:"reservation_id"`
	PaymentID     string `db:"payment_id"`
	Attempt       int    `db:"attempt"`       // methods of payment tried; 0 = none asked yet
	CaptureID     string `db:"capture_id"`    // of the current attempt
	PaymentToken  string `db:"payment_token"` // of the current attempt, kept only until it is answered; never shown, never logged
	Declines      int    `db:"declines"`
	AwaitsRelease bool   `db:"awaits_release"` // while compensating: StockReleased is to come
	AwaitsVoid    bool   `db:"awaits_void"`    // while compensating: PaymentVoided is to come
	Tracking      string `db:"tracking"`       // the carrier's, "" before it ships

	Deadline  *time.Time `db:"deadline"` // by shop_now; nil = waits for nobody
	CreatedAt time.Time  `db:"created_at"`
	ChangedAt time.Time  `db:"changed_at"` // of the last history row
}

// Entry is a history row: one accepted transition.
type Entry struct {
	Version    int       `json:"version"`
	Status     Status    `json:"status"`
	From       Status    `json:"from,omitempty"` // Unplaced for the first
	ReasonCode string    `json:"reason_code"`
	At         time.Time `json:"at"`

	Trigger string `json:"-"` // kind of the message, or the action
	Note    string `json:"-"` // the customer's own words
}

// What can happen to an order besides the messages, whose trigger is their kind.
const (
	Place      = "place"
	Cancel     = "cancel"
	Pay        = "pay"
	DeadlineUp = "deadline"
)

// Input is something that happens to an order. Everything that deciding needs
// and can't find in the order is handed in with it.
type Input struct {
	On   string         // a kind of message, Place, Cancel, Pay or DeadlineUp
	Body messaging.Body // the message; nil for the others
	At   time.Time      // shop_now

	Note         string // of Cancel: the customer's own words, may be ""
	PaymentToken string // of Pay: the other method
	CaptureID    string // of Pay: a fresh id for the new attempt's capture
}

// Rules are the durations that deciding knows.
type Rules struct {
	Hold      time.Duration            // how long stock is held, whole seconds
	Grace     time.Duration            // between placing and asking for stock
	Deadlines map[Status]time.Duration // a status without one waits for nobody
}

// Step is what follows from an Input.
type Step struct {
	Order Order            // as it is now
	Entry *Entry           // its new history row; nil when the status stays
	Dirty bool             // Order differs from what is stored
	Sends []messaging.Body // in this order
}

var (
	// ErrIllegal says that the transition table has no row for what happened to
	// an order in its status.
	ErrIllegal = errors.New("not legal now")
	// ErrStale says that a message is about another reservation, or another
	// attempt to pay, than the order's current one.
	ErrStale = errors.New("not about the current reservation or attempt")
)

// maxDeclines is how many declined attempts end an order.
const maxDeclines = 3

// Decide returns what follows when in happens to o. It returns ErrStale or
// ErrIllegal when nothing does; a second call with an answer that was accepted
// already is one of these.
func (r Rules) Decide(o Order, in Input) (Step, error) {
	if in.Body != nil && !concerns(o, in.Body) {
		return Step{}, fmt.Errorf("%s while %s: %w", in.On, o.Status, ErrStale)
	}
	t, ok := find(o, in)
	if !ok {
		return Step{}, fmt.Errorf("%s while %s: %w", in.On, o.Status, ErrIllegal)
	}
	// A clock read before the row's lock was granted may lie before the last
	// transition; history never runs backwards.
	if in.At.Before(o.ChangedAt) {
		in.At = o.ChangedAt
	}
	step := Step{Dirty: !t.Stays || t.Then != nil || in.On == DeadlineUp}
	if t.Then != nil {
		t.Then(&o, in)
	}
	if !t.Stays {
		step.Entry = o.enter(t, in)
	}
	if !t.Stays || in.On == DeadlineUp {
		o.Deadline = r.deadline(o.Status, in.At)
	}
	for _, s := range t.Sends {
		if body := s.Body(r, o, in); body != nil {
			step.Sends = append(step.Sends, body)
		}
	}
	if e := step.Entry; e != nil {
		step.Sends = append(step.Sends, contracts.OrderStatusChanged{
			OrderID: o.ID, From: string(e.From), To: string(e.Status), Version: e.Version, ReasonCode: e.ReasonCode, At: e.At,
		})
	}
	step.Order = o
	return step, nil
}

// enter moves o along t and returns the history row of it.
func (o *Order) enter(t Transition, in Input) *Entry {
	from := o.Status
	o.Status = t.To
	o.Version++
	o.ChangedAt = in.At
	if from == Unplaced {
		o.CreatedAt = in.At
	}
	var reason string
	if t.Reason != nil {
		reason = t.Reason(*o, in)
	}
	o.ReasonCode = reason
	o.EndsAs, o.AwaitsRelease, o.AwaitsVoid = "", false, false
	if t.To == Compensating {
		o.EndsAs, o.AwaitsRelease, o.AwaitsVoid = t.EndsAs, true, o.Attempt > 0
	}
	if t.To != Placed && t.To != Authorizing {
		o.PaymentToken = "" // no AuthorizePayment will be sent with it any more
	}
	return &Entry{
		Version: o.Version, Status: t.To, From: from, ReasonCode: reason, At: in.At,
		Trigger: in.On, Note: in.Note,
	}
}

// deadline is when an order in status, reached at at, has waited long enough.
func (r Rules) deadline(status Status, at time.Time) *time.Time {
	d, ok := r.Deadlines[status]
	if !ok {
		return nil
	}
	deadline := at.Add(d)
	return &deadline
}

// concerns reports whether body is about the reservation and the attempt to pay
// that o has now.
func concerns(o Order, body messaging.Body) bool {
	switch m := body.(type) {
	case contracts.StockReserved:
		return m.ReservationID == o.ReservationID
	case contracts.StockRejected:
		return m.ReservationID == o.ReservationID
	case contracts.StockReleased:
		return m.ReservationID == o.ReservationID
	case contracts.ReservationExpired:
		return m.ReservationID == o.ReservationID
	case contracts.FulfilmentStarted:
		return m.ReservationID == o.ReservationID
	case contracts.FulfilmentRefused:
		return m.ReservationID == o.ReservationID
	case contracts.ShipmentPacked:
		return m.ReservationID == o.ReservationID
	case contracts.ShipmentDispatched:
		return m.ReservationID == o.ReservationID
	case contracts.ShipmentDelivered:
		return m.ReservationID == o.ReservationID
	case contracts.PaymentAuthorized:
		return m.PaymentID == o.PaymentID && m.Attempt == o.Attempt
	case contracts.PaymentDeclined:
		return m.PaymentID == o.PaymentID && m.Attempt == o.Attempt
	case contracts.PaymentCaptured:
		return m.PaymentID == o.PaymentID && m.Attempt == o.Attempt && m.CaptureID == o.CaptureID
	case contracts.PaymentVoided:
		return m.PaymentID == o.PaymentID && m.Attempt == o.Attempt
	}
	return false
}
