-- +goose Up

-- A reservation may hold a part of what was asked for, its lines may come to hold
-- less than was reserved, and the carrier may lose it. The lines of most
-- reservations never change; of those that are amended they are read again once
-- the row is locked.
ALTER TABLE inventory.reservations
    ADD COLUMN partial boolean NOT NULL DEFAULT false,
    ADD COLUMN amended boolean NOT NULL DEFAULT false,
    DROP CONSTRAINT reservations_status_check,
    ADD CONSTRAINT reservations_status_check CHECK (status IN ('held', 'picking', 'packed', 'shipped', 'delivered', 'lost', 'released', 'expired', 'rejected')),
    DROP CONSTRAINT shipments_are_tracked,
    ADD CONSTRAINT shipments_are_tracked CHECK ((tracking <> '') = (status IN ('shipped', 'delivered', 'lost')));

-- Of the quantity that was reserved: what picking did not find, and what the
-- customer sent back.
ALTER TABLE inventory.reservation_lines
    ADD COLUMN written_off bigint NOT NULL DEFAULT 0 CHECK (written_off >= 0),
    ADD COLUMN returned    bigint NOT NULL DEFAULT 0 CHECK (returned >= 0),
    ADD CONSTRAINT no_piece_goes_twice CHECK (written_off + returned <= quantity);

-- What customers send back. next_at is when it arrives by itself; 'infinity'
-- waits for the operator, NULL: it is there.
CREATE TABLE inventory.returns (
    id             uuid PRIMARY KEY,
    reservation_id uuid NOT NULL REFERENCES inventory.reservations,
    order_id       uuid NOT NULL,
    status         text NOT NULL CHECK (status IN ('expected', 'received')),
    next_at        timestamptz,
    CONSTRAINT arrivals_have_a_time CHECK ((next_at IS NOT NULL) = (status = 'expected'))
);
CREATE INDEX returns_due ON inventory.returns (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX returns_by_reservation ON inventory.returns (reservation_id);

CREATE TABLE inventory.return_lines (
    return_id uuid   NOT NULL REFERENCES inventory.returns,
    sku       text   NOT NULL REFERENCES inventory.stock,
    quantity  bigint NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (return_id, sku)
);

-- The stock's ledger: one row for every change of a SKU's counters, by how much
-- each was changed, written by the statement that changes them. A counter is the
-- sum of its moves. cause_id is the reservation, the return or the delivery of
-- new pieces; what was there before the ledger has neither.
CREATE TABLE inventory.stock_moves (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sku         text   NOT NULL,
    what        text   NOT NULL CHECK (what IN ('opening', 'stocked', 'restocked', 'reserved', 'released', 'expired', 'written_off', 'shipped', 'returned')),
    cause_id    uuid,
    order_id    uuid,
    initial     bigint NOT NULL DEFAULT 0,
    restocked   bigint NOT NULL DEFAULT 0,
    available   bigint NOT NULL DEFAULT 0,
    reserved    bigint NOT NULL DEFAULT 0,
    sold        bigint NOT NULL DEFAULT 0,
    written_off bigint NOT NULL DEFAULT 0,
    at          timestamptz NOT NULL,
    CONSTRAINT moves_add_up CHECK (initial + restocked = available + reserved + sold + written_off)
);
-- The second line behind the code: nothing moves twice for the same reason.
CREATE UNIQUE INDEX stock_moves_by_order ON inventory.stock_moves (order_id, cause_id, sku, what) WHERE order_id IS NOT NULL;
CREATE INDEX stock_moves_by_sku ON inventory.stock_moves (sku, id);

INSERT INTO inventory.stock_moves (sku, what, initial, restocked, available, reserved, sold, written_off, at)
SELECT sku, 'opening', initial, restocked, available, reserved, sold, written_off, messaging.shop_now()
FROM inventory.stock
ORDER BY sku;

-- Who did what by a request, in real time. subject_id is the reservation, the
-- return or the delivery of new pieces, as in cause_id of the moves.
CREATE TABLE inventory.audit (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    who        text NOT NULL CHECK (who <> ''),
    role       text NOT NULL CHECK (role IN ('operator', 'admin')),
    action     text NOT NULL CHECK (action IN ('restock', 'pack', 'dispatch', 'deliver', 'lose', 'receive')),
    subject_id uuid NOT NULL,
    order_id   uuid,
    sku        text,
    request_id text NOT NULL,
    CONSTRAINT about_an_order_or_a_product CHECK (num_nonnulls(order_id, sku) = 1)
);
CREATE INDEX audit_by_order ON inventory.audit (order_id) WHERE order_id IS NOT NULL;

-- +goose StatementBegin
CREATE FUNCTION inventory.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $fn$
BEGIN
    RAISE EXCEPTION '% on %.%: its rows are kept as they were written', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END
$fn$;
-- +goose StatementEnd
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON inventory.stock_moves
    FOR EACH STATEMENT EXECUTE FUNCTION inventory.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON inventory.audit
    FOR EACH STATEMENT EXECUTE FUNCTION inventory.refuse_change();
