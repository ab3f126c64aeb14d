package contracts

// Line is a quantity of one product.
type Line struct {
	SKU      string `json:"sku" validate:"required"`
	Quantity int    `json:"quantity" validate:"min=1"`
}

// The kinds that inventory owns.
const (
	KindReserveStock     = "inventory.reserve_stock"
	KindReleaseStock     = "inventory.release_stock"
	KindFulfilOrder      = "inventory.fulfil_order"
	KindStopFulfilment   = "inventory.stop_fulfilment"
	KindDispatchShipment = "inventory.dispatch_shipment"
	KindExpectReturn     = "inventory.expect_return"

	KindCheckAvailability = "inventory.check_availability"
	KindAvailability      = "inventory.availability"

	KindProductChanged     = "inventory.product_changed"
	KindStockLevelChanged  = "inventory.stock_level_changed"
	KindStockReserved      = "inventory.stock_reserved"
	KindStockRejected      = "inventory.stock_rejected"
	KindStockReleased      = "inventory.stock_released"
	KindReservationExpired = "inventory.reservation_expired"
	KindFulfilmentStarted  = "inventory.fulfilment_started"
	KindFulfilmentRefused  = "inventory.fulfilment_refused"
	KindShipmentPacked     = "inventory.shipment_packed"
	KindShipmentDispatched = "inventory.shipment_dispatched"
	KindShipmentDelivered  = "inventory.shipment_delivered"
	KindShipmentLost       = "inventory.shipment_lost"
	KindReturnReceived     = "inventory.return_received"

	KindStockPartiallyReserved = "inventory.stock_partially_reserved"
)

// ReserveStock asks inventory to hold all lines for HoldSeconds, or, with
// AllowPartial, what is there of them. It is answered by StockReserved,
// StockPartiallyReserved or StockRejected; repeated, by the same answer again.
type ReserveStock struct {
	ReservationID string `json:"reservation_id" validate:"required,uuid"`
	OrderID       string `json:"order_id" validate:"required,uuid"`
	Lines         []Line `json:"lines" validate:"min=1,max=100,dive"`
	HoldSeconds   int    `json:"hold_seconds" validate:"min=1"`
	AllowPartial  bool   `json:"allow_partial"` // since version 2
}

func (ReserveStock) Kind() string       { return KindReserveStock }
func (m ReserveStock) Order() string    { return m.OrderID }
func (ReserveStock) SchemaVersion() int { return 2 }

// ReleaseStock undoes a reservation in any state before shipping; of one that
// never was it leaves a tombstone, so that an overtaken ReserveStock is refused.
// Answered by StockReleased or, when the goods have left the house, by
// ShipmentDispatched, ShipmentDelivered or ShipmentLost, whichever is so.
type ReleaseStock struct {
	ReservationID string `json:"reservation_id" validate:"required,uuid"`
	OrderID       string `json:"order_id" validate:"required,uuid"`
	Reason        string `json:"reason"`
}

func (ReleaseStock) Kind() string    { return KindReleaseStock }
func (m ReleaseStock) Order() string { return m.OrderID }

// FulfilOrder asks the warehouse to pick and pack what is reserved. Answered by
// FulfilmentStarted and later ShipmentPacked, or by FulfilmentRefused; repeated,
// by the latest of them again.
type FulfilOrder struct {
	ReservationID string `json:"reservation_id" validate:"required,uuid"`
	OrderID       string `json:"order_id" validate:"required,uuid"`
}

func (FulfilOrder) Kind() string    { return KindFulfilOrder }
func (m FulfilOrder) Order() string { return m.OrderID }

// StopFulfilment asks the warehouse to stop picking, because the customer has
// cancelled. Answered by StockReleased, or by ShipmentPacked when it is too late;
// repeated, by the same answer again.
type StopFulfilment struct {
	ReservationID string `json:"reservation_id" validate:"required,uuid"`
	OrderID       string `json:"order_id" validate:"required,uuid"`
}

func (StopFulfilment) Kind() string    { return KindStopFulfilment }
func (m StopFulfilment) Order() string { return m.OrderID }

// DispatchShipment hands what is packed and paid to the carrier. Answered by
// ShipmentDispatched and later ShipmentDelivered or ShipmentLost; repeated, by the
// latest again.
type DispatchShipment struct {
	ReservationID string `json:"reservation_id" validate:"required,uuid"`
	OrderID       string `json:"order_id" validate:"required,uuid"`
}

func (DispatchShipment) Kind() string    { return KindDispatchShipment }
func (m DispatchShipment) Order() string { return m.OrderID }

// ExpectReturn tells the warehouse that the customer sends these lines of a
// delivered order back. Answered by ReturnReceived once they are there; repeated
// after that, by the same answer again.
type ExpectReturn struct {
	ReturnID      string `json:"return_id" validate:"required,uuid"`
	ReservationID string `json:"reservation_id" validate:"required,uuid"`
	OrderID       string `json:"order_id" validate:"required,uuid"`
	Lines         []Line `json:"lines" validate:"min=1,max=100,dive"`
}

func (ExpectReturn) Kind() string    { return KindExpectReturn }
func (m ExpectReturn) Order() string { return m.OrderID }

// CheckAvailability asks how many pieces of products can be ordered now. It is a
// request: whoever asks waits for the Availability that answers it. Nothing is
// held by it.
type CheckAvailability struct {
	SKUs []string `json:"skus" validate:"min=1,max=50,dive,required"`
}

func (CheckAvailability) Kind() string         { return KindCheckAvailability }
func (CheckAvailability) Order() string        { return "" }
func (CheckAvailability) Answer() Availability { return Availability{} }

// Availability answers CheckAvailability: every SKU that was asked for stands in
// one of the two lists, in the order asked.
type Availability struct {
	Products []AvailableProduct `json:"products" validate:"dive"`
	Unknown  []string           `json:"unknown"` // not on sale
}

// AvailableProduct is how many pieces of a product can be ordered.
type AvailableProduct struct {
	SKU       string `json:"sku" validate:"required"`
	Available int64  `json:"available" validate:"min=0"`
}

func (Availability) Kind() string  { return KindAvailability }
func (Availability) Order() string { return "" }

// ProductChanged says what a product is called and costs now. Its lane is the SKU.
type ProductChanged struct {
	SKU        string `json:"sku" validate:"required"`
	Name       string `json:"name" validate:"required"`
	PriceMinor int64  `json:"price_minor" validate:"min=1"`
	Currency   string `json:"currency" validate:"required,iso4217"`
	Active     bool   `json:"active"`
}

func (ProductChanged) Kind() string   { return KindProductChanged }
func (ProductChanged) Order() string  { return "" }
func (m ProductChanged) Lane() string { return m.SKU }

// StockLevelChanged says that a product was restocked or sold out. Its lane is the SKU.
type StockLevelChanged struct {
	SKU       string `json:"sku" validate:"required"`
	Available int64  `json:"available" validate:"min=0"`
}

func (StockLevelChanged) Kind() string   { return KindStockLevelChanged }
func (StockLevelChanged) Order() string  { return "" }
func (m StockLevelChanged) Lane() string { return m.SKU }

// StockReserved: all lines are held until the hold runs out.
type StockReserved struct {
	ReservationID string `json:"reservation_id" validate:"required,uuid"`
	OrderID       string `json:"order_id" validate:"required,uuid"`
}

func (StockReserved) Kind() string    { return KindStockReserved }
func (m StockReserved) Order() string { return m.OrderID }

// StockPartiallyReserved: these lines, less than was asked for, are held until the
// hold runs out. It answers only a ReserveStock that allowed it.
type StockPartiallyReserved struct {
	ReservationID string `json:"reservation_id" validate:"required,uuid"`
	OrderID       string `json:"order_id" validate:"required,uuid"`
	Lines         []Line `json:"lines" validate:"min=1,dive"`
}

func (StockPartiallyReserved) Kind() string    { return KindStockPartiallyReserved }
func (m StockPartiallyReserved) Order() string { return m.OrderID }

// StockRejected: nothing is held. ReasonCode is out_of_stock, unknown_sku or released.
type StockRejected struct {
	ReservationID string   `json:"reservation_id" validate:"required,uuid"`
	OrderID       string   `json:"order_id" validate:"required,uuid"`
	ReasonCode    string   `json:"reason_code" validate:"required"`
	SKUs          []string `json:"skus,omitempty"` // those that fell short
}

func (StockRejected) Kind() string    { return KindStockRejected }
func (m StockRejected) Order() string { return m.OrderID }

// StockReleased: nothing is held, picked or packed for the order any more.
type StockReleased struct {
	ReservationID string `json:"reservation_id" validate:"required,uuid"`
	OrderID       string `json:"order_id" validate:"required,uuid"`
}

func (StockReleased) Kind() string    { return KindStockReleased }
func (m StockReleased) Order() string { return m.OrderID }

// ReservationExpired: the hold ran out before the warehouse was asked.
type ReservationExpired struct {
	ReservationID string `json:"reservation_id" validate:"required,uuid"`
	OrderID       string `json:"order_id" validate:"required,uuid"`
}

func (ReservationExpired) Kind() string    { return KindReservationExpired }
func (m ReservationExpired) Order() string { return m.OrderID }

// FulfilmentStarted: the warehouse is picking.
type FulfilmentStarted struct {
	ReservationID string `json:"reservation_id" validate:"required,uuid"`
	OrderID       string `json:"order_id" validate:"required,uuid"`
}

func (FulfilmentStarted) Kind() string    { return KindFulfilmentStarted }
func (m FulfilmentStarted) Order() string { return m.OrderID }

// FulfilmentRefused: there is nothing to pick. ReasonCode is not_reserved,
// reservation_expired or released.
type FulfilmentRefused struct {
	ReservationID string `json:"reservation_id" validate:"required,uuid"`
	OrderID       string `json:"order_id" validate:"required,uuid"`
	ReasonCode    string `json:"reason_code" validate:"required"`
}

func (FulfilmentRefused) Kind() string    { return KindFulfilmentRefused }
func (m FulfilmentRefused) Order() string { return m.OrderID }

// ShipmentPacked: these lines are packed and wait for their money. They are fewer,
// or smaller, than was reserved when the warehouse found less (a short pick); since
// version 2 there may be none, and then nothing is reserved any more.
type ShipmentPacked struct {
	ReservationID string `json:"reservation_id" validate:"required,uuid"`
	OrderID       string `json:"order_id" validate:"required,uuid"`
	Lines         []Line `json:"lines" validate:"dive"`
}

func (ShipmentPacked) Kind() string       { return KindShipmentPacked }
func (m ShipmentPacked) Order() string    { return m.OrderID }
func (ShipmentPacked) SchemaVersion() int { return 2 }

// ShipmentDispatched: the carrier has it.
type ShipmentDispatched struct {
	ReservationID string `json:"reservation_id" validate:"required,uuid"`
	OrderID       string `json:"order_id" validate:"required,uuid"`
	Tracking      string `json:"tracking" validate:"required"`
}

func (ShipmentDispatched) Kind() string    { return KindShipmentDispatched }
func (m ShipmentDispatched) Order() string { return m.OrderID }

// ShipmentDelivered: the customer has it.
type ShipmentDelivered struct {
	ReservationID string `json:"reservation_id" validate:"required,uuid"`
	OrderID       string `json:"order_id" validate:"required,uuid"`
}

func (ShipmentDelivered) Kind() string    { return KindShipmentDelivered }
func (m ShipmentDelivered) Order() string { return m.OrderID }

// ShipmentLost: the carrier will not deliver it.
type ShipmentLost struct {
	ReservationID string `json:"reservation_id" validate:"required,uuid"`
	OrderID       string `json:"order_id" validate:"required,uuid"`
}

func (ShipmentLost) Kind() string    { return KindShipmentLost }
func (m ShipmentLost) Order() string { return m.OrderID }

// ReturnReceived: these lines of a return are back in stock.
type ReturnReceived struct {
	ReturnID      string `json:"return_id" validate:"required,uuid"`
	ReservationID string `json:"reservation_id" validate:"required,uuid"`
	OrderID       string `json:"order_id" validate:"required,uuid"`
	Lines         []Line `json:"lines" validate:"min=1,dive"`
}

func (ReturnReceived) Kind() string    { return KindReturnReceived }
func (m ReturnReceived) Order() string { return m.OrderID }
