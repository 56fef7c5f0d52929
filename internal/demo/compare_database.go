package demo

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// DatabaseProof says what was compared.
type DatabaseProof struct {
	Proven string `json:"proven"` // in words
	Bytes  int64  `json:"bytes"`  // of the copy, uncompressed
	Tables int    `json:"tables,omitempty"`
	Rows   int64  `json:"rows,omitempty"`
}

// endMarks are the last lines that the dump tools write once everything before them is written.
var endMarks = map[string]string{
	"mysql":      "-- Dump completed",
	"mariadb":    "-- Dump completed",
	"postgres":   "-- PostgreSQL database dump complete",
	"postgresql": "-- PostgreSQL database dump complete",
}

// CompareDatabase proves what can be proven of the database in the zip archive. An SQLite database at rest is compared
// byte for byte, one in another state row by row in a copy below workDir; of a dump, that it is complete.
func CompareDatabase(ctx context.Context, database, archive, workDir string) (DatabaseProof, error) {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return DatabaseProof{}, fmt.Errorf("open %s: %w", archive, err)
	}
	defer z.Close()
	if len(z.File) != 1 {
		return DatabaseProof{}, fmt.Errorf("%s: %d entries instead of one", archive, len(z.File))
	}
	scheme, _, _ := strings.Cut(database, "://")
	if mark, ok := endMarks[scheme]; ok {
		return proveDump(z.File[0], mark)
	}
	path, err := sqlitePath(database)
	if err != nil {
		return DatabaseProof{}, err
	}
	return proveSQLite(ctx, path, z.File[0], workDir)
}

func sqlitePath(database string) (string, error) {
	if !strings.HasPrefix(database, "sqlite:") {
		return database, nil
	}
	u, err := url.Parse(database)
	if err != nil {
		return "", fmt.Errorf("database: %w", err)
	}
	return u.Path, nil
}

const dumpTailBytes = 4 << 10

func proveDump(stored *zip.File, mark string) (DatabaseProof, error) {
	entry, err := stored.Open()
	if err != nil {
		return DatabaseProof{}, err
	}
	defer entry.Close()
	tail := &tailWriter{}
	n, err := io.Copy(tail, entry)
	if err != nil {
		return DatabaseProof{}, fmt.Errorf("read %s from the backup: %w", stored.Name, err)
	}
	if !bytes.Contains(tail.end, []byte(mark)) {
		return DatabaseProof{}, &DifferenceError{What: "database", Count: 1, Examples: []string{stored.Name + " does not end with the dump tool's mark of completeness"}}
	}
	return DatabaseProof{
		Proven: "the dump tool's mark of completeness is at its end, and the archive's checksums agree; the rows were not compared", Bytes: n,
	}, nil
}

// tailWriter keeps the end of what is written.
type tailWriter struct{ end []byte }

func (t *tailWriter) Write(p []byte) (int, error) {
	t.end = append(t.end, p[max(0, len(p)-dumpTailBytes):]...)
	t.end = t.end[max(0, len(t.end)-dumpTailBytes):]
	return len(p), nil
}

func proveSQLite(ctx context.Context, path string, stored *zip.File, workDir string) (DatabaseProof, error) {
	copied := filepath.Join(workDir, "restored.db")
	if err := extract(stored, copied); err != nil {
		return DatabaseProof{}, fmt.Errorf("extract %s: %w", stored.Name, err)
	}
	equal, size, err := sameFiles(path, copied)
	if err != nil {
		return DatabaseProof{}, fmt.Errorf("compare %s: %w", stored.Name, err)
	}
	proof, err := compareRows(ctx, path, copied)
	proof.Bytes, proof.Proven = size, "every row of every table is the same; the database was in use, so its file's bytes differ"
	if equal {
		proof.Proven = "byte for byte the same"
	}
	return proof, err
}

func extract(stored *zip.File, path string) (err error) {
	entry, err := stored.Open()
	if err != nil {
		return err
	}
	defer entry.Close()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	_, err = io.Copy(file, entry)
	return err
}

// sameFiles also returns the size of b.
func sameFiles(a, b string) (equal bool, size int64, err error) {
	fileA, err := os.Open(a)
	if err != nil {
		return false, 0, err
	}
	defer fileA.Close()
	fileB, err := os.Open(b)
	if err != nil {
		return false, 0, err
	}
	defer fileB.Close()
	info, err := fileB.Stat()
	if err != nil {
		return false, 0, err
	}
	equal, err = sameBytes(fileA, fileB)
	return equal, info.Size(), err
}
