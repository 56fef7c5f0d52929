package e2e_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/e2e"
	"github.com/sitevault/sitevault/internal/provider"
)

// twoUsers is a service with so many places, and two users who are signed in to it.
func twoUsers(t *testing.T, places int) (ada, bob e2e.Client) {
	t.Helper()
	issuer := backuptest.NewIssuer(t)
	c := e2e.Config(t, e2e.NewStorage(t))
	c.Issuer, c.Audience, c.Executions = issuer.URL, backuptest.Audience, places
	c.Patience.BodyIdle, c.Patience.BodyRateWindow, c.HangAfter = 300*time.Millisecond, time.Second, time.Hour
	s := e2e.Start(t, c)
	return s.As("Bearer " + issuer.Token("ada")), s.As("Bearer " + issuer.Token("bob"))
}

// drip sends a byte now and then, for as long as anybody listens.
func drip(reply *backuptest.ProviderReply, _ backuptest.ProviderRequest) {
	reply.Send = func(w http.ResponseWriter, r *http.Request) {
		for {
			_, err := w.Write([]byte{0})
			if err != nil || http.NewResponseController(w).Flush() != nil {
				return
			}
			select {
			case <-time.After(50 * time.Millisecond):
			case <-r.Context().Done():
				return
			}
		}
	}
}

// Exports that are never ready, refuse every range, stop in the middle of it or drip, more of them than there are places, keep
// neither their owner's other site nor another user's from being backed up.
func TestWaitingExportsHoldNoPlace(t *testing.T) {
	t.Parallel()
	const places = 2
	ada, bob := twoUsers(t, places)
	notReady := backuptest.AnswerPreparing("60")
	ranges := func(answer backuptest.Answer) func(backuptest.ProviderRequest) backuptest.Answer {
		return func(r backuptest.ProviderRequest) backuptest.Answer {
			if r.Method == http.MethodHead {
				return nil
			}
			return answer
		}
	}
	faults := map[string]func(backuptest.ProviderRequest) backuptest.Answer{
		"preparing": func(backuptest.ProviderRequest) backuptest.Answer { return notReady },
		"refusing":  ranges(notReady),
		"stalling":  ranges(backuptest.AnswerStall(1, nil)),
		"dripping":  ranges(drip),
	}
	var waiting []*e2e.Export
	for fault, misbehave := range faults {
		for i := range 4 * places {
			export := e2e.NewExport(t, 1, 1)
			export.Misbehave(misbehave)
			waiting = append(waiting, export)
			site := fmt.Sprint(fault, "-", i)
			ada.PutSite(site, e2e.Exports{"files": export})
			ada.Create(site)
		}
	}
	e2e.Eventually(t, "every export has let a backup wait", func() bool {
		for _, export := range waiting {
			if export.Faults() == 0 {
				return false
			}
		}
		return true
	})
	for name, user := range map[string]e2e.Client{"ada": ada, "bob": bob} {
		healthy := e2e.NewExport(t, 2, 1)
		user.PutSite("healthy", e2e.Exports{"files": healthy})
		began := time.Now()
		jobID := user.Create("healthy")
		user.Await(jobID, backup.Done)
		user.Same(jobID, "files", healthy.Content)
		t.Logf("%s's backup was done after %v, %d backups are waiting", name, time.Since(began), len(waiting))
	}
}

// A user with far more due sites than there are places delays another's single backup by one of them at most.
func TestPlacesAreShared(t *testing.T) {
	t.Parallel()
	ada, bob := twoUsers(t, 1)
	var holds []*e2e.Rule
	begun := 0
	for i := range 30 {
		export := e2e.NewExport(t, 1, 1)
		holds = append(holds, export.HoldBefore(func(r *http.Request) bool { return r.Method == http.MethodHead }))
		site := fmt.Sprint("site-", i)
		ada.PutSite(site, e2e.Exports{"files": export})
		ada.Create(site)
	}
	holds[0].Reached(t)
	export := e2e.NewExport(t, 2, 1)
	bob.PutSite("single", e2e.Exports{"files": export})
	jobID := bob.Create("single")
	if status := bob.Get(jobID).Status; status != backup.Pending {
		t.Fatalf("the single backup is %s while the place is taken", status)
	}
	holds[0].Release()
	bob.Await(jobID, backup.Done)
	for _, hold := range holds {
		begun += hold.Hits()
	}
	if begun > 2 { // the one before, and perhaps the one after
		t.Errorf("%d other backups began before the single one was done", begun)
	}
}

// Exports that do not answer at all, to HEAD, to GET or in the middle of a range, keep no place while the client is patient with
// them, and go on once they answer.
func TestHangingExportsKeepNoPlace(t *testing.T) {
	t.Parallel()
	c := e2e.Config(t, e2e.NewStorage(t))
	c.Executions, c.MemoryBytes, c.HangAfter = 1, 4<<20, 50*time.Millisecond
	c.Patience = provider.Timeouts{ResponseHeader: time.Hour, BodyIdle: time.Hour, BodyRateWindow: time.Hour}
	s := e2e.Start(t, c)
	release := make(chan struct{})
	faults := map[string]func(e *e2e.Export) func(){
		"head": func(e *e2e.Export) func() { return e.HoldBefore(e2e.Is(e2e.HEAD)).Release },
		"get":  func(e *e2e.Export) func() { return e.HoldBefore(e2e.Is(e2e.Range(0))).Release },
		"body": func(e *e2e.Export) func() {
			e.Misbehave(func(r backuptest.ProviderRequest) backuptest.Answer {
				if r.Method == http.MethodHead {
					return nil
				}
				return backuptest.AnswerStall(1, release)
			})
			return func() {}
		},
	}
	var hanging []string
	var answers []func()
	for fault, hang := range faults {
		for i := range 2 {
			export := e2e.NewExport(t, uint64(len(hanging)+2), 1)
			answers = append(answers, hang(export))
			site := fmt.Sprint(fault, "-", i)
			s.PutSite(site, e2e.Exports{"files": export})
			hanging = append(hanging, s.Create(site))
		}
	}
	healthy := e2e.NewExport(t, 1, 2)
	s.PutSite("healthy", e2e.Exports{"files": healthy})
	s.Await(s.Create("healthy"), backup.Done)
	for _, jobID := range hanging {
		if status := s.Get(jobID).Status; status != backup.Running {
			t.Errorf("a backup whose export hangs is %s", status)
		}
	}
	close(release)
	for _, answer := range answers {
		answer()
	}
	for _, jobID := range hanging {
		s.Await(jobID, backup.Done)
	}
}
