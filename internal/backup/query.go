package backup

import "time"

// Idempotency is one use of an Idempotency-Key. The zero value means that the request carries none.
type Idempotency struct {
	UserID    string // keys are the tenant's own
	Key       string
	BodyHash  string // of the request that the key was first used with
	ExpiresAt time.Time
}

// JobQuery asks for one page of a user's jobs, newest first.
type JobQuery struct {
	UserID string
	SiteID string // "": of every site
	Before string // job id that the page starts after; "": the newest
	Limit  int
}

// SiteQuery asks for one page of a user's sites in the order of their ids.
type SiteQuery struct {
	UserID string
	After  string // site id that the page starts after; "": the first
	Limit  int
}

// Waiting is a scheduled site that has had no good backup since the given time.
type Waiting struct {
	UserID string
	SiteID string
	Since  time.Time // of its last good backup, or of its schedule's beginning
}

// Caller is who sends a request.
type Caller struct {
	UserID    string
	ExpiresAt time.Time // when the token that says so expires; zero: there is none
}

// Ticket lets its bearer open one socket.
type Ticket struct {
	UserID         string
	ExpiresAt      time.Time
	TokenExpiresAt time.Time // of the token that it was got with, which ends the socket; zero: there is none
}

// Socket is one open socket of a user.
type Socket struct {
	SocketID  string // as API Gateway calls it
	UserID    string
	ExpiresAt time.Time // with the token that it was opened with: it is told nothing from then on
	ClosesAt  time.Time // when API Gateway closes it at the latest: it counts for its user until then
}

// Change is one committed write as a store reports it: the row before and after. Exactly one of the pairs is set, or
// Error; a recorded part reports the file it belongs to and itself.
type Change struct {
	JobID string
	Job   *JobChange
	File  *FileChange
	Part  *PartWrite
	Error *Failure // has become the last error of its file
}

// JobChange holds both images of a job row; Old.Rev is 0 for a job just created.
type JobChange struct{ Old, New Job }

// FileChange holds both images of a file row; Old.Rev is 0 for a file just opened.
type FileChange struct{ Old, New File }
