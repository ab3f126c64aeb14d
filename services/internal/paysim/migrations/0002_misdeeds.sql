-- +goose Up

-- Authorizations can expire and be refunded, and remember which later operation
-- their method token lets go wrong. A key that the provider has forgotten may be
-- used again: what guards it is its stored answer, and nothing else.
ALTER TABLE paysim.authorizations
    ADD COLUMN refunded_minor  bigint NOT NULL DEFAULT 0,
    ADD COLUMN conduct_op      text CHECK (conduct_op IN ('capture', 'void', 'refund')),
    ADD COLUMN conduct_misdeed text,
    ADD CHECK (refunded_minor BETWEEN 0 AND captured_minor),
    ADD CHECK ((conduct_op IS NULL) = (conduct_misdeed IS NULL)),
    DROP CONSTRAINT authorizations_key_key,
    DROP CONSTRAINT authorizations_status_check,
    ADD CONSTRAINT authorizations_status_check CHECK (status IN ('authorized', 'declined', 'captured', 'voided', 'expired'));
CREATE INDEX ON paysim.authorizations (key);

-- What was given back, and what was refused to be.
CREATE TABLE paysim.refunds (
    id               uuid PRIMARY KEY,
    key              text NOT NULL,
    authorization_id uuid NOT NULL REFERENCES paysim.authorizations (id),
    amount_minor     bigint NOT NULL CHECK (amount_minor > 0),
    reason           text NOT NULL,
    status           text NOT NULL CHECK (status IN ('refunded', 'refused')),
    code             text,
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((status = 'refused') = (code IS NOT NULL))
);
CREATE INDEX ON paysim.refunds (key);
CREATE INDEX ON paysim.refunds (authorization_id);

-- An answer with a failure is not given: the same 500 is, until the key was looked
-- up, or for good. One whose status is 500 had no effect.
ALTER TABLE paysim.answers
    ADD COLUMN failure text CHECK (failure IN ('until_looked_up', 'for_good'));

ALTER TABLE paysim.operations
    ADD COLUMN refund_id uuid REFERENCES paysim.refunds (id),
    DROP CONSTRAINT operations_key_key,
    DROP CONSTRAINT operations_kind_check,
    ADD CONSTRAINT operations_kind_check CHECK (kind IN ('authorize', 'capture', 'void', 'expire', 'refund')),
    ADD CHECK ((kind = 'refund') = (refund_id IS NOT NULL));
CREATE INDEX ON paysim.operations (at, id);
DROP INDEX paysim.operations_authorization_id_idx;
CREATE UNIQUE INDEX ON paysim.operations (authorization_id) WHERE kind IN ('capture', 'void', 'expire');

-- Webhooks that are still to be delivered: one row per delivery, so that an event
-- can be delivered twice.
CREATE TABLE paysim.webhooks (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id uuid NOT NULL,
    body     text NOT NULL,
    due      timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0
);
CREATE INDEX ON paysim.webhooks (due);
