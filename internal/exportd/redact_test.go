package exportd_test

import (
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sitevault/sitevault/internal/exportd"
)

const called = "--host=db.example --user=site --port=3306 -- shop /usr/bin/mariadb-dump shop.sql"

// What tools say stays readable whatever the password is, and does not hold it where it is one.
func TestRedact(t *testing.T) {
	for _, c := range []struct{ password, text, want string }{
		{"p", "mariadb-dump: Got error: 1045: Access denied for user 'site'@'db.example' (using password: YES)", ""},
		{"dump", "mariadb-dump: Got error: 2005", ""},
		{"error", "mariadb-dump: Got error: 1045", ""},
		{"1045", "mariadb-dump: Got error: 1045", ""},
		{"shop", "Unknown database 'shop'", ""},
		{"db.example", "Unknown server host 'db.example'", ""},
		{"s3cret", "s3crets and xs3cret and s3cret-1", ""},
		{"s3cret", "no s3cret, 's3cret'.", "no [password], '[password]'."},
		{"p@ss/w0rd", "about p@ss/w0rd", "about [password]"},
		{"p@ss/w0rd", "mysql://site:p%40ss%2Fw0rd@db.example/shop", "mysql://site:[password]@db.example/shop"},
		{"p", "mysql://site:p@db.example/shop", "mysql://site:[password]@db.example/shop"},
		{"p", "MYSQL_PWD=p PGPASSWORD='p' --password=p -p", "MYSQL_PWD=[password] PGPASSWORD='[password]' --password=[password] -p"},
		{"pw", "tool -ppw --pw", "tool -p[password] --pw"},
		{"p", "password=pq", ""},
		{"aaaaa1", "aaaaa1aaaaa1 aaaaa1", "aaaaa1aaaaa1 [password]"},
		{"", "nothing to strike", ""},
	} {
		want := c.want
		if want == "" {
			want = c.text
		}
		if got := exportd.Redact(c.text, c.password, called); got != want {
			t.Errorf("%q in %q: got %q, want %q", c.password, c.text, got, want)
		}
	}
}

// Whatever the password is, words that only contain it stay whole, and it is struck where it stands as a password.
func TestRedactNeitherLeaksNorMangles(t *testing.T) {
	passwords := rapid.StringMatching(`[a-zA-Z0-9!@#%/:+ ü.]{1,12}`)
	rapid.Check(t, func(t *rapid.T) {
		password := passwords.Draw(t, "password")
		inside := "x" + password + "x"
		if got := exportd.Redact(inside, password, called); strings.Trim(password, "!@#%/:+ .") == password && got != inside {
			t.Fatalf("%q became %q", inside, got)
		}
		for _, said := range []string{
			"MYSQL_PWD=" + password, "--password=" + password + "\n", `password="` + password + `"`,
			"mysql://site:" + url.QueryEscape(password) + "@host", "could not open postgres://site:" + url.PathEscape(password) + "@host",
		} {
			if got := exportd.Redact(said, password, called); !strings.Contains(got, "[password]") {
				t.Fatalf("%q was left in %q", password, got)
			}
		}
		if exportd.Unmistakable(password) && !strings.Contains(called, password) {
			if got := exportd.Redact("denied for '"+password+"'", password, called); got != "denied for '[password]'" {
				t.Fatalf("%q was left in %q", password, got)
			}
		}
	})
}

// A password that the bound on the tool's words cuts in the middle does not stand at their end.
func TestRedactAtTheBound(t *testing.T) {
	const password = "s3cret-p@ssword"
	for cut := range len(password) {
		got := exportd.Said(password, strings.Repeat("x", exportd.DumpStderrBytes-cut-1)+" "+password)
		if strings.ContainsAny(got, "s3cret") || len(got) < exportd.DumpStderrBytes/2 {
			t.Errorf("cut after %d bytes: ends with %q", cut, got[max(0, len(got)-30):])
		}
	}
}
