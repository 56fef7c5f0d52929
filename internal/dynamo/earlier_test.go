package dynamo_test

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	minidyn "github.com/truora/minidyn/server"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/dynamo"
)

// earlierStore holds the rows that a version without quotas and automatic tries has written: a pending, a running and a
// failed job of three sites. The store has quotas.
func earlierStore(t *testing.T) *dynamo.Store {
	t.Helper()
	server := minidyn.NewServer()
	store, table := newTable(t, newClient("http://minidyn", inProcess{server}))
	rows, err := os.Open("testdata/earlier_rows.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for lines := bufio.NewScanner(rows); lines.Scan(); {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(fmt.Sprintf(`{"TableName":%q,"Item":%s}`, table, lines.Text())))
		r.Header.Set("X-Amz-Target", "DynamoDB_20120810.PutItem")
		w := httptest.NewRecorder()
		if server.ServeHTTP(w, r); w.Code != http.StatusOK {
			t.Fatal(w.Body)
		}
	}
	return store.WithQuotas(backup.Quotas{Sites: 3, ActiveJobs: 3, Ranges: 12, StoredBytes: 1 << 40, FetchedBytes: 1 << 40})
}

// earlier goes on with the rows of one job.
type earlier struct {
	*testing.T
	store  *dynamo.Store
	jobID  string
	policy backup.Policy
}

func (e earlier) job(transition func(backup.Job) (backup.Job, error)) {
	e.Helper()
	job, err := e.store.GetJob(e.Context(), e.jobID)
	next, err2 := transition(job)
	if err := errors.Join(err, err2, e.store.SwapJob(e.Context(), next)); err != nil {
		e.Fatal(err)
	}
	e.wantNoDebt()
}

func (e earlier) file(status backup.Status, attempt int, transition func(backup.File) (backup.File, error)) backup.File {
	e.Helper()
	file, err := e.store.GetFile(e.Context(), e.jobID, "files")
	if backup.Is(err, backup.NotFound) {
		file, err = backup.File{JobID: e.jobID, Name: "files"}, nil
	}
	next, err2 := transition(file)
	guard := backup.FileGuard{JobID: e.jobID, Status: status, Attempt: attempt}
	if err := errors.Join(err, err2, e.store.SwapFile(e.Context(), guard, next)); err != nil {
		e.Fatal(err)
	}
	e.wantNoDebt()
	return next
}

// wantNoDebt checks that nothing was taken off the usage that had not been added.
func (e earlier) wantNoDebt() backup.Usage {
	e.Helper()
	u, err := e.store.Usage(e.Context(), "ada", epoch)
	if err != nil || u.Sites < 0 || u.ActiveJobs < 0 || u.Ranges < 0 || u.StoredBytes < 0 {
		e.Fatalf("usage %+v, %v", u, err)
	}
	return u
}

func (e earlier) start(attempt int) {
	e.Helper()
	e.job(func(j backup.Job) (backup.Job, error) { return j.Start(attempt, epoch, e.policy) })
}

// resume goes on with the upload that the earlier version has opened, and moves another part.
func (e earlier) resume(attempt int) {
	e.Helper()
	file := e.file(backup.Running, attempt, func(f backup.File) (backup.File, error) { return f.Resume(attempt, epoch) })
	err := e.store.RecordPart(e.Context(), partOf(file, 2))
	parts, err2 := e.store.Parts(e.Context(), file, 1, 3)
	if err := errors.Join(err, err2); err != nil || len(parts) != 2 {
		e.Fatalf("parts %+v, %v", parts, err)
	}
}

func (e earlier) remove() {
	e.Helper()
	e.job(func(j backup.Job) (backup.Job, error) { return j.Delete(epoch) })
	late := epoch.Add(e.policy.WorkerLife)
	e.job(func(j backup.Job) (backup.Job, error) { return j.Removed(late, late, e.policy) })
}

// Rows of an earlier version go on: what they hold is kept, what they lack is nothing, and they enter the usage when they are
// written again, so that at the end nothing is left of it.
func TestEarlierRows(t *testing.T) {
	store, policy := earlierStore(t), backup.DefaultPolicy()
	on := func(n int) earlier { return earlier{t, store, fmt.Sprintf("01JD%022d", n), policy} }

	pending := on(1)
	pending.start(1)
	pending.remove()

	running := on(2)
	running.job(func(j backup.Job) (backup.Job, error) {
		return j.EndAttempt(1, backup.NewFailure(backup.StorageUnavailable, "files", "503", epoch), epoch, policy)
	})
	running.start(2)
	running.resume(2)
	if u := running.wantNoDebt(); u.ActiveJobs != 1 || u.Ranges != 4 || u.StoredBytes != 40<<20 {
		t.Errorf("usage of a running job is %+v", u)
	}
	running.remove()

	failed := on(3)
	failed.job(func(j backup.Job) (backup.Job, error) { return j.Retry(nil, epoch, policy) })
	failed.start(2)
	failed.resume(2)
	failure := backup.NewFailure(backup.StorageRefused, "files", "403", epoch)
	failed.job(func(j backup.Job) (backup.Job, error) { return j.Fail(2, failure, epoch, policy) })
	failed.file(backup.Failed, 2, func(f backup.File) (backup.File, error) { return f.Forget(failure, epoch) })
	failed.remove()

	for _, name := range []string{"pending", "running", "failed"} {
		site, err := store.GetSite(t.Context(), "ada", name)
		site.KeepDays = 7
		if err := errors.Join(err, store.PutSite(t.Context(), site), store.DeleteSite(t.Context(), "ada", name, site.Rev+1)); err != nil {
			t.Error(err)
		}
	}
	if u := on(1).wantNoDebt(); u != (backup.Usage{Day: backup.UsageDay(epoch)}) {
		t.Errorf("at the end the usage is %+v", u)
	}
}

// A backup of an earlier version holds its site, and is due as it was.
func TestEarlierRowsHoldTheirSites(t *testing.T) {
	store := earlierStore(t)
	job := newJob(9)
	job.SiteID = "running"
	if _, err := store.CreateJob(t.Context(), job, backup.Idempotency{}); !backup.Is(err, backup.SiteBusy) {
		t.Errorf("another backup of the site: %v", err)
	}
	due, err := store.DueJobs(t.Context(), epoch.Add(7*time.Hour), 9)
	if err != nil || len(due) != 3 {
		t.Errorf("%d are due, %v", len(due), err)
	}
}
