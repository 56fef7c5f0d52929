package dynamo_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	minidyn "github.com/truora/minidyn/server"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/dynamo"
)

// image is a row as the stream shows it.
type image = map[string]events.DynamoDBAttributeValue

// scan reads all rows of the only table by their keys, past the store.
func scan(t *testing.T, server http.Handler, table string) map[string]image {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(fmt.Sprintf(`{"TableName":%q}`, table)))
	r.Header.Set("X-Amz-Target", "DynamoDB_20120810.Scan")
	w := httptest.NewRecorder()
	server.ServeHTTP(w, r)
	var answer struct{ Items []image }
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatalf("%v in %s", err, w.Body)
	}
	rows := map[string]image{}
	for _, row := range answer.Items {
		rows[row[dynamo.PartitionKey].String()+" "+row[dynamo.SortKey].String()] = row
	}
	return rows
}

// rowsOf is an empty store and a look at its rows.
func rowsOf(t *testing.T) (*dynamo.Store, func() map[string]image) {
	t.Helper()
	server := minidyn.NewServer()
	store, table := newTable(t, newClient("http://minidyn", inProcess{server}))
	return store, func() map[string]image { return scan(t, server, table) }
}

// The rows and their keys are as docs/store.md shows them: whoever changes one breaks tables that are in use.
func TestRows(t *testing.T) {
	store, rows := rowsOf(t)
	job, file := openFile(t, store, 1)
	calls := []error{
		store.RecordPart(t.Context(), partOf(file, 1)),
		store.RecordError(t.Context(), backup.Guard(job.JobID, 1), backup.NewFailure(backup.ProviderTimeout, "files", "slow", epoch)),
		store.PutSite(t.Context(), backup.Site{UserID: "ada", SiteID: "blog"}),
		store.PutTicket(t.Context(), "digest", backup.Ticket{UserID: "ada", ExpiresAt: epoch}),
		store.WithQuotas(backup.Quotas{Sockets: 1}).OpenSocket(t.Context(), socketOf("a/b=", "ada")),
		store.Watch(t.Context(), socketOf("a/b=", "ada"), job.JobID, 1),
		second(store.ClaimPush(t.Context(), job.JobID, 1, epoch, 0)),
	}
	_, err := store.CreateJob(t.Context(), newJob(2), backup.Idempotency{UserID: "ada", Key: "k/1", BodyHash: "h", ExpiresAt: epoch})
	for _, err := range append(calls, err) {
		if err != nil {
			t.Fatal(err)
		}
	}
	one, two := job.JobID, newJob(2).JobID
	want := map[string]string{
		"JOB#" + one + " JOB":                  "job",
		"JOB#" + one + " FILE#files":           "file",
		"JOB#" + one + " FILE-ERROR#files":     "error",
		"PARTS#" + one + "#files#upload 00001": "part",
		"JOBS#ada " + one:                      "list",
		"JOBS#ada#site-1 " + one:               "list",
		"SLOT#ada#site-1 SLOT":                 "slot",
		"JOB#" + two + " JOB":                  "job",
		"JOBS#ada " + two:                      "list",
		"JOBS#ada#site-2 " + two:               "list",
		"SLOT#ada#site-2 SLOT":                 "slot",
		"KEY#ada#k%2F1 KEY":                    "key",
		"NEWEST#ada#site-1 NEWEST":             "newest",
		"NEWEST#ada#site-2 NEWEST":             "newest",
		"SITES#ada blog":                       "site",
		"TICKET#digest TICKET":                 "ticket",
		"GOOD#ada blog":                        "good",
		"SOCKET#a%2Fb%3D SOCKET":               "socket",
		"SOCKETS#ada 0000000000":               "socketSlot",
		"SOCKET#a%2Fb%3D WATCH#" + one:         "watch",
		"WATCH#" + one + " a/b=":               "watch",
		"PUSH#" + one + " PUSH":                "push",
	}
	for i := range 8 {
		want[fmt.Sprintf("JOB#%s GATE#%d", one, i)] = "gate"
	}
	got := map[string]string{}
	for k, row := range rows() {
		got[k] = row[dynamo.TypeAttribute].String()
	}
	if !maps.Equal(got, want) {
		t.Errorf("rows:\n got %v\nwant %v", got, want)
	}
}

// Every row of a deleted job goes when its time has come, and so do keys, tickets and parts; nothing else ever does.
func TestTimeToLive(t *testing.T) {
	store, rows := rowsOf(t)
	job, file := openFile(t, store, 1)
	_, err := store.CreateJob(t.Context(), newJob(2), backup.Idempotency{UserID: "ada", Key: "k", BodyHash: "h", ExpiresAt: epoch.Add(time.Millisecond)})
	for _, err := range []error{
		err,
		store.RecordPart(t.Context(), partOf(file, 1)),
		store.RecordError(t.Context(), backup.Guard(job.JobID, 1), backup.NewFailure(backup.ProviderTimeout, "files", "slow", epoch)),
		store.PutTicket(t.Context(), "digest", backup.Ticket{UserID: "ada", ExpiresAt: epoch.Add(time.Minute)}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	early := expiring(rows())
	remembered := fmt.Sprint(epoch.Add((backup.MaxKeepDays + 30) * 24 * time.Hour).Unix())
	want := map[string]string{
		"NEWEST#ada#site-1 NEWEST":                   remembered,
		"NEWEST#ada#site-2 NEWEST":                   remembered,
		"KEY#ada#k KEY":                              fmt.Sprint(epoch.Unix() + 1),
		"TICKET#digest TICKET":                       fmt.Sprint(epoch.Unix() + 60),
		"PARTS#" + job.JobID + "#files#upload 00001": fmt.Sprint(epoch.Add(30 * 24 * time.Hour).Unix()),
	}
	if !maps.Equal(early, want) {
		t.Errorf("before the deletion:\n got %v\nwant %v", early, want)
	}

	job.Status = backup.Deleting
	job = swap(t, store, job)
	job.Status, job.PurgeAt, job.DueAt = backup.Deleted, epoch.Add(time.Hour), time.Time{}
	swap(t, store, job)
	late := expiring(rows())
	for k, row := range rows() {
		ofJob := strings.HasPrefix(k, "JOB#"+job.JobID) || strings.HasSuffix(k, " "+job.JobID)
		if ofJob && row[dynamo.TTLAttribute].Number() != fmt.Sprint(job.PurgeAt.Unix()) {
			t.Errorf("%s lives until %v", k, late[k])
		}
	}
	if len(late) != len(early)+1+2+2+8 { // the job, its two listings, its file with its last error, and its gates
		t.Errorf("after the deletion: %v", slices.Sorted(maps.Keys(late)))
	}
}

func expiring(rows map[string]image) map[string]string {
	all := map[string]string{}
	for k, row := range rows {
		if ttl, ok := row[dynamo.TTLAttribute]; ok {
			all[k] = ttl.Number()
		}
	}
	return all
}

// A job whose time has come is gone for readers, whether or not DynamoDB has come by.
func TestExpiredJobIsAbsent(t *testing.T) {
	store, _ := rowsOf(t)
	for n, purgeAt := range []time.Time{epoch.Add(time.Millisecond), epoch, epoch.Add(-time.Millisecond)} {
		job := create(t, store, n)
		job.Status, job.PurgeAt = backup.Deleted, purgeAt
		swap(t, store, job)
		want := backup.Kind("")
		if !purgeAt.After(epoch) {
			want = backup.NotFound
		}
		if _, err := store.GetJob(t.Context(), job.JobID); backup.KindOf(err) != want {
			t.Errorf("job that goes at %v: got %v, want %q", purgeAt, err, want)
		}
	}
	// Even the shortest page looks past the two newer ones that are gone.
	for _, limit := range []int{1, 3} {
		jobs, err := store.ListJobs(t.Context(), backup.JobQuery{UserID: "ada", Limit: limit})
		if err != nil || len(jobs) != 1 || jobs[0].JobID != newJob(0).JobID {
			t.Errorf("limit %d: got %d jobs, %v", limit, len(jobs), err)
		}
	}
}

// Names that hold the separator or look like it never lead into another tenant's partition.
func TestTenantsStayApart(t *testing.T) {
	store, _ := rowsOf(t)
	tenants := []struct{ user, site, key string }{
		{"a", "b#c", "b#k"}, {"a#b", "c", "k"}, {"a%23b", "c", "k"}, {"a", "b%23c", "b%23k"}, {"a b", "c", "k"}, {"a+b", "c", "k"}, {"", "a#b#c", "a#b#k"},
	}
	for n, tenant := range tenants {
		job := newJob(n)
		job.UserID, job.SiteID = tenant.user, tenant.site
		k := backup.Idempotency{UserID: tenant.user, Key: tenant.key, BodyHash: fmt.Sprint(n), ExpiresAt: epoch.Add(time.Hour)}
		if _, err := store.CreateJob(t.Context(), job, k); err != nil {
			t.Errorf("%+v meets another: %v", tenant, err)
		}
		if err := store.PutSite(t.Context(), backup.Site{UserID: tenant.user, SiteID: tenant.site}); err != nil {
			t.Errorf("%+v meets another: %v", tenant, err)
		}
	}
	for n, tenant := range tenants {
		jobs, err := store.ListJobs(t.Context(), backup.JobQuery{UserID: tenant.user, SiteID: tenant.site, Limit: 10})
		if err != nil || len(jobs) != 1 || jobs[0].JobID != newJob(n).JobID {
			t.Errorf("%+v: %d jobs, %v", tenant, len(jobs), err)
		}
	}
}

// maxItemBytes: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html (read 2026-11).
const maxItemBytes = 400 << 10

// The largest rows that the API lets in are far below what DynamoDB takes, even in the wordier form of the wire.
func TestRowsStaySmall(t *testing.T) {
	store, rows := rowsOf(t)
	job := newJob(1)
	job.UserID, job.SiteID = strings.Repeat("u", 128), strings.Repeat("s", 63)
	job.Providers = nil
	for i := range backup.MaxProviders {
		name := fmt.Sprintf("%s%d", strings.Repeat("p", 31), i)
		job.Providers = append(job.Providers, backup.Provider{Name: name, URL: strings.Repeat("x", 2048), SecretRef: strings.Repeat("r", 64)})
	}
	job.Failure = backup.NewFailure(backup.Internal, "", strings.Repeat("d", 10_000), epoch)
	stored, err := store.CreateJob(t.Context(), job, backup.Idempotency{})
	if err != nil {
		t.Fatal(err)
	}
	stored.Status = backup.Running
	swap(t, store, stored)
	for _, p := range job.Providers {
		file := backup.File{
			JobID: job.JobID, Name: p.Name, Status: backup.FileOpen, Attempt: 1, UploadID: strings.Repeat("i", 200),
			Key: strings.Repeat("k", backup.MaxKeyBytes), Pin: backup.Pin{ETag: strings.Repeat("e", 1024)}, Failure: job.Failure,
		}
		if err := store.SwapFile(t.Context(), backup.Guard(job.JobID, 1), file); err != nil {
			t.Fatal(err)
		}
		for n := 1; n <= 8; n++ {
			w := partOf(file, n)
			w.Part.SizeBytes = backup.MaxPartSizeBytes
			if err := store.RecordPart(t.Context(), w); err != nil {
				t.Fatal(err)
			}
		}
	}
	most := map[string]int{}
	for _, row := range rows() {
		text, err := json.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		kind := row[dynamo.TypeAttribute].String()
		most[kind] = max(most[kind], len(bytes.TrimSpace(text)))
	}
	t.Logf("largest rows in bytes of JSON: %v", most)
	for kind, limit := range map[string]int{"job": maxItemBytes / 10, "file": maxItemBytes / 50, "gate": maxItemBytes / 50, "part": 2048} {
		if most[kind] == 0 || most[kind] > limit {
			t.Errorf("a %s takes %d bytes, want at most %d", kind, most[kind], limit)
		}
	}
}
