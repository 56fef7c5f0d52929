package telemetry_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/telemetry"
	"github.com/sitevault/sitevault/internal/telemetry/metric"
)

// told writes samples as "JobsFailed/TimedOut=1".
func told(samples []metric.Sample) []string {
	all := []string{}
	for _, s := range samples {
		name := s.Def.Name
		if s.Label != "" {
			name += "/" + s.Label
		}
		all = append(all, fmt.Sprintf("%s=%v", name, s.Value))
	}
	return all
}

func site() backup.Site {
	return backup.Site{UserID: "u", SiteID: "shop", Providers: []backup.Provider{{Name: "files", URL: "https://example.com/"}}}
}

// jobs are the states that one job passes through, each made by the domain's own transitions.
type jobs struct {
	t   *testing.T
	now time.Time
}

func (b jobs) after(d time.Duration, step func(now time.Time) (backup.Job, error)) backup.Job {
	b.t.Helper()
	j, err := step(b.now.Add(d))
	if err != nil {
		b.t.Fatal(err)
	}
	j.Rev++
	return j
}

// Every transition of a job counts for exactly what its name says; those that only plan work count for nothing.
func TestFromJobChange(t *testing.T) {
	b, p := jobs{t, noon}, backup.DefaultPolicy()
	pending := backup.NewJob("01HZX", site(), backup.Manual, noon.Add(1000*time.Hour), noon, p)
	pending.Rev = 1
	running := b.after(time.Minute, func(now time.Time) (backup.Job, error) { return pending.Start(1, now, p) })
	fail := func(from backup.Job, kind backup.Kind) backup.Job {
		return b.after(time.Hour, func(now time.Time) (backup.Job, error) {
			return from.Fail(1, backup.NewFailure(kind, "", "", now), now, p)
		})
	}
	done := b.after(31*time.Minute, func(now time.Time) (backup.Job, error) { return running.Finish(1, 1234, now) })
	failed := fail(running, backup.ProviderTimeout)
	cancelled := b.after(time.Hour, func(now time.Time) (backup.Job, error) { return running.Cancel(now, p) })
	expired := b.after(7*time.Hour, func(now time.Time) (backup.Job, error) { return running.Expire(nil, now, p) })
	retried := b.after(90*time.Minute, func(now time.Time) (backup.Job, error) { return failed.Retry(nil, now, p) })
	cleaning := b.after(3*time.Hour, func(now time.Time) (backup.Job, error) { return failed.BeginCleanup(now) })
	swept := b.after(4*time.Hour, func(now time.Time) (backup.Job, error) { return cleaning.Swept(now, now, p) })
	deleting := b.after(5*time.Hour, func(now time.Time) (backup.Job, error) { return done.Delete(now) })
	deleted := b.after(6*time.Hour, func(now time.Time) (backup.Job, error) { return deleting.Removed(now, now, p) })
	newer := failed
	newer.Failure = &backup.Failure{Kind: "KindOfANewerVersion"}
	lost := failed
	lost.Failure = nil

	for name, tc := range map[string]struct {
		old, next backup.Job
		want      []string
	}{
		"created":                     {backup.Job{}, pending, []string{"JobsCreated=1"}},
		"started":                     {pending, running, nil},
		"started once more":           {pending, b.after(0, func(now time.Time) (backup.Job, error) { return pending.Restarted(now) }), nil},
		"done":                        {running, done, []string{"JobsDone=1", "JobDurationSeconds=1800", "JobBytes=1234"}},
		"failed":                      {running, failed, []string{"JobsFailed/ProviderTimeout=1"}},
		"failed before it started":    {pending, fail(pending, backup.Internal), []string{"JobsFailed/Internal=1"}},
		"timed out in the flow":       {running, fail(running, backup.TimedOut), []string{"JobsFailed/TimedOut=1", "JobsTimedOut=1"}},
		"timed out":                   {running, expired, []string{"JobsFailed/TimedOut=1", "JobsTimedOut=1"}},
		"cancelled":                   {running, cancelled, []string{"JobsCancelled=1"}},
		"failed as a newer version":   {running, newer, []string{"JobsFailed/KindOfANewerVersion=1"}},
		"failed without a reason":     {running, lost, []string{"JobsFailed/Internal=1"}},
		"tried again by the service":  {running, b.after(time.Hour, func(now time.Time) (backup.Job, error) { return running.EndAttempt(1, failed.Failure, now, p) }), []string{"JobsRetried=1"}},
		"retried":                     {failed, retried, []string{"JobsRetried=1"}},
		"cleanup":                     {failed, cleaning, nil},
		"swept":                       {cleaning, swept, nil},
		"postponed":                   {failed, b.after(0, func(now time.Time) (backup.Job, error) { return failed.Postpone(now, failed.Failure) }), nil},
		"kept longer":                 {done, b.after(time.Hour, func(now time.Time) (backup.Job, error) { return done.Keep(now.Add(time.Hour), now) }), nil},
		"deleted by its user":         {done, deleting, nil},
		"deleted":                     {deleting, deleted, nil},
		"row purged":                  {deleted, backup.Job{}, nil},
		"row of a running one purged": {running, backup.Job{}, nil},
		"nothing":                     {backup.Job{}, backup.Job{}, nil},
	} {
		got := told(telemetry.FromChange(backup.Change{JobID: "01HZX", Job: &backup.JobChange{Old: tc.old, New: tc.next}}))
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

// A file counts when it ends, and only for the way it ends.
func TestFromFileChange(t *testing.T) {
	in := func(status backup.FileStatus) backup.File {
		return backup.File{JobID: "01HZX", Name: "files", Status: status, Pin: backup.Pin{SizeBytes: 77}, Rev: 1}
	}
	failed := in(backup.FileFailed)
	failed.Failure = &backup.Failure{Kind: backup.ArchiveInvalid}
	otherwise := failed
	otherwise.Failure = &backup.Failure{Kind: backup.Internal}
	done := []string{"FilesDone=1", "ExportBytes=77"}
	fails := []string{"FilesFailed/ArchiveInvalid=1"}
	for _, tc := range []struct {
		old, next backup.File
		want      []string
	}{
		{backup.File{}, in(backup.FileOpen), nil},
		{backup.File{}, failed, fails},
		{in(backup.FileOpen), in(backup.FileOpen), nil},
		{in(backup.FileOpen), in(backup.FileCompleting), nil},
		{in(backup.FileOpen), failed, fails},
		{in(backup.FileCompleting), in(backup.FileOpen), nil},
		{in(backup.FileCompleting), in(backup.FileStored), nil},
		{in(backup.FileCompleting), failed, fails},
		{in(backup.FileStored), in(backup.FileDone), done},
		{in(backup.FileStored), failed, fails},
		{failed, in(backup.FileOpen), nil},
		{failed, otherwise, nil},
		{in(backup.FileDone), in(backup.FileDone), nil},
		{in(backup.FileDone), backup.File{}, nil},
		{failed, backup.File{}, nil},
		{backup.File{}, backup.File{}, nil},
	} {
		got := told(telemetry.FromChange(backup.Change{File: &backup.FileChange{Old: tc.old, New: tc.next}}))
		if !slices.Equal(got, tc.want) {
			t.Errorf("%q to %q: %v, want %v", tc.old.Status, tc.next.Status, got, tc.want)
		}
	}
}

// A recorded part counts the same with its file, as one store tells it, and alone, as the other does.
func TestFromPartChange(t *testing.T) {
	part := &backup.PartWrite{Part: backup.Part{Number: 3, SizeBytes: 16 << 20}}
	file := backup.File{Status: backup.FileOpen, Rev: 2}
	want := []string{"PartsMoved=1", "PartBytes=1.6777216e+07"}
	for _, c := range []backup.Change{
		{Part: part}, {Part: part, File: &backup.FileChange{Old: file, New: file}},
	} {
		if got := told(telemetry.FromChange(c)); !slices.Equal(got, want) {
			t.Errorf("%v", got)
		}
	}
	if got := telemetry.FromChange(backup.Change{}); len(got) > 0 {
		t.Errorf("a change of nothing counts %v", told(got))
	}
}
