package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/sqlite"
)

// Writes that wait while another commits share the next transaction, and each succeeds or fails for itself: by its
// revision, by its guard, by a table that is gone.
func TestGroupKeepsWritesApart(t *testing.T) {
	path := databasePath(t)
	synctest.Test(t, func(t *testing.T) {
		gate := &gate{}
		store := open(t, path, sqlite.Options{OnChange: gate.pass})
		file := openFile(t, store, 1)
		fresh, stale := create(t, store, 2), create(t, store, 3)
		stale.Rev = 7
		raw(t, path, "DROP TABLE tickets")

		calls := map[string]struct {
			call func() error
			want backup.Kind
		}{
			"part":           {func() error { return store.RecordPart(t.Context(), partOf(file, 1)) }, ""},
			"another part":   {func() error { return store.RecordPart(t.Context(), partOf(file, 2)) }, ""},
			"fresh job":      {func() error { return store.SwapJob(t.Context(), fresh) }, ""},
			"stale job":      {func() error { return store.SwapJob(t.Context(), stale) }, backup.Conflict},
			"stale guard":    {func() error { return store.SwapFile(t.Context(), backup.Guard(file.JobID, 2), file) }, backup.StaleAttempt},
			"table gone":     {func() error { return store.PutTicket(t.Context(), "digest", backup.Ticket{}) }, backup.StoreUnavailable},
			"site":           {func() error { return store.PutSite(t.Context(), backup.Site{UserID: "ada", SiteID: "blog"}) }, ""},
			"busy site":      {func() error { _, err := store.CreateJob(t.Context(), busy(4, 2), backup.Idempotency{}); return err }, backup.SiteBusy},
			"one more write": {func() error { return store.PutSite(t.Context(), backup.Site{UserID: "ada", SiteID: "shop"}) }, ""},
		}
		gate.shut()
		var group sync.WaitGroup
		group.Go(func() { create(t, store, 5) })
		synctest.Wait() // its commit is done, and the writer stands at the gate
		for name, c := range calls {
			group.Go(func() {
				if err := c.call(); backup.KindOf(err) != c.want {
					t.Errorf("%s: got %q (%v), want %q", name, backup.KindOf(err), err, c.want)
				}
			})
		}
		synctest.Wait() // all of them wait for the writer
		gate.open()
		group.Wait()

		got, err := store.GetFile(t.Context(), file.JobID, file.Name)
		if err != nil || got.Recorded.Parts != 2 || got.Rev != 1 {
			t.Errorf("file after the group: %+v, %v", got, err)
		}
		if _, err := store.GetSite(t.Context(), "ada", "shop"); err != nil {
			t.Error(err)
		}
	})
}

// A write that fails halfway leaves no row and reports no change.
func TestFailedWriteLeavesNoTrace(t *testing.T) {
	path := databasePath(t)
	heard := 0
	store := open(t, path, sqlite.Options{OnChange: func(backup.Change) { heard++ }})
	raw(t, path, "CREATE TRIGGER broken BEFORE INSERT ON idempotency_keys BEGIN SELECT raise(ABORT, 'broken'); END")
	key := backup.Idempotency{UserID: "ada", Key: "k", ExpiresAt: epoch.AddDate(0, 0, 1)}
	if _, err := store.CreateJob(t.Context(), newJob(1), key); !backup.Is(err, backup.StoreUnavailable) {
		t.Errorf("create: %v", err)
	}
	if _, err := store.GetJob(t.Context(), newJob(1).JobID); !backup.Is(err, backup.NotFound) || heard != 0 {
		t.Errorf("get: %v; heard %d changes", err, heard)
	}
	create(t, store, 2)
	if heard != 1 {
		t.Errorf("heard %d changes of the next write, want 1", heard)
	}
}

// busy is a new job n of the site of job other.
func busy(n, other int) backup.Job {
	job := newJob(n)
	job.SiteID = newJob(other).SiteID
	return job
}

// gate stops a store's writer in its OnChange while it is shut.
type gate struct {
	mu     sync.Mutex
	closed chan struct{} // nil: open
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = make(chan struct{})
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.closed)
	g.closed = nil
}

func (g *gate) pass(backup.Change) {
	g.mu.Lock()
	closed := g.closed
	g.mu.Unlock()
	if closed != nil {
		<-closed
	}
}

// A transaction that SQLite itself gives up fails every write of the group, keeps none of them, and the next write
// starts a new one.
func TestLostTransaction(t *testing.T) {
	path := databasePath(t)
	synctest.Test(t, func(t *testing.T) {
		gate := &gate{}
		store := open(t, path, sqlite.Options{OnChange: gate.pass})
		file := openFile(t, store, 1)
		raw(t, path, "CREATE TRIGGER lost BEFORE INSERT ON tickets BEGIN SELECT raise(ROLLBACK, 'lost'); END")
		gate.shut()
		var group sync.WaitGroup
		group.Go(func() { create(t, store, 2) })
		synctest.Wait()
		for n := range 8 {
			group.Go(func() {
				if err := store.RecordPart(t.Context(), partOf(file, n)); !backup.Is(err, backup.StoreUnavailable) {
					t.Errorf("part %d: %v", n, err)
				}
			})
		}
		group.Go(func() {
			if err := store.PutTicket(t.Context(), "digest", backup.Ticket{}); !backup.Is(err, backup.StoreUnavailable) {
				t.Errorf("ticket: %v", err)
			}
		})
		synctest.Wait()
		gate.open()
		group.Wait()
		if got, err := store.GetFile(t.Context(), file.JobID, file.Name); err != nil || got.Recorded.Parts != 0 {
			t.Errorf("file after the lost transaction: %+v, %v", got, err)
		}
		if err := store.RecordPart(t.Context(), partOf(file, 9)); err != nil {
			t.Error(err)
		}
	})
}

// A caller whose time is up while others are being written withdraws, and its write never happens. The one before it
// returns only after its change was heard.
func TestWaitingCallerWithdraws(t *testing.T) {
	path := databasePath(t)
	synctest.Test(t, func(t *testing.T) {
		gate := &gate{}
		store := open(t, path, sqlite.Options{OnChange: gate.pass})
		gate.shut()
		var group sync.WaitGroup
		var returned atomic.Bool
		group.Go(func() { create(t, store, 1); returned.Store(true) })
		synctest.Wait()
		if returned.Load() {
			t.Error("a write returned before its change was heard")
		}
		ctx, cancel := context.WithCancel(t.Context())
		group.Go(func() {
			if _, err := store.CreateJob(ctx, newJob(2), backup.Idempotency{}); !errors.Is(err, context.Canceled) {
				t.Errorf("create: got %v, want %v", err, context.Canceled)
			}
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		gate.open()
		group.Wait()
		if _, err := store.GetJob(t.Context(), newJob(2).JobID); !backup.Is(err, backup.NotFound) {
			t.Errorf("get the withdrawn job: %v", err)
		}
	})
}

// Every committed write of a job, a file or a new part is reported once, with both images, before it returns; nothing
// else is.
func TestOnChange(t *testing.T) {
	var heard []backup.Change
	store := open(t, databasePath(t), sqlite.Options{OnChange: func(c backup.Change) { heard = append(heard, c) }})
	job := func() backup.Job { j, _ := store.GetJob(t.Context(), newJob(1).JobID); return j }
	file := func() backup.File { f, _ := store.GetFile(t.Context(), newJob(1).JobID, "files"); return f }

	// expect makes a call and compares what was heard of it with the rows before and after.
	expect := func(name string, call func() error, want func(oldJob backup.Job, oldFile backup.File) []backup.Change) {
		t.Helper()
		oldJob, oldFile := job(), file()
		heard = nil
		_ = call()
		if w := want(oldJob, oldFile); !reflect.DeepEqual(heard, w) {
			t.Errorf("%s: heard\n%+v, want\n%+v", name, heard, w)
		}
	}
	jobChange := func(old backup.Job, _ backup.File) []backup.Change {
		return []backup.Change{{JobID: old.JobID, Job: &backup.JobChange{Old: old, New: job()}}}
	}
	fileChange := func(_ backup.Job, old backup.File) []backup.Change {
		return []backup.Change{{JobID: newJob(1).JobID, File: &backup.FileChange{Old: old, New: file()}}}
	}
	silence := func(backup.Job, backup.File) []backup.Change { return nil }

	createdKey := backup.Idempotency{UserID: "ada", Key: "k", ExpiresAt: epoch.AddDate(0, 0, 1)}
	createJob := func() error { _, err := store.CreateJob(t.Context(), newJob(1), createdKey); return err }
	expect("create", createJob, func(backup.Job, backup.File) []backup.Change {
		return []backup.Change{{JobID: newJob(1).JobID, Job: &backup.JobChange{New: job()}}}
	})
	expect("create again", createJob, silence)
	running := job()
	running.Status = backup.Running
	expect("swap job", func() error { return store.SwapJob(t.Context(), running) }, jobChange)
	expect("swap job again", func() error { return store.SwapJob(t.Context(), running) }, silence)

	opened := backup.File{JobID: running.JobID, Name: "files", Status: backup.FileOpen, Attempt: 1, UploadID: "upload"}
	guard := backup.Guard(running.JobID, 1)
	expect("open file", func() error { return store.SwapFile(t.Context(), guard, opened) }, fileChange)
	expect("open file again", func() error { return store.SwapFile(t.Context(), guard, opened) }, silence)
	expect("open file of a dead attempt", func() error { return store.SwapFile(t.Context(), backup.Guard(running.JobID, 2), file()) }, silence)

	part := partOf(opened, 1)
	expect("part", func() error { return store.RecordPart(t.Context(), part) }, func(j backup.Job, old backup.File) []backup.Change {
		change := fileChange(j, old)
		change[0].Part = &part
		return change
	})
	expect("part again", func() error { return store.RecordPart(t.Context(), part) }, silence)
	expect("site", func() error { return store.PutSite(t.Context(), backup.Site{UserID: "ada", SiteID: "blog"}) }, silence)
	completing := file()
	completing.Status = backup.FileCompleting
	expect("complete", func() error { return store.SwapFile(t.Context(), guard, completing) }, fileChange)
}

// Under concurrency the changes come in the order of the commits: the counters of a file never step back or jump.
func TestOnChangeOrder(t *testing.T) {
	var heard []int64
	store := open(t, databasePath(t), sqlite.Options{OnChange: func(c backup.Change) {
		if c.File != nil {
			heard = append(heard, c.File.New.Changes)
		}
	}})
	file := openFile(t, store, 1)
	const writers, each = 16, 20
	var group sync.WaitGroup
	for i := range writers {
		group.Go(func() {
			for n := range each {
				if err := store.RecordPart(t.Context(), partOf(file, 1+i*each+n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if len(heard) != 1+writers*each {
		t.Fatalf("heard %d changes, want %d", len(heard), 1+writers*each)
	}
	for i, changes := range heard {
		if changes != int64(i+1) {
			t.Fatalf("change %d says %d", i+1, changes)
		}
	}
}

// The refusal of a busy site names the job that keeps it busy.
func TestSiteBusyNamesJob(t *testing.T) {
	store := open(t, databasePath(t), sqlite.Options{})
	first := create(t, store, 1)
	_, err := store.CreateJob(t.Context(), busy(2, 1), backup.Idempotency{})
	if want := fmt.Sprintf("create job %s: job %s of site site-1 is pending", newJob(2).JobID, first.JobID); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
