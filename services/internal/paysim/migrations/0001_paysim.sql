-- +goose Up

-- What was asked of customers' banks, and where it stands.
CREATE TABLE paysim.authorizations (
    id             uuid PRIMARY KEY,
    key            text NOT NULL UNIQUE,
    reference      text NOT NULL,
    amount_minor   bigint NOT NULL CHECK (amount_minor > 0),
    captured_minor bigint NOT NULL DEFAULT 0 CHECK (captured_minor BETWEEN 0 AND amount_minor),
    currency       char(3) NOT NULL,
    status         text NOT NULL CHECK (status IN ('authorized', 'declined', 'captured', 'voided')),
    code           text,
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((status = 'captured') = (captured_minor > 0)),
    CHECK ((status = 'declined') = (code IS NOT NULL))
) WITH (fillfactor = 80);

-- The answers that are given again under the same key. A key that is here has
-- had its effect: both are written by one statement.
CREATE TABLE paysim.answers (
    key         text PRIMARY KEY,
    fingerprint text NOT NULL,
    status      integer NOT NULL,
    body        bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Keys whose one failure was given (tok_error_once).
CREATE TABLE paysim.failures (
    key        text PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The books: one row for every effect and every refusal, never changed.
CREATE TABLE paysim.operations (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key              text NOT NULL UNIQUE,
    kind             text NOT NULL CHECK (kind IN ('authorize', 'capture', 'void')),
    authorization_id uuid NOT NULL REFERENCES paysim.authorizations (id),
    reference        text NOT NULL,
    amount_minor     bigint NOT NULL CHECK (amount_minor > 0),
    currency         char(3) NOT NULL,
    status           text NOT NULL CHECK (status IN ('succeeded', 'declined')),
    at               timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON paysim.operations (reference, id);
-- The second line behind the code: one capture or void of an authorization, ever.
CREATE UNIQUE INDEX ON paysim.operations (authorization_id) WHERE kind IN ('capture', 'void');

-- +goose StatementBegin
CREATE FUNCTION paysim.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $fn$
BEGIN
    RAISE EXCEPTION 'the books are only added to';
END
$fn$;
-- +goose StatementEnd
CREATE TRIGGER only_added_to BEFORE UPDATE OR DELETE OR TRUNCATE ON paysim.operations
    FOR EACH STATEMENT EXECUTE FUNCTION paysim.refuse_change();
