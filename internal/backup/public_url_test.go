package backup_test

import (
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sitevault/sitevault/internal/backup"
)

// Of a URL only scheme, host and the first element of the path are shown.
func TestPublicURL(t *testing.T) {
	for raw, want := range map[string]string{
		"https://shop.example":                          "https://shop.example",
		"https://shop.example/":                         "https://shop.example/",
		"https://shop.example/export":                   "https://shop.example/export",
		"https://shop.example/export/":                  "https://shop.example/export/...",
		"https://shop.example/export/s3cret":            "https://shop.example/export/...",
		"https://shop.example/export/s3cret/files?k=v":  "https://shop.example/export/...",
		"https://shop.example/export?key=s3cret":        "https://shop.example/export/...",
		"https://shop.example?key=s3cret":               "https://shop.example/...",
		"https://shop.example//s3cret":                  "https://shop.example//...",
		"https://shop.example/export%2Fs3cret":          "https://shop.example/export/...",
		"https://shop.example/export;id=s3cret":         "https://shop.example/export/...",
		"https://shop.example/export%3Bid=s3cret/files": "https://shop.example/export/...",
		"https://shop.example/a%20b/s3cret":             "https://shop.example/a%20b/...",
		"https://ann:s3cret@shop.example/export#s3cret": "https://shop.example/export",
		"http://[2001:db8::1]:8080/export/s3cret":       "http://[2001:db8::1]:8080/export/...",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got := backup.PublicURL(u); got != want {
			t.Errorf("%s is shown as %s, want %s", raw, got, want)
		}
	}
}

// However a URL is made, a token behind the first element or in the query is not shown.
func TestPublicURLHidesTokens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const token = "s3cret"
		before := rapid.StringMatching(`[a-z%20.~!$&'()*+,=:@-]{0,8}`).Draw(t, "first element")
		between := rapid.SampledFrom([]string{"/", "//", "/./", "/a/", "?", "?k=", "%2f", "%2F", ";", "%3b", "#"}).Draw(t, "between")
		after := rapid.SampledFrom([]string{"", "/", "/b", "?c", "#d"}).Draw(t, "after")
		u, err := url.Parse("https://shop.example/" + before + between + token + after)
		if err != nil {
			t.Skip("not a URL")
		}
		if got := backup.PublicURL(u); strings.Contains(got, token) || !strings.HasPrefix(got, "https://shop.example/") {
			t.Fatalf("%s is shown as %s", u, got)
		}
	})
}
