package statemachine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	lambdaevents "github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	minidyn "github.com/truora/minidyn/server"

	"github.com/sitevault/sitevault/internal/asl"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/dynamo"
	"github.com/sitevault/sitevault/internal/events"
	"github.com/sitevault/sitevault/internal/push"
	"github.com/sitevault/sitevault/internal/step"
	"github.com/sitevault/sitevault/internal/telemetry/metric"
	"github.com/sitevault/sitevault/internal/transfer"
	"github.com/sitevault/sitevault/statemachine"
)

// counted is one backup from its daily run to the end of its deletion, on the rows of AWS, with everything counted that
// AWS charges for.
type counted struct {
	*testing.T
	meter      *meter
	store      *dynamo.Store
	ledger     *ledger
	exports    thinExports
	executions counter
	now        time.Time

	consumer    events.Consumer
	random      int
	calls       map[string]int // of each state's function
	transitions int            // states entered; nothing is retried here
	history     int            // events of the execution
	records     int            // of the stream
	batches     int            // of records, one call each
	published   int            // events on the bus
}

// countBackup backs up a site whose providers export files of the given sizes.
func countBackup(t *testing.T, sizes map[string]int64) *counted {
	c := &counted{T: t, meter: &meter{t: t, table: minidyn.NewServer(), parts: parts{}, known: map[string]row{}}, exports: thinExports{}, now: epoch, calls: map[string]int{}}
	client := dynamodb.New(dynamodb.Options{
		Region: "us-east-1", HTTPClient: c.meter, Credentials: aws.AnonymousCredentials{},
	})
	if _, err := client.CreateTable(t.Context(), dynamo.Table("sitevault")); err != nil {
		t.Fatal(err)
	}
	c.store = dynamo.New(client, "sitevault", c.clock, func() float64 { return 0.5 }).WithQuotas(backup.DefaultQuotas())
	site := backup.Site{UserID: "6f1c2a34-7d1e-4b53-9a52-0c9d6e1f8b77", SiteID: "shop-example-org"}
	archives := map[int64]*backuptest.Zip{}
	for _, name := range slices.Sorted(maps.Keys(sizes)) {
		url := "https://shop.example.org/wp-json/backup/v1/export/" + name
		site.Providers = append(site.Providers, backup.Provider{Name: name, URL: url, SecretRef: "shop-example-org"})
		c.exports[url], archives[sizes[name]] = sizes[name], backuptest.ZipOf(1, sizes[name])
	}
	c.ledger = newLedger(archives)
	if err := c.store.PutSite(t.Context(), site.WithDefaults()); err != nil {
		t.Fatal(err)
	}
	c.meter.transactions, c.meter.writeUnits, c.meter.indexUnits, c.meter.readUnits = 0, 0, 0, 0
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	c.consumer = events.Consumer{
		Status: step.Status{Jobs: c.store, Files: c.store, Now: c.clock}, Bus: c, Good: c.store, Metrics: c, Log: log,
		Pusher: push.Pusher{Watching: c.store, Now: c.clock, Log: log},
	}
	c.now = c.now.Add(time.Hour)
	c.run(site, slices.Sorted(maps.Keys(sizes)))
	return c
}

// Publish implements events.Publisher.
func (c *counted) Publish(_ context.Context, events []events.Event) (int, error) {
	c.published += len(events)
	return len(events), nil
}

// Record implements metric.Recorder.
func (c *counted) Record(context.Context, ...metric.Sample) {}

// tell lets the consumer of the stream have what one call has written. Nobody watches.
func (c *counted) tell() {
	for records := range slices.Chunk(c.meter.drain(), 100) {
		answer, err := c.consumer.Handle(c.Context(), lambdaevents.DynamoDBEvent{Records: records})
		if err != nil || len(answer.BatchItemFailures) > 0 {
			c.Errorf("the stream's consumer failed at %v, %v", answer.BatchItemFailures, err)
		}
		c.records += len(records)
		c.batches++
	}
}

func (c *counted) clock() time.Time { return c.now }

func (c *counted) newRandom() string {
	c.random++
	return fmt.Sprintf("%026d", c.random) // as long as crypto/rand.Text
}

func (c *counted) run(site backup.Site, files []string) {
	policy := backup.DefaultPolicy()
	log := slog.New(slog.NewTextHandler(c.Output(), nil))
	cleaner := step.Cleaner{Jobs: c.store, Files: c.store, Storage: c.ledger, Executions: &c.executions, Policy: policy, Now: c.clock}
	backups := step.Backups{
		Jobs: c.store, Sites: c.store, Executions: &c.executions, Cleaner: cleaner, Policy: policy, Now: c.clock,
		NewID: func() string { return jobID }, Log: log,
	}
	job, started, err := backups.RunDaily(c.Context(), site.UserID, site.SiteID, c.now)
	if err != nil || !started {
		c.Fatalf("daily run: %t, %v", started, err)
	}
	c.tell()
	c.execute(cleaner, log, files)
	c.now = job.DeleteAt
	c.sweep(cleaner)
	if err := cleaner.Follow(c.Context(), job.JobID); err != nil { // the event of the deletion
		c.Fatal(err)
	}
	c.now = c.now.Add(policy.WorkerLife)
	c.sweep(cleaner)
	if job, err = c.store.GetJob(c.Context(), job.JobID); err != nil || job.Status != backup.Deleted {
		c.Fatalf("the backup ends as %s, %v", job.Status, err)
	}
	c.meter.readUnits-- // of this look
}

func (c *counted) sweep(cleaner step.Cleaner) {
	sweep := step.Sweep{Jobs: c.store, Executions: &c.executions, Cleaner: cleaner, Policy: cleaner.Policy, Now: c.clock}
	if tended, err := sweep.Run(c.Context()); tended.Tended != 1 || err != nil {
		c.Fatalf("the sweep tended %d jobs, %v", tended, err)
	}
	c.tell()
}

func (c *counted) execute(cleaner step.Cleaner, log *slog.Logger, files []string) {
	handlers := map[string]asl.Handler{
		"StartJob": task(step.StartJob{Jobs: c.store, Policy: cleaner.Policy, Now: c.clock}.Handle),
		"OpenUpload": task(step.OpenUpload{
			Jobs: c.store, Files: c.store, Errors: c.store, Exports: c.exports, Uploads: c.ledger, Now: c.clock, NewRandom: c.newRandom,
			SingleBytes: backup.BasePartSizeBytes,
		}.Handle),
		"ExportRangeUpload": task(step.ExportRangeUpload{Jobs: c.store, Files: c.store, Errors: c.store, Exports: c.exports, Uploads: c.ledger, Memory: transfer.NewBudget(transfer.DefaultBudgetBytes, 0), Now: c.clock}.Handle),
		"CompleteMultipart": task(step.CompleteMultipart{Files: c.store, Errors: c.store, Uploads: c.ledger, Objects: c.ledger, Now: c.clock}.Handle),
		"InspectArchive":    task(step.InspectArchive{Files: c.store, Errors: c.store, Objects: c.ledger, Now: c.clock}.Handle),
		"FailFile":          task(step.FailFile{Files: c.store, Now: c.clock}.Handle),
		"FinishJob": task(step.FinishJob{
			Jobs: c.store, Files: c.store, Objects: c.ledger, Cleaner: cleaner, Policy: cleaner.Policy, Now: c.clock, Log: log,
		}.Handle),
	}
	turns := newTurns(files)
	for state, handle := range handlers {
		handlers[state] = func(ctx context.Context, input json.RawMessage) (json.RawMessage, error) {
			return turns.take(state, input, func() (json.RawMessage, error) {
				c.calls[state]++
				out, err := handle(ctx, input)
				c.tell()
				return out, err
			})
		}
	}
	machine, err := asl.Load(statemachine.Backup, handlers)
	if err != nil {
		c.Fatal(err)
	}
	result := machine.Run(c.Context(), asl.Execution{Name: jobID + "-1", Input: fmt.Appendf(nil, `{"jobId":%q,"attempt":1}`, jobID)}, asl.Options{
		Sleep: func(context.Context, time.Duration) {},
		Observe: func(e asl.Event) {
			if strings.HasSuffix(e.Type, "StateEntered") {
				c.transitions++
			}
		},
	})
	if result.Status != asl.Succeeded {
		c.Fatalf("%s %s %s", result.Status, result.Error, result.Cause)
	}
	c.history = result.HistoryEvents
}

// figures of the table in docs/cost.md, in its order.
func (c *counted) figures() (names []string, values []int) {
	states := 0
	for _, n := range c.calls {
		states += n
	}
	for _, f := range []struct {
		name  string
		value int
	}{
		{"state transitions", c.transitions},
		{"history events", c.history},
		{"Lambda calls by the state machine", states},
		{"... of them ExportRangeUpload", c.calls["ExportRangeUpload"]},
		{"executions started", c.executions.started},
		{"executions stopped", c.executions.stopped},
		{"DynamoDB transactions", c.meter.transactions},
		{"DynamoDB write units, table", c.meter.writeUnits},
		{"DynamoDB write units, index", c.meter.indexUnits},
		{"DynamoDB read units", c.meter.readUnits},
		{"S3 PUT, POST, LIST", c.ledger.sum("PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "ListMultipartUploads", "ListObjectVersions", "ListParts")},
		{"S3 GET, HEAD", c.ledger.sum("GetObject", "HeadObject")},
		{"S3 DELETE", c.ledger.sum("DeleteObjects", "AbortMultipartUpload")},
		{"stream records", c.records},
		{"Lambda calls by the stream", c.batches},
		{"events on the bus", c.published},
	} {
		names, values = append(names, f.name), append(values, f.value)
	}
	return names, values
}

const mib, gib = int64(1) << 20, int64(1) << 30

// The table in docs/cost.md is what one backup of each size takes, counted: the real state machine, the real steps and
// the real rows.
func TestCostsAreCounted(t *testing.T) {
	var names []string
	var columns [][]int
	for _, sizes := range []map[string]int64{
		{"files": 8 * mib, "database": mib},
		{"files": gib, "database": 100 * mib},
		{"files": 100 * gib, "database": 100 * mib},
	} {
		c := countBackup(t, sizes)
		var values []int
		names, values = c.figures()
		columns = append(columns, values)
	}
	var lines []string
	for i, name := range names {
		lines = append(lines, fmt.Sprintf("| %s | %s | %s | %s |", name, grouped(columns[0][i]), grouped(columns[1][i]), grouped(columns[2][i])))
	}
	got := strings.Join(lines, "\n")
	if want := countsInDoc(t); got != want {
		t.Errorf("docs/cost.md says\n%s\ncounted is\n%s", want, got)
	}
}

// countsInDoc are the rows of the table that begins with "counted".
func countsInDoc(t *testing.T) string {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join("..", "docs", "cost.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(doc), "\n| counted |")
	if !found {
		t.Fatal("docs/cost.md has no table of counts")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	lines := strings.Split(strings.TrimSpace(table), "\n")
	return strings.Join(lines[2:], "\n") // after the rest of the heading and the line under it
}

// grouped writes 12345 as 12,345.
func grouped(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
