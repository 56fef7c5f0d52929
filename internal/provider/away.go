package provider

import (
	"context"
	"errors"
	"io"
	"net/url"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/breaker"
	"github.com/sitevault/sitevault/internal/step"
)

// side is who may be away: one export as one user asks for it. Neither tenants nor the exports of a host have to do with each
// other.
type side struct{ userID, url string }

// ask fails without a request for an export that is known to be away.
func (c *Client) ask(method string, e step.Export) (*breaker.Request, error) {
	asked, err := c.sides.Ask(side{e.UserID, e.URL})
	if err == nil {
		return asked, nil
	}
	name := method
	if u, invalid := url.Parse(e.URL); invalid == nil {
		name += " " + backup.PublicURL(u)
	}
	return nil, backup.E(backup.ProviderUnavailable, "%s: %w", name, err)
}

// learn tells the breaker what came of a request. One that we gave up says nothing.
func learn(asked *breaker.Request, err error) {
	kinded, ok := errors.AsType[*backup.Error](err)
	switch {
	case err == nil || err == io.EOF:
		asked.Answered()
	case errors.Is(err, context.Canceled) || !ok:
	case unanswered(kinded.Kind):
		asked.Failed(kinded.RetryAfter)
	default:
		asked.Answered()
	}
}

func unanswered(kind backup.Kind) bool {
	return kind == backup.ProviderUnavailable || kind == backup.ProviderTimeout || kind == backup.ProviderShortBody
}
