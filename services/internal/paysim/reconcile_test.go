package paysim_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/httpapi"
	"example.com/orderflow/messaging/messagingtest"
	"example.com/orderflow/payments"
)

// Each way in which two books can differ, planted, is found, once, and resolved when
// it is mended.
func TestReconciliationFindsPlantedBreaks(t *testing.T) {
	t.Parallel()
	const asAdmin = `SET session_replication_role = replica; ` // past the triggers that keep the books
	const behind = `; SET session_replication_role = origin`
	for _, tc := range []struct {
		name, plant, want, mend string
	}{
		{
			"a capture that our ledger hasn't",
			asAdmin + `CREATE TABLE kept AS SELECT * FROM payments.ledger WHERE kind = 'capture'; DELETE FROM payments.ledger WHERE kind = 'capture'` + behind,
			"missing_ours capture",
			`INSERT INTO payments.ledger OVERRIDING SYSTEM VALUE SELECT * FROM kept`,
		},
		{
			"a refund that our ledger hasn't",
			asAdmin + `CREATE TABLE kept AS SELECT * FROM payments.ledger WHERE kind = 'refund'; DELETE FROM payments.ledger WHERE kind = 'refund'` + behind,
			"missing_ours refund",
			`INSERT INTO payments.ledger OVERRIDING SYSTEM VALUE SELECT * FROM kept`,
		},
		{
			"a capture that the provider hasn't",
			asAdmin + `CREATE TABLE kept AS SELECT * FROM paysim.operations WHERE kind = 'capture'; DELETE FROM paysim.operations WHERE kind = 'capture'` + behind,
			"missing_theirs capture",
			`INSERT INTO paysim.operations OVERRIDING SYSTEM VALUE SELECT * FROM kept`,
		},
		{
			"a refund that the provider hasn't",
			asAdmin + `CREATE TABLE kept AS SELECT * FROM paysim.operations WHERE kind = 'refund'; DELETE FROM paysim.operations WHERE kind = 'refund'` + behind,
			"missing_theirs refund",
			`INSERT INTO paysim.operations OVERRIDING SYSTEM VALUE SELECT * FROM kept`,
		},
		{
			"another amount",
			asAdmin + `UPDATE paysim.operations SET amount_minor = amount_minor + 1 WHERE kind = 'capture'` + behind,
			"amount capture",
			asAdmin + `UPDATE paysim.operations SET amount_minor = amount_minor - 1 WHERE kind = 'capture'` + behind,
		},
		{
			"a hold that nobody here asked for",
			plantHold("elsewhere"),
			"unknown_hold authorize",
			voidHold,
		},
		{
			"a hold that we have not recorded",
			`UPDATE payments.attempts SET status = 'unknown', provider_ref = NULL WHERE attempt = 3; UPDATE payments.provider_calls SET answered_at = NULL, outcome = NULL, provider_ref = NULL WHERE key LIKE '%:3:authorize'`,
			"unresolved_hold authorize",
			`UPDATE payments.provider_calls SET answered_at = now(), outcome = 'approved', provider_ref = (SELECT id::text FROM paysim.authorizations WHERE key LIKE '%:3:authorize') WHERE key LIKE '%:3:authorize'`,
		},
		{
			"a hold of an attempt that has ended here",
			`UPDATE payments.attempts SET status = 'voided' WHERE attempt = 3`,
			"open_hold authorize",
			`UPDATE payments.attempts SET status = 'authorized' WHERE attempt = 3`,
		},
		{
			"a hold that the provider has let go",
			`INSERT INTO paysim.operations (key, kind, authorization_id, reference, amount_minor, currency, status)
			 SELECT key, 'expire', id, reference, amount_minor, currency, 'succeeded' FROM paysim.authorizations WHERE key LIKE '%:3:authorize'`,
			"ended_hold expire",
			`UPDATE payments.attempts SET status = 'expired', reason_code = 'authorization_expired' WHERE attempt = 3`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			s.deliver(authorize(1, "tok_ok"), capture(1), refund(500), authorize(2, "tok_ok"), void(2), authorize(3, "tok_ok"))
			s.wantNoBreaks()
			// One connection, so that what is set holds for what follows.
			if _, err := s.db.Admin.Exec(tc.plant); err != nil {
				t.Fatalf("plant a break: %v", err)
			}
			for range 2 {
				if got := s.reconcile(); fmt.Sprint(got) != "["+tc.want+"]" {
					t.Errorf("breaks: got %q, want %q", got, tc.want)
				}
			}
			if _, err := s.db.Admin.Exec(tc.mend); err != nil {
				t.Fatalf("mend the break: %v", err)
			}
			s.wantNoBreaks()
			var rows, resolved int
			err := s.db.Admin.QueryRow(`SELECT count(*), count(resolved_at) FROM payments.breaks`).Scan(&rows, &resolved)
			if err != nil || rows != 1 || resolved != 1 {
				t.Errorf("rows: got %d, %d of them resolved, %v, want one, resolved", rows, resolved, err)
			}
		})
	}
}

// A provider that forgets a key while another request under it is on its way holds
// money twice: what the attempt didn't come to is voided, under the next key when the
// provider refuses once, and what it did come to can be captured.
func TestReconciliationVoidsASecondHold(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.deliver(authorize(1, "tok_authorize_forgotten"))
	late := asking("tok_ok")
	late.Reference = orderID
	if r := s.do("POST", "/authorizations", paymentID+":1:authorize", late); r.status != 201 {
		t.Fatalf("the request that comes late: got %d %s, want 201", r.status, r.body)
	}
	s.wantSucceeded("authorize 1250", "authorize 1250")
	s.conduct("void", "refused", 1)
	for i, want := range []string{"[second_hold authorize]", "[second_hold authorize]", "[]"} {
		if got := fmt.Sprint(s.reconcile()); got != want {
			t.Errorf("reconciliation %d: breaks: got %s, want %s", i, got, want)
		}
	}
	s.wantSucceeded("authorize 1250", "authorize 1250", "void 1250")
	var calls []string
	if err := s.db.Admin.Select(&calls, `SELECT outcome FROM payments.provider_calls WHERE operation = 'void' ORDER BY try`); err != nil || fmt.Sprint(calls) != "[refused closed]" {
		t.Errorf("voids on record: got %q, %v, want one refused and one closed", calls, err)
	}
	if got := s.deliver(capture(1)); got != "captured" {
		t.Errorf("capture: got %q, want captured", got)
	}
	s.wantNoBreaks()
}

// plantHold is a hold in the provider's books, asked for under key.
func plantHold(key string) string {
	return `
		INSERT INTO paysim.authorizations (id, key, reference, amount_minor, currency, status)
		VALUES ('` + otherID + `', '` + key + `', '` + orderID + `', 1250, 'EUR', 'authorized');
		INSERT INTO paysim.operations (key, kind, authorization_id, reference, amount_minor, currency, status)
		VALUES ('` + key + `', 'authorize', '` + otherID + `', '` + orderID + `', 1250, 'EUR', 'succeeded')`
}

// voidHold gives back what plantHold planted.
const voidHold = `
	UPDATE paysim.authorizations SET status = 'voided' WHERE id = '` + otherID + `';
	INSERT INTO paysim.operations (key, kind, authorization_id, reference, amount_minor, currency, status)
	VALUES ('by-hand', 'void', '` + otherID + `', '` + orderID + `', 1250, 'EUR', 'succeeded')`

func TestTheLedgerIsOnlyAddedTo(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.deliver(authorize(1, "tok_ok"), capture(1))
	for _, stmt := range []string{`UPDATE payments.ledger SET amount_minor = 1`, `DELETE FROM payments.ledger`, `TRUNCATE payments.ledger`} {
		if _, err := s.db.Admin.Exec(stmt); err == nil || !strings.Contains(err.Error(), "only added to") {
			t.Errorf("%s: got %v, want a refusal", stmt, err)
		}
	}
	s.wantSucceeded("authorize 1250", "capture 1250")
}

// operators sends a request to payments' own API.
func (s shop) operators(method, path, role, body string, header http.Header) *httptest.ResponseRecorder {
	s.t.Helper()
	mux := httpapi.NewMux(messagingtest.Log(s.t))
	s.service.Routes(mux)
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for name, values := range header {
		r.Header[name] = values
	}
	if role != "" {
		r.Header.Set("X-Role", role)
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	return w
}

func TestOperatorsReconcileAndSeeBreaks(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.deliver(authorize(1, "tok_ok"), capture(1))
	if _, err := s.db.Admin.Exec(plantHold("elsewhere")); err != nil {
		t.Fatalf("plant a break: %v", err)
	}
	for _, r := range [][2]string{{"GET", "/v1/payments/breaks"}, {"POST", "/v1/payments/reconciliations"}} {
		if w := s.operators(r[0], r[1], "", "", nil); w.Code != 403 {
			t.Errorf("%s %s by a customer: got %d, want 403", r[0], r[1], w.Code)
		}
	}
	if w := s.operators("POST", "/v1/payments/reconciliations", "operator", "", nil); w.Code != 202 {
		t.Fatalf("reconcile: got %d %s, want 202", w.Code, w.Body)
	}
	asked := s.db.Published(t, "payments")
	if got := s.db.Deliver(t, messagingtest.As[contracts.ReconcilePayments](t, asked[0]))[0]; got != "done" {
		t.Fatalf("reconcile: got outcome %q, want done", got)
	}
	var shown struct{ Breaks []payments.Discrepancy }
	w := s.operators("GET", "/v1/payments/breaks?open=true", "operator", "", nil)
	if err := json.Unmarshal(w.Body.Bytes(), &shown); err != nil || len(shown.Breaks) != 1 || shown.Breaks[0].What != payments.BreakUnknownHold {
		t.Errorf("breaks: got %d %s, %v, want the hold that was planted", w.Code, w.Body, err)
	}
	// The next one begins where the open break is.
	if w := s.operators("POST", "/v1/payments/reconciliations", "operator", "", nil); w.Code != 202 {
		t.Fatalf("reconcile again: got %d %s, want 202", w.Code, w.Body)
	}
	var deeds int
	if err := s.db.Admin.Get(&deeds, `SELECT count(*) FROM payments.audit WHERE role = 'operator' AND action = 'reconcile' AND request_id <> ''`); err != nil || deeds != 2 {
		t.Errorf("rows of the audit: got %d, %v; want 2, and none of a customer's", deeds, err)
	}
	if _, err := s.db.Admin.Exec(`DELETE FROM payments.audit`); err == nil {
		t.Error("the audit could be emptied")
	}
	again := messagingtest.As[contracts.ReconcilePayments](t, s.db.Published(t, "payments")[0])
	if again.From.Before(time.Now().Add(-time.Hour)) || !again.From.Before(again.Until) {
		t.Errorf("the second is from %s until %s, want a part of the last hour", again.From, again.Until)
	}
}

func TestReconciliationOnSchedule(t *testing.T) {
	t.Parallel()
	s := newShop(t, func(c *shopConfig) { c.payments.ReconcileEvery = time.Hour })
	messagingtest.Wait(t, "a reconciliation to be asked for", func() bool {
		var n int
		err := s.db.Admin.Get(&n, `SELECT count(*) FROM payments.reconciliations`)
		return err == nil && n == 1
	})
	asked := s.db.Published(t, "payments")
	if len(asked) != 1 || asked[0].Kind != contracts.KindReconcilePayments {
		t.Fatalf("published: got %v, want one reconciliation", messagingtest.Kinds(asked))
	}
	if got := s.db.Deliver(t, messagingtest.As[contracts.ReconcilePayments](t, asked[0]))[0]; got != "done" {
		t.Errorf("got outcome %q, want done", got)
	}
	var ended bool
	if err := s.db.Admin.Get(&ended, `SELECT ended_at IS NOT NULL AND movements = 0 AND found = 0 FROM payments.reconciliations`); err != nil || !ended {
		t.Errorf("ended: got %t, %v, want an end without movements", ended, err)
	}
}
