package inventory

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

// batch is every row that the messages of one transaction may touch, locked. It
// is kept up to date as the handlers decide, so that each sees what those before
// it did.
type batch struct {
	reservations map[string]Reservation // by id; those that exist
	returns      []Return               // of the reservations that something is to come back of
	available    map[string]int64       // pieces by SKU
	onSale       map[string]int64       // likewise, not locked: only read, of products that somebody asked about
}

// wants is what the messages of a batch are about.
type wants struct {
	reservations map[string]bool             // ids
	reserve      map[string][]contracts.Line // what is to be reserved, by reservation
	letGo        map[string]bool             // reservations that may give their stock back
	comeBack     []string                    // reservations of which something is to come back
	returns      []string                    // ids
	asked        []string                    // SKUs that somebody wants to know about
}

// wantsOf reads what msgs are about. What can't be read is left to its handler,
// which refuses it by itself.
func wantsOf(msgs []messaging.Message) wants {
	w := wants{reservations: map[string]bool{}, reserve: map[string][]contracts.Line{}, letGo: map[string]bool{}}
	for _, m := range msgs {
		if m.Kind == contracts.KindCheckAvailability {
			w.asked = append(w.asked, askedFor(m)...)
			continue
		}
		var body struct {
			ReservationID string           `json:"reservation_id"`
			ReturnID      string           `json:"return_id"`
			Lines         []contracts.Line `json:"lines"`
		}
		if json.Unmarshal(m.Payload, &body) != nil || !isUUID(body.ReservationID) {
			continue
		}
		w.reservations[body.ReservationID] = true
		switch m.Kind {
		case contracts.KindReserveStock:
			w.reserve[body.ReservationID] = append(w.reserve[body.ReservationID], body.Lines...)
		case contracts.KindReleaseStock, contracts.KindStopFulfilment:
			w.letGo[body.ReservationID] = true
		case contracts.KindExpectReturn:
			if isUUID(body.ReturnID) {
				w.comeBack, w.returns = append(w.comeBack, body.ReservationID), append(w.returns, body.ReturnID)
			}
		}
	}
	return w
}

// skus are the SKUs whose stock may change, sorted; found are the reservations
// that exist.
func (w wants) skus(found map[string]Reservation) []string {
	skus := map[string]bool{}
	for id := range w.reservations {
		r, exists := found[id]
		if !exists {
			for _, l := range w.reserve[id] {
				skus[l.SKU] = skuForm.MatchString(l.SKU)
			}
		} else if w.letGo[id] && r.Status.holdsStock() {
			for _, l := range r.Lines {
				skus[l.SKU] = true
			}
		}
	}
	maps.DeleteFunc(skus, func(_ string, wellFormed bool) bool { return !wellFormed })
	return slices.Sorted(maps.Keys(skus))
}

// preload locks, reservations before stock and each sorted, what msgs will
// touch. A reservation that doesn't exist yet can't be locked: its INSERT is the
// lock, and of two transactions that make the same one the later fails on the
// key, is tried again, and finds it.
func (s *Service) preload(ctx context.Context, tx *messaging.Tx, msgs []messaging.Message) error {
	w := wantsOf(msgs)
	found, err := lockReservations(ctx, tx, slices.Sorted(maps.Keys(w.reservations)))
	if err != nil {
		return err
	}
	returns, err := readReturns(ctx, tx, w.comeBack, w.returns)
	if err != nil {
		return err
	}
	available, err := lockStock(ctx, tx, w.skus(found))
	if err != nil {
		return err
	}
	onSale, err := readOnSale(ctx, tx, w.asked)
	if err != nil {
		return err
	}
	tx.Loaded = &batch{reservations: found, returns: returns, available: available, onSale: onSale}
	return nil
}

// isUUID reports whether the database takes s for a UUID as it stands.
func isUUID(s string) bool { return len(s) == 36 && uuid.Validate(s) == nil }

// reserveStock holds all lines of the order, or none; or, where the order allows
// it, what is there of them.
func (s *Service) reserveStock(ctx context.Context, tx *messaging.Tx, m contracts.ReserveStock) error {
	b, r, err := loaded(tx, m.ReservationID)
	if err != nil {
		return err
	}
	return b.apply(tx, reserve(r, m, b.available))
}

// releaseStock undoes a reservation, or sees to it that it never comes to be.
func (s *Service) releaseStock(ctx context.Context, tx *messaging.Tx, m contracts.ReleaseStock) error {
	b, r, err := loaded(tx, m.ReservationID)
	if err != nil {
		return err
	}
	return b.apply(tx, release(r, m))
}

// fulfilOrder has the warehouse pick what is held.
func (s *Service) fulfilOrder(ctx context.Context, tx *messaging.Tx, m contracts.FulfilOrder) error {
	b, r, err := loaded(tx, m.ReservationID)
	if err != nil {
		return err
	}
	return b.apply(tx, fulfil(r, m, s.pace))
}

// stopFulfilment has the warehouse stop picking, unless it has packed already.
func (s *Service) stopFulfilment(ctx context.Context, tx *messaging.Tx, m contracts.StopFulfilment) error {
	b, r, err := loaded(tx, m.ReservationID)
	if err != nil {
		return err
	}
	return b.apply(tx, stop(r, m))
}

// dispatchShipment has the carrier fetch what is packed.
func (s *Service) dispatchShipment(ctx context.Context, tx *messaging.Tx, m contracts.DispatchShipment) error {
	b, r, err := loaded(tx, m.ReservationID)
	if err != nil {
		return err
	}
	return b.apply(tx, dispatch(r, s.pace))
}

// expectReturn has the warehouse look out for what the customer sends back.
func (s *Service) expectReturn(ctx context.Context, tx *messaging.Tx, m contracts.ExpectReturn) error {
	b, r, err := loaded(tx, m.ReservationID)
	if err != nil {
		return err
	}
	a, err := announce(r, b.returns, m, s.pace)
	if err != nil {
		return messaging.Permanent(fmt.Errorf("expect return %s: %w", m.ReturnID, err))
	}
	if a.Ignored != "" {
		tx.Ignore(a.Ignored)
	} else {
		insertReturn(tx, a)
		b.returns = append(b.returns, a.Return)
	}
	return tx.Publish(a.Say...)
}

// loaded returns the batch of tx, and from it the reservation id: the zero
// Reservation when there is none.
func loaded(tx *messaging.Tx, id string) (*batch, Reservation, error) {
	b, ok := tx.Loaded.(*batch)
	if !ok {
		return nil, Reservation{}, fmt.Errorf("reservation %s: its batch was not loaded", id)
	}
	return b, b.reservations[id], nil
}

// apply queues what d decided, notes it for the messages after this one, and
// says it.
func (b *batch) apply(tx *messaging.Tx, d decision) error {
	if d.Ignored != "" {
		tx.Ignore(d.Ignored)
		return tx.Publish(d.Say...)
	}
	if _, exists := b.reservations[d.ID]; exists {
		updateReservation(tx, d) // its lines are as they were: only who picks or receives amends them
	} else {
		insertReservation(tx, d)
	}
	moveStock(tx, d.Moves)
	b.reservations[d.ID] = d.Reservation
	for _, m := range d.Moves {
		b.available[m.SKU] += m.changes().Available
	}
	return tx.Publish(d.Say...)
}
