package events_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	lambdaevents "github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"

	"github.com/sitevault/sitevault/internal/awstest"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/dynamo"
	"github.com/sitevault/sitevault/internal/events"
	"github.com/sitevault/sitevault/internal/step"
	"github.com/sitevault/sitevault/internal/telemetry/metric"
)

const jobID = "01JD0000000000000000000000"

// image is a row as the stream shows it.
type image = map[string]lambdaevents.DynamoDBAttributeValue

// rig is a table, its stream and what consumes it.
type rig struct {
	*testing.T
	server   *awstest.Server
	store    *dynamo.Store
	storage  *backuptest.Storage
	consumer events.Consumer
	pushes   *pushes
	counted  *counted
	rows     map[string]image // as the stream has told them
	records  int
	clock    time.Time
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{T: t, server: awstest.New(t), storage: backuptest.NewStorage(), pushes: &pushes{}, counted: &counted{sums: map[string]float64{}}, clock: epoch}
	client := dynamodb.NewFromConfig(r.server.Config())
	if _, err := client.CreateTable(t.Context(), dynamo.Table("rows")); err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return r.clock }
	r.store = dynamo.New(client, "rows", now, func() float64 { return 0 })
	r.consumer = events.Consumer{
		Status:  step.Status{Jobs: r.store, Files: r.store, Now: now},
		Bus:     events.Bus{Client: eventbridge.NewFromConfig(r.server.Config()), Name: "bus"},
		Good:    r.store,
		Cleaner: step.Cleaner{Storage: r.storage},
		Pusher:  r.pushes,
		Metrics: r.counted,
		Log:     slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	return r
}

// counted sums up metrics by their names.
type counted struct {
	mu   sync.Mutex
	sums map[string]float64
}

func (c *counted) Record(_ context.Context, samples ...metric.Sample) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range samples {
		c.sums[s.Def.Name] += s.Value
	}
}

// pushes notes what is pushed, and fails on demand.
type pushes struct {
	mu   sync.Mutex
	told []string
	fail error
}

func (p *pushes) Push(ctx context.Context, jobID string, urgent bool, read func(context.Context) (step.View, error)) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail != nil {
		return 0, p.fail
	}
	view, err := read(ctx)
	p.told = append(p.told, fmt.Sprintf("%s urgent %t", view.Job.Status, urgent))
	return 0, err
}

func (p *pushes) take() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	told := strings.Join(p.told, ", ")
	p.told = nil
	return told
}

func (r *rig) need(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// scan reads all rows past the store.
func (r *rig) scan() map[string]image {
	r.Helper()
	request, err := http.NewRequestWithContext(r.Context(), http.MethodPost, r.server.URL, strings.NewReader(`{"TableName":"rows"}`))
	r.need(err)
	request.Header.Set("X-Amz-Target", "DynamoDB_20120810.Scan")
	response, err := http.DefaultClient.Do(request)
	r.need(err)
	defer response.Body.Close()
	var answer struct{ Items []image }
	r.need(json.NewDecoder(response.Body).Decode(&answer))
	rows := map[string]image{}
	for _, row := range answer.Items {
		rows[row[dynamo.PartitionKey].String()+" "+row[dynamo.SortKey].String()] = row
	}
	return rows
}

// stream are the records of what was written since the last call, rows of other types left out as the filter does.
func (r *rig) stream() []lambdaevents.DynamoDBEventRecord {
	r.Helper()
	now := r.scan()
	var records []lambdaevents.DynamoDBEventRecord
	add := func(name string, old, next image) {
		kind := cmp.Or(next[dynamo.TypeAttribute].String(), old[dynamo.TypeAttribute].String())
		if slices.Contains([]string{dynamo.JobType, dynamo.FileType, dynamo.PartType, dynamo.ErrorType}, kind) {
			r.records++
			records = append(records, lambdaevents.DynamoDBEventRecord{
				EventID: fmt.Sprint("record-", r.records), EventName: name,
				Change: lambdaevents.DynamoDBStreamRecord{OldImage: old, NewImage: next, SequenceNumber: fmt.Sprint(1000 + r.records)},
			})
		}
	}
	for _, k := range sorted(now) {
		if old, known := r.rows[k]; !known {
			add("INSERT", nil, now[k])
		} else if asJSON(old) != asJSON(now[k]) {
			add("MODIFY", old, now[k])
		}
	}
	for _, k := range sorted(r.rows) {
		if _, kept := now[k]; !kept {
			add("REMOVE", r.rows[k], nil)
		}
	}
	r.rows = now
	return records
}

func sorted(rows map[string]image) (keys []string) {
	for k := range rows {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func asJSON(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

// deliver hands records to the consumer and returns the place of the first that it could not tell of, -1 for none.
func (r *rig) deliver(records []lambdaevents.DynamoDBEventRecord) int {
	r.Helper()
	answer, err := r.consumer.Handle(r.Context(), lambdaevents.DynamoDBEvent{Records: records})
	r.need(err)
	if len(answer.BatchItemFailures) == 0 {
		return -1
	}
	if len(answer.BatchItemFailures) > 1 {
		r.Errorf("failures %+v", answer.BatchItemFailures)
	}
	return slices.IndexFunc(records, func(rec lambdaevents.DynamoDBEventRecord) bool {
		return rec.Change.SequenceNumber == answer.BatchItemFailures[0].ItemIdentifier
	})
}

// told are the events that came since the first n, as "name status file first-last".
func (r *rig) told(n int) []string {
	r.Helper()
	var all []string
	for _, e := range r.server.Events()[n:] {
		var d events.Event
		r.need(json.Unmarshal([]byte(e.Detail), &d))
		if d.JobID != jobID || d.UserID != "ada" || d.SiteID != "blog" || d.Attempt != 1 || d.EventID == "" || d.Time.IsZero() {
			r.Errorf("detail %s", e.Detail)
		}
		line := e.DetailType + " " + d.Status
		if d.File != "" {
			line += " " + d.File
		}
		if d.FirstPart > 0 {
			line += fmt.Sprintf(" %d-%d", d.FirstPart, d.LastPart)
		}
		if d.FailureKind != "" {
			line += " " + string(d.FailureKind)
		}
		all = append(all, line)
	}
	return all
}

func (r *rig) want(from int, want ...string) {
	r.Helper()
	if got := r.told(from); !slices.Equal(got, want) {
		r.Errorf("told:\n got %s\nwant %s", strings.Join(got, "; "), strings.Join(want, "; "))
	}
}

func (r *rig) create() backup.Job {
	r.Helper()
	site := backup.Site{UserID: "ada", SiteID: "blog", Providers: []backup.Provider{{Name: "files", URL: "https://example.org/"}}}.WithDefaults()
	site.Limits.Parallelism = 1
	r.need(r.store.PutSite(r.Context(), site))
	job, err := r.store.CreateJob(r.Context(), backup.NewJob(jobID, site, backup.Manual, epoch.AddDate(0, 0, 60), epoch, backup.DefaultPolicy()), backup.Idempotency{})
	r.need(err)
	return job
}

// swap changes the job by a transition.
func (r *rig) swap(transition func(backup.Job) (backup.Job, error)) {
	r.Helper()
	job, err := r.store.GetJob(r.Context(), jobID)
	r.need(err)
	next, err := transition(job)
	r.need(err)
	r.need(r.store.SwapJob(r.Context(), next))
}

func (r *rig) start() {
	r.Helper()
	r.swap(func(j backup.Job) (backup.Job, error) { return j.Start(1, r.clock, backup.DefaultPolicy()) })
}

// open opens the job's file with so many parts.
func (r *rig) open(parts int) {
	r.Helper()
	pin := backup.Pin{ETag: `"v1"`, SizeBytes: int64(parts) * backup.BasePartSizeBytes}
	file, err := backup.File{JobID: jobID, Name: "files"}.Open(1, backup.Upload{UploadID: "upload", Key: "key", Token: "token"}, pin, false, r.clock)
	r.need(err)
	r.need(r.store.SwapFile(r.Context(), backup.Guard(jobID, 1), file))
}

func (r *rig) swapFile(transition func(backup.File) (backup.File, error)) {
	r.Helper()
	file, err := r.store.GetFile(r.Context(), jobID, "files")
	r.need(err)
	next, err := transition(file)
	r.need(err)
	r.need(r.store.SwapFile(r.Context(), backup.Guard(jobID, 1), next))
}

func (r *rig) record(numbers ...int) {
	r.Helper()
	for _, n := range numbers {
		r.need(r.store.RecordPart(r.Context(), backup.PartWrite{
			JobID: jobID, Attempt: 1, File: "files", UploadID: "upload", At: r.clock,
			Part: backup.Part{Number: n, ETag: "e", SizeBytes: backup.BasePartSizeBytes},
		}))
	}
}

// A backup from its creation to its deletion: each transition is one event, each part task one, the watchers hear at once
// of what changes status and in passing of progress, the counters count and the site counts as backed up.
func TestWholeBackup(t *testing.T) {
	r := newRig(t)
	policy := backup.DefaultPolicy()
	for _, moment := range []struct {
		name   string
		change func()
		told   []string
		pushed string
	}{
		{"created", func() { r.create() }, []string{"BackupJobCreated pending"}, "pending urgent true"},
		{"started", r.start, []string{"BackupJobStarted running"}, "running urgent true"},
		{"opened", func() { r.open(20) }, []string{"UploadTaskCreated open files", "UploadPartTaskCreated open files 1-20"}, "running urgent true"},
		{"first parts", func() { r.record(1, 2, 3) }, nil, "running urgent false"},
		{"rest of the task and more", func() { r.record(4, 5, 9, 10) }, []string{"UploadPartTaskFinished done files 1-5"}, "running urgent false"},
		{"the rest", func() { r.record(6, 7, 8, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20) }, []string{
			"UploadPartTaskFinished done files 6-10", "UploadPartTaskFinished done files 11-15", "UploadPartTaskFinished done files 16-20",
		}, "running urgent false"},
		{"completing", func() {
			r.swapFile(func(f backup.File) (backup.File, error) { return f.Completing("upload", 7, r.clock) })
		}, nil, "running urgent true"},
		{"stored", func() { r.swapFile(func(f backup.File) (backup.File, error) { return f.Stored(f.UploadID, r.clock) }) }, nil, "running urgent true"},
		{"file done", func() {
			r.swapFile(func(f backup.File) (backup.File, error) {
				return f.Inspected(f.UploadID, backup.Archive{Entries: 1}, r.clock)
			})
		}, []string{"UploadFileTaskFinished done files"}, "running urgent true"},
		{"done", func() { r.swap(func(j backup.Job) (backup.Job, error) { return j.Finish(1, 20<<24, r.clock) }) }, []string{"BackupJobFinished done"}, "done urgent true"},
		{"kept longer", func() {
			r.swap(func(j backup.Job) (backup.Job, error) { return j.Keep(epoch.AddDate(0, 0, 90), r.clock) })
		}, nil, "done urgent true"},
		{"deleting", func() { r.swap(func(j backup.Job) (backup.Job, error) { return j.Delete(r.clock) }) }, []string{"BackupJobDeleting deleting"}, "deleting urgent true"},
		{"deleted", func() {
			r.clock = r.clock.Add(time.Hour)
			r.swap(func(j backup.Job) (backup.Job, error) { return j.Removed(r.clock, r.clock, policy) })
		}, []string{"BackupJobDeleted deleted"}, "deleted urgent true"},
	} {
		r.clock = r.clock.Add(time.Minute)
		before := len(r.server.Events())
		moment.change()
		records := r.stream()
		if failed := r.deliver(records); failed >= 0 || len(records) == 0 {
			t.Errorf("%s: record %d of %d failed", moment.name, failed, len(records))
		}
		r.want(before, moment.told...)
		if pushed := r.pushes.take(); pushed != moment.pushed {
			t.Errorf("%s: pushed %s", moment.name, pushed)
		}
	}
	want := []backup.Waiting{{UserID: "ada", SiteID: "blog", Since: epoch.Add(10 * time.Minute)}}
	if waiting, err := r.store.Waiting(t.Context(), r.clock, 10); err != nil || !slices.Equal(waiting, want) {
		t.Errorf("sites wait: %+v, %v; want %+v", waiting, err, want)
	}
	for name, want := range map[string]float64{"JobsCreated": 1, "JobsDone": 1, "PartsMoved": 20, "PartBytes": 20 << 24, "FilesDone": 1} {
		if r.counted.sums[name] != want {
			t.Errorf("%s is %v", name, r.counted.sums[name])
		}
	}
}

// A failed backup says why.
func TestFailedBackup(t *testing.T) {
	r := newRig(t)
	r.create()
	r.start()
	r.open(1)
	r.stream()
	failure := backup.NewFailure(backup.ProviderTimeout, "files", "no answer", r.clock)
	r.swapFile(func(f backup.File) (backup.File, error) { return f.Fail(failure, r.clock) })
	r.swap(func(j backup.Job) (backup.Job, error) { return j.Fail(1, failure, r.clock, backup.DefaultPolicy()) })
	r.deliver(r.stream())
	r.want(0, "UploadFileTaskFinished failed files ProviderTimeout", "BackupJobFinished failed ProviderTimeout")
}

// A batch that is delivered again tells the same events under the same ids.
func TestDeliveredAgain(t *testing.T) {
	r := newRig(t)
	r.create()
	r.start()
	r.open(2)
	r.record(1, 2)
	records := r.stream()
	var first string
	for range 2 {
		before := len(r.server.Events())
		r.deliver(records)
		var told []string
		for _, e := range r.server.Events()[before:] {
			told = append(told, e.Detail)
		}
		if first == "" {
			first = strings.Join(told, "\n")
		}
		if got := strings.Join(told, "\n"); got != first || len(told) < 4 {
			t.Errorf("told:\n%s\nat first:\n%s", got, first)
		}
	}
	seen := map[string]bool{}
	for _, e := range r.server.Events()[:len(r.server.Events())/2] {
		var d events.Event
		r.need(json.Unmarshal([]byte(e.Detail), &d))
		if seen[d.EventID] {
			t.Errorf("id %s twice", d.EventID)
		}
		seen[d.EventID] = true
	}
}

// The answer names the first record that could not be told of. What comes before it is done and counted, what comes
// after it is left for the next delivery; pushes go out all the same, and their failures keep nothing up.
func TestBatchFailures(t *testing.T) {
	refused := awstest.Fault{Status: 400, Code: "AccessDeniedException"}
	for name, tc := range map[string]struct {
		plan    func(r *rig)
		spoil   func(records []lambdaevents.DynamoDBEventRecord)
		failed  int
		told    int
		parts   float64
		pushes  int
		counted float64 // PushesFailed
	}{
		"nothing":              {failed: -1, told: 4, parts: 2, pushes: 1},
		"the bus":              {plan: func(r *rig) { r.server.Fail("PutEvents", refused) }, failed: 0, pushes: 1},
		"a part of the events": {plan: func(r *rig) { r.server.Fail("PutEvents", slices.Repeat([]awstest.Fault{{Left: 1}}, 4)...) }, failed: 2, told: 3, parts: 1, pushes: 1},
		"a record that nobody understands": {spoil: func(records []lambdaevents.DynamoDBEventRecord) {
			records[1].Change.NewImage["Part"] = lambdaevents.NewStringAttribute("?")
		}, failed: 1, told: 2, pushes: 1},
		"pushes": {plan: func(r *rig) { r.pushes.fail = errors.New("no") }, failed: -1, told: 4, parts: 2, counted: 1},
	} {
		r := newRig(t)
		r.create()
		r.start()
		r.stream()
		r.open(2)
		r.record(1, 2)
		records := r.stream() // the file, then its two parts, of which each is a task
		if len(records) != 3 {
			t.Fatalf("%d records", len(records))
		}
		if tc.plan != nil {
			tc.plan(r)
		}
		if tc.spoil != nil {
			tc.spoil(records)
		}
		failed := r.deliver(records)
		told := map[string]bool{}
		for _, e := range r.server.Events() {
			told[e.Detail] = true
		}
		if failed != tc.failed || len(told) != tc.told || r.counted.sums["PartsMoved"] != tc.parts {
			t.Errorf("%s: record %d failed, %d events, %v parts", name, failed, len(told), r.counted.sums["PartsMoved"])
		}
		if len(r.pushes.told) != tc.pushes || r.counted.sums["PushesFailed"] != tc.counted {
			t.Errorf("%s: pushed %v, %v failed", name, r.pushes.told, r.counted.sums["PushesFailed"])
		}
		r.pushes.fail = nil
		if again := r.deliver(records[max(failed, 0):]); tc.spoil == nil && again >= 0 {
			t.Errorf("%s: delivered again, record %d failed", name, again)
		}
	}
}

// Whatever lies under the prefix of a purged job is found, told and removed; a failure is tried again.
func TestPurged(t *testing.T) {
	r := newRig(t)
	job := r.create()
	records := r.stream()
	record := records[slices.IndexFunc(records, func(rec lambdaevents.DynamoDBEventRecord) bool { return rec.Change.NewImage["type"].String() == "job" })]
	record.EventName, record.Change.OldImage, record.Change.NewImage = "REMOVE", record.Change.NewImage, nil
	record.UserIdentity = &lambdaevents.DynamoDBUserIdentity{Type: "Service", PrincipalID: "dynamodb.amazonaws.com"}
	r.need(r.storage.Put(t.Context(), job.ManifestKey(), "application/json", []byte("{}")))
	refused := false
	r.storage.Intercept = func(backuptest.StorageCall) error {
		if !refused {
			refused = true
			return backup.E(backup.StorageUnavailable, "not now")
		}
		return nil
	}
	for _, want := range []struct {
		failed   int
		versions int
	}{{0, 1}, {-1, 0}, {-1, 0}} {
		if failed := r.deliver([]lambdaevents.DynamoDBEventRecord{record}); failed != want.failed {
			t.Errorf("record %d failed, want %d", failed, want.failed)
		}
		if _, versions := r.storage.Left(job.Prefix()); versions != want.versions {
			t.Errorf("%d versions left, want %d", versions, want.versions)
		}
	}
	if r.counted.sums["StraysFound"] != 1 || len(r.server.Events()) != 0 || r.pushes.take() != "" {
		t.Errorf("%v strays, %d events", r.counted.sums["StraysFound"], len(r.server.Events()))
	}
}

// A row that somebody removes by hand is no transition, and its objects are left alone.
func TestRemovedByHand(t *testing.T) {
	r := newRig(t)
	job := r.create()
	records := r.stream()
	for i := range records {
		records[i].EventName, records[i].Change.OldImage, records[i].Change.NewImage = "REMOVE", records[i].Change.NewImage, nil
	}
	r.need(r.storage.Put(t.Context(), job.ManifestKey(), "application/json", []byte("{}")))
	if failed := r.deliver(records); failed >= 0 || len(r.server.Events()) != 0 || r.storage.Calls("DeleteObjects") != 0 {
		t.Errorf("record %d failed, %d events", failed, len(r.server.Events()))
	}
}

// Changes of files and parts whose job is gone, or whose upload was begun anew since, are nobody's news.
func TestNewsOfThePast(t *testing.T) {
	r := newRig(t)
	r.create()
	r.start()
	r.open(2)
	r.record(1, 2)
	records := r.stream()
	r.swapFile(func(f backup.File) (backup.File, error) {
		return f.Open(1, backup.Upload{UploadID: "other", Key: "other", Token: "other"}, f.Pin, true, r.clock)
	})
	r.need(r.store.RecordPart(t.Context(), backup.PartWrite{
		JobID: jobID, Attempt: 1, File: "files", UploadID: "other", At: r.clock, Part: backup.Part{Number: 1, SizeBytes: backup.BasePartSizeBytes},
	}))
	r.deliver(records)
	for _, line := range r.told(0) {
		if strings.HasPrefix(line, "UploadPartTaskFinished") {
			t.Errorf("told %s", line)
		}
	}
	before := len(r.server.Events())
	gone := newRig(t)
	gone.server = r.server
	gone.consumer.Bus = r.consumer.Bus
	files := slices.DeleteFunc(records, func(rec lambdaevents.DynamoDBEventRecord) bool { return rec.Change.NewImage["type"].String() == "job" })
	if failed := gone.deliver(files); failed >= 0 || len(files) != 3 || len(r.server.Events()) != before {
		t.Errorf("record %d of %d failed, %d events", failed, len(files), len(r.server.Events())-before)
	}
}
