package messaging

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Body is what a message says: a command or an event of the contracts. Its
// JSON is the payload; the envelope around it is made by Publish.
type Body interface {
	// Kind is the stable name "<owner>.<snake_name>": of the receiver for a
	// command, of the speaker for an event.
	Kind() string
	// Order is the order (UUID) that the message is about, "" when none. It is
	// also the message's lane unless the body has a Lane method of its own.
	Order() string
}

// laner is a Body ordered by something else than its order, a SKU for example.
type laner interface{ Lane() string }

// versioner is a Body whose payload gained compatible fields: version 2 and up.
type versioner interface{ SchemaVersion() int }

// Class is the priority of an order and of all messages about it.
type Class int16

// The classes. Standard is the zero value's meaning in every envelope made here.
const (
	Express  Class = 0
	Standard Class = 1
	Bulk     Class = 2
)

// Message is an envelope with its payload, on its way out or as received.
type Message struct {
	ID            string // UUID v7, made at Publish
	Kind          string
	SchemaVersion int
	Lane          string // ordering key; "" = no order is kept
	OrderID       string // UUID or ""
	CorrelationID string // of the request that started it all
	CausationID   string // the message whose handling sent this one
	OccurredAt    time.Time
	Producer      string // the service whose role sent it; set by the database
	Class         Class
	Traceparent   string // W3C trace context
	Payload       []byte // JSON, at most MaxPayload bytes

	Delay   time.Duration // out: not to be handled before that long after sending
	Attempt int           // in: 1 at the first try

	Run      int  // in: the replay of its queue that brought it, counted from 1; 0 = it came live
	Replayed bool // in: this queue handled it before, in an earlier run

	metadata map[string]string // what a plain Watermill publisher set besides
	sentAgo  time.Duration     // in: when it was claimed, by the database's clock
	takenAt  time.Time         // in: when that was, by this process's
}

// MaxPayload is the most bytes that a payload may have.
const MaxPayload = 1 << 20

// age is how long ago m, which was claimed from a queue, was sent. It compares no
// two clocks.
func (m Message) age() time.Duration { return m.sentAgo + time.Since(m.takenAt) }

// sending is a Body with its way of being sent.
type sending struct {
	Body
	delay    time.Duration
	class    *Class
	metadata map[string]string
}

// After has body handled no earlier than delay after the commit that sends it.
// A delayed message has no lane: it keeps no place among the others of its order.
func After(body Body, delay time.Duration) Body {
	s := asSending(body)
	s.delay = delay
	return s
}

// InClass sends body in another class than that of the message being handled.
func InClass(body Body, class Class) Body {
	s := asSending(body)
	s.class = &class
	return s
}

func asSending(body Body) sending {
	if s, ok := body.(sending); ok {
		return s
	}
	return sending{Body: body}
}

// newMessage puts body into an envelope caused by cause (the zero Message when
// an HTTP request or a clock sends it).
func newMessage(body Body, cause Message) (Message, error) {
	s := asSending(body)
	payload, err := json.Marshal(s.Body)
	if err != nil {
		return Message{}, fmt.Errorf("encode %s of order %s: %w", s.Kind(), s.Order(), err)
	}
	if len(payload) > MaxPayload {
		return Message{}, fmt.Errorf("encode %s of order %s: payload of %d bytes, at most %d", s.Kind(), s.Order(), len(payload), MaxPayload)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Message{}, fmt.Errorf("make a message id: %w", err)
	}
	m := Message{
		ID: id.String(), Kind: s.Kind(), SchemaVersion: 1, OrderID: s.Order(), Lane: s.Order(),
		CorrelationID: cause.CorrelationID, CausationID: cause.ID, Traceparent: cause.Traceparent,
		Class: cause.Class, Delay: s.delay, Payload: payload, metadata: s.metadata,
	}
	if l, ok := s.Body.(laner); ok {
		m.Lane = l.Lane()
	}
	if v, ok := s.Body.(versioner); ok {
		m.SchemaVersion = v.SchemaVersion()
	}
	if s.class != nil {
		m.Class = *s.class
	}
	if m.Delay > 0 {
		m.Lane = ""
	}
	return m, nil
}
