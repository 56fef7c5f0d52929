package demo

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"
	"reflect"
	"strings"
)

// compareRows proves that two SQLite databases have the same schema and the same rows.
func compareRows(ctx context.Context, source, copied string) (proof DatabaseProof, err error) {
	a, err := openReadOnly(source, "_pragma=busy_timeout(10000)")
	if err != nil {
		return proof, err
	}
	defer a.Close()
	b, err := openReadOnly(copied, "immutable=1") // or a copy in WAL mode would want files beside it
	if err != nil {
		return proof, err
	}
	defer b.Close()
	found := &differences{DifferenceError: DifferenceError{What: "database"}}
	if err := checkIntegrity(ctx, b, found); err != nil {
		return proof, err
	}
	tables, err := compareSchemas(ctx, a, b, found)
	if err != nil {
		return proof, err
	}
	for _, table := range tables {
		rows, err := compareTable(ctx, a, b, table, found)
		if err != nil {
			return proof, fmt.Errorf("compare table %s: %w", table, err)
		}
		proof.Tables++
		proof.Rows += rows
	}
	return proof, found.result()
}

func openReadOnly(path, option string) (*sql.DB, error) {
	uri := url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(path), RawQuery: "mode=ro&" + option}
	return sql.Open("sqlite", uri.String())
}

func checkIntegrity(ctx context.Context, db *sql.DB, found *differences) error {
	var verdict string
	if err := db.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&verdict); err != nil {
		return fmt.Errorf("check the copy: %w", err)
	}
	if verdict != "ok" {
		found.add("SQLite's own check of the copy: %s", verdict)
	}
	return nil
}

// compareSchemas returns the tables that hold rows of their own.
func compareSchemas(ctx context.Context, a, b *sql.DB, found *differences) ([]string, error) {
	objectsA, err := schemaOf(ctx, a)
	if err != nil {
		return nil, fmt.Errorf("read the source's schema: %w", err)
	}
	objectsB, err := schemaOf(ctx, b)
	if err != nil {
		return nil, fmt.Errorf("read the copy's schema: %w", err)
	}
	if !reflect.DeepEqual(objectsA, objectsB) {
		found.add("the schema is another one")
		return nil, nil
	}
	var tables []string
	for _, o := range objectsA {
		if o.kind == "table" && !strings.HasPrefix(strings.ToUpper(o.sql), "CREATE VIRTUAL") {
			tables = append(tables, o.name)
		}
	}
	return tables, nil
}

type schemaObject struct{ kind, name, sql string }

func schemaOf(ctx context.Context, db *sql.DB) (objects []schemaObject, err error) {
	rows, err := db.QueryContext(ctx, "SELECT type, name, coalesce(sql, '') FROM sqlite_master ORDER BY type, name")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var o schemaObject
		if err := rows.Scan(&o.kind, &o.name, &o.sql); err != nil {
			return nil, err
		}
		objects = append(objects, o)
	}
	return objects, rows.Err()
}

// compareTable walks both tables in the same order.
func compareTable(ctx context.Context, a, b *sql.DB, table string, found *differences) (count int64, err error) {
	rowsA, err := allRows(ctx, a, table)
	if err != nil {
		return 0, err
	}
	defer rowsA.Close()
	rowsB, err := allRows(ctx, b, table)
	if err != nil {
		return 0, err
	}
	defer rowsB.Close()
	for {
		valuesA, errA := nextRow(rowsA)
		valuesB, errB := nextRow(rowsB)
		switch {
		case errA != nil:
			return count, errA
		case errB != nil:
			return count, errB
		case valuesA == nil && valuesB == nil:
			return count, nil
		case valuesA == nil || valuesB == nil:
			found.add("table %s: one of the two has rows after number %d, the other has not", table, count)
			return count, nil
		case !reflect.DeepEqual(valuesA, valuesB):
			found.add("table %s: row %d is another one", table, count+1)
		}
		count++
	}
}

// allRows reads by rowid, the order on disk, or by all columns where a table has none.
func allRows(ctx context.Context, db *sql.DB, table string) (*sql.Rows, error) {
	quoted := `"` + strings.ReplaceAll(table, `"`, `""`) + `"`
	rows, err := db.QueryContext(ctx, "SELECT rowid, * FROM "+quoted+" ORDER BY rowid")
	if err == nil || ctx.Err() != nil {
		return rows, err
	}
	probe, err := db.QueryContext(ctx, "SELECT * FROM "+quoted+" LIMIT 0")
	if err != nil {
		return nil, err
	}
	columns, err := probe.Columns()
	probe.Close()
	if err != nil {
		return nil, err
	}
	order := make([]string, len(columns))
	for i := range columns {
		order[i] = fmt.Sprint(i + 1)
	}
	return db.QueryContext(ctx, "SELECT * FROM "+quoted+" ORDER BY "+strings.Join(order, ", "))
}

// nextRow is nil after the last row.
func nextRow(rows *sql.Rows) ([]any, error) {
	if !rows.Next() {
		return nil, rows.Err()
	}
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	values, targets := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		targets[i] = &values[i]
	}
	return values, rows.Scan(targets...)
}
