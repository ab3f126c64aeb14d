-- +goose Up

-- One row per order that money was ever asked for, or that a void came for
-- before any money was: then customer and currency aren't known yet.
CREATE TABLE payments.payments (
    id             uuid PRIMARY KEY,
    order_id       uuid NOT NULL,
    customer_id    text,
    currency       char(3),
    voided_through integer NOT NULL DEFAULT 0 CHECK (voided_through >= 0),
    created_at     timestamptz NOT NULL DEFAULT messaging.shop_now(),
    CHECK ((customer_id IS NULL) = (currency IS NULL))
) WITH (fillfactor = 80);
CREATE INDEX ON payments.payments (order_id);

-- The methods that were tried for a payment, in order.
CREATE TABLE payments.attempts (
    payment_id     uuid NOT NULL REFERENCES payments.payments (id),
    attempt        integer NOT NULL CHECK (attempt >= 1),
    status         text NOT NULL CHECK (status IN ('authorizing', 'authorized', 'declined', 'captured', 'voided')),
    amount_minor   bigint NOT NULL CHECK (amount_minor > 0),
    method_token   text NOT NULL,
    provider_ref   text,
    reason_code    text,
    capture_id     uuid UNIQUE,
    captured_minor bigint NOT NULL DEFAULT 0 CHECK (captured_minor BETWEEN 0 AND amount_minor),
    at             timestamptz NOT NULL DEFAULT messaging.shop_now(),
    PRIMARY KEY (payment_id, attempt),
    CHECK (status NOT IN ('authorized', 'captured') OR provider_ref IS NOT NULL),
    CHECK (status <> 'captured' OR capture_id IS NOT NULL),
    CHECK ((status = 'captured') = (captured_minor > 0)),
    CHECK ((status = 'declined') = (reason_code IS NOT NULL))
) WITH (fillfactor = 70);
-- At most one attempt of a payment takes the money, whatever the code says.
CREATE UNIQUE INDEX ON payments.attempts (payment_id) WHERE status = 'captured';

-- What the provider was asked to do, each row committed before the request was
-- sent. A row without answered_at is a request whose outcome isn't known.
CREATE TABLE payments.provider_calls (
    key          text PRIMARY KEY,
    payment_id   uuid NOT NULL,
    attempt      integer NOT NULL,
    operation    text NOT NULL CHECK (operation IN ('authorize', 'capture', 'void')),
    amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    requested_at timestamptz NOT NULL DEFAULT messaging.shop_now(),
    answered_at  timestamptz,
    outcome      text CHECK (outcome IN ('approved', 'refused', 'closed', 'taken', 'not_found')),
    provider_ref text,
    FOREIGN KEY (payment_id, attempt) REFERENCES payments.attempts (payment_id, attempt),
    CHECK ((answered_at IS NULL) = (outcome IS NULL))
) WITH (fillfactor = 80);
CREATE INDEX ON payments.provider_calls (payment_id, attempt);
