package backuptest

import (
	"fmt"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

var (
	// wideQuotas are met by no rule but make a store count.
	wideQuotas = backup.Quotas{Sites: 1 << 50, ActiveJobs: 1 << 50, Ranges: 1 << 50, StoredBytes: 1 << 60, FetchedBytes: 1 << 60}
	// tightQuotas admit a job of parallelism 4 and a file of 1 TiB, and little more.
	tightQuotas = backup.Quotas{Sites: 2, ActiveJobs: 3, Ranges: 5, StoredBytes: 3 << 40, FetchedBytes: 4 << 40}
)

var usageRules = []storeRule{
	{"usage follows a backup from its creation to its deletion", usageOfBackup},
	{"usage of two tenants does not meet", usageOfTenants},
	{"no change of usage is lost among many at the same time", noLostUsage},
}

var quotaRules = []storeRule{
	{"of many sites put at once no more than the quota stand", sitesWithinQuota},
	{"of many jobs created at once no more than the quota stand", jobsWithinQuota},
	{"of many jobs started at once no more run than the quota of ranges lets begin", rangesWithinQuota},
	{"a retry stands within the quota of active jobs", retryWithinQuota},
	{"an upload stands within the quota of stored bytes, and leaves no trace if not", storedWithinQuota},
	{"an upload stands within the bytes of its day", fetchedWithinQuota},
	{"no backup is begun without room for its first byte", beginNeedsRoom},
	{"any sequence of transitions leaves what the model holds within tight quotas", modelCheck},
}

func (c storeCase) usage(userID string) backup.Usage {
	c.Helper()
	u, err := c.store.Usage(c.Context(), userID, storeEpoch)
	c.need(err, "usage")
	return u
}

func (c storeCase) wantUsage(want backup.Usage, when string) {
	c.Helper()
	want.Day = backup.UsageDay(storeEpoch)
	c.wantSame(c.usage("ada"), want, "usage "+when)
}

func usageOfBackup(c storeCase) {
	c.need(c.store.PutSite(c.Context(), testSite("ada", "blog")), "put site")
	c.create(testJob(1))
	c.wantUsage(backup.Usage{Sites: 1, ActiveJobs: 1}, "of a pending job")
	job := c.swap(jobID(1), func(j *backup.Job) { j.Status = backup.Running })
	c.wantUsage(backup.Usage{Sites: 1, ActiveJobs: 1, Ranges: 4}, "of a running job")
	file := c.opened(job, "files", "one")
	c.opened(job, "database", "two")
	c.wantUsage(backup.Usage{Sites: 1, ActiveJobs: 1, Ranges: 4, StoredBytes: 2 << 30, FetchedBytes: 2 << 30}, "of open files")
	file.UploadID, file.Pin.SizeBytes = "three", 3<<30
	c.need(c.store.SwapFile(c.Context(), guardOf(job), file), "replace the upload")
	c.wantUsage(backup.Usage{Sites: 1, ActiveJobs: 1, Ranges: 4, StoredBytes: 4 << 30, FetchedBytes: 5 << 30}, "of a replaced upload")
	job = c.swap(jobID(1), func(j *backup.Job) { j.Status = backup.Failed })
	file = c.file(job.JobID, "database")
	forgotten, err := file.Forget(nil, storeEpoch)
	c.need(err, "forget")
	c.need(c.store.SwapFile(c.Context(), guardOf(job), forgotten), "forget a file")
	c.wantUsage(backup.Usage{Sites: 1, StoredBytes: 3 << 30, FetchedBytes: 5 << 30}, "of a failed job that was swept")
	c.swap(jobID(1), func(j *backup.Job) { j.Status = backup.Deleting })
	c.wantUsage(backup.Usage{Sites: 1, StoredBytes: 3 << 30, FetchedBytes: 5 << 30}, "of a job that is being deleted")
	c.swap(jobID(1), func(j *backup.Job) { j.Status, j.PurgeAt = backup.Deleted, storeEpoch.Add(time.Hour) })
	c.wantUsage(backup.Usage{Sites: 1, FetchedBytes: 5 << 30}, "of a deleted job")
	c.need(c.store.DeleteSite(c.Context(), "ada", "blog", 1), "delete site")
	c.wantUsage(backup.Usage{FetchedBytes: 5 << 30}, "at the end")
	tomorrow, err := c.store.Usage(c.Context(), "ada", storeEpoch.Add(24*time.Hour))
	c.need(err, "usage of the next day")
	c.wantSame(tomorrow.FetchedBytes, int64(0), "bytes of the next day")
}

func usageOfTenants(c storeCase) {
	c.create(jobOf("bob", 1))
	c.need(c.store.PutSite(c.Context(), testSite("bob", "blog")), "put site")
	c.wantUsage(backup.Usage{}, "of another tenant")
}

func noLostUsage(c storeCase) {
	const callers = 16
	counts := together(callers, func(i int) error {
		_, err := c.store.CreateJob(c.Context(), jobOf("ada", i), backup.Idempotency{})
		return err
	})
	c.wantSame(counts[""], callers, "jobs created")
	c.wantUsage(backup.Usage{ActiveJobs: callers}, "of all jobs")
	counts = together(callers, func(i int) error {
		j, err := c.store.GetJob(c.Context(), jobID(i))
		if err != nil {
			return err
		}
		j.Status = backup.Failed
		return c.store.SwapJob(c.Context(), j)
	})
	c.wantSame(counts[""], callers, "jobs ended")
	c.wantUsage(backup.Usage{}, "of no active job")
}

// stand checks that n of the calls stood and the others met the quota.
func (c storeCase) stand(counts map[backup.Kind]int, n, callers int) {
	c.Helper()
	if counts[""] != n || counts[backup.QuotaExceeded] != callers-n {
		c.Errorf("results by kind: %v, want %d within the quota", counts, n)
	}
}

func sitesWithinQuota(c storeCase) {
	const callers = 8
	counts := together(callers, func(i int) error { return c.store.PutSite(c.Context(), testSite("ada", fmt.Sprintf("site-%d", i))) })
	c.stand(counts, 2, callers)
	sites, err := c.store.ListSites(c.Context(), backup.SiteQuery{UserID: "ada", Limit: callers})
	c.need(err, "list sites")
	c.wantSame(len(sites), 2, "number of sites")
	c.need(c.store.PutSite(c.Context(), sites[0]), "change a site at the quota")
	c.need(c.store.PutSite(c.Context(), testSite("bob", "blog")), "put a site of another tenant")
	c.need(c.store.DeleteSite(c.Context(), "ada", sites[1].SiteID, 1), "delete a site")
	c.need(c.store.PutSite(c.Context(), testSite("ada", "new")), "put a site in its place")
}

func jobsWithinQuota(c storeCase) {
	const callers = 12
	counts := together(callers, func(i int) error {
		_, err := c.store.CreateJob(c.Context(), jobOf("ada", i), testKey("ada", fmt.Sprint(i), "body"))
		return err
	})
	c.stand(counts, 3, callers)
	list, err := c.store.ListJobs(c.Context(), backup.JobQuery{UserID: "ada", Limit: callers})
	c.need(err, "list jobs")
	c.wantSame(len(list), 3, "number of jobs")
	c.create(jobOf("bob", callers))
	c.swap(list[0].JobID, func(j *backup.Job) { j.Status = backup.Done })
	c.create(jobOf("ada", callers+1))
}

func rangesWithinQuota(c storeCase) {
	const jobs = 3
	for i := range jobs {
		c.create(jobOf("ada", i))
	}
	start := func(i int) error {
		j, err := c.store.GetJob(c.Context(), jobID(i))
		if err != nil {
			return err
		}
		j.Status = backup.Running
		return c.store.SwapJob(c.Context(), j)
	}
	c.stand(together(jobs, start), 2, jobs) // the second begins while one range is left
	waiting := 0
	for i := range jobs {
		if c.job(jobID(i)).Status == backup.Pending {
			waiting = i
		} else {
			c.swap(jobID(i), func(j *backup.Job) { j.Status = backup.Done })
		}
	}
	c.need(start(waiting), "start the third when the others are done")
}

func retryWithinQuota(c storeCase) {
	failed := c.create(jobOf("ada", 0))
	failed = c.swap(failed.JobID, func(j *backup.Job) { j.Status = backup.Failed })
	for i := range 3 {
		c.create(jobOf("ada", 1+i))
	}
	failed.Status = backup.Pending
	c.wantKind(c.store.SwapJob(c.Context(), failed), backup.QuotaExceeded, "retry beside three active jobs")
	c.swap(jobID(1), func(j *backup.Job) { j.Status = backup.Done })
	c.need(c.store.SwapJob(c.Context(), failed), "retry beside two")
}

// open tries to open a file of so many TiB.
func (c storeCase) open(job backup.Job, name string, tebibytes int64, at time.Time) error {
	f := openFile(job, name, "upload of "+name)
	f.Pin.SizeBytes, f.UpdatedAt = tebibytes<<40, at
	return c.store.SwapFile(c.Context(), guardOf(job), f)
}

func storedWithinQuota(c storeCase) {
	job := c.running(1)
	c.need(c.open(job, "a", 2, storeEpoch), "open a file within the quota")
	c.wantKind(c.open(job, "b", 2, storeEpoch), backup.QuotaExceeded, "open one that is larger than what is left")
	_, err := c.store.GetFile(c.Context(), job.JobID, "b")
	c.wantKind(err, backup.NotFound, "get it")
	c.need(c.open(job, "b", 1, storeEpoch), "open one that just fits")
	other := jobOf("bob", 2)
	c.create(other)
	other = c.swap(other.JobID, func(j *backup.Job) { j.Status = backup.Running })
	c.wantKind(c.open(other, "huge", 9, storeEpoch), backup.QuotaExceeded, "open one larger than the quota")
}

func fetchedWithinQuota(c storeCase) {
	job := c.running(1)
	for i := range 4 {
		name := fmt.Sprintf("file-%d", i)
		c.need(c.open(job, name, 1, storeEpoch), "open a file within the bytes of the day")
		forgotten, err := c.file(job.JobID, name).Forget(nil, storeEpoch)
		c.need(err, "forget")
		c.need(c.store.SwapFile(c.Context(), guardOf(job), forgotten), "give its bytes back")
	}
	c.wantKind(c.open(job, "last", 1, storeEpoch), backup.QuotaExceeded, "open a fifth")
	c.need(c.open(job, "last", 1, storeEpoch.Add(24*time.Hour)), "open it on the next day")
}

func beginNeedsRoom(c storeCase) {
	job := c.running(1)
	c.need(c.open(job, "files", 3, storeEpoch), "use up the storage")
	_, err := c.store.CreateJob(c.Context(), jobOf("ada", 2), backup.Idempotency{})
	c.wantKind(err, backup.QuotaExceeded, "create a job without a byte left")
	_, err = c.store.GetJob(c.Context(), jobID(2))
	c.wantKind(err, backup.NotFound, "get it")
	c.create(jobOf("bob", 3))
}
