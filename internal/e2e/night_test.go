package e2e_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/e2e"
)

// An outage in the middle of twelve backups ends with all of them done, by themselves. No part that was stored is fetched again,
// nothing is fetched for a storage that is away, and all in all there are fewer than twice the requests of a night without one.
func TestOutageOfMany(t *testing.T) {
	t.Parallel()
	undisturbed := newNight(t, 1)
	undisturbed.begin()
	undisturbed.done()
	for name, away := range map[string]func(n *night) []*e2e.Rule{
		"storage":              func(n *night) []*e2e.Rule { return []*e2e.Rule{n.storage.Away(anything)} },
		"storage, for writing": func(n *night) []*e2e.Rule { return []*e2e.Rule{n.storage.Away(puts)} },
		"exports":              (*night).exportsAway,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNight(t, 12)
			n.begin()
			e2e.Eventually(t, "half of them have stored a part", func() bool { return n.storage.Seen(e2e.UploadPart(2)) >= len(n.exports)/2 })
			rules := away(n)
			e2e.Eventually(t, "a backup waits for its next try", n.anyWaits)
			cut := 0
			for _, r := range rules {
				cut += r.Hits()
				r.Release()
			}
			n.done()
			ideal := undisturbed.requests() * len(n.exports)
			t.Logf("%d requests were cut, %d sent in all, %d without an outage; %d parts fetched again", cut, n.requests(), ideal, n.fetchedAgain())
			if cut == 0 || n.requests() >= 2*ideal {
				t.Errorf("%d requests were cut, %d sent in all, %d without an outage", cut, n.requests(), ideal)
			}
			if again := n.fetchedAgain(); again > len(n.exports) {
				t.Errorf("%d parts fetched again, in flight were %d at most", again, len(n.exports))
			}
		})
	}
}

func anything(*http.Request) bool { return true }
func puts(r *http.Request) bool   { return r.Method == http.MethodPut }

const nightParts = 3 // of each export

// night is some backups at the same time, each of one range after the other, on a service that pauses for seconds between two
// tries.
type night struct {
	*testing.T
	storage *e2e.Storage
	service *e2e.Service
	exports []*e2e.Export
	jobs    []string
	before  int // requests to the storage before they began
}

func newNight(t *testing.T, jobs int) *night {
	n := &night{T: t, storage: e2e.NewStorage(t)}
	c := e2e.Config(t, n.storage)
	c.Policy.FirstPause, c.Policy.MaxPause = time.Second, 4*time.Second
	n.service = e2e.Start(t, c)
	for i := range jobs {
		n.exports = append(n.exports, e2e.NewExport(t, uint64(i), nightParts))
	}
	return n
}

func (n *night) begin() {
	n.Helper()
	n.before = n.storage.Asked()
	for i, x := range n.exports {
		site := fmt.Sprint("site-", i)
		n.service.PutSerialSite(site, e2e.Exports{"files": x})
		n.jobs = append(n.jobs, n.service.Create(site))
	}
}

func (n *night) anyWaits() bool {
	for _, id := range n.jobs {
		if n.service.Get(id).NextTryAt != nil {
			return true
		}
	}
	return false
}

func (n *night) done() {
	n.Helper()
	for i, id := range n.jobs {
		n.service.Await(id, backup.Done)
		n.service.Same(id, "files", n.exports[i].Content)
	}
}

func (n *night) exportsAway() (rules []*e2e.Rule) {
	for _, x := range n.exports {
		rules = append(rules, x.Away(anything))
	}
	return rules
}

// requests are those to the storage and to the exports.
func (n *night) requests() int {
	requests := n.storage.Asked() - n.before
	for _, x := range n.exports {
		requests += x.Asked()
	}
	return requests
}

// fetchedAgain counts the ranges that exports were asked for more than once and could answer.
func (n *night) fetchedAgain() (again int) {
	for _, x := range n.exports {
		for part := range nightParts {
			again += x.Fetched(part+1) - 1
		}
	}
	return again
}
