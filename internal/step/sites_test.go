package step_test

import (
	"context"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/step"
)

// schedules notes what is kept where runs are triggered from.
type schedules struct {
	kept map[string]backup.Site
	fail error
}

func (s *schedules) Put(_ context.Context, site backup.Site) error {
	if s.fail == nil {
		s.kept[site.UserID+"/"+site.SiteID] = site
	}
	return s.fail
}

func (s *schedules) Delete(_ context.Context, userID, siteID string) error {
	if s.fail == nil {
		delete(s.kept, userID+"/"+siteID)
	}
	return s.fail
}

func siteCases(t *testing.T) (*rig, step.Sites, *schedules) {
	r := newRig(t)
	kept := &schedules{kept: map[string]backup.Site{}}
	return r, step.Sites{Store: r.store, Schedules: kept, Now: r.now}, kept
}

func newSite() backup.Site {
	return backup.Site{UserID: "ada", SiteID: "blog", Providers: []backup.Provider{{Name: "files", URL: "https://example.org/"}}}
}

// A site is created with defaults and changed in place; its schedule follows.
func TestPutSite(t *testing.T) {
	r, sites, kept := siteCases(t)
	first, created, err := sites.Put(t.Context(), newSite(), 0)
	if err != nil || !created || first.Rev != 1 || first.KeepDays != backup.DefaultKeepDays || !first.CreatedAt.Equal(epoch) {
		t.Fatalf("created %t: %+v, %v", created, first, err)
	}
	r.passes(time.Hour)
	change := newSite()
	change.Schedule = backup.Schedule{At: "12:00"}
	changed, created, err := sites.Put(t.Context(), change, first.Rev)
	if err != nil || created || changed.Rev != 2 || !changed.CreatedAt.Equal(epoch) || !changed.UpdatedAt.Equal(r.now()) {
		t.Fatalf("created %t: %+v, %v", created, changed, err)
	}
	if !first.ScheduledAt.Equal(epoch) || !changed.ScheduledAt.Equal(r.now()) {
		t.Errorf("scheduled at %s, moved at %s", first.ScheduledAt, changed.ScheduledAt)
	}
	r.passes(time.Hour)
	change.KeepDays = 7
	if again, _, err := sites.Put(t.Context(), change, 0); err != nil || !again.ScheduledAt.Equal(changed.ScheduledAt) {
		t.Errorf("a change of something else moved its schedule: %s, %v", again.ScheduledAt, err)
	}
	stored, err := sites.Get(t.Context(), "ada", "blog")
	if err != nil || stored.Rev != 3 || stored.Schedule.At != "12:00" || kept.kept["ada/blog"].Schedule.At != "12:00" {
		t.Errorf("stored %+v, %v; scheduled %+v", stored, err, kept.kept)
	}
}

// Whoever has not seen the present revision does not overwrite it.
func TestPutSiteConditions(t *testing.T) {
	for _, tc := range []struct {
		name string
		want int64
		kind backup.Kind
	}{{"any", 0, ""}, {"the present one", 2, ""}, {"an old one", 1, backup.Conflict}, {"none", step.NewSite, backup.Conflict}, {"some", step.OldSite, ""}} {
		r, sites, _ := siteCases(t)
		for range 2 {
			_, _, err := sites.Put(t.Context(), newSite(), 0)
			r.need(err)
		}
		_, _, err := sites.Put(t.Context(), newSite(), tc.want)
		r.wantKind(err, tc.kind, tc.name)
	}
	r, sites, kept := siteCases(t)
	_, _, err := sites.Put(t.Context(), newSite(), 3)
	r.wantKind(err, backup.Conflict, "a revision of an absent site")
	_, _, err = sites.Put(t.Context(), newSite(), step.OldSite)
	r.wantKind(err, backup.Conflict, "an absent site that must be there")
	bad := newSite()
	bad.Providers = nil
	_, _, err = sites.Put(t.Context(), bad, 0)
	r.wantKind(err, backup.InvalidRequest, "an invalid site")
	if len(kept.kept) != 0 {
		t.Errorf("scheduled %v", kept.kept)
	}
}

// A schedule that cannot be written fails the request; repeating it is enough. A site whose schedule cannot be removed
// stays, so that it can be deleted again.
func TestSiteAndScheduleStayTogether(t *testing.T) {
	r, sites, kept := siteCases(t)
	kept.fail = backup.E(backup.StoreUnavailable, "down")
	_, _, err := sites.Put(t.Context(), newSite(), 0)
	r.wantKind(err, backup.StoreUnavailable, "put")
	kept.fail = nil
	_, _, err = sites.Put(t.Context(), newSite(), 0)
	r.need(err)
	kept.fail = backup.E(backup.StoreUnavailable, "down")
	r.wantKind(sites.Delete(t.Context(), "ada", "blog"), backup.StoreUnavailable, "delete")
	if _, err := sites.Get(t.Context(), "ada", "blog"); err != nil {
		t.Errorf("the site is gone: %v", err)
	}
	kept.fail = nil
	r.need(sites.Delete(t.Context(), "ada", "blog"))
	r.wantKind(second(sites.Get(t.Context(), "ada", "blog")), backup.NotFound, "get")
	if len(kept.kept) != 0 {
		t.Errorf("still scheduled: %v", kept.kept)
	}
}

// A site that is changed while it is deleted stays, and so does its schedule, as changed.
func TestSiteChangedWhileDeleted(t *testing.T) {
	r, sites, kept := siteCases(t)
	_, _, err := sites.Put(t.Context(), newSite(), 0)
	r.need(err)
	changed := newSite()
	changed.Schedule.At = "12:00"
	sites.Store = changesFirst{sites.Store, func() { r.need(third(sites.Put(t.Context(), changed, 0))) }}
	r.wantKind(sites.Delete(t.Context(), "ada", "blog"), backup.Conflict, "delete")
	if got := kept.kept["ada/blog"]; got.Schedule.At != "12:00" {
		t.Errorf("scheduled: %+v", kept.kept)
	}
}

// changesFirst lets a change through before each deletion.
type changesFirst struct {
	step.SiteStore
	change func()
}

func (c changesFirst) DeleteSite(ctx context.Context, userID, siteID string, rev int64) error {
	c.change()
	return c.SiteStore.DeleteSite(ctx, userID, siteID, rev)
}

// A foreign site, an absent one and an impossible id are answered the same.
func TestForeignSite(t *testing.T) {
	r, sites, _ := siteCases(t)
	_, _, err := sites.Put(t.Context(), newSite(), 0)
	r.need(err)
	for _, c := range []struct{ user, id string }{{"eve", "blog"}, {"ada", "shop"}, {"ada", "../blog"}, {"ada", ""}} {
		r.wantKind(second(sites.Get(t.Context(), c.user, c.id)), backup.NotFound, "get by "+c.user)
		r.wantKind(sites.Delete(t.Context(), c.user, c.id), backup.NotFound, "delete by "+c.user)
	}
}

// The tasks of a file follow from its plan and its recorded parts.
func TestTasks(t *testing.T) {
	r := newRig(t)
	r.site(largeSite())
	job := r.running()
	status := step.Status{Jobs: r.store, Files: r.store, Now: r.now}
	out := r.open(job, "files")
	r.need(second(r.exportRangeUpload().Handle(t.Context(), rangeIn(job, out, backup.Batch{First: 2, Last: 2}))))
	wantTasks := func(want ...step.TaskStatus) {
		t.Helper()
		tasks, err := status.Tasks(t.Context(), job, r.file(job.JobID, "files"))
		r.need(err)
		if len(tasks) != len(want) || tasks[0].Type != step.UploadFile {
			t.Fatalf("%d tasks", len(tasks))
		}
		for i, task := range tasks {
			if task.Status != want[i] || (i > 0 && (task.Type != step.UploadPart || task.Batch.First != i)) {
				t.Errorf("task %d: %+v, want %s", i, task, want[i])
			}
		}
	}
	wantTasks(step.TaskRunning, step.TaskPending, step.TaskDone)
	r.fail(job, "files", backup.ProviderTimeout)
	wantTasks(step.TaskFailed, step.TaskFailed, step.TaskDone)
	failed, err := status.Tasks(t.Context(), job, backup.File{JobID: job.JobID, Name: "files", Status: backup.FileFailed})
	if err != nil || len(failed) != 1 {
		t.Errorf("a file that never was opened has %d tasks, %v", len(failed), err)
	}
}

// A view counts what is recorded, and its number grows with every write to the job, its files and their parts.
func TestViewGrows(t *testing.T) {
	r := newRig(t)
	r.site(largeSite())
	status := step.Status{Jobs: r.store, Files: r.store, Now: r.now}
	job := r.created()
	last := int64(0)
	seen := func(doing string, parts int, bytes int64) {
		t.Helper()
		v, err := status.Get(t.Context(), "ada", job.JobID)
		r.need(err)
		p := v.Progress()
		if v.Seq() <= last || p.Parts != parts || p.Bytes != bytes {
			t.Errorf("%s: number %d after %d, progress %+v", doing, v.Seq(), last, p)
		}
		last = v.Seq()
	}
	seen("created", 0, 0)
	r.need(second(r.startJob().Handle(t.Context(), step.StartJobIn{JobID: job.JobID, Attempt: 1})))
	seen("started", 0, 0)
	out := r.open(job, "files")
	seen("opened", 0, 0)
	for _, b := range out.Batches {
		r.need(second(r.exportRangeUpload().Handle(t.Context(), rangeIn(job, out, b))))
		_, last := r.file(job.JobID, "files").PartRange(2)
		seen("moved", b.Last, map[int]int64{1: backup.BasePartSizeBytes, 2: backup.BasePartSizeBytes + last}[b.Last])
	}
	r.complete(job, "files")
	seen("completed", 2, twoParts)
	r.inspect(job, "files")
	seen("inspected", 2, twoParts)
	r.finish(job)
	seen("finished", 2, twoParts)
}

// A race that never ends is handed back to the caller instead of going on for ever.
func TestRacesAreBounded(t *testing.T) {
	r := rigOn(t, backuptest.NewMemoryStore())
	r.site(smallSite())
	job := r.created()
	contended := step.StartJob{Jobs: contended{r.store}, Policy: r.policy, Now: r.now}
	_, err := contended.Handle(t.Context(), step.StartJobIn{JobID: job.JobID, Attempt: 1})
	r.wantKind(err, backup.Conflict, "starting")
}

type contended struct{ step.Store }

func (c contended) SwapJob(context.Context, backup.Job) error {
	return backup.E(backup.Conflict, "always somebody else")
}
