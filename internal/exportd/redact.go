package exportd

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const struck = "[password]"

// leastUnmistakable is the length below which a password may be a word of the tool by chance.
const leastUnmistakable = 6

// redact strikes the password from what a tool says, in the clear and percent-encoded. To replace its characters everywhere
// would make the text unreadable and give a short password away by what is missing in the words around it. So it goes
// where it stands as a password, such as in a URL, and where it stands as a word of its own, unless that may be the tool's
// own word: a plain word or number, or one of those in said, which the tool was called with. Left in its place, such
// a word tells nobody that it is the password.
func redact(text, password, said string) string {
	if password == "" {
		return text
	}
	forms := []string{password, url.QueryEscape(password), url.PathEscape(password), strings.TrimPrefix(url.UserPassword("", password).String(), ":")}
	slices.Sort(forms)
	for _, form := range slices.Compact(forms) {
		anywhere := unmistakable(form) && !strings.Contains(said, form)
		text = strike(text, form, anywhere)
	}
	return text
}

// unmistakable tells whether the password is neither a word nor a number that a tool may say by itself.
func unmistakable(password string) bool {
	letter := strings.ContainsFunc(password, unicode.IsLetter)
	other := strings.ContainsFunc(password, func(r rune) bool { return !unicode.IsLetter(r) })
	return utf8.RuneCountInString(password) >= leastUnmistakable && letter && other
}

// asPassword matches what stands before a password that is said to be one.
var asPassword = regexp.MustCompile(`(?i)(?:(?:password|passwd|pwd)["']?=["']?|(?:^|\s)-p["']?|://[^\s/@]*:)$`)

func strike(text, form string, anywhere bool) string {
	var b strings.Builder
	for done := 0; ; {
		at := strings.Index(text[done:], form)
		if at < 0 {
			return b.String() + text[done:]
		}
		at += done
		before, after := text[:at], text[at+len(form):]
		whole := !joined(form, after) && (asPassword.MatchString(before) || anywhere && !joined(before, form))
		if whole {
			b.WriteString(text[done:at] + struck)
			done = at + len(form)
			continue
		}
		_, width := utf8.DecodeRuneInString(text[at:])
		b.WriteString(text[done : at+width])
		done = at + width
	}
}

// joined tells whether left and right make one word where they meet.
func joined(left, right string) bool {
	last, _ := utf8.DecodeLastRuneInString(left)
	first, _ := utf8.DecodeRuneInString(right)
	return inWord(last) && inWord(first)
}

func inWord(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_' || r == '-'
}
