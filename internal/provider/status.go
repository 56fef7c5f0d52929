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
	switch status / 100 {
	case 3:
		return backup.ProviderRedirected
	case 5:
		return backup.ProviderUnavailable
	}
	return backup.ProviderUnexpected
}

// redirectTarget names the host that an answer redirects to; more of it may repeat a secret.
func redirectTarget(r *http.Response) string {
	target, err := url.Parse(r.Header.Get("Location"))
	if err != nil || target.Host == "" || r.StatusCode/100 != 3 {
		return ""
	}
	return " to " + target.Scheme + "://" + target.Host
}
