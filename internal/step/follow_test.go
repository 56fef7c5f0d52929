package step_test

import (
	"context"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/step"
)

// What the API had no time for after its fence is removed by whoever follows the job's event; a second event finds
// nothing more to do.
func TestFollow(t *testing.T) {
	for name, end := range map[string]func(r *rig, job backup.Job) error{
		"cancelled": func(r *rig, job backup.Job) error {
			return second(r.backups().Cancel(r.Context(), "ada", job.JobID))
		},
		"deleting": func(r *rig, job backup.Job) error {
			return second(r.backups().Delete(r.Context(), "ada", job.JobID))
		},
	} {
		r := newRig(t)
		r.site(smallSite())
		job := r.running()
		r.move(job, r.open(job, "files"))
		refused := false
		r.storage.Intercept = func(c backuptest.StorageCall) error {
			if c.Op == "AbortUploads" && !refused {
				refused = true
				return backup.E(backup.StorageUnavailable, "no time left")
			}
			return nil
		}
		r.need(end(r, job))
		if uploads, _ := r.storage.Left(job.Prefix()); !refused || uploads != 1 {
			t.Fatalf("%s: %d uploads after the API's own sweep, refused %t", name, uploads, refused)
		}
		r.need(r.cleaner().Follow(t.Context(), job.JobID))
		r.wantNothingLeft(job)
		sweeps := r.storage.Calls("AbortUploads")
		r.need(r.cleaner().Follow(t.Context(), job.JobID))
		if got := r.storage.Calls("AbortUploads"); got != sweeps {
			t.Errorf("%s: the second event swept again", name)
		}
	}
}

// A job that is under way, failed by itself or is gone is not Follow's business.
func TestFollowLeavesOthersAlone(t *testing.T) {
	r := newRig(t)
	r.site(smallSite())
	job := r.failed(backup.ProviderTimeout)
	calls := r.storage.Calls("AbortUploads") + len(r.executions.stopped)
	r.need(r.cleaner().Follow(t.Context(), job.JobID))
	r.need(second(r.backups().Retry(t.Context(), "ada", job.JobID)))
	r.need(r.cleaner().Follow(t.Context(), job.JobID))
	r.need(r.cleaner().Follow(t.Context(), "01JD9999999999999999999999"))
	if got := r.storage.Calls("AbortUploads") + len(r.executions.stopped); got != calls {
		t.Errorf("%d calls to storage and executions, want none", got-calls)
	}
}

// Whatever lies under the prefix of a purged job is found, counted and removed; a neighbour's is not.
func TestRemovePurged(t *testing.T) {
	r := newRig(t)
	r.site(smallSite())
	job := r.running()
	neighbour := job
	neighbour.JobID += "X"
	r.lateUpload(job, 1)
	r.lateUpload(neighbour, 1)
	r.need(r.storage.Put(t.Context(), job.ManifestKey(), "application/json", []byte("{}")))
	for _, want := range []int{2, 0} {
		found, err := r.cleaner().RemovePurged(t.Context(), job, nil)
		if err != nil || found != want {
			t.Errorf("found %d, %v; want %d", found, err, want)
		}
	}
	r.wantNothingLeft(job)
	if uploads, _ := r.storage.Left(neighbour.Prefix()); uploads != 1 {
		t.Error("the neighbour's upload is gone")
	}
}

// racing is a place of schedules where another change of the site comes first, once.
type racing struct {
	schedules
	before func()
}

func (s *racing) Put(ctx context.Context, site backup.Site) error {
	if before := s.before; before != nil {
		s.before = nil
		before()
	}
	return s.schedules.Put(ctx, site)
}

// Of two changes at the same time the newer one stands in the schedule, whichever reaches it last.
func TestScheduleFollowsNewestSite(t *testing.T) {
	r := newRig(t)
	kept := &racing{schedules: schedules{kept: map[string]backup.Site{}}}
	sites := step.Sites{Store: r.store, Schedules: kept, Now: r.now}
	older, newer := newSite(), newSite()
	older.Schedule.At, newer.Schedule.At = "01:00", "02:00"
	kept.before = func() { r.need(third(sites.Put(t.Context(), newer, 0))) }
	r.need(third(sites.Put(t.Context(), older, 0)))
	if got := kept.kept["ada/blog"].Schedule.At; kept.before != nil || got != "02:00" {
		t.Errorf("scheduled at %s", got)
	}
	r.passes(time.Hour)
	kept.before = func() { r.need(sites.Delete(t.Context(), "ada", "blog")) }
	r.need(third(sites.Put(t.Context(), older, 0)))
	if len(kept.kept) != 0 {
		t.Errorf("a deleted site is scheduled: %+v", kept.kept)
	}
}

func third(_ backup.Site, _ bool, err error) error { return err }
