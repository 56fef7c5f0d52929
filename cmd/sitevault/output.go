package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/sitevault/sitevault/internal/backup"
)

// The values of --output.
const (
	formatTable = "table"
	formatJSON  = "json"
	formatLines = "jsonl"
)

// checkFlags also does what the command line's library does later, to make it a usage error.
func (p *program) checkFlags(cmd *cobra.Command) error {
	if err := cmd.ValidateFlagGroups(); err != nil {
		return usage("%w", err)
	}
	switch p.format {
	case "", formatTable, formatJSON, formatLines:
		return nil
	}
	return usage("--output is table, json or jsonl, not %q", p.format)
}

func (p *program) outputFormat() string {
	if p.format != "" {
		return p.format
	}
	if p.terminal(p.out) {
		return formatTable
	}
	return formatJSON
}

// colors tells whether a stream shows colours to a person who wants them (https://no-color.org).
func (p *program) colors(w io.Writer) bool {
	return p.terminal(w) && p.getenv("NO_COLOR") == "" && p.getenv("TERM") != "dumb"
}

// column is one column of a table.
type column[T any] struct {
	title string
	value func(T) string
}

type columns[T any] []column[T]

// showAll prints a list: a table, a JSON array, or one JSON object a line.
func showAll[T any](p *program, cols columns[T], entries []T) error {
	switch p.outputFormat() {
	case formatJSON:
		return printJSON(p.out, entries)
	case formatLines:
		for _, e := range entries {
			if err := printLine(p.out, e); err != nil {
				return err
			}
		}
		return nil
	}
	return printTable(p, cols, entries)
}

func printTable[T any](p *program, cols columns[T], entries []T) error {
	t := newTable()
	head := make(table.Row, len(cols))
	for i, c := range cols {
		head[i] = c.title
	}
	t.AppendHeader(head)
	for _, e := range entries {
		row := make(table.Row, len(cols))
		for i, c := range cols {
			row[i] = c.value(e)
		}
		t.AppendRow(row)
	}
	return printText(p.out, t.Render())
}

func newTable() table.Writer {
	t := table.NewWriter()
	style := table.StyleDefault
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	style.Options = table.OptionsNoBordersAndSeparators
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	return t
}

// fact is one line of what is shown of a single thing.
type fact struct{ name, value string }

// showOne prints a single thing: its facts, or itself as JSON.
func showOne(p *program, v any, facts []fact) error {
	switch p.outputFormat() {
	case formatJSON:
		return printJSON(p.out, v)
	case formatLines:
		return printLine(p.out, v)
	}
	t := newTable()
	for _, f := range facts {
		if f.value != "" {
			t.AppendRow(table.Row{f.name, f.value})
		}
	}
	return printText(p.out, t.Render())
}

func printText(w io.Writer, s string) error {
	_, err := fmt.Fprintln(w, s)
	return err
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func printLine(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// plain takes out what a terminal would obey: details may quote what a site answered.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return ' '
		}
		return r
	}, s)
}

func (p *program) status(s backup.Status) string {
	if !p.colors(p.out) {
		return string(s)
	}
	switch s {
	case backup.Done:
		return text.FgGreen.Sprint(s)
	case backup.Failed:
		return text.FgRed.Sprint(s)
	case backup.Pending, backup.Running:
		return text.FgCyan.Sprint(s)
	}
	return string(s)
}

// size is empty for 0: unknown or not yet.
func size(n int64) string {
	if n == 0 {
		return ""
	}
	return humanize.IBytes(uint64(n))
}

const timeLayout = "2006-01-02 15:04"

// at is a time in the user's zone.
func at(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(timeLayout)
}

func atPointer(t *time.Time) string {
	if t == nil {
		return ""
	}
	return at(*t)
}
