package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
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
