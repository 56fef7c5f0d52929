package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/secretfile"
)

// MaxSecretBytes is far above any token and below the header limits of common servers.
const MaxSecretBytes = 8 << 10

// SecretDir keeps secrets as files <dir>/<userID>/<ref>, for the service on one machine. A file is read anew for each
// use, so that a secret can be replaced under a running service.
type SecretDir string

var _ Secrets = SecretDir("")

// Authorization is the header's value as AuthorizationValue makes it from the file.
func (d SecretDir) Authorization(_ context.Context, userID, ref string) (string, error) {
	if err := checkName(userID, ref); err != nil {
		return "", err
	}
	content, err := d.read(filepath.Join(userID, ref))
	if errors.Is(err, fs.ErrNotExist) {
		return "", backup.E(backup.SecretMissing, "secret %s of user %s is not stored", ref, userID)
	}
	if err != nil {
		return "", fmt.Errorf("secret %s of user %s: %w", ref, userID, err)
	}
	return AuthorizationValue(string(content)), nil
}

func checkName(userID, ref string) error {
	if !backup.ValidUserID(userID) || !backup.ValidSecretRef(ref) {
		return backup.E(backup.SecretMissing, "secret: %q of user %q cannot be the name of a secret", ref, userID)
	}
	return nil
}

// Forget has nothing to do.
func (d SecretDir) Forget(string, string) {}

// Check refuses a folder in which anything is open to others. What is added later is checked when it is read.
func (d SecretDir) Check() error {
	var errs []error
	err := filepath.WalkDir(string(d), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // replaced or deleted meanwhile
		}
		if err == nil {
			errs = append(errs, secretfile.Check(path, info))
		}
		return err
	})
	return errors.Join(append(errs, err)...)
}

// read follows no link out of the folder and opens nothing but files: a named pipe would block.
func (d SecretDir) read(name string) ([]byte, error) {
	root, err := os.OpenRoot(string(d))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	info, err := root.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > MaxSecretBytes {
		return nil, fmt.Errorf("not a file of at most %d bytes", MaxSecretBytes)
	}
	if err := secretfile.Check(filepath.Join(string(d), name), info); err != nil {
		return nil, backup.E(backup.SecretMissing, "%w", err)
	}
	file, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, MaxSecretBytes))
}

// AuthorizationValue makes the value of the Authorization header from a stored secret. Newlines at the end are
// dropped. A secret with a space in it names its scheme ("Basic dXNlcjpwYXNz") and is sent as it is; one without is a
// bare token and becomes "Bearer <token>". An empty secret stays empty, which the client refuses.
func AuthorizationValue(secret string) string {
	secret = strings.TrimRight(secret, "\r\n")
	if secret == "" || strings.Contains(secret, " ") {
		return secret
	}
	return "Bearer " + secret
}
