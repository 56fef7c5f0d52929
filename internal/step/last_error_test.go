package step_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
)

// lastError is what a reader is told of the file.
func (r *rig) lastError(jobID, name string) *backup.Failure {
	r.Helper()
	view, err := step.Status{Jobs: r.store, Files: r.store, Now: r.now}.Read(r.Context(), jobID)
	r.need(err)
	for _, f := range view.Files {
		if f.Name == name {
			return view.LastError(f)
		}
	}
	return nil
}

// While an export does not answer a reader is told why; not any more once it has, in a later attempt, or when nothing was
// heard of it for long. Its task is pending.
func TestLastError(t *testing.T) {
	r := newRig(t)
	r.site(largeSite())
	job := r.running()
	export := r.exports.of("files")
	export.onPin = []error{backup.E(backup.ProviderUnavailable, "lookup shop.example: no such host")}
	_, err := r.openUpload().Handle(t.Context(), openIn(job, "files"))
	r.wantKind(err, backup.ProviderUnavailable, "the pin")
	if got := r.lastError(job.JobID, "files"); got == nil || got.Kind != backup.ProviderUnavailable || !strings.Contains(got.Detail, "no such host") {
		t.Errorf("not opened: %+v", got)
	}
	files, err := r.store.Files(t.Context(), job.JobID)
	r.need(err)
	tasks, err := step.Status{Jobs: r.store, Files: r.store, Now: r.now}.Tasks(t.Context(), job, files[0])
	if err != nil || len(tasks) != 1 || tasks[0].Status != step.TaskPending {
		t.Errorf("tasks %+v, %v", tasks, err)
	}
	r.open(job, "files")
	if got := r.lastError(job.JobID, "files"); got != nil {
		t.Errorf("opened: %+v", got)
	}

	noted := func() {
		r.passes(3 * time.Second)
		export.onPin = []error{backup.E(backup.ProviderTimeout, "slow")}
		_, err = r.openUpload().Handle(t.Context(), openIn(job, "files"))
		r.wantKind(err, backup.ProviderTimeout, "the pin of an open file")
		if got := r.lastError(job.JobID, "files"); got == nil || got.Kind != backup.ProviderTimeout {
			t.Errorf("%+v", got)
		}
	}
	noted()
	r.passes(time.Second)
	r.open(job, "files")
	if got := r.lastError(job.JobID, "files"); got != nil {
		t.Errorf("resumed: %+v", got)
	}
	noted()
	r.passes(5*time.Minute + time.Second)
	if got := r.lastError(job.JobID, "files"); got != nil {
		t.Errorf("long after: %+v", got)
	}
	noted()
	r.need(r.cleaner().EndExecution(t.Context(), job.JobID, 1, backup.Internal, "aborted"))
	r.passes(time.Second)
	r.need(second(r.backups().Retry(t.Context(), "ada", job.JobID)))
	r.need(second(r.startJob().Handle(t.Context(), step.StartJobIn{JobID: job.JobID, Attempt: 2})))
	if got := r.lastError(job.JobID, "files"); got != nil {
		t.Errorf("of the attempt before: %+v", got)
	}
}

// What ends the file for good, or belongs to an attempt that is over, is not told.
func TestNoLastError(t *testing.T) {
	r := newRig(t)
	r.site(largeSite())
	job := r.running()
	r.exports.of("files").onPin = []error{backup.E(backup.ProviderRefused, "401"), backup.E(backup.ProviderUnavailable, "503")}
	_, err := r.openUpload().Handle(t.Context(), openIn(job, "files"))
	r.wantKind(err, backup.ProviderRefused, "the pin")
	if got := r.lastError(job.JobID, "files"); got != nil {
		t.Errorf("for good: %+v", got)
	}
	r.need(second(r.backups().Cancel(t.Context(), "ada", job.JobID)))
	_, err = r.openUpload().Handle(t.Context(), openIn(job, "files"))
	r.wantKind(err, backup.StaleAttempt, "a dead attempt")
	if got := r.lastError(job.JobID, "files"); got != nil {
		t.Errorf("of a dead attempt: %+v", got)
	}
}
