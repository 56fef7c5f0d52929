package backup

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kind is the machine name of a failure. The list is closed and append-only: names stand in rows, in answers of the
// API and in the Retry and Catch fields of the state machine.
type Kind string

const (
	// The provider.
	ProviderUnavailable Kind = "ProviderUnavailable"
	ProviderPreparing   Kind = "ProviderPreparing"
	ProviderTimeout     Kind = "ProviderTimeout"
	ProviderShortBody   Kind = "ProviderShortBody"
	ProviderChanged     Kind = "ProviderChanged"
	ProviderRefused     Kind = "ProviderRefused"
	ProviderNotFound    Kind = "ProviderNotFound"
	ProviderUnexpected  Kind = "ProviderUnexpected"
	ProviderRedirected  Kind = "ProviderRedirected"
	ProviderUnpinned    Kind = "ProviderUnpinned"
	ProviderUnsized     Kind = "ProviderUnsized"
	ProviderNoRanges    Kind = "ProviderNoRanges"
	ProviderWrongRange  Kind = "ProviderWrongRange"
	ProviderEncoded     Kind = "ProviderEncoded"
	ProviderLongBody    Kind = "ProviderLongBody"
	AddressForbidden    Kind = "AddressForbidden"
	SecretExposed       Kind = "SecretExposed"
	SecretMissing       Kind = "SecretMissing"
	ExportEmpty         Kind = "ExportEmpty"
	ExportTooLarge      Kind = "ExportTooLarge"
	ArchiveInvalid      Kind = "ArchiveInvalid"

	// The storage.
	StorageUnavailable Kind = "StorageUnavailable"
	StorageRefused     Kind = "StorageRefused"
	UploadLost         Kind = "UploadLost"
	ChecksumMismatch   Kind = "ChecksumMismatch"
	ChecksumMissing    Kind = "ChecksumMissing"
	StorageFull        Kind = "StorageFull"
	UploadConflict     Kind = "UploadConflict"

	// The flow.
	BatchUnfinished  Kind = "BatchUnfinished"
	NoRoom           Kind = "NoRoom"
	Conflict         Kind = "Conflict"
	StaleAttempt     Kind = "StaleAttempt"
	StoreUnavailable Kind = "StoreUnavailable"
	TimedOut         Kind = "TimedOut"
	Cancelled        Kind = "Cancelled"
	Internal         Kind = "Internal"

	// Requests to the API.
	InvalidRequest   Kind = "InvalidRequest"
	NotFound         Kind = "NotFound"
	Unauthenticated  Kind = "Unauthenticated"
	IdempotencyReuse Kind = "IdempotencyReuse"
	SiteBusy         Kind = "SiteBusy"
	IllegalState     Kind = "IllegalState"
	NotRetryable     Kind = "NotRetryable"
	QuotaExceeded    Kind = "QuotaExceeded"
	TooManyRequests  Kind = "TooManyRequests"

	// The issuer of tokens.
	IssuerUnavailable Kind = "IssuerUnavailable"
)

type kindFacts struct {
	retryable bool
	sentence  string
}

var kinds = map[Kind]kindFacts{
	ProviderUnavailable: {true, "The site's export service did not answer properly."},
	ProviderPreparing:   {true, "The site's export service is still preparing the export."},
	ProviderTimeout:     {true, "The site's export service took too long to answer."},
	ProviderShortBody:   {true, "The site's export service sent less than it announced."},
	ProviderChanged:     {true, "The site's export changed while it was being read."},
	ProviderRefused:     {false, "The site's export service refused our credentials."},
	ProviderNotFound:    {false, "The site's export service does not know this export."},
	ProviderUnexpected:  {false, "The site's export service gave an answer that the contract does not allow."},
	ProviderRedirected:  {false, "The site's export service redirects elsewhere; register the final URL."},
	ProviderUnpinned:    {false, "The site's export service sends no strong ETag, so ranges of one version cannot be told from another's."},
	ProviderUnsized:     {false, "The site's export service does not say how large the export is."},
	ProviderNoRanges:    {false, "The site's export service ignores byte ranges."},
	ProviderWrongRange:  {false, "The site's export service answered with another range than the one asked for."},
	ProviderEncoded:     {false, "The site's export service compressed the answer although plain bytes were asked for."},
	ProviderLongBody:    {false, "The site's export service sent more than it announced."},
	AddressForbidden:    {false, "The site's export address lies in a network that Sitevault never calls."},
	SecretExposed:       {false, "The site's secret would travel unencrypted; register an https URL."},
	SecretMissing:       {false, "The secret that the site's provider names is not stored."},
	ExportEmpty:         {false, "The site's export is empty."},
	ExportTooLarge:      {false, "The site's export is larger than the site's limit."},
	ArchiveInvalid:      {false, "What the site exported is not a complete zip archive."},
	StorageUnavailable:  {true, "The storage did not answer properly."},
	StorageRefused:      {false, "The storage refused our request."},
	UploadLost:          {true, "The storage no longer knows the upload."},
	ChecksumMismatch:    {true, "What the storage holds is not what was sent."},
	ChecksumMissing:     {false, "The storage does not report the checksum of what it holds, so that the backup cannot be proven."},
	StorageFull:         {true, "The storage is full, or its quota is used up: make room there, or raise the quota."},
	UploadConflict:      {true, "The storage refuses the upload because of another operation on the same object."},
	BatchUnfinished:     {true, "The worker's time was up; it is called again for the rest."},
	Conflict:            {true, "Somebody else changed the same record at the same time."},
	StaleAttempt:        {false, "The backup has moved on without this worker."},
	StoreUnavailable:    {true, "The job store did not answer properly."},
	TimedOut:            {true, "The backup did not finish in time."},
	Cancelled:           {false, "The backup was cancelled."},
	Internal:            {true, "Something unexpected happened inside Sitevault."},
	InvalidRequest:      {false, "The request is not valid."},
	NotFound:            {false, "There is nothing here under this id."},
	Unauthenticated:     {false, "Sign in first."},
	IdempotencyReuse:    {false, "This Idempotency-Key was used before with another request."},
	SiteBusy:            {false, "A backup of this site is already under way."},
	IllegalState:        {false, "The backup's current state does not allow this."},
	NotRetryable:        {false, "This backup cannot be retried; create a new one."},
	NoRoom:              {true, "The user's other backups take up all room; this one waits for its turn."},
	QuotaExceeded:       {false, "The user's quota is used up."},
	TooManyRequests:     {true, "Too many requests in too short a time."},
	IssuerUnavailable:   {true, "The issuer whose tokens sign users in did not answer properly."},
}

// Kinds lists every kind in alphabetical order.
func Kinds() []Kind {
	all := make([]Kind, 0, len(kinds))
	for k := range kinds {
		all = append(all, k)
	}
	slices.Sort(all)
	return all
}

// Retryable tells whether trying again can help without anybody changing anything.
func (k Kind) Retryable() bool { return kinds[k].retryable }

// mayPass tells whether the next attempt can go well with what this one has stored. After UploadConflict everything has been
// moved several times already, and would be again.
func (k Kind) mayPass() bool { return k.Retryable() && k != TimedOut && k != UploadConflict }

// Outweighs tells whether a job fails by k rather than by other: what only a change outside can mend comes before what a retry
// can, and that before what may pass by itself.
func (k Kind) Outweighs(other Kind) bool { return k.hope() < other.hope() }

func (k Kind) hope() int {
	switch {
	case k.mayPass():
		return 2
	case k.Retryable():
		return 1
	}
	return 0
}

// Known tells whether k is in the list.
func (k Kind) Known() bool { _, ok := kinds[k]; return ok }

// Sentence says in plain words what happened.
func (k Kind) Sentence() string { return kinds[k].sentence }

// Error is a failure with a kind. Err holds the details and never a secret.
type Error struct {
	Kind       Kind
	RetryAfter time.Duration // as the other side asked; 0: it did not
	Err        error
}

// E makes an Error; format and args are those of fmt.Errorf, %w included.
func E(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Err: fmt.Errorf(format, args...)}
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// KindOf is the kind of the outermost Error in err's chain; Internal for any other error, "" for nil.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}

// Is tells whether err is of the given kind.
func Is(err error, kind Kind) bool { return KindOf(err) == kind }

// Failure is a failure as rows and answers keep it.
type Failure struct {
	Kind   Kind      `json:"kind"`
	Detail string    `json:"detail"` // for the people who operate the site; bounded
	File   string    `json:"file,omitempty"`
	At     time.Time `json:"at"`
	Since  time.Time `json:"since,omitzero"` // of an error that comes again and again: when it first came
	Try    int       `json:"try,omitempty"`  // of the step that met it, from 1; 0: not known
}

const maxDetailBytes = 1000

// NewFailure keeps an error for a row: its detail is cut to maxDetailBytes of valid UTF-8, which every store accepts.
func NewFailure(kind Kind, file, detail string, now time.Time) *Failure {
	if len(detail) > maxDetailBytes {
		detail = detail[:maxDetailBytes]
	}
	return &Failure{Kind: kind, Detail: strings.ToValidUTF8(detail, ""), File: file, At: now}
}

// NewTimedOut is the failure of a backup whose time is over; the reason for it is the last error that is known.
func NewTimedOut(detail string, last *Failure, at time.Time) *Failure {
	if last == nil {
		return NewFailure(TimedOut, "", detail, at)
	}
	detail += "; the last error was " + string(last.Kind) + " at " + last.At.UTC().Format(time.RFC3339)
	if last.began().Before(last.At) {
		detail += ", since " + last.Since.UTC().Format(time.RFC3339)
	}
	return NewFailure(TimedOut, last.File, detail+": "+last.Detail, at)
}

// after is f as it follows the last error: one of the same kind has lasted since that one began.
func (f *Failure) after(last *Failure) *Failure {
	next := *f
	if next.Since = f.At; last != nil && last.Kind == f.Kind {
		next.Since = last.began()
	}
	return &next
}

// errorEvery is how long an error of the same kind is not recorded again, so that forty workers who meet it cost one write.
// It is shorter than any wait that is recorded: none is left out because of one before it.
const errorEvery = 3 * time.Second

// recent tells whether f makes it needless to record next.
func (f *Failure) recent(next *Failure) bool {
	return f != nil && f.Kind == next.Kind && next.At.Sub(f.At) < errorEvery
}

// began is when the failure first came.
func (f *Failure) began() time.Time {
	if f.Since.IsZero() {
		return f.At
	}
	return f.Since
}

func (f *Failure) same(other *Failure) bool {
	return f != nil && other != nil && f.Kind == other.Kind && f.Detail == other.Detail
}
