-- +goose Up

-- What operators did, in the same transaction as what they did.
CREATE TABLE payments.audit (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    who        text NOT NULL CHECK (who <> ''),
    role       text NOT NULL CHECK (role IN ('operator', 'admin')),
    action     text NOT NULL CHECK (action IN ('reconcile')),
    request_id text NOT NULL
);
CREATE TRIGGER only_added_to BEFORE UPDATE OR DELETE OR TRUNCATE ON payments.audit
    FOR EACH STATEMENT EXECUTE FUNCTION payments.refuse_change();
