package provider

import (
	"net/http"
	"net/url"

	"github.com/sitevault/sitevault/internal/backup"
)

// refusal is the error of an answer whose status is not the one hoped for.
func (c *Client) refusal(a *answer) error {
	retryAfter, asked := parseRetryAfter(a.Header.Get("Retry-After"), c.now())
	kind := statusKind(a.StatusCode, asked)
	err := a.call.fail(kind, "answered %d%s", a.StatusCode, redirectTarget(a.Response))
	if kind.Retryable() {
		err.RetryAfter = retryAfter
	}
	return err
}

// statusKind says what a status means. 202 and a 503 with Retry-After are a provider at work on its snapshot. A 429
// is not: it may ask for a pause as well, but stays a provider that does not answer properly.
func statusKind(status int, retryAfter bool) backup.Kind {
	switch status {
	case http.StatusAccepted:
		return backup.ProviderPreparing
	case http.StatusUnauthorized, http.StatusForbidden:
		return backup.ProviderRefused
	case http.StatusNotFound, http.StatusGone:
		return backup.ProviderNotFound
	case http.StatusPreconditionFailed:
		return backup.ProviderChanged
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return backup.ProviderUnavailable
	case http.StatusServiceUnavailable:
		if retryAfter {
			return backup.ProviderPreparing
		}
	}
	switch {
	case redirects(status):
		return backup.ProviderRedirected
	case status/100 == 5:
		return backup.ProviderUnavailable
	}
	return backup.ProviderUnexpected
}

// redirects tells whether the status sends the client to another URL. 304 does not: it answers a condition that the
// client never makes.
func redirects(status int) bool {
	switch status {
	case http.StatusMultipleChoices, http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// redirectTarget names the host that an answer redirects to; more of it may repeat a secret.
func redirectTarget(r *http.Response) string {
	target, err := url.Parse(r.Header.Get("Location"))
	if err != nil || target.Host == "" || !redirects(r.StatusCode) {
		return ""
	}
	return " to " + backup.PublicURL(&url.URL{Scheme: target.Scheme, Host: target.Host})
}
