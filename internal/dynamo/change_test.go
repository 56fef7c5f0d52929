package dynamo_test

import (
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/dynamo"
)

// Every change of a job, a file, a part and a last error comes out of DynamoDB's stream as it went in, in its order.
func TestChangesOfStream(t *testing.T) {
	client := startLocal(t)
	store, table := newTable(t, client)
	job := newJob(1)
	job.Failure = backup.NewFailure(backup.Internal, "files", `"detail"`, epoch)
	created, err := store.CreateJob(t.Context(), job, backup.Idempotency{UserID: "ada", Key: "k", BodyHash: "h", ExpiresAt: epoch})
	if err != nil {
		t.Fatal(err)
	}
	running := created
	running.Status, running.Failure = backup.Running, nil
	running = swap(t, store, running)
	opened := backup.File{
		JobID: job.JobID, Name: "files", Status: backup.FileOpen, Attempt: 1, UploadID: "upload", CRC64NVME: 1<<63 + 1,
		Pin: backup.Pin{ETag: `"v1"`, SizeBytes: 1 << 40}, CreatedAt: epoch,
	}
	if err := store.SwapFile(t.Context(), backup.Guard(job.JobID, 1), opened); err != nil {
		t.Fatal(err)
	}
	opened.Rev, opened.Changes = 1, 1
	part := partOf(opened, 7)
	if err := store.RecordPart(t.Context(), part); err != nil {
		t.Fatal(err)
	}
	slow := backup.NewFailure(backup.ProviderTimeout, "files", "slow", epoch)
	if err := store.RecordError(t.Context(), backup.Guard(job.JobID, 1), slow); err != nil {
		t.Fatal(err)
	}
	slow.Since = slow.At
	completing := opened
	completing.Status = backup.FileCompleting
	if err := store.SwapFile(t.Context(), backup.Guard(job.JobID, 1), completing); err != nil {
		t.Fatal(err)
	}
	completing.Rev, completing.Changes = 2, 2

	want := []backup.Change{
		{JobID: job.JobID, Job: &backup.JobChange{New: created}},
		{JobID: job.JobID, Job: &backup.JobChange{Old: created, New: running}},
		{JobID: job.JobID, File: &backup.FileChange{New: opened}},
		{JobID: job.JobID, Part: &part},
		{JobID: job.JobID, Error: slow},
		{JobID: job.JobID, File: &backup.FileChange{Old: opened, New: completing}},
	}
	got := changesOf(t, streamOf(t, client, table))
	slices.SortStableFunc(got, func(a, b backup.Change) int { return order(a) - order(b) })
	if !reflect.DeepEqual(got, want) {
		t.Errorf("changes:\n got %s\nwant %s", text(got), text(want))
	}
}

// order is the place of a change in TestChangesOfStream: rows of different partitions have no order in a stream.
func order(c backup.Change) int {
	switch {
	case c.Job != nil:
		return int(c.Job.New.Rev)
	case c.File != nil:
		return 3 * int(c.File.New.Rev)
	case c.Part != nil:
		return 4
	}
	return 5
}

func text(v any) string {
	b, _ := json.MarshalIndent(v, "", "  ")
	return string(b)
}

// changesOf reads the records and leaves out what is nobody's change.
func changesOf(t *testing.T, records []events.DynamoDBEventRecord) (changes []backup.Change) {
	t.Helper()
	others := 0
	for _, r := range records {
		c, err := dynamo.Changes(r)
		if err != nil {
			t.Fatal(err)
		}
		if dynamo.Purged(r) {
			t.Errorf("a write counts as purged: %s", text(r))
		}
		if c == (backup.Change{}) {
			others++
			continue
		}
		changes = append(changes, c)
	}
	if others == 0 {
		t.Error("no record of another row came by")
	}
	return changes
}

// streamOf reads all records of a table's stream. What the API of streams answers is what Lambda hands to a function.
func streamOf(t *testing.T, client *dynamodb.Client, table string) (records []events.DynamoDBEventRecord) {
	t.Helper()
	described, err := client.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: &table})
	if err != nil {
		t.Fatal(err)
	}
	raw := &bodies{to: client.Options().HTTPClient}
	streams := dynamodbstreams.New(dynamodbstreams.Options{
		Region: client.Options().Region, BaseEndpoint: client.Options().BaseEndpoint, HTTPClient: raw,
		Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""),
	})
	stream, err := streams.DescribeStream(t.Context(), &dynamodbstreams.DescribeStreamInput{StreamArn: described.Table.LatestStreamArn})
	if err != nil {
		t.Fatal(err)
	}
	for _, shard := range stream.StreamDescription.Shards {
		at, err := streams.GetShardIterator(t.Context(), &dynamodbstreams.GetShardIteratorInput{
			StreamArn: described.Table.LatestStreamArn, ShardId: shard.ShardId, ShardIteratorType: types.ShardIteratorTypeTrimHorizon,
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := streams.GetRecords(t.Context(), &dynamodbstreams.GetRecordsInput{ShardIterator: at.ShardIterator}); err != nil {
			t.Fatal(err)
		}
		var answer struct{ Records []events.DynamoDBEventRecord }
		if err := json.Unmarshal(raw.last, &answer); err != nil {
			t.Fatal(err)
		}
		records = append(records, answer.Records...)
	}
	return records
}

// bodies keeps the body of the last answer.
type bodies struct {
	to   dynamodb.HTTPClient
	last []byte
}

func (b *bodies) Do(r *http.Request) (*http.Response, error) {
	response, err := b.to.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if b.last, err = io.ReadAll(response.Body); err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(strings.NewReader(string(b.last)))
	return response, nil
}

// A row that DynamoDB removed at the end of its time is told from one that somebody deleted.
func TestPurgedRows(t *testing.T) {
	store, rows := rowsOf(t)
	job, file := openFile(t, store, 1)
	if err := store.RecordPart(t.Context(), partOf(file, 1)); err != nil {
		t.Fatal(err)
	}
	byDynamoDB := &events.DynamoDBUserIdentity{Type: "Service", PrincipalID: "dynamodb.amazonaws.com"}
	removals := map[string]int{}
	for k, row := range rows() {
		record := events.DynamoDBEventRecord{EventName: "REMOVE", UserIdentity: byDynamoDB, Change: events.DynamoDBStreamRecord{OldImage: row}}
		change, err := dynamo.Changes(record)
		if err != nil || !dynamo.Purged(record) {
			t.Errorf("%s: purged %t, %v", k, dynamo.Purged(record), err)
		}
		switch {
		case change.Job != nil:
			removals["job"]++
			if change.JobID != job.JobID || !reflect.DeepEqual(*change.Job, backup.JobChange{Old: job}) {
				t.Errorf("removed job: %s", text(change))
			}
		case change.File != nil:
			removals["file"]++
			if change.JobID != job.JobID || change.File.Old.Name != "files" || change.File.New.Rev != 0 {
				t.Errorf("removed file: %s", text(change))
			}
		case change != (backup.Change{}):
			t.Errorf("%s: %s", k, text(change))
		}
	}
	if removals["job"] != 1 || removals["file"] != 1 {
		t.Errorf("removals: %v", removals)
	}
	for name, by := range map[string]*events.DynamoDBUserIdentity{
		"REMOVE": nil, "MODIFY": byDynamoDB, "remove by another service": {Type: "Service", PrincipalID: "other.amazonaws.com"},
		"remove by somebody of that name": {Type: "User", PrincipalID: "dynamodb.amazonaws.com"},
	} {
		event, _, _ := strings.Cut(name, " ")
		if dynamo.Purged(events.DynamoDBEventRecord{EventName: strings.ToUpper(event), UserIdentity: by}) {
			t.Errorf("%s counts as purged", name)
		}
	}
}

// No record, however odd, does more than fail.
func FuzzChanges(f *testing.F) {
	for _, seed := range []string{
		`{"eventName":"INSERT","dynamodb":{"NewImage":{"type":{"S":"job"},"JobID":{"S":"1"},"DueAt":{"N":"7"},"Failure":{"NULL":true},"Providers":{"L":[{"M":{"Name":{"S":"files"}}}]}}}}`,
		`{"eventName":"MODIFY","dynamodb":{"OldImage":{"type":{"S":"file"},"Rev":{"N":"x"}},"NewImage":{"type":{"S":"file"},"JobID":{"BOOL":true}}}}`,
		`{"eventName":"INSERT","dynamodb":{"NewImage":{"type":{"S":"part"},"Part":{"M":{"CRC64NVME":{"N":"1e400"}}}}}}`,
		`{"eventName":"REMOVE","dynamodb":{"OldImage":{"type":{"B":"AA=="}}}}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		var record events.DynamoDBEventRecord
		if json.Unmarshal([]byte(in), &record) != nil {
			return
		}
		c, err := dynamo.Changes(record)
		if err != nil && c != (backup.Change{}) {
			t.Errorf("an error with a change: %s", text(c))
		}
	})
}
