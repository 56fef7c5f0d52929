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

// Serve triggers runs until ctx ends.
func (c Clock) Serve(ctx context.Context) {
	tick := time.NewTicker(clockTick)
	defer tick.Stop()
	for since := c.Now().Add(-catchUp); ; {
		now := c.Now()
		if err := c.Trigger(ctx, since, now); err != nil && ctx.Err() == nil {
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

// Trigger starts each site's run that became due after since and not after now. A site registered or changed after
// its run's time waits for the next day. One site's failure does not keep the others from running.
func (c Clock) Trigger(ctx context.Context, since, now time.Time) error {
	for site, err := range c.Sites(ctx) {
		if err != nil {
			return fmt.Errorf("list sites: %w", err)
		}
		from := since
		if site.UpdatedAt.After(from) {
			from = site.UpdatedAt
		}
		due := site.Schedule.Next(from)
		if due.IsZero() || due.After(now) {
			continue
		}
		if err := c.Run(ctx, site, due); err != nil {
			c.Log.ErrorContext(ctx, "daily run", "siteId", site.SiteID, "error", err)
		}
	}
	return nil
}

// Put implements step.Schedules: the clock reads the sites themselves.
func (Clock) Put(context.Context, backup.Site) error { return nil }

// Delete implements step.Schedules.
func (Clock) Delete(context.Context, string, string) error { return nil }
