package messagingtest

import (
	"context"

	"github.com/jmoiron/sqlx"
)

// Explain returns the plan that query has whatever its parameters are, line by line.
func Explain(ctx context.Context, tx *sqlx.Tx, query string) (plan []string, err error) {
	if _, err := tx.ExecContext(ctx, `PREPARE p AS `+query); err != nil {
		return nil, err
	}
	var parameters string
	err = tx.GetContext(ctx, &parameters, `
		SELECT coalesce('(' || nullif(array_to_string(array_fill('NULL'::text, ARRAY[cardinality(parameter_types)]), ', '), '') || ')', '')
		FROM pg_prepared_statements WHERE name = 'p'`)
	if err != nil {
		return nil, err
	}
	if err = tx.SelectContext(ctx, &plan, `EXPLAIN EXECUTE p`+parameters); err != nil {
		return nil, err
	}
	_, err = tx.ExecContext(ctx, `DEALLOCATE p`)
	return plan, err
}
