// Package schedule triggers the daily runs.
package schedule

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

// Clock triggers the daily runs on one machine, where no scheduler outside does.
type Clock struct {
	Sites func(ctx context.Context) iter.Seq2[backup.Site, error]
	// Run starts the site's run that was due at the given time. It may be called more than once for the same run.
	Run func(ctx context.Context, site backup.Site, due time.Time) error
	Now func() time.Time
	Log *slog.Logger
}

const (
	clockTick = 30 * time.Second
	// catchUp is how far back a start looks for runs that were missed while the program was down.
	catchUp = 24 * time.Hour
)

// Serve triggers runs until ctx ends. A run that could not be started is tried again for as long as a start of the
// program would look back for it.
func (c Clock) Serve(ctx context.Context) {
	tick := time.NewTicker(clockTick)
	defer tick.Stop()
	late := map[siteKey]run{}
	for since := c.Now().Add(-catchUp); ; {
		now := c.Now()
		for key, r := range late {
			if now.Sub(r.due) > catchUp || c.start(ctx, r) {
				delete(late, key)
			}
		}
		if err := c.trigger(ctx, since, now, late); err != nil && ctx.Err() == nil {
			c.Log.ErrorContext(ctx, "daily runs", "error", err)
		} else {
			since = now
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

type siteKey struct{ userID, siteID string }

// run is a site's run that was due at the given time.
type run struct {
	site backup.Site
	due  time.Time
}

// trigger starts each site's last run that became due after since and not after now. A site registered or moved after
// its run's time waits for the next day. One site's failure does not keep the others from running: its run is put
// into late.
func (c Clock) trigger(ctx context.Context, since, now time.Time, late map[siteKey]run) error {
	for site, err := range c.Sites(ctx) {
		if err != nil {
			return fmt.Errorf("list sites: %w", err)
		}
		from := since
		if site.ScheduledAt.After(from) {
			from = site.ScheduledAt
		}
		due := lastDue(site.Schedule, from, now)
		if due.IsZero() {
			continue
		}
		if r := (run{site, due}); !c.start(ctx, r) {
			late[siteKey{site.UserID, site.SiteID}] = r
		}
	}
	return nil
}

// lastDue is zero when no run was due. More than one was when the sites could not be listed for long.
func lastDue(s backup.Schedule, since, now time.Time) (due time.Time) {
	for next := s.Next(since); !next.IsZero() && !next.After(now); next = s.Next(next) {
		due = next
	}
	return due
}

func (c Clock) start(ctx context.Context, r run) bool {
	err := c.Run(ctx, r.site, r.due)
	if err != nil && ctx.Err() == nil {
		c.Log.ErrorContext(ctx, "daily run", "siteId", r.site.SiteID, "due", r.due, "error", err)
	}
	return err == nil
}

// Put implements step.Schedules: the clock reads the sites themselves.
func (Clock) Put(context.Context, backup.Site) error { return nil }

// Delete implements step.Schedules.
func (Clock) Delete(context.Context, string, string) error { return nil }
