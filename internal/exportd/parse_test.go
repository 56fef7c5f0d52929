package exportd_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/sitevault/sitevault/internal/exportd"
)

// TestParseDatabase: each form is accepted, and what would connect to somewhere else than meant is refused.
func TestParseDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b.db")
	write(t, path, "")
	for _, c := range []struct {
		in string
		ok bool
	}{
		{"mysql://u:p@h:3306/db", true},
		{"mariadb://u@h/db", true},
		{"mysql:///db", true},
		{"mysql://u:p@/db?socket=/run/x", true},
		{"postgres://u:p@h:5432/db?sslmode=verify-full", true},
		{"postgresql:///db?host=/run/postgresql", true},
		{path, true},
		{"sqlite://" + strings.ReplaceAll(path, " ", "%20"), true},
		{"", false},
		{"mysql://u:p@h:3306/", false},
		{"mysql://u:p@h:3306", false},
		{"mysql://u:p@h:0/db", false},
		{"mysql://u:p@h/db/x", false},
		{"mysql://u:p@h/--all-databases", false},
		{"mysql://u:p@h/db?ssl=1", false},
		{"mysql://u:p@h/db?socket=/run/x", false},
		{"mysql://u:p/w@h/db", false},
		{"mysql://u:1/w@h", false},
		{"mysql:u:p@h/db", false},
		{"postgres://u@h/db?password=x", false},
		{"postgres://u@h/db?sslpassword=x", false},
		{"postgres://u:p#w@h/db", false},
		{"postgres:u:p@h", false},
		{"oracle://u:p@h/db", false},
		{"sqlite://" + path + "-absent", false},
		{"sqlite://host" + path, false},
		{path + "-absent", false},
	} {
		if source, err := exportd.ParseDatabase(c.in); (err == nil) != c.ok || (source != nil) != c.ok {
			t.Errorf("%s: %v", c.in, err)
		}
	}
}

// FuzzParseDatabase: however a password breaks its URL, no error shows it.
func FuzzParseDatabase(f *testing.F) {
	for _, seed := range []string{"x", "@", "@/0", "/", "#", "?", "%", "12/3", "12?3", "12#3", "a@b/", "[", " ", "\x00", "?socket=x", "://"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, middle string) {
		for _, scheme := range []string{"mysql://", "postgres://", "sqlite://", "mysql:", "other://"} {
			_, err := exportd.ParseDatabase(scheme + "user:Zq7" + middle + "7qZ@host/db")
			if err != nil && (strings.Contains(err.Error(), "Zq7") || strings.Contains(err.Error(), "7qZ")) {
				t.Errorf("%s with %q: %v", scheme, middle, err)
			}
		}
	})
}
