package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

// column ties a column to its place in a value. One list of them serves reading and writing, so that neither can
// forget what the other knows.
type column struct {
	name  string
	place any // a pointer, which database/sql both reads and scans into
}

// view says how values of T are read from a table.
type view[T any] struct {
	columns func(*T) []column
	choose  string // SELECT ... FROM ...
}

func newView[T any](name string, columns func(*T) []column) view[T] {
	return view[T]{columns, "SELECT " + strings.Join(names(columns(new(T))), ", ") + " FROM " + name + " "}
}

// table is a view whose rows are written whole.
type table[T any] struct {
	view[T]
	upsert string
}

func newTable[T any](name string, key []string, columns func(*T) []column) table[T] {
	all := names(columns(new(T)))
	var updates []string
	for _, n := range all {
		if !slices.Contains(key, n) {
			updates = append(updates, n+" = excluded."+n)
		}
	}
	return table[T]{
		view: newView(name, columns),
		upsert: "INSERT INTO " + name + " (" + strings.Join(all, ", ") + ")" +
			" VALUES (" + strings.TrimSuffix(strings.Repeat("?, ", len(all)), ", ") + ")" +
			" ON CONFLICT (" + strings.Join(key, ", ") + ") DO UPDATE SET " + strings.Join(updates, ", "),
	}
}

func names(columns []column) []string {
	all := make([]string, len(columns))
	for i, c := range columns {
		all[i] = c.name
	}
	return all
}

// put writes value over the row with its key.
func (t table[T]) put(ctx context.Context, q *statements, value T) error {
	_, err := q.exec(ctx, t.upsert, places(t.columns(&value))...)
	return err
}

// find returns the zero T when there is no such row.
func (v view[T]) find(ctx context.Context, q *statements, where string, args ...any) (T, error) {
	var value T
	err := q.row(ctx, v.choose+where, places(v.columns(&value)), args...)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return value, err
}

func (v view[T]) list(ctx context.Context, q *statements, where string, args ...any) ([]T, error) {
	rows, err := q.rows(ctx, v.choose+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var values []T
	for rows.Next() {
		var value T
		if err := rows.Scan(places(v.columns(&value))...); err != nil {
			return nil, err
		}
		values = append(values, value)
	}
	return values, rows.Err()
}

func places(columns []column) []any {
	all := make([]any, len(columns))
	for i, c := range columns {
		all[i] = c.place
	}
	return all
}

// statements prepares each SQL text once. The texts are constants of the program, so that there are only few.
type statements struct {
	db       *sql.DB
	mu       sync.Mutex
	prepared map[string]*sql.Stmt
}

func newStatements(db *sql.DB) *statements {
	return &statements{db: db, prepared: map[string]*sql.Stmt{}}
}

func (s *statements) prepare(ctx context.Context, text string) (*sql.Stmt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if stmt, ok := s.prepared[text]; ok {
		return stmt, nil
	}
	stmt, err := s.db.PrepareContext(ctx, text)
	if err == nil {
		s.prepared[text] = stmt
	}
	return stmt, err
}

// exec returns how many rows it changed.
func (s *statements) exec(ctx context.Context, text string, args ...any) (int64, error) {
	stmt, err := s.prepare(ctx, text)
	if err != nil {
		return 0, err
	}
	result, err := stmt.ExecContext(ctx, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// row scans the one row of a query into places, or fails with sql.ErrNoRows.
func (s *statements) row(ctx context.Context, text string, places []any, args ...any) error {
	stmt, err := s.prepare(ctx, text)
	if err != nil {
		return err
	}
	return stmt.QueryRowContext(ctx, args...).Scan(places...)
}

func (s *statements) rows(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	stmt, err := s.prepare(ctx, text)
	if err != nil {
		return nil, err
	}
	return stmt.QueryContext(ctx, args...)
}

// millis keeps a time as Unix milliseconds in UTC, and the zero time as NULL.
type millis struct{ at *time.Time }

func (m millis) Value() (driver.Value, error) {
	if m.at.IsZero() {
		return nil, nil
	}
	return m.at.UnixMilli(), nil
}

func (m millis) Scan(stored any) error {
	*m.at = time.Time{}
	switch v := stored.(type) {
	case nil:
		return nil
	case int64:
		*m.at = time.UnixMilli(v).UTC()
		return nil
	}
	return fmt.Errorf("%T is no time", stored)
}

// bits keeps all 64 bits of a checksum in SQLite's signed integer.
type bits struct{ sum *uint64 }

func (b bits) Value() (driver.Value, error) { return int64(*b.sum), nil }

func (b bits) Scan(stored any) error {
	v, ok := stored.(int64)
	if !ok {
		return fmt.Errorf("%T is no checksum", stored)
	}
	*b.sum = uint64(v)
	return nil
}

// document keeps a value that no query looks into as JSON.
type document[T any] struct{ value *T }

func (d document[T]) Value() (driver.Value, error) {
	text, err := json.Marshal(d.value)
	return string(text), err
}

func (d document[T]) Scan(stored any) error {
	text, ok := stored.(string)
	if !ok {
		return fmt.Errorf("%T is no document", stored)
	}
	return json.Unmarshal([]byte(text), d.value)
}

// failed is the document of a failure; none is NULL.
type failed struct{ failure **backup.Failure }

func (f failed) Value() (driver.Value, error) {
	if *f.failure == nil {
		return nil, nil
	}
	return document[backup.Failure]{*f.failure}.Value()
}

func (f failed) Scan(stored any) error {
	if stored == nil {
		*f.failure = nil
		return nil
	}
	var read backup.Failure
	if err := (document[backup.Failure]{&read}).Scan(stored); err != nil {
		return err
	}
	read.At = read.At.UTC()
	*f.failure = &read
	return nil
}
