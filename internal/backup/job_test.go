package backup_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

const jobID = "01JD0000000000000000000001"

var (
	epoch    = time.Date(2026, 3, 1, 2, 30, 0, 0, time.UTC)
	policy   = backup.DefaultPolicy()
	statuses = []backup.Status{backup.Pending, backup.Running, backup.Done, backup.Failed, backup.Deleting, backup.Deleted}
)

func testSite() backup.Site {
	return backup.Site{
		UserID: "ada", SiteID: "blog", Providers: []backup.Provider{{Name: "files", URL: "https://example.org/export"}},
	}.WithDefaults()
}

// newJob is a pending job of attempt 1, to be kept for 60 days.
func newJob() backup.Job {
	return backup.NewJob(jobID, testSite(), backup.Manual, epoch.AddDate(0, 0, 60), epoch, policy)
}

func must[T any](t interface{ Fatal(...any) }, next T, err error) T {
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func failure(kind backup.Kind) *backup.Failure {
	return backup.NewFailure(kind, "files", "detail", epoch)
}

// jobIn brings a job into a status by legal transitions, in attempt 2.
func jobIn(t *testing.T, status backup.Status) backup.Job {
	t.Helper()
	j := newJob()
	j, err := j.Fail(1, failure(backup.ProviderUnavailable), epoch, policy)
	j = must(t, j, err)
	j, err = j.Retry(nil, epoch, policy)
	j = must(t, j, err)
	j.Rev = 3
	if status == backup.Pending {
		return j
	}
	j, err = j.Start(2, epoch, policy)
	j = must(t, j, err)
	switch status {
	case backup.Done:
		j, err = j.Finish(2, 1<<30, epoch)
	case backup.Failed:
		j, err = j.Fail(2, failure(backup.ProviderUnavailable), epoch, policy)
	case backup.Deleting, backup.Deleted:
		j, err = j.Delete(epoch)
	}
	j = must(t, j, err)
	if status == backup.Deleted {
		j, err = j.Removed(epoch.Add(policy.WorkerLife), epoch.Add(policy.WorkerLife), policy)
		j = must(t, j, err)
	}
	if j.Status != status {
		t.Fatalf("job is %s, not %s", j.Status, status)
	}
	return j
}

// outcomes says for each status what a transition answers: "-> status", "already" or the kind of its error.
type outcomes map[backup.Status]string

func all(answer string) outcomes {
	o := outcomes{}
	for _, s := range statuses {
		o[s] = answer
	}
	return o
}

func (o outcomes) but(other outcomes) outcomes {
	changed := outcomes{}
	for _, s := range statuses {
		changed[s] = o[s]
		if answer, ok := other[s]; ok {
			changed[s] = answer
		}
	}
	return changed
}

func outcomeOf(next backup.Status, err error) string {
	switch {
	case errors.Is(err, backup.ErrAlready):
		return "already"
	case err != nil:
		return string(backup.KindOf(err))
	}
	return "-> " + string(next)
}

const (
	stale   = string(backup.StaleAttempt)
	illegal = string(backup.IllegalState)
)

type jobTransition struct {
	id    string
	apply func(j backup.Job, attempt int, now time.Time) (backup.Job, error)
	// What it answers in the job's own attempt: before the deadline, from the deadline on, from the end of retention on.
	inTime, late, over outcomes
	// ... and in any other attempt, at any time; nil: it takes no attempt.
	other outcomes
	// again is what repeating a success answers; "" means already.
	again string
}

func jobTransitions() []jobTransition {
	start := all(stale).but(outcomes{backup.Pending: "-> running", backup.Running: "already"})
	startLate := start.but(outcomes{backup.Pending: string(backup.TimedOut)})
	finish := all(stale).but(outcomes{backup.Running: "-> done", backup.Done: "already"})
	finishLate := finish.but(outcomes{backup.Running: string(backup.TimedOut)})
	fail := all(stale).but(outcomes{backup.Pending: "-> failed", backup.Running: "-> failed", backup.Failed: "already"})
	expireLate := all("already").but(outcomes{backup.Pending: "-> failed", backup.Running: "-> failed"})
	cancel := all(illegal).but(outcomes{backup.Pending: "-> failed", backup.Running: "-> failed"})
	retry := all(illegal).but(outcomes{backup.Failed: "-> pending"})
	retryLate := retry.but(outcomes{backup.Pending: string(backup.Conflict), backup.Running: string(backup.Conflict)})
	retryOver := retryLate.but(outcomes{backup.Failed: string(backup.NotRetryable)})
	remove := all("-> deleting").but(outcomes{backup.Deleting: "already", backup.Deleted: "already"})
	removed := all("already").but(outcomes{backup.Deleting: "-> deleted"})
	restarted := all("already").but(outcomes{backup.Pending: "-> pending"})
	swept := all("already")
	beginCleanup := all("already").but(outcomes{backup.Failed: "-> failed"})
	keep := all(illegal).but(outcomes{backup.Done: "-> done"})
	return []jobTransition{
		{"J2 Start", func(j backup.Job, attempt int, now time.Time) (backup.Job, error) {
			return j.Start(attempt, now, policy)
		}, start, startLate, startLate, all(stale), ""},
		{"J3 Finish", func(j backup.Job, attempt int, now time.Time) (backup.Job, error) { return j.Finish(attempt, 1, now) }, finish, finishLate, finishLate, all(stale), ""},
		{"J4 Fail", func(j backup.Job, attempt int, now time.Time) (backup.Job, error) {
			return j.Fail(attempt, failure(backup.ArchiveInvalid), now, policy)
		}, fail, fail, fail, all(stale), ""},
		{"J4 Expire", func(j backup.Job, _ int, now time.Time) (backup.Job, error) { return j.Expire(nil, now, policy) }, all("already"), expireLate, expireLate, nil, ""},
		{"J4 Cancel", func(j backup.Job, _ int, now time.Time) (backup.Job, error) { return j.Cancel(now, policy) }, cancel, all(illegal), all(illegal), nil, ""},
		{"J5 Retry", func(j backup.Job, _ int, now time.Time) (backup.Job, error) { return j.Retry(nil, now, policy) }, retry, retryLate, retryOver, nil, illegal},
		{"J6 Delete", func(j backup.Job, _ int, now time.Time) (backup.Job, error) { return j.Delete(now) }, remove, remove, remove, nil, ""},
		{"J7 Removed", func(j backup.Job, _ int, now time.Time) (backup.Job, error) {
			return j.Removed(now.Add(policy.WorkerLife), now.Add(policy.WorkerLife), policy)
		}, removed, removed, removed, nil, ""},
		{"Restarted", func(j backup.Job, _ int, now time.Time) (backup.Job, error) { return j.Restarted(now) }, restarted, all("already"), all("already"), nil, "-> pending"},
		{"BeginCleanup", func(j backup.Job, _ int, now time.Time) (backup.Job, error) { return j.BeginCleanup(now) }, beginCleanup, beginCleanup, beginCleanup, nil, ""},
		{"Swept without claim", func(j backup.Job, _ int, now time.Time) (backup.Job, error) { return j.Swept(now, now, policy) }, swept, swept, swept, nil, ""},
		{"Keep", func(j backup.Job, _ int, now time.Time) (backup.Job, error) { return j.Keep(now.AddDate(1, 0, 0), now) }, keep, keep, all(illegal), nil, "-> done"},
	}
}

// Every transition is legal in exactly the statuses, attempts and times that design section 5 names.
func TestJobTransitions(t *testing.T) {
	for _, tr := range jobTransitions() {
		for _, status := range statuses {
			j := jobIn(t, status)
			times := []struct {
				name string
				now  time.Time
				want outcomes
			}{
				{"in time", epoch.Add(time.Minute), tr.inTime},
				{"just in time", j.DeadlineAt.Add(-time.Millisecond), tr.inTime},
				{"at the deadline", j.DeadlineAt, tr.late},
				{"at the end of retention", j.DeleteAt, tr.over},
				{"long after", j.DeleteAt.AddDate(1, 0, 0), tr.over},
			}
			for _, at := range times {
				for _, attempt := range []int{0, 1, 2, 3} {
					want := at.want[status]
					if attempt != j.Attempt && tr.other != nil {
						want = tr.other[status]
					}
					next, err := tr.apply(j, attempt, at.now)
					if got := outcomeOf(next.Status, err); got != want {
						t.Errorf("%s of a %s job in attempt %d %s: %s, want %s", tr.id, status, attempt, at.name, got, want)
					}
					if err != nil && !reflect.DeepEqual(next, j) {
						t.Errorf("%s of a %s job in attempt %d %s changed the job although it answered %v", tr.id, status, attempt, at.name, err)
					}
				}
			}
		}
	}
}

// A transition that finds its own result in place says so, so that a repeated call is success without a write.
func TestJobTransitionsRepeated(t *testing.T) {
	for _, tr := range jobTransitions() {
		fired := false
		for _, status := range statuses {
			j := jobIn(t, status)
			for _, now := range []time.Time{epoch.Add(time.Minute), j.DeadlineAt} {
				next, err := tr.apply(j, j.Attempt, now)
				if err != nil {
					continue
				}
				fired = true
				want := tr.again
				if want == "" {
					want = "already"
				}
				again, err := tr.apply(next, j.Attempt, now)
				if tr.id == "J4 Cancel" && !errors.Is(err, backup.ErrAlready) {
					t.Errorf("cancelling again: %v", err)
				}
				if got := outcomeOf(again.Status, err); got != want {
					t.Errorf("%s of a %s job, repeated: %s, want %s", tr.id, status, got, want)
				}
			}
		}
		if !fired && tr.id != "Swept without claim" {
			t.Errorf("%s never succeeded", tr.id)
		}
	}
}

// J1: what a new job carries.
func TestNewJob(t *testing.T) {
	j := newJob()
	if j.Status != backup.Pending || j.Attempt != 1 || j.Rev != 0 || !j.Active() {
		t.Errorf("new job is %+v", j)
	}
	if !j.DueAt.Equal(epoch.Add(backup.StartGrace)) || !j.DeadlineAt.Equal(epoch.Add(6*time.Hour)) {
		t.Errorf("due at %s with deadline %s", j.DueAt, j.DeadlineAt)
	}
	if !j.DeleteAt.Equal(j.KeepUntil) || !j.KeepUntil.Equal(epoch.AddDate(0, 0, 60)) {
		t.Errorf("kept until %s, deleted at %s", j.KeepUntil, j.DeleteAt)
	}
}

// The deadline counts for the attempt, from its start.
func TestStartSetsDeadline(t *testing.T) {
	now := epoch.Add(time.Hour)
	j := must(t, newJob(), nil)
	j, err := j.Start(1, now, policy)
	if err != nil || !j.DeadlineAt.Equal(now.Add(6*time.Hour)) || !j.DueAt.Equal(j.DeadlineAt) || !j.StartedAt.Equal(now) {
		t.Errorf("started at %s, deadline %s, due %s: %v", j.StartedAt, j.DeadlineAt, j.DueAt, err)
	}
}

// What readers see: the deadline and the end of the retention count at once, sweeper or not.
func TestStatusAt(t *testing.T) {
	for _, tc := range []struct {
		status       backup.Status
		early        backup.Status
		atDeadline   backup.Status
		atDeletion   backup.Status
		timedOutThen bool
	}{
		{backup.Pending, backup.Pending, backup.Failed, backup.Failed, true},
		{backup.Running, backup.Running, backup.Failed, backup.Failed, true},
		{backup.Done, backup.Done, backup.Done, backup.Deleting, false},
		{backup.Failed, backup.Failed, backup.Failed, backup.Deleting, false},
		{backup.Deleting, backup.Deleting, backup.Deleting, backup.Deleting, false},
		{backup.Deleted, backup.Deleted, backup.Deleted, backup.Deleted, false},
	} {
		j := jobIn(t, tc.status)
		for _, at := range []struct {
			now  time.Time
			want backup.Status
		}{{epoch, tc.early}, {j.DeadlineAt.Add(-1), tc.early}, {j.DeadlineAt, tc.atDeadline}, {j.DeleteAt, tc.atDeletion}} {
			if got := j.StatusAt(at.now); got != at.want {
				t.Errorf("%s job at %s: seen as %s, want %s", tc.status, at.now, got, at.want)
			}
		}
		f := j.FailureAt(j.DeadlineAt)
		if tc.timedOutThen && (f == nil || f.Kind != backup.TimedOut || !f.At.Equal(j.DeadlineAt)) {
			t.Errorf("%s job at its deadline: failure %+v, want TimedOut", tc.status, f)
		}
		if !tc.timedOutThen && f != j.Failure {
			t.Errorf("%s job at its deadline: failure %+v, want its own", tc.status, f)
		}
		if early := j.FailureAt(epoch); early != j.Failure {
			t.Errorf("%s job before its deadline: failure %+v", tc.status, early)
		}
	}
}

// What a reader saw as timed out is what the sweeper writes later.
func TestExpireWritesWhatReadersSaw(t *testing.T) {
	j := jobIn(t, backup.Running)
	late := j.DeadlineAt.Add(4 * time.Minute)
	seen := j.FailureAt(late)
	next, err := j.Expire(j.LastError, late, policy)
	if err != nil || !reflect.DeepEqual(next.Failure, seen) {
		t.Errorf("written %+v (%v), seen %+v", next.Failure, err, seen)
	}
}

// What a failed job leaves is removed at once unless a retry can use it.
func TestFailPlansCleanup(t *testing.T) {
	for _, kind := range backup.Kinds() {
		j := jobIn(t, backup.Running)
		j, err := j.Fail(2, failure(kind), epoch, policy)
		if err != nil {
			t.Fatal(err)
		}
		want, due := backup.CleanupNow, epoch.Add(backup.SweepGrace)
		if kind.Retryable() && kind != backup.TimedOut && kind != backup.UploadConflict {
			want, due = backup.CleanupLater, epoch.Add(policy.RetryWindow)
		}
		if j.Cleanup != want || !j.DueAt.Equal(due) {
			t.Errorf("%s: cleanup %q due %s, want %q due %s", kind, j.Cleanup, j.DueAt, want, due)
		}
		if j.CleanupEverything != (kind == backup.Cancelled) {
			t.Errorf("%s: cleanup of everything: %t", kind, j.CleanupEverything)
		}
		if !j.DeleteAt.Equal(epoch.Add(policy.FailedKeep)) || !j.FencedAt.Equal(epoch) {
			t.Errorf("%s: deleted at %s, fenced at %s", kind, j.DeleteAt, j.FencedAt)
		}
	}
}

// A failed job never outlives what was asked for, and without a retry window nothing waits.
func TestFailKeepsShortRetention(t *testing.T) {
	j := jobIn(t, backup.Running)
	j.KeepUntil = epoch.Add(30 * time.Minute)
	j, err := j.Fail(2, failure(backup.Internal), epoch, policy)
	if err != nil || !j.DeleteAt.Equal(j.KeepUntil) || !j.DueAt.Equal(j.KeepUntil) {
		t.Errorf("deleted at %s, due at %s: %v", j.DeleteAt, j.DueAt, err)
	}
	none := policy
	none.RetryWindow = 0
	j = jobIn(t, backup.Running)
	if j, err = j.Fail(2, failure(backup.Internal), epoch, none); err != nil || j.Cleanup != backup.CleanupNow {
		t.Errorf("without a retry window: cleanup %q, %v", j.Cleanup, err)
	}
}

// J5's guard: retryable reason, attempts left, retention left, last attempt cleaned up.
func TestRetryGuards(t *testing.T) {
	for _, kind := range backup.Kinds() {
		j := jobIn(t, backup.Failed)
		j.Failure = failure(kind)
		_, err := j.Retry(nil, epoch, policy)
		if kind.Retryable() != (err == nil) || (err != nil && !backup.Is(err, backup.NotRetryable)) {
			t.Errorf("retry of a job failed by %s: %v", kind, err)
		}
	}
	for _, tc := range []struct {
		name   string
		change func(*backup.Job)
		want   backup.Kind
	}{
		{"parts wait for it", func(j *backup.Job) { j.Cleanup = backup.CleanupLater }, ""},
		{"still swept", func(j *backup.Job) { j.Cleanup = backup.CleanupNow }, backup.Conflict},
		{"swept once", func(j *backup.Job) { j.Cleanup = backup.CleanupAgain }, ""},
		{"swept for good", func(j *backup.Job) { j.Cleanup = backup.CleanupNone }, ""},
		{"many tries by the service itself", func(j *backup.Job) { j.Attempt, j.Tries = 30, 28 }, ""},
		{"last retry but one", func(j *backup.Job) { j.Retries = backup.MaxRetries - 1 }, ""},
		{"last retry", func(j *backup.Job) { j.Retries = backup.MaxRetries }, backup.NotRetryable},
	} {
		j := jobIn(t, backup.Failed)
		tc.change(&j)
		if _, err := j.Retry(nil, epoch, policy); backup.KindOf(err) != tc.want {
			t.Errorf("%s: %v, want kind %q", tc.name, err, tc.want)
		}
	}
}

// A retry is a fresh start with the site's present providers; the old retention counts again.
func TestRetryStartsAfresh(t *testing.T) {
	site := testSite()
	site.Providers = []backup.Provider{{Name: "files", URL: "https://example.org/mended"}}
	site.Limits.Parallelism = 9
	j := jobIn(t, backup.Failed)
	now := epoch.Add(time.Hour)
	next, err := j.Retry(&site, now, policy)
	if err != nil {
		t.Fatal(err)
	}
	want := j
	want.Status, want.Attempt, want.Retries, want.Failure, want.Cleanup = backup.Pending, 3, j.Retries+1, nil, backup.CleanupNone
	want.Providers, want.Limits = site.Providers, site.Limits
	want.StartedAt, want.FinishedAt, want.FencedAt, want.UpdatedAt = time.Time{}, time.Time{}, time.Time{}, now
	want.DeadlineAt, want.DeleteAt, want.DueAt = now.Add(policy.JobTimeout), j.KeepUntil, now.Add(backup.StartGrace)
	if !reflect.DeepEqual(next, want) {
		t.Errorf("got  %+v\nwant %+v", next, want)
	}
}

// Swept asks for another sweep unless it began after the last worker could have lived.
func TestSwept(t *testing.T) {
	for _, tc := range []struct {
		began time.Duration // after the fence
		want  backup.Cleanup
		due   time.Duration // after the fence
	}{
		{0, backup.CleanupAgain, policy.WorkerLife},
		{policy.WorkerLife - time.Millisecond, backup.CleanupAgain, policy.WorkerLife},
		{policy.WorkerLife, backup.CleanupNone, policy.FailedKeep},
		{time.Hour, backup.CleanupNone, policy.FailedKeep},
	} {
		j := jobIn(t, backup.Running)
		j, err := j.Fail(2, failure(backup.ArchiveInvalid), epoch, policy)
		j = must(t, j, err)
		j, err = j.Swept(epoch.Add(tc.began), epoch.Add(tc.began+time.Minute), policy)
		if err != nil || j.Cleanup != tc.want || !j.DueAt.Equal(epoch.Add(tc.due)) {
			t.Errorf("sweep begun after %s: cleanup %q due %s, %v", tc.began, j.Cleanup, j.DueAt.Sub(epoch), err)
		}
	}
}

// J7: a deletion ends only with a sweep that began after the last worker could have lived.
func TestRemoved(t *testing.T) {
	for _, tc := range []struct {
		began time.Duration // after the fence
		want  backup.Status
	}{
		{0, backup.Deleting},
		{policy.WorkerLife - time.Millisecond, backup.Deleting},
		{policy.WorkerLife, backup.Deleted},
	} {
		j := jobIn(t, backup.Deleting)
		now := epoch.Add(tc.began + time.Hour)
		j, err := j.Removed(epoch.Add(tc.began), now, policy)
		if err != nil || j.Status != tc.want {
			t.Errorf("sweep begun after %s: %s, %v", tc.began, j.Status, err)
		}
		if j.Status == backup.Deleting && !j.DueAt.Equal(epoch.Add(policy.WorkerLife)) {
			t.Errorf("sweep begun after %s: due again at %s", tc.began, j.DueAt)
		}
		if j.Status == backup.Deleted && (!j.DueAt.IsZero() || !j.PurgeAt.Equal(now.Add(backup.DeletedRowRetention))) {
			t.Errorf("deleted: due %s, purged %s", j.DueAt, j.PurgeAt)
		}
	}
}

// Due is what DueJobs selects: never without a DueAt, and from DueAt on.
func TestDue(t *testing.T) {
	for _, tc := range []struct {
		due  time.Time
		want bool
	}{{time.Time{}, false}, {epoch.Add(-1), true}, {epoch, true}, {epoch.Add(1), false}} {
		if got := (backup.Job{DueAt: tc.due}).Due(epoch); got != tc.want {
			t.Errorf("due at %s: %t", tc.due, got)
		}
	}
}

// The events that clients hear of, one for each transition.
func TestJobEvents(t *testing.T) {
	stored := func(s backup.Status) backup.Job { return jobIn(t, s) }
	again := stored(backup.Pending)
	again.Attempt++
	for _, tc := range []struct {
		old, next backup.Job
		want      backup.EventName
	}{
		{backup.Job{}, newJob(), backup.BackupJobCreated},
		{stored(backup.Pending), stored(backup.Running), backup.BackupJobStarted},
		{stored(backup.Running), stored(backup.Done), backup.BackupJobFinished},
		{stored(backup.Running), stored(backup.Failed), backup.BackupJobFinished},
		{stored(backup.Failed), again, backup.BackupJobRetried},
		{stored(backup.Running), again, backup.BackupJobRetried},
		{stored(backup.Pending), again, backup.BackupJobRetried},
		{stored(backup.Done), stored(backup.Deleting), backup.BackupJobDeleting},
		{stored(backup.Deleting), stored(backup.Deleted), backup.BackupJobDeleted},
		{stored(backup.Done), stored(backup.Done), ""},
	} {
		if got := backup.JobEvent(tc.old, tc.next); got != tc.want {
			t.Errorf("%s -> %s: event %q, want %q", tc.old.Status, tc.next.Status, got, tc.want)
		}
	}
}

// J8: what may pass is tried again at growing pauses, as long as the deadline of the first try allows; the rest is J4.
func TestEndAttempt(t *testing.T) {
	j, now := jobIn(t, backup.Running), epoch
	deadline := j.DeadlineAt
	var pauses []time.Duration
	for {
		next, err := j.EndAttempt(j.Attempt, backup.NewFailure(backup.StorageUnavailable, "files", "503", now), now, policy)
		if err != nil {
			t.Fatal(err)
		}
		if next.Status == backup.Failed {
			if next.Failure.Kind != backup.StorageUnavailable || next.LastError != nil || next.Cleanup != backup.CleanupLater {
				t.Errorf("at last %+v", next)
			}
			break
		}
		pauses = append(pauses, next.NextTryAt.Sub(now))
		if next.Status != backup.Pending || next.Attempt != j.Attempt+1 || !next.DueAt.Equal(next.NextTryAt) || !next.LastError.Since.Equal(epoch) {
			t.Fatalf("tried again as %+v, last error %+v", next, next.LastError)
		}
		if _, err := next.EndAttempt(j.Attempt, failure(backup.Internal), now, policy); !errors.Is(err, backup.ErrAlready) {
			t.Errorf("ended twice: %v", err)
		}
		now = next.NextTryAt
		next, err = next.Start(next.Attempt, now, policy)
		if j = must(t, next, err); !j.DeadlineAt.Equal(deadline) || !j.NextTryAt.IsZero() {
			t.Fatalf("the deadline is %s, was %s", j.DeadlineAt, deadline)
		}
	}
	want := []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 15 * time.Minute, 15 * time.Minute}
	shortened := func(pause, whole time.Duration) int {
		if pause <= whole && pause > whole*3/4 {
			return 0
		}
		return 1
	}
	if slices.CompareFunc(pauses[:6], want, shortened) != 0 || deadline.Sub(now) > policy.MaxPause {
		t.Errorf("pauses %s, the last try %s before the deadline", pauses, deadline.Sub(now))
	}
}

// A thousand jobs that one outage has stopped do not come back in the same second.
func TestTriesAreSpread(t *testing.T) {
	seconds := map[int64]int{}
	for i := range 1000 {
		j := jobIn(t, backup.Running)
		j.JobID = fmt.Sprintf("01JD%022d", i)
		next, err := j.EndAttempt(j.Attempt, failure(backup.StorageUnavailable), epoch, policy)
		seconds[must(t, next, err).NextTryAt.Unix()]++
	}
	for second, jobs := range seconds {
		if jobs > 200 {
			t.Errorf("%d jobs come back in second %d", jobs, second-epoch.Unix())
		}
	}
}

// What cannot pass, what nobody wants any more and what has no time left is not tried again.
func TestEndAttemptForGood(t *testing.T) {
	off := policy
	off.FirstPause = 0
	for _, kind := range backup.Kinds() {
		j := jobIn(t, backup.Running)
		next, err := j.EndAttempt(j.Attempt, failure(kind), epoch, policy)
		if again := kind.Retryable() && kind != backup.UploadConflict; err != nil || again != (next.Status == backup.Pending) {
			t.Errorf("%s: %s, %v", kind, next.Status, err)
		}
		if next, err = j.EndAttempt(j.Attempt, failure(kind), epoch, off); err != nil || next.Status != backup.Failed {
			t.Errorf("%s with automatic tries off: %s, %v", kind, next.Status, err)
		}
	}
	j := jobIn(t, backup.Running)
	if next, err := j.EndAttempt(j.Attempt, failure(backup.TimedOut), j.DeadlineAt.Add(-policy.FirstPause/2), policy); err != nil || next.Status != backup.Failed {
		t.Errorf("timed out at the deadline: %s, %v", next.Status, err)
	}
	short := j
	short.KeepUntil, short.DeleteAt = epoch.Add(policy.FirstPause/2), epoch.Add(policy.FirstPause/2)
	if next, err := short.EndAttempt(j.Attempt, failure(backup.StorageUnavailable), epoch, policy); err != nil || next.Status != backup.Failed {
		t.Errorf("to be deleted before its next try: %s, %v", next.Status, err)
	}
	if _, err := j.EndAttempt(j.Attempt-1, failure(backup.Internal), epoch, policy); !backup.Is(err, backup.StaleAttempt) {
		t.Errorf("end of an attempt long over: %v", err)
	}
}

// A job that waits for its next try is begun at once on request, as the same attempt and with the same deadline.
func TestRetryOfWaiting(t *testing.T) {
	j := jobIn(t, backup.Running)
	waiting, err := j.EndAttempt(j.Attempt, failure(backup.ProviderTimeout), epoch, policy)
	waiting = must(t, waiting, err)
	site := testSite()
	site.Providers = []backup.Provider{{Name: "files", URL: "https://example.org/mended"}}
	now := epoch.Add(time.Second)
	next, err := waiting.Retry(&site, now, policy)
	if err != nil || next.Attempt != waiting.Attempt || !next.NextTryAt.Equal(now) || next.Retries != waiting.Retries || next.Providers[0] != site.Providers[0] {
		t.Fatalf("%+v, %v", next, err)
	}
	if next, err = next.Start(next.Attempt, now, policy); err != nil || !next.DeadlineAt.Equal(j.DeadlineAt) {
		t.Errorf("deadline %s, was %s: %v", next.DeadlineAt, j.DeadlineAt, err)
	}
}

// A job that waits for its next try does not wait for room before the sweeper has begun that try, however late it comes, nor
// after its time is over.
func TestWaitsForRoom(t *testing.T) {
	fresh := newJob()
	if since, waits := fresh.WaitsForRoom(epoch.Add(5 * time.Second)); !waits || !since.Equal(epoch) {
		t.Errorf("a new job waits for room: %t, since %s", waits, since)
	}
	j := jobIn(t, backup.Running)
	waiting, err := j.EndAttempt(j.Attempt, failure(backup.ProviderTimeout), epoch, policy)
	waiting = must(t, waiting, err)
	late := waiting.NextTryAt.Add(4 * time.Minute)
	if _, waits := waiting.WaitsForRoom(late); waits || !waiting.TellsRoomAt().IsZero() || !waiting.NextTry(late).Equal(waiting.NextTryAt) {
		t.Errorf("before its try is begun: waits for room %t, tells at %s", waits, waiting.TellsRoomAt())
	}
	begun, err := waiting.Restarted(late)
	begun = must(t, begun, err)
	again, err := begun.Restarted(late.Add(time.Minute))
	for _, begun := range []backup.Job{begun, must(t, again, err)} {
		if since, waits := begun.WaitsForRoom(late); waits || !since.Equal(late) || !begun.TellsRoomAt().After(late) {
			t.Errorf("as it is begun: waits for room %t since %s, tells at %s", waits, since, begun.TellsRoomAt())
		}
		if since, waits := begun.WaitsForRoom(late.Add(5 * time.Second)); !waits || !since.Equal(late) {
			t.Errorf("five seconds later: waits for room %t since %s", waits, since)
		}
	}
	if _, waits := begun.WaitsForRoom(begun.DeadlineAt); waits || !begun.NextTry(begun.DeadlineAt).IsZero() {
		t.Errorf("at the deadline: waits for room %t, next try %s", waits, begun.NextTry(begun.DeadlineAt))
	}
}

// A job whose time is over names the last error known as its reason.
func TestTimedOutSaysWhy(t *testing.T) {
	j := jobIn(t, backup.Running)
	last := backup.NewFailure(backup.StorageUnavailable, "files", "answered 503 SlowDown", epoch.Add(time.Hour))
	last.Since = epoch
	next, err := j.Expire(last, j.DeadlineAt, policy)
	if err != nil || next.Failure.Kind != backup.TimedOut || next.Failure.File != "files" {
		t.Fatalf("%+v, %v", next.Failure, err)
	}
	for _, part := range []string{"StorageUnavailable", "503 SlowDown", "since " + epoch.UTC().Format(time.RFC3339)} {
		if !strings.Contains(next.Failure.Detail, part) {
			t.Errorf("detail %q lacks %q", next.Failure.Detail, part)
		}
	}
}

// A cleanup that fails is told with since when; neither it nor its end touches the failure of the job.
func TestPostponeTellsWhy(t *testing.T) {
	for _, j := range []backup.Job{jobIn(t, backup.Failed), jobIn(t, backup.Deleting)} {
		refused := func(at time.Time) *backup.Failure {
			return backup.NewFailure(backup.StorageRefused, "", "legal hold", at)
		}
		next, err := j.Postpone(epoch.Add(time.Minute), refused(epoch))
		next = must(t, next, err)
		later := epoch.Add(backup.CleanupAlarm)
		if next.CleanupFailing(later.Add(-time.Second)) || !next.CleanupFailing(later) {
			t.Errorf("%s: alarm at the wrong time", j.Status)
		}
		next, err = next.Postpone(later, refused(later))
		if next = must(t, next, err); !next.LastError.Since.Equal(epoch) || !next.LastError.At.Equal(later) || next.Failure != j.Failure {
			t.Errorf("%s: %+v, failure %+v", j.Status, next.LastError, next.Failure)
		}
	}
	failing, err := jobIn(t, backup.Failed).Postpone(epoch.Add(time.Minute), failure(backup.StorageRefused))
	deleted, err2 := failing.Delete(epoch.Add(policy.FailedKeep))
	if err := errors.Join(err, err2); err != nil || !deleted.CleanupFailing(epoch.Add(policy.FailedKeep)) {
		t.Errorf("the deletion of a job whose cleanup has failed for a week forgets it: %+v, %v", deleted.LastError, err)
	}
	if next, err := jobIn(t, backup.Pending).Postpone(epoch, failure(backup.StoreUnavailable)); err != nil || next.LastError != nil {
		t.Errorf("a pending job: %+v, %v", next.LastError, err)
	}
}
