package dynamo_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	minidyn "github.com/truora/minidyn/server"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/dynamo"
)

// faulty stands between the SDK and DynamoDB. The first calls of an operation get the planned answers; with lost set
// they are carried out all the same.
type faulty struct {
	to dynamodb.HTTPClient

	mu      sync.Mutex
	op      string
	answers []fault
	lost    bool
	fired   int
	calls   int      // of op
	tokens  []string // of op
	carried bool
}

type fault struct {
	status int
	body   string
}

func (f *faulty) plan(op string, answers ...fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.op, f.answers, f.lost, f.fired, f.calls, f.tokens = op, answers, false, 0, 0, nil
}

func (f *faulty) Do(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	planned, ok := f.next(r, body)
	if !ok {
		return f.to.Do(r)
	}
	if f.lost {
		response, err := f.to.Do(r)
		if err != nil {
			return nil, err
		}
		f.carried = f.carried || response.StatusCode == http.StatusOK
		_ = response.Body.Close()
	}
	return answer(r, planned), nil
}

func answer(r *http.Request, f fault) *http.Response {
	return &http.Response{
		StatusCode: f.status, Header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}},
		Body: io.NopCloser(strings.NewReader(f.body)), Request: r,
	}
}

func (f *faulty) next(r *http.Request, body []byte) (fault, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), "."); op != f.op {
		return fault{}, false
	}
	var request struct {
		ClientRequestToken string
		RequestItems       json.RawMessage
	}
	_ = json.Unmarshal(body, &request)
	f.calls, f.tokens = f.calls+1, append(f.tokens, request.ClientRequestToken)
	if f.fired == len(f.answers) {
		return fault{}, false
	}
	f.fired++
	answer := f.answers[f.fired-1]
	if answer == leftOut {
		answer.body = fmt.Sprintf(`{"Responses":{},"UnprocessedKeys":%s}`, request.RequestItems)
	}
	if answer == unprocessed {
		answer.body = fmt.Sprintf(`{"UnprocessedItems":%s}`, request.RequestItems)
	}
	return answer, true
}

// cancelled is the answer to a transaction that was cancelled for the reasons, one for each row.
func cancelled(reasons ...string) fault {
	var list []string
	for _, r := range reasons {
		list = append(list, fmt.Sprintf(`{"Code":%q}`, r))
	}
	return fault{400, `{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException","Message":"cancelled","CancellationReasons":[` +
		strings.Join(list, ",") + `]}`}
}

func refused(code string) fault {
	return fault{400, `{"__type":"com.amazonaws.dynamodb.v20120810#` + code + `","message":"no"}`}
}

var serverError = fault{500, `{"__type":"com.amazonaws.dynamodb.v20120810#InternalServerError","message":"sorry"}`}

// leftOut answers a BatchGetItem with none of its rows, unprocessed a BatchWriteItem with none of its writes done.
var (
	leftOut     = fault{status: 200}
	unprocessed = fault{status: 200, body: "unprocessed"}
)

func times(n int, f fault) []fault {
	all := make([]fault, n)
	for i := range all {
		all[i] = f
	}
	return all
}

// faultyStore is an empty store on minidyn with faults in between.
func faultyStore(t *testing.T) (*dynamo.Store, *faulty) {
	t.Helper()
	faults := &faulty{to: inProcess{minidyn.NewServer()}}
	return newStore(t, newClient("http://minidyn", faults)), faults
}

func newJob(n int) backup.Job {
	site := backup.Site{UserID: "ada", SiteID: fmt.Sprintf("site-%d", n), Providers: []backup.Provider{{Name: "files", URL: "https://example.org/files"}}}
	return backup.NewJob(fmt.Sprintf("01%024d", n), site, backup.Daily, epoch.Add(24*time.Hour), epoch, backup.DefaultPolicy())
}

func create(t *testing.T, store *dynamo.Store, n int) backup.Job {
	t.Helper()
	job, err := store.CreateJob(t.Context(), newJob(n), backup.Idempotency{})
	if err != nil {
		t.Fatal(err)
	}
	return job
}

func swap(t *testing.T, store *dynamo.Store, job backup.Job) backup.Job {
	t.Helper()
	if err := store.SwapJob(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	job.Rev++
	return job
}

// openFile makes job n run and opens its file.
func openFile(t *testing.T, store *dynamo.Store, n int) (backup.Job, backup.File) {
	t.Helper()
	job := create(t, store, n)
	job.Status = backup.Running
	job = swap(t, store, job)
	file := backup.File{JobID: job.JobID, Name: "files", Status: backup.FileOpen, Attempt: 1, UploadID: "upload", CreatedAt: epoch}
	if err := store.SwapFile(t.Context(), backup.Guard(job.JobID, 1), file); err != nil {
		t.Fatal(err)
	}
	file.Rev = 1
	return job, file
}

func partOf(f backup.File, n int) backup.PartWrite {
	return backup.PartWrite{
		JobID: f.JobID, Attempt: f.Attempt, File: f.Name, UploadID: f.UploadID, At: epoch,
		Part: backup.Part{Number: n, ETag: fmt.Sprintf(`"%032d"`, n), SizeBytes: 16 << 20, CRC64NVME: 1<<63 + uint64(n)},
	}
}

// What passes is tried again, with the same token each time, and the call succeeds.
func TestPassingFaults(t *testing.T) {
	const most = 11 // one less than the store tries
	for _, c := range []struct {
		name, op string
		fault    fault
		call     func(t *testing.T, s *dynamo.Store) error
	}{
		{"another transaction on the job", "TransactWriteItems", cancelled("TransactionConflict", "None", "None", "None"), createOne},
		{"another transaction on the last row", "TransactWriteItems", cancelled("None", "None", "None", "TransactionConflict"), createOne},
		{"a busy row before a refused one", "TransactWriteItems", cancelled("None", "TransactionConflict", "ConditionalCheckFailed", "None"), createOne},
		{"a throttled row", "TransactWriteItems", cancelled("ThrottlingError", "None", "None", "None"), createOne},
		{"a row without capacity", "TransactWriteItems", cancelled("None", "ProvisionedThroughputExceeded", "None", "None"), createOne},
		{"a throttled write", "TransactWriteItems", refused("ProvisionedThroughputExceededException"), createOne},
		{"the same transaction still under way", "TransactWriteItems", refused("TransactionInProgressException"), createOne},
		{"a throttled read", "GetItem", refused("ThrottlingException"), getOne},
		{"a failing server", "GetItem", serverError, getOne},
		{"a transaction on the ticket", "DeleteItem", refused("TransactionConflictException"), takeOne},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, faults := faultyStore(t)
				create(t, store, 2)
				if err := store.PutTicket(t.Context(), "digest", backup.Ticket{UserID: "ada", ExpiresAt: epoch.Add(time.Minute)}); err != nil {
					t.Fatal(err)
				}
				faults.plan(c.op, times(most, c.fault)...)
				if err := c.call(t, store); err != nil {
					t.Error(err)
				}
				if faults.fired != most || faults.calls != most+1 {
					t.Errorf("%d faults in %d calls", faults.fired, faults.calls)
				}
				for _, token := range faults.tokens {
					if token != faults.tokens[0] || (token == "") != (c.op != "TransactWriteItems") {
						t.Errorf("tokens: %q", faults.tokens)
					}
				}
			})
		})
	}
}

func createOne(t *testing.T, s *dynamo.Store) error {
	_, err := s.CreateJob(t.Context(), newJob(1), backup.Idempotency{})
	return err
}

func getOne(t *testing.T, s *dynamo.Store) error {
	_, err := s.GetJob(t.Context(), newJob(2).JobID)
	return err
}

func takeOne(t *testing.T, s *dynamo.Store) error {
	_, err := s.TakeTicket(t.Context(), "digest", epoch)
	return err
}

// What does not pass in time is StoreUnavailable after a bounded number of tries and seconds, or at once if trying
// again is of no use.
func TestLastingFaults(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault fault
		tries int
	}{
		{"another transaction", cancelled("TransactionConflict", "None", "None", "None"), 12},
		{"a failing server", serverError, 12},
		{"an invalid request", refused("ValidationException"), 1},
		{"an invalid row", cancelled("None", "ValidationError", "None", "None"), 1},
		{"a refused row that has no condition", cancelled("None", "None", "None", "ConditionalCheckFailed", "None"), 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, faults := faultyStore(t)
				faults.plan("TransactWriteItems", times(50, c.fault)...)
				began := time.Now()
				if err := createOne(t, store); !backup.Is(err, backup.StoreUnavailable) {
					t.Errorf("got %v", err)
				}
				if took := time.Since(began); faults.fired != c.tries || took > 7*time.Second {
					t.Errorf("%d tries in %v", faults.fired, took)
				}
			})
		})
	}
}

// A caller that gives up ends the tries.
func TestCallerGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, faults := faultyStore(t)
		faults.plan("TransactWriteItems", times(50, cancelled("TransactionConflict", "None", "None", "None"))...)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := store.CreateJob(ctx, newJob(1), backup.Idempotency{})
		if !errors.Is(err, context.DeadlineExceeded) || faults.fired < 2 || faults.fired > 5 {
			t.Errorf("after %d tries: %v", faults.fired, err)
		}
	})
}

// Each refused condition of a transaction has the one meaning of its row, and the first of several tells.
func TestRefusals(t *testing.T) {
	const no, ok, busy = "ConditionalCheckFailed", "None", "TransactionConflict"
	key := backup.Idempotency{UserID: "ada", Key: "k", BodyHash: "body", ExpiresAt: epoch.Add(time.Hour)}
	createJob := func(t *testing.T, s *dynamo.Store) error {
		_, err := s.CreateJob(t.Context(), newJob(1), key)
		return err
	}
	retry := func(t *testing.T, s *dynamo.Store) error {
		job, err := s.GetJob(t.Context(), newJob(3).JobID)
		job.Status = backup.Pending
		return errors.Join(err, s.SwapJob(t.Context(), job))
	}
	swapFile := func(t *testing.T, s *dynamo.Store) error {
		f := backup.File{JobID: newJob(2).JobID, Name: "other", Status: backup.FileFailed}
		return s.SwapFile(t.Context(), backup.Guard(f.JobID, 1), f)
	}
	record := func(t *testing.T, s *dynamo.Store) error {
		f := backup.File{JobID: newJob(2).JobID, Name: "files", Attempt: 1, UploadID: "upload"}
		return s.RecordPart(t.Context(), partOf(f, 1))
	}
	for _, c := range []struct {
		name    string
		call    func(t *testing.T, s *dynamo.Store) error
		reasons []string
		want    backup.Kind
	}{
		{"create: the newest id", createJob, []string{ok, no, ok, ok, ok, ok}, ""}, // with the next id after it
		{"create: the job", createJob, []string{ok, ok, no, ok, ok, ok}, backup.Conflict},
		{"create: the site", createJob, []string{ok, ok, ok, no, ok, ok}, backup.SiteBusy},
		{"create: the job and the site", createJob, []string{ok, ok, no, no, ok, ok}, backup.Conflict},
		{"retry: the job", retry, []string{no, ok}, backup.Conflict},
		{"retry: the site", retry, []string{ok, no}, backup.SiteBusy},
		{"retry: both", retry, []string{no, no}, backup.Conflict},
		{"file: the guard", swapFile, []string{no, ok}, backup.StaleAttempt},
		{"file: its row", swapFile, []string{ok, no}, backup.Conflict},
		{"file: both", swapFile, []string{no, no}, backup.StaleAttempt},
		{"part: the gate", record, []string{no, ok}, backup.StaleAttempt},
		{"part: its row", record, []string{ok, no}, ""},
		{"part: both", record, []string{no, no}, backup.StaleAttempt},
		{"part: its row beside a busy gate", record, []string{busy, no}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, faults := faultyStore(t)
				openFile(t, store, 2)
				failed := create(t, store, 3)
				failed.Status = backup.Failed
				swap(t, store, failed)
				faults.plan("TransactWriteItems", cancelled(c.reasons...))
				if got := c.call(t, store); backup.KindOf(got) != c.want {
					t.Errorf("got %v, want %q", got, c.want)
				}
				if faults.fired != 1 {
					t.Error("the fault did not fire")
				}
			})
		})
	}
}

// A new job that others of its site overtake again and again is given up after a bounded number of tries.
func TestOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, faults := faultyStore(t)
		faults.plan("TransactWriteItems", times(50, cancelled("ConditionalCheckFailed", "None", "None", "None", "None"))...)
		if err := createOne(t, store); !backup.Is(err, backup.Conflict) || faults.fired != 9 {
			t.Errorf("after %d tries: %v", faults.fired, err)
		}
	})
}

// A write whose reply was lost is known again by its token and succeeds once. minidyn does not know tokens.
func TestLostReply(t *testing.T) {
	faults := &faulty{}
	client := startLocal(t)
	faults.to = client.Options().HTTPClient
	store := newStore(t, newClient(*client.Options().BaseEndpoint, faults))

	lose := func(doing string, call func() error) {
		t.Helper()
		faults.plan("TransactWriteItems", serverError)
		faults.lost, faults.carried = true, false
		if err := call(); err != nil {
			t.Errorf("%s: %v", doing, err)
		}
		if faults.fired != 1 || !faults.carried || faults.calls != 2 {
			t.Errorf("%s: %d faults in %d calls, carried out: %t", doing, faults.fired, faults.calls, faults.carried)
		}
	}
	var job backup.Job
	lose("create", func() (err error) {
		job, err = store.CreateJob(t.Context(), newJob(1), backup.Idempotency{})
		return err
	})
	job.Status = backup.Running
	lose("swap", func() error { return store.SwapJob(t.Context(), job) })
	file := backup.File{JobID: job.JobID, Name: "files", Status: backup.FileOpen, Attempt: 1, UploadID: "upload"}
	lose("open", func() error { return store.SwapFile(t.Context(), backup.Guard(job.JobID, 1), file) })
	lose("record", func() error { return store.RecordPart(t.Context(), partOf(file, 1)) })
	lose("site", func() error { return store.PutSite(t.Context(), backup.Site{UserID: "ada", SiteID: "blog"}) })
	lose("delete site", func() error { return store.DeleteSite(t.Context(), "ada", "blog", 1) })

	stored, err := store.GetJob(t.Context(), job.JobID)
	if err != nil || stored.Rev != 2 {
		t.Errorf("job at revision %d, %v", stored.Rev, err)
	}
	got, err := store.GetFile(t.Context(), job.JobID, "files")
	if err != nil || got.Rev != 1 || got.Changes != 2 || got.Recorded.Parts != 1 {
		t.Errorf("file %+v, %v", got, err)
	}
}

// Rows that DynamoDB leaves out of an answer are asked for again, a bounded number of times.
func TestUnprocessedKeys(t *testing.T) {
	for _, c := range []struct {
		answers int
		want    backup.Kind
	}{{3, ""}, {50, backup.StoreUnavailable}} {
		synctest.Test(t, func(t *testing.T) {
			store, faults := faultyStore(t)
			create(t, store, 1)
			faults.plan("BatchGetItem", times(c.answers, leftOut)...)
			jobs, err := store.ListJobs(t.Context(), backup.JobQuery{UserID: "ada", Limit: 10})
			if backup.KindOf(err) != c.want || (err == nil && len(jobs) != 1) {
				t.Errorf("got %d jobs, %v", len(jobs), err)
			}
			if faults.fired != min(c.answers, 12) {
				t.Errorf("%d answers left rows out", faults.fired)
			}
		})
	}
}
