package telemetry

import (
	"context"
	"log/slog"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/telemetry/metric"
)

// FromChange is what one committed write counts for: jobs, files and parts are counted nowhere else, so that a step
// that runs twice or loses a race counts once. Rows that were removed count for nothing.
func FromChange(c backup.Change) []metric.Sample {
	var samples []metric.Sample
	if c.Job != nil && c.Job.New.Rev != 0 {
		samples = append(samples, fromJob(c.Job.Old, c.Job.New)...)
	}
	if c.File != nil {
		samples = append(samples, fromFile(c.File.Old, c.File.New)...)
	}
	if c.Part != nil {
		samples = append(samples, metric.PartsMoved.Of(1), metric.PartBytes.Of(float64(c.Part.Part.SizeBytes)))
	}
	return samples
}

func fromJob(old, next backup.Job) []metric.Sample {
	switch backup.JobEvent(old, next) {
	case backup.BackupJobCreated:
		return []metric.Sample{metric.JobsCreated.Of(1)}
	case backup.BackupJobRetried:
		return []metric.Sample{metric.JobsRetried.Of(1)}
	case backup.BackupJobFinished:
		if next.Status == backup.Done {
			took := next.FinishedAt.Sub(next.StartedAt)
			return []metric.Sample{metric.JobsDone.Of(1), metric.JobDurationSeconds.Of(took.Seconds()), metric.JobBytes.Of(float64(next.SizeBytes))}
		}
		return fromFailed(kindOf(next.Failure))
	}
	return nil
}

func fromFailed(kind backup.Kind) []metric.Sample {
	failed := metric.JobsFailed.For(string(kind), 1)
	switch kind {
	case backup.Cancelled:
		return []metric.Sample{metric.JobsCancelled.Of(1)}
	case backup.TimedOut:
		return []metric.Sample{failed, metric.JobsTimedOut.Of(1)}
	}
	return []metric.Sample{failed}
}

func fromFile(old, next backup.File) []metric.Sample {
	switch {
	case old.Status == next.Status:
		return nil
	case next.Status == backup.FileDone:
		return []metric.Sample{metric.FilesDone.Of(1), metric.ExportBytes.Of(float64(next.Pin.SizeBytes))}
	case next.Status == backup.FileFailed:
		return []metric.Sample{metric.FilesFailed.For(string(kindOf(next.Failure)), 1)}
	}
	return nil
}

func kindOf(f *backup.Failure) backup.Kind {
	if f == nil {
		return backup.Internal
	}
	return f.Kind
}

// Strays counts and logs what was found of a job that should have left nothing.
func Strays(ctx context.Context, metrics metric.Recorder, log *slog.Logger, job backup.Job, found int) {
	if found == 0 {
		return
	}
	metrics.Record(ctx, metric.StraysFound.Of(float64(found)))
	log.ErrorContext(ctx, "strays of a purged backup", KeyJobID, job.JobID, KeySiteID, job.SiteID, "found", found)
}
