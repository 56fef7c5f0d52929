package step

import (
	"context"
	"io"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

// JobStore keeps jobs. Reads are consistent: they see every write that returned before them. Writes that would take a user
// over one of the quotas which the store is given are refused with QuotaExceeded, here and below: the usage changes with the
// rows in one atomic write.
type JobStore interface {
	// CreateJob stores job (Rev 0) and returns it with its revision. Its id becomes backup.JobIDAfter the newest of the
	// site's jobs, those that are deleted included, so that the ids of a site are in the order of creation. With a key, the first call of a tenant wins: later
	// ones get the job of the first, or IdempotencyReuse if the body hash differs. Without that precedence the call
	// fails with SiteBusy while another job of the same site is active. One atomic write decides all of it.
	CreateJob(ctx context.Context, job backup.Job, key backup.Idempotency) (backup.Job, error)
	// GetJob fails with NotFound when there is none.
	GetJob(ctx context.Context, jobID string) (backup.Job, error)
	// SwapJob replaces the row if its revision is still next.Rev, and stores next with Rev+1. It fails with Conflict
	// if the row moved on, and with SiteBusy if next becomes active while another job of the site is.
	SwapJob(ctx context.Context, next backup.Job) error
	// ListJobs returns at most q.Limit jobs, newest first.
	ListJobs(ctx context.Context, q backup.JobQuery) ([]backup.Job, error)
	// DueJobs returns at most limit jobs with a DueAt at or before now, the longest due first.
	DueJobs(ctx context.Context, now time.Time, limit int) ([]backup.Job, error)
}

// FileStore keeps files and their parts. Every write is refused with StaleAttempt unless the job is in the guard's
// state at the moment of the write.
type FileStore interface {
	// Files returns the job's files in the order of their names. A file that has nothing but a last error is one of Rev 0.
	Files(ctx context.Context, jobID string) ([]backup.File, error)
	// GetFile fails with NotFound when the file has no row yet.
	GetFile(ctx context.Context, jobID, name string) (backup.File, error)
	// SwapFile creates (Rev 0) or replaces the row if its revision is still next.Rev, and stores next with Rev+1;
	// Conflict if the row moved on. next.Recorded, next.LastError and next.Changes are not written.
	SwapFile(ctx context.Context, g backup.FileGuard, next backup.File) error
	// RecordPart writes a part once. The first record of a number in an upload stands: recording it again succeeds
	// and changes nothing. Refused with StaleAttempt unless the job runs w.Attempt and File.CheckPart passes.
	RecordPart(ctx context.Context, w backup.PartWrite) error
	// Parts returns the recorded parts first..last (inclusive) of an upload in the order of their numbers. Those of a file
	// that is done, or of an upload that was replaced, need not be there any more; File.Recorded still counts them.
	Parts(ctx context.Context, f backup.File, first, last int) ([]backup.Part, error)
}

// ErrorStore keeps the last error of each file, for whoever watches the backup. It stands beside the file's row, which it
// does not change: a step that decides by that row loses no race to it.
type ErrorStore interface {
	// RecordError makes e the File.LastError of the file that it names, also of one that has no row yet. It succeeds and
	// changes nothing where File.RecordError says so. Refused with StaleAttempt like every write below a job.
	RecordError(ctx context.Context, g backup.FileGuard, e *backup.Failure) error
}

// SiteStore keeps sites.
type SiteStore interface {
	// GetSite fails with NotFound when the user has no such site.
	GetSite(ctx context.Context, userID, siteID string) (backup.Site, error)
	// PutSite creates (Rev 0) or replaces the row if its revision is still site.Rev, and stores Rev+1; else Conflict.
	PutSite(ctx context.Context, site backup.Site) error
	// DeleteSite fails with NotFound when there is none and with Conflict unless its revision is rev.
	DeleteSite(ctx context.Context, userID, siteID string, rev int64) error
	// ListSites returns at most q.Limit sites.
	ListSites(ctx context.Context, q backup.SiteQuery) ([]backup.Site, error)
}

// UsageStore tells what users take up.
type UsageStore interface {
	// Usage counts the bytes that were fetched on the day of at.
	Usage(ctx context.Context, userID string, at time.Time) (backup.Usage, error)
}

// TicketStore keeps the one-use tickets of the socket under a digest of their secret.
type TicketStore interface {
	PutTicket(ctx context.Context, digest string, t backup.Ticket) error
	// TakeTicket removes the ticket and returns it; NotFound when it is absent, used or expired at now.
	TakeTicket(ctx context.Context, digest string, now time.Time) (backup.Ticket, error)
}

// Purger removes rows for good. DynamoDB's TTL does the same by itself.
type Purger interface {
	// Purge removes deleted jobs with PurgeAt at or before now, with all their rows, and expired keys and tickets. Before
	// the rows of a job go it calls lastLook. If that fails the job stays, and with StorageUnavailable those after it too.
	Purge(ctx context.Context, now time.Time, lastLook func(context.Context, backup.Job) error) (jobs int, err error)
}

// Store is what a store adapter implements and the conformance suite checks.
type Store interface {
	JobStore
	FileStore
	ErrorStore
	SiteStore
	TicketStore
	UsageStore
}

// Export is one provider's export as seen by one job.
type Export struct {
	UserID    string // whose secrets SecretRef names
	URL       string
	SecretRef string // "": no Authorization header
	BackupID  string // sent as Backup-Id, so that the provider holds one snapshot for the whole job
}

// Exporter is the client of the export API. Its errors carry the Provider... kinds.
type Exporter interface {
	// Pin asks for the version and the size of the export.
	Pin(ctx context.Context, e Export) (backup.Pin, error)
	// Range opens length bytes from offset of the pinned version. The body yields exactly that many bytes and then
	// io.EOF, or an error; Close releases it at any point.
	Range(ctx context.Context, e Export, pin backup.Pin, offset, lengthBytes int64) (io.ReadCloser, error)
}

// PartBody is the content of one part. CRC64NVME is the checksum of all bytes, valid once Read has returned io.EOF.
type PartBody interface {
	io.Reader
	CRC64NVME() uint64
}

// PartUpload is one UploadPart request.
type PartUpload struct {
	Key       string
	UploadID  string
	Number    int // from 1
	SizeBytes int64
	Body      PartBody // read once, in one stream; a failed upload is not tried again with it
}

// Completion is one CompleteMultipartUpload request.
type Completion struct {
	Key       string
	UploadID  string
	SizeBytes int64
	CRC64NVME uint64 // of the whole object
	Parts     []backup.Part
}

// Object is what the storage says of an object.
type Object struct {
	SizeBytes int64
	CRC64NVME uint64
	Checked   bool // the storage holds a CRC64NVME of the whole object
	Token     string
}

// Uploader moves parts into the storage. An upload with an id of backup.SingleUploadID is never created: UploadPart puts
// its one part as the object, carrying the token, unless the object is there; CompleteUpload then has nothing to do, and
// AbortUpload removes the object. Errors carry StorageUnavailable, StorageRefused, StorageFull, ChecksumMismatch,
// ChecksumMissing, UploadConflict when another operation on the object is in the way, and UploadLost when the storage does
// not know the upload (any more), or not with the checksums of its parts.
type Uploader interface {
	// CreateUpload opens a multipart upload whose object will carry token in its metadata.
	CreateUpload(ctx context.Context, key, token string) (uploadID string, err error)
	UploadPart(ctx context.Context, p PartUpload) (etag string, err error)
	// UploadedParts lists the parts first..last (inclusive) that the storage holds, in order. It is the cheap question
	// whether the storage answers and still knows the upload. Of a single upload, whose part is the object, nothing is lost.
	UploadedParts(ctx context.Context, key, uploadID string, first, last int) ([]backup.Part, error)
	// CompleteUpload puts the object together, never over an existing one. ChecksumMismatch also when a part is not
	// the one that Parts names.
	CompleteUpload(ctx context.Context, c Completion) error
	// AbortUpload removes one upload and its parts; an unknown upload is success.
	AbortUpload(ctx context.Context, key, uploadID string) error
}

// Objects reads and removes what is stored.
type Objects interface {
	// Head fails with NotFound when there is no such object.
	Head(ctx context.Context, key string) (Object, error)
	// ReadRange opens length bytes from offset of an object.
	ReadRange(ctx context.Context, key string, offset, lengthBytes int64) (io.ReadCloser, error)
	// Put writes a small object.
	Put(ctx context.Context, key, contentType string, body []byte) error
	// PresignGet is a link that downloads the object as fileName until ttl has passed.
	PresignGet(ctx context.Context, key, fileName string, ttl time.Duration) (url string, err error)
}

// Sweeping removes whatever lives under a prefix but the keys that keep (nil: none) holds on to. Both calls go on until
// a fresh listing shows nothing more to remove, and return how many they removed.
type Sweeping interface {
	// AbortUploads also looks for uploads of each of keys, which lie under the prefix: some storages list uploads by
	// their whole key only.
	AbortUploads(ctx context.Context, prefix string, keys []string, keep func(key string) bool) (int, error)
	// DeleteObjects removes every version and delete marker.
	DeleteObjects(ctx context.Context, prefix string, keep func(key string) bool) (int, error)
}

// Executions starts and stops executions of the state machine.
type Executions interface {
	// Start starts the execution of the job's attempt. Starting it again while it is known changes nothing.
	Start(ctx context.Context, job backup.Job) error
	// Stop ends the execution of an attempt; an unknown or ended execution is success.
	Stop(ctx context.Context, jobID string, attempt int) error
}
