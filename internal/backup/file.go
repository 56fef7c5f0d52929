package backup

import (
	"cmp"
	"strconv"
	"strings"
	"time"
)

// FileStatus is the state of one provider's file, the UploadFile task; empty for one that was never opened.
type FileStatus string

const (
	FilePending    FileStatus = "pending"    // never opened; shown, but in no row
	FileOpen       FileStatus = "open"       // parts are on their way
	FileCompleting FileStatus = "completing" // every part is recorded, the object is being put together
	FileStored     FileStatus = "stored"     // the object is proven equal to the export
	FileDone       FileStatus = "done"       // ... and is a whole zip archive
	FileFailed     FileStatus = "failed"
)

// Pin is one version of an export.
type Pin struct {
	ETag      string `json:"etag"` // strong, with its quotes
	SizeBytes int64  `json:"sizeBytes"`
}

// File is the UploadFile task: one provider's export and its object.
type File struct {
	JobID         string
	Name          string // of the provider
	Status        FileStatus
	Attempt       int    // that last opened or resumed it
	UploadID      string // of the multipart upload
	Key           string
	Token         string // stands in the object's metadata: proves that an object is ours
	Pin           Pin
	PartSizeBytes int64
	CRC64NVME     uint64 // of the whole object, from completing on
	Archive       Archive
	Failure       *Failure
	Restarts      int // uploads begun anew within the attempt
	Uploads       int // opened so far, in all attempts; numbers their keys
	CreatedAt     time.Time
	UpdatedAt     time.Time
	FinishedAt    time.Time
	Rev           int64 // 0: not stored yet

	// Filled by the store on reading, never written by a transition.
	Recorded  Progress
	LastError *Failure // the last that was recorded of it, which nothing but people go by
	Changes   int64    // grows by one with every write to the file, its parts or its last error
}

// Progress counts the recorded parts of the current upload.
type Progress struct {
	Parts int
	Bytes int64
	At    time.Time // when the last of them was recorded
}

// Archive is what the zip's directory says.
type Archive struct {
	Entries           int64 `json:"entries"`
	UncompressedBytes int64 `json:"uncompressedBytes"`
}

// Part is one recorded part of an upload.
type Part struct {
	Number    int // from 1
	ETag      string
	SizeBytes int64
	CRC64NVME uint64
}

// PartWrite is T2: part of the given upload, recorded by a worker of the given attempt.
type PartWrite struct {
	JobID    string
	Attempt  int
	File     string
	UploadID string
	Part     Part
	At       time.Time
}

// FileGuard is the state of the job without which no write to one of its files is accepted.
type FileGuard struct {
	JobID   string
	Status  Status
	Attempt int
}

// Guard is the guard of a worker of the given attempt.
func Guard(jobID string, attempt int) FileGuard {
	return FileGuard{JobID: jobID, Status: Running, Attempt: attempt}
}

// Upload is a multipart upload just opened in the storage.
type Upload struct {
	UploadID      string
	Key           string
	Token         string
	PartSizeBytes int64 // 0: PartSizeBytes of the file
}

// singlePrefix begins the id of an upload that needs no multipart upload.
const singlePrefix = "single-"

// SingleUploadID is the id of the upload of a file that is one part: the part is put as the object itself, in one
// request instead of three. As with any upload, nothing is ever put over an existing object.
func SingleUploadID(token string) string { return singlePrefix + token }

// SingleUploadToken is the token in an id made by SingleUploadID; false for the id of a multipart upload.
func SingleUploadToken(uploadID string) (token string, ok bool) {
	return strings.CutPrefix(uploadID, singlePrefix)
}

// Open is T1 and T6: the file gets a fresh upload of the given pin. A file whose object is being put together is
// opened anew only when its upload is lost for good (lost).
func (f File) Open(attempt int, u Upload, pin Pin, lost bool, now time.Time) (File, error) {
	switch f.Status {
	case FileStored, FileDone:
		return f, ErrAlready
	case FileCompleting:
		if !lost {
			return f, E(IllegalState, "file %s is completing", f.Name)
		}
	}
	if f.CreatedAt.IsZero() {
		f.CreatedAt = now
	}
	replaced := f.UploadID != "" && (f.Attempt == attempt || f.Status != FileFailed)
	if f.Restarts = f.RestartsIn(attempt); replaced {
		f.Restarts++
	}
	f.Status, f.Attempt, f.Pin, f.PartSizeBytes = FileOpen, attempt, pin, cmp.Or(u.PartSizeBytes, PartSizeBytes(pin.SizeBytes))
	f.UploadID, f.Key, f.Token = u.UploadID, u.Key, u.Token
	f.Uploads++
	f.CRC64NVME, f.Archive, f.Failure, f.UpdatedAt = 0, Archive{}, nil, now
	f.FinishedAt = time.Time{}
	return f, nil
}

// Resume hands an open upload, or the one that a failed attempt left, to the given attempt.
func (f File) Resume(attempt int, now time.Time) (File, error) {
	if f.Status == FileOpen && f.Attempt == attempt && f.UnresolvedError() == nil {
		return f, ErrAlready
	}
	if !f.Resumable() {
		return f, E(IllegalState, "file %s is %s: nothing to resume", f.Name, f.Status)
	}
	f.Restarts = f.RestartsIn(attempt)
	f.Status, f.Attempt, f.Failure, f.FinishedAt, f.UpdatedAt = FileOpen, attempt, nil, time.Time{}, now
	return f, nil
}

// RestartsIn is how often the given attempt has begun the upload anew. A retry starts counting afresh: it may be asked
// for because what spoilt the uploads of the last attempt is mended.
func (f File) RestartsIn(attempt int) int {
	if f.Attempt != attempt {
		return 0
	}
	return f.Restarts
}

// Resumable tells whether an upload is open that a worker may go on with.
func (f File) Resumable() bool {
	return f.UploadID != "" && (f.Status == FileOpen || f.Status == FileFailed)
}

// Completing is T3, after the parts were proven complete; crc is the whole object's.
func (f File) Completing(uploadID string, crc uint64, now time.Time) (File, error) {
	if f.Status == FileCompleting && f.UploadID == uploadID {
		return f, ErrAlready
	}
	if f.Status != FileOpen || f.UploadID != uploadID {
		return f, E(StaleAttempt, "file %s is %s with another upload", f.Name, f.Status)
	}
	f.Status, f.CRC64NVME, f.UpdatedAt = FileCompleting, crc, now
	return f, nil
}

// Stored is T5: the storage showed our token, the pinned size and our checksum.
func (f File) Stored(uploadID string, now time.Time) (File, error) {
	if f.Settled() && f.UploadID == uploadID {
		return f, ErrAlready
	}
	if f.Status != FileCompleting || f.UploadID != uploadID {
		return f, E(StaleAttempt, "file %s is %s with another upload", f.Name, f.Status)
	}
	f.Status, f.UpdatedAt = FileStored, now
	return f, nil
}

// Inspected is T7: the stored object is a whole zip archive.
func (f File) Inspected(uploadID string, a Archive, now time.Time) (File, error) {
	if f.Status == FileDone && f.UploadID == uploadID {
		return f, ErrAlready
	}
	if f.Status != FileStored || f.UploadID != uploadID {
		return f, E(StaleAttempt, "file %s is %s with another upload", f.Name, f.Status)
	}
	f.Status, f.Archive, f.UpdatedAt, f.FinishedAt = FileDone, a, now, now
	return f, nil
}

// Fail is T8. A file that is done stays done. A later attempt that fails for another reason replaces the reason.
func (f File) Fail(failure *Failure, now time.Time) (File, error) {
	if f.Status == FileDone || (f.Status == FileFailed && f.Failure.same(failure)) {
		return f, ErrAlready
	}
	if f.CreatedAt.IsZero() {
		f.CreatedAt = now
	}
	f.Status, f.Failure, f.UpdatedAt, f.FinishedAt = FileFailed, failure, now, now
	return f, nil
}

// Forget is T9: what the file had in the storage is gone, a later attempt begins it anew.
func (f File) Forget(failure *Failure, now time.Time) (File, error) {
	if f.Status == FileFailed && f.UploadID == "" {
		return f, ErrAlready
	}
	f.Status, f.UploadID, f.Key, f.Token, f.UpdatedAt = FileFailed, "", "", "", now
	if f.Failure == nil {
		f.Failure = failure
	}
	return f, nil
}

// recentError is how long an error is news that is not recorded again: the longest pause between two tries of a step, and
// some more.
const recentError = 5 * time.Minute

// RecordError makes of an error the last one of the file, which keeps since when errors of its kind have come.
func (f File) RecordError(e *Failure) (*Failure, error) {
	if f.Status == FileDone || f.LastError.recent(e) {
		return nil, ErrAlready
	}
	return e.after(f.ErrorAt(e.At)), nil
}

// UnresolvedError is the last error, unless the file has moved on since.
func (f File) UnresolvedError() *Failure {
	if f.LastError == nil || !f.LastError.At.After(f.UpdatedAt) || !f.LastError.At.After(f.Recorded.At) {
		return nil
	}
	return f.LastError
}

// ErrorAt is the error that a reader at now is shown: the unresolved one while it is news.
func (f File) ErrorAt(now time.Time) *Failure {
	e := f.UnresolvedError()
	if e == nil || now.Sub(e.At) > recentError {
		return nil
	}
	return e
}

// ShownStatus is the status under which clients know the file.
func (f File) ShownStatus() FileStatus { return cmp.Or(f.Status, FilePending) }

// Settled tells whether the file's upload has become an object.
func (f File) Settled() bool { return f.Status == FileStored || f.Status == FileDone }

// ProveParts checks that parts are exactly 1..n of the file, each of its planned size, in order.
func (f File) ProveParts(parts []Part) error {
	if len(parts) != f.PartCount() {
		return E(Internal, "file %s has %d of %d parts", f.Name, len(parts), f.PartCount())
	}
	for i, p := range parts {
		if _, want := f.PartRange(i + 1); p.Number != i+1 || p.SizeBytes != want {
			return E(Internal, "file %s: position %d holds part %d of %d bytes, want %d bytes", f.Name, i+1, p.Number, p.SizeBytes, want)
		}
	}
	return nil
}

// CheckPart is the guard of T2 below the job: the upload is the current one and not being put together.
func (f File) CheckPart(w PartWrite) error {
	if f.Status != FileOpen || f.UploadID != w.UploadID || f.Attempt != w.Attempt {
		return E(StaleAttempt, "file %s is %s in attempt %d: part %s of another upload", f.Name, f.Status, f.Attempt, strconv.Itoa(w.Part.Number))
	}
	return nil
}
