package identity

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/sitevault/sitevault/internal/backup"
)

// claims are what a token says (RFC 7519). They are read by the decoder of go-jose, which takes names exactly as they are
// written and refuses a name that comes twice: others take "Sub" for "sub", and the last of two.
type claims struct {
	Issuer    string       `json:"iss"`
	Subject   string       `json:"sub"`
	Audience  jwt.Audience `json:"aud"`
	Expiry    numericDate  `json:"exp"`
	NotBefore numericDate  `json:"nbf"`
	IssuedAt  numericDate  `json:"iat"`
}

// clockSkew is how far the issuer's clock may be ahead of ours.
const clockSkew = 5 * time.Minute

// check tells what is wrong with the claims of a token whose signature is right.
func (c claims) check(issuer, audience string, now time.Time) error {
	latest := now.Add(clockSkew)
	switch {
	case c.Issuer != issuer:
		return errors.New("it is of another issuer")
	case !slices.Contains(c.Audience, audience):
		return errors.New("it is meant for another audience")
	case !backup.ValidSubject(c.Subject):
		return errors.New("its claim sub is missing or is no text")
	case !now.Before(c.Expiry.Time):
		return errors.New("it has expired, or its claim exp is missing")
	case latest.Before(c.NotBefore.Time) || latest.Before(c.IssuedAt.Time):
		return errors.New("it is not valid yet")
	}
	return nil
}

// numericDate is a JSON number of seconds since 1970, and nothing that could be read as one.
type numericDate struct{ time.Time }

// lastDate is the last second that has a date in RFC 3339.
const lastDate = 253402300799

// UnmarshalJSON implements json.Unmarshaler.
func (d *numericDate) UnmarshalJSON(b []byte) error {
	seconds, err := strconv.ParseFloat(string(b), 64)
	if err != nil || seconds < 0 || seconds > lastDate {
		return fmt.Errorf("%.40s is not a number of seconds since 1970", b)
	}
	d.Time = time.Unix(int64(seconds), 0).UTC()
	return nil
}
