package sqlite

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

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
	read.At, read.Since = read.At.UTC(), read.Since.UTC()
	*f.failure = &read
	return nil
}
