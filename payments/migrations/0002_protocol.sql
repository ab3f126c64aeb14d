-- +goose Up

-- An attempt may be unknown (the provider was asked and nothing is known of the
-- answer), expired at the provider, or closed by a capture that it refused. The
-- tries count the keys of an operation that are used up: see Key.
ALTER TABLE payments.attempts
    ADD COLUMN authorize_try integer NOT NULL DEFAULT 1 CHECK (authorize_try >= 1),
    ADD COLUMN capture_try   integer NOT NULL DEFAULT 1 CHECK (capture_try >= 1),
    ADD COLUMN void_try      integer NOT NULL DEFAULT 1 CHECK (void_try >= 1),
    DROP CONSTRAINT attempts_status_check,
    ADD CONSTRAINT attempts_status_check CHECK (status IN
        ('authorizing', 'unknown', 'authorized', 'declined', 'captured', 'voided', 'expired', 'closed')),
    DROP CONSTRAINT attempts_check4,
    ADD CHECK ((status IN ('declined', 'expired', 'closed')) = (reason_code IS NOT NULL));

-- What is given back of the captured attempt of a payment.
CREATE TABLE payments.refunds (
    id           uuid PRIMARY KEY,
    payment_id   uuid NOT NULL,
    attempt      integer NOT NULL,
    amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    reason       text NOT NULL,
    status       text NOT NULL CHECK (status IN ('refunding', 'unknown', 'succeeded', 'failed')),
    try          integer NOT NULL DEFAULT 1 CHECK (try >= 1),
    provider_ref text,
    reason_code  text,
    at           timestamptz NOT NULL DEFAULT messaging.shop_now(),
    FOREIGN KEY (payment_id, attempt) REFERENCES payments.attempts (payment_id, attempt),
    CHECK ((status = 'failed') = (reason_code IS NOT NULL)),
    CHECK (status <> 'succeeded' OR provider_ref IS NOT NULL)
);
CREATE INDEX ON payments.refunds (payment_id);

-- Requests are noted by the real time, which the provider's books have, too.
ALTER TABLE payments.provider_calls
    ADD COLUMN try       integer NOT NULL DEFAULT 1 CHECK (try >= 1),
    ADD COLUMN refund_id uuid REFERENCES payments.refunds (id),
    ALTER COLUMN requested_at SET DEFAULT clock_timestamp(),
    DROP CONSTRAINT provider_calls_operation_check,
    ADD CONSTRAINT provider_calls_operation_check CHECK (operation IN ('authorize', 'capture', 'void', 'refund')),
    DROP CONSTRAINT provider_calls_outcome_check,
    ADD CONSTRAINT provider_calls_outcome_check CHECK (outcome IN
        ('approved', 'refused', 'closed', 'lapsed', 'taken', 'refunded', 'not_found')),
    ADD CHECK ((operation = 'refund') = (refund_id IS NOT NULL));

-- The ledger: one row for money that has moved, in or out. It is only added to.
CREATE TABLE payments.ledger (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind         text NOT NULL CHECK (kind IN ('capture', 'refund')),
    provider_ref text NOT NULL, -- of the authorization captured, or of the refund
    payment_id   uuid NOT NULL REFERENCES payments.payments (id),
    attempt      integer NOT NULL,
    order_id     uuid NOT NULL,
    refund_id    uuid REFERENCES payments.refunds (id),
    amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    currency     char(3) NOT NULL,
    requested_at timestamptz NOT NULL, -- not before that was the provider asked
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (kind, provider_ref),
    CHECK ((kind = 'refund') = (refund_id IS NOT NULL))
);
CREATE UNIQUE INDEX ON payments.ledger (payment_id) WHERE kind = 'capture';
CREATE UNIQUE INDEX ON payments.ledger (refund_id) WHERE kind = 'refund';
CREATE INDEX ON payments.ledger (at);
CREATE INDEX ON payments.ledger (order_id);

-- +goose StatementBegin
CREATE FUNCTION payments.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $fn$
BEGIN
    RAISE EXCEPTION 'the ledger is only added to';
END
$fn$;
-- +goose StatementEnd
CREATE TRIGGER only_added_to BEFORE UPDATE OR DELETE OR TRUNCATE ON payments.ledger
    FOR EACH STATEMENT EXECUTE FUNCTION payments.refuse_change();

-- Captures from before there was a ledger.
INSERT INTO payments.ledger (kind, provider_ref, payment_id, attempt, order_id, amount_minor, currency, requested_at)
SELECT 'capture', a.provider_ref, a.payment_id, a.attempt, p.order_id, a.captured_minor, p.currency, c.requested_at
FROM payments.attempts a
JOIN payments.payments p ON p.id = a.payment_id
JOIN payments.provider_calls c ON c.payment_id = a.payment_id AND c.attempt = a.attempt AND c.operation = 'capture'
WHERE a.status = 'captured';
