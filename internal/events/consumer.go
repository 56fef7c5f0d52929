package events

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	lambdaevents "github.com/aws/aws-lambda-go/events"
	"golang.org/x/sync/errgroup"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/dynamo"
	"github.com/sitevault/sitevault/internal/step"
	"github.com/sitevault/sitevault/internal/telemetry"
	"github.com/sitevault/sitevault/internal/telemetry/metric"
)

// Publisher takes events; Bus does.
type Publisher interface {
	// Publish returns how many events from the first on were taken for sure.
	Publish(ctx context.Context, events []Event) (published int, err error)
}

// Pusher tells the watchers of a job its state; push.Pusher does.
type Pusher interface {
	Push(ctx context.Context, jobID string, urgent bool, read func(ctx context.Context) (step.View, error)) (failed int, err error)
}

// GoodBackups keeps when each site had its last good backup; dynamo.Store does.
type GoodBackups interface {
	RecordGoodBackup(ctx context.Context, userID, siteID string, at time.Time) error
}

// Consumer handles batches of the table's stream.
type Consumer struct {
	Status  step.Status
	Bus     Publisher
	Good    GoodBackups
	Cleaner step.Cleaner
	Pusher  Pusher
	Metrics metric.Recorder
	Log     *slog.Logger
}

// maxJobs is how many jobs of a batch are read or pushed at the same time.
const maxJobs = 8

// Handle tells of every change in the batch. The answer names the first record that could not be told of, from which on
// the stream is delivered again; pushes do not count.
func (c Consumer) Handle(ctx context.Context, in lambdaevents.DynamoDBEvent) (lambdaevents.DynamoDBEventResponse, error) {
	b := batch{Consumer: c, records: in.Records, failed: len(in.Records), views: map[string]func() (step.View, error){}}
	b.read(ctx)
	b.follow(ctx, b.good) // before the events: nobody else makes up for it
	b.publish(ctx)
	b.follow(ctx, b.purged)
	b.count(ctx)
	b.push(ctx)
	return b.answer(), nil
}

// batch is one call's work.
type batch struct {
	Consumer
	records []lambdaevents.DynamoDBEventRecord
	changes []backup.Change // one for each record
	failed  int             // place of the first record that could not be told of; len(records): none
	views   map[string]func() (step.View, error)
}

// fail notes that a record could not be told of.
func (b *batch) fail(ctx context.Context, place int, doing string, err error) {
	b.failed = min(b.failed, place)
	b.Log.WarnContext(ctx, doing, telemetry.KeyJobID, b.changes[place].JobID, "eventId", b.records[place].EventID, "error", err)
}

// read translates the records up to the first that nobody understands.
func (b *batch) read(ctx context.Context) {
	b.changes = make([]backup.Change, len(b.records))
	for i, r := range b.records {
		var err error
		if b.changes[i], err = dynamo.Changes(r); err != nil {
			b.fail(ctx, i, "read stream", err)
			return
		}
	}
}

// told are the changes before the first that could not be told of.
func (b *batch) told() []backup.Change { return b.changes[:b.failed] }

// view is the present state of a job, read once for the batch.
func (b *batch) view(ctx context.Context, jobID string) (step.View, error) {
	if b.views[jobID] == nil {
		b.views[jobID] = sync.OnceValues(func() (step.View, error) { return b.Status.Read(ctx, jobID) })
	}
	return b.views[jobID]()
}

// publish puts the events of the changes on the bus, in the order of the records.
func (b *batch) publish(ctx context.Context) {
	var events []Event
	var places []int // of the records that the events stem from
	for i := range b.told() {
		made, err := b.eventsOf(ctx, i)
		if err != nil {
			b.fail(ctx, i, "read job", err)
			break
		}
		for _, e := range made {
			events, places = append(events, e), append(places, i)
		}
	}
	if published, err := b.Bus.Publish(ctx, events); err != nil {
		b.fail(ctx, places[published], "publish events", err)
	}
}

func (b *batch) eventsOf(ctx context.Context, place int) ([]Event, error) {
	switch c := b.changes[place]; {
	case c.Job != nil:
		return ofJob(*c.Job), nil
	case c.File != nil && c.File.New.Rev != 0 && len(backup.FileEvents(c.File.Old, c.File.New)) > 0:
		view, err := b.view(ctx, c.JobID)
		if backup.Is(err, backup.NotFound) {
			return nil, nil
		}
		return ofFile(*c.File, view.Job), err
	case c.Part != nil:
		return b.eventsOfPart(ctx, place)
	}
	return nil, nil
}

// eventsOfPart is UploadPartTaskFinished where the part finishes its task. A single part is no event: at a hundred a
// second and more than ten thousand a job they would cost more than they tell. Of the parts of a task in this batch only
// the last looks.
func (b *batch) eventsOfPart(ctx context.Context, place int) ([]Event, error) {
	w := *b.changes[place].Part
	view, err := b.view(ctx, w.JobID)
	if backup.Is(err, backup.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(view.Files, func(f backup.File) bool { return f.Name == w.File && f.UploadID == w.UploadID })
	if at < 0 {
		return nil, nil // of an upload that has been begun anew since
	}
	task, ok := step.TaskOf(view.Job, view.Files[at], w.Part.Number)
	if !ok || b.later(place, w, task) {
		return nil, nil
	}
	finished, err := b.Status.Finished(ctx, view.Files[at], task)
	if err != nil || !finished {
		return nil, err
	}
	return []Event{ofTask(task, view.Files[at], view.Job, w.At)}, nil
}

// later tells whether a later record of the batch holds another part of the task.
func (b *batch) later(place int, w backup.PartWrite, task backup.Batch) bool {
	return slices.ContainsFunc(b.told()[place+1:], func(c backup.Change) bool {
		return c.Part != nil && c.JobID == w.JobID && c.Part.File == w.File && c.Part.UploadID == w.UploadID &&
			task.First <= c.Part.Part.Number && c.Part.Part.Number <= task.Last
	})
}

// follow does what else follows from each change. It may be done twice.
func (b *batch) follow(ctx context.Context, do func(context.Context, lambdaevents.DynamoDBEventRecord, backup.Change) error) {
	for i, c := range b.told() {
		if c.Job == nil {
			continue
		}
		if err := do(ctx, b.records[i], c); err != nil {
			b.fail(ctx, i, "follow change", err)
			break
		}
	}
}

func (b *batch) count(ctx context.Context) {
	for _, c := range b.told() {
		b.Metrics.Record(ctx, telemetry.FromChange(c)...)
	}
}

// good notes when a site had its last good backup.
func (b *batch) good(ctx context.Context, r lambdaevents.DynamoDBEventRecord, c backup.Change) error {
	if dynamo.Purged(r) || c.Job.New.Status != backup.Done || c.Job.Old.Status == backup.Done {
		return nil
	}
	return b.Good.RecordGoodBackup(ctx, c.Job.New.UserID, c.Job.New.SiteID, c.Job.New.FinishedAt)
}

// purged looks after a job whose row the time to live has removed.
func (b *batch) purged(ctx context.Context, r lambdaevents.DynamoDBEventRecord, c backup.Change) error {
	if !dynamo.Purged(r) {
		return nil
	}
	job := c.Job.Old
	found, err := b.Cleaner.RemovePurged(ctx, job, nil)
	telemetry.Strays(ctx, b.Metrics, b.Log, job, found)
	return err
}

// pushTime bounds the pushes of a batch, so that watchers who take long hold up no later batch.
const pushTime = 5 * time.Second

// push tells the watchers of each job in the batch its state, changes of status at once and progress at most once a
// second. What fails is only counted: the next push carries the same facts, and clients read when they hear nothing.
func (b *batch) push(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, pushTime)
	defer cancel()
	urgent := map[string]bool{}
	for _, c := range b.changes {
		if c.JobID != "" && !removed(c) {
			urgent[c.JobID] = urgent[c.JobID] || c.Part == nil
		}
	}
	var group errgroup.Group
	group.SetLimit(maxJobs)
	for _, jobID := range slices.Sorted(maps.Keys(urgent)) {
		if ctx.Err() != nil {
			break
		}
		read := b.reader(jobID)
		group.Go(func() error {
			failed, err := b.Pusher.Push(ctx, jobID, urgent[jobID], read)
			if err != nil && !backup.Is(err, backup.NotFound) {
				failed++
				b.Log.WarnContext(ctx, "push", telemetry.KeyJobID, jobID, "error", err)
			}
			if failed > 0 {
				b.Metrics.Record(ctx, metric.PushesFailed.Of(float64(failed)))
			}
			return nil
		})
	}
	_ = group.Wait() // its functions return no errors
}

// reader gives each goroutine the view of its own job, read already or not.
func (b *batch) reader(jobID string) func(context.Context) (step.View, error) {
	if known := b.views[jobID]; known != nil {
		return func(context.Context) (step.View, error) { return known() }
	}
	return func(ctx context.Context) (step.View, error) { return b.Status.Read(ctx, jobID) }
}

func removed(c backup.Change) bool {
	return (c.Job != nil && c.Job.New.Rev == 0) || (c.File != nil && c.File.New.Rev == 0)
}

func (b *batch) answer() (out lambdaevents.DynamoDBEventResponse) {
	if b.failed < len(b.records) {
		out.BatchItemFailures = []lambdaevents.DynamoDBBatchItemFailure{{ItemIdentifier: b.records[b.failed].Change.SequenceNumber}}
	}
	return out
}
