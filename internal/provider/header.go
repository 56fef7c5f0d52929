package provider

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// MaxRetryAfter caps what a provider may ask for, so that no answer can park a job.
	MaxRetryAfter = 5 * time.Minute

	// maxETagBytes keeps a row small whatever a provider sends.
	maxETagBytes = 256
)

// headerValue tells whether s can be the value of a header: not empty, one line, no control characters.
func headerValue(s string) bool {
	control := func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
	return s != "" && strings.IndexFunc(s, control) < 0
}

// strongETag is the header's one strong ETag with its quotes. Beyond RFC 9110, section 8.8.3, it refuses the empty tag,
// which cannot tell versions apart, and bytes outside ASCII, which a row of text would not give back unchanged.
func strongETag(h http.Header) (string, bool) {
	values := h.Values("ETag")
	if len(values) != 1 {
		return "", false
	}
	tag := values[0]
	if len(tag) < 3 || len(tag) > maxETagBytes || tag[0] != '"' || tag[len(tag)-1] != '"' {
		return "", false
	}
	for _, c := range []byte(tag[1 : len(tag)-1]) {
		if c <= ' ' || c == '"' || c >= 0x7f {
			return "", false
		}
	}
	return tag, true
}

// contentRange is a parsed Content-Range of unit bytes; last is inclusive.
type contentRange struct {
	first, last int64 // both -1 for "*": the asked range does not exist
	total       int64 // -1 for "*": unknown
}

// String writes r as the header has it.
func (r contentRange) String() string {
	span, total := "*", "*"
	if r.first >= 0 {
		span = fmt.Sprintf("%d-%d", r.first, r.last)
	}
	if r.total >= 0 {
		total = strconv.FormatInt(r.total, 10)
	}
	return "bytes " + span + "/" + total
}

// rangeOf is the answer's one Content-Range.
func rangeOf(h http.Header) (contentRange, bool) {
	values := h.Values("Content-Range")
	if len(values) != 1 {
		return contentRange{}, false
	}
	return parseContentRange(values[0])
}

// parseContentRange reads RFC 9110, section 14.4: "bytes 0-9/100", "bytes 0-9/*" or "bytes */100".
func parseContentRange(s string) (contentRange, bool) {
	unit, rest, _ := strings.Cut(s, " ")
	span, total, ok := strings.Cut(rest, "/")
	if !ok || !strings.EqualFold(unit, "bytes") {
		return contentRange{}, false
	}
	r := contentRange{first: -1, last: -1, total: -1}
	if total != "*" {
		if r.total, ok = parseDigits(total); !ok {
			return contentRange{}, false
		}
	}
	if span == "*" {
		return r, r.total >= 0
	}
	first, last, _ := strings.Cut(span, "-")
	var ok1, ok2 bool
	r.first, ok1 = parseDigits(first)
	r.last, ok2 = parseDigits(last)
	return r, ok1 && ok2 && r.first <= r.last && (r.total < 0 || r.last < r.total)
}

// parseRetryAfter reads RFC 9110, section 10.2.3: seconds or a date. The result lies between 0 and MaxRetryAfter.
func parseRetryAfter(s string, now time.Time) (time.Duration, bool) {
	if digits(s) {
		seconds, ok := parseDigits(s)
		if !ok || seconds > int64(MaxRetryAfter/time.Second) {
			return MaxRetryAfter, true
		}
		return time.Duration(seconds) * time.Second, true
	}
	at, err := http.ParseTime(s)
	if err != nil {
		return 0, false
	}
	return min(max(at.Sub(now), 0), MaxRetryAfter), true
}

// acceptsBytes reads Accept-Ranges. Absent is accepted: the first 206 proves what the header only promises.
func acceptsBytes(h http.Header) bool {
	values := h.Values("Accept-Ranges")
	for _, value := range values {
		for unit := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(unit), "bytes") {
				return true
			}
		}
	}
	return len(values) == 0
}

// encoded tells whether the body is anything but plain bytes.
func encoded(h http.Header) bool {
	for _, value := range h.Values("Content-Encoding") {
		if value != "" && !strings.EqualFold(value, "identity") {
			return true
		}
	}
	return false
}

func digits(s string) bool {
	notDigit := func(r rune) bool { return r < '0' || r > '9' }
	return s != "" && strings.IndexFunc(s, notDigit) < 0
}

// parseDigits reads a number without sign that fits an int64 with room for one more.
func parseDigits(s string) (int64, bool) {
	if !digits(s) {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n < math.MaxInt64
}
