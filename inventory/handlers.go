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
	available    map[string]int64       // pieces by SKU
	onSale       map[string]int64       // likewise, not locked: only read, of products that somebody asked about
}

// preload locks, reservations before stock and each sorted, what msgs will
// touch. A reservation that doesn't exist yet can't be locked: its INSERT is the
// lock, and of two transactions that make the same one the later fails on the
// key, is tried again, and finds it.
func (s *Service) preload(ctx context.Context, tx *messaging.Tx, msgs []messaging.Message) error {
	lines := map[string][]contracts.Line{} // what is to be reserved, by reservation
	releases := map[string]bool{}
	ids := map[string]bool{}
	var asked []string // SKUs that somebody wants to know about
	for _, m := range msgs {
		if m.Kind == contracts.KindCheckAvailability {
			asked = append(asked, askedFor(m)...)
			continue
		}
		var body struct {
			ReservationID string           `json:"reservation_id"`
			Lines         []contracts.Line `json:"lines"`
		}
		// What can't be read is left to its handler, which refuses it by itself.
		if json.Unmarshal(m.Payload, &body) != nil || !isUUID(body.ReservationID) {
			continue
		}
		ids[body.ReservationID] = true
		switch m.Kind {
		case contracts.KindReserveStock:
			lines[body.ReservationID] = append(lines[body.ReservationID], body.Lines...)
		case contracts.KindReleaseStock:
			releases[body.ReservationID] = true
		}
	}
	found, err := lockReservations(ctx, tx, slices.Sorted(maps.Keys(ids)))
	if err != nil {
		return err
	}
	skus := map[string]bool{}
	for id := range ids {
		r, exists := found[id]
		touched := lines[id]
		if exists {
			touched = nil
			if releases[id] && r.Status.holdsStock() {
				touched = r.Lines
			}
		}
		for _, l := range touched {
			skus[l.SKU] = skuForm.MatchString(l.SKU)
		}
	}
	maps.DeleteFunc(skus, func(_ string, wellFormed bool) bool { return !wellFormed })
	available, err := lockStock(ctx, tx, slices.Sorted(maps.Keys(skus)))
	if err != nil {
		return err
	}
	onSale, err := readOnSale(ctx, tx, asked)
	if err != nil {
		return err
	}
	tx.Loaded = &batch{reservations: found, available: available, onSale: onSale}
	return nil
}

// isUUID reports whether the database takes s for a UUID as it stands.
func isUUID(s string) bool { return len(s) == 36 && uuid.Validate(s) == nil }

// reserveStock holds all lines of the order, or none.
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

// dispatchShipment has the carrier fetch what is packed.
func (s *Service) dispatchShipment(ctx context.Context, tx *messaging.Tx, m contracts.DispatchShipment) error {
	b, r, err := loaded(tx, m.ReservationID)
	if err != nil {
		return err
	}
	return b.apply(tx, dispatch(r, s.pace))
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
		updateReservation(tx, d)
		moveStock(tx, d)
	} else {
		insertReservation(tx, d)
	}
	b.reservations[d.ID] = d.Reservation
	if d.Flow != stays {
		for _, l := range d.Lines {
			moved, _, _ := d.Flow.moves(l.Quantity)
			b.available[l.SKU] += moved
		}
	}
	return tx.Publish(d.Say...)
}
