package api_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
)

// Creating a backup is answered as work that goes on, and starts one execution.
func TestCreate(t *testing.T) {
	f := newFixture(t)
	f.putSite("alice", "shop")
	a := f.do(request{method: "POST", path: "/backup", body: map[string]any{"siteId": "shop", "keepDays": 3}})
	jobs := into[api.BackupPage](f, http.StatusOK, request{method: "GET", path: "/backup"}).Backups
	if len(jobs) != 1 || a.status != http.StatusAccepted || a.header.Get("Location") != "/v1/backup/"+jobs[0].JobID || a.header.Get("Retry-After") != "1" {
		t.Fatalf("%d %v, jobs %+v", a.status, a.header, jobs)
	}
	job := jobs[0]
	if job.Status != backup.Pending || job.Attempt != 1 || job.Trigger != backup.Manual || job.UserID != "alice" || !job.DeleteAt.Equal(f.clock().AddDate(0, 0, 3)) {
		t.Errorf("job is %+v", job)
	}
	if n := f.executions.started[job.JobID+"-1"]; n != 1 || len(f.executions.started) != 1 {
		t.Errorf("started %v", f.executions.started)
	}
	f.refused(http.StatusConflict, backup.SiteBusy, request{method: "POST", path: "/backup", body: map[string]any{"siteId": "shop"}})
}

// A start that fails does not fail the request: the row is there, and the sweeper starts it later.
func TestCreateWithoutExecution(t *testing.T) {
	f := newFixture(t)
	f.putSite("alice", "shop")
	f.executions.err = backup.E(backup.StoreUnavailable, "no room")
	job := f.create("alice", "shop")
	due, err := f.store.DueJobs(t.Context(), f.clock().Add(backup.StartGrace), 10)
	if err != nil || len(due) != 1 || due[0].JobID != job.JobID {
		t.Errorf("due are %+v, %v", due, err)
	}
}

// However many times and however much at once a request with a key comes, it makes one backup; with another body the
// key is refused, and another user's same key has nothing to do with it.
func TestIdempotencyKey(t *testing.T) {
	f := newFixture(t)
	for _, user := range []string{"alice", "bob"} {
		f.putSite(user, "shop")
		f.putSite(user, "blog")
	}
	create := func(user, body string) request {
		return request{method: "POST", path: "/backup", user: user, body: body, header: map[string]string{"Idempotency-Key": "key-1"}}
	}
	same := create("alice", `{"siteId":"shop","deleteAt":"2026-12-01T10:00:00Z"}`)
	const requests = 1000
	answers := make([]answer, requests)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() { answers[i] = f.send(same) })
	}
	all.Wait()
	for i, a := range answers {
		if a.status != http.StatusAccepted || a.body != answers[0].body {
			t.Fatalf("answer %d: %d %s, the first was %s", i, a.status, a.body, answers[0].body)
		}
	}
	if rows := f.rows(); rows["jobs"] != 1 || rows["idempotency_keys"] != 1 {
		t.Errorf("rows are %v", rows)
	}
	if len(f.executions.started) != 1 {
		t.Errorf("started %v", f.executions.started)
	}
	f.sameRows(func() {
		otherZone := create("alice", `{ "deleteAt" : "2026-12-01T11:00:00+01:00", "siteId":"shop" }`)
		if a := f.do(otherZone); a.body != answers[0].body {
			t.Errorf("the same request, spelled otherwise: %d %s", a.status, a.body)
		}
		for _, body := range []string{`{"siteId":"blog","deleteAt":"2026-12-01T10:00:00Z"}`, `{"siteId":"shop","deleteAt":"2026-12-01T10:00:01Z"}`, `{"siteId":"shop"}`, `{"siteId":"shop","keepDays":3}`} {
			f.refused(http.StatusUnprocessableEntity, backup.IdempotencyReuse, create("alice", body))
		}
	})
	if a := f.do(create("bob", `{"siteId":"shop"}`)); a.status != http.StatusAccepted || a.body == answers[0].body {
		t.Errorf("bob with the same key: %d %s", a.status, a.body)
	}
}

// A key is remembered for its time, also after its backup has ended.
func TestIdempotencyKeyEnds(t *testing.T) {
	f := newFixture(t)
	f.putSite("alice", "shop")
	r := request{method: "POST", path: "/backup", body: `{"siteId":"shop"}`, header: map[string]string{"Idempotency-Key": "k"}}
	first := into[api.Backup](f, http.StatusAccepted, r).JobID
	f.run(first, 1)
	f.record(first, 1)
	f.finish(first, 1)
	f.advance(backup.IdempotencyRetention - time.Second)
	if again := into[api.Backup](f, http.StatusAccepted, r); again.JobID != first || again.Status != backup.Done {
		t.Errorf("within its time the key gives %+v", again)
	}
	f.advance(time.Second)
	if again := into[api.Backup](f, http.StatusAccepted, r); again.JobID == first {
		t.Error("after its time the key still gives the first backup")
	}
}

// Progress shows with every part; the ETag changes with it, and who knows the present state is told so in a few bytes.
func TestProgressAndConditionalGet(t *testing.T) {
	f := newFixture(t)
	f.putSite("alice", "shop")
	jobID := f.create("alice", "shop").JobID
	get := request{method: "GET", path: "/backup/" + jobID}
	seen, lastSeq := map[string]bool{}, int64(-1)
	look := func(status backup.Status, parts int, retryAfter string) {
		t.Helper()
		a := f.do(get)
		detail := into[api.BackupDetail](f, http.StatusOK, get)
		etag := a.header.Get("ETag")
		if seen[etag] || !strings.HasPrefix(etag, `"`) || detail.Seq <= lastSeq {
			t.Errorf("%s: ETag %s (seen %v), seq %d after %d", status, etag, seen[etag], detail.Seq, lastSeq)
		}
		seen[etag], lastSeq = true, detail.Seq
		want := step.Progress{Parts: parts, TotalParts: 3, Bytes: int64(parts) * partBytes, TotalBytes: 3 * partBytes}
		if status == backup.Pending {
			want = step.Progress{}
		}
		if detail.Status != status || detail.Progress != want || a.header.Get("Retry-After") != retryAfter {
			t.Errorf("%s: %+v, Retry-After %q", status, detail, a.header.Get("Retry-After"))
		}
		for _, known := range []string{etag, "W/" + etag, `"other", ` + etag, "*"} {
			again := f.do(request{method: "GET", path: get.path, header: map[string]string{"If-None-Match": known}})
			if again.status != http.StatusNotModified || again.body != "" || again.header.Get("ETag") != etag {
				t.Errorf("If-None-Match %s: %d %q", known, again.status, again.body)
			}
		}
		if again := f.do(request{method: "GET", path: get.path, header: map[string]string{"If-None-Match": `"other"`}}); again.status != http.StatusOK {
			t.Errorf("If-None-Match of another state: %d", again.status)
		}
	}
	look(backup.Pending, 0, "1")
	f.run(jobID, 3)
	look(backup.Running, 0, "2")
	for part := range 3 {
		f.record(jobID, part+1)
		look(backup.Running, part+1, "2")
	}
	f.finish(jobID, 3)
	look(backup.Done, 3, "")
	if a := f.do(get); a.header.Get("Cache-Control") != "private, no-cache" {
		t.Errorf("Cache-Control is %q", a.header.Get("Cache-Control"))
	}
}

// Tasks tell of each file and each run of its parts.
func TestTasks(t *testing.T) {
	f := newFixture(t)
	f.putSite("alice", "shop")
	jobID := f.create("alice", "shop").JobID
	get := request{method: "GET", path: "/backup/" + jobID + "/tasks"}
	if page := into[api.TaskPage](f, http.StatusOK, get); len(page.Tasks) != 0 {
		t.Errorf("before the start: %+v", page)
	}
	f.run(jobID, 40)
	f.record(jobID, 1)
	tasks := into[api.TaskPage](f, http.StatusOK, get).Tasks
	if len(tasks) < 3 || tasks[0].Type != step.UploadFile || tasks[0].Status != step.TaskRunning || tasks[0].Params.SizeBytes != 40*partBytes {
		t.Fatalf("tasks are %+v", tasks)
	}
	next := 1
	for _, task := range tasks[1:] {
		if task.Type != step.UploadPart || task.Params.FirstPart != next || task.TaskID != fmt.Sprintf("files-%d-%d", next, task.Params.LastPart) {
			t.Errorf("task is %+v, want one from part %d", task, next)
		}
		next = task.Params.LastPart + 1
	}
	if next != 41 || tasks[1].Status != step.TaskRunning || tasks[2].Status != step.TaskPending {
		t.Errorf("parts end at %d; tasks are %+v", next-1, tasks)
	}
	paged := collect(f, get.path, 3, func(r request) ([]string, string) {
		page := into[api.TaskPage](f, http.StatusOK, r)
		return ids(page.Tasks, func(t api.Task) string { return t.TaskID }), page.NextPageToken
	})
	if want := ids(tasks, func(t api.Task) string { return t.TaskID }); !slices.Equal(paged, want) {
		t.Errorf("by pages %v, at once %v", paged, want)
	}
}

func ids[T any](list []T, id func(T) string) (out []string) {
	for _, v := range list {
		out = append(out, id(v))
	}
	return out
}

// collect reads all pages of a list.
func collect(f *fixture, path string, limit int, read func(request) (ids []string, next string)) (all []string) {
	f.t.Helper()
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	token := ""
	for range 1000 {
		page, next := read(request{method: "GET", path: fmt.Sprintf("%s%slimit=%d&pageToken=%s", path, separator, limit, url.QueryEscape(token))})
		if len(page) > limit || (len(page) < limit && next != "") {
			f.t.Errorf("a page of %d with limit %d, next %q", len(page), limit, next)
		}
		if all = append(all, page...); next == "" {
			return all
		}
		token = next
	}
	f.t.Fatal("the pages have no end")
	return nil
}

// Pages follow each other without gap or repetition, newest first, whatever is created in between; lists of one site
// and of all hold only the user's own.
func TestPages(t *testing.T) {
	f := newFixture(t)
	var want []string
	for i := range 11 {
		f.putSite("alice", fmt.Sprint("s", i))
		f.putSite("bob", fmt.Sprint("s", i))
		f.advance(time.Second)
		f.create("bob", fmt.Sprint("s", i))
		want = append(want, f.create("alice", fmt.Sprint("s", i)).JobID)
	}
	slices.Reverse(want)
	added := false
	read := func(r request) ([]string, string) {
		page := into[api.BackupPage](f, http.StatusOK, r)
		if !added { // newer than any page to come
			added = true
			f.advance(time.Second)
			f.putSite("alice", "late")
			f.create("alice", "late")
		}
		return ids(page.Backups, func(b api.Backup) string { return b.JobID }), page.NextPageToken
	}
	for _, limit := range []int{1, 3, 4} {
		got := collect(f, "/backup", limit, read)
		if n := len(got) - len(want); n > 0 {
			got = got[n:] // the late one comes first
		}
		if !slices.Equal(got, want) {
			t.Errorf("limit %d: %v, want %v", limit, got, want)
		}
	}
	one := collect(f, "/backup?siteId=s3", 4, read)
	if len(one) != 1 || one[0] != want[7] {
		t.Errorf("of one site: %v", one)
	}
	var sites []string
	for i := range 11 {
		sites = append(sites, fmt.Sprint("s", i))
	}
	sites = append(sites, "late")
	slices.Sort(sites)
	got := collect(f, "/site", 3, func(r request) ([]string, string) {
		page := into[api.SitePage](f, http.StatusOK, r)
		return ids(page.Sites, func(s api.Site) string { return s.SiteID }), page.NextPageToken
	})
	if !slices.Equal(got, sites) {
		t.Errorf("sites are %v", got)
	}
	if all := into[api.BackupPage](f, http.StatusOK, request{method: "GET", path: "/backup", user: "carol"}); len(all.Backups) != 0 || all.NextPageToken != "" {
		t.Errorf("carol sees %+v", all)
	}
}

// A page token that the API did not give out is refused or leads somewhere in the user's own list, never elsewhere.
func TestHostilePageTokens(t *testing.T) {
	f := newFixture(t)
	f.putSite("alice", "shop")
	f.putSite("bob", "shop")
	jobID := f.done("alice", "shop")
	f.done("bob", "shop")
	tokens := []string{
		"x", "!!!", "e30", "bnVsbA", "W10", "eyJhIjoxfQ", strings.Repeat("A", 512), strings.Repeat("A", 513), "eyJhIjoiJyBPUiAxPTEgLS0ifQ",
		"eyJhIjoiIiwiaSI6LTF9", "eyJhIjoiZmlsZXMiLCJpIjo5OTk5OTk5OTk5OTk5OTk5OTk5fQ", "eyJhIjoiZmlsZXMiLCJpIjo5MjIzMzcyMDM2ODU0Nzc1ODA3fQ",
		"eyJhIjoiXHUwMDAwIn0", "eyJhIjoienp6enoifQ", "eyJ1c2VyIjoiYm9iIiwiYSI6IiJ9", "../../x", "%00",
	}
	for _, path := range []string{"/backup", "/site", "/backup/" + jobID + "/tasks"} {
		for _, token := range tokens {
			a := f.do(request{method: "GET", path: path + "?pageToken=" + url.QueryEscape(token)})
			if (a.status != http.StatusOK && a.status != http.StatusUnprocessableEntity) || strings.Contains(a.body, "bob") {
				t.Errorf("%s with token %.60q: %d %s", path, token, a.status, a.body)
			}
		}
	}
}

// From its deadline on a backup that has not finished reads failed, from deleteAt on a finished one is hidden, whether or
// not anybody has tended it.
func TestViewsFollowTheClock(t *testing.T) {
	f := newFixture(t)
	f.putSite("alice", "shop")
	running := f.create("alice", "shop")
	f.run(running.JobID, 1)
	f.advance(policy.JobTimeout)
	get := func(id string) api.BackupDetail {
		return into[api.BackupDetail](f, http.StatusOK, request{method: "GET", path: "/backup/" + id})
	}
	if job := get(running.JobID); job.Status != backup.Failed || job.Error.Kind != backup.TimedOut || !job.Error.Retryable {
		t.Errorf("past its deadline: %+v", job)
	}
	done := f.done("alice", "shop") // the overdue one is not in the way
	if job := get(running.JobID); job.Status != backup.Failed {
		t.Errorf("after the next backup: %+v", job)
	}
	link := request{method: "GET", path: "/backup/" + done + "/files/files"}
	if d := into[api.Download](f, http.StatusOK, link); d.SizeBytes != partBytes || !strings.HasPrefix(d.FileName, "shop-files-2026-11-01T1800Z") || !d.ExpiresAt.After(f.clock()) {
		t.Errorf("download is %+v", d)
	}
	f.refused(http.StatusNotFound, backup.NotFound, request{method: "GET", path: link.path + "x"})
	f.advance(get(done).DeleteAt.Sub(f.clock()))
	if job := get(done); job.Status != backup.Deleting {
		t.Errorf("at deleteAt: %+v", job)
	}
	f.refused(http.StatusConflict, backup.IllegalState, link)
	f.refused(http.StatusConflict, backup.IllegalState, request{method: "PATCH", path: "/backup/" + done, body: map[string]any{"deleteAt": f.clock().AddDate(0, 0, 9)}})
	for _, b := range into[api.BackupPage](f, http.StatusOK, request{method: "GET", path: "/backup"}).Backups {
		if b.JobID == done && b.Status != backup.Deleting {
			t.Errorf("in the list: %+v", b)
		}
	}
}

// What can be done with a backup in each state, and what is refused without any change.
func TestActions(t *testing.T) {
	f := newFixture(t)
	f.putSite("alice", "shop")
	failed := f.create("alice", "shop").JobID
	f.run(failed, 1)
	f.fail(failed, backup.ProviderTimeout)
	gone := f.create("alice", "shop").JobID
	f.run(gone, 1)
	f.fail(gone, backup.ProviderNotFound)
	done := f.done("alice", "shop")
	post := func(id, action string) request { return request{method: "POST", path: "/backup/" + id + "/" + action} }
	f.sameRows(func() {
		f.refused(http.StatusConflict, backup.NotRetryable, post(gone, "retry"))
		f.refused(http.StatusConflict, backup.IllegalState, post(done, "retry"))
		f.refused(http.StatusConflict, backup.IllegalState, post(done, "cancel"))
		f.refused(http.StatusConflict, backup.IllegalState, post(failed, "cancel"))
		f.refused(http.StatusConflict, backup.IllegalState, request{method: "GET", path: "/backup/" + failed + "/files/files"})
		f.refused(http.StatusConflict, backup.IllegalState, request{method: "PATCH", path: "/backup/" + failed, body: map[string]any{"deleteAt": f.clock().Add(time.Hour)}})
	})
	if job := into[api.Backup](f, http.StatusAccepted, post(failed, "retry")); job.Status != backup.Pending || job.Attempt != 2 || f.executions.started[failed+"-2"] != 1 {
		t.Errorf("retried: %+v, started %v", job, f.executions.started)
	}
	f.refused(http.StatusConflict, backup.SiteBusy, request{method: "POST", path: "/backup", body: map[string]any{"siteId": "shop"}})
	if job := into[api.Backup](f, http.StatusAccepted, post(failed, "cancel")); job.Status != backup.Failed || job.Error.Kind != backup.Cancelled {
		t.Errorf("cancelled: %+v", job)
	}
	kept := into[api.Backup](f, http.StatusOK, request{method: "PATCH", path: "/backup/" + done, body: map[string]any{"deleteAt": f.clock().Add(time.Hour)}})
	if !kept.DeleteAt.Equal(f.clock().Add(time.Hour)) {
		t.Errorf("kept: %+v", kept)
	}
	for range 2 {
		a := f.do(request{method: "DELETE", path: "/backup/" + done})
		if a.status != http.StatusAccepted || a.header.Get("Location") != "/v1/backup/"+done {
			t.Errorf("deleted: %d %v %s", a.status, a.header, a.body)
		}
	}
}

// Times are taken in any zone and given in UTC.
func TestTimes(t *testing.T) {
	f := newFixture(t)
	f.putSite("alice", "shop")
	a := f.do(request{method: "POST", path: "/backup", body: `{"siteId":"shop","deleteAt":"2026-12-24T01:30:00.123456+05:30"}`})
	if !strings.Contains(a.body, `"deleteAt":"2026-12-23T20:00:00.123Z"`) || strings.Contains(a.body, "+0") {
		t.Errorf("%d %s", a.status, a.body)
	}
	for zone, next := range map[string]string{"": "2026-11-02T03:30:00Z", "Europe/Berlin": "2026-11-02T02:30:00Z", "America/New_York": "2026-11-02T08:30:00Z", "Asia/Kolkata": "2026-11-01T22:00:00Z"} {
		body := site()
		body["schedule"] = map[string]any{"at": "03:30", "timeZone": zone}
		a := f.do(request{method: "PUT", path: "/site/blog", body: body})
		if !strings.Contains(a.body, `"nextRunAt":"`+next+`"`) {
			t.Errorf("zone %q: %s, want the next run at %s", zone, a.body, next)
		}
	}
}
