package notifications

import (
	"net/http"

	"example.com/orderflow/messaging/httpapi"
)

// Routes adds the service's requests to mux.
func (s *Service) Routes(mux *httpapi.Mux) {
	mux.Handle("GET /v1/notifications", s.listNotifications)
}

// notificationList is the answer to GET /v1/notifications.
type notificationList struct {
	Notifications []Notification `json:"notifications"`
}

// listNotifications answers with what the caller was told about the order
// order_id, oldest first: about an order of somebody else, or of nobody, nothing.
// An order has a handful, so that all of them are one page.
func (s *Service) listNotifications(w http.ResponseWriter, r *http.Request) error {
	page, err := httpapi.PageParams(r, "order_id=uuid")
	if err != nil {
		return err
	}
	orderID := page.Filters["order_id"]
	if orderID == "" {
		return httpapi.NewProblem(http.StatusBadRequest, "invalid-parameter", "order_id: the order whose notifications are asked for")
	}
	list, err := listNotifications(r.Context(), s.db, orderID, httpapi.CustomerID(r))
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, notificationList{Notifications: list})
}
