package dynamo_test

import (
	"testing"

	"github.com/sitevault/sitevault/internal/backup"
)

// A new attempt's worker cannot record into a file that is still the old attempt's.
func TestFileOfOldAttemptAdmitsNoPart(t *testing.T) {
	store, _ := rowsOf(t)
	job, file := openFile(t, store, 1)
	job.Attempt = 2
	swap(t, store, job)
	w := partOf(file, 1)
	for _, w.Attempt = range []int{1, 2} {
		if err := store.RecordPart(t.Context(), w); !backup.Is(err, backup.StaleAttempt) {
			t.Errorf("part of attempt %d: got %v", w.Attempt, err)
		}
	}
	file.Attempt = 2
	if err := store.SwapFile(t.Context(), backup.Guard(job.JobID, 2), file); err != nil {
		t.Fatal(err)
	}
	if err := store.RecordPart(t.Context(), w); err != nil {
		t.Errorf("part of the resumed file: %v", err)
	}
}

// A file that loses its upload after it has failed counts no parts any more.
func TestForgottenUploadCountsNothing(t *testing.T) {
	store, _ := rowsOf(t)
	job, file := openFile(t, store, 1)
	if err := store.RecordPart(t.Context(), partOf(file, 1)); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		uploadID string
		want     int
	}{{file.UploadID, 1}, {"", 0}} {
		file.Status, file.UploadID = backup.FileFailed, step.uploadID
		if err := store.SwapFile(t.Context(), backup.Guard(job.JobID, 1), file); err != nil {
			t.Fatal(err)
		}
		file.Rev++
		got, err := store.GetFile(t.Context(), job.JobID, file.Name)
		if err != nil || got.Recorded.Parts != step.want {
			t.Errorf("upload %q: %d parts recorded, %v", step.uploadID, got.Recorded.Parts, err)
		}
	}
}

// The same creation twice, id and all, is the first once more.
func TestSameCreationTwice(t *testing.T) {
	store, _ := rowsOf(t)
	for range 2 {
		got, err := store.CreateJob(t.Context(), newJob(1), backup.Idempotency{UserID: "ada", Key: "k", BodyHash: "h", ExpiresAt: epoch.AddDate(0, 0, 1)})
		if err != nil || got.JobID != newJob(1).JobID || got.Rev != 1 {
			t.Errorf("got %+v, %v", got, err)
		}
	}
}
