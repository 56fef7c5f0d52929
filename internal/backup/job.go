package backup

import (
	"errors"
	"hash/fnv"
	"time"
)

// Status is the state of a job.
type Status string

const (
	Pending  Status = "pending"
	Running  Status = "running"
	Done     Status = "done"
	Failed   Status = "failed"
	Deleting Status = "deleting"
	Deleted  Status = "deleted"
)

// Trigger says what asked for a job.
type Trigger string

const (
	Manual Trigger = "manual"
	Daily  Trigger = "daily"
)

// Cleanup says what a failed job still has to remove from the storage.
type Cleanup string

const (
	CleanupNone  Cleanup = ""
	CleanupLater Cleanup = "later" // uploads wait for a retry until DueAt
	CleanupNow   Cleanup = "now"   // a sweep is owed; no retry before it
	CleanupAgain Cleanup = "again" // swept once; once more when no worker of the attempt can still be alive
)

// Job is one backup of one site.
type Job struct {
	JobID     string
	UserID    string
	SiteID    string
	Status    Status
	Trigger   Trigger
	Attempt   int // from 1
	Tries     int // attempts that the service has begun by itself since somebody asked for one
	Retries   int // attempts that somebody has asked for
	Providers []Provider
	Limits    Limits
	Failure   *Failure // set while failed, kept while deleting
	LastError *Failure // while active: why the attempt before failed, or what hinders its end; while failed or deleting: why the cleanup does
	SizeBytes int64    // of all files together, once done

	CreatedAt  time.Time
	UpdatedAt  time.Time
	StartedAt  time.Time // of the current attempt
	DeadlineAt time.Time // of the current attempt and all that the service begins by itself after it
	NextTryAt  time.Time // while pending: when the service begins the attempt by itself
	FinishedAt time.Time // done or failed
	KeepUntil  time.Time // as asked for
	DeleteAt   time.Time // KeepUntil, or earlier for a failed job
	FencedAt   time.Time // when the job failed or its deletion began: no write of a worker is accepted after it
	PurgeAt    time.Time // when the row may go (deleted only)
	DueAt      time.Time // when the sweeper must look at the job; zero: never

	Cleanup           Cleanup
	CleanupEverything bool // cancelled: finished files go too

	Rev int64 // 0: not stored yet
}

// Policy holds the times that the operator chooses.
type Policy struct {
	JobTimeout  time.Duration // a backup is given up after this, however often it was tried in the meantime
	FirstPause  time.Duration // before the service tries a failed attempt again; each pause is twice the one before
	MaxPause    time.Duration // ... but at most this
	FailedKeep  time.Duration // a failed job is deleted this long after it failed, unless it would go earlier
	RetryWindow time.Duration // parts of a failed attempt wait this long for a retry when trying again can help
	WorkerLife  time.Duration // after FencedAt no worker of the job can still be alive
}

// DefaultPolicy is the policy on AWS, where a Lambda function lives 15 minutes at most. FencedAt is the clock of whoever
// decided; a worker may have begun as long after it as the write took.
func DefaultPolicy() Policy {
	return Policy{
		JobTimeout: DefaultJobTimeout, FirstPause: time.Minute, MaxPause: 15 * time.Minute,
		FailedKeep: 7 * 24 * time.Hour, RetryWindow: time.Hour, WorkerLife: MaxLambdaLife + DecisionLag,
	}
}

// pause is the time before another attempt of a job when the service has made so many by itself. Up to a quarter is left out,
// by the job's id, so that not all whom one outage has stopped come back in the same second.
func (p Policy) pause(jobID string, tries int) time.Duration {
	pause := p.FirstPause
	for ; tries > 0 && pause < p.MaxPause; tries-- {
		pause *= 2
	}
	pause = min(pause, p.MaxPause)
	id := fnv.New32a()
	_, _ = id.Write([]byte(jobID)) // never fails
	return pause - pause/4*time.Duration(id.Sum32()%1000)/1000
}

// ErrAlready is returned by a transition that finds its own result in place. It means success without a write.
var ErrAlready = errors.New("already so")

// NewJob is J1: a pending job of the site, to be kept until keepUntil.
func NewJob(jobID string, site Site, trigger Trigger, keepUntil, now time.Time, p Policy) Job {
	return Job{
		JobID: jobID, UserID: site.UserID, SiteID: site.SiteID, Status: Pending, Trigger: trigger, Attempt: 1,
		Providers: site.Providers, Limits: site.Limits,
		CreatedAt: now, UpdatedAt: now, DeadlineAt: now.Add(p.JobTimeout),
		KeepUntil: keepUntil, DeleteAt: keepUntil, DueAt: now.Add(StartGrace),
	}
}

// Active tells whether the job holds its site: at most one job of a site is active.
func (j Job) Active() bool { return j.Status == Pending || j.Status == Running }

// StatusAt is the status that a reader sees: the deadline and the end of the retention count from the moment they
// pass, whether or not the sweeper has come by.
func (j Job) StatusAt(now time.Time) Status {
	switch {
	case j.Active() && !now.Before(j.DeadlineAt):
		return Failed
	case (j.Status == Done || j.Status == Failed) && !now.Before(j.DeleteAt):
		return Deleting
	}
	return j.Status
}

// FailureAt is the failure that a reader sees with StatusAt.
func (j Job) FailureAt(now time.Time) *Failure {
	if j.Active() && j.StatusAt(now) == Failed {
		return j.timedOut(j.LastError)
	}
	return j.Failure
}

// LastErrorAt is the last error that a reader sees: that of an active job stands in its failure once its time is over.
func (j Job) LastErrorAt(now time.Time) *Failure {
	if j.Active() && j.StatusAt(now) == Failed {
		return nil
	}
	return j.LastError
}

// ordinaryStart is how long a pending job is on its way to its first step without waiting for anything.
const ordinaryStart = 5 * time.Second

// TellsRoomAt is when a pending job has waited longer for its turn than a start takes; zero for any other job, and for one
// whose next try has not been begun.
func (j Job) TellsRoomAt() time.Time {
	if j.Status != Pending || j.beforeNextTry() {
		return time.Time{}
	}
	return j.turn().Add(ordinaryStart)
}

// beforeNextTry tells whether the job waits for its next try and nobody has started the execution. Whoever does so defers
// the sweeper's next look.
func (j Job) beforeNextTry() bool { return j.WaitsToTry() && !j.DueAt.After(j.NextTryAt) }

// turn is since when nothing but room keeps a pending job from running.
func (j Job) turn() time.Time {
	if j.NextTryAt.After(j.UpdatedAt) {
		return j.NextTryAt
	}
	return j.UpdatedAt
}

// WaitsForRoom tells whether the job waits for its turn, and since when.
func (j Job) WaitsForRoom(now time.Time) (since time.Time, waits bool) {
	tellsAt := j.TellsRoomAt()
	return j.turn(), j.StatusAt(now) == Pending && !tellsAt.IsZero() && !now.Before(tellsAt)
}

// Start is J2: pending to running, by the execution of the given attempt. An attempt that the service begins by itself
// has the deadline of the one that was asked for.
func (j Job) Start(attempt int, now time.Time, p Policy) (Job, error) {
	if err := j.fenced(attempt); err != nil {
		return j, err
	}
	if j.Status == Running {
		return j, ErrAlready
	}
	if !now.Before(j.DeadlineAt) {
		return j, E(TimedOut, "job %s: %s", j.JobID, j.timedOut(j.LastError).Detail)
	}
	if j.NextTryAt.IsZero() {
		j.DeadlineAt = now.Add(p.JobTimeout)
	}
	j.Status, j.StartedAt, j.UpdatedAt, j.NextTryAt, j.DueAt = Running, now, now, time.Time{}, j.DeadlineAt
	return j, nil
}

// Restarted defers the next look at a pending job whose execution was started once more. The sweeper may have come late to
// a job that waited for its next try: its turn begins now.
func (j Job) Restarted(now time.Time) (Job, error) {
	if j.StatusAt(now) != Pending {
		return j, ErrAlready
	}
	if j.beforeNextTry() {
		j.NextTryAt = now
	}
	j.DueAt = earlier(now.Add(StartGrace), j.DeadlineAt)
	return j, nil
}

// Finish is J3: running to done, when every file is done and the manifest is written.
func (j Job) Finish(attempt int, sizeBytes int64, now time.Time) (Job, error) {
	if j.Status == Done && j.Attempt == attempt {
		return j, ErrAlready
	}
	if err := j.RunningAttempt(attempt); err != nil {
		return j, err
	}
	if !now.Before(j.DeadlineAt) {
		return j, E(TimedOut, "job %s: deadline %s has passed", j.JobID, j.DeadlineAt.Format(time.RFC3339))
	}
	j.Status, j.SizeBytes, j.FinishedAt, j.UpdatedAt, j.DueAt, j.LastError = Done, sizeBytes, now, now, j.DeleteAt, nil
	return j, nil
}

// EndAttempt ends an attempt that failed by itself. It is J8, to pending for another attempt after a pause, as long as
// trying again can help, and the deadline and the end of the retention allow it; else J4. The site stays taken, and what is
// stored stays. An execution that waited for room may run out of its own time long before the job's, which has begun later.
func (j Job) EndAttempt(attempt int, f *Failure, now time.Time, p Policy) (Job, error) {
	if j.TriedAgain(attempt) {
		return j, ErrAlready
	}
	next := now.Add(p.pause(j.JobID, j.Tries))
	mayPass := f.Kind.mayPass() || f.Kind == TimedOut
	if !mayPass || p.FirstPause == 0 || !next.Before(earlier(j.DeadlineAt, j.DeleteAt)) {
		return j.Fail(attempt, f, now, p)
	}
	if err := j.fenced(attempt); err != nil {
		return j, err
	}
	j.Status, j.Attempt, j.Tries, j.LastError = Pending, j.Attempt+1, j.Tries+1, f.after(j.LastError)
	j.StartedAt, j.UpdatedAt, j.NextTryAt, j.DueAt = time.Time{}, now, next, next
	return j, nil
}

// RecordError keeps what hinders the end of a running attempt.
func (j Job) RecordError(attempt int, e *Failure) (Job, error) {
	if j.RunningAttempt(attempt) != nil || j.LastError.recent(e) {
		return j, ErrAlready
	}
	j.LastError = e.after(j.LastError)
	return j, nil
}

// TriedAgain tells whether the job has gone on from the given attempt to the next one by itself.
func (j Job) TriedAgain(attempt int) bool {
	return j.Active() && j.Attempt == attempt+1 && j.Tries > 0 && j.LastError != nil
}

// Fail is J4: pending or running to failed. What the attempt left in the storage is removed at once, but for failures
// that a retry can mend: their parts wait for Policy.RetryWindow.
func (j Job) Fail(attempt int, f *Failure, now time.Time, p Policy) (Job, error) {
	if j.Status == Failed && j.Attempt == attempt {
		return j, ErrAlready
	}
	if err := j.fenced(attempt); err != nil {
		return j, err
	}
	j.Status, j.Failure, j.FinishedAt, j.UpdatedAt, j.FencedAt = Failed, f, now, now, now
	j.LastError, j.NextTryAt = nil, time.Time{}
	j.DeleteAt = earlier(j.KeepUntil, now.Add(p.FailedKeep))
	j.CleanupEverything = f.Kind == Cancelled
	j.Cleanup, j.DueAt = CleanupNow, now.Add(SweepGrace)
	if f.Kind.mayPass() && p.RetryWindow > 0 {
		j.Cleanup, j.DueAt = CleanupLater, earlier(now.Add(p.RetryWindow), j.DeleteAt)
	}
	return j, nil
}

// Expire is J4 by the clock: a job past its deadline has failed. Its reason is the last error known, if there is one.
func (j Job) Expire(last *Failure, now time.Time, p Policy) (Job, error) {
	if !j.Active() || now.Before(j.DeadlineAt) {
		return j, ErrAlready
	}
	return j.Fail(j.Attempt, j.timedOut(last), now, p)
}

func (j Job) timedOut(last *Failure) *Failure {
	words := "not finished by "
	if j.Status == Pending && !j.WaitsToTry() {
		words = "waited for room beside other backups, and was not started by "
	}
	return NewTimedOut(words+j.DeadlineAt.UTC().Format(time.RFC3339), last, j.DeadlineAt)
}

// Cancel is J4 on the user's word; finished files of the job are removed as well.
func (j Job) Cancel(now time.Time, p Policy) (Job, error) {
	if j.Status == Failed && j.Failure != nil && j.Failure.Kind == Cancelled {
		return j, ErrAlready
	}
	if status := j.StatusAt(now); status != Pending && status != Running {
		return j, E(IllegalState, "job %s is %s: only a pending or running backup can be cancelled", j.JobID, status)
	}
	return j.Fail(j.Attempt, NewFailure(Cancelled, "", "cancelled on request", now), now, p)
}

// BeginCleanup claims the sweep of a failed job, so that no retry starts beside it.
func (j Job) BeginCleanup(now time.Time) (Job, error) {
	if j.Status != Failed || (j.Cleanup != CleanupLater && j.Cleanup != CleanupAgain) {
		return j, ErrAlready
	}
	j.Cleanup, j.DueAt, j.UpdatedAt = CleanupNow, now.Add(SweepGrace), now
	return j, nil
}

// Swept records a sweep of a failed job that began at the given time and left nothing behind.
func (j Job) Swept(began, now time.Time, p Policy) (Job, error) {
	if j.Status != Failed || j.Cleanup != CleanupNow {
		return j, ErrAlready
	}
	lastWorker := j.FencedAt.Add(p.WorkerLife)
	j.Cleanup, j.DueAt, j.UpdatedAt, j.LastError = CleanupNone, j.DeleteAt, now, nil
	if began.Before(lastWorker) {
		j.Cleanup, j.DueAt = CleanupAgain, earlier(lastWorker, j.DeleteAt)
	}
	return j, nil
}

// Retry is J5: failed to pending with the next attempt number. The site's current providers and limits apply, so that
// a mended URL takes effect. A job that waits for its next try begins it now, with the deadline that it has.
func (j Job) Retry(site *Site, now time.Time, p Policy) (Job, error) {
	switch {
	case j.Active() && j.StatusAt(now) == Failed:
		return j, E(Conflict, "job %s: its time has just run out; ask again", j.JobID)
	case j.WaitsToTry():
		j.NextTryAt, j.UpdatedAt, j.DueAt = now, now, earlier(now.Add(StartGrace), j.DeadlineAt)
		return j.following(site), nil
	case j.Status != Failed:
		return j, E(IllegalState, "job %s is %s: only a failed backup can be retried", j.JobID, j.Status)
	case !j.Failure.Kind.Retryable():
		return j, E(NotRetryable, "job %s failed for good (%s): mend the cause and create a new backup", j.JobID, j.Failure.Kind)
	case j.Retries >= MaxRetries:
		return j, E(NotRetryable, "job %s was retried %d times: create a new backup", j.JobID, j.Retries)
	case !now.Before(j.DeleteAt):
		return j, E(NotRetryable, "job %s is about to be deleted: create a new backup", j.JobID)
	case j.Cleanup == CleanupNow:
		return j, E(Conflict, "job %s: its last attempt is still being cleaned up", j.JobID)
	}
	j.Status, j.Attempt, j.Tries, j.Retries = Pending, j.Attempt+1, 0, j.Retries+1
	j.Failure, j.LastError, j.Cleanup, j.CleanupEverything = nil, nil, CleanupNone, false
	j.StartedAt, j.FinishedAt, j.FencedAt, j.UpdatedAt = time.Time{}, time.Time{}, time.Time{}, now
	j.DeadlineAt, j.DeleteAt, j.DueAt = now.Add(p.JobTimeout), j.KeepUntil, now.Add(StartGrace)
	return j.following(site), nil
}

// WaitsToTry tells whether the service will begin the job's attempt by itself.
func (j Job) WaitsToTry() bool { return j.Status == Pending && !j.NextTryAt.IsZero() }

// NextTry is when it will; zero for a job that a reader does not see waiting for it.
func (j Job) NextTry(now time.Time) time.Time {
	if j.StatusAt(now) != Pending {
		return time.Time{}
	}
	return j.NextTryAt
}

// following takes over what the site has now; nil: it is no longer registered.
func (j Job) following(site *Site) Job {
	if site != nil {
		j.Providers, j.Limits = site.Providers, site.Limits
	}
	return j
}

// Delete is J6, the fence: from here on no worker's write is accepted and readers see no backup.
func (j Job) Delete(now time.Time) (Job, error) {
	if j.Status == Deleting || j.Status == Deleted {
		return j, ErrAlready
	}
	if j.Active() {
		j.LastError = nil // that of an attempt; why a cleanup fails is true until one succeeds
	}
	j.Status, j.FencedAt, j.UpdatedAt, j.DueAt = Deleting, now, now, now.Add(SweepGrace)
	j.NextTryAt, j.Cleanup, j.CleanupEverything = time.Time{}, CleanupNone, false
	return j, nil
}

// Removed is J7: a sweep that began at the given time left nothing behind. It ends the deletion once no worker of the
// job could still have been alive, else it asks for another sweep.
func (j Job) Removed(began, now time.Time, p Policy) (Job, error) {
	if j.Status != Deleting {
		return j, ErrAlready
	}
	lastWorker := j.FencedAt.Add(p.WorkerLife)
	j.UpdatedAt, j.LastError = now, nil
	if began.Before(lastWorker) {
		j.DueAt = lastWorker
		return j, nil
	}
	j.Status, j.PurgeAt, j.DueAt = Deleted, now.Add(DeletedRowRetention), time.Time{}
	return j, nil
}

// Outlived tells whether every execution of the job has come to its own end, at the latest by the state machine's timeout.
// One starts before the deadline that the job has while it is pending.
func (j Job) Outlived(now time.Time) bool {
	return now.After(j.DeadlineAt.Add(DefaultJobTimeout + DecisionLag))
}

// Due tells whether the sweeper has to look at the job.
func (j Job) Due(now time.Time) bool { return !j.DueAt.IsZero() && !j.DueAt.After(now) }

// Postpone lets the sweeper look at other jobs first when what was due of this one failed. What it still has in the storage
// is paid for, so that the error is kept until a cleanup succeeds; the failure of the job itself stays beside it.
func (j Job) Postpone(until time.Time, f *Failure) (Job, error) {
	if j.DueAt = until; j.Status == Failed || j.Status == Deleting {
		j.LastError = f.after(j.LastError)
	}
	return j, nil
}

// CleanupFailed records why a cleanup that is owed did not succeed. The sweeper repeats it when it is due.
func (j Job) CleanupFailed(f *Failure) (Job, error) {
	if j.Status != Deleting && (j.Status != Failed || j.Cleanup == CleanupNone) {
		return j, ErrAlready
	}
	j.LastError = f.after(j.LastError)
	return j, nil
}

// CleanupFailing tells whether nothing could be removed of the job for CleanupAlarm.
func (j Job) CleanupFailing(now time.Time) bool {
	cleaning := j.Status == Failed || j.Status == Deleting
	return cleaning && j.LastError != nil && now.Sub(j.LastError.began()) >= CleanupAlarm
}

// Keep changes how long a done backup is kept.
func (j Job) Keep(until, now time.Time) (Job, error) {
	if j.Status != Done || !now.Before(j.DeleteAt) {
		return j, E(IllegalState, "job %s is %s: only a done backup can be kept longer or shorter", j.JobID, j.StatusAt(now))
	}
	j.KeepUntil, j.DeleteAt, j.DueAt, j.UpdatedAt = until, until, until, now
	return j, nil
}

// RunningAttempt is the guard of every write below the job: it is running, and this is its attempt.
func (j Job) RunningAttempt(attempt int) error {
	if j.Status != Running || j.Attempt != attempt {
		return E(StaleAttempt, "job %s is %s in attempt %d, not running attempt %d", j.JobID, j.Status, j.Attempt, attempt)
	}
	return nil
}

func (j Job) fenced(attempt int) error {
	if !j.Active() || j.Attempt != attempt {
		return E(StaleAttempt, "job %s is %s in attempt %d, not active in attempt %d", j.JobID, j.Status, j.Attempt, attempt)
	}
	return nil
}

// Provider finds a provider of the job by name.
func (j Job) Provider(name string) (Provider, error) {
	for _, p := range j.Providers {
		if p.Name == name {
			return p, nil
		}
	}
	return Provider{}, E(NotFound, "job %s has no provider %q", j.JobID, name)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
