package schedule_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/schedule"
	"github.com/sitevault/sitevault/internal/step"
)

var _ step.Schedules = schedule.Clock{}

// world is the sites and what the clock did about them. Its time is that of the synctest bubble, which begins at
// midnight UTC.
type world struct {
	t     *testing.T
	mu    sync.Mutex
	sites []backup.Site
	runs  []string       // "<site> <due>"
	fail  map[string]int // how many runs of a site fail from now on
	lists int            // how many listings fail from now on
}

func newWorld(t *testing.T, sites ...backup.Site) *world {
	return &world{t: t, sites: sites, fail: map[string]int{}}
}

// site runs daily at the given time and was last changed long ago.
func site(id, at string) backup.Site {
	return backup.Site{UserID: "ada", SiteID: id, Schedule: backup.Schedule{At: at}}
}

func (w *world) clock() schedule.Clock {
	return schedule.Clock{Sites: w.list, Run: w.run, Now: time.Now, Log: slog.New(slog.NewTextHandler(w.t.Output(), nil))}
}

func (w *world) list(context.Context) iter.Seq2[backup.Site, error] {
	return func(yield func(backup.Site, error) bool) {
		w.mu.Lock()
		sites, fail := slices.Clone(w.sites), w.lists > 0
		w.lists--
		w.mu.Unlock()
		for _, s := range sites {
			if !yield(s, nil) {
				return
			}
		}
		if fail {
			yield(backup.Site{}, errors.New("the store is down"))
		}
	}
}

func (w *world) run(_ context.Context, s backup.Site, due time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail[s.SiteID] > 0 {
		w.fail[s.SiteID]--
		return errors.New("the store is down")
	}
	w.runs = append(w.runs, fmt.Sprintf("%s %s", s.SiteID, due.Format("02 15:04")))
	return nil
}

func (w *world) change(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// during lets the clock serve for some time and returns what it ran.
func (w *world) during(d time.Duration) []string {
	ctx, cancel := context.WithTimeout(w.t.Context(), d)
	defer cancel()
	w.clock().Serve(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	runs := w.runs
	w.runs = nil
	return runs
}

func wantRuns(t *testing.T, got []string, want ...string) {
	t.Helper()
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("ran %q, want %q", got, want)
	}
}

// Each site runs once a day at its own time, and the runs of the last day that were missed are made up for.
func TestServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, site("blog", "03:30"), site("shop", "22:00"))
		w.sites = append(w.sites, backup.Site{SiteID: "still", Schedule: backup.Schedule{Off: true}})
		wantRuns(t, w.during(3*time.Hour), "blog 31 03:30", "shop 31 22:00")                // yesterday's: the bubble begins on 1 January
		wantRuns(t, w.during(time.Hour), "blog 01 03:30", "blog 31 03:30", "shop 31 22:00") // a new start looks back again
		w = newWorld(t, site("blog", "03:30"))
		wantRuns(t, w.during(72*time.Hour), "blog 01 03:30", "blog 02 03:30", "blog 03 03:30", "blog 04 03:30")
	})
}

// A run is started within half a minute of its time.
func TestServeIsPunctual(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, site("blog", "03:30"))
		began := time.Now()
		var started time.Duration
		c := w.clock()
		c.Run = func(_ context.Context, _ backup.Site, due time.Time) error {
			if due.After(began) {
				started = time.Since(due)
			}
			return nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Hour)
		defer cancel()
		c.Serve(ctx)
		if started < 0 || started > 30*time.Second {
			t.Errorf("started %s after its time", started)
		}
	})
}

// A site registered or moved after its run's time waits for the next day.
func TestMovedSiteWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		time.Sleep(4 * time.Hour)
		fresh := site("blog", "03:30")
		fresh.ScheduledAt = time.Now()
		w.sites = []backup.Site{fresh}
		wantRuns(t, w.during(23*time.Hour))
		wantRuns(t, w.during(time.Hour), "blog 02 03:30")
		moved := site("blog", "03:45") // past 03:45 already when it is moved there
		moved.ScheduledAt = time.Now()
		w.sites = []backup.Site{moved}
		wantRuns(t, w.during(time.Hour))
	})
}

// One site whose run cannot be started does not keep the others from theirs, and is tried again until it starts.
func TestFailingSite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, site("blog", "03:30"), site("shop", "03:30"))
		time.Sleep(3 * time.Hour)
		w.fail["blog"] = 5
		go func() {
			time.Sleep(time.Minute)
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			if !slices.Equal(w.runs, []string{"shop 31 03:30"}) {
				t.Errorf("in the first minute ran %q", w.runs)
			}
		}()
		wantRuns(t, w.during(2*time.Hour), "blog 01 03:30", "blog 31 03:30", "shop 01 03:30", "shop 31 03:30")
	})
}

// A run that cannot be started for a day is given up, for the next one or for good.
func TestRunIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, site("blog", "03:30"), site("gone", "03:30"))
		time.Sleep(3 * time.Hour)
		w.fail["blog"], w.fail["gone"] = 1_000_000, 1_000_000
		go func() {
			time.Sleep(time.Minute)
			w.change(func() { w.sites = w.sites[:1] })
			time.Sleep(26 * time.Hour) // on the second day, after its run's time
			w.change(func() { w.fail["blog"], w.fail["gone"] = 0, 0 })
		}()
		wantRuns(t, w.during(30*time.Hour), "blog 02 03:30")
	})
}

// Sites that cannot be listed are listed again, so that no run gets lost.
func TestFailingList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, site("blog", "03:30"))
		time.Sleep(3*time.Hour + 29*time.Minute + 50*time.Second)
		w.lists = 5
		got := w.during(30 * time.Minute)
		if !slices.Contains(got, "blog 01 03:30") {
			t.Errorf("ran %q", got)
		}
	})
}
