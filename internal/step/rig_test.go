package step_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/asl"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/lambdaedge"
	"github.com/sitevault/sitevault/internal/sqlite"
	"github.com/sitevault/sitevault/internal/step"
	"github.com/sitevault/sitevault/internal/transfer"
	"github.com/sitevault/sitevault/statemachine"
)

// epoch lies in the past of every real clock, so that a task's real deadline is far away from it.
var epoch = time.Date(2020, 3, 1, 2, 30, 0, 0, time.UTC)

// rig is the whole service behind the API: rows, storage, exports and executions, and the steps on top of them.
type rig struct {
	*testing.T
	store      step.Store
	storage    *backuptest.Storage
	exports    *exports
	executions *executions
	faults     *faults // between the steps and all of these
	policy     backup.Policy
	clock      time.Time // zero: that of the test's bubble
	single     int64     // OpenUpload.SingleBytes
	serial     int
	mu         sync.Mutex // of serial: steps of several files ask for random values
}

func newRig(t *testing.T) *rig {
	t.Helper()
	store, err := sqlite.Open(filepath.Join(t.TempDir(), "sitevault.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return rigOn(t, store)
}

func rigOn(t *testing.T, store step.Store) *rig {
	storage, policy := backuptest.NewStorage(), backup.DefaultPolicy()
	storage.WholeKeys = true // so that every sweep must know the keys
	policy.FirstPause = 0    // unless a test is about it, a failed attempt is the end
	return &rig{
		T: t, store: store, storage: storage, exports: &exports{served: map[string]*export{}}, faults: &faults{},
		executions: &executions{}, policy: policy, clock: epoch,
	}
}

func (r *rig) now() time.Time {
	if r.clock.IsZero() {
		return time.Now()
	}
	return r.clock
}

func (r *rig) passes(d time.Duration)  { r.clock = r.clock.Add(d) }
func (r *rig) newID() string           { return "01JD" + fmt.Sprintf("%022d", r.next()) }
func (r *rig) newRandom() string       { return fmt.Sprintf("RANDOM%d", r.next()) }
func (r *rig) guardedStore() *store    { return &store{r.store, r.faults} }
func (r *rig) guardedBucket() *storage { return &storage{r.storage, r.faults} }

func (r *rig) next() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.serial++
	return r.serial
}

func (r *rig) need(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) wantKind(err error, kind backup.Kind, doing string) {
	r.Helper()
	if got := backup.KindOf(err); got != kind {
		r.Errorf("%s: kind %q (%v), want %q", doing, got, err, kind)
	}
}

// The steps, each time as a fresh set of structs.

func (r *rig) cleaner() step.Cleaner {
	return step.Cleaner{Jobs: r.guardedStore(), Files: r.guardedStore(), Storage: r.guardedBucket(), Executions: guarded{r.executions, r.faults}, Policy: r.policy, Now: r.now}
}

func (r *rig) backups() step.Backups {
	return step.Backups{
		Jobs: r.guardedStore(), Sites: r.guardedStore(), Executions: guarded{r.executions, r.faults}, Cleaner: r.cleaner(),
		Policy: r.policy, Now: r.now, NewID: r.newID, Log: slog.New(slog.NewTextHandler(r.Output(), nil)),
	}
}

func (r *rig) sweeper() step.Sweep {
	return step.Sweep{Jobs: r.guardedStore(), Executions: guarded{r.executions, r.faults}, Cleaner: r.cleaner(), Policy: r.policy, Now: r.now}
}

func (r *rig) startJob() step.StartJob {
	return step.StartJob{Jobs: r.guardedStore(), Policy: r.policy, Now: r.now}
}

func (r *rig) openUpload() step.OpenUpload {
	return step.OpenUpload{Jobs: r.guardedStore(), Files: r.guardedStore(), Errors: r.guardedStore(), Exports: guardedExports{r.exports, r.faults}, Uploads: r.guardedBucket(), Now: r.now, NewRandom: r.newRandom, SingleBytes: r.single}
}

func (r *rig) exportRangeUpload() step.ExportRangeUpload {
	return step.ExportRangeUpload{Jobs: r.guardedStore(), Files: r.guardedStore(), Errors: r.guardedStore(), Exports: guardedExports{r.exports, r.faults}, Uploads: r.guardedBucket(), Memory: transfer.NewBudget(transfer.DefaultBudgetBytes, 0), Now: r.now}
}

func (r *rig) completeMultipart() step.CompleteMultipart {
	return step.CompleteMultipart{Files: r.guardedStore(), Errors: r.guardedStore(), Uploads: r.guardedBucket(), Objects: r.guardedBucket(), Now: r.now}
}

func (r *rig) inspectArchive() step.InspectArchive {
	return step.InspectArchive{Files: r.guardedStore(), Errors: r.guardedStore(), Objects: r.guardedBucket(), Now: r.now}
}

func (r *rig) failFile() step.FailFile { return step.FailFile{Files: r.guardedStore(), Now: r.now} }

func (r *rig) finishJob() step.FinishJob {
	return step.FinishJob{
		Jobs: r.guardedStore(), Files: r.guardedStore(), Objects: r.guardedBucket(), Cleaner: r.cleaner(), Policy: r.policy, Now: r.now,
		Log: slog.New(slog.NewTextHandler(r.Output(), nil)),
	}
}

func (r *rig) handlers() map[string]asl.Handler {
	return map[string]asl.Handler{
		"StartJob": task(r.startJob().Handle), "OpenUpload": task(r.openUpload().Handle),
		"ExportRangeUpload": task(r.exportRangeUpload().Handle), "CompleteMultipart": task(r.completeMultipart().Handle),
		"InspectArchive": task(r.inspectArchive().Handle), "FailFile": task(r.failFile().Handle), "FinishJob": task(r.finishJob().Handle),
	}
}

func task[In, Out any](handle func(context.Context, In) (Out, error)) asl.Handler {
	call := lambdaedge.Task(handle)
	return func(ctx context.Context, input json.RawMessage) (json.RawMessage, error) {
		out, err := call(ctx, input)
		if failure, ok := errors.AsType[*lambdaedge.Failure](err); ok {
			return nil, &asl.Error{Name: failure.Name, Cause: failure.Cause}
		}
		return out, err
	}
}

// execute runs the state machine for an attempt, on a fresh set of structs, without the machine's waits.
func (r *rig) execute(jobID string, attempt int) asl.Result {
	r.Helper()
	return r.executeWith(r.handlers(), jobID, attempt)
}

func (r *rig) executeWith(handlers map[string]asl.Handler, jobID string, attempt int) asl.Result {
	r.Helper()
	return r.executeOn(handlers, jobID, attempt, func(context.Context, time.Duration) {})
}

// executeOn lets the machine's waits pass by sleep.
func (r *rig) executeOn(handlers map[string]asl.Handler, jobID string, attempt int, sleep func(context.Context, time.Duration)) asl.Result {
	r.Helper()
	machine, err := asl.Load(statemachine.Backup, handlers)
	r.need(err)
	input, err := json.Marshal(step.StartJobIn{JobID: jobID, Attempt: attempt})
	r.need(err)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	r.faults.kill = cancel
	return machine.Run(ctx, asl.Execution{Name: backup.ExecutionName(jobID, attempt), Input: input}, asl.Options{Sleep: sleep})
}

// The world around.

// site registers the site "blog" whose providers export the given contents under their names.
func (r *rig) site(contents map[string]backuptest.Content) backup.Site {
	r.Helper()
	site := backup.Site{UserID: "ada", SiteID: "blog"}
	for name, content := range contents {
		url := "https://example.org/" + name
		r.exports.serve(url, content, `"v1"`)
		site.Providers = append(site.Providers, backup.Provider{Name: name, URL: url})
	}
	slices.SortFunc(site.Providers, func(a, b backup.Provider) int { return strings.Compare(a.Name, b.Name) })
	site = site.WithDefaults()
	site.Limits.Parallelism = 1
	site.CreatedAt, site.UpdatedAt = epoch, epoch
	r.need(r.store.PutSite(r.Context(), site))
	site.Rev = 1
	return site
}

// created is a pending job of the site "blog".
func (r *rig) created() backup.Job {
	r.Helper()
	job, err := r.backups().Create(r.Context(), step.CreateBackup{UserID: "ada", SiteID: "blog", Trigger: backup.Manual})
	r.need(err)
	return job
}

// running is a job that runs its first attempt.
func (r *rig) running() backup.Job {
	r.Helper()
	job := r.created()
	_, err := r.startJob().Handle(r.Context(), step.StartJobIn{JobID: job.JobID, Attempt: 1})
	r.need(err)
	return r.job(job.JobID)
}

func (r *rig) job(id string) backup.Job {
	r.Helper()
	job, err := r.store.GetJob(r.Context(), id)
	r.need(err)
	return job
}

func (r *rig) file(jobID, name string) backup.File {
	r.Helper()
	f, err := r.store.GetFile(r.Context(), jobID, name)
	r.need(err)
	return f
}

// open runs OpenUpload for the job's file.
func (r *rig) open(job backup.Job, name string) step.OpenUploadOut {
	r.Helper()
	out, err := r.openUpload().Handle(r.Context(), openIn(job, name))
	r.need(err)
	return out
}

func openIn(job backup.Job, name string) step.OpenUploadIn {
	return step.OpenUploadIn{JobID: job.JobID, Attempt: job.Attempt, File: name, Parallelism: 1, MaxBatches: 1_000}
}

// move runs ExportRangeUpload for all batches that OpenUpload gave out.
func (r *rig) move(job backup.Job, out step.OpenUploadOut) {
	r.Helper()
	for _, b := range out.Batches {
		_, err := r.exportRangeUpload().Handle(r.Context(), rangeIn(job, out, b))
		r.need(err)
	}
}

func rangeIn(job backup.Job, out step.OpenUploadOut, b backup.Batch) step.ExportRangeUploadIn {
	return step.ExportRangeUploadIn{JobID: job.JobID, Attempt: job.Attempt, File: out.File, UploadID: out.UploadID, First: b.First, Last: b.Last}
}

func fileIn(job backup.Job, name string) step.FileIn {
	return step.FileIn{JobID: job.JobID, Attempt: job.Attempt, File: name}
}

func (r *rig) complete(job backup.Job, name string) {
	r.Helper()
	_, err := r.completeMultipart().Handle(r.Context(), fileIn(job, name))
	r.need(err)
}

func (r *rig) inspect(job backup.Job, name string) {
	r.Helper()
	_, err := r.inspectArchive().Handle(r.Context(), fileIn(job, name))
	r.need(err)
}

// backUp takes one file through all its steps.
func (r *rig) backUp(job backup.Job, name string) {
	r.Helper()
	r.move(job, r.open(job, name))
	r.complete(job, name)
	r.inspect(job, name)
}

// backedUp is a running job whose files have all been taken through.
func (r *rig) backedUp() backup.Job {
	r.Helper()
	job := r.running()
	r.backUp(job, "database")
	r.backUp(job, "files")
	return job
}

func (r *rig) finish(job backup.Job) step.FinishJobOut {
	r.Helper()
	out, err := r.finishJob().Handle(r.Context(), step.FinishJobIn{JobID: job.JobID, Attempt: job.Attempt})
	r.need(err)
	return out
}

// failed is a failed job whose file "files" failed for the given reason in attempt 1; the others are done.
func (r *rig) failed(kind backup.Kind) backup.Job {
	r.Helper()
	job := r.running()
	for _, p := range job.Providers {
		if p.Name != "files" {
			r.backUp(job, p.Name)
		}
	}
	r.move(job, r.open(job, "files"))
	r.fail(job, "files", kind)
	r.finish(job)
	return r.job(job.JobID)
}

func (r *rig) fail(job backup.Job, name string, kind backup.Kind) {
	r.Helper()
	_, err := r.failFile().Handle(r.Context(), step.FailFileIn{FileIn: fileIn(job, name), Caught: caught(kind)})
	r.need(err)
}

func caught(kind backup.Kind) step.Caught {
	return step.Caught{Error: string(kind), Cause: fmt.Sprintf(`{"errorMessage":"because of %s","errorType":%q}`, kind, kind)}
}

func bytesOf(c backuptest.Content) []byte {
	b := make([]byte, c.Size())
	if _, err := c.ReadAt(b, 0); err != nil && err != io.EOF {
		panic(err)
	}
	return b
}

// wantDone checks a backup from outside: the job is done, every object holds exactly what was exported, the manifest
// says so, and the storage holds nothing else.
func (r *rig) wantDone(jobID string, contents map[string]backuptest.Content) {
	r.Helper()
	job := r.job(jobID)
	if job.Status != backup.Done {
		r.Fatalf("job is %s: %+v", job.Status, job.Failure)
	}
	manifest := r.manifest(job)
	if len(manifest.Files) != len(contents) {
		r.Errorf("manifest of %d files, want %d", len(manifest.Files), len(contents))
	}
	var size int64
	for _, m := range manifest.Files {
		f, want := r.file(jobID, m.Name), contents[m.Name]
		size += want.Size()
		got, found := r.storage.Content(f.Key)
		if f.Status != backup.FileDone || m.Key != f.Key || !found || !bytes.Equal(got, bytesOf(want)) {
			r.Errorf("file %s is %s, its object %s has %d bytes, exported were %d", m.Name, f.Status, f.Key, len(got), want.Size())
		}
		if _, versions := r.storage.Left(f.Key); versions != 1 {
			r.Errorf("object %s has %d versions", f.Key, versions)
		}
	}
	if job.SizeBytes != size {
		r.Errorf("job of %d bytes, exported were %d", job.SizeBytes, size)
	}
	_, manifests := r.storage.Left(job.ManifestKey())
	if uploads, versions := r.storage.Left(job.Prefix()); uploads != 0 || versions != len(contents)+manifests {
		r.Errorf("left: %d uploads, %d versions, of them %d of the manifest", uploads, versions, manifests)
	}
}

func (r *rig) manifest(job backup.Job) (m step.Manifest) {
	r.Helper()
	body, found := r.storage.Content(job.ManifestKey())
	if !found {
		r.Fatal("there is no manifest")
	}
	r.need(json.Unmarshal(body, &m))
	return m
}

// wantNothingLeft checks that a job costs nothing any more.
func (r *rig) wantNothingLeft(job backup.Job) {
	r.Helper()
	if uploads, versions := r.storage.Left(job.Prefix()); uploads != 0 || versions != 0 {
		r.Errorf("left: %d uploads, %d versions", uploads, versions)
	}
}
