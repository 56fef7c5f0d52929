package lambdaedge

import (
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Settings reads what a function is told by its environment. Reading never fails: Err tells everything that is missing
// or wrong at once, so that a function is not deployed five times to learn five names.
type Settings struct {
	lookup  func(name string) (string, bool)
	missing []string
	wrong   []string
	seen    map[string]bool
}

// NewSettings reads through lookup, such as os.LookupEnv. An empty value counts as missing.
func NewSettings(lookup func(name string) (string, bool)) *Settings {
	return &Settings{lookup: lookup, seen: map[string]bool{}}
}

// Text is a value that the function cannot do without.
func (s *Settings) Text(name string) string {
	value := s.Optional(name)
	if value == "" && !s.seen[name] {
		s.seen[name] = true
		s.missing = append(s.missing, name)
	}
	return value
}

// Optional is "" when the value is not given.
func (s *Settings) Optional(name string) string {
	value, _ := s.lookup(name)
	return strings.TrimSpace(value)
}

// Duration is a positive time such as "6h" or "90m".
func (s *Settings) Duration(name string) time.Duration {
	value := s.Text(name)
	if value == "" {
		return 0
	}
	d, err := time.ParseDuration(value)
	if err != nil || d <= 0 {
		s.refuse(name, "a duration above zero such as 6h", value)
	}
	return d
}

// URL is an absolute http or https URL.
func (s *Settings) URL(name string) string {
	value := s.Text(name)
	u, err := url.Parse(value)
	if value != "" && (err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https")) {
		s.refuse(name, "an http or https URL", value)
	}
	return value
}

// List is a list separated by commas; nil when the value is not given.
func (s *Settings) List(name string) (list []string) {
	for _, entry := range strings.Split(s.Optional(name), ",") {
		if entry = strings.TrimSpace(entry); entry != "" {
			list = append(list, entry)
		}
	}
	return list
}

// Flag is true for "true", and false for "false" or no value.
func (s *Settings) Flag(name string) bool {
	switch value := s.Optional(name); value {
	case "true":
		return true
	case "", "false":
	default:
		s.refuse(name, `"true" or "false"`, value)
	}
	return false
}

func (s *Settings) refuse(name, want, value string) {
	if !s.seen[name] {
		s.seen[name] = true
		s.wrong = append(s.wrong, fmt.Sprintf("%s must be %s, not %q", name, want, value))
	}
}

// Err names whatever has been read in vain so far.
func (s *Settings) Err() error {
	problems := s.wrong
	if len(s.missing) > 0 {
		problems = append([]string{"missing in the environment: " + strings.Join(s.missing, ", ")}, s.wrong...)
	}
	if len(problems) == 0 {
		return nil
	}
	return fmt.Errorf("settings: %s", strings.Join(problems, "; "))
}
