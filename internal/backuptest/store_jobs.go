package backuptest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

var jobRules = []storeRule{
	{"every field of a job comes back", everyJobField},
	{"what a job does not have stays absent", absentJobFields},
	{"times come back in UTC whatever zone they were given in", jobTimesInUTC},
	{"an unknown job is not found", unknownJob},
	{"a job id is used once", jobIDOnce},
	{"the ids of a site are in the order of creation, whatever ids are asked for", idsOfSiteNeverGoBack},
	{"jobs created at once for one site have ids in the order of creation", idsOfSiteTogether},
	{"a cancelled caller writes nothing and gets its own error", cancelledCaller},

	{"a thousand callers with one key make one job", oneKeyOneJob},
	{"a key with another body is refused", keyReuse},
	{"keys of two tenants do not meet", keysOfTenants},
	{"a key counts until it expires and is free from then on", keyExpires},
	{"a repeated key answers with the job as it is now, even though the site is busy", keyBeforeBusySite},
	{"a refused creation leaves its key free", refusedCreationFreesKey},

	{"a site with an active job takes no second one", siteBusy},
	{"of many jobs created at once for one site exactly one stands", siteBusyTogether},
	{"a job becomes active again only while its site is free", siteBusyOnSwap},
	{"of two jobs retried at once for one site exactly one becomes active", siteBusyOnSwapTogether},

	{"a swap stands on the revision it was read with", swapNeedsRevision},
	{"a swap creates nothing", swapCreatesNothing},
	{"no swap is lost among many at the same time", noLostSwap},

	{"jobs are listed newest first, in pages, of one user, of all or one of its sites", listJobs},
	{"jobs created while paging shift no page", listJobsWhileCreating},
	{"due jobs come longest due first and never more than asked for", dueOrder},
	{"a job is due from its DueAt on, wherever that moves", dueMoves},
}

func everyJobField(c storeCase) {
	want := filled[backup.Job]()
	want.JobID, want.Status, want.Rev = jobID(1), backup.Pending, 0
	stored := c.create(want)
	want.Rev = 1
	c.wantSame(stored, want, "created job")
	c.wantSame(c.job(want.JobID), want, "job read back")

	next := testJob(1)
	next.UserID, next.SiteID, next.CreatedAt, next.Rev = want.UserID, want.SiteID, want.CreatedAt, 1
	c.need(c.store.SwapJob(c.Context(), next), "swap every field")
	next.Rev = 2
	c.wantSame(c.job(want.JobID), next, "job read back after the swap")
}

func absentJobFields(c storeCase) {
	want := c.create(backup.Job{JobID: jobID(1), UserID: "ada", SiteID: "blog", Status: backup.Done, Attempt: 1, CreatedAt: storeEpoch})
	got := c.job(jobID(1))
	if len(got.Providers) != 0 {
		c.Errorf("providers out of nowhere: %v", got.Providers)
	}
	got.Providers, want.Providers = nil, nil
	c.wantSame(got, want, "sparse job")
}

func jobTimesInUTC(c storeCase) {
	zone := time.FixedZone("east", 5*3600)
	job := testJob(1)
	job.DueAt = storeEpoch.In(zone)
	job.Failure = backup.NewFailure(backup.Internal, "", "", storeEpoch.In(zone))
	c.create(job)
	got := c.job(job.JobID)
	c.wantSame(got.DueAt, storeEpoch, "DueAt")
	c.wantSame(got.Failure.At, storeEpoch, "Failure.At")
}

func unknownJob(c storeCase) {
	_, err := c.store.GetJob(c.Context(), jobID(1))
	c.wantKind(err, backup.NotFound, "get unknown job")
}

func jobIDOnce(c storeCase) {
	want := c.create(jobOf("ada", 1))
	second := jobOf("bob", 1)
	_, err := c.store.CreateJob(c.Context(), second, backup.Idempotency{})
	c.wantKind(err, backup.Conflict, "create under a used id")
	c.wantSame(c.job(want.JobID), want, "first job")
}

func idsOfSiteNeverGoBack(c storeCase) {
	asked := []int{5, 9, 9, 3, 1, 9, 100, 99}
	ones := jobID(9)[:25]
	var got []string
	for i, n := range asked {
		key := testKey("ada", fmt.Sprintf("k-%d", i), "body")
		stored, err := c.store.CreateJob(c.Context(), testJob(n), key)
		c.need(err, "create")
		again, err := c.store.CreateJob(c.Context(), testJob(n), key)
		c.need(err, "repeat")
		c.wantSame(again, stored, "job of the repeated request")
		c.wantSame(stored.Rev, int64(1), "revision of a new job")
		got = append([]string{stored.JobID}, got...)
		c.swap(stored.JobID, func(j *backup.Job) { j.Status, j.PurgeAt = backup.Deleted, storeEpoch.Add(time.Hour) })
	}
	c.wantSame(got, []string{jobID(101), jobID(100), ones + "D", ones + "C", ones + "B", ones + "A", jobID(9), jobID(5)}, "ids, the newest first")
	other := jobOf("ada", 2)
	c.wantSame(c.create(other).JobID, other.JobID, "id of another site's job")
	ofBob := testJob(4)
	ofBob.UserID = "bob"
	c.wantSame(c.create(ofBob).JobID, ofBob.JobID, "id of another user's job")
}

func idsOfSiteTogether(c storeCase) {
	const workers, each = 4, 5
	var mu sync.Mutex
	var created []string // in order: the next job is created only when the one before it has ended
	try := func() error {
		stored, err := c.store.CreateJob(c.Context(), testJob(rand.IntN(1000)), backup.Idempotency{})
		if err != nil {
			return err
		}
		mu.Lock()
		created = append(created, stored.JobID)
		mu.Unlock()
		stored.Status = backup.Done
		return c.store.SwapJob(c.Context(), stored)
	}
	together(workers, func(int) error {
		for range 20 * each {
			_ = try() // most find the site busy
		}
		return nil
	})
	if len(created) < 2 {
		c.Errorf("%d jobs were created", len(created))
	}
	if !slices.IsSorted(created) {
		c.Errorf("ids in the order of creation: %v", created)
	}
	c.wantSame(slices.Compact(slices.Clone(created)), created, "ids without repetition")
}

func cancelledCaller(c storeCase) {
	job := c.create(testJob(1))
	ctx, cancel := context.WithCancel(c.Context())
	cancel()
	job.Trigger = backup.Daily
	if err := c.store.SwapJob(ctx, job); !errors.Is(err, context.Canceled) {
		c.Errorf("swap: got %v, want %v", err, context.Canceled)
	}
	if _, err := c.store.GetJob(ctx, job.JobID); !errors.Is(err, context.Canceled) {
		c.Errorf("get: got %v, want %v", err, context.Canceled)
	}
	if got := c.job(job.JobID); got.Trigger != backup.Manual || got.Rev != 1 {
		c.Errorf("the cancelled swap was written: %+v", got)
	}
}

func testKey(userID, key, body string) backup.Idempotency {
	return backup.Idempotency{UserID: userID, Key: key, BodyHash: body, ExpiresAt: storeEpoch.Add(backup.IdempotencyRetention)}
}

func oneKeyOneJob(c storeCase) {
	const callers = 1000
	got := make([]backup.Job, callers)
	counts := together(callers, func(i int) (err error) {
		got[i], err = c.store.CreateJob(c.Context(), jobOf("ada", i), testKey("ada", "k", "body"))
		return err
	})
	if counts[""] != callers {
		c.Fatalf("results by kind: %v", counts)
	}
	for _, j := range got {
		if j.JobID != got[0].JobID {
			c.Fatalf("two jobs: %s and %s", j.JobID, got[0].JobID)
		}
	}
	list, err := c.store.ListJobs(c.Context(), backup.JobQuery{UserID: "ada", Limit: 10})
	c.need(err, "list jobs")
	c.wantSame(list, got[:1], "stored jobs")
}

func keyReuse(c storeCase) {
	_, err := c.store.CreateJob(c.Context(), jobOf("ada", 1), testKey("ada", "k", "body"))
	c.need(err, "first use")
	_, err = c.store.CreateJob(c.Context(), jobOf("ada", 2), testKey("ada", "k", "other body"))
	c.wantKind(err, backup.IdempotencyReuse, "second use with another body")
	_, err = c.store.GetJob(c.Context(), jobID(2))
	c.wantKind(err, backup.NotFound, "job of the second use")
}

func keysOfTenants(c storeCase) {
	for i, user := range []string{"ada", "bob"} {
		got, err := c.store.CreateJob(c.Context(), jobOf(user, i), testKey(user, "k", user))
		c.need(err, "create for "+user)
		c.wantSame(got.JobID, jobID(i), "job of "+user)
	}
}

func keyExpires(c storeCase) {
	key := testKey("ada", "k", "body")
	for i, at := range []struct {
		createdAt time.Time
		body      string
		want      int
	}{
		{storeEpoch, "body", 0},
		{key.ExpiresAt.Add(-time.Millisecond), "body", 0},
		{key.ExpiresAt, "new body", 2},
		{key.ExpiresAt.Add(time.Millisecond), "new body", 2},
	} {
		job := jobOf("ada", i)
		job.CreatedAt = at.createdAt
		use := backup.Idempotency{UserID: "ada", Key: "k", BodyHash: at.body, ExpiresAt: at.createdAt.Add(backup.IdempotencyRetention)}
		got, err := c.store.CreateJob(c.Context(), job, use)
		c.need(err, "create")
		c.wantSame(got.JobID, jobID(at.want), fmt.Sprintf("job of use %d", i))
	}
}

func keyBeforeBusySite(c storeCase) {
	_, err := c.store.CreateJob(c.Context(), testJob(1), testKey("ada", "k", "body"))
	c.need(err, "first use")
	want := c.swap(jobID(1), func(j *backup.Job) { j.Status = backup.Running })
	got, err := c.store.CreateJob(c.Context(), testJob(2), testKey("ada", "k", "body"))
	c.need(err, "second use")
	c.wantSame(got, want, "job of the second use")
}

func refusedCreationFreesKey(c storeCase) {
	c.create(testJob(1))
	_, err := c.store.CreateJob(c.Context(), testJob(2), testKey("ada", "k", "body"))
	c.wantKind(err, backup.SiteBusy, "create on the busy site")
	c.swap(jobID(1), func(j *backup.Job) { j.Status = backup.Done })
	got, err := c.store.CreateJob(c.Context(), testJob(3), testKey("ada", "k", "other body"))
	c.need(err, "create on the free site")
	c.wantSame(got.JobID, jobID(3), "job of the key")
}

func siteBusy(c storeCase) {
	for i, status := range allStatuses {
		site := fmt.Sprintf("site-of-%s", status)
		first, second, ofBob := testJob(10*i), testJob(10*i+1), testJob(10*i+2)
		first.SiteID, second.SiteID, ofBob.SiteID, ofBob.UserID = site, site, site, "bob"
		c.create(first)
		c.swap(first.JobID, func(j *backup.Job) { j.Status = status })
		_, err := c.store.CreateJob(c.Context(), second, backup.Idempotency{})
		want := backup.Kind("")
		if status == backup.Pending || status == backup.Running {
			want = backup.SiteBusy
		}
		c.wantKind(err, want, fmt.Sprintf("create beside a %s job", status))
		c.create(ofBob)
	}
}

func siteBusyTogether(c storeCase) {
	const callers = 32
	counts := together(callers, func(i int) error {
		_, err := c.store.CreateJob(c.Context(), testJob(i), backup.Idempotency{})
		return err
	})
	if counts[""] != 1 || counts[backup.SiteBusy] != callers-1 {
		c.Errorf("results by kind: %v", counts)
	}
	list, err := c.store.ListJobs(c.Context(), backup.JobQuery{UserID: "ada", Limit: callers})
	c.need(err, "list jobs")
	c.wantSame(len(list), 1, "number of jobs")
}

func siteBusyOnSwap(c storeCase) {
	c.create(testJob(1))
	failed := c.swap(jobID(1), func(j *backup.Job) { j.Status = backup.Failed })
	c.create(testJob(2))
	for _, status := range []backup.Status{backup.Pending, backup.Running} {
		next := failed
		next.Status = status
		c.wantKind(c.store.SwapJob(c.Context(), next), backup.SiteBusy, "swap to "+string(status))
		c.wantSame(c.job(jobID(1)), failed, "refused job")
	}
	c.swap(jobID(2), func(j *backup.Job) { j.Status = backup.Running })
	c.swap(jobID(2), func(j *backup.Job) { j.Status = backup.Failed })
	c.swap(jobID(1), func(j *backup.Job) { j.Status = backup.Pending })
}

func siteBusyOnSwapTogether(c storeCase) {
	const retried = 8
	for i := range retried {
		c.create(testJob(i))
		c.swap(jobID(i), func(j *backup.Job) { j.Status = backup.Failed })
	}
	counts := together(retried, func(i int) error {
		j, err := c.store.GetJob(c.Context(), jobID(i))
		if err != nil {
			return err
		}
		j.Status, j.Attempt = backup.Pending, j.Attempt+1
		return c.store.SwapJob(c.Context(), j)
	})
	if counts[""] != 1 || counts[backup.SiteBusy] != retried-1 {
		c.Errorf("results by kind: %v", counts)
	}
}

func swapNeedsRevision(c storeCase) {
	first := c.create(testJob(1))
	second := c.swap(jobID(1), func(j *backup.Job) { j.Attempt = 2 })
	c.wantSame(second.Rev, int64(2), "revision after a swap")
	for _, rev := range []int64{0, first.Rev, 3} {
		stale := first
		stale.Rev, stale.Attempt = rev, 9
		c.wantKind(c.store.SwapJob(c.Context(), stale), backup.Conflict, fmt.Sprintf("swap at revision %d", rev))
	}
	c.wantSame(c.job(jobID(1)), second, "job")
}

func swapCreatesNothing(c storeCase) {
	for _, rev := range []int64{0, 1} {
		job := testJob(1)
		job.Rev = rev
		c.wantKind(c.store.SwapJob(c.Context(), job), backup.Conflict, fmt.Sprintf("swap an absent job at revision %d", rev))
		_, err := c.store.GetJob(c.Context(), job.JobID)
		c.wantKind(err, backup.NotFound, "get it")
	}
}

func noLostSwap(c storeCase) {
	const writers, each = 8, 10
	c.create(testJob(1))
	increment := untilSwapped(writers*each, func(ctx context.Context) error {
		j, err := c.store.GetJob(ctx, jobID(1))
		if err != nil {
			return err
		}
		j.Limits.Parallelism++
		return c.store.SwapJob(ctx, j)
	})
	before := c.job(jobID(1)).Limits.Parallelism
	counts := together(writers, func(int) error {
		for range each {
			if err := increment(c.Context()); err != nil {
				return err
			}
		}
		return nil
	})
	got := c.job(jobID(1))
	if counts[""] != writers || got.Limits.Parallelism != before+writers*each || got.Rev != 1+writers*each {
		c.Errorf("results %v, counter %d of %d, revision %d", counts, got.Limits.Parallelism-before, writers*each, got.Rev)
	}
}

// mostPages ends a listing that goes round in circles.
const mostPages = 100

// listAll reads all pages of a query.
func (c storeCase) listAll(q backup.JobQuery) (ids []string) {
	c.Helper()
	for range mostPages {
		page, err := c.store.ListJobs(c.Context(), q)
		c.need(err, "list jobs")
		if len(page) > q.Limit {
			c.Fatalf("a page of %d holds %d jobs", q.Limit, len(page))
		}
		for _, j := range page {
			ids = append(ids, j.JobID)
		}
		if len(page) < q.Limit {
			return ids
		}
		q.Before = page[len(page)-1].JobID
	}
	c.Fatalf("more than %d pages", mostPages)
	return nil
}

func listJobs(c storeCase) {
	const count = 24
	want := map[string][]string{}
	for i := range count {
		n := i*6%count + i*6/count // site by site, which is not in the order of the ids
		job := testJob(n)
		job.UserID, job.SiteID, job.Status = []string{"ada", "bob"}[n%2], []string{"blog", "shop", "wiki"}[n%3], backup.Done
		c.create(job)
	}
	for n := count - 1; n >= 0; n-- {
		user, site := []string{"ada", "bob"}[n%2], []string{"blog", "shop", "wiki"}[n%3]
		want[user+"/"] = append(want[user+"/"], jobID(n))
		want[user+"/"+site] = append(want[user+"/"+site], jobID(n))
	}
	for _, limit := range []int{1, 5, 12, 100} {
		for _, user := range []string{"ada", "bob", "eve", "ad", "adaa"} {
			for _, site := range []string{"", "blog", "shop", "wiki", "blo"} {
				got := c.listAll(backup.JobQuery{UserID: user, SiteID: site, Limit: limit})
				c.wantSame(got, want[user+"/"+site], fmt.Sprintf("user %q, site %q, limit %d", user, site, limit))
			}
		}
	}
}

func listJobsWhileCreating(c storeCase) {
	for n := range 4 {
		c.create(jobOf("ada", 10+n))
	}
	first, err := c.store.ListJobs(c.Context(), backup.JobQuery{UserID: "ada", Limit: 2})
	c.need(err, "list jobs")
	c.create(jobOf("ada", 20))
	got := c.listAll(backup.JobQuery{UserID: "ada", Limit: 2, Before: first[1].JobID})
	c.wantSame(got, []string{jobID(11), jobID(10)}, "the rest")
	got = c.listAll(backup.JobQuery{UserID: "ada", Limit: 2, Before: jobID(12) + "0"})
	c.wantSame(got, []string{jobID(12), jobID(11), jobID(10)}, "what comes after an id that no job has")
}

func (c storeCase) due(now time.Time, limit int) (ids []string) {
	c.Helper()
	list, err := c.store.DueJobs(c.Context(), now, limit)
	c.need(err, "due jobs")
	for _, j := range list {
		c.wantSame(j, c.job(j.JobID), "due job")
		ids = append(ids, j.JobID)
	}
	return ids
}

func dueOrder(c storeCase) {
	const count = 12
	var want []string
	for i := range count {
		job := jobOf([]string{"ada", "bob"}[i%2], (i*5)%count)
		job.DueAt = storeEpoch.Add(time.Duration(i) * time.Millisecond)
		c.create(job)
		want = append(want, job.JobID)
	}
	last := storeEpoch.Add((count - 1) * time.Millisecond)
	for _, limit := range []int{1, 5, count, 100} {
		c.wantSame(c.due(last, limit), want[:min(limit, count)], fmt.Sprintf("due with limit %d", limit))
	}
	c.wantSame(c.due(storeEpoch.Add(3*time.Millisecond), 100), want[:4], "due in between")
	c.wantSame(c.due(storeEpoch.Add(-time.Millisecond), 100), []string(nil), "due before the first")
}

func dueMoves(c storeCase) {
	job := testJob(1)
	job.DueAt = storeEpoch
	c.create(job)
	for _, status := range allStatuses {
		c.swap(jobID(1), func(j *backup.Job) { j.Status, j.DueAt = status, storeEpoch.Add(time.Hour) })
		c.wantSame(c.due(storeEpoch.Add(time.Hour-time.Millisecond), 10), []string(nil), string(status)+" job moved on")
		c.wantSame(c.due(storeEpoch.Add(time.Hour), 10), []string{jobID(1)}, string(status)+" job at its time")
		c.swap(jobID(1), func(j *backup.Job) { j.DueAt = time.Time{} })
		c.wantSame(c.due(storeEpoch.Add(1000*time.Hour), 10), []string(nil), string(status)+" job without a time")
		c.swap(jobID(1), func(j *backup.Job) { j.DueAt = storeEpoch })
		c.wantSame(c.due(storeEpoch, 10), []string{jobID(1)}, string(status)+" job moved back")
	}
	if got := c.due(storeEpoch, 10); !slices.Equal(got, []string{jobID(1)}) {
		c.Errorf("due: %v", got)
	}
}
