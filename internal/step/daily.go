package step

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

// RunDaily starts the daily backup of a site. The run is keyed by site and date, so that a second delivery of the same
// run starts nothing and returns the job of the first; while another backup of the site is active it is skipped.
func (b Backups) RunDaily(ctx context.Context, userID, siteID string, run time.Time) (job backup.Job, started bool, err error) {
	site, err := b.Sites.GetSite(ctx, userID, siteID)
	if backup.Is(err, backup.NotFound) {
		return job, false, nil // deleted since the run was scheduled
	}
	if err != nil || site.Schedule.Off {
		return job, false, err
	}
	now := b.Now()
	job, err = b.Create(ctx, CreateBackup{UserID: userID, SiteID: siteID, Trigger: backup.Daily, Key: site.RunKey(run), BodyHash: "daily"})
	if backup.Is(err, backup.SiteBusy) {
		b.Log.InfoContext(ctx, "daily run skipped: a backup is under way", "siteId", siteID)
		return job, false, nil
	}
	return job, err == nil && !job.CreatedAt.Before(now), err
}

// CatchUp is the guarantee behind the schedules: it starts the last daily run of sites that have waited for a good backup
// for more than a day and have made no job since that run was due. The run's event got lost, or its time was one that the
// clocks jumped over.
type CatchUp struct {
	// Waiting lists scheduled sites without a good backup since before the given time, the longest waiting first.
	Waiting func(ctx context.Context, before time.Time, limit int) ([]backup.Waiting, error)
	Backups Backups
}

const (
	// overdueAfter is when a site's waiting asks for a look at its runs. Backups that take longer from day to day do not.
	overdueAfter = 25 * time.Hour
	// runGrace is how late a schedule may deliver a run without anything being wrong.
	runGrace = time.Hour
	// maxOverdue bounds one call.
	maxOverdue = 10_000
)

// Overdue lists the sites that may need a run, the longest waiting first.
func (c CatchUp) Overdue(ctx context.Context) ([]backup.Waiting, error) {
	return c.Waiting(ctx, c.Backups.Now().Add(-overdueAfter), maxOverdue)
}

// Run starts the lost runs of overdue sites and returns how many. The error joins those of single sites, which do not keep
// the others waiting. The last of the list go first: whoever has waited for weeks has a provider that fails every day, not
// a run that got lost.
func (c CatchUp) Run(ctx context.Context, overdue []backup.Waiting) (started int, err error) {
	now := c.Backups.Now()
	shortestFirst := slices.Clone(overdue)
	slices.Reverse(shortestFirst)
	var count atomic.Int64
	_, err = each(ctx, shortestFirst, func(w backup.Waiting) error {
		ran, err := c.start(ctx, w, now)
		if err != nil {
			return fmt.Errorf("catch up on site %s of user %s: %w", w.SiteID, w.UserID, err)
		}
		if ran {
			count.Add(1)
		}
		return nil
	})
	return int(count.Load()), err
}

func (c CatchUp) start(ctx context.Context, w backup.Waiting, now time.Time) (started bool, err error) {
	site, err := c.Backups.Sites.GetSite(ctx, w.UserID, w.SiteID)
	if backup.Is(err, backup.NotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	due := site.Schedule.Last(now.Add(-runGrace))
	if due.IsZero() || site.ScheduledAt.After(due) { // a site moved after its run's time waits for the next day
		return false, nil
	}
	newest, err := c.Backups.Jobs.ListJobs(ctx, backup.JobQuery{UserID: w.UserID, SiteID: w.SiteID, Limit: 1})
	if err != nil || (len(newest) > 0 && !newest[0].CreatedAt.Before(due)) {
		return false, err
	}
	_, started, err = c.Backups.RunDaily(ctx, w.UserID, w.SiteID, due)
	return started, err
}
