package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/sitevault/sitevault/internal/backup"
)

const (
	// issuerTimeout bounds a request to the issuer. Two of them fit into the ten seconds in which a function has to start.
	issuerTimeout = 4 * time.Second
	// maxAnswerBytes is far above what issuers say.
	maxAnswerBytes = 1 << 20
	// refreshPause lies between two requests for the keys: tokens with made-up key ids cause no more of them.
	refreshPause = 5 * time.Second
	// keysLife is when known keys are asked for again, so that one that was withdrawn is not accepted for ever.
	keysLife = 15 * time.Minute
)

// newClient makes the client for requests to an issuer, its keys and wherever these lead.
func newClient() *http.Client {
	return &http.Client{Timeout: issuerTimeout, Transport: guarded{http.DefaultTransport}}
}

// guarded asks nobody whose answer others could replace, and reads no more than maxAnswerBytes.
type guarded struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (g guarded) RoundTrip(r *http.Request) (*http.Response, error) {
	if !protected(r.URL) {
		return nil, fmt.Errorf("%s://%s is not asked: it takes https", r.URL.Scheme, r.URL.Host)
	}
	res, err := g.next.RoundTrip(r)
	if err == nil {
		res.Body = http.MaxBytesReader(nil, res.Body, maxAnswerBytes)
	}
	return res, err
}

// keySet holds an issuer's keys. Known keys are good without the issuer; for an unknown one it is asked again, by one
// request at a time and not sooner than refreshPause after the last.
type keySet struct {
	url    string
	client *http.Client
	now    func() time.Time

	asking sync.Mutex // held by whoever asks the issuer

	mu      sync.Mutex // of what follows
	keys    []jose.JSONWebKey
	readAt  time.Time // when the keys were last read
	askedAt time.Time // when the issuer was last asked again
	err     error     // why that was in vain
}

// newKeySet asks for the keys, which does not count for refreshPause.
func newKeySet(url string, client *http.Client, now func() time.Time) (_ *keySet, err error) {
	s := &keySet{url: url, client: client, now: now, readAt: now()}
	s.keys, err = s.fetch()
	return s, err
}

var errUnknownKey = errors.New("the issuer has no such key")

// open verifies the token and reads its claims. Its error is Unauthenticated, or IssuerUnavailable when the keys to tell
// cannot be had.
func (s *keySet) open(token *jwt.JSONWebToken, c *claims) error {
	keyID := token.Headers[0].KeyID
	known, fresh := s.known(keyID)
	err := openWith(known, token, c)
	if !fresh {
		s.refreshBehind()
	}
	if err == nil || (len(known) > 0 && keyID != "") {
		return unauthenticated(err)
	}
	if err := s.refresh(); err != nil {
		return backup.E(backup.IssuerUnavailable, "keys of the issuer: %w", err)
	}
	known, _ = s.known(keyID)
	return unauthenticated(openWith(known, token, c))
}

func unauthenticated(err error) error {
	if err == nil {
		return nil
	}
	return invalid(err)
}

func openWith(keys []jose.JSONWebKey, token *jwt.JSONWebToken, c *claims) error {
	err := errUnknownKey
	for _, key := range keys {
		if err = token.Claims(key, c); err == nil {
			return nil
		}
	}
	return err
}

// known are the keys with the id, or all of them for a token that names none, and whether they were read lately.
func (s *keySet) known(keyID string) (keys []jose.JSONWebKey, fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys = slices.Clone(s.keys)
	if keyID != "" {
		keys = slices.DeleteFunc(keys, func(k jose.JSONWebKey) bool { return k.KeyID != keyID })
	}
	return keys, s.now().Sub(s.readAt) < keysLife
}

// refreshBehind refreshes while nobody waits for it.
func (s *keySet) refreshBehind() {
	if s.asking.TryLock() {
		go func() {
			defer s.asking.Unlock()
			_ = s.ask() // kept in the set
		}()
	}
}

func (s *keySet) refresh() error {
	s.asking.Lock()
	defer s.asking.Unlock()
	return s.ask()
}

// ask asks for the keys unless that was done within refreshPause; the error is that of the last time. Known keys stay
// when they cannot be had.
func (s *keySet) ask() error {
	if recent, err := s.lastAnswer(); recent {
		return err
	}
	keys, err := s.fetch()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.askedAt, s.err = s.now(), err
	if err == nil {
		s.keys, s.readAt = keys, s.askedAt
	}
	return err
}

func (s *keySet) lastAnswer() (recent bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.askedAt.IsZero() && s.now().Sub(s.askedAt) < refreshPause, s.err
}

// fetch is bounded by the client: whoever caused it may have gone while others wait.
func (s *keySet) fetch() ([]jose.JSONWebKey, error) {
	res, err := s.client.Get(s.url)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", s.url, res.Status)
	}
	var set struct{ Keys []json.RawMessage }
	if err := json.NewDecoder(res.Body).Decode(&set); err != nil {
		return nil, fmt.Errorf("%s: %w", s.url, err)
	}
	keys := usable(set.Keys)
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s has no key that tokens could be verified with", s.url)
	}
	return keys, nil
}

// usable leaves out keys of types that are not known here, as RFC 7517 wants it, and those for other purposes.
func usable(raw []json.RawMessage) (keys []jose.JSONWebKey) {
	for _, r := range raw {
		var key jose.JSONWebKey
		if json.Unmarshal(r, &key) == nil && key.IsPublic() && key.Use != "enc" {
			keys = append(keys, key)
		}
	}
	return keys
}
