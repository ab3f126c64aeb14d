package orders

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/httpapi"
)

// answer is what a request with an Idempotency-Key is answered, and its repeats
// byte for byte.
type answer struct {
	Key         string
	Fingerprint string // of the request
	Status      int
	Body        []byte // JSON
	OrderID     string
	Replayed    bool
}

// make sets what a is from now on, but for its key.
func (a *answer) make(status int, orderID string, document any) error {
	body, err := json.Marshal(document)
	if err != nil {
		return fmt.Errorf("encode order %s: %w", orderID, err)
	}
	a.Status, a.OrderID, a.Body = status, orderID, body
	return nil
}

// once has do happen in a transaction if caller's key is new, or finds what was
// answered to it before. request is what the key stands for: all that makes the
// request what it is, decoded, so that white space and member order don't count.
// skus are the products that do asks opening about. do makes the answer and
// queues it with the rest; when it returns an error nothing is stored. The error
// of once is a *httpapi.Problem when the key is another request's or in use.
func (s *Service) once(ctx context.Context, caller, key string, request any, skus []string, do func(context.Context, *messaging.Tx, opening, *answer) error) (answer, error) {
	decoded, err := json.Marshal(request)
	if err != nil {
		return answer{}, fmt.Errorf("encode a request: %w", err)
	}
	fingerprint, err := httpapi.Fingerprint(decoded)
	if err != nil {
		return answer{}, err
	}
	a := answer{Key: key, Fingerprint: fingerprint}
	first, err := s.tryOnce(ctx, caller, a, skus, do)
	if keyTaken(err) {
		// The other one's answer is stored now: the second look sees it.
		first, err = s.tryOnce(ctx, caller, a, skus, do)
	}
	return first, err
}

// tryOnce is once in one transaction. Its error is keyTaken when another one with
// the same key has committed since it looked.
func (s *Service) tryOnce(ctx context.Context, caller string, a answer, skus []string, do func(context.Context, *messaging.Tx, opening, *answer) error) (answer, error) {
	err := s.bus.InTx(ctx, func(ctx context.Context, tx *messaging.Tx) error {
		op, err := openKey(ctx, tx, caller, a.Key, skus)
		if err != nil {
			return err
		}
		if op.Fingerprint.Valid {
			a, err = replay(op, a)
			return err
		}
		if !op.Locked {
			return httpapi.NewProblem(http.StatusConflict, "idempotency-in-progress", "the first request with this Idempotency-Key is still being answered").
				WithHeader("Retry-After", "1")
		}
		return do(ctx, tx, op, &a)
	})
	if err != nil {
		return answer{}, err
	}
	return a, nil
}

// replay is what was answered to a's key before; a problem when that was another
// request.
func replay(op opening, a answer) (answer, error) {
	if op.Fingerprint.String != a.Fingerprint {
		return answer{}, httpapi.NewProblem(http.StatusUnprocessableEntity, "idempotency-key-reused", "this Idempotency-Key belongs to another request")
	}
	a.Status, a.Body, a.OrderID, a.Replayed = int(op.Status.Int64), op.Body, op.OrderID.String, true
	return a, nil
}

// write sends a as the answer, and tells when it was given before.
func (a answer) write(w http.ResponseWriter) error {
	if a.Replayed {
		w.Header().Set("Idempotency-Replayed", "true")
	}
	return httpapi.WriteJSON(w, a.Status, json.RawMessage(a.Body))
}
