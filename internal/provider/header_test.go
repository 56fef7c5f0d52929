package provider_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/provider"
)

func TestStrongETag(t *testing.T) {
	long := `"` + strings.Repeat("x", 254) + `"`
	tests := map[string]bool{
		`"a"`: true, `"a-b:c/d"`: true, `"'"`: true, long: true,
		``: false, `""`: false, `"`: false, `a`: false, `W/"a"`: false, `w/"a"`: false, `"a`: false, `a"`: false, `"a b"`: false,
		`"a"b"`: false, `"a", "b"`: false, "\"a\x7f\"": false, `"ä"`: false, long + `"`: false,
	}
	for value, want := range tests {
		if _, ok := provider.StrongETag(value); ok != want {
			t.Errorf("%q: %t, want %t", value, ok, want)
		}
	}
	if _, ok := provider.StrongETag(`"a"`, `"a"`); ok {
		t.Error("two ETags were accepted")
	}
}

func TestContentRange(t *testing.T) {
	tests := map[string]string{
		"bytes 0-9/100": "0-9/100", "Bytes 0-0/1": "0-0/1", "bytes 5-9/*": "5-9/-1", "bytes */100": "-1--1/100",
		"bytes 0-9223372036854775805/9223372036854775806": "0-9223372036854775805/9223372036854775806",
		"": "", "bytes": "", "bytes ": "", "bytes 0-9": "", "bytes 9-0/100": "", "bytes 0-100/100": "", "bytes */*": "", "bytes -9/100": "",
		"bytes 0-/100": "", "bytes +0-9/100": "", "bytes 0-9/-1": "", "bytes 0-9/1e3": "", "items 0-9/100": "", "bytes=0-9/100": "",
		"bytes  0-9/100": "", "bytes 0-9/100 ": "", "bytes 0-9/100, bytes 0-9/100": "", "bytes 0-9/9223372036854775808": "",
		"bytes 0-9/18446744073709551626": "", "bytes 0-1-2/100": "", "bytes ٠-٩/100": "",
	}
	for value, want := range tests {
		first, last, total, ok := provider.ParseContentRange(value)
		got := ""
		if ok {
			got = fmt.Sprintf("%d-%d/%d", first, last, total)
		}
		if got != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-9/100", "bytes */100", "bytes 5-9/*", "bytes 0-9223372036854775807/9223372036854775807", "items 1-2/3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		first, last, total, ok := provider.ParseContentRange(s)
		if !ok {
			return
		}
		if first < -1 || last < first || total < -1 || (total >= 0 && last >= total) || (first < 0 && total < 0) {
			t.Errorf("%q gives %d-%d/%d", s, first, last, total)
		}
		unit, _, _ := strings.Cut(s, " ")
		if !strings.EqualFold(unit, "bytes") {
			t.Errorf("%q has another unit", s)
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"0", "120", "-1", "99999999999999999999", "Thu, 05 Nov 2026 12:01:30 GMT", "Thursday, 05-Nov-26 12:00:10 GMT", "Thu Nov  5 12:00:20 2026", "soon", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		wait, ok := provider.ParseRetryAfter(s, fixedNow())
		if wait < 0 || wait > provider.MaxRetryAfter || (!ok && wait != 0) {
			t.Errorf("%q gives %s, %t", s, wait, ok)
		}
		if at, err := http.ParseTime(s); err == nil && (!ok || wait > 0 && wait < provider.MaxRetryAfter && !fixedNow().Add(wait).Equal(at)) {
			t.Errorf("%q gives %s, %t", s, wait, ok)
		}
	})
}

func FuzzStrongETag(f *testing.F) {
	for _, s := range []string{`"a"`, `W/"a"`, `""`, `"`, "\"\x00\"", `"a"b"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tag, ok := provider.StrongETag(s)
		if !ok {
			return
		}
		if tag != s || len(tag) > 256 || strings.Count(tag, `"`) != 2 || strings.ContainsFunc(tag, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("%q gives %q", s, tag)
		}
	})
}

func TestRetryAfterForms(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"0": 0, "300": provider.MaxRetryAfter, "301": provider.MaxRetryAfter, "99999999999999999999": provider.MaxRetryAfter, "007": 7 * time.Second,
		"Thursday, 05-Nov-26 12:00:10 GMT": 10 * time.Second, "Thu Nov  5 12:00:20 2026": 20 * time.Second,
	} {
		if got, ok := provider.ParseRetryAfter(value, fixedNow()); !ok || got != want {
			t.Errorf("%q: %s, %t; want %s", value, got, ok, want)
		}
	}
	for _, value := range []string{"", "-1", "+1", "1.5", "1 ", "soon"} {
		if _, ok := provider.ParseRetryAfter(value, fixedNow()); ok {
			t.Errorf("%q was accepted", value)
		}
	}
}
