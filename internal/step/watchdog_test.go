package step_test

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sitevault/sitevault/internal/asl"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/step"
)

// inBubble runs a test on a clock of its own.
func inBubble(t *testing.T, name string, test func(r *rig)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := rigOn(t, backuptest.NewMemoryStore())
			r.clock = time.Time{}
			r.site(map[string]backuptest.Content{"files": backuptest.ZipOf(3, 40_000)})
			test(r)
		})
	})
}

// executing runs the job's first attempt in the background.
func (r *rig) executing(job backup.Job) (result <-chan asl.Result) {
	ended := make(chan asl.Result, 1)
	go func() { ended <- r.execute(job.JobID, 1) }()
	return ended
}

// told is what a reader is told of the file or, with "", of the job.
func (r *rig) told(jobID, name string) *backup.Failure {
	r.Helper()
	if name == "" {
		return r.job(jobID).LastErrorAt(r.now())
	}
	return r.lastError(jobID, name)
}

// tellsOfHang checks that a call that hangs from now on is told of within five seconds, as long as it hangs, and since when.
func (r *rig) tellsOfHang(jobID, name string, kind backup.Kind, held *hang) {
	r.Helper()
	<-held.reached
	synctest.Wait()
	began := r.now()
	time.Sleep(3 * time.Second)
	if got := r.told(jobID, name); got != nil {
		r.Errorf("told after 3 s already: %+v", got)
	}
	time.Sleep(2 * time.Second)
	synctest.Wait()
	first := r.told(jobID, name)
	if first == nil || first.Kind != kind || first.File != name || first.At.Sub(began) > 5*time.Second {
		r.Fatalf("told within 5 s: %+v", first)
	}
	time.Sleep(20 * time.Second)
	synctest.Wait()
	if last := r.told(jobID, name); last == nil || r.now().Sub(last.At) > 5*time.Second || !last.Since.Equal(first.At) {
		r.Errorf("told after 25 s: %+v, first %+v", last, first)
	}
}

// Whatever a step waits for outside, whoever watches is told of it while it hangs, and not any more once it has come.
func TestHangsAreTold(t *testing.T) {
	const provider, storage = backup.ProviderTimeout, backup.StorageUnavailable
	for _, tc := range []struct {
		op, file string
		kind     backup.Kind
	}{
		{"Pin", "files", provider}, {"CreateUpload", "files", storage}, {"Range", "files", provider}, {"UploadPart", "files", storage},
		{"CompleteUpload", "files", storage}, {"Head", "files", storage}, {"ReadRange", "files", storage},
		{"AbortUploads", "", storage}, {"Put", "", storage},
	} {
		inBubble(t, tc.op, func(r *rig) {
			job := r.created()
			held := r.faults.hang(tc.op)
			ended := r.executing(job)
			r.tellsOfHang(job.JobID, tc.file, tc.kind, held)
			rev := r.job(job.JobID).Rev
			close(held.release)
			if result := <-ended; result.Status != asl.Succeeded {
				t.Fatalf("%+v", result)
			}
			if tc.file != "" && rev != 2 {
				t.Errorf("the job's revision is %d: a worker's errors are no change of it", rev)
			}
			for _, name := range []string{"files", ""} {
				if got := r.told(job.JobID, name); got != nil {
					t.Errorf("done with %q: %+v", name, got)
				}
			}
		})
	}
}

// A worker whose storage may be away asks it first, and tells as well when that hangs.
func TestHangingQuestionIsTold(t *testing.T) {
	inBubble(t, "UploadedParts", func(r *rig) {
		job := r.running()
		out := r.open(job, "files")
		in := rangeIn(job, out, out.Batches[0])
		in.Retries = 2
		held := r.faults.hang("UploadedParts")
		ended := make(chan error, 1)
		go func() { ended <- second(r.exportRangeUpload().Handle(r.Context(), in)) }()
		r.tellsOfHang(job.JobID, "files", backup.StorageUnavailable, held)
		if got := r.lastError(job.JobID, "files"); got.Try != 3 {
			t.Errorf("try %d, want 3", got.Try)
		}
		close(held.release)
		r.need(<-ended)
	})
}

// stalls is a body that stops after some bytes until it is released, and then breaks off.
type stalls struct {
	io.Reader
	held *hang
}

func (s stalls) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		s.held.hold()
		return 0, backup.E(backup.ProviderShortBody, "the body broke off")
	}
	return n, err
}

// A body that stalls is the provider's fault and not that of the storage, which has nothing to take meanwhile.
func TestStallingBodyIsTold(t *testing.T) {
	inBubble(t, "body", func(r *rig) {
		job := r.running()
		out := r.open(job, "files")
		held := newHang()
		r.exports.of("files").body = func(_ int64, body io.Reader) io.Reader { return stalls{io.LimitReader(body, 1000), held} }
		ended := make(chan error, 1)
		go func() { ended <- second(r.exportRangeUpload().Handle(r.Context(), rangeIn(job, out, out.Batches[0]))) }()
		r.tellsOfHang(job.JobID, "files", backup.ProviderTimeout, held)
		close(held.release)
		r.wantKind(<-ended, backup.ProviderShortBody, "the range")
		if got := r.lastError(job.JobID, "files"); got.Kind != backup.ProviderShortBody || got.Try != 1 {
			t.Errorf("after the body broke off: %+v", got)
		}
	})
}

// Forty workers who meet the same are one write every few seconds.
func TestManyWorkersTellOnce(t *testing.T) {
	inBubble(t, "forty", func(r *rig) {
		job := r.running()
		out := r.open(job, "files")
		time.Sleep(time.Second)
		const workers = 40
		ended := make(chan error, workers)
		before := r.file(job.JobID, "files").Changes
		r.exports.of("files").onRange = make([]error, workers)
		for i := range workers {
			r.exports.of("files").onRange[i] = backup.E(backup.ProviderUnavailable, "503")
		}
		for range workers {
			go func() { ended <- second(r.exportRangeUpload().Handle(r.Context(), rangeIn(job, out, out.Batches[0]))) }()
		}
		for range workers {
			r.wantKind(<-ended, backup.ProviderUnavailable, "a worker")
		}
		f := r.file(job.JobID, "files")
		if got := r.lastError(job.JobID, "files"); f.Changes != before+1 || got == nil || got.Kind != backup.ProviderUnavailable {
			t.Errorf("%d writes, %+v", f.Changes-before, got)
		}
	})
}

// A backup whose time is over while a GET hangs says so: at the deadline as it is read, when the sweeper ends it, and when the
// state machine's own time limit does.
func TestTimeoutNamesTheHang(t *testing.T) {
	for name, end := range map[string]func(r *rig, job backup.Job){
		"sweeper": func(r *rig, _ backup.Job) { r.need(second(r.sweeper().Run(r.Context()))) },
		"machine": func(r *rig, job backup.Job) {
			r.need(r.cleaner().EndExecution(r.Context(), job.JobID, 1, backup.TimedOut, "the execution timed out"))
		},
	} {
		inBubble(t, name, func(r *rig) {
			r.policy.JobTimeout = time.Minute
			job := r.created()
			held := r.faults.hang("Range")
			ended := r.executing(job)
			<-held.reached
			time.Sleep(time.Minute)
			synctest.Wait()
			view, err := step.Status{Jobs: r.store, Files: r.store, Now: r.now}.Read(r.Context(), job.JobID)
			r.need(err)
			r.wantHangAsReason(view.Failure())
			end(r, job)
			r.wantHangAsReason(r.job(job.JobID).Failure)
			close(held.release)
			<-ended
		})
	}
}

func (r *rig) wantHangAsReason(f *backup.Failure) {
	r.Helper()
	if f == nil || f.Kind != backup.TimedOut || f.File != "files" ||
		!contains(f.Detail, "the last error was ProviderTimeout at ", ", since ", "GET of a range: no answer for more than 4s") {
		r.Errorf("timed out as %+v", f)
	}
}

func contains(text string, parts ...string) bool {
	return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(text, part) })
}
