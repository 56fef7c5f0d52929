package e2e_test

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/e2e"
	"github.com/sitevault/sitevault/internal/push"
)

// limited is a service with quotas, and two users who are signed in to it.
func limited(t *testing.T, q backup.Quotas) (s *e2e.Service, ada, bob e2e.Client) {
	t.Helper()
	issuer := backuptest.NewIssuer(t)
	c := e2e.Config(t, e2e.NewStorage(t))
	c.Issuer, c.Audience, c.Quotas = issuer.URL, backuptest.Audience, q
	s = e2e.Start(t, c)
	return s, s.As("Bearer " + issuer.Token("ada")), s.As("Bearer " + issuer.Token("bob"))
}

// siteOf has so many providers that nobody calls.
func siteOf(providers int) api.SiteBody {
	site := api.SiteBody{Schedule: backup.Schedule{Off: true}}
	for i := range providers {
		site.Providers = append(site.Providers, backup.Provider{Name: fmt.Sprint("p", i), URL: "https://example.org/export"})
	}
	return site
}

// flood puts sites, many at a time, and counts the answers by their status.
func flood(user e2e.Client, sites int) map[int]int {
	var mu sync.Mutex
	var group sync.WaitGroup
	answers := map[int]int{}
	const atOnce = 32
	for worker := range atOnce {
		group.Go(func() {
			for i := worker; i < sites; i += atOnce {
				status := user.Call(http.MethodPut, fmt.Sprint("/site/site-", i), siteOf(backup.MaxProviders)).Status
				mu.Lock()
				answers[status]++
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return answers
}

// refused reads a refusal, which names what is in use, the bound and the setting.
func refused(t *testing.T, r e2e.Reply, status int, says ...string) {
	t.Helper()
	if r.Status != status || !strings.Contains(r.Header.Get("Content-Type"), "application/problem+json") {
		t.Errorf("%d %s", r.Status, r.Body)
	}
	for _, words := range says {
		if !strings.Contains(string(r.Body), words) {
			t.Errorf("%s does not say %q", r.Body, words)
		}
	}
}

// Of 1,500 sites of eight providers that a user puts at once a thousand are taken, and he is told why not more; another
// user has sites as before, and whoever deletes one may put another.
func TestSitesHaveAQuota(t *testing.T) {
	t.Parallel()
	_, ada, bob := limited(t, backup.Quotas{Sites: 1000})
	if answers := flood(ada, 1500); answers[http.StatusCreated] != 1000 || answers[http.StatusConflict] != 500 {
		t.Errorf("answers by status: %v", answers)
	}
	refused(t, ada.Call(http.MethodPut, "/site/one-more", siteOf(1)), http.StatusConflict, "QuotaExceeded", "1000 sites, of at most 1000", "--quota-sites")
	if r := bob.Call(http.MethodPut, "/site/shop", siteOf(1)); r.Status != http.StatusCreated {
		t.Errorf("another user: %d %s", r.Status, r.Body)
	}
	page := e2e.Into[api.SitePage](ada, http.StatusOK, http.MethodGet, "/site?limit=1", nil)
	if r := ada.Call(http.MethodDelete, "/site/"+page.Sites[0].SiteID, nil); r.Status != http.StatusNoContent {
		t.Fatalf("delete: %d %s", r.Status, r.Body)
	}
	if r := ada.Call(http.MethodPut, "/site/one-more", siteOf(1)); r.Status != http.StatusCreated {
		t.Errorf("in the place of a deleted site: %d %s", r.Status, r.Body)
	}
}

// A user who floods the API is told to wait, and nobody else is.
func TestRequestsHaveARate(t *testing.T) {
	t.Parallel()
	const perSecond = 20
	_, ada, bob := limited(t, backup.Quotas{Requests: perSecond})
	began := time.Now()
	answers := flood(ada, 500)
	most := int(time.Since(began).Seconds()+3) * perSecond // two seconds' worth at once, and one for the rounding
	if taken := answers[http.StatusCreated]; taken < perSecond || taken > most || answers[http.StatusTooManyRequests] != 500-taken {
		t.Errorf("answers by status: %v, want at most %d taken", answers, most)
	}
	if r := bob.Call(http.MethodGet, "/site", nil); r.Status != http.StatusOK {
		t.Errorf("another user: %d %s", r.Status, r.Body)
	}
	var last e2e.Reply
	e2e.Eventually(t, "a request is refused", func() bool {
		last = ada.Call(http.MethodGet, "/site", nil)
		return last.Status == http.StatusTooManyRequests
	})
	refused(t, last, http.StatusTooManyRequests, "TooManyRequests", "20 requests a second", "--quota-requests")
	if wait, err := strconv.Atoi(last.Header.Get("Retry-After")); err != nil || wait < 1 {
		t.Errorf("Retry-After is %q", last.Header.Get("Retry-After"))
	}
}

// A user has no more active backups than his quota, whatever state they are in, and may begin one when one has ended.
func TestActiveBackupsHaveAQuota(t *testing.T) {
	t.Parallel()
	_, ada, bob := limited(t, backup.Quotas{ActiveJobs: 2})
	export := e2e.NewExport(t, 1, 1)
	hold := export.HoldBefore(func(r *http.Request) bool { return r.Method == http.MethodGet })
	var jobs []string
	for i := range 3 {
		ada.PutSite(fmt.Sprint("site-", i), e2e.Exports{"files": export})
		if i < 2 {
			jobs = append(jobs, ada.Create(fmt.Sprint("site-", i)))
		}
	}
	hold.Reached(t)
	refused(t, ada.Call(http.MethodPost, "/backup", map[string]any{"siteId": "site-2"}), http.StatusConflict,
		"QuotaExceeded", "2 pending and running backups, of at most 2", "--quota-active")
	bob.PutSite("shop", e2e.Exports{"files": e2e.NewExport(t, 2, 1)})
	bob.Await(bob.Create("shop"), backup.Done)
	hold.Release()
	ada.Await(jobs[0], backup.Done)
	ada.Create("site-2")
}

// An export that is larger than what is left of the day's bytes fails its backup before a byte of it is fetched, and
// no other backup is begun on that day without a byte left.
func TestFetchedBytesHaveAQuota(t *testing.T) {
	t.Parallel()
	first, second := e2e.NewExport(t, 1, 2), e2e.NewExport(t, 2, 2)
	_, ada, _ := limited(t, backup.Quotas{FetchedBytes: first.Content.Size() + second.Content.Size() - 1})
	ada.PutSite("first", e2e.Exports{"files": first})
	ada.PutSite("second", e2e.Exports{"files": second})
	ada.Await(ada.Create("first"), backup.Done)
	jobID := ada.Create("second")
	job := ada.Fails(jobID, backup.QuotaExceeded)
	if fetched := job.Progress.Bytes; fetched != 0 || second.Fetched(1)+second.Fetched(2) != 0 || len(second.Requests()) == 0 {
		t.Errorf("%d bytes were fetched in %d requests", fetched, len(second.Requests()))
	}
}

// A user has no more sockets than his quota; one that is closed makes room.
func TestSocketsHaveAQuota(t *testing.T) {
	t.Parallel()
	s, ada, bob := limited(t, backup.Quotas{Sockets: 2})
	open := func(user e2e.Client) (*websocket.Conn, int) {
		secret := e2e.Into[api.Ticket](user, http.StatusCreated, http.MethodPost, "/ticket", nil).Ticket
		conn, resp, err := websocket.Dial(t.Context(), s.URL+"/ws?ticket="+secret, nil)
		if resp == nil {
			t.Fatal(errors.Join(errors.New("no answer"), err))
		}
		return conn, resp.StatusCode
	}
	first, _ := open(ada)
	open(ada)
	if _, status := open(ada); status != http.StatusConflict {
		t.Errorf("a third socket: %d", status)
	}
	if _, status := open(bob); status != http.StatusSwitchingProtocols {
		t.Errorf("another user's socket: %d", status)
	}
	first.CloseNow()
	e2e.Eventually(t, "a socket in the place of a closed one", func() bool {
		_, status := open(ada)
		return status == http.StatusSwitchingProtocols
	})
}

// A backup that finds all places taken says after some seconds that it waits for room, by the API and the socket, and
// says so no more when it has begun.
func TestWaitingForRoomIsTold(t *testing.T) {
	t.Parallel()
	c := e2e.Config(t, e2e.NewStorage(t))
	c.Executions, c.HangAfter = 1, time.Hour // the held export is at work
	s := e2e.Start(t, c)
	taken, export := e2e.NewExport(t, 1, 1), e2e.NewExport(t, 2, 1)
	hold := taken.HoldBefore(func(r *http.Request) bool { return r.Method == http.MethodHead })
	s.PutSite("taken", e2e.Exports{"files": taken})
	s.PutSite("shop", e2e.Exports{"files": export})
	s.Create("taken")
	hold.Reached(t)
	jobID := s.Create("shop")
	socket := dial(t, s, ticket(t, s))
	subscribe(t, socket, jobID)
	var m push.Message
	for m.Waiting == nil {
		receive(t, socket, &m)
	}
	job := s.Get(jobID)
	if m.Status != backup.Pending || m.Waiting.For != "room" || job.Waiting == nil || !job.Waiting.Since.Equal(job.CreatedAt) {
		t.Errorf("the socket says %+v, the API %+v", m.Waiting, job.Waiting)
	}
	hold.Release()
	if job = s.Await(jobID, backup.Done); job.Waiting != nil {
		t.Errorf("a done backup waits for %+v", job.Waiting)
	}
}
