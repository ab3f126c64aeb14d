package inventory

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
)

// askedFor are the SKUs that a CheckAvailability is about; those that no product
// can have are left out.
func askedFor(m messaging.Message) []string {
	var body contracts.CheckAvailability
	if json.Unmarshal(m.Payload, &body) != nil {
		return nil // the handler refuses it
	}
	return slices.DeleteFunc(body.SKUs, func(sku string) bool { return !skuForm.MatchString(sku) })
}

// checkAvailability tells how many pieces of each product can be ordered now: by
// what is committed and by what the messages of the batch before it took.
func (s *Service) checkAvailability(_ context.Context, tx *messaging.Tx, m contracts.CheckAvailability) (contracts.Availability, error) {
	b, ok := tx.Loaded.(*batch)
	if !ok {
		return contracts.Availability{}, errors.New("check availability: its batch was not loaded")
	}
	answer := contracts.Availability{Products: []contracts.AvailableProduct{}, Unknown: []string{}}
	for _, sku := range m.SKUs {
		pieces, known := b.onSale[sku]
		if !known {
			answer.Unknown = append(answer.Unknown, sku)
			continue
		}
		if left, locked := b.available[sku]; locked {
			pieces = left
		}
		answer.Products = append(answer.Products, contracts.AvailableProduct{SKU: sku, Available: pieces})
	}
	return answer, nil
}
