package messaging

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
)

// OpenDB returns a pool of up to size connections to dsn as a service uses it:
// no statement runs, and no transaction idles, for more than 5 s, so that
// nothing that hangs holds locks for longer; times are UTC. name is shown in
// pg_stat_activity. It doesn't connect yet. While the database is away the pool asks
// for it every 50 ms, however many want a connection.
//
// Statements are planned once per connection, often before a table has rows: so
// an index is used whenever there is one that serves, however small the table is
// then (where none serves the table is read through, as ever; without jit, which
// would take the planner's mark against that for a reason to compile). And it is
// read entry by entry: a bitmap of it would hold all entries, those of rows long
// gone, too, before the first row is seen, and would never mark them as gone.
func OpenDB(dsn, name string, size int) (*sqlx.DB, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("open the database of %s: %w", name, err)
	}
	cfg.ConnectTimeout = 5 * time.Second
	for key, value := range map[string]string{
		"application_name":                    name,
		"timezone":                            "UTC",
		"statement_timeout":                   "5s",
		"idle_in_transaction_session_timeout": "5s",
		"plan_cache_mode":                     "force_generic_plan",
		"enable_seqscan":                      "off",
		"enable_bitmapscan":                   "off",
		"jit":                                 "off",
	} {
		cfg.RuntimeParams[key] = value
	}
	db := sqlx.NewDb(sql.OpenDB(&connector{Connector: stdlib.GetConnector(*cfg, stdlib.OptionAfterConnect(registerTypes))}), "pgx")
	db.SetMaxOpenConns(size)
	db.SetMaxIdleConns(size)
	db.SetConnMaxIdleTime(5 * time.Minute)
	return db, nil
}

// registerTypes has lists of ids as text sent as uuid[] the short way. pgx itself
// tries to, makes an error that shows the whole list, and sends them as text.
func registerTypes(_ context.Context, c *pgx.Conn) error {
	id := &pgtype.Type{Name: "uuid", OID: pgtype.UUIDOID, Codec: uuidCodec{}}
	c.TypeMap().RegisterType(id)
	c.TypeMap().RegisterType(&pgtype.Type{Name: "_uuid", OID: pgtype.UUIDArrayOID, Codec: &pgtype.ArrayCodec{ElementType: id}})
	return nil
}

// uuidCodec is pgx's, and takes text as well.
type uuidCodec struct{ pgtype.UUIDCodec }

// PlanEncode returns how a value of value's type is sent.
func (c uuidCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, ok := value.(string); ok && format == pgtype.BinaryFormatCode {
		return textAsUUID{}
	}
	return c.UUIDCodec.PlanEncode(m, oid, format, value)
}

type textAsUUID struct{}

// Encode appends the sixteen bytes of a UUID as text.
func (textAsUUID) Encode(value any, buf []byte) ([]byte, error) {
	id, err := uuid.Parse(value.(string))
	if err != nil {
		return nil, fmt.Errorf("%q as a UUID: %w", value, err)
	}
	return append(buf, id[:]...), nil
}
