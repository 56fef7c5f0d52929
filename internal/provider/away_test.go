package provider_test

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/provider"
	"github.com/sitevault/sitevault/internal/step"
)

// An export that is away is hardly asked, by HEAD or for ranges, whatever shows that it is; nobody else is affected: neither
// other exports of the same host nor the same export of another user.
func TestExportAwayIsHardlyAsked(t *testing.T) {
	const tries = 100
	for name, answer := range map[string]backuptest.Answer{
		"503": backuptest.AnswerStatus(503), "429": backuptest.AnswerStatus(429), "reset": backuptest.AnswerReset(10), "short": backuptest.AnswerShort(10),
	} {
		t.Run(name, func(t *testing.T) {
			p := backuptest.NewProvider(t, content())
			var back atomic.Bool
			p.Misbehave(func(r backuptest.ProviderRequest) backuptest.Answer {
				if back.Load() {
					return nil
				}
				return answer
			})
			c := newClient(t, provider.Timeouts{})
			var err error
			for range tries {
				_, err = readRange(t.Context(), c, exportAt(p.URL), 0, 100)
				if kind := backup.KindOf(err); kind != backup.ProviderUnavailable && kind != backup.ProviderShortBody {
					t.Fatalf("%v", err)
				}
				if name == "503" || name == "429" { // HEAD has no body that could break
					_, _ = c.Pin(t.Context(), exportAt(p.URL))
				}
			}
			if n := p.Faults(); n < 3 || n > 12 {
				t.Errorf("%d of %d requests were sent", n, 2*tries)
			}
			if !strings.Contains(err.Error(), "no answer when last asked at") || strings.Contains(err.Error(), queryCanary) {
				t.Errorf("%v", err)
			}
			back.Store(true)
			other, sibling := exportAt(p.URL), exportAt(p.URL)
			other.UserID, other.SecretRef, sibling.URL = "bob", "", sibling.URL+"&other=1"
			for _, e := range []step.Export{other, sibling} {
				if _, err := readRange(t.Context(), c, e, 0, 100); err != nil {
					t.Errorf("%s of %s: %v", e.URL, e.UserID, err)
				}
			}
		})
	}
}

// What an export answers is no sign of its being away, however often it refuses.
func TestRefusingExportIsAsked(t *testing.T) {
	p := backuptest.NewProvider(t, content())
	p.Misbehave(backuptest.FirstRequests(1000, backuptest.AnswerStatus(404)))
	c := newClient(t, provider.Timeouts{})
	for range 30 {
		if _, err := c.Pin(t.Context(), exportAt(p.URL)); !backup.Is(err, backup.ProviderNotFound) {
			t.Fatal(err)
		}
	}
	if p.Faults() != 30 {
		t.Errorf("%d requests", p.Faults())
	}
}
