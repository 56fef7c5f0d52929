package provider_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/sitevault/sitevault/internal/awstest"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/provider"
)

// managed is a Secrets Manager whose clock the test sets.
func managed(t *testing.T) (*awstest.Server, *provider.SecretsManager, *time.Time) {
	t.Helper()
	server, now := awstest.New(t), time.Date(2026, 3, 1, 2, 30, 0, 0, time.UTC)
	secrets := provider.NewSecretsManager(secretsmanager.NewFromConfig(server.Config()), "sitevault/secrets", func() time.Time { return now })
	return server, secrets, &now
}

// A secret is asked for once in five minutes; a new value counts after that.
func TestSecretsManagerRemembers(t *testing.T) {
	server, secrets, now := managed(t)
	server.PutSecret("sitevault/secrets/ann/token", "first\n")
	want := func(value string, calls int, when string) {
		t.Helper()
		got, err := secrets.Authorization(t.Context(), "ann", "token")
		if err != nil || got != value || server.Calls("GetSecretValue") != calls {
			t.Errorf("%s: %q after %d calls, %v", when, got, server.Calls("GetSecretValue"), err)
		}
	}
	want("Bearer first", 1, "at first")
	server.PutSecret("sitevault/secrets/ann/token", "Basic c2Vjb25k")
	*now = now.Add(5*time.Minute - time.Second)
	want("Bearer first", 1, "just before five minutes")
	*now = now.Add(time.Second)
	want("Basic c2Vjb25k", 2, "after five minutes")
}

// A secret that was replaced together with the provider's is read anew at the first refusal. One that is refused although
// it is the present one is refused.
func TestReplacedSecret(t *testing.T) {
	server, secrets, _ := managed(t)
	var sent []string
	export := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent = append(sent, r.Header.Get("Authorization"))
		if sent[len(sent)-1] != "Bearer second" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Accept-Ranges", "bytes")
		w.Header().Set("Content-Length", "7")
	}))
	t.Cleanup(export.Close)
	c := provider.New(provider.Config{Guard: loopbackGuard(t), Secrets: secrets})
	t.Cleanup(c.Close)

	server.PutSecret("sitevault/secrets/ann/token", "first")
	if _, err := c.Pin(t.Context(), exportAt(export.URL)); !backup.Is(err, backup.ProviderRefused) {
		t.Errorf("%v", err)
	}
	server.PutSecret("sitevault/secrets/ann/token", "second")
	pin, err := c.Pin(t.Context(), exportAt(export.URL))
	if err != nil || pin.SizeBytes != 7 {
		t.Errorf("%+v, %v", pin, err)
	}
	if want := []string{"Bearer first", "Bearer first", "Bearer second"}; !slices.Equal(sent, want) {
		t.Errorf("sent %q", sent)
	}
	if calls := server.Calls("GetSecretValue"); calls != 3 {
		t.Errorf("asked for the secret %d times", calls)
	}
}

// A secret that is not stored, or waits for its deletion, is missing; it is asked for again at once.
func TestSecretsManagerMissing(t *testing.T) {
	server, secrets, _ := managed(t)
	server.PutSecret("sitevault/secrets/bob/token", headerCanary)
	for _, name := range [][2]string{{"ann", "token"}, {"ann", "../bob/token"}, {"..", "x"}, {"", "token"}, {"bob", ""}, {"bob", "TOKEN"}, {"bob", "token\n"}} {
		value, err := secrets.Authorization(t.Context(), name[0], name[1])
		if !backup.Is(err, backup.SecretMissing) || value != "" {
			t.Errorf("%q gives %q, %v", name, value, err)
		}
	}
	if calls := server.Calls("GetSecretValue"); calls != 1 {
		t.Errorf("%d calls: names that cannot be were asked for", calls)
	}
	server.PutSecret("sitevault/secrets/ann/token", "now")
	server.Fail("GetSecretValue", awstest.Fault{Status: 400, Code: "InvalidRequestException"})
	if _, err := secrets.Authorization(t.Context(), "ann", "token"); !backup.Is(err, backup.SecretMissing) {
		t.Errorf("while it waits for its deletion: %v", err)
	}
	if value, err := secrets.Authorization(t.Context(), "ann", "token"); err != nil || value != "Bearer now" {
		t.Errorf("stored since: %q, %v", value, err)
	}
}

// A failure passes: it is not taken for a missing secret, is not remembered and never quotes one.
func TestSecretsManagerFailures(t *testing.T) {
	server, secrets, _ := managed(t)
	server.PutSecret("sitevault/secrets/ann/token", headerCanary)
	server.PutSecret("sitevault/secrets/ann/huge", headerCanary+strings.Repeat("x", 9000))
	server.Fail("GetSecretValue", awstest.Throttled, awstest.Fault{Lost: true}, awstest.Fault{Status: 400, Code: "AccessDeniedException"})
	for _, ref := range []string{"token", "huge"} {
		value, err := secrets.Authorization(t.Context(), "ann", ref)
		if err == nil || value != "" || backup.Is(err, backup.SecretMissing) || strings.Contains(fmt.Sprintf("%v %+v %q", err, err, err), headerCanary) {
			t.Errorf("%s: %q, %v", ref, value, err)
		}
	}
	if server.Fired() != 3 {
		t.Errorf("%d faults", server.Fired())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := secrets.Authorization(ctx, "ann", "token"); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
	if value, err := secrets.Authorization(t.Context(), "ann", "token"); err != nil || value != "Bearer "+headerCanary {
		t.Errorf("%q, %v", value, err)
	}
}

// A process remembers the last thousand secrets, not every one that it ever read.
func TestSecretsManagerIsBounded(t *testing.T) {
	server, secrets, _ := managed(t)
	ask := func(i int) {
		t.Helper()
		ref := fmt.Sprintf("s%d", i)
		server.PutSecret("sitevault/secrets/ann/"+ref, ref)
		if value, err := secrets.Authorization(t.Context(), "ann", ref); err != nil || value != "Bearer "+ref {
			t.Errorf("%s: %q, %v", ref, value, err)
		}
	}
	for i := range 1001 {
		ask(i)
	}
	ask(1000)
	ask(0)
	if calls := server.Calls("GetSecretValue"); calls != 1002 {
		t.Errorf("%d calls", calls)
	}
}

// Workers of one process may ask at the same time.
func TestSecretsManagerTogether(t *testing.T) {
	server, secrets, _ := managed(t)
	server.PutSecret("sitevault/secrets/ann/token", "secret")
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			if value, err := secrets.Authorization(t.Context(), "ann", "token"); err != nil || value != "Bearer secret" {
				t.Errorf("%q, %v", value, err)
			}
		})
	}
	work.Wait()
}
