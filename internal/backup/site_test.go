package backup_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sitevault/sitevault/internal/backup"
)

// Each field of a site is checked where it enters, hostile values included.
func TestSiteValidate(t *testing.T) {
	url := func(u string) func(*backup.Site) { return func(s *backup.Site) { s.Providers[0].URL = u } }
	name := func(n string) func(*backup.Site) { return func(s *backup.Site) { s.Providers[0].Name = n } }
	id := func(i string) func(*backup.Site) { return func(s *backup.Site) { s.SiteID = i } }
	secret := func(r string) func(*backup.Site) { return func(s *backup.Site) { s.Providers[0].SecretRef = r } }
	schedule := func(c backup.Schedule) func(*backup.Site) { return func(s *backup.Site) { s.Schedule = c } }
	providers := func(n int) func(*backup.Site) {
		return func(s *backup.Site) {
			s.Providers = nil
			for i := range n {
				s.Providers = append(s.Providers, backup.Provider{Name: fmt.Sprintf("p%d", i), URL: "https://example.org/"})
			}
		}
	}
	long := strings.Repeat("a", 63)
	for _, tc := range []struct {
		name   string
		change func(*backup.Site)
		ok     bool
	}{
		{"as it is", func(*backup.Site) {}, true},

		{"longest id", id(long), true},
		{"id too long", id(long + "a"), false},
		{"empty id", id(""), false},
		{"id with a slash", id("a/b"), false},
		{"id going up", id(".."), false},
		{"id in capitals", id("Blog"), false},
		{"id with a line", id("blog\n"), false},
		{"id beginning with a hyphen", id("-blog"), false},
		{"id with another script", id("blоg"), false}, // Cyrillic o
		{"id with a zero byte", id("blog\x00"), false},

		{"no provider", providers(0), false},
		{"most providers", providers(backup.MaxProviders), true},
		{"one provider too many", providers(backup.MaxProviders + 1), false},
		{"a name twice", func(s *backup.Site) { s.Providers = append(s.Providers, s.Providers[0]) }, false},
		{"empty name", name(""), false},
		{"name beginning with a digit", name("1files"), false},
		{"longest name", name(strings.Repeat("a", 32)), true},
		{"name too long", name(strings.Repeat("a", 33)), false},
		{"name as a path", name("../files"), false},
		{"name with a space", name("my files"), false},
		{"name with a line", name("files\n"), false},

		{"plain http", url("http://example.org/export"), true},
		{"port and query", url("https://example.org:8443/export?site=1"), true},
		{"IPv6 host", url("https://[2001:db8::1]/export"), true},
		{"scheme in capitals", url("HTTPS://example.org/"), true},
		{"empty url", url(""), false},
		{"relative", url("/export"), false},
		{"no scheme", url("example.org/export"), false},
		{"no host", url("https:///export"), false},
		{"only a port", url("https://:443/export"), false},
		{"opaque", url("https:example.org"), false},
		{"file", url("file:///etc/passwd"), false},
		{"ftp", url("ftp://example.org/"), false},
		{"gopher", url("gopher://example.org/"), false},
		{"script", url("javascript:alert(1)"), false},
		{"data", url("data:text/plain,x"), false},
		{"port", url("https://example.org:8443/"), true},
		{"port beyond all", url("https://example.org:99999/"), false},
		{"port 0", url("https://example.org:0/"), false},
		{"credentials", url("https://user:secret@example.org/"), false},
		{"user alone", url("https://user@example.org/"), false},
		{"fragment", url("https://example.org/#part"), false},
		{"line in the url", url("https://example.org/\r\nX-Header: 1"), false},
		{"zero byte", url("https://example.org/\x00"), false},
		{"port of letters", url("https://example.org:https/"), false},
		{"space before", url(" https://example.org/"), false},
		{"longest url", url("https://example.org/" + strings.Repeat("a", 2048-20)), true},
		{"url too long", url("https://example.org/" + strings.Repeat("a", 2048-19)), false},

		{"no secret", secret(""), true},
		{"secret by name", secret("blog-token"), true},
		{"secret itself", secret("Bearer abc.def"), false},
		{"secret of another user", secret("../eve/token"), false},
		{"secret name too long", secret(long + "a"), false},

		{"kept a day", func(s *backup.Site) { s.KeepDays = 1 }, true},
		{"kept longest", func(s *backup.Site) { s.KeepDays = backup.MaxKeepDays }, true},
		{"kept too long", func(s *backup.Site) { s.KeepDays = backup.MaxKeepDays + 1 }, false},
		{"kept a negative time", func(s *backup.Site) { s.KeepDays = -1 }, false},
		{"largest file", func(s *backup.Site) { s.Limits.MaxFileBytes = backup.MaxFileBytes }, true},
		{"file too large", func(s *backup.Site) { s.Limits.MaxFileBytes = backup.MaxFileBytes + 1 }, false},
		{"negative file size", func(s *backup.Site) { s.Limits.MaxFileBytes = -1 }, false},
		{"most parallel", func(s *backup.Site) { s.Limits.Parallelism = backup.MaxParallelism }, true},
		{"too parallel", func(s *backup.Site) { s.Limits.Parallelism = backup.MaxParallelism + 1 }, false},
		{"negative parallelism", func(s *backup.Site) { s.Limits.Parallelism = -1 }, false},

		{"off needs no time", schedule(backup.Schedule{Off: true}), true},
		{"a zone", schedule(backup.Schedule{At: "23:59", TimeZone: "Asia/Kathmandu"}), true},
		{"24:00", schedule(backup.Schedule{At: "24:00"}), false},
		{"seconds", schedule(backup.Schedule{At: "03:30:00"}), false},
		{"words", schedule(backup.Schedule{At: "noon"}), false},
		{"no time", schedule(backup.Schedule{}), false},
		{"unknown zone", schedule(backup.Schedule{At: "03:30", TimeZone: "Mars/Olympus"}), false},
		{"off, with a time that is none", schedule(backup.Schedule{Off: true, At: "99:99"}), false},
		{"off, in a zone that is none", schedule(backup.Schedule{Off: true, TimeZone: "Mars/Olympus"}), false},
		{"an old zone", schedule(backup.Schedule{At: "23:59", TimeZone: "EST5EDT"}), true},
		{"another spelling of a zone", schedule(backup.Schedule{At: "03:30", TimeZone: "posix/Europe/Berlin"}), false},
		{"a zone of leap seconds", schedule(backup.Schedule{At: "03:30", TimeZone: "right/UTC"}), false},
		{"no zone", schedule(backup.Schedule{At: "03:30", TimeZone: "Factory"}), false},
		{"the machine's zone", schedule(backup.Schedule{At: "03:30", TimeZone: "Local"}), false},
		{"zone as a path", schedule(backup.Schedule{At: "03:30", TimeZone: "../../etc/passwd"}), false},
	} {
		site := testSite()
		tc.change(&site)
		err := site.Validate()
		if tc.ok != (err == nil) || (err != nil && !backup.Is(err, backup.InvalidRequest)) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

// Defaults make a site valid that names only its providers, and leave alone what the caller chose.
func TestSiteWithDefaults(t *testing.T) {
	s := backup.Site{UserID: "ada", SiteID: "blog", Providers: testSite().Providers}.WithDefaults()
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
	if s.KeepDays != 60 || s.Limits.MaxFileBytes != 1<<40 || s.Limits.Parallelism != 4 {
		t.Errorf("defaults: %+v", s)
	}
	own := s
	own.KeepDays, own.Limits, own.Schedule = 7, backup.Limits{MaxFileBytes: 1, Parallelism: 1}, backup.Schedule{At: "12:00"}
	if got := own.WithDefaults(); got.KeepDays != 7 || got.Limits != own.Limits || got.Schedule != own.Schedule {
		t.Errorf("chosen values changed: %+v", got)
	}
	if off := (backup.Site{Schedule: backup.Schedule{Off: true}}).WithDefaults(); off.Schedule.At != "" {
		t.Errorf("a schedule that is off got the time %s", off.Schedule.At)
	}
}

// A fleet without times of its own is spread over the night, each site always at the same minute.
func TestSpreadTime(t *testing.T) {
	minutes := map[string]int{}
	for i := range 1_000 {
		s := backup.Site{UserID: "ada", SiteID: fmt.Sprintf("site-%d", i)}.WithDefaults()
		if again := (backup.Site{UserID: "ada", SiteID: s.SiteID}).WithDefaults(); again.Schedule != s.Schedule {
			t.Fatalf("%s moves from %s to %s", s.SiteID, s.Schedule.At, again.Schedule.At)
		}
		if s.Schedule.At >= "06:00" {
			t.Fatalf("%s runs at %s", s.SiteID, s.Schedule.At)
		}
		minutes[s.Schedule.At]++
	}
	for minute, sites := range minutes {
		if sites > 15 {
			t.Errorf("%d of 1000 sites start at %s", sites, minute)
		}
	}
}
