package step_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
)

// trouble is what a reader is told of the file.
func (r *rig) trouble(jobID, name string) *backup.Failure {
	r.Helper()
	view, err := step.Status{Jobs: r.store, Files: r.store, Now: r.now}.Read(r.Context(), jobID)
	r.need(err)
	for _, f := range view.Files {
		if f.Name == name {
			return view.Trouble(f)
		}
	}
	return nil
}

// While a try is being repeated a reader is told why, before the file has been opened and while its parts are moved; not
// any more once it got on, or when nothing was heard of the trouble for long.
func TestTrouble(t *testing.T) {
	r := newRig(t)
	r.site(largeSite())
	job := r.running()
	export := r.exports.of("files")
	export.onPin = []error{backup.E(backup.ProviderUnavailable, "lookup shop.example: no such host")}
	_, err := r.openUpload().Handle(t.Context(), openIn(job, "files"))
	r.wantKind(err, backup.ProviderUnavailable, "the pin")
	if got := r.trouble(job.JobID, "files"); got == nil || got.Kind != backup.ProviderUnavailable || !strings.Contains(got.Detail, "no such host") {
		t.Errorf("not opened: %+v", got)
	}
	out := r.open(job, "files")
	if got := r.trouble(job.JobID, "files"); got != nil {
		t.Errorf("opened: %+v", got)
	}
	export.onRange = []error{backup.E(backup.ProviderTimeout, "slow")}
	_, err = r.exportRangeUpload().Handle(t.Context(), rangeIn(job, out, backup.Batch{First: 1, Last: 1}))
	r.wantKind(err, backup.ProviderTimeout, "the range")
	if got := r.trouble(job.JobID, "files"); got == nil || got.Kind != backup.ProviderTimeout {
		t.Errorf("moving: %+v", got)
	}
	r.passes(5*time.Minute + time.Second)
	if got := r.trouble(job.JobID, "files"); got != nil {
		t.Errorf("long after: %+v", got)
	}
	r.move(job, out)
	r.need(second(r.completeMultipart().Handle(t.Context(), fileIn(job, "files"))))
}

// What ends the file for good, or belongs to an attempt that is over, is no trouble.
func TestNoTrouble(t *testing.T) {
	r := newRig(t)
	r.site(largeSite())
	job := r.running()
	r.exports.of("files").onPin = []error{backup.E(backup.ProviderRefused, "401"), backup.E(backup.ProviderUnavailable, "503")}
	_, err := r.openUpload().Handle(t.Context(), openIn(job, "files"))
	r.wantKind(err, backup.ProviderRefused, "the pin")
	if got := r.trouble(job.JobID, "files"); got != nil {
		t.Errorf("for good: %+v", got)
	}
	r.need(second(r.backups().Cancel(t.Context(), "ada", job.JobID)))
	_, err = r.openUpload().Handle(t.Context(), openIn(job, "files"))
	r.wantKind(err, backup.StaleAttempt, "a dead attempt")
	if got := r.trouble(job.JobID, "files"); got != nil {
		t.Errorf("of a dead attempt: %+v", got)
	}
}
