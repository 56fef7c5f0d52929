package step

import (
	"context"
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
