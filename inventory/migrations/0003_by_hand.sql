-- +goose Up

-- An operator has taken the order's goods in hand: none of their steps happens by
-- itself any more.
ALTER TABLE inventory.reservations
    ADD COLUMN by_hand boolean NOT NULL DEFAULT false;

ALTER TABLE inventory.audit
    DROP CONSTRAINT audit_action_check,
    ADD CONSTRAINT audit_action_check CHECK (action IN ('restock', 'take', 'pack', 'dispatch', 'deliver', 'lose', 'receive'));
