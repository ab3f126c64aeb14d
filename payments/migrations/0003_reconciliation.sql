-- +goose Up

-- Comparisons with the provider's books: what was moved from from_at to before
-- until_at.
CREATE TABLE payments.reconciliations (
    id        uuid PRIMARY KEY,
    from_at   timestamptz NOT NULL,
    until_at  timestamptz NOT NULL,
    asked_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at  timestamptz,
    movements integer, -- rows of the provider's books that were read
    found     integer, -- breaks that were seen for the first time
    CHECK (from_at < until_at)
);
CREATE INDEX ON payments.reconciliations (asked_at);

-- When the next one is asked for; one row.
CREATE TABLE payments.reconcile_next (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO payments.reconcile_next DEFAULT VALUES;

-- What the provider's books said, while they are read and compared.
CREATE TABLE payments.statements (
    reconciliation_id uuid NOT NULL REFERENCES payments.reconciliations (id),
    kind              text NOT NULL,
    ref               text NOT NULL,
    auth_ref          text NOT NULL,
    key               text NOT NULL,
    amount_minor      bigint NOT NULL,
    currency          text NOT NULL,
    at                timestamptz NOT NULL,
    PRIMARY KEY (reconciliation_id, kind, ref)
);

-- What the two books do not agree about. A break that is no longer there is
-- resolved; one that comes back is another.
CREATE TABLE payments.breaks (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    what        text NOT NULL,
    key         text NOT NULL, -- <kind> <ref>
    order_id    uuid,          -- where it is known
    ours_minor  bigint,        -- NULL = we know nothing of it
    theirs_minor bigint,      -- NULL = the provider knows nothing of it
    moved_at    timestamptz NOT NULL,
    first_seen  timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_seen   timestamptz NOT NULL DEFAULT clock_timestamp(),
    resolved_at timestamptz
);
CREATE UNIQUE INDEX ON payments.breaks (what, key) WHERE resolved_at IS NULL;
