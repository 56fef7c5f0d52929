package backuptest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
)

var siteRules = []storeRule{
	{"every field of a site comes back", everySiteField},
	{"an unknown site is not found, neither to read nor to delete", unknownSite},
	{"a site's write and deletion stand on the revision it was read with", siteNeedsRevision},
	{"no write of a site is lost among many at the same time", noLostPut},
	{"a deleted site can be registered anew", siteAgain},
	{"sites are listed by id, in pages, of one user only", listSites},
}

func (c storeCase) site(userID, siteID string) backup.Site {
	c.Helper()
	s, err := c.store.GetSite(c.Context(), userID, siteID)
	c.need(err, "get site")
	return s
}

func everySiteField(c storeCase) {
	want := filled[backup.Site]()
	want.UserID, want.SiteID, want.Rev = "ada", "blog", 0
	c.need(c.store.PutSite(c.Context(), want), "put site")
	want.Rev = 1
	c.wantSame(c.site("ada", "blog"), want, "site read back")

	next := testSite("ada", "blog")
	next.Rev = 1
	c.need(c.store.PutSite(c.Context(), next), "replace every field")
	next.Rev = 2
	c.wantSame(c.site("ada", "blog"), next, "site read back after the change")
}

func unknownSite(c storeCase) {
	c.need(c.store.PutSite(c.Context(), testSite("bob", "blog")), "put site of another user")
	_, err := c.store.GetSite(c.Context(), "ada", "blog")
	c.wantKind(err, backup.NotFound, "get site")
	c.wantKind(c.store.DeleteSite(c.Context(), "ada", "blog", 1), backup.NotFound, "delete site")
	c.site("bob", "blog")
}

func siteNeedsRevision(c storeCase) {
	site := testSite("ada", "blog")
	site.Rev = 1
	c.wantKind(c.store.PutSite(c.Context(), site), backup.Conflict, "put an absent site at revision 1")
	site.Rev = 0
	c.need(c.store.PutSite(c.Context(), site), "put")
	want := c.site("ada", "blog")
	for _, rev := range []int64{0, 2} {
		site.Rev, site.KeepDays = rev, 9
		c.wantKind(c.store.PutSite(c.Context(), site), backup.Conflict, fmt.Sprintf("put at revision %d", rev))
		c.wantKind(c.store.DeleteSite(c.Context(), "ada", "blog", rev), backup.Conflict, fmt.Sprintf("delete at revision %d", rev))
	}
	c.wantSame(c.site("ada", "blog"), want, "site")
}

func noLostPut(c storeCase) {
	const writers, each = 8, 5
	c.need(c.store.PutSite(c.Context(), testSite("ada", "blog")), "put")
	before := c.site("ada", "blog").KeepDays
	increment := untilSwapped(writers*each, func(ctx context.Context) error {
		s, err := c.store.GetSite(ctx, "ada", "blog")
		if err != nil {
			return err
		}
		s.KeepDays++
		return c.store.PutSite(ctx, s)
	})
	counts := together(writers, func(int) error {
		for range each {
			if err := increment(c.Context()); err != nil {
				return err
			}
		}
		return nil
	})
	c.wantSame(counts[""], writers, "writers that succeeded")
	c.wantSame(c.site("ada", "blog").KeepDays, before+writers*each, "counter")
}

func siteAgain(c storeCase) {
	for range 2 {
		c.need(c.store.PutSite(c.Context(), testSite("ada", "blog")), "put")
		c.need(c.store.DeleteSite(c.Context(), "ada", "blog", c.site("ada", "blog").Rev), "delete")
		_, err := c.store.GetSite(c.Context(), "ada", "blog")
		c.wantKind(err, backup.NotFound, "get the deleted site")
	}
}

func listSites(c storeCase) {
	const count = 11
	want := map[string][]string{}
	for i := range count {
		n := (i * 3) % count
		c.need(c.store.PutSite(c.Context(), testSite([]string{"ada", "bob"}[n%2], fmt.Sprintf("site-%02d", n))), "put")
	}
	for n := range count {
		user := []string{"ada", "bob"}[n%2]
		want[user] = append(want[user], fmt.Sprintf("site-%02d", n))
	}
	for _, limit := range []int{1, 2, 5, 100} {
		for _, user := range []string{"ada", "bob", "eve", "ad"} {
			c.wantSame(c.listSites(backup.SiteQuery{UserID: user, Limit: limit}), want[user], fmt.Sprintf("user %q, limit %d", user, limit))
		}
	}
	c.wantSame(c.listSites(backup.SiteQuery{UserID: "ada", After: "site-05", Limit: 100}), want["ada"][3:], "after an id that is not there")
}

// listSites reads all pages of a query.
func (c storeCase) listSites(q backup.SiteQuery) (ids []string) {
	c.Helper()
	for range mostPages {
		page, err := c.store.ListSites(c.Context(), q)
		c.need(err, "list sites")
		if len(page) > q.Limit {
			c.Fatalf("a page of %d holds %d sites", q.Limit, len(page))
		}
		for _, s := range page {
			c.wantSame(s, c.site(s.UserID, s.SiteID), "listed site")
			ids = append(ids, s.SiteID)
		}
		if len(page) < q.Limit {
			return ids
		}
		q.After = page[len(page)-1].SiteID
	}
	c.Fatalf("more than %d pages", mostPages)
	return nil
}

var ticketRules = []storeRule{
	{"of many that use a ticket at once exactly one may", ticketOnce},
	{"a ticket works until it expires", ticketExpires},
}

func ticketOnce(c storeCase) {
	const users = 16
	want := backup.Ticket{UserID: "ada", ExpiresAt: storeEpoch.Add(time.Minute), TokenExpiresAt: storeEpoch.Add(time.Hour)}
	c.need(c.store.PutTicket(c.Context(), "digest", want), "put ticket")
	c.need(c.store.PutTicket(c.Context(), "other", want), "put another ticket")
	got := make(chan backup.Ticket, users)
	counts := together(users, func(int) error {
		ticket, err := c.store.TakeTicket(c.Context(), "digest", storeEpoch)
		if err == nil {
			got <- ticket
		}
		return err
	})
	if counts[""] != 1 || counts[backup.NotFound] != users-1 {
		c.Fatalf("results by kind: %v", counts)
	}
	c.wantSame(<-got, want, "ticket")
	_, err := c.store.TakeTicket(c.Context(), "other", storeEpoch)
	c.need(err, "take the other ticket")
}

func ticketExpires(c storeCase) {
	expires := storeEpoch.Add(time.Minute)
	for i, at := range []struct {
		now  time.Time
		want backup.Kind
	}{
		{expires.Add(-time.Millisecond), ""},
		{expires, backup.NotFound},
		{expires.Add(time.Millisecond), backup.NotFound},
	} {
		digest := fmt.Sprintf("digest-%d", i)
		c.need(c.store.PutTicket(c.Context(), digest, backup.Ticket{UserID: "ada", ExpiresAt: expires}), "put ticket")
		_, err := c.store.TakeTicket(c.Context(), digest, at.now)
		c.wantKind(err, at.want, "take at "+at.now.Format(time.RFC3339Nano))
	}
}

var purgeRules = []storeRule{
	{"purging removes deleted jobs past their time, with all their rows, and nothing else", purgeJobs},
	{"purging removes expired keys and tickets", purgeExpired},
}

func (c storeCase) needPurger() step.Purger {
	c.Helper()
	purger, ok := c.store.(step.Purger)
	if !ok {
		c.Skip("the store is no step.Purger: its rows expire by themselves")
	}
	return purger
}

func (c storeCase) purge(now time.Time) int {
	c.Helper()
	jobs, err := c.needPurger().Purge(c.Context(), now, func(context.Context, backup.Job) error { return nil })
	c.need(err, "purge")
	return jobs
}

func purgeJobs(c storeCase) {
	c.needPurger()
	now := storeEpoch.Add(time.Hour)
	kept, gone := map[string]backup.Job{}, map[string]backup.Job{}
	for i, status := range allStatuses {
		for k, purgeAt := range []time.Time{{}, now.Add(-time.Hour), now, now.Add(time.Millisecond)} {
			job := c.purgeable(10*i+k, status, purgeAt)
			if status == backup.Deleted && !purgeAt.IsZero() && !purgeAt.After(now) {
				gone[job.JobID] = job
			} else {
				kept[job.JobID] = job
			}
		}
	}
	c.purgeWithTroubles(now, gone)
	c.wantSame(c.purge(now), 0, "number of jobs purged again")
	for id, job := range kept {
		c.wantSame(c.job(id), job, "kept job")
		c.wantSame(len(c.parts(c.file(id, "files"))), 2, "parts of a kept job")
	}
	for id, job := range gone {
		c.checkGone(id, job)
	}
}

// purgeWithTroubles purges all jobs of gone: one look is refused, and the one after it finds nobody.
func (c storeCase) purgeWithTroubles(now time.Time, gone map[string]backup.Job) {
	c.Helper()
	looked := map[string]backup.Job{}
	troubles := []error{backup.E(backup.StorageRefused, "legal hold"), backup.E(backup.StorageUnavailable, "nobody there")}
	purged, err := c.needPurger().Purge(c.Context(), now, func(_ context.Context, j backup.Job) error {
		looked[j.JobID] = j
		return troubles[len(looked)-1]
	})
	if !errors.Is(err, troubles[0]) || !errors.Is(err, troubles[1]) || purged != 0 || len(looked) != 2 {
		c.Errorf("%d jobs purged after looks at %d of them: %v", purged, len(looked), err)
	}
	for id, job := range looked {
		c.wantSame(job, gone[id], "job that was looked at for the last time")
	}
	c.wantSame(c.purge(now), len(gone), "number of jobs purged after that")
}

// purgeable makes a job with a key, a file and two parts.
func (c storeCase) purgeable(n int, status backup.Status, purgeAt time.Time) backup.Job {
	c.Helper()
	_, err := c.store.CreateJob(c.Context(), jobOf("ada", n), testKey("ada", jobID(n), "body"))
	c.need(err, "create job")
	f := c.opened(c.swap(jobID(n), func(j *backup.Job) { j.Status = backup.Running }), "files", "up")
	c.record(testPart(f, 1))
	c.record(testPart(f, 2))
	return c.swap(jobID(n), func(j *backup.Job) { j.Status, j.PurgeAt = status, purgeAt })
}

func (c storeCase) checkGone(id string, job backup.Job) {
	c.Helper()
	_, err := c.store.GetJob(c.Context(), id)
	c.wantKind(err, backup.NotFound, "get the purged job")
	files, err := c.store.Files(c.Context(), id)
	c.need(err, "list files")
	c.wantSame(len(files), 0, "files of the purged job")
	c.wantSame(len(c.parts(backup.File{JobID: id, Name: "files", UploadID: "up"})), 0, "parts of the purged job")
	again := job
	again.Rev = 0
	got, err := c.store.CreateJob(c.Context(), again, testKey("ada", id, "other body"))
	c.need(err, "use the purged job's key and id again")
	c.wantSame(got.Rev, int64(1), "revision of the new job")
}

func purgeExpired(c storeCase) {
	c.needPurger()
	key := testKey("ada", "k", "body")
	_, err := c.store.CreateJob(c.Context(), jobOf("ada", 1), key)
	c.need(err, "create job")
	c.need(c.store.PutTicket(c.Context(), "digest", backup.Ticket{UserID: "ada", ExpiresAt: key.ExpiresAt}), "put ticket")

	c.wantSame(c.purge(key.ExpiresAt.Add(-time.Millisecond)), 0, "jobs purged before the time")
	_, err = c.store.CreateJob(c.Context(), jobOf("ada", 2), testKey("ada", "k", "other body"))
	c.wantKind(err, backup.IdempotencyReuse, "the key before its time")

	c.wantSame(c.purge(key.ExpiresAt), 0, "jobs purged at the time")
	_, err = c.store.CreateJob(c.Context(), jobOf("ada", 2), testKey("ada", "k", "other body"))
	c.wantKind(err, "", "the purged key")
	_, err = c.store.TakeTicket(c.Context(), "digest", storeEpoch)
	c.wantKind(err, backup.NotFound, "the purged ticket")
	c.job(jobID(1))
}
