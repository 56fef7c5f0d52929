package provider_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/provider"
)

func writeSecret(t *testing.T, dir, userID, ref, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, userID), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, userID, ref), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A file becomes the header's value, and a new content counts at once.
func TestSecretDir(t *testing.T) {
	dir := t.TempDir()
	secrets := provider.SecretDir(dir)
	tests := map[string]string{
		"token\n":              "Bearer token",
		"token\r\n":            "Bearer token",
		"token":                "Bearer token",
		"Basic dXNlcjpwYXNz\n": "Basic dXNlcjpwYXNz",
		"Bearer token\n\n":     "Bearer token",
		"":                     "",
		"\n":                   "",
	}
	for content, want := range tests {
		writeSecret(t, dir, "ann", "token", content)
		got, err := secrets.Authorization(t.Context(), "ann", "token")
		if err != nil || got != want {
			t.Errorf("%q gives %q, %v; want %q", content, got, err, want)
		}
	}
}

// Nothing but a stored file of the same user is ever read.
func TestSecretDirRefuses(t *testing.T) {
	dir := t.TempDir()
	writeSecret(t, dir, "secrets/bob", "token", headerCanary)
	writeSecret(t, dir, "secrets/ann", "huge", strings.Repeat("x", 9000))
	writeSecret(t, dir, ".", "outside", headerCanary)
	secrets := provider.SecretDir(filepath.Join(dir, "secrets"))
	if err := os.Symlink("../../outside", filepath.Join(dir, "secrets/ann/link")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "secrets/ann/pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	missing := [][2]string{
		{"ann", "token"}, {"ann", "../bob/token"}, {"..", "outside"}, {"ann", "."}, {"", "token"}, {"bob", ""}, {"bob/", "token"},
		{"bob", "TOKEN"}, {"bob", "token\x00"}, {"bob", "token\n"}, {".", "bob"},
	}
	for _, name := range missing {
		value, err := secrets.Authorization(t.Context(), name[0], name[1])
		if !backup.Is(err, backup.SecretMissing) || value != "" {
			t.Errorf("%q gives %q, %v", name, value, err)
		}
	}
	for _, ref := range []string{"link", "pipe", "huge"} {
		value, err := secrets.Authorization(t.Context(), "ann", ref)
		if err == nil || value != "" || backup.Is(err, backup.SecretMissing) {
			t.Errorf("%s gives %q, %v", ref, value, err)
		}
		checkNoSecret(t, err)
	}
	if _, err := provider.SecretDir(filepath.Join(dir, "absent")).Authorization(t.Context(), "ann", "token"); !backup.Is(err, backup.SecretMissing) {
		t.Errorf("a folder that does not exist gives %v", err)
	}
}

// What others can read is not sent until its mode is mended.
func TestSecretDirOpenToOthers(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	writeSecret(t, dir, "ann", "shop", "s3cret")
	secrets := provider.SecretDir(dir)
	if err := secrets.Check(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "ann", "shop")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	value, err := secrets.Authorization(t.Context(), "ann", "shop")
	if value != "" || !backup.Is(err, backup.SecretMissing) || !strings.Contains(err.Error(), "chmod 600 "+path) {
		t.Errorf("%q, %v", value, err)
	}
	if err := secrets.Check(); err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
		t.Errorf("check: %v", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if value, err := secrets.Authorization(t.Context(), "ann", "shop"); value != "Bearer s3cret" || err != nil {
		t.Errorf("%q, %v", value, err)
	}
}

// Errors of the folder stay readable for whoever runs the service.
func TestSecretDirNamesTheSecret(t *testing.T) {
	_, err := provider.SecretDir(t.TempDir()).Authorization(t.Context(), "ann", "token")
	failure, _ := errors.AsType[*backup.Error](err)
	if failure == nil || !strings.Contains(fmt.Sprint(failure), "secret token of user ann") {
		t.Errorf("got %v", err)
	}
}
