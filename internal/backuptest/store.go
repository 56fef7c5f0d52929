package backuptest

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
)

// StoreConformance holds a store against the contract of step.Store, and of step.Purger if it is one. open returns an
// empty store with the given quotas that lives as long as the test it is given.
func StoreConformance(t *testing.T, open func(t *testing.T, q backup.Quotas) step.Store) {
	run := func(rule storeRule, q backup.Quotas) {
		t.Run(rule.sentence, func(t *testing.T) {
			rule.check(storeCase{T: t, store: open(t, q), quotas: q})
		})
	}
	for _, rule := range slices.Concat(jobRules, fileRules, errorRules, siteRules, ticketRules, purgeRules, usageRules, modelRules) {
		run(rule, wideQuotas)
	}
	for _, rule := range quotaRules {
		run(rule, tightQuotas)
	}
}

// storeRule is one sentence of the contract and its proof.
type storeRule struct {
	sentence string
	check    func(c storeCase)
}

// storeCase is one store under test. Its methods set up rows and fail the test if that does not work.
type storeCase struct {
	*testing.T
	store  step.Store
	quotas backup.Quotas
}

var (
	storeEpoch  = time.Date(2026, 3, 1, 2, 30, 0, 7_000_000, time.UTC) // whole milliseconds, as all times of rows
	allStatuses = []backup.Status{backup.Pending, backup.Running, backup.Done, backup.Failed, backup.Deleting, backup.Deleted}
)

// jobID makes the n-th id in the order of creation.
func jobID(n int) string { return fmt.Sprintf("01%024d", n) }

func testSite(userID, siteID string) backup.Site {
	return backup.Site{
		UserID: userID, SiteID: siteID, KeepDays: 60, CreatedAt: storeEpoch, UpdatedAt: storeEpoch,
		Providers: []backup.Provider{{Name: "files", URL: "https://example.org/export"}},
		Limits:    backup.Limits{MaxFileBytes: 1 << 40, Parallelism: 4},
	}
}

// testJob is a pending job of the site "blog" of user "ada" unless changed.
func testJob(n int) backup.Job {
	return backup.NewJob(jobID(n), testSite("ada", "blog"), backup.Manual, storeEpoch.Add(60*24*time.Hour), storeEpoch, backup.DefaultPolicy())
}

// jobOf is a pending job of a site of its own, so that it meets no other.
func jobOf(userID string, n int) backup.Job {
	j := testJob(n)
	j.UserID, j.SiteID = userID, fmt.Sprintf("site-%d", n)
	return j
}

func (c storeCase) create(job backup.Job) backup.Job {
	c.Helper()
	stored, err := c.store.CreateJob(c.Context(), job, backup.Idempotency{})
	c.need(err, "create job")
	return stored
}

func (c storeCase) job(id string) backup.Job {
	c.Helper()
	j, err := c.store.GetJob(c.Context(), id)
	c.need(err, "get job")
	return j
}

// swap changes the stored job.
func (c storeCase) swap(id string, change func(*backup.Job)) backup.Job {
	c.Helper()
	j := c.job(id)
	change(&j)
	c.need(c.store.SwapJob(c.Context(), j), "swap job")
	return c.job(id)
}

// running makes job n run its first attempt.
func (c storeCase) running(n int) backup.Job {
	c.Helper()
	c.create(jobOf("ada", n))
	return c.swap(jobID(n), func(j *backup.Job) { j.Status = backup.Running })
}

func openFile(job backup.Job, name, uploadID string) backup.File {
	return backup.File{
		JobID: job.JobID, Name: name, Status: backup.FileOpen, Attempt: job.Attempt, UploadID: uploadID,
		Key: job.FileKey(name, job.Attempt, 1), Token: "token", Pin: backup.Pin{ETag: `"v1"`, SizeBytes: 1 << 30},
		PartSizeBytes: backup.BasePartSizeBytes, CreatedAt: storeEpoch, UpdatedAt: storeEpoch,
	}
}

// opened stores an open file of a running job.
func (c storeCase) opened(job backup.Job, name, uploadID string) backup.File {
	c.Helper()
	f := openFile(job, name, uploadID)
	c.need(c.store.SwapFile(c.Context(), guardOf(job), f), "open file")
	return c.file(job.JobID, name)
}

func guardOf(job backup.Job) backup.FileGuard {
	return backup.FileGuard{JobID: job.JobID, Status: job.Status, Attempt: job.Attempt}
}

func (c storeCase) file(jobID, name string) backup.File {
	c.Helper()
	f, err := c.store.GetFile(c.Context(), jobID, name)
	c.need(err, "get file")
	return f
}

func (c storeCase) parts(f backup.File) []backup.Part {
	c.Helper()
	list, err := c.store.Parts(c.Context(), f, 1, backup.MaxParts)
	c.need(err, "list parts")
	return list
}

// testPart is part n of the file as its own worker would record it.
func testPart(f backup.File, n int) backup.PartWrite {
	return backup.PartWrite{
		JobID: f.JobID, Attempt: f.Attempt, File: f.Name, UploadID: f.UploadID, At: storeEpoch,
		Part: backup.Part{Number: n, ETag: fmt.Sprintf(`"part-%d"`, n), SizeBytes: int64(1000 + n), CRC64NVME: 1<<63 + uint64(n)},
	}
}

func (c storeCase) record(w backup.PartWrite) {
	c.Helper()
	c.need(c.store.RecordPart(c.Context(), w), "record part")
}

func (c storeCase) need(err error, doing string) {
	c.Helper()
	if err != nil {
		c.Fatalf("%s: %v", doing, err)
	}
}

// wantKind checks the kind of err; "" wants success.
func (c storeCase) wantKind(err error, want backup.Kind, doing string) {
	c.Helper()
	if got := backup.KindOf(err); got != want {
		c.Errorf("%s: got kind %q (%v), want %q", doing, got, err, want)
	}
}

func (c storeCase) wantSame(got, want any, what string) {
	c.Helper()
	if !reflect.DeepEqual(got, want) {
		c.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

// together runs n calls at the same time and counts their results by kind ("": success).
func together(n int, call func(i int) error) map[backup.Kind]int {
	results := make([]error, n)
	start := make(chan struct{})
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { <-start; results[i] = call(i) })
	}
	close(start)
	group.Wait()
	counts := map[backup.Kind]int{}
	for _, err := range results {
		counts[backup.KindOf(err)]++
	}
	return counts
}

// untilSwapped tries a read-decide-write again for as long as somebody else's write comes between; at most `bound`
// times, which is how many writes there are in all.
func untilSwapped(bound int, try func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		var err error
		for range bound {
			if err = try(ctx); !backup.Is(err, backup.Conflict) {
				return err
			}
		}
		return err
	}
}

// fill sets every field that v holds to a value of its own. A field of a kind that it does not know panics, so that
// nobody adds one without teaching fill.
func fill(v reflect.Value, seed *int64) {
	*seed++
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(storeEpoch.Add(time.Duration(*seed) * time.Millisecond)))
		return
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), seed)
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprintf(`"välüe\%d'`, *seed))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1<<40 + *seed)
	case reflect.Uint64:
		v.SetUint(1<<63 + uint64(*seed))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), seed)
		fill(v.Index(1), seed)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), seed)
		}
	default:
		panic(fmt.Sprintf("fill cannot fill %s", v.Type()))
	}
}

func filled[T any]() T {
	var value T
	var seed int64
	fill(reflect.ValueOf(&value).Elem(), &seed)
	return value
}
