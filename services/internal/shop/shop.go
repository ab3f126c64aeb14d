// Package shop lists the services that make up the shop, for the programs that
// deal with all of them: the demo, the migrator, the tests. A fifth service adds
// one line here.
package shop

import (
	"example.com/orderflow/inventory"
	"example.com/orderflow/messaging"
	"example.com/orderflow/notifications"
	"example.com/orderflow/orders"
	"example.com/orderflow/payments"
	"example.com/orderflow/services/internal/paysim"
)

// Specs declares every service to the migrator, the payment provider's
// simulator among them.
func Specs() []messaging.Spec {
	return []messaging.Spec{
		orders.Spec(),
		payments.Spec(),
		inventory.Spec(),
		notifications.Spec(),
		paysim.Spec(),
	}
}
