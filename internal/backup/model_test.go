package backup_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sitevault/sitevault/internal/backup"
)

// TestModel lets everybody who touches a backup act in any order and at any time: workers of live and dead attempts,
// executions started twice, users who cancel, delete and retry, and sweepers that fall asleep in the middle of a sweep.
// Each of them takes its decisions by the domain's own functions on rows that may be old by the time of the write, and
// the rows accept a write by the guards that every store has. After each step the rules of the design must hold.
func TestModel(t *testing.T) {
	moreRuns(t, map[string]string{"rapid.steps": "200", "rapid.checks": "4000"})
	seen := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, seen)
		t.Repeat(map[string]func(*rapid.T){
			"create":         w.create,
			"start":          w.start,
			"begin worker":   w.beginWorker,
			"begin worker 2": w.beginWorker,
			"goes on":        w.workerGoesOn,
			"goes on 2":      w.workerGoesOn,
			"goes on 3":      w.workerGoesOn,
			"run worker":     w.runWorker,
			"run worker 2":   w.runWorker,
			"run attempt":    w.runAttempt,
			"end execution":  w.seldom(3, w.endExecution),
			"no room":        w.seldom(3, w.noRoom),
			"postpone":       w.seldom(3, w.postpone),
			"cancel":         w.seldom(8, w.cancel),
			"delete":         w.seldom(8, w.remove),
			"retry":          w.retry,
			"keep":           w.seldom(4, w.keep),
			"begin sweep":    w.beginSweep,
			"sweep":          w.sweep,
			"export changes": w.seldom(4, func(*rapid.T) { w.version++ }),
			"upload is lost": w.seldom(4, w.loseUpload),
			"time passes":    w.timePasses,
			"":               w.check,
		})
	})
	for _, want := range []string{
		"job pending", "job running", "job done", "job failed", "job deleting", "job deleted", "job failed now", "job failed later",
		"job failed again", "job done in attempt 2", "job pending in attempt 3", "file open", "file completing", "file stored", "file done",
		"file failed", "file begun anew", "file resumed", "refused Conflict", "refused StaleAttempt", "refused SiteBusy", "part refused", "tried again",
		"tried again after its execution's time", "try begun on request", "waits for room", "postponed", "upload without a row",
	} {
		if seen[want] == 0 {
			t.Errorf("the model never came to: %s", want)
		}
	}
	t.Log(seen)
}

// moreRuns lets rapid do more than it does by itself, unless the command line says how much.
func moreRuns(t *testing.T, flags map[string]string) {
	t.Helper()
	for name, value := range flags {
		f := flag.Lookup(name)
		before := f.Value.String()
		if before != f.DefValue {
			continue
		}
		t.Cleanup(func() { _ = f.Value.Set(before) })
		if err := f.Value.Set(value); err != nil {
			t.Fatal(err)
		}
	}
}

// world is the rows, the storage and everybody who is in the middle of something.
type world struct {
	t       *rapid.T
	seen    map[string]int // what all runs came to
	now     time.Time
	version int // of the export
	serial  int

	jobs  map[string]backup.Job
	files map[fileID]backup.File
	parts map[partID]storedPart

	uploads map[string]*storedUpload
	objects map[string]storedObject
	gone    map[string]bool // uploads that the storage has lost

	triedAgain map[string]int // how often each job was

	workers []*worker
}

type (
	fileID struct{ jobID, name string }
	partID struct {
		jobID, name, uploadID string
		number                int
	}
	storedPart struct {
		backup.Part
		byAttempt int
	}
	storedUpload struct {
		key, token string
		parts      map[int]string // number -> version of the export that its bytes are of
	}
	storedObject struct {
		token string
		parts map[int]string
	}
)

// worker is somebody in the middle of something: the steps that are still to do. A worker of an execution dies at the
// latest one WorkerLife after it began; a sweeper may sleep for ever.
type worker struct {
	name   string
	diesAt time.Time // zero: never
	steps  []func() (goOn bool)
}

func newWorld(t *rapid.T, seen map[string]int) *world {
	return &world{
		t: t, seen: seen, now: epoch, version: 1, jobs: map[string]backup.Job{}, files: map[fileID]backup.File{}, parts: map[partID]storedPart{},
		uploads: map[string]*storedUpload{}, objects: map[string]storedObject{}, gone: map[string]bool{},
		triedAgain: map[string]int{},
	}
}

// The store: what every adapter of step.JobStore and step.FileStore promises.

func (w *world) swapJob(next backup.Job) error {
	old := w.jobs[next.JobID]
	if old.Rev != next.Rev {
		return w.refuse(backup.Conflict)
	}
	for _, other := range w.jobs {
		if next.Active() && other.Active() && other.JobID != next.JobID {
			return w.refuse(backup.SiteBusy)
		}
	}
	w.checkJobStep(old, next)
	w.saw("job " + string(next.Status))
	w.saw(strings.TrimSpace(fmt.Sprintf("job %s %s", next.Status, next.Cleanup)))
	w.saw(fmt.Sprintf("job %s in attempt %d", next.Status, next.Attempt))
	next.Rev++
	w.jobs[next.JobID] = next
	return nil
}

func (w *world) saw(what string) { w.seen[what]++ }

func (w *world) refuse(kind backup.Kind) error {
	w.saw("refused " + string(kind))
	return backup.E(kind, "refused")
}

func (w *world) swapFile(g backup.FileGuard, next backup.File) error {
	job, id := w.jobs[g.JobID], fileID{next.JobID, next.Name}
	if job.Status != g.Status || job.Attempt != g.Attempt {
		return w.refuse(backup.StaleAttempt)
	}
	old := w.files[id]
	if old.Rev != next.Rev {
		return w.refuse(backup.Conflict)
	}
	w.checkFileStep(job, old, next)
	w.saw("file " + string(next.Status))
	if next.Restarts > 0 {
		w.saw("file begun anew")
	}
	if next.UploadID == old.UploadID && next.Attempt > old.Attempt {
		w.saw("file resumed")
	}
	next.Rev++
	w.files[id] = next
	return nil
}

func (w *world) recordPart(p backup.PartWrite) error {
	job, file := w.jobs[p.JobID], w.files[fileID{p.JobID, p.File}]
	if err := errors.Join(job.RunningAttempt(p.Attempt), file.CheckPart(p)); err != nil {
		w.saw("part refused")
		return err
	}
	if job.Status != backup.Running || job.Attempt != p.Attempt || file.Attempt != p.Attempt {
		w.t.Fatalf("attempt %d records a part of attempt %d's file below the %s attempt %d", p.Attempt, file.Attempt, job.Status, job.Attempt)
	}
	if file.Status != backup.FileOpen || file.UploadID != p.UploadID {
		w.t.Fatalf("a part of upload %s is recorded below the %s upload %s", p.UploadID, file.Status, file.UploadID)
	}
	id := partID{p.JobID, p.File, p.UploadID, p.Part.Number}
	if _, stands := w.parts[id]; !stands {
		w.parts[id] = storedPart{p.Part, p.Attempt}
	}
	return nil
}

func (w *world) recorded(f backup.File) (parts []backup.Part) {
	for n := 1; n <= f.PartCount(); n++ {
		if p, ok := w.parts[partID{f.JobID, f.Name, f.UploadID, n}]; ok {
			parts = append(parts, p.Part)
		}
	}
	return parts
}

func (w *world) file(jobID, name string) backup.File {
	if f, ok := w.files[fileID{jobID, name}]; ok {
		return f
	}
	return backup.File{JobID: jobID, Name: name}
}

// changeJob reads, decides and writes at once, as an actor does that nobody comes between.
func (w *world) changeJob(jobID string, transition func(backup.Job) (backup.Job, error)) bool {
	next, err := transition(w.jobs[jobID])
	return err == nil && w.swapJob(next) == nil
}

func (w *world) changeFile(g backup.FileGuard, name string, transition func(backup.File) (backup.File, error)) bool {
	next, err := transition(w.file(g.JobID, name))
	return errors.Is(err, backup.ErrAlready) || (err == nil && w.swapFile(g, next) == nil)
}

// The rules of single writes.

var legalJobSteps = map[backup.Status][]backup.Status{
	"":              {backup.Pending},
	backup.Pending:  {backup.Pending, backup.Running, backup.Failed, backup.Deleting},
	backup.Running:  {backup.Running, backup.Pending, backup.Done, backup.Failed, backup.Deleting}, // running: only put off
	backup.Done:     {backup.Done, backup.Deleting},
	backup.Failed:   {backup.Failed, backup.Pending, backup.Deleting},
	backup.Deleting: {backup.Deleting, backup.Deleted},
	backup.Deleted:  {},
}

func (w *world) checkJobStep(old, next backup.Job) {
	if !slices.Contains(legalJobSteps[old.Status], next.Status) {
		w.t.Fatalf("job goes from %q to %s", old.Status, next.Status)
	}
	retried := (old.Status == backup.Failed && next.Status == backup.Pending) || next.TriedAgain(old.Attempt)
	if old.Status != "" && (next.Attempt != old.Attempt) != retried {
		w.t.Fatalf("attempt goes from %d to %d as the job goes from %s to %s", old.Attempt, next.Attempt, old.Status, next.Status)
	}
	w.checkTimes(old, next)
	if next.Status == backup.Done && old.Status == backup.Running {
		w.checkProven(next)
	}
	if next.Status == backup.Deleted {
		w.checkNothingComes(next)
	}
	if next.Status == backup.Failed && next.Cleanup == backup.CleanupNone {
		w.checkSwept(next)
	}
}

// A deadline moves only where somebody has asked for an attempt: as the attempt is asked for and as it starts. Attempts that the
// service begins by itself lie within it.
func (w *world) checkTimes(old, next backup.Job) {
	asked := old.Status == "" || old.Status == backup.Failed || (old.Status == backup.Pending && next.Status == backup.Running && next.Tries == 0)
	if !asked && !next.DeadlineAt.Equal(old.DeadlineAt) {
		w.t.Fatalf("the deadline goes from %s to %s as the job goes from %s to %s", old.DeadlineAt, next.DeadlineAt, old.Status, next.Status)
	}
	if next.TriedAgain(old.Attempt) {
		w.saw("tried again")
		if next.LastError.Kind == backup.TimedOut {
			w.saw("tried again after its execution's time")
		}
	}
	if next.WaitsToTry() && !next.NextTryAt.Before(next.DeadlineAt) {
		w.t.Fatalf("the next try is at %s, the deadline at %s", next.NextTryAt, next.DeadlineAt)
	}
	if next.Retries > backup.MaxRetries || next.Attempt != 1+next.Retries+w.tries(old, next) {
		w.t.Fatalf("attempt %d after %d retries and %d tries", next.Attempt, next.Retries, next.Tries)
	}
}

// tries counts the attempts of a job that the service has begun by itself, on all that was asked for.
func (w *world) tries(old, next backup.Job) int {
	if next.TriedAgain(old.Attempt) {
		w.triedAgain[next.JobID]++
	}
	return w.triedAgain[next.JobID]
}

// A done job is proven: each file's object is there, ours, complete, and of one version of the export.
func (w *world) checkProven(job backup.Job) {
	if !w.now.Before(job.DeadlineAt) {
		w.t.Fatalf("done after its deadline")
	}
	for _, p := range job.Providers {
		f := w.file(job.JobID, p.Name)
		object := w.objects[f.Key]
		if f.Status != backup.FileDone || object.token != f.Token || len(object.parts) != f.PartCount() {
			w.t.Fatalf("done with file %s %s, object %+v", p.Name, f.Status, object)
		}
		for n := 1; n <= f.PartCount(); n++ {
			if object.parts[n] != f.Pin.ETag {
				w.t.Fatalf("part %d of file %s is of version %s, not %s", n, p.Name, object.parts[n], f.Pin.ETag)
			}
		}
	}
}

// Deleted means for good: nothing is left, and nobody is alive who could still bring something.
func (w *world) checkNothingComes(job backup.Job) {
	if left := w.left(job, nil); len(left) > 0 {
		w.t.Fatalf("deleted with %v left", left)
	}
	for _, x := range w.workers {
		if w.now.Before(x.diesAt) && strings.HasPrefix(x.name, job.JobID) {
			w.t.Fatalf("deleted while %s lives until %s", x.name, x.diesAt)
		}
	}
}

// A failed job that is swept for good keeps only what a retry can use.
func (w *world) checkSwept(job backup.Job) {
	kept := map[string]bool{}
	for _, f := range w.files {
		if f.JobID == job.JobID && f.Settled() && !job.CleanupEverything {
			kept[f.Key] = true
		}
	}
	if left := w.left(job, kept); len(left) > 0 {
		w.t.Fatalf("swept with %v left", left)
	}
}

func (w *world) left(job backup.Job, kept map[string]bool) (keys []string) {
	for id, u := range w.uploads {
		if strings.HasPrefix(u.key, job.Prefix()) {
			keys = append(keys, id)
		}
	}
	for key := range w.objects {
		if strings.HasPrefix(key, job.Prefix()) && !kept[key] {
			keys = append(keys, key)
		}
	}
	return keys
}

var legalFileSteps = map[backup.FileStatus][]backup.FileStatus{
	"":                    {backup.FileOpen, backup.FileFailed},
	backup.FileOpen:       {backup.FileOpen, backup.FileCompleting, backup.FileFailed},
	backup.FileCompleting: {backup.FileOpen, backup.FileStored, backup.FileFailed},
	backup.FileStored:     {backup.FileDone, backup.FileFailed},
	backup.FileDone:       {backup.FileFailed}, // only when a cancelled job is cleaned up
	backup.FileFailed:     {backup.FileOpen, backup.FileFailed},
}

func (w *world) checkFileStep(job backup.Job, old, next backup.File) {
	if !slices.Contains(legalFileSteps[old.Status], next.Status) {
		w.t.Fatalf("file %s goes from %q to %s", next.Name, old.Status, next.Status)
	}
	if old.Status == backup.FileDone && !(job.Status == backup.Failed && job.CleanupEverything) {
		w.t.Fatalf("done file %s fails below a %s job", next.Name, job.Status)
	}
	if next.UploadID != "" && old.Attempt > next.Attempt {
		w.t.Fatalf("file %s goes from attempt %d back to %d", next.Name, old.Attempt, next.Attempt)
	}
	if next.Status == backup.FileOpen && next.Attempt != job.Attempt {
		w.t.Fatalf("file %s is opened by attempt %d of attempt %d", next.Name, next.Attempt, job.Attempt)
	}
	if next.Status == backup.FileCompleting && len(w.recorded(next)) != next.PartCount() {
		w.t.Fatalf("file %s is completing with %d of %d parts", next.Name, len(w.recorded(next)), next.PartCount())
	}
}

// check holds the rows and the storage against the rules that always hold.
func (w *world) check(*rapid.T) {
	active := 0
	for _, j := range w.jobs {
		if j.Active() {
			active++
		}
		if (j.Status == backup.Deleted) != j.DueAt.IsZero() {
			w.t.Fatalf("%s job is due at %s", j.Status, j.DueAt)
		}
		if j.Status == backup.Deleted {
			w.checkNothingComes(j)
		}
		if (j.Status == backup.Failed) != (j.Failure != nil) && j.Status != backup.Deleting && j.Status != backup.Deleted {
			w.t.Fatalf("%s job with failure %v", j.Status, j.Failure)
		}
		if (j.LastError != nil) != (j.Tries > 0) && j.Active() {
			w.t.Fatalf("%s job with last error %+v after %d tries", j.Status, j.LastError, j.Tries)
		}
		if j.Status == backup.Pending && j.DueAt.After(w.now.Add(policy.MaxPause)) {
			w.t.Fatalf("pending, and nobody looks before %s", j.DueAt)
		}
		if j.Status == backup.Done || j.Status == backup.Running {
			w.checkFiles(j)
		}
		w.checkUploadKeys(j)
	}
	if active > 1 {
		w.t.Fatalf("%d jobs of one site are active", active)
	}
}

// checkUploadKeys makes sure that a sweep knows the key of each upload, that of a worker included which has died before its
// upload stood in a row.
func (w *world) checkUploadKeys(j backup.Job) {
	if !slices.ContainsFunc(slices.Collect(maps.Values(w.uploads)), func(u *storedUpload) bool { return strings.HasPrefix(u.key, j.Prefix()) }) {
		return
	}
	var files []backup.File
	inRow := map[string]bool{}
	for id, f := range w.files {
		if id.jobID == j.JobID {
			files, inRow[f.UploadID] = append(files, f), true
		}
	}
	keys := j.UploadKeys(files)
	for id, u := range w.uploads {
		if !strings.HasPrefix(u.key, j.Prefix()) {
			continue
		}
		if !inRow[id] {
			w.saw("upload without a row")
		}
		if !slices.Contains(keys, u.key) {
			w.t.Fatalf("nobody knows of upload %s under %s, but of %v", id, u.key, keys)
		}
	}
}

// checkFiles makes sure that nobody has taken away what a live attempt works on or what a backup consists of.
func (w *world) checkFiles(j backup.Job) {
	for _, p := range j.Providers {
		f := w.file(j.JobID, p.Name)
		_, uploading := w.uploads[f.UploadID]
		_, stored := w.objects[f.Key]
		if f.Settled() && !stored {
			w.t.Fatalf("the object of %s file %s is gone", f.Status, f.Name)
		}
		open := (f.Status == backup.FileOpen && f.Attempt == j.Attempt) || f.Status == backup.FileCompleting
		if open && j.Status == backup.Running && !uploading && !stored && !w.lost(f) {
			w.t.Fatalf("the upload of %s file %s is gone", f.Status, f.Name)
		}
	}
}

// The users, the executions and the clock.

func (w *world) seldom(oneIn int, act func(*rapid.T)) func(*rapid.T) {
	return func(t *rapid.T) {
		if rapid.IntRange(1, oneIn).Draw(t, "chance") == 1 {
			act(t)
		}
	}
}

func (w *world) create(t *rapid.T) {
	if len(w.jobs) >= 9 {
		t.Skip("enough jobs")
	}
	site := testSite()
	site.Providers = []backup.Provider{{Name: "files"}, {Name: "database"}}
	id := fmt.Sprintf("01JD%022d", len(w.jobs)+1)
	_ = w.swapJob(backup.NewJob(id, site, backup.Manual, w.now.Add(48*time.Hour), w.now, policy))
}

func (w *world) anyJob(t *rapid.T) backup.Job {
	if len(w.jobs) == 0 {
		t.Skip("no job yet")
	}
	return w.jobs[rapid.SampledFrom(slices.Sorted(maps.Keys(w.jobs))).Draw(t, "job")]
}

// decide writes what the transition makes of the job as it is now, at once or some time later.
func (w *world) decide(t *rapid.T, name string, job backup.Job, transition func(backup.Job) (backup.Job, error)) {
	next, err := transition(job)
	if err != nil {
		return
	}
	write := func() bool { return w.swapJob(next) == nil }
	if rapid.IntRange(0, 3).Draw(t, "delayed") > 0 {
		write()
		return
	}
	w.workers = append(w.workers, &worker{name: name, diesAt: w.now.Add(backup.DecisionLag), steps: []func() bool{write}})
}

func (w *world) start(t *rapid.T) {
	j := w.anyJob(t)
	attempt := rapid.IntRange(1, j.Attempt).Draw(t, "attempt")
	w.decide(t, "start", j, func(j backup.Job) (backup.Job, error) { return j.Start(attempt, w.now, policy) })
}

func (w *world) endExecution(t *rapid.T) {
	j := w.anyJob(t)
	attempt := rapid.IntRange(1, j.Attempt).Draw(t, "attempt")
	kind := rapid.SampledFrom([]backup.Kind{backup.TimedOut, backup.Internal, backup.StorageRefused}).Draw(t, "kind")
	w.decide(t, "end execution", j, func(j backup.Job) (backup.Job, error) { return j.EndAttempt(attempt, failure(kind), w.now, policy) })
}

// noRoom is StartJob for which the user's other jobs leave no room.
func (w *world) noRoom(t *rapid.T) {
	w.decide(t, "no room", w.anyJob(t), func(j backup.Job) (backup.Job, error) {
		next, err := j.Restarted(w.now)
		if err == nil {
			w.saw("waits for room")
		}
		return next, err
	})
}

// postpone is a sweeper that could do nothing for a due job.
func (w *world) postpone(t *rapid.T) {
	w.decide(t, "postpone", w.anyJob(t), func(j backup.Job) (backup.Job, error) {
		if !j.Due(w.now) {
			return j, backup.ErrAlready
		}
		w.saw("postponed")
		return j.Postpone(w.now.Add(5*time.Minute), failure(backup.StorageUnavailable))
	})
}

func (w *world) cancel(t *rapid.T) {
	w.decide(t, "cancel", w.anyJob(t), func(j backup.Job) (backup.Job, error) { return j.Cancel(w.now, policy) })
}

func (w *world) remove(t *rapid.T) {
	w.decide(t, "delete", w.anyJob(t), func(j backup.Job) (backup.Job, error) { return j.Delete(w.now) })
}

func (w *world) retry(t *rapid.T) {
	w.decide(t, "retry", w.anyJob(t), func(j backup.Job) (backup.Job, error) {
		if j.WaitsToTry() {
			w.saw("try begun on request")
		}
		return j.Retry(nil, w.now, policy)
	})
}

func (w *world) keep(t *rapid.T) {
	w.decide(t, "keep", w.anyJob(t), func(j backup.Job) (backup.Job, error) { return j.Keep(w.now.Add(72*time.Hour), w.now) })
}

func (w *world) timePasses(t *rapid.T) {
	short := []time.Duration{time.Second, time.Second, time.Minute, time.Minute, backup.StartGrace, backup.StartGrace}
	long := []time.Duration{policy.WorkerLife, policy.RetryWindow, policy.JobTimeout, 3 * 24 * time.Hour}
	w.now = w.now.Add(rapid.SampledFrom(append(short, long...)).Draw(t, "by"))
	w.workers = slices.DeleteFunc(w.workers, func(x *worker) bool { return !x.diesAt.IsZero() && !w.now.Before(x.diesAt) })
}

func (w *world) loseUpload(t *rapid.T) {
	ids := slices.Sorted(maps.Keys(w.uploads))
	if len(ids) == 0 {
		t.Skip("no upload")
	}
	id := rapid.SampledFrom(ids).Draw(t, "upload")
	w.gone[id] = true
	delete(w.uploads, id)
}

// The workers.

func (w *world) beginWorker(t *rapid.T) {
	if len(w.workers) < 16 {
		w.workers = append(w.workers, w.newWorker(t))
	}
}

func (w *world) workerGoesOn(t *rapid.T) {
	if len(w.workers) == 0 {
		t.Skip("nobody at work")
	}
	w.goOn(rapid.IntRange(0, len(w.workers)-1).Draw(t, "worker"))
}

func (w *world) goOn(i int) {
	x := w.workers[i]
	do := x.steps[0]
	if x.steps = x.steps[1:]; !do() || len(x.steps) == 0 {
		w.workers = slices.Delete(w.workers, i, i+1)
	}
}

func (w *world) runWorker(t *rapid.T) { w.run(w.newWorker(t)) }

func (w *world) run(x *worker) {
	for len(x.steps) > 0 {
		do := x.steps[0]
		if x.steps = x.steps[1:]; !do() {
			return
		}
	}
}

// runAttempt is an execution that nothing disturbs, so that jobs also get done.
func (w *world) runAttempt(t *rapid.T) {
	j := w.anyJob(t)
	w.changeJob(j.JobID, func(j backup.Job) (backup.Job, error) { return j.Start(j.Attempt, w.now, policy) })
	if j = w.jobs[j.JobID]; j.Status != backup.Running {
		t.Skip("not running")
	}
	for _, p := range j.Providers {
		steps := rapid.IntRange(1, 20).Draw(t, "steps")
		for range min(steps, 8) { // open, three parts, completion, inspection, and twice for a lost upload
			w.run(w.workerFor(j, p.Name))
		}
	}
	if rapid.Bool().Draw(t, "to its end") {
		w.run(w.finisher(j))
	}
}

// newWorker begins what the flow would begin next for some file of a running job.
func (w *world) newWorker(t *rapid.T) *worker {
	j := w.anyJob(t)
	if j.Status != backup.Running {
		t.Skip("not running")
	}
	name := rapid.SampledFrom([]string{"files", "database"}).Draw(t, "file")
	switch rapid.IntRange(0, 9).Draw(t, "what") {
	case 0:
		return w.finisher(j)
	case 1:
		return w.failer(j, name)
	}
	return w.workerFor(j, name)
}

func (w *world) worker(j backup.Job, what string, steps ...func() bool) *worker {
	return &worker{name: j.JobID + " " + what, diesAt: w.now.Add(backup.MaxLambdaLife), steps: steps}
}

func (w *world) workerFor(j backup.Job, name string) *worker {
	f := w.file(j.JobID, name)
	switch {
	case f.Status == backup.FileOpen && f.Attempt == j.Attempt && !w.lost(f) && w.versionTag() == f.Pin.ETag:
		if len(w.recorded(f)) == f.PartCount() {
			return w.completer(j, f)
		}
		return w.mover(j, f)
	case f.Status == backup.FileCompleting && !w.lost(f):
		return w.completer(j, f)
	case f.Status == backup.FileStored:
		return w.worker(j, "inspect", func() bool {
			return w.changeFile(backup.Guard(j.JobID, j.Attempt), name, func(g backup.File) (backup.File, error) {
				return g.Inspected(f.UploadID, backup.Archive{Entries: 1}, w.now)
			})
		})
	case f.Status == backup.FileDone:
		return w.worker(j, "nothing", func() bool { return true })
	}
	return w.opener(j, f)
}

func (w *world) versionTag() string { return fmt.Sprintf(`"v%d"`, w.version) }

// lost tells whether the upload is gone without having become an object.
func (w *world) lost(f backup.File) bool {
	return w.gone[f.UploadID]
}

// opener is OpenUpload.
func (w *world) opener(j backup.Job, f backup.File) *worker {
	guard, now, lost := backup.Guard(j.JobID, j.Attempt), w.now, w.lost(f)
	current := backup.Pin{ETag: w.versionTag(), SizeBytes: pin.SizeBytes}
	if !lost && f.Resumable() && f.Pin == current {
		return w.worker(j, "resume", func() bool {
			return w.changeFile(guard, f.Name, func(f backup.File) (backup.File, error) { return f.Resume(j.Attempt, now) })
		})
	}
	w.serial++
	u := backup.Upload{
		UploadID: fmt.Sprintf("upload-%d", w.serial), Key: j.FileKey(f.Name, j.Attempt, f.Uploads+1), Token: fmt.Sprint("token-", w.serial),
	}
	next, err := f.Open(j.Attempt, u, current, lost, now)
	if err != nil {
		return w.worker(j, "cannot open", func() bool { return false })
	}
	return w.worker(j, "open",
		func() bool {
			w.uploads[u.UploadID] = &storedUpload{key: u.Key, token: u.Token, parts: map[int]string{}}
			return true
		},
		func() bool {
			if w.swapFile(guard, next) != nil {
				delete(w.uploads, u.UploadID)
				return false
			}
			return true
		},
		func() bool { delete(w.uploads, f.UploadID); return true },
	)
}

// mover is ExportRangeUpload for one part.
func (w *world) mover(j backup.Job, f backup.File) *worker {
	number := 1
	for _, p := range w.recorded(f) {
		if p.Number == number {
			number++
		}
	}
	_, size := f.PartRange(number)
	return w.worker(j, fmt.Sprintf("part %d", number),
		func() bool {
			u := w.uploads[f.UploadID]
			if u == nil || w.versionTag() != f.Pin.ETag { // UploadLost, ProviderChanged
				return false
			}
			u.parts[number] = f.Pin.ETag
			return true
		},
		func() bool {
			return w.recordPart(backup.PartWrite{
				JobID: j.JobID, Attempt: j.Attempt, File: f.Name, UploadID: f.UploadID, At: w.now, Part: backup.Part{Number: number, SizeBytes: size},
			}) == nil
		},
	)
}

// completer is CompleteMultipart.
func (w *world) completer(j backup.Job, f backup.File) *worker {
	guard, parts := backup.Guard(j.JobID, j.Attempt), w.recorded(f)
	return w.worker(j, "complete",
		func() bool {
			return f.ProveParts(parts) == nil && w.changeFile(guard, f.Name, func(g backup.File) (backup.File, error) {
				return g.Completing(f.UploadID, 1, w.now)
			})
		},
		func() bool {
			if u := w.uploads[f.UploadID]; u != nil && len(u.parts) == f.PartCount() {
				w.objects[f.Key] = storedObject{token: u.token, parts: u.parts}
				delete(w.uploads, f.UploadID)
			}
			return w.objects[f.Key].token == f.Token // HEAD decides
		},
		func() bool {
			return w.changeFile(guard, f.Name, func(g backup.File) (backup.File, error) { return g.Stored(f.UploadID, w.now) })
		},
	)
}

// failer is FailFile.
func (w *world) failer(j backup.Job, name string) *worker {
	return w.worker(j, "fail file", func() bool {
		return w.changeFile(backup.Guard(j.JobID, j.Attempt), name, func(f backup.File) (backup.File, error) {
			return f.Fail(failure(backup.ProviderUnavailable), w.now)
		})
	})
}

// finisher is FinishJob.
func (w *world) finisher(j backup.Job) *worker {
	var files []backup.File
	for _, p := range j.Providers {
		files = append(files, w.file(j.JobID, p.Name))
	}
	kept := map[string]bool{}
	for _, f := range files {
		if kept[f.Key] = true; f.Status != backup.FileDone {
			return w.worker(j, "finish as failed", func() bool {
				return w.changeJob(j.JobID, func(now backup.Job) (backup.Job, error) {
					return now.EndAttempt(j.Attempt, failure(backup.ProviderUnavailable), w.now, policy)
				})
			})
		}
	}
	later := func(key string) bool { return backup.KeyAttempt(key) > j.Attempt }
	return w.worker(j, "finish as done",
		func() bool { w.abortUploads(j, later); return true },
		func() bool {
			w.deleteObjects(j, func(key string) bool { return kept[key] || later(key) })
			return true
		},
		func() bool {
			return w.changeJob(j.JobID, func(now backup.Job) (backup.Job, error) { return now.Finish(j.Attempt, 1, w.now) })
		},
	)
}

// The sweeper.

func (w *world) abortUploads(j backup.Job, keep func(string) bool) {
	maps.DeleteFunc(w.uploads, func(_ string, u *storedUpload) bool { return strings.HasPrefix(u.key, j.Prefix()) && !keep(u.key) })
}

func (w *world) deleteObjects(j backup.Job, keep func(string) bool) {
	maps.DeleteFunc(w.objects, func(key string, _ storedObject) bool { return strings.HasPrefix(key, j.Prefix()) && !keep(key) })
}

func (w *world) due() (due []backup.Job) {
	for _, id := range slices.Sorted(maps.Keys(w.jobs)) {
		if w.jobs[id].Due(w.now) {
			due = append(due, w.jobs[id])
		}
	}
	return due
}

// beginSweep starts a sweeper that may sleep at any point.
func (w *world) beginSweep(t *rapid.T) {
	due := w.due()
	if len(due) == 0 || len(w.workers) >= 16 {
		t.Skip("nothing due")
	}
	j := rapid.SampledFrom(due).Draw(t, "job")
	w.workers = append(w.workers, &worker{name: "sweeper", steps: w.tend(j)})
}

// sweep is a sweeper that stays awake: afterwards no job is active past its deadline that was not put off.
func (w *world) sweep(*rapid.T) {
	for _, j := range w.due() {
		w.run(&worker{steps: w.tend(j)})
	}
	for _, j := range w.jobs {
		if j.Active() && !w.now.Before(j.DeadlineAt) && j.Due(w.now) {
			w.t.Fatalf("%s past its deadline %s", j.Status, j.DeadlineAt)
		}
		if j.Due(w.now) && j.Cleanup == backup.CleanupNone && j.Status != backup.Deleting {
			w.t.Fatalf("%s job is still due after it was tended", j.Status)
		}
	}
}

func (w *world) tend(j backup.Job) []func() bool {
	change := func(transition func(backup.Job) (backup.Job, error)) func() bool {
		return func() bool { w.changeJob(j.JobID, transition); return true }
	}
	switch {
	case j.Active() && j.StatusAt(w.now) == backup.Failed:
		expire := change(func(j backup.Job) (backup.Job, error) { return j.Expire(j.LastError, w.now, policy) })
		return append([]func() bool{expire}, w.clean(j)...)
	case j.Status == backup.Pending:
		return []func() bool{change(func(j backup.Job) (backup.Job, error) { return j.Restarted(w.now) })}
	case j.StatusAt(w.now) == backup.Deleting:
		return w.removal(j, change)
	}
	return w.clean(j)
}

// removal is Cleaner.Remove after the fence.
func (w *world) removal(j backup.Job, change func(func(backup.Job) (backup.Job, error)) func() bool) []func() bool {
	var began time.Time
	nothing := func(string) bool { return false }
	return []func() bool{
		change(func(j backup.Job) (backup.Job, error) { return j.Delete(w.now) }),
		func() bool { began = w.now; return w.jobs[j.JobID].Status == backup.Deleting },
		func() bool { w.abortUploads(j, nothing); return true },
		func() bool { w.deleteObjects(j, nothing); return true },
		change(func(j backup.Job) (backup.Job, error) { return j.Removed(began, w.now, policy) }),
	}
}

// clean is Cleaner.CleanFailed.
func (w *world) clean(j backup.Job) []func() bool {
	var began time.Time
	var job backup.Job
	var files []backup.File
	kept := map[string]bool{}
	later := func(key string) bool { return backup.KeyAttempt(key) > job.Attempt }
	return []func() bool{
		func() bool {
			w.changeJob(j.JobID, func(j backup.Job) (backup.Job, error) { return j.BeginCleanup(w.now) })
			job, began = w.jobs[j.JobID], w.now
			return job.Status == backup.Failed && job.Cleanup == backup.CleanupNow
		},
		func() bool {
			for _, p := range job.Providers {
				f := w.file(job.JobID, p.Name)
				files = append(files, f)
				kept[f.Key] = f.Settled() && !job.CleanupEverything
			}
			return true
		},
		func() bool { w.abortUploads(job, later); return true },
		func() bool {
			w.deleteObjects(job, func(key string) bool { return kept[key] || later(key) })
			return true
		},
		func() bool {
			guard := backup.FileGuard{JobID: job.JobID, Status: backup.Failed, Attempt: job.Attempt}
			for _, f := range files {
				forget := func(f backup.File) (backup.File, error) { return f.Forget(job.Failure, w.now) }
				if f.Rev > 0 && !kept[f.Key] && !w.changeFile(guard, f.Name, forget) {
					return false
				}
			}
			return true
		},
		func() bool {
			return w.changeJob(job.JobID, func(j backup.Job) (backup.Job, error) { return j.Swept(began, w.now, policy) })
		},
	}
}
