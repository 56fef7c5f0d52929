package demo

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// minFiles makes the default input worth its name.
const minFiles = 10_000

func (r *run) chooseInput(ctx context.Context) (err error) {
	if r.SiteDir == "" {
		r.SiteDir, err = toolchainTree(ctx)
	} else {
		r.SiteDir, err = filepath.Abs(r.SiteDir)
	}
	if err != nil {
		return err
	}
	r.report.SiteDir = r.SiteDir
	r.step("Site: %s", r.SiteDir)
	if r.Database != "" {
		r.Database, err = absoluteDatabase(r.Database)
		return err
	}
	r.Database = filepath.Join(r.dir, "site.db")
	rows, err := makeDatabase(ctx, r.SiteDir, r.Database)
	if err != nil {
		return fmt.Errorf("make the database: %w", err)
	}
	r.step("Database: SQLite, made of the facts of the site's %d files, one row each", rows)
	return nil
}

// toolchainTree is a tree of real files that is at hand wherever the demo is built.
func toolchainTree(ctx context.Context) (string, error) {
	output, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("find the Go toolchain's tree, the input unless you name a folder with --site: %w", err)
	}
	root := strings.TrimSpace(string(output))
	source, err := filepath.EvalSymlinks(filepath.Join(root, "src")) // distributions keep it elsewhere
	if err != nil {
		return "", fmt.Errorf("find the Go toolchain's tree: %w; name a folder with --site", err)
	}
	for _, dir := range []string{root, source} {
		n, err := countFiles(ctx, dir)
		if err != nil {
			return "", err
		}
		if n >= minFiles {
			return dir, nil
		}
	}
	return "", fmt.Errorf("the Go toolchain in %s has fewer than %d files; name a folder with --site", root, minFiles)
}

func countFiles(ctx context.Context, dir string) (n int, err error) {
	err = walkFiles(ctx, dir, func(string, fs.FileInfo) error {
		n++
		return nil
	})
	return n, err
}

// walkFiles visits the regular files below dir.
func walkFiles(ctx context.Context, dir string, visit func(path string, info fs.FileInfo) error) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		return visit(path, info)
	})
}

func absoluteDatabase(database string) (string, error) {
	if strings.Contains(database, "://") {
		return database, nil
	}
	return filepath.Abs(database)
}

const (
	schema = `CREATE TABLE file (path TEXT PRIMARY KEY, sizeBytes INTEGER NOT NULL, mode INTEGER NOT NULL, sha256 BLOB NOT NULL);
		CREATE INDEX fileBySize ON file (sizeBytes)`
	insert = `INSERT INTO file (path, sizeBytes, mode, sha256) VALUES (?, ?, ?, ?)`
)

// makeDatabase writes one row for each regular file below dir.
func makeDatabase(ctx context.Context, dir, path string) (rows int, err error) {
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	if _, err := tx.ExecContext(ctx, schema); err != nil {
		return 0, err
	}
	stmt, err := tx.PrepareContext(ctx, insert)
	if err != nil {
		return 0, err
	}
	err = walkFiles(ctx, dir, func(file string, info fs.FileInfo) error {
		rows++
		return insertFile(ctx, stmt, dir, file, info)
	})
	if err != nil {
		return 0, err
	}
	return rows, tx.Commit()
}

func insertFile(ctx context.Context, stmt *sql.Stmt, dir, file string, info fs.FileInfo) error {
	name, err := filepath.Rel(dir, file)
	if err != nil {
		return err
	}
	sum, err := digest(file)
	if err != nil {
		return err
	}
	_, err = stmt.ExecContext(ctx, filepath.ToSlash(name), info.Size(), uint32(info.Mode()), sum)
	return err
}

func digest(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return h.Sum(nil), nil
}
