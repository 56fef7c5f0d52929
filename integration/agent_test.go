package integration_test

import (
	"archive/zip"
	"bytes"
	"crypto/rand"
	"database/sql"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	_ "modernc.org/sqlite"

	"github.com/sitevault/sitevault/internal/backup"
)

// agent is `sitevault agent`, which exports a site: a folder and a database.
type agent struct {
	url, host string
	token     string
	folder    string
	database  string
}

// Sizes of the site: the files make several parts, the database is one.
const (
	bigFiles     = 5
	bigFileBytes = 8 << 20
	articles     = 500
)

var agentURL = regexp.MustCompile(`http://127\.0\.0\.1:[0-9]+`)

func (d *deployment) startAgent(t *testing.T) *agent {
	t.Helper()
	a := &agent{token: rand.Text(), folder: filepath.Join(d.work, "site", "www"), database: filepath.Join(d.work, "site", "shop.db")}
	a.writeFolder(t)
	a.writeDatabase(t)
	token := filepath.Join(d.work, "agent-token")
	if err := os.WriteFile(token, []byte(a.token), 0o600); err != nil {
		t.Fatal(err)
	}
	program, err := d.programs.start("agent", os.Environ(), d.work, filepath.Join(d.root, "bin", "sitevault"), "agent",
		"--files", a.folder, "--database", a.database, "--listen", "127.0.0.1:0", "--dir", filepath.Join(d.work, "snapshots"), "--token-file", token)
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the agent listens", startTime, func() bool {
		a.url = agentURL.FindString(string(program.tail()))
		return a.url != ""
	})
	parsed, err := url.Parse(a.url)
	if err != nil {
		t.Fatal(err)
	}
	a.host = parsed.Host
	return a
}

// writeFolder fills the folder with what does not compress, with the same bytes each time.
func (a *agent) writeFolder(t *testing.T) {
	t.Helper()
	noise := mathrand.NewChaCha8([32]byte{1})
	write := func(name string, content []byte) {
		path := filepath.Join(a.folder, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("index.html", []byte("<h1>A small shop</h1>\n"))
	write("empty.txt", nil)
	write("über uns/größe.txt", []byte("names beyond ASCII\n"))
	for i := range bigFiles {
		content := make([]byte, bigFileBytes)
		_, _ = noise.Read(content)
		write(fmt.Sprintf("uploads/%d.bin", i), content)
	}
}

func (a *agent) writeDatabase(t *testing.T) {
	t.Helper()
	db, err := sql.Open("sqlite", a.database)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`CREATE TABLE article (id INTEGER PRIMARY KEY, title TEXT)`); err != nil {
		t.Fatal(err)
	}
	for i := range articles {
		if _, err := db.Exec(`INSERT INTO article (title) VALUES (?)`, fmt.Sprintf("article %d", i)); err != nil {
			t.Fatal(err)
		}
	}
}

// providers are the agent's exports as a site registers them.
func (a *agent) providers(secretRef string) []backup.Provider {
	return []backup.Provider{
		{Name: "files", URL: a.url + "/files", SecretRef: secretRef},
		{Name: "database", URL: a.url + "/database", SecretRef: secretRef},
	}
}

// export is what the agent exports for the job: it keeps one snapshot for each.
func (a *agent) export(t *testing.T, provider, jobID string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.url+"/"+provider, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Backup-Id", jobID)
	req.Header.Set("Authorization", "Bearer "+a.token)
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("export %s: %s, %v", provider, answer.Status, err)
	}
	return content
}

// holdsFolder compares an archive with the folder, file by file.
func (a *agent) holdsFolder(t *testing.T, archive []byte) {
	t.Helper()
	packed, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	for _, f := range packed.File {
		if f.FileInfo().IsDir() {
			continue
		}
		files++
		want, err := os.ReadFile(filepath.Join(a.folder, filepath.FromSlash(f.Name)))
		if err != nil {
			t.Error(err)
			continue
		}
		if got := unpack(t, f); !bytes.Equal(got, want) {
			t.Errorf("%s differs in the backup", f.Name)
		}
	}
	if files != bigFiles+3 {
		t.Errorf("the backup holds %d files, the folder %d", files, bigFiles+3)
	}
}

// holdsDatabase opens the database in an archive and counts.
func (a *agent) holdsDatabase(t *testing.T, archive []byte) {
	t.Helper()
	packed, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		t.Fatal(err)
	}
	if len(packed.File) != 1 {
		t.Fatalf("the archive holds %d files", len(packed.File))
	}
	restored := filepath.Join(t.TempDir(), "restored.db")
	if err := os.WriteFile(restored, unpack(t, packed.File[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", restored)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var count int
	var last string
	if err := db.QueryRow(`SELECT count(*), max(CASE id WHEN ? THEN title END) FROM article`, articles).Scan(&count, &last); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("article %d", articles-1); count != articles || last != want {
		t.Errorf("the restored database has %d articles, the last %q, not %d and %q", count, last, articles, want)
	}
}

func unpack(t *testing.T, f *zip.File) []byte {
	t.Helper()
	r, err := f.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
