\set oid random(1, 9223372036854775000)
\set s1 random(1, 500)
\set s2 random(501, 1000)
BEGIN;
INSERT INTO ordering.orders (id, customer_id, status, total_cents) VALUES (:oid, 42, $$placed$$, 8997);
INSERT INTO ordering.order_items (order_id, sku, qty, price_cents) VALUES (:oid, $$SKU-$$ || lpad(:s1::text, 5, $$0$$), 2, 1999), (:oid, $$SKU-$$ || lpad(:s2::text, 5, $$0$$), 1, 4999);
INSERT INTO ordering.outbox (topic, payload) VALUES ($$orders.placed$$, $${"order_id":"5c1f6c1e-1111-2222-3333-444455556666","customer":"c-123","items":[{"sku":"SKU-00001","qty":2,"price":1999},{"sku":"SKU-00002","qty":1,"price":4999}],"total":8997}$$);
COMMIT;
BEGIN;
UPDATE inventory.stock SET available = available - 2, reserved = reserved + 2 WHERE sku = $$SKU-$$ || lpad(:s1::text, 5, $$0$$) AND available >= 2;
UPDATE inventory.stock SET available = available - 1, reserved = reserved + 1 WHERE sku = $$SKU-$$ || lpad(:s2::text, 5, $$0$$) AND available >= 1;
INSERT INTO inventory.reservations (order_id, sku, qty) VALUES (:oid, $$SKU-$$ || lpad(:s1::text, 5, $$0$$), 2), (:oid, $$SKU-$$ || lpad(:s2::text, 5, $$0$$), 1);
COMMIT;
BEGIN;
UPDATE ordering.orders SET status = $$reserved$$, updated_at = now() WHERE id = :oid AND status = $$placed$$;
INSERT INTO ordering.order_history (order_id, status) VALUES (:oid, $$reserved$$);
COMMIT;
BEGIN;
INSERT INTO payment.payments (order_id, amount_cents, state, auth_code) VALUES (:oid, 8997, $$authorized$$, $$AUTH-1234567$$);
COMMIT;
BEGIN;
UPDATE ordering.orders SET status = $$paid$$, updated_at = now() WHERE id = :oid AND status = $$reserved$$;
INSERT INTO ordering.order_history (order_id, status) VALUES (:oid, $$paid$$);
UPDATE ordering.orders SET status = $$confirmed$$, updated_at = now() WHERE id = :oid AND status = $$paid$$;
INSERT INTO ordering.order_history (order_id, status) VALUES (:oid, $$confirmed$$);
COMMIT;
BEGIN;
INSERT INTO notification.notifications (order_id, kind, body) VALUES (:oid, $$placed$$, $$Your order was placed$$), (:oid, $$paid$$, $$Your payment was authorized$$), (:oid, $$confirmed$$, $$Your order is confirmed$$);
COMMIT;
