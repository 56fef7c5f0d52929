package cloud_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/cloud"
	"github.com/sitevault/sitevault/internal/step"
	"github.com/sitevault/sitevault/internal/telemetry/metric"
)

var epoch = time.Date(2026, 3, 1, 2, 30, 0, 0, time.UTC)

type recorder map[string]float64

func (r recorder) Record(_ context.Context, samples ...metric.Sample) {
	for _, s := range samples {
		r[s.Def.Name] = s.Value
	}
}

// jobs has no due jobs, or fails to say.
type jobs struct {
	step.JobStore
	err error
}

func (j jobs) DueJobs(context.Context, time.Time, int) ([]backup.Job, error) { return nil, j.err }

// noSites has lost them all.
type noSites struct{ step.SiteStore }

func (noSites) GetSite(context.Context, string, string) (backup.Site, error) {
	return backup.Site{}, backup.E(backup.NotFound, "gone")
}

// waiting are sites that have waited for so long.
func waiting(since ...time.Duration) (sites []backup.Waiting) {
	for _, d := range since {
		sites = append(sites, backup.Waiting{UserID: "ada", SiteID: "blog", Since: epoch.Add(-d)})
	}
	return sites
}

// Every sweep tells the age of the oldest good backup, zero when no site waits, and how many sites have waited too long; it
// names each of those in the log as it becomes one. What fails of a sweep does not keep the rest from being done.
func TestSweeper(t *testing.T) {
	noTable, noIndex := errors.New("no table"), errors.New("no index")
	for _, tc := range []struct {
		name    string
		waiting []backup.Waiting
		table   error
		index   error
		hours   float64
		overdue float64
		named   bool
	}{
		{name: "no site"},
		{name: "a site in time", waiting: waiting(20 * time.Hour), hours: 20},
		{name: "a site that just came to need", waiting: waiting(26 * time.Hour), hours: 26, overdue: 1, named: true},
		{name: "a site in need for long", waiting: waiting(26*time.Hour + 5*time.Minute), hours: 26 + 1.0/12, overdue: 1},
		{name: "both, and one that is only late", waiting: waiting(99*time.Hour, 26*time.Hour, 25*time.Hour), hours: 99, overdue: 2, named: true},
		{name: "no table", table: noTable},
		{name: "no index", index: noIndex, hours: -1},
	} {
		counted, log := recorder{metric.OldestGoodBackupHours.Name: -1}, &bytes.Buffer{}
		now := func() time.Time { return epoch }
		s := cloud.Sweeper{
			Sweep: step.Sweep{Jobs: jobs{err: tc.table}, Now: now},
			CatchUp: step.CatchUp{
				Waiting: func(_ context.Context, before time.Time, limit int) ([]backup.Waiting, error) {
					found := slices.DeleteFunc(slices.Clone(tc.waiting), func(w backup.Waiting) bool { return w.Since.After(before) })
					return found[:min(limit, len(found))], tc.index
				},
				Backups: step.Backups{Now: now, Sites: noSites{}},
			},
			Metrics: counted, Now: now, Log: slog.New(slog.NewTextHandler(log, nil)),
		}
		_, err := s.Handle(t.Context(), struct{}{})
		if !errors.Is(err, tc.table) && tc.table != nil || !errors.Is(err, tc.index) && tc.index != nil || (err == nil) != (tc.table == nil && tc.index == nil) {
			t.Errorf("%s: %v", tc.name, err)
		}
		if _, told := counted[metric.SweepTended.Name]; !told || counted[metric.OldestGoodBackupHours.Name] != tc.hours || counted[metric.SitesWithoutBackup.Name] != tc.overdue {
			t.Errorf("%s: counted %v", tc.name, counted)
		}
		if named := strings.Contains(log.String(), "siteId=blog"); named != tc.named {
			t.Errorf("%s: log %s", tc.name, log)
		}
	}
}
