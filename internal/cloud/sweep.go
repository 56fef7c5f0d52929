package cloud

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
	"github.com/sitevault/sitevault/internal/telemetry"
	"github.com/sitevault/sitevault/internal/telemetry/metric"
)

// Sweeper is the function sweep: it tends due jobs, catches up on daily runs that were never started, and tells which sites
// have waited too long for a good backup.
type Sweeper struct {
	Sweep   step.Sweep
	CatchUp step.CatchUp
	Metrics metric.Recorder
	Now     func() time.Time
	Log     *slog.Logger
}

// SweepOut says how many jobs were due, and how many daily runs were made up for.
type SweepOut struct {
	Tended   int `json:"tended"`
	CaughtUp int `json:"caughtUp"`
}

const (
	// alarmingAge is when a site without a good backup counts: a day and two hours of grace for the backup itself.
	alarmingAge = 26 * time.Hour
	// namedFor is how long such a site is named, which is longer than a run may take: the runs meanwhile are left out.
	namedFor = 5 * time.Minute
)

// Handle runs one sweep. What fails of it does not keep the rest from being done.
func (s Sweeper) Handle(ctx context.Context, _ struct{}) (SweepOut, error) {
	ageErr := s.age(ctx)
	overdue, overdueErr := s.CatchUp.Overdue(ctx)
	if overdueErr == nil {
		s.tellOverdue(ctx, overdue)
	}
	swept, sweepErr := s.Sweep.Run(ctx)
	s.Metrics.Record(ctx, metric.SweepTended.Of(float64(swept.Tended)), metric.CleanupsFailing.Of(float64(swept.CleanupsFailing)))
	caughtUp, catchUpErr := s.CatchUp.Run(ctx, overdue)
	return SweepOut{Tended: swept.Tended, CaughtUp: caughtUp}, errors.Join(ageErr, overdueErr, sweepErr, catchUpErr)
}

// tellOverdue counts the sites that have waited too long for a good backup, and names each in the log when it has become
// one of them: several times if all is well, so that a sweep may be late or fail.
func (s Sweeper) tellOverdue(ctx context.Context, overdue []backup.Waiting) {
	count, alarming := 0, s.Now().Add(-alarmingAge)
	for _, w := range overdue {
		if w.Since.After(alarming) {
			break // the longest waiting come first
		}
		count++
		if w.Since.After(alarming.Add(-namedFor)) {
			s.Log.WarnContext(ctx, "a site has had no good backup for 26 hours", "userId", w.UserID, telemetry.KeySiteID, w.SiteID, "since", w.Since)
		}
	}
	s.Metrics.Record(ctx, metric.SitesWithoutBackup.Of(float64(count)))
}

// age tells how long the site has waited that has waited longest.
func (s Sweeper) age(ctx context.Context) error {
	now := s.Now()
	waiting, err := s.CatchUp.Waiting(ctx, now, 1)
	if err != nil {
		return err
	}
	var age time.Duration
	if len(waiting) > 0 {
		age = now.Sub(waiting[0].Since)
	}
	s.Metrics.Record(ctx, metric.OldestGoodBackupHours.Of(age.Hours()))
	return nil
}
