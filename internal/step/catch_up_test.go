package step_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
)

// catchUp runs CatchUp over the sites, all of which have waited for a day and more.
func (r *rig) catchUp(siteIDs ...string) (started int, err error) {
	waiting := func(_ context.Context, before time.Time, limit int) (all []backup.Waiting, err error) {
		if want := r.now().Add(-25 * time.Hour); !before.Equal(want) || limit < 100 {
			r.Errorf("asked for %d sites before %s", limit, before)
		}
		for _, id := range siteIDs {
			all = append(all, backup.Waiting{UserID: "ada", SiteID: id, Since: before.Add(-time.Minute)})
		}
		return all, nil
	}
	catchUp := step.CatchUp{Waiting: waiting, Backups: r.backups()}
	overdue, err := catchUp.Overdue(r.Context())
	r.need(err)
	return catchUp.Run(r.Context(), overdue)
}

func (r *rig) scheduled(siteID, at, zone string) backup.Site {
	r.Helper()
	site := newSite()
	site.SiteID, site.Schedule, site.ScheduledAt = siteID, backup.Schedule{At: at, TimeZone: zone}, r.now()
	r.need(r.store.PutSite(r.Context(), site.WithDefaults()))
	return site
}

// A run that was never started is made up for once, an hour after it was due; one that was tried is not, however it went.
func TestCatchUp(t *testing.T) {
	r := newRig(t)
	r.scheduled("blog", "03:00", "")
	want := func(started int, when string) {
		t.Helper()
		if got, err := r.catchUp("blog"); err != nil || got != started {
			t.Errorf("%s: %d started, %v", when, got, err)
		}
	}
	r.passes(24*time.Hour + 29*time.Minute) // 02:59 the next day: the first run was due at 03:00 on the day before
	want(1, "the run of the day before")
	want(0, "... once")
	job := r.onlyJob("blog")
	if job.Trigger != backup.Daily || job.Status != backup.Pending {
		t.Errorf("%s job by %s", job.Status, job.Trigger)
	}
	r.need(second(r.backups().Cancel(t.Context(), "ada", job.JobID)))
	want(0, "... although it failed")
	r.passes(time.Hour)
	want(0, "a run that may still be on its way")
	r.passes(time.Minute)
	want(1, "an hour later")
}

func (r *rig) onlyJob(siteID string) backup.Job {
	r.Helper()
	jobs, err := r.store.ListJobs(r.Context(), backup.JobQuery{UserID: "ada", SiteID: siteID, Limit: 2})
	r.need(err)
	if len(jobs) != 1 {
		r.Fatalf("%d jobs", len(jobs))
	}
	return jobs[0]
}

// On the day when the clocks jump over a run's time, the run happens nevertheless.
func TestCatchUpWhenClocksJump(t *testing.T) {
	r := newRig(t)
	r.clock = time.Date(2020, 3, 28, 12, 0, 0, 0, time.UTC)
	r.scheduled("blog", "02:30", "Europe/Berlin")
	r.clock = time.Date(2020, 3, 29, 2, 30, 0, 0, time.UTC) // 04:30: the run's time was shown by no clock
	if started, err := r.catchUp("blog"); started != 1 || err != nil {
		t.Errorf("%d started, %v", started, err)
	}
}

// Sites that are gone, off or moved since their run's time are left alone, and one site's failure keeps no other from
// being looked at.
func TestCatchUpLeavesOthersAlone(t *testing.T) {
	r := newRig(t)
	r.scheduled("blog", "03:00", "")
	off := newSite()
	off.SiteID, off.Schedule.Off = "off", true
	r.need(r.store.PutSite(t.Context(), off.WithDefaults()))
	r.passes(24 * time.Hour)
	r.scheduled("moved", "03:00", "")
	if started, err := r.catchUp("gone", "off", "moved", "blog"); started != 1 || err != nil {
		t.Errorf("%d started, %v", started, err)
	}
	r.need(second(r.backups().Cancel(t.Context(), "ada", r.onlyJob("blog").JobID)))
	r.passes(24 * time.Hour)
	r.faults.arm(fault{n: 1})
	started, err := r.catchUp("moved", "blog")
	if fired := r.faults.disarm(); fired == "" || started != 1 || err == nil || !strings.Contains(err.Error(), "catch up on site") {
		t.Errorf("%d started, %v; fault at %q", started, err, fired)
	}
	broken := errors.New("no index")
	_, err = step.CatchUp{
		Waiting: func(context.Context, time.Time, int) ([]backup.Waiting, error) { return nil, broken }, Backups: r.backups(),
	}.Overdue(t.Context())
	if !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

// Sites whose providers have failed for weeks stand first in the index and last here: a run that got lost does not wait
// behind them.
func TestCatchUpBeginsWithTheShortestWaiting(t *testing.T) {
	r := newRig(t)
	r.scheduled("lost", "03:00", "")
	r.passes(24*time.Hour + 29*time.Minute)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	backups := r.backups()
	backups.Sites = lostFirst{backups.Sites, make(chan struct{}), new(sync.Once)}
	var overdue []backup.Waiting
	for i := range 1000 {
		overdue = append(overdue, backup.Waiting{UserID: "ada", SiteID: fmt.Sprintf("dead-%d", i), Since: epoch.AddDate(0, -1, 0)})
	}
	overdue = append(overdue, backup.Waiting{UserID: "ada", SiteID: "lost", Since: epoch})
	started, err := step.CatchUp{Backups: backups}.Run(ctx, overdue)
	if started != 1 || err != nil {
		t.Errorf("%d started, %v", started, err)
	}
}

// lostFirst lets nobody look at another site before the one that lost its run.
type lostFirst struct {
	step.SiteStore
	found chan struct{} // closed by the first look at it
	once  *sync.Once
}

func (l lostFirst) GetSite(ctx context.Context, userID, siteID string) (backup.Site, error) {
	if siteID == "lost" {
		l.once.Do(func() { close(l.found) })
	}
	select {
	case <-l.found:
		return l.SiteStore.GetSite(ctx, userID, siteID)
	case <-ctx.Done():
		return backup.Site{}, ctx.Err()
	}
}
