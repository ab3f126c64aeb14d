-- +goose Up

-- Partial stock, stopped picking, returns, refunds and what needs an operator.
ALTER TABLE orders.orders
    ADD COLUMN allow_partial boolean NOT NULL DEFAULT false,
    ADD COLUMN resume        text NOT NULL DEFAULT '',
    ADD COLUMN resume_reason text NOT NULL DEFAULT '',
    ADD COLUMN resends       integer NOT NULL DEFAULT 0 CHECK (resends BETWEEN 0 AND 4),
    ADD COLUMN packed        boolean NOT NULL DEFAULT false,
    ADD COLUMN captured      boolean NOT NULL DEFAULT false,
    ADD COLUMN dispatched    boolean NOT NULL DEFAULT false,
    ADD COLUMN return_until  timestamptz,
    DROP CONSTRAINT orders_status_check,
    DROP CONSTRAINT compensating_has_an_end,
    DROP CONSTRAINT compensating_awaits_an_answer,
    DROP CONSTRAINT ended_waits_for_nobody,
    DROP CONSTRAINT ended_has_a_reason;

-- What earlier orders would say of themselves. Whoever has goods already gets the
-- fourteen days from now on: nobody was told of an end.
UPDATE orders.orders
   SET packed = true,
       captured = status <> 'capturing',
       dispatched = status IN ('shipped', 'delivered')
 WHERE status IN ('capturing', 'dispatching', 'shipped', 'delivered');
UPDATE orders.orders
   SET return_until = messaging.shop_now() + interval '14 days',
       deadline = messaging.shop_now() + interval '14 days'
 WHERE status = 'delivered';

ALTER TABLE orders.orders
    ADD CONSTRAINT orders_status_check CHECK (status IN (
        'placed', 'awaiting_customer', 'authorizing', 'payment_failed', 'confirmed', 'fulfilling', 'stopping', 'capturing',
        'dispatching', 'shipped', 'delivered', 'refunding', 'compensating', 'needs_attention',
        'completed', 'cancelled', 'rejected', 'expired', 'refunded')),
    ADD CONSTRAINT needs_attention_can_resume CHECK (
        CASE WHEN status = 'needs_attention'
             THEN deadline IS NULL AND reason_code <> '' AND resume IN (
                 'placed', 'authorizing', 'confirmed', 'fulfilling', 'stopping', 'capturing', 'dispatching', 'shipped',
                 'delivered', 'refunding', 'compensating')
             ELSE resume = '' AND resume_reason = '' END),
    ADD CONSTRAINT compensating_has_an_end CHECK (('compensating' IN (status, resume)) = (ends_as <> '')),
    ADD CONSTRAINT who_awaits_what CHECK (
        CASE WHEN 'compensating' IN (status, resume) THEN awaits_release OR awaits_void
             WHEN 'refunding' IN (status, resume) THEN NOT awaits_void
             ELSE NOT awaits_release AND NOT awaits_void END),
    ADD CONSTRAINT ended_waits_for_nobody CHECK (deadline IS NULL OR status NOT IN ('completed', 'cancelled', 'rejected', 'expired', 'refunded')),
    ADD CONSTRAINT ended_has_a_reason CHECK (reason_code <> '' OR status NOT IN ('completed', 'cancelled', 'rejected', 'expired', 'refunded')),
    ADD CONSTRAINT only_who_allowed_it_is_asked CHECK (allow_partial OR status <> 'awaiting_customer'),
    ADD CONSTRAINT packed_before_paid CHECK (packed OR status NOT IN ('capturing', 'dispatching', 'shipped', 'delivered', 'completed')),
    ADD CONSTRAINT paid_before_dispatched CHECK (
        captured OR NOT dispatched AND status NOT IN ('dispatching', 'shipped', 'delivered', 'refunding', 'completed', 'refunded')),
    ADD CONSTRAINT dispatched_before_delivered CHECK (dispatched OR status NOT IN ('shipped', 'delivered', 'completed')),
    ADD CONSTRAINT undone_keeps_no_money CHECK (NOT captured OR status NOT IN ('cancelled', 'rejected', 'expired')),
    ADD CONSTRAINT delivered_may_come_back CHECK (return_until IS NOT NULL OR status NOT IN ('delivered', 'completed'));

-- For operators: what waits for them, newest first.
CREATE INDEX orders_needing_attention ON orders.orders (id DESC) WHERE status = 'needs_attention';

-- Of the ordered quantity: what wasn't there to be reserved; what was reserved and
-- not found when it was packed; what of the rest is paid back, or is being paid
-- back; and what of that is back in stock. A line that goes well stays all zeros.
ALTER TABLE orders.lines
    ADD COLUMN missing  integer NOT NULL DEFAULT 0 CHECK (missing >= 0),
    ADD COLUMN short    integer NOT NULL DEFAULT 0 CHECK (short >= 0),
    ADD COLUMN refunded integer NOT NULL DEFAULT 0 CHECK (refunded >= 0),
    ADD COLUMN returned integer NOT NULL DEFAULT 0 CHECK (returned BETWEEN 0 AND refunded),
    ADD CONSTRAINT no_more_than_ordered CHECK (missing + short + refunded <= quantity);

-- Goods on their way back. lines is [{"sku", "quantity"}]: what is expected, once
-- received what came.
CREATE TABLE orders.returns (
    order_id uuid NOT NULL REFERENCES orders.orders,
    id       uuid NOT NULL,
    status   text NOT NULL CHECK (status IN ('expected', 'received', 'dropped')),
    lines    jsonb NOT NULL CHECK (jsonb_array_length(lines) > 0),
    asked_at timestamptz NOT NULL,
    PRIMARY KEY (order_id, id)
);

-- Money on its way back. A refund of what was returned bears the return's id.
-- lines is [{"sku", "quantity"}], amount_minor their price; told_in is the order's
-- version whose OrderRefunded told the customer, 0 as long as none did.
CREATE TABLE orders.refunds (
    order_id     uuid NOT NULL REFERENCES orders.orders,
    id           uuid NOT NULL,
    status       text NOT NULL CHECK (status IN ('open', 'succeeded', 'failed')),
    reason_code  text NOT NULL CHECK (reason_code <> ''),
    amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    lines        jsonb NOT NULL CHECK (jsonb_array_length(lines) > 0),
    asked_at     timestamptz NOT NULL,
    told_in      integer NOT NULL CHECK (told_in = 0 OR told_in > 0 AND status = 'succeeded'),
    PRIMARY KEY (order_id, id)
);

-- What a key was used for: an order has one key that placed it, and one for each
-- return and refund.
ALTER TABLE orders.idempotency_keys
    ADD COLUMN action text NOT NULL DEFAULT 'place' CHECK (action IN ('place', 'return', 'operator_refund'));

-- What operators did, by the real clock. Rows are only ever added.
CREATE TABLE orders.audit (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    actor      text NOT NULL,
    role       text NOT NULL CHECK (role IN ('operator', 'admin')),
    action     text NOT NULL CHECK (action IN ('refund', 'retry', 'cancel')),
    order_id   uuid NOT NULL REFERENCES orders.orders,
    reason     text NOT NULL CHECK (reason <> ''),
    request_id text NOT NULL,
    at         timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON orders.audit (order_id, id);

-- +goose StatementBegin
CREATE FUNCTION orders.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $fn$
BEGIN
    RAISE EXCEPTION 'the audit is only added to';
END
$fn$;
-- +goose StatementEnd
CREATE TRIGGER only_added_to BEFORE UPDATE OR DELETE OR TRUNCATE ON orders.audit
    FOR EACH STATEMENT EXECUTE FUNCTION orders.refuse_change();
