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
	Unplaced         Status = ""
	Placed           Status = "placed"            // stock asked for
	AwaitingCustomer Status = "awaiting_customer" // only part is there; the customer decides
	Authorizing      Status = "authorizing"       // stock held; payment asked for
	PaymentFailed    Status = "payment_failed"    // declined; hold kept; another method may be tried
	Confirmed        Status = "confirmed"         // money set aside; warehouse asked
	Fulfilling       Status = "fulfilling"        // being picked
	Stopping         Status = "stopping"          // the warehouse is asked to stop, for a cancel
	Capturing        Status = "capturing"         // packed; taking the money
	Dispatching      Status = "dispatching"       // paid; the carrier is asked
	Shipped          Status = "shipped"           // the carrier has it
	Delivered        Status = "delivered"         // the customer has it and may send it back
	Refunding        Status = "refunding"         // money goes back
	Compensating     Status = "compensating"      // undoing; ends_as says how it will end
	NeedsAttention   Status = "needs_attention"   // an operator decides; resume says where it goes on
	Completed        Status = "completed"
	Cancelled        Status = "cancelled"
	Rejected         Status = "rejected"
	Expired          Status = "expired"
	Refunded         Status = "refunded"
)

// statuses are all of them, in the order in which they may come.
var statuses = []Status{
	Placed, AwaitingCustomer, Authorizing, PaymentFailed, Confirmed, Fulfilling, Stopping, Capturing, Dispatching, Shipped,
	Delivered, Refunding, Compensating, NeedsAttention, Completed, Cancelled, Rejected, Expired, Refunded,
}

// Ended reports whether nothing can happen to the order any more.
func (s Status) Ended() bool { return s.undone() || s == Completed || s == Refunded }

// undone reports whether the order came to nothing: it holds no stock, no money.
func (s Status) undone() bool { return s == Cancelled || s == Rejected || s == Expired }

// settled reports whether the customer has an answer: the order is confirmed or
// beyond, waits for the customer, or has ended.
func (s Status) settled() bool {
	return !slices.Contains([]Status{Unplaced, Placed, Authorizing, Compensating, NeedsAttention}, s)
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
	TotalMinor      int64           `db:"total_minor"`   // what it is for now: of all lines, then of those accepted, then of those packed
	AllowPartial    bool            `db:"allow_partial"` // the customer may be asked whether part of it will do

	// Read only where they matter, else nil.
	Lines   Lines   `db:"lines"`
	Returns Returns `db:"returns"` // oldest first
	Refunds Refunds `db:"refunds"` // oldest first

	Status       Status `db:"status"`
	ReasonCode   string `db:"reason_code"` // why it is there, "" when that needs no reason
	Version      int    `db:"version"`     // counts the accepted transitions
	EndsAs       Status `db:"ends_as"`     // while compensating: how it will end
	Resume       Status `db:"resume"`      // while needs_attention: where it was
	ResumeReason string `db:"resume_reason"`
	Resends      int    `db:"resends"` // how often an overdue answer was asked for again in this status, 0..4

	ReservationID string `db:"reservation_id"`
	PaymentID     string `db:"payment_id"`
	Attempt       int    `db:"attempt"`       // methods of payment tried; 0 = none asked yet
	CaptureID     string `db:"capture_id"`    // of the current attempt
	PaymentToken  string `db:"payment_token"` // of the current attempt, kept only until it is answered; never shown, never logged
	Declines      int    `db:"declines"`
	AwaitsRelease bool   `db:"awaits_release"` // while compensating or refunding: StockReleased is to come
	AwaitsVoid    bool   `db:"awaits_void"`    // while compensating: PaymentVoided is to come
	Packed        bool   `db:"packed"`         // the warehouse has said what it packed
	Captured      bool   `db:"captured"`       // the money is known to be ours
	Dispatched    bool   `db:"dispatched"`     // the carrier is known to have it, or to have had it
	Tracking      string `db:"tracking"`       // the carrier's, "" before it ships

	ReturnUntil *time.Time `db:"return_until"` // of what was delivered: until when it may be sent back
	Deadline    *time.Time `db:"deadline"`     // by shop_now; nil = waits for nobody
	CreatedAt   time.Time  `db:"created_at"`
	ChangedAt   time.Time  `db:"changed_at"` // of the last history row
}

// Entry is a history row: one accepted transition.
type Entry struct {
	Version    int       `json:"version"`
	Status     Status    `json:"status"`
	From       Status    `json:"from,omitempty"` // Unplaced for the first
	ReasonCode string    `json:"reason_code"`
	At         time.Time `json:"at"`

	Trigger string `json:"-"` // kind of the message, or the action
	Note    string `json:"-"` // the customer's or the operator's own words, or the provider's code
}

// What can happen to an order besides the messages, whose trigger is their kind.
const (
	Place          = "place"
	Accept         = "accept" // of what is there, when that is less than ordered
	Refuse         = "refuse" // that part of the order
	Cancel         = "cancel"
	Pay            = "pay"
	AskReturn      = "return"
	DeadlineUp     = "deadline"
	OperatorRefund = "operator_refund" // of goods that aren't sent back
	OperatorRetry  = "operator_retry"  // of what needed attention
	OperatorCancel = "operator_cancel" // of what needed attention
)

// Input is something that happens to an order. Everything that deciding needs
// and can't find in the order is handed in with it.
type Input struct {
	On   string         // a kind of message, or one of the actions above
	Body messaging.Body // the message; nil for actions
	At   time.Time      // shop_now

	Note         string           // the customer's or the operator's own words, may be ""
	PaymentToken string           // of Pay: the other method
	CaptureID    string           // of Pay: a fresh id for the new attempt's capture
	ID           string           // of AskReturn, OperatorRefund, OperatorCancel and ShipmentLost: a fresh id for the return or refund
	Lines        []contracts.Line // of AskReturn and OperatorRefund: each product of the order at most once
}

// Rules are the durations that deciding knows.
type Rules struct {
	Hold         time.Duration            // how long stock is held, whole seconds
	Grace        time.Duration            // between placing and asking for stock
	ReturnWindow time.Duration            // between delivery and the last moment for returns
	Deadlines    map[Status]time.Duration // a status without one waits for nobody; of Delivered: for goods sent back
}

// Step is what follows from an Input.
type Step struct {
	Order   Order            // as it is now
	Entry   *Entry           // its new history row; nil when nothing worth one happened
	Dirty   bool             // Order's row differs from what is stored
	Lines   bool             // the quantities of Order.Lines do, too
	Returns []Return         // those of Order.Returns that are new or changed
	Refunds []Refund         // those of Order.Refunds that are
	Sends   []messaging.Body // in this order
}

var (
	// ErrIllegal says that the transition table has no row for what happened to
	// an order in its status.
	ErrIllegal = errors.New("not legal now")
	// ErrStale says that a message is about another reservation, or another
	// attempt to pay, than the order's current one.
	ErrStale = errors.New("not about the current reservation or attempt")
)

const (
	// maxDeclines is how many declined attempts end an order.
	maxDeclines = 3
	// maxResends is how often a command is sent again before an operator has to look.
	maxResends = 4
)

// Decide returns what follows when in happens to o. It returns ErrStale or
// ErrIllegal when nothing does; a second call with an answer that was accepted
// already is one of these. What o shares with its caller isn't changed.
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
	was := o
	step := Step{Dirty: !t.Stays || t.Then != nil || in.On == DeadlineUp}
	if t.Then != nil {
		t.Then(&o, in)
	}
	if !t.Stays {
		step.Entry = o.enter(t, r, in)
	}
	if !t.Stays || in.On == DeadlineUp {
		o.Deadline = r.deadline(o, in.At)
	}
	for _, s := range t.Sends {
		step.Sends = append(step.Sends, s.Bodies(r, o, in)...)
	}
	if e := step.Entry; e != nil {
		step.Sends = append(step.Sends, contracts.OrderStatusChanged{
			OrderID: o.ID, From: string(e.From), To: string(e.Status), Version: e.Version, ReasonCode: e.ReasonCode, At: e.At,
		})
	}
	step.Order = o
	step.Lines = !slices.Equal(was.Lines, o.Lines)
	step.Returns = altered(was.Returns, o.Returns, func(a, b Return) bool { return a.Status == b.Status })
	step.Refunds = altered(was.Refunds, o.Refunds, func(a, b Refund) bool { return a.Status == b.Status && a.ToldIn == b.ToldIn })
	return step, nil
}

// enter moves o along t and returns the history row of it.
func (o *Order) enter(t Transition, r Rules, in Input) *Entry {
	from := o.Status
	o.Status = t.To
	o.Version++
	o.ChangedAt = in.At
	o.Resends = 0
	switch t.To {
	case Placed:
		o.CreatedAt = in.At
	case Delivered:
		if o.ReturnUntil == nil {
			until := in.At.Add(r.ReturnWindow)
			o.ReturnUntil = &until
		}
	}
	var reason string
	if t.Reason != nil {
		reason = t.Reason(*o, in)
	}
	o.await(t, from, in)
	o.ReasonCode = reason
	if !o.mayAuthorize() {
		o.PaymentToken = "" // no AuthorizePayment will be sent with it any more
	}
	note := in.Note
	if in.Body != nil {
		note = refusal(in.Body)
	}
	return &Entry{Version: o.Version, Status: t.To, From: from, ReasonCode: reason, At: in.At, Trigger: in.On, Note: note}
}

// await sets what o, which was in from, waits for now that t has moved it. An
// order that needs attention keeps it all, to be taken up again as it was.
func (o *Order) await(t Transition, from Status, in Input) {
	switch {
	case t.To == NeedsAttention:
		o.Resume, o.ResumeReason = from, o.ReasonCode
		return
	case in.On == OperatorRetry:
	case t.To == Compensating:
		o.EndsAs = t.EndsAs
		o.AwaitsRelease = in.On != contracts.KindStockReleased
		o.AwaitsVoid = o.Attempt > 0
	case t.To == Refunding:
		o.EndsAs, o.AwaitsVoid = "", false
		o.AwaitsRelease = !o.Dispatched && (o.AwaitsRelease || in.On == OperatorCancel)
	default:
		o.EndsAs, o.AwaitsRelease, o.AwaitsVoid = "", false, false
	}
	o.Resume, o.ResumeReason = "", ""
}

// mayAuthorize reports whether AuthorizePayment may yet be sent for the current
// attempt.
func (o Order) mayAuthorize() bool {
	status := o.Status
	if status == NeedsAttention {
		status = o.Resume
	}
	return status == Placed || status == AwaitingCustomer || status == Authorizing
}

// deadline is when o, which came to its status or was asked about at at, has
// waited long enough. Each time that an answer is asked for again there is twice
// as long to wait for it.
func (r Rules) deadline(o Order, at time.Time) *time.Time {
	if o.Status == Delivered && !o.expectsReturn() {
		return o.ReturnUntil
	}
	d, ok := r.Deadlines[o.Status]
	if !ok {
		return nil
	}
	deadline := at.Add(d << o.Resends)
	return &deadline
}
