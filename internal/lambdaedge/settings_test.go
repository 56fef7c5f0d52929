package lambdaedge_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/lambdaedge"
)

func settings(values map[string]string) *lambdaedge.Settings {
	return lambdaedge.NewSettings(func(name string) (string, bool) {
		value, ok := values[name]
		return value, ok
	})
}

// Everything that is missing or wrong is told at once, each name once, and nothing that is merely optional.
func TestSettingsTellEverything(t *testing.T) {
	s := settings(map[string]string{"EMPTY": " ", "LIFE": "6 hours", "NEGATIVE": "-1h", "SITE": "example.org", "SWITCH": "yes"})
	s.Text("TABLE")
	s.Text("EMPTY")
	s.Text("TABLE")
	s.Duration("TIMEOUT")
	s.Duration("LIFE")
	s.Duration("LIFE")
	s.Duration("NEGATIVE")
	s.URL("ENDPOINT")
	s.URL("SITE")
	s.Flag("SWITCH")
	s.Optional("LOG_LEVEL")
	s.List("HOSTS")
	s.Flag("OFF")
	err := fmt.Sprint(s.Err())
	want := `settings: missing in the environment: TABLE, EMPTY, TIMEOUT, ENDPOINT; LIFE must be a duration above zero such as 6h, not "6 hours"; ` +
		`NEGATIVE must be a duration above zero such as 6h, not "-1h"; SITE must be an http or https URL, not "example.org"; SWITCH must be "true" or "false", not "yes"`
	if err != want {
		t.Errorf("\n got %s\nwant %s", err, want)
	}
}

// Values arrive as they are meant.
func TestSettingsValues(t *testing.T) {
	s := settings(map[string]string{"TABLE": " rows ", "LIFE": "90m", "SITE": "https://example.org/v1", "HOSTS": "10.0.0.1, ,example.org,", "ON": "true", "OFF": "false"})
	if got := s.Text("TABLE"); got != "rows" {
		t.Errorf("text %q", got)
	}
	if got := s.Duration("LIFE"); got != 90*time.Minute {
		t.Errorf("duration %s", got)
	}
	if got := s.URL("SITE"); got != "https://example.org/v1" {
		t.Errorf("URL %s", got)
	}
	if got := s.List("HOSTS"); !slices.Equal(got, []string{"10.0.0.1", "example.org"}) {
		t.Errorf("list %q", got)
	}
	if !s.Flag("ON") || s.Flag("OFF") || s.Flag("NONE") || s.Optional("NONE") != "" || s.List("NONE") != nil {
		t.Error("flags or optional values")
	}
	if err := s.Err(); err != nil {
		t.Error(err)
	}
}

// A wrong value is told with itself, which is why no secret is ever a setting.
func TestSettingsErrIsOneLine(t *testing.T) {
	s := settings(map[string]string{"LIFE": "a\nb"})
	s.Duration("LIFE")
	if err := s.Err(); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
}
