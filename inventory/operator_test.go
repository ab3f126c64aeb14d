package inventory

import (
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/jmoiron/sqlx"

	"example.com/orderflow/messaging"
	"example.com/orderflow/messaging/contracts"
	"example.com/orderflow/messaging/httpapi"
	"example.com/orderflow/messaging/messagingtest"
)

func TestOnlyOperatorsAct(t *testing.T) {
	t.Parallel()
	f := running(t, byHand())
	o := f.delivered(t, "A-1", 1)
	id := newReturn()
	f.handled(t, "done", o.sendBack(id, "A-1", 1))
	before := f.acts(t)
	mux := httpapi.NewMux(messagingtest.Log(t))
	f.service.Routes(mux)
	for _, request := range []string{
		"POST /v1/products/A-1/restock", "POST /v1/shipments/" + o.id + "/take", "POST /v1/shipments/" + o.id + "/pack", "POST /v1/shipments/" + o.id + "/dispatch",
		"POST /v1/shipments/" + o.id + "/deliver", "POST /v1/shipments/" + o.id + "/lose",
		"POST /v1/shipments/" + o.id + "/returns/" + id + "/receive", "GET /v1/stock-moves",
	} {
		for _, role := range []string{"", "customer"} {
			method, path, _ := strings.Cut(request, " ")
			r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(`{"quantity":1}`))
			r.Header.Set("Content-Type", "application/json")
			if role != "" {
				r.Header.Set("X-Role", role)
			}
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, r)
			if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "/forbidden") {
				t.Errorf("%s as %q: status %d, %s, want 403 forbidden", request, role, w.Code, w.Body)
			}
		}
	}
	f.said(t)
	if got := f.acts(t); !slices.Equal(got, before) {
		t.Errorf("audit %v, want nothing more than %v", got, before)
	}
	if got, want := f.stock(t, "A-1"), (levels{99, 0, 1}); got != want {
		t.Errorf("stock of A-1 %+v, want %+v", got, want)
	}
}

// acts are the rows of the audit, oldest first.
func (f fixture) acts(t *testing.T) []act {
	t.Helper()
	var list []act
	err := f.Admin.Select(&list, `
		SELECT who, role, action, subject_id AS subjectid, coalesce(order_id::text, '') AS orderid, coalesce(sku, '') AS sku, request_id AS requestid
		FROM inventory.audit
		ORDER BY id`)
	if err != nil {
		t.Fatalf("read the audit: %v", err)
	}
	return list
}

func TestActsAreAudited(t *testing.T) {
	t.Parallel()
	f := running(t, byHand())
	o, second := f.delivered(t, "A-1", 1), newOrder()
	id := newReturn()
	f.handled(t, "done", o.sendBack(id, "A-1", 1))
	expect[shipment](t, f, http.StatusOK, "POST /v1/shipments/"+o.id+"/returns/"+id+"/receive", "")
	expect[httpapi.Problem](t, f, http.StatusConflict, "POST /v1/shipments/"+o.id+"/pack", "") // changes nothing
	expect[Product](t, f, http.StatusOK, "POST /v1/products/A-1/restock", `{"quantity":7}`)
	expect[httpapi.Problem](t, f, http.StatusNotFound, "POST /v1/products/NOPE-1/restock", `{"quantity":7}`)
	expect[httpapi.Problem](t, f, http.StatusNotFound, "POST /v1/shipments/"+second.id+"/lose", "")

	got := f.acts(t)
	var actions []string
	requests := map[string]bool{}
	for i, a := range got {
		actions = append(actions, a.Action)
		requests[a.RequestID] = true
		if a.RequestID == "" || a.Who != "ines" || a.Role != "operator" {
			t.Errorf("act %+v, want one of operator ines with a request id", a)
		}
		switch subject := map[bool]string{true: o.reservation, false: id}[i < 3]; {
		case a.Action == "restock":
			var pieces int64
			err := f.Admin.Get(&pieces, `SELECT available FROM inventory.stock_moves WHERE what = 'restocked' AND cause_id = $1`, a.SubjectID)
			if err != nil || pieces != 7 || a.SKU != "A-1" || a.OrderID != "" {
				t.Errorf("act %+v moved %d pieces, %v, want 7 of A-1", a, pieces, err)
			}
		case a.SubjectID != subject || a.OrderID != o.id || a.SKU != "":
			t.Errorf("act %+v, want one about %s of order %s", a, subject, o.id)
		}
	}
	if want := []string{"pack", "dispatch", "deliver", "receive", "restock"}; !slices.Equal(actions, want) || len(requests) != len(want) {
		t.Errorf("audit of %v by %d requests, want %v", actions, len(requests), want)
	}
	f.addsUp(t)
}

func TestAuditAndLedgerAreOnlyAddedTo(t *testing.T) {
	t.Parallel()
	f := running(t, byHand())
	expect[Product](t, f, http.StatusOK, "POST /v1/products/A-1/restock", `{"quantity":7}`)
	for _, table := range []string{"inventory.audit", "inventory.stock_moves"} {
		for _, change := range []string{`UPDATE ` + table + ` SET sku = 'B-1'`, `DELETE FROM ` + table, `TRUNCATE ` + table} {
			for who, db := range map[string]*sqlx.DB{"the service": f.Service("inventory"), "an administrator": f.Admin} {
				if _, err := db.Exec(change); err == nil {
					t.Errorf("%s may %s", who, change)
				}
			}
		}
	}
	if _, err := f.Admin.Exec(`INSERT INTO inventory.stock_moves (sku, what, available, at) VALUES ('A-1', 'reserved', -1, now())`); err == nil {
		t.Error("a move that doesn't add up is taken")
	}
	f.handled(t, "done", newOrder().reserve("A-1", 1))
	_, err := f.Admin.Exec(`
		INSERT INTO inventory.stock_moves (sku, what, cause_id, order_id, available, reserved, at)
		SELECT sku, what, cause_id, order_id, available, reserved, at FROM inventory.stock_moves WHERE what = 'reserved'`)
	if err == nil {
		t.Error("a move is taken twice for the same reason")
	}
}

func TestBadPackingsChangeNothing(t *testing.T) {
	t.Parallel()
	f := running(t, byHand())
	o := newOrder()
	f.handled(t, "done", o.reserve("A-1", 2, "B-1", 1))
	f.handled(t, "done", o.fulfil())
	f.Published(t, "inventory")
	tests := []struct {
		name, body    string
		status        int
		code, pointer string
	}{
		{"more than reserved", `{"lines":[{"sku":"A-1","quantity":3}]}`, 422, "validation", "/lines/0/quantity"},
		{"not reserved", `{"lines":[{"sku":"A-1","quantity":2},{"sku":"C-1","quantity":1}]}`, 422, "validation", "/lines/1/sku"},
		{"less than none", `{"lines":[{"sku":"A-1","quantity":-1}]}`, 422, "validation", "/lines/0/quantity"},
		{"no quantity", `{"lines":[{"sku":"A-1"}]}`, 422, "validation", "/lines/0/quantity"},
		{"a fraction", `{"lines":[{"sku":"A-1","quantity":0.5}]}`, 422, "validation", "/lines/0/quantity"},
		{"a SKU out of form", `{"lines":[{"sku":"a","quantity":1}]}`, 422, "validation", "/lines/0/sku"},
		{"one SKU twice", `{"lines":[{"sku":"A-1","quantity":1},{"sku":"A-1","quantity":1}]}`, 422, "validation", "/lines"},
		{"no lines", `{}`, 422, "validation", "/lines"},
		{"lines of null", `{"lines":null}`, 422, "validation", "/lines"},
		{"another member", `{"lines":[],"found":1}`, 422, "validation", "/found"},
		{"no JSON", `{"lines":[]`, 400, "malformed-json", ""},
		{"twice the member", `{"lines":[],"lines":[]}`, 400, "duplicate-member", ""},
	}
	for _, tt := range tests {
		p := expect[httpapi.Problem](t, f, tt.status, "POST /v1/shipments/"+o.id+"/pack", tt.body)
		if p.Code() != tt.code || tt.pointer != "" && (len(p.Errors) != 1 || p.Errors[0].Pointer != tt.pointer) {
			t.Errorf("%s: problem %s with %+v, want %s at %s", tt.name, p.Code(), p.Errors, tt.code, tt.pointer)
		}
	}
	f.said(t)
	if got := f.status(t, o.reservation); got != Picking || len(f.acts(t)) > 0 {
		t.Errorf("status %q, audit %v, want picking and none", got, f.acts(t))
	}
	f.addsUp(t)
}

func TestLedgerIsListed(t *testing.T) {
	t.Parallel()
	f := running(t, byHand())
	o, id := f.delivered(t, "A-1", 2), newReturn()
	f.handled(t, "done", o.sendBack(id, "A-1", 1))
	expect[shipment](t, f, http.StatusOK, "POST /v1/shipments/"+o.id+"/returns/"+id+"/receive", "")
	f.handled(t, "done", newOrder().reserve("B-1", 1))

	got := expect[moveList](t, f, http.StatusOK, "GET /v1/stock-moves?order_id="+o.id, "")
	want := []moveDocument{
		{What: returned, CauseID: &id, counters: counters{Available: 1, Sold: -1}},
		{What: shipped, CauseID: &o.reservation, counters: counters{Reserved: -2, Sold: 2}},
		{What: reserved, CauseID: &o.reservation, counters: counters{Available: -2, Reserved: 2}},
	}
	for i := range min(len(got.Moves), len(want)) {
		want[i].ID, want[i].At, want[i].SKU, want[i].OrderID = got.Moves[i].ID, got.Moves[i].At, "A-1", &o.id
	}
	if !reflect.DeepEqual(got.Moves, want) || got.NextCursor != "" {
		t.Errorf("moves %+v, want %+v", got, want)
	}

	// All of a SKU in pages of two, and all there are.
	var whats []what
	cursor := ""
	for range 10 {
		page := expect[moveList](t, f, http.StatusOK, "GET /v1/stock-moves?sku=A-1&limit=2"+cursor, "")
		for _, m := range page.Moves {
			whats = append(whats, m.What)
		}
		if page.NextCursor == "" {
			break
		}
		cursor = "&cursor=" + page.NextCursor
	}
	if want := []what{returned, shipped, reserved, stocked}; !slices.Equal(whats, want) {
		t.Errorf("moves of A-1: %v, want %v", whats, want)
	}
	if all := expect[moveList](t, f, http.StatusOK, "GET /v1/stock-moves", ""); len(all.Moves) != 7 {
		t.Errorf("%d moves in all, want 7: %+v", len(all.Moves), all.Moves)
	}
	if none := expect[moveList](t, f, http.StatusOK, "GET /v1/stock-moves?sku=NOPE-1&order_id="+o.id, ""); len(none.Moves) != 0 || none.Moves == nil {
		t.Errorf("moves of no product: %+v, want an empty list", none)
	}
	for _, query := range []string{"limit=0", "limit=101", "limit=x", "cursor=x", "cursor=eyJiZWZvcmUiOjB9", "order_id=1", "sku=a", "sku=%00", "what=shipped", "sku=A-1&sku=B-1"} {
		if p := expect[httpapi.Problem](t, f, http.StatusBadRequest, "GET /v1/stock-moves?"+query, ""); p.Code() != "invalid-parameter" {
			t.Errorf("%s: problem %s, want invalid-parameter", query, p.Code())
		}
	}
}

// TestLedgerOpensWithWhatIsThere migrates a shop that was made before the ledger.
func TestLedgerOpensWithWhatIsThere(t *testing.T) {
	t.Parallel()
	first, err := migrations.ReadFile("migrations/0001_inventory.sql")
	if err != nil {
		t.Fatal(err)
	}
	old := Spec()
	old.Speaks, old.Migrations = []string{contracts.KindStockReserved}, fstest.MapFS{"migrations/0001_inventory.sql": {Data: first}}
	db := messagingtest.NewDB(t, old)
	_, err = db.Admin.Exec(`
		INSERT INTO inventory.products (sku, name, price_minor, currency) VALUES ('A-1', 'Mug', 1, 'EUR'), ('B-1', 'Pot', 1, 'EUR');
		INSERT INTO inventory.stock (sku, initial, restocked, available, reserved, sold) VALUES ('A-1', 10, 5, 8, 3, 4), ('B-1', 0, 0, 0, 0, 0);
		INSERT INTO inventory.reservations (id, order_id, status, next_at, tracking)
		VALUES ('` + rid + `', '` + oid + `', 'held', 'infinity', ''), ('` + tid + `', '` + tid + `', 'delivered', NULL, 'OF1');
		INSERT INTO inventory.reservation_lines (reservation_id, sku, quantity) VALUES ('` + rid + `', 'A-1', 3), ('` + tid + `', 'A-1', 4)`)
	if err != nil {
		t.Fatalf("make the shop of before: %v", err)
	}
	if err := messaging.Migrate(t.Context(), db.Admin, messagingtest.Log(t), nil, Spec()); err != nil {
		t.Fatalf("migrate: %v", err)
	}
	var n int
	err = db.Admin.Get(&n, `
		SELECT count(*)
		FROM inventory.stock s
		JOIN inventory.stock_moves m USING (sku, initial, restocked, available, reserved, sold, written_off)
		WHERE m.what = 'opening'`)
	if err != nil || n != 2 {
		t.Errorf("%d SKUs open the ledger as they were, %v, want 2", n, err)
	}
}
