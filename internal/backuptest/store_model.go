package backuptest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"pgregory.net/rapid"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
)

var modelRules = []storeRule{
	{"any sequence of transitions leaves what the model holds", modelCheck},
}

// modelCheck runs random calls, many of them stale or forbidden, against the store and against MemoryStore, and
// expects the same answers. All runs share the store and keep apart by their ids.
func modelCheck(c storeCase) {
	var runs atomic.Int64
	rapid.Check(c.T, func(t *rapid.T) {
		w := newModelRun(c, int(runs.Add(1)))
		t.Repeat(map[string]func(*rapid.T){
			"create job": w.createJob,
			"swap job":   w.swapJob,
			"swap file":  w.swapFile,
			"record":     w.recordPart,
			"error":      w.recordError,
			"put site":   w.putSite,
			"drop site":  w.deleteSite,
			"ticket":     w.ticket,
			"time":       w.time,
		})
		w.compareAll(t)
	})
}

// modelRun is one sequence of calls.
type modelRun struct {
	ctx          context.Context
	model, store step.Store
	run          int
	now          time.Time
	policy       backup.Policy
	users, sites []string
	jobs         []string
	seenJobs     []backup.Job // every image that was ever stored, to draw stale ones from
	seenFiles    []backup.File
	uploads      int
}

func newModelRun(c storeCase, run int) *modelRun {
	return &modelRun{
		ctx: c.Context(), model: NewMemoryStoreWithin(c.quotas), store: c.store, run: run, now: storeEpoch, policy: backup.DefaultPolicy(),
		users: []string{fmt.Sprintf("ada-%d", run), fmt.Sprintf("bob-%d", run)}, sites: []string{"blog", "shop"},
	}
}

// both makes the same call on both stores and compares the kinds of their errors.
func (w *modelRun) both(t *rapid.T, what string, call func(step.Store) error) error {
	want, got := call(w.model), call(w.store)
	if backup.KindOf(want) != backup.KindOf(got) {
		t.Fatalf("%s: store says %q (%v), model says %q (%v)", what, backup.KindOf(got), got, backup.KindOf(want), want)
	}
	return want
}

// same makes the same read on both stores and compares the answers.
func same[T any](w *modelRun, t *rapid.T, what string, read func(step.Store) (T, error)) T {
	var answers []T
	_ = w.both(t, what, func(s step.Store) error {
		answer, err := read(s)
		answers = append(answers, answer)
		return err
	})
	if !reflect.DeepEqual(answers[0], answers[1]) {
		t.Fatalf("%s:\nstore says %+v\nmodel says %+v", what, answers[1], answers[0])
	}
	return answers[0]
}

func (w *modelRun) time(t *rapid.T) {
	w.now = w.now.Add(time.Duration(rapid.SampledFrom([]int{1, 60_000, 3_600_000, 8 * 3_600_000}).Draw(t, "ms")) * time.Millisecond)
}

func (w *modelRun) createJob(t *rapid.T) {
	id := jobID(w.run*1000 + len(w.jobs))
	if len(w.jobs) > 0 && rapid.IntRange(0, 9).Draw(t, "used id") == 0 {
		id = w.jobs[0]
	}
	site := testSite(rapid.SampledFrom(w.users).Draw(t, "user"), rapid.SampledFrom(w.sites).Draw(t, "site"))
	job := backup.NewJob(id, site, backup.Manual, w.now.Add(48*time.Hour), w.now, w.policy)
	key := backup.Idempotency{}
	if name := rapid.SampledFrom([]string{"", "k1", "k2"}).Draw(t, "key"); name != "" {
		key = backup.Idempotency{UserID: site.UserID, Key: name, BodyHash: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "body"), ExpiresAt: w.now.Add(time.Hour)}
	}
	stored := same(w, t, "create "+id, func(s step.Store) (backup.Job, error) { return s.CreateJob(w.ctx, job, key) })
	if stored.Rev == 1 && !slices.Contains(w.jobs, stored.JobID) {
		w.jobs = append(w.jobs, stored.JobID)
		w.seenJobs = append(w.seenJobs, stored)
	}
}

// draw takes one of those seen.
func draw[T any](t *rapid.T, seen []T, what string) T {
	if len(seen) == 0 {
		t.Skip("nothing there yet")
	}
	return rapid.SampledFrom(seen).Draw(t, what)
}

// drawJob takes the job as it is, or now and then a stale image of one.
func (w *modelRun) drawJob(t *rapid.T) backup.Job {
	id := draw(t, w.jobs, "job")
	if rapid.IntRange(0, 4).Draw(t, "stale") == 0 {
		return draw(t, w.seenJobs, "image")
	}
	return same(w, t, "get job "+id, func(s step.Store) (backup.Job, error) { return s.GetJob(w.ctx, id) })
}

func (w *modelRun) jobTransitions(j backup.Job) map[string]func() (backup.Job, error) {
	failure := func(kind backup.Kind) func() (backup.Job, error) {
		return func() (backup.Job, error) {
			return j.Fail(j.Attempt, backup.NewFailure(kind, "files", "detail", w.now), w.now, w.policy)
		}
	}
	return map[string]func() (backup.Job, error){
		"start":     func() (backup.Job, error) { return j.Start(j.Attempt, w.now, w.policy) },
		"restarted": func() (backup.Job, error) { return j.Restarted(w.now) },
		"finish":    func() (backup.Job, error) { return j.Finish(j.Attempt, 1<<40, w.now) },
		"fail":      failure(backup.ProviderUnavailable),
		"end attempt": func() (backup.Job, error) {
			return j.EndAttempt(j.Attempt, backup.NewFailure(backup.ProviderUnavailable, "files", "detail", w.now), w.now, w.policy)
		},
		"fail for good": failure(backup.ArchiveInvalid),
		"expire":        func() (backup.Job, error) { return j.Expire(j.LastError, w.now, w.policy) },
		"cancel":        func() (backup.Job, error) { return j.Cancel(w.now, w.policy) },
		"begin cleanup": func() (backup.Job, error) { return j.BeginCleanup(w.now) },
		"swept":         func() (backup.Job, error) { return j.Swept(w.now, w.now, w.policy) },
		"retry":         func() (backup.Job, error) { return j.Retry(nil, w.now, w.policy) },
		"delete":        func() (backup.Job, error) { return j.Delete(w.now) },
		"removed":       func() (backup.Job, error) { return j.Removed(w.now, w.now, w.policy) },
		"postpone": func() (backup.Job, error) {
			return j.Postpone(w.now.Add(time.Hour), backup.NewFailure(backup.StorageRefused, "", "legal hold", w.now))
		},
		"keep": func() (backup.Job, error) { return j.Keep(w.now.Add(time.Hour), w.now) },
	}
}

// legal draws one of the transitions that the row allows.
func legal[T any](t *rapid.T, transitions map[string]func() (T, error)) (string, T) {
	var names []string
	for name, transition := range transitions {
		if _, err := transition(); err == nil {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		t.Skip("no transition from here")
	}
	slices.Sort(names)
	name := rapid.SampledFrom(names).Draw(t, "transition")
	next, _ := transitions[name]()
	return name, next
}

func (w *modelRun) swapJob(t *rapid.T) {
	name, next := legal(t, w.jobTransitions(w.drawJob(t)))
	if w.both(t, name+" job "+next.JobID, func(s step.Store) error { return s.SwapJob(w.ctx, next) }) == nil {
		next.Rev++
		w.seenJobs = append(w.seenJobs, next)
	}
	w.compareJob(t, next.JobID)
}

func (w *modelRun) drawFile(t *rapid.T) (backup.Job, backup.File) {
	job := w.drawJob(t)
	if len(w.seenFiles) > 0 && rapid.IntRange(0, 4).Draw(t, "stale file") == 0 {
		return job, draw(t, w.seenFiles, "file image")
	}
	name := rapid.SampledFrom([]string{"database", "files"}).Draw(t, "file")
	file := same(w, t, "get file", func(s step.Store) (backup.File, error) {
		f, err := s.GetFile(w.ctx, job.JobID, name)
		if err != nil {
			return backup.File{}, err
		}
		return f, nil
	})
	file.JobID, file.Name = job.JobID, name
	return job, file
}

func (w *modelRun) fileTransitions(job backup.Job, f backup.File) map[string]func() (backup.File, error) {
	w.uploads++
	upload := backup.Upload{UploadID: fmt.Sprintf("up-%d", w.uploads), Key: "key", Token: "token"}
	failure := backup.NewFailure(backup.UploadLost, f.Name, "detail", w.now)
	return map[string]func() (backup.File, error){
		"open": func() (backup.File, error) {
			return f.Open(job.Attempt, upload, backup.Pin{ETag: `"v1"`, SizeBytes: 1 << 40}, true, w.now)
		},
		"resume":     func() (backup.File, error) { return f.Resume(job.Attempt, w.now) },
		"completing": func() (backup.File, error) { return f.Completing(f.UploadID, 1<<63+5, w.now) },
		"stored":     func() (backup.File, error) { return f.Stored(f.UploadID, w.now) },
		"inspected": func() (backup.File, error) {
			return f.Inspected(f.UploadID, backup.Archive{Entries: 3, UncompressedBytes: 4}, w.now)
		},
		"fail":   func() (backup.File, error) { return f.Fail(failure, w.now) },
		"forget": func() (backup.File, error) { return f.Forget(failure, w.now) },
	}
}

func (w *modelRun) swapFile(t *rapid.T) {
	job, file := w.drawFile(t)
	name, next := legal(t, w.fileTransitions(job, file))
	guard := rapid.SampledFrom([]backup.FileGuard{guardOf(job), guardOf(job), backup.Guard(job.JobID, job.Attempt)}).Draw(t, "guard")
	guard.JobID = next.JobID
	if w.both(t, name+" file", func(s step.Store) error { return s.SwapFile(w.ctx, guard, next) }) == nil {
		next.Rev++
		w.seenFiles = append(w.seenFiles, next)
	}
	w.compareJob(t, next.JobID)
}

func (w *modelRun) recordPart(t *rapid.T) {
	job, file := w.drawFile(t)
	part := testPart(file, rapid.IntRange(1, 4).Draw(t, "number"))
	part.Part.SizeBytes = rapid.Int64Range(1, 9).Draw(t, "size")
	part.Attempt = rapid.SampledFrom([]int{job.Attempt, job.Attempt, file.Attempt}).Draw(t, "attempt")
	_ = w.both(t, "record part", func(s step.Store) error { return s.RecordPart(w.ctx, part) })
	w.compareJob(t, file.JobID)
}

func (w *modelRun) recordError(t *rapid.T) {
	job, file := w.drawFile(t)
	kind := rapid.SampledFrom([]backup.Kind{backup.ProviderTimeout, backup.StorageUnavailable}).Draw(t, "kind")
	guard := rapid.SampledFrom([]backup.FileGuard{guardOf(job), backup.Guard(job.JobID, job.Attempt)}).Draw(t, "guard")
	guard.JobID = file.JobID
	e := backup.NewFailure(kind, file.Name, "detail", w.now)
	_ = w.both(t, "record error", func(s step.Store) error { return s.RecordError(w.ctx, guard, e) })
	w.compareJob(t, file.JobID)
}

// compareJob reads all there is of one job.
func (w *modelRun) compareJob(t *rapid.T, id string) {
	same(w, t, "job", func(s step.Store) (backup.Job, error) { return s.GetJob(w.ctx, id) })
	for _, f := range same(w, t, "files", func(s step.Store) ([]backup.File, error) { return s.Files(w.ctx, id) }) {
		if f.Status == backup.FileDone {
			continue // its parts need not be there
		}
		same(w, t, "parts", func(s step.Store) ([]backup.Part, error) { return s.Parts(w.ctx, f, 1, backup.MaxParts) })
	}
}

func (w *modelRun) putSite(t *rapid.T) {
	site := testSite(rapid.SampledFrom(w.users).Draw(t, "user"), rapid.SampledFrom(w.sites).Draw(t, "site"))
	site.KeepDays, site.Rev = rapid.IntRange(1, 99).Draw(t, "keep"), rapid.Int64Range(0, 2).Draw(t, "rev")
	_ = w.both(t, "put site", func(s step.Store) error { return s.PutSite(w.ctx, site) })
}

func (w *modelRun) deleteSite(t *rapid.T) {
	user, site := rapid.SampledFrom(w.users).Draw(t, "user"), rapid.SampledFrom(w.sites).Draw(t, "site")
	rev := rapid.Int64Range(1, 2).Draw(t, "rev")
	_ = w.both(t, "delete site", func(s step.Store) error { return s.DeleteSite(w.ctx, user, site, rev) })
}

func (w *modelRun) ticket(t *rapid.T) {
	digest := fmt.Sprintf("%d-%d", w.run, rapid.IntRange(1, 2).Draw(t, "digest"))
	if rapid.Bool().Draw(t, "put") {
		ticket := backup.Ticket{UserID: w.users[0], ExpiresAt: w.now.Add(time.Minute)}
		_ = w.both(t, "put ticket", func(s step.Store) error { return s.PutTicket(w.ctx, digest, ticket) })
		return
	}
	same(w, t, "take ticket", func(s step.Store) (backup.Ticket, error) { return s.TakeTicket(w.ctx, digest, w.now) })
}

// compareAll reads all that the run can have written.
func (w *modelRun) compareAll(t *rapid.T) {
	for _, id := range w.jobs {
		w.compareJob(t, id)
	}
	for _, user := range w.users {
		for _, site := range append(w.sites, "") {
			q := backup.JobQuery{UserID: user, SiteID: site, Limit: len(w.jobs) + 1}
			same(w, t, "list jobs", func(s step.Store) ([]backup.Job, error) { return s.ListJobs(w.ctx, q) })
		}
		same(w, t, "list sites", func(s step.Store) ([]backup.Site, error) {
			return s.ListSites(w.ctx, backup.SiteQuery{UserID: user, Limit: 9})
		})
	}
	for _, user := range w.users {
		counted := same(w, t, "usage", func(s step.Store) (backup.Usage, error) { return s.Usage(w.ctx, user, w.now) })
		counted.FetchedBytes, counted.Day = 0, "" // of uploads that may have been replaced since
		if rows := w.usageOfRows(t, user); rows != counted {
			t.Fatalf("usage of %s is %+v, its rows make %+v", user, counted, rows)
		}
	}
	same(w, t, "due jobs", w.dueOfRun)
}

// usageOfRows counts anew what a user takes up.
func (w *modelRun) usageOfRows(t *rapid.T, user string) (u backup.Usage) {
	sites, err := w.store.ListSites(w.ctx, backup.SiteQuery{UserID: user, Limit: 9})
	jobs, err2 := w.store.ListJobs(w.ctx, backup.JobQuery{UserID: user, Limit: len(w.jobs) + 1})
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	u.Sites = int64(len(sites))
	for _, j := range jobs {
		u = u.Plus(j.Usage())
		files, err := w.store.Files(w.ctx, j.JobID)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if j.Status != backup.Deleted {
				u.StoredBytes += f.HeldBytes()
			}
		}
	}
	return u
}

// dueOfRun lists the run's own due jobs by id: other runs' lie in between, and equal times have no order.
func (w *modelRun) dueOfRun(s step.Store) ([]string, error) {
	all, err := s.DueJobs(w.ctx, w.now, 1_000_000)
	var ids []string
	for _, j := range all {
		if slices.Contains(w.jobs, j.JobID) {
			ids = append(ids, j.JobID)
		}
	}
	slices.Sort(ids)
	return ids, err
}
