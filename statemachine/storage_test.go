package statemachine_test

import (
	"testing"

	"github.com/sitevault/sitevault/internal/asl"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
)

// A completion that another operation is in the way of is tried again for a while, then the upload is begun anew, three times.
func TestConflictAtCompletion(t *testing.T) {
	const tries = 6 // of one upload
	for name, tc := range map[string]struct {
		conflicts int // completions that are refused
		uploads   int
		fails     bool
	}{
		"passing":    {tries - 1, 1, false},
		"persistent": {tries, 2, false},
		"for good":   {1_000, 1 + backup.MaxRestarts, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFlow(t)
			f.create("files")
			f.storage.Intercept = func(c backuptest.StorageCall) error {
				if c.Op == "CompleteUpload" && c.N <= tc.conflicts {
					return backup.E(backup.UploadConflict, "409")
				}
				return nil
			}
			result := run(t, f.handlers())
			job, err := f.store.GetJob(t.Context(), jobID)
			if err != nil || (result.Status == asl.Succeeded) == tc.fails {
				t.Fatalf("%s %s %s, %v", result.Status, result.Error, result.Cause, err)
			}
			if tc.fails && (job.Status != backup.Failed || job.Failure.Kind != backup.UploadConflict) {
				t.Errorf("%s with %+v", job.Status, job.Failure)
			}
			if n := f.storage.Calls("CreateUpload"); n != tc.uploads {
				t.Errorf("%d uploads, want %d", n, tc.uploads)
			}
			if n, want := f.storage.Calls("CompleteUpload"), min(tc.conflicts+1, tries*tc.uploads); n != want {
				t.Errorf("%d completions, want %d", n, want)
			}
		})
	}
}

// An upload that is being removed by somebody while its parts are listed is begun anew.
func TestUploadRemovedWhileListed(t *testing.T) {
	f := newFlow(t)
	f.create("files")
	f.storage.Intercept = func(c backuptest.StorageCall) error {
		switch {
		case c.Op == "CompleteUpload" && c.N == 1:
			return backup.E(backup.ChecksumMismatch, "part 1 is not there")
		case c.Op == "UploadedParts" && c.N == 1:
			return backup.E(backup.UploadLost, "part 1 is listed without its checksum")
		}
		return nil
	}
	if result := run(t, f.handlers()); result.Status != asl.Succeeded || f.storage.Calls("CreateUpload") != 2 || f.storage.Calls("UploadedParts") != 1 {
		t.Errorf("%s %s %s after %d uploads", result.Status, result.Error, result.Cause, f.storage.Calls("CreateUpload"))
	}
}

// A storage without room is not asked again and again: the attempt fails, and the service tries again after a pause.
func TestFullStorage(t *testing.T) {
	f := newFlow(t)
	f.create("files")
	f.storage.CapacityBytes = f.exports.content.Size() - 1
	result := run(t, f.handlers())
	job, err := f.store.GetJob(t.Context(), jobID)
	if err != nil || result.Status != asl.Failed || !job.WaitsToTry() || job.LastError.Kind != backup.StorageFull {
		t.Fatalf("%s; %s with %+v, %v", result.Status, job.Status, job.LastError, err)
	}
	if n := f.storage.Calls("UploadPart"); n != 1 {
		t.Errorf("%d parts were sent", n)
	}
}

// A storage that never reports a checksum is told as that, once the object is there, and at once.
func TestChecksumIsNeverReported(t *testing.T) {
	f := newFlow(t)
	f.create("files")
	f.storage.Intercept = func(c backuptest.StorageCall) error {
		if c.Op == "Head" && !c.After {
			return backup.E(backup.ChecksumMissing, "the storage reports no CRC64NVME of the whole")
		}
		return nil
	}
	if result := run(t, f.handlers()); result.Status != asl.Failed || result.Error != string(backup.ChecksumMissing) || f.storage.Calls("Head") != 1 {
		t.Errorf("%s %s %s after %d HEADs", result.Status, result.Error, result.Cause, f.storage.Calls("Head"))
	}
}
