package backup

import (
	"net/url"
	"regexp"
	"strings"
)

// elementEnd is where the first element of an escaped path ends, also when its slash is escaped or parameters follow.
var elementEnd = regexp.MustCompile(`(?i)/|;|%2f|%3b`)

// PublicURL is as much of an export's URL as anybody but its owner is shown: scheme, host and the first element of the
// path. What follows may hold a token, and so may the query; "/..." stands for it.
func PublicURL(u *url.URL) string {
	origin, rest := u.Scheme+"://"+u.Host, ""
	path, absolute := strings.CutPrefix(u.EscapedPath(), "/")
	if !absolute {
		return origin + hidden(path+u.RawQuery)
	}
	if end := elementEnd.FindStringIndex(path); end != nil {
		path, rest = path[:end[0]], path[end[0]:]
	}
	return origin + "/" + path + hidden(rest+u.RawQuery)
}

func hidden(rest string) string {
	if rest == "" {
		return ""
	}
	return "/..."
}
