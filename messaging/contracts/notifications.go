package contracts

// The kinds that notifications owns.
const (
	KindSendNotification   = "notifications.send_notification"
	KindResendNotification = "notifications.resend_notification"

	KindNotificationSent   = "notifications.notification_sent"
	KindNotificationFailed = "notifications.notification_failed"
)

// SendNotification has a notification that is written down delivered by its
// channel. Notifications sends it to itself, so that talking to a mail server or
// to a customer's endpoint happens outside the transaction that wrote it down.
// Repeated, it delivers nothing more: the delivery bears the notification's id.
type SendNotification struct {
	NotificationID string `json:"notification_id" validate:"required,uuid"`
	OrderID        string `json:"order_id" validate:"required,uuid"`
}

func (SendNotification) Kind() string    { return KindSendNotification }
func (m SendNotification) Order() string { return m.OrderID }

// ResendNotification has a notification delivered once more, because an operator
// or the customer asked for it. ResendID tells one wish from another.
type ResendNotification struct {
	ResendID       string `json:"resend_id" validate:"required,uuid"`
	NotificationID string `json:"notification_id" validate:"required,uuid"`
	OrderID        string `json:"order_id" validate:"required,uuid"`
}

func (ResendNotification) Kind() string    { return KindResendNotification }
func (m ResendNotification) Order() string { return m.OrderID }

// NotificationSent: the channel has taken the notification.
type NotificationSent struct {
	NotificationID string `json:"notification_id" validate:"required,uuid"`
	OrderID        string `json:"order_id" validate:"required,uuid"`
	Channel        string `json:"channel" validate:"required"` // email, webhook
}

func (NotificationSent) Kind() string    { return KindNotificationSent }
func (m NotificationSent) Order() string { return m.OrderID }

// NotificationFailed: the channel will not take the notification; nobody tries
// again by itself.
type NotificationFailed struct {
	NotificationID string `json:"notification_id" validate:"required,uuid"`
	OrderID        string `json:"order_id" validate:"required,uuid"`
	Channel        string `json:"channel" validate:"required"` // email, webhook
	ReasonCode     string `json:"reason_code" validate:"required"`
}

func (NotificationFailed) Kind() string    { return KindNotificationFailed }
func (m NotificationFailed) Order() string { return m.OrderID }
