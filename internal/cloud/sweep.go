package cloud

import (
	"context"
	"log/slog"
	"time"

	"github.com/sitevault/sitevault/internal/step"
	"github.com/sitevault/sitevault/internal/telemetry"
	"github.com/sitevault/sitevault/internal/telemetry/metric"
)

// Sweeper is the function sweep: it tends due jobs, and tells how long the site has waited that has waited longest for a
// good backup.
type Sweeper struct {
	Sweep step.Sweep
	// Longest finds that site, and since when it waits; the zero time when no site is scheduled.
	Longest func(ctx context.Context) (userID, siteID string, since time.Time, err error)
	Metrics metric.Recorder
	Now     func() time.Time
	Log     *slog.Logger
}

// SweepOut says how many jobs were due.
type SweepOut struct {
	Tended int `json:"tended"`
}

// alarmingAge is when a site without a good backup is named in the log; the alarm itself looks at the metric.
const alarmingAge = 26 * time.Hour

// Handle runs one sweep. The age of backups is told although a job could not be tended, and the other way round.
func (s Sweeper) Handle(ctx context.Context, _ struct{}) (SweepOut, error) {
	ageErr := s.age(ctx)
	tended, err := s.Sweep.Run(ctx)
	s.Metrics.Record(ctx, metric.SweepTended.Of(float64(tended)))
	if err == nil {
		err = ageErr
	}
	return SweepOut{Tended: tended}, err
}

func (s Sweeper) age(ctx context.Context) error {
	userID, siteID, since, err := s.Longest(ctx)
	if err != nil {
		return err
	}
	var age time.Duration
	if !since.IsZero() {
		age = max(s.Now().Sub(since), 0)
	}
	s.Metrics.Record(ctx, metric.OldestGoodBackupHours.Of(age.Hours()))
	if age >= alarmingAge {
		s.Log.WarnContext(ctx, "a site has had no good backup for long", "userId", userID, telemetry.KeySiteID, siteID, "since", since)
	}
	return nil
}
