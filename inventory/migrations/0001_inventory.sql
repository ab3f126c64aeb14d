-- +goose Up
CREATE TABLE inventory.products (
    sku         text    PRIMARY KEY CHECK (sku ~ '^[A-Z0-9]+(-[A-Z0-9]+)*$' AND length(sku) <= 40),
    name        text    NOT NULL CHECK (name <> ''),
    price_minor bigint  NOT NULL CHECK (price_minor > 0),
    currency    char(3) NOT NULL,
    active      boolean NOT NULL DEFAULT true
);

-- One row per SKU, updated by every order for it: half of each page stays free
-- for the row's next versions, and what they leave is swept early.
CREATE TABLE inventory.stock (
    sku         text   PRIMARY KEY REFERENCES inventory.products,
    initial     bigint NOT NULL CHECK (initial >= 0),
    restocked   bigint NOT NULL DEFAULT 0 CHECK (restocked >= 0),
    available   bigint NOT NULL CHECK (available >= 0),
    reserved    bigint NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    sold        bigint NOT NULL DEFAULT 0 CHECK (sold >= 0),
    written_off bigint NOT NULL DEFAULT 0 CHECK (written_off >= 0),
    CONSTRAINT stock_adds_up CHECK (initial + restocked = available + reserved + sold + written_off)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

-- next_at is when the next step falls due by itself: held expires, picking is
-- packed, packed (once its dispatch was asked for) is shipped, shipped is
-- delivered. 'infinity' waits for the operator, NULL: there is no such step.
CREATE TABLE inventory.reservations (
    id         uuid   PRIMARY KEY,
    order_id   uuid   NOT NULL,
    status     text   NOT NULL CHECK (status IN ('held', 'picking', 'packed', 'shipped', 'delivered', 'released', 'expired', 'rejected')),
    next_at    timestamptz,
    tracking   text   NOT NULL DEFAULT '',
    reason     text   NOT NULL DEFAULT '',
    short_skus text[] NOT NULL DEFAULT '{}',
    CONSTRAINT steps_have_a_time CHECK (status = 'packed' OR (next_at IS NOT NULL) = (status IN ('held', 'picking', 'shipped'))),
    CONSTRAINT shipments_are_tracked CHECK ((tracking <> '') = (status IN ('shipped', 'delivered')))
) WITH (autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX reservations_due ON inventory.reservations (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX reservations_by_order ON inventory.reservations (order_id);

-- The lines of what was reserved; what was refused has none.
CREATE TABLE inventory.reservation_lines (
    reservation_id uuid   NOT NULL REFERENCES inventory.reservations,
    sku            text   NOT NULL REFERENCES inventory.stock,
    quantity       bigint NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (reservation_id, sku)
);
