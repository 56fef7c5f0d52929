package backup_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

var (
	pin    = backup.Pin{ETag: `"v1"`, SizeBytes: 40 << 20} // three parts
	upload = backup.Upload{UploadID: "upload-1", Key: "ada/blog/" + jobID + "/files-a2-x.zip", Token: "token-1"}
	fresh  = backup.Upload{UploadID: "upload-2", Key: "ada/blog/" + jobID + "/files-a2-y.zip", Token: "token-2"}
)

// The states of a file, as the rows of the tables name them.
const (
	fileNew      = "new"
	fileSwept    = "swept" // failed, and what it had in the storage is gone
	fileOpen     = string(backup.FileOpen)
	fileComplete = string(backup.FileCompleting)
	fileStored   = string(backup.FileStored)
	fileDone     = string(backup.FileDone)
	fileFailed   = string(backup.FileFailed)
	fileUnopened = "failed unopened"
)

var fileStates = []string{fileNew, fileOpen, fileComplete, fileStored, fileDone, fileFailed, fileSwept, fileUnopened}

// fileIn brings a file into a state by legal transitions, in attempt 2.
func fileIn(t *testing.T, state string) backup.File {
	t.Helper()
	f := backup.File{JobID: jobID, Name: "files"}
	step := func(next backup.File, err error) { f = must(t, next, err) }
	switch state {
	case fileNew:
		return f
	case fileUnopened:
		step(f.Fail(failure(backup.ProviderRefused), epoch))
		return f
	}
	step(f.Open(2, upload, pin, false, epoch))
	switch state {
	case fileComplete, fileStored, fileDone:
		step(f.Completing(upload.UploadID, 42, epoch))
	case fileFailed, fileSwept:
		step(f.Fail(failure(backup.ProviderUnavailable), epoch))
	}
	switch state {
	case fileStored, fileDone:
		step(f.Stored(upload.UploadID, epoch))
	case fileSwept:
		step(f.Forget(failure(backup.ProviderUnavailable), epoch))
	}
	if state == fileDone {
		step(f.Inspected(upload.UploadID, backup.Archive{Entries: 3}, epoch))
	}
	f.Rev = 5
	return f
}

type fileTransition struct {
	id    string
	apply func(f backup.File) (backup.File, error)
	want  map[string]string // by state
}

func fileTransitions() []fileTransition {
	return []fileTransition{
		{
			"T1/T6 Open", func(f backup.File) (backup.File, error) { return f.Open(2, fresh, pin, false, epoch) },
			map[string]string{
				fileNew: "-> open", fileOpen: "-> open", fileComplete: illegal, fileStored: "already", fileDone: "already",
				fileFailed: "-> open", fileSwept: "-> open", fileUnopened: "-> open",
			},
		},
		{
			"T6 Open a lost upload", func(f backup.File) (backup.File, error) { return f.Open(2, fresh, pin, true, epoch) },
			map[string]string{
				fileNew: "-> open", fileOpen: "-> open", fileComplete: "-> open", fileStored: "already", fileDone: "already",
				fileFailed: "-> open", fileSwept: "-> open", fileUnopened: "-> open",
			},
		},
		{
			"Resume by the same attempt", func(f backup.File) (backup.File, error) { return f.Resume(2, epoch) },
			map[string]string{
				fileNew: illegal, fileOpen: "already", fileComplete: illegal, fileStored: illegal, fileDone: illegal,
				fileFailed: "-> open", fileSwept: illegal, fileUnopened: illegal,
			},
		},
		{
			"Resume by a later attempt", func(f backup.File) (backup.File, error) { return f.Resume(3, epoch) },
			map[string]string{
				fileNew: illegal, fileOpen: "-> open", fileComplete: illegal, fileStored: illegal, fileDone: illegal,
				fileFailed: "-> open", fileSwept: illegal, fileUnopened: illegal,
			},
		},
		{
			"T3 Completing", func(f backup.File) (backup.File, error) { return f.Completing(upload.UploadID, 42, epoch) },
			map[string]string{
				fileNew: stale, fileOpen: "-> completing", fileComplete: "already", fileStored: stale, fileDone: stale,
				fileFailed: stale, fileSwept: stale, fileUnopened: stale,
			},
		},
		{
			"T3 Completing another upload", func(f backup.File) (backup.File, error) { return f.Completing(fresh.UploadID, 42, epoch) },
			map[string]string{
				fileNew: stale, fileOpen: stale, fileComplete: stale, fileStored: stale, fileDone: stale,
				fileFailed: stale, fileSwept: stale, fileUnopened: stale,
			},
		},
		{
			"T5 Stored", func(f backup.File) (backup.File, error) { return f.Stored(upload.UploadID, epoch) },
			map[string]string{
				fileNew: stale, fileOpen: stale, fileComplete: "-> stored", fileStored: "already", fileDone: "already",
				fileFailed: stale, fileSwept: stale, fileUnopened: stale,
			},
		},
		{
			"T5 Stored by another upload", func(f backup.File) (backup.File, error) { return f.Stored(fresh.UploadID, epoch) },
			map[string]string{
				fileNew: stale, fileOpen: stale, fileComplete: stale, fileStored: stale, fileDone: stale,
				fileFailed: stale, fileSwept: stale, fileUnopened: stale,
			},
		},
		{
			"T7 Inspected", func(f backup.File) (backup.File, error) {
				return f.Inspected(upload.UploadID, backup.Archive{Entries: 1}, epoch)
			},
			map[string]string{
				fileNew: stale, fileOpen: stale, fileComplete: stale, fileStored: "-> done", fileDone: "already",
				fileFailed: stale, fileSwept: stale, fileUnopened: stale,
			},
		},
		{
			"T7 Inspected, another upload", func(f backup.File) (backup.File, error) {
				return f.Inspected(fresh.UploadID, backup.Archive{Entries: 1}, epoch)
			},
			map[string]string{
				fileNew: stale, fileOpen: stale, fileComplete: stale, fileStored: stale, fileDone: stale,
				fileFailed: stale, fileSwept: stale, fileUnopened: stale,
			},
		},
		{
			"T8 Fail", func(f backup.File) (backup.File, error) { return f.Fail(failure(backup.ProviderUnavailable), epoch) },
			map[string]string{
				fileNew: "-> failed", fileOpen: "-> failed", fileComplete: "-> failed", fileStored: "-> failed", fileDone: "already",
				fileFailed: "already", fileSwept: "already", fileUnopened: "-> failed",
			},
		},
		{
			"T9 Forget", func(f backup.File) (backup.File, error) { return f.Forget(failure(backup.Cancelled), epoch) },
			map[string]string{
				fileNew: "-> failed", fileOpen: "-> failed", fileComplete: "-> failed", fileStored: "-> failed", fileDone: "-> failed",
				fileFailed: "-> failed", fileSwept: "already", fileUnopened: "already",
			},
		},
	}
}

// Every transition of a file is legal in exactly the states that design section 5 names.
func TestFileTransitions(t *testing.T) {
	for _, tr := range fileTransitions() {
		for _, state := range fileStates {
			f := fileIn(t, state)
			next, err := tr.apply(f)
			if got := outcomeOf(backup.Status(next.Status), err); got != tr.want[state] {
				t.Errorf("%s of a file %s: %s, want %s", tr.id, state, got, tr.want[state])
			}
			if err != nil && !reflect.DeepEqual(next, f) {
				t.Errorf("%s of a file %s changed it although it answered %v", tr.id, state, err)
			}
		}
	}
}

// A transition that finds its own result in place says so. Opening is the exception: each call brings a new upload.
func TestFileTransitionsRepeated(t *testing.T) {
	for _, tr := range fileTransitions() {
		for _, state := range fileStates {
			next, err := tr.apply(fileIn(t, state))
			if err != nil || tr.id == "T1/T6 Open" || tr.id == "T6 Open a lost upload" {
				continue
			}
			if _, err := tr.apply(next); !errors.Is(err, backup.ErrAlready) {
				t.Errorf("%s of a file %s, repeated: %v", tr.id, state, err)
			}
		}
	}
}

// An error of the same kind is not recorded again within three seconds, keeps since when it has come, and is over as soon as
// the file gets on.
func TestRecordError(t *testing.T) {
	at := func(d time.Duration, kind backup.Kind) *backup.Failure {
		return backup.NewFailure(kind, "files", "slow", epoch.Add(d))
	}
	f := fileIn(t, fileOpen)
	f.UpdatedAt = epoch.Add(-time.Second)
	first, err := f.RecordError(at(0, backup.ProviderTimeout))
	if err != nil || !first.Since.Equal(epoch) {
		t.Fatalf("%+v, %v", first, err)
	}
	f.LastError = first
	for _, tc := range []struct {
		after    time.Duration
		kind     backup.Kind
		recorded bool
		since    time.Duration
	}{
		{2999 * time.Millisecond, backup.ProviderTimeout, false, 0},
		{3 * time.Second, backup.ProviderTimeout, true, 0},
		{5 * time.Minute, backup.ProviderTimeout, true, 0},
		{5*time.Minute + 1, backup.ProviderTimeout, true, 5*time.Minute + 1},
		{time.Second, backup.StorageUnavailable, true, time.Second},
	} {
		next, err := f.RecordError(at(tc.after, tc.kind))
		if (err == nil) != tc.recorded || (err == nil && !next.Since.Equal(epoch.Add(tc.since))) {
			t.Errorf("%s after %s: %+v, %v", tc.kind, tc.after, next, err)
		}
	}
	for name, moved := range map[string]func(*backup.File){
		"written":  func(f *backup.File) { f.UpdatedAt = epoch },
		"recorded": func(f *backup.File) { f.Recorded.At = epoch },
	} {
		next := f
		moved(&next)
		if f.ErrorAt(epoch) != first || next.ErrorAt(epoch) != nil || f.ErrorAt(epoch.Add(5*time.Minute+1)) != nil {
			t.Errorf("%s: the error is shown although the file has moved on, or not before", name)
		}
		later, err := next.RecordError(at(4*time.Second, backup.ProviderTimeout))
		if err != nil || !later.Since.Equal(later.At) {
			t.Errorf("%s: %+v, %v", name, later, err)
		}
	}
	if _, err := fileIn(t, fileDone).RecordError(first); !errors.Is(err, backup.ErrAlready) {
		t.Errorf("of a file that is done: %v", err)
	}
}

// T2's guard below the job: open, this upload, this attempt.
func TestCheckPart(t *testing.T) {
	for _, state := range fileStates {
		for _, uploadID := range []string{upload.UploadID, fresh.UploadID} {
			for _, attempt := range []int{1, 2, 3} {
				err := fileIn(t, state).CheckPart(backup.PartWrite{UploadID: uploadID, Attempt: attempt, Part: backup.Part{Number: 1}})
				legal := state == fileOpen && uploadID == upload.UploadID && attempt == 2
				if legal != (err == nil) || (err != nil && !backup.Is(err, backup.StaleAttempt)) {
					t.Errorf("part of %s by attempt %d for a file %s: %v", uploadID, attempt, state, err)
				}
			}
		}
	}
}

// Opening takes over the upload and the pin and clears what the last upload left.
func TestOpenClears(t *testing.T) {
	f := fileIn(t, fileComplete)
	f.Archive, f.Failure, f.FinishedAt = backup.Archive{Entries: 1}, failure(backup.UploadLost), epoch
	changed := backup.Pin{ETag: `"v2"`, SizeBytes: 1 << 40}
	now := epoch.Add(time.Hour)
	next, err := f.Open(2, fresh, changed, true, now)
	if err != nil {
		t.Fatal(err)
	}
	want := f
	want.Status, want.Pin, want.PartSizeBytes = backup.FileOpen, changed, backup.PartSizeBytes(changed.SizeBytes)
	want.UploadID, want.Key, want.Token = fresh.UploadID, fresh.Key, fresh.Token
	want.CRC64NVME, want.Archive, want.Failure, want.FinishedAt = 0, backup.Archive{}, nil, time.Time{}
	want.Restarts, want.Uploads, want.UpdatedAt = 1, f.Uploads+1, now
	if !reflect.DeepEqual(next, want) {
		t.Errorf("got  %+v\nwant %+v", next, want)
	}
}

// Restarts count within one attempt; a retry counts afresh, whichever way it takes the file over.
func TestRestartsCountByAttempt(t *testing.T) {
	f := fileIn(t, fileOpen)
	for want := 1; want <= 3; want++ {
		f = must2(t)(f.Open(2, fresh, pin, true, epoch))
		if f.RestartsIn(2) != want || f.RestartsIn(3) != 0 {
			t.Fatalf("after %d restarts: %d in attempt 2, %d in attempt 3", want, f.RestartsIn(2), f.RestartsIn(3))
		}
	}
	failed := must2(t)(f.Fail(failure(backup.UploadLost), epoch))
	if resumed := must2(t)(failed.Resume(3, epoch)); resumed.Restarts != 0 {
		t.Errorf("resumed by a retry: %d restarts", resumed.Restarts)
	}
	if opened := must2(t)(failed.Open(3, fresh, pin, false, epoch)); opened.Restarts != 0 {
		t.Errorf("opened by a retry: %d restarts", opened.Restarts)
	}
	if again := must2(t)(failed.Resume(2, epoch)); again.Restarts != 3 {
		t.Errorf("resumed by the same attempt: %d restarts", again.Restarts)
	}
}

func must2(t *testing.T) func(backup.File, error) backup.File {
	return func(f backup.File, err error) backup.File { t.Helper(); return must(t, f, err) }
}

// The reason that counts is the last attempt's.
func TestFailReplacesReason(t *testing.T) {
	f := fileIn(t, fileFailed)
	next, err := f.Fail(failure(backup.ProviderRefused), epoch)
	if err != nil || next.Failure.Kind != backup.ProviderRefused {
		t.Errorf("failure %+v, %v", next.Failure, err)
	}
}

// A swept file keeps the reason it failed for; one that was swept while it had none gets the job's.
func TestForgetKeepsReason(t *testing.T) {
	f := must2(t)(fileIn(t, fileFailed).Forget(failure(backup.Cancelled), epoch))
	if f.Failure.Kind != backup.ProviderUnavailable || f.UploadID != "" || f.Key != "" || f.Token != "" || f.Resumable() {
		t.Errorf("forgotten: %+v", f)
	}
	if f = must2(t)(fileIn(t, fileOpen).Forget(failure(backup.Cancelled), epoch)); f.Failure.Kind != backup.Cancelled {
		t.Errorf("forgotten while open: %+v", f.Failure)
	}
}

// Only the exact parts 1..n of the planned sizes prove a file complete.
func TestProveParts(t *testing.T) {
	full := []backup.Part{{Number: 1, SizeBytes: 16 << 20}, {Number: 2, SizeBytes: 16 << 20}, {Number: 3, SizeBytes: 8 << 20}}
	for _, tc := range []struct {
		name   string
		change func([]backup.Part) []backup.Part
		ok     bool
	}{
		{"all", func(p []backup.Part) []backup.Part { return p }, true},
		{"none", func(p []backup.Part) []backup.Part { return nil }, false},
		{"last missing", func(p []backup.Part) []backup.Part { return p[:2] }, false},
		{"one too many", func(p []backup.Part) []backup.Part { return append(p, backup.Part{Number: 4}) }, false},
		{"one twice", func(p []backup.Part) []backup.Part { p[1] = p[0]; return p }, false},
		{"out of order", func(p []backup.Part) []backup.Part { p[0], p[1] = p[1], p[0]; return p }, false},
		{"a byte short", func(p []backup.Part) []backup.Part { p[2].SizeBytes--; return p }, false},
		{"a byte long", func(p []backup.Part) []backup.Part { p[0].SizeBytes++; return p }, false},
	} {
		err := fileIn(t, fileOpen).ProveParts(tc.change(append([]backup.Part(nil), full...)))
		if tc.ok != (err == nil) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

// Opening an upload creates its tasks; reaching an end finishes the file's.
func TestFileEvents(t *testing.T) {
	reopened := fileIn(t, fileOpen)
	reopened.UploadID = fresh.UploadID
	resumed := fileIn(t, fileOpen)
	for _, tc := range []struct {
		old, next backup.File
		want      []backup.EventName
	}{
		{backup.File{}, fileIn(t, fileOpen), []backup.EventName{backup.UploadTaskCreated, backup.UploadPartTaskCreated}},
		{fileIn(t, fileOpen), reopened, []backup.EventName{backup.UploadPartTaskCreated}},
		{fileIn(t, fileFailed), resumed, nil},
		{fileIn(t, fileOpen), fileIn(t, fileComplete), nil},
		{fileIn(t, fileStored), fileIn(t, fileDone), []backup.EventName{backup.UploadFileTaskFinished}},
		{fileIn(t, fileOpen), fileIn(t, fileFailed), []backup.EventName{backup.UploadFileTaskFinished}},
		{fileIn(t, fileFailed), fileIn(t, fileSwept), nil},
	} {
		if got := backup.FileEvents(tc.old, tc.next); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%q -> %q: %v, want %v", tc.old.Status, tc.next.Status, got, tc.want)
		}
	}
}
