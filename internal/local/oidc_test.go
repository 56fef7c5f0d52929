package local_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/go-jose/go-jose/v4"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/client"
	"github.com/sitevault/sitevault/internal/e2e"
	"github.com/sitevault/sitevault/internal/local"
	"github.com/sitevault/sitevault/internal/push"
)

// signedIn is the config of a service with sign-in.
func signedIn(t *testing.T, i *backuptest.Issuer, storage *e2e.Storage) local.Config {
	t.Helper()
	c := e2e.Config(t, storage)
	c.Issuer, c.Audience = i.URL, backuptest.Audience
	return c
}

// With an issuer, everybody signs in with its tokens and sees their own; a token that is not the issuer's, not for us or
// not valid any more opens nothing.
func TestIssuer(t *testing.T) {
	e2e.VersityGW(t)
	i := backuptest.NewIssuer(t)
	s := e2e.Start(t, signedIn(t, i, nil))
	site := api.SiteBody{Providers: []backup.Provider{{Name: "files", URL: "https://site.example/"}}}
	alice := s.As("Bearer " + i.Token("alice"))
	if r := alice.Call(http.MethodPut, "/site/shop", site); r.Status != http.StatusCreated {
		t.Fatalf("alice: %d %s", r.Status, r.Body)
	}
	bob := s.As("Bearer " + i.Token("auth0|bob/../alice"))
	bob.Refused(http.StatusNotFound, backup.NotFound, http.MethodGet, "/site/shop", nil)
	if r := bob.Call(http.MethodPut, "/site/shop", site); r.Status != http.StatusCreated {
		t.Fatalf("bob: %d %s", r.Status, r.Body)
	}
	with := func(claim string, value any) string {
		claims := i.Claims("alice")
		claims[claim] = value
		return "Bearer " + i.Sign(claims)
	}
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := i.Token("alice")
	for name, authorization := range map[string]string{
		"none": "", "no scheme": good, "other scheme": "Basic " + good, "garbage": "Bearer garbage", "cut": "Bearer " + good[:len(good)-8],
		"expired": with("exp", time.Now().Add(-time.Minute).Unix()), "other audience": with("aud", "another"),
		"other issuer": with("iss", "https://evil.example"), "other key": "Bearer " + i.Forge(jose.ES256, stranger, "key-1", i.Claims("alice")),
		"symmetric": "Bearer " + i.Forge(jose.HS256, []byte("0123456789abcdef0123456789abcdef"), "key-1", i.Claims("alice")),
	} {
		t.Run(name, func(t *testing.T) {
			s.As(authorization).Refused(http.StatusUnauthorized, backup.Unauthenticated, http.MethodGet, "/site/shop", nil)
		})
	}
}

// While the issuer's keys cannot be had, whoever needs a new one is told to come again, without a word of the issuer's;
// users whose key is known notice nothing.
func TestIssuerOutage(t *testing.T) {
	e2e.VersityGW(t)
	i := backuptest.NewIssuer(t)
	s := e2e.Start(t, signedIn(t, i, nil))
	known := s.As("Bearer " + i.Token("alice"))
	i.Rotate("key-2")
	i.AnswerKeys(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "canary", http.StatusBadGateway) })
	r := s.As("Bearer "+i.Token("bob")).Call(http.MethodGet, "/site", nil)
	if i.KeyReads() != 2 {
		t.Fatalf("the outage was not met: the keys were read %d times", i.KeyReads())
	}
	if r.Status != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" || r.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("%d %v", r.Status, r.Header)
	}
	if body := string(r.Body); !strings.Contains(body, `"kind":"IssuerUnavailable"`) || strings.Contains(body, "canary") || strings.Contains(body, i.URL) {
		t.Errorf("%s", body)
	}
	if r := known.Call(http.MethodGet, "/site", nil); r.Status != http.StatusOK {
		t.Errorf("a known key: %d %s", r.Status, r.Body)
	}
}

// A socket ends with the token that opened it, with a code that says so; whoever watches then hears that the token has
// expired.
func TestSocketEndsWithItsToken(t *testing.T) {
	i, storage := backuptest.NewIssuer(t), e2e.NewStorage(t)
	s := e2e.Start(t, signedIn(t, i, storage))
	export := e2e.NewExport(t, 1, 2)
	held := export.HoldBefore(e2e.Is(e2e.Range(e2e.Offset(1))))
	defer held.Release()
	as := s.As("Bearer " + i.Token("ada"))
	as.PutSite("shop", e2e.Exports{"files": export})
	jobID := as.Create("shop")
	held.Reached(t)
	claims := i.Claims("ada")
	claims["exp"] = time.Now().Add(3 * time.Second).Unix()
	short := i.Sign(claims)
	ticket := e2e.Into[api.Ticket](s.As("Bearer "+short), http.StatusCreated, http.MethodPost, "/ticket", nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	socket, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(s.URL, "http")+"/ws?ticket="+ticket.Ticket, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.CloseNow()
	c, err := client.New(client.Config{Server: s.URL, Token: short})
	if err != nil {
		t.Fatal(err)
	}
	shown := 0
	_, err = c.Watch(ctx, jobID, func(api.BackupDetail) { shown++ })
	if refused, ok := errors.AsType[*client.Error](err); !ok || shown == 0 || refused.Problem.Kind != backup.Unauthenticated || !strings.Contains(err.Error(), "expired") {
		t.Errorf("the watch ended with %v after %d states", err, shown)
	}
	if _, _, err := socket.Read(ctx); websocket.CloseStatus(err) != push.StatusUnauthorized {
		t.Errorf("the socket ended with %v", err)
	}
}

// Whoever can choose a subject becomes nobody else by it: not the user whose id it looks like, not one whose subject
// differs in upper and lower case only, and not the user of a service without sign-in.
func TestSubjectsAreNobodyElse(t *testing.T) {
	i, storage := backuptest.NewIssuer(t), e2e.NewStorage(t)
	c := e2e.Config(t, storage)
	exports := e2e.Exports{"files": e2e.NewExport(t, 1, 1)}
	alone := e2e.Start(t, c)
	alone.PutSite("shop", exports)
	jobs := map[string]string{"the user without sign-in": alone.Create("shop")}
	alone.Await(jobs["the user without sign-in"], backup.Done)
	alone.Stop()

	c.Issuer, c.Audience = i.URL, backuptest.Audience
	s := e2e.Start(t, c)
	for _, victim := range []string{"john.doe", "ada"} {
		as := s.As("Bearer " + i.Token(victim))
		as.PutSite("shop", exports)
		jobs[victim] = as.Create("shop")
		as.Await(jobs[victim], backup.Done)
	}
	for _, subject := range []string{
		"u-30f69670bba25e88a97e749a67b8b93d", "U-30F69670BBA25E88A97E749A67B8B93D", "30f69670bba25e88a97e749a67b8b93d",
		"John.Doe", "john.doe ", "Ada", "ADA", "local", "Local", "LOCAL", backup.UserID("local"),
	} {
		t.Run(subject, func(t *testing.T) {
			mallory := s.As("Bearer " + i.Token(subject))
			for victim, jobID := range jobs {
				mallory.Refused(http.StatusNotFound, backup.NotFound, http.MethodGet, "/backup/"+jobID, nil)
				mallory.Refused(http.StatusNotFound, backup.NotFound, http.MethodGet, "/backup/"+jobID+"/files/files", nil)
				mallory.Refused(http.StatusNotFound, backup.NotFound, http.MethodDelete, "/backup/"+jobID, nil)
				if t.Failed() {
					t.Fatalf("%s is %s", subject, victim)
				}
			}
			mallory.Refused(http.StatusNotFound, backup.NotFound, http.MethodGet, "/site/shop", nil)
			mallory.Refused(http.StatusNotFound, backup.NotFound, http.MethodDelete, "/site/shop", nil)
			if list := e2e.Into[api.BackupPage](mallory, http.StatusOK, http.MethodGet, "/backup", nil); len(list.Backups) > 0 {
				t.Errorf("listed %+v", list.Backups)
			}
		})
	}
	for _, victim := range []string{"john.doe", "ada"} {
		as := s.As("Bearer " + i.Token(victim))
		if as.Get(jobs[victim]).Status != backup.Done {
			t.Errorf("the backup of %s is not done any more", victim)
		}
	}
	var owners []string
	for _, key := range storage.Contents(t).Versions {
		owner, _, _ := strings.Cut(key, "/")
		owners = append(owners, owner)
	}
	if owners = slices.Compact(owners); !slices.Equal(owners, []string{"ada", "local", "u-30f69670bba25e88a97e749a67b8b93d"}) {
		t.Errorf("objects of %v", owners)
	}
}
