package integration_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/dynamo"
)

// abortedIsTriedAgain: an execution that somebody stops says nothing itself. The rule on its end ends the attempt, the part
// that is under way is refused, and the next attempt, which a retry begins at once, moves only what is missing.
func (s *story) abortedIsTriedAgain(t *testing.T) {
	job := s.alice.create(t, siteID)
	prefix := s.alice.id + "/" + siteID + "/" + job.JobID + "/"
	held := s.storage.hold(t, "UploadPart", prefix)
	held.await(t)
	arn := s.executionARN(job.JobID, 1)
	if _, err := sfn.NewFromConfig(s.config).StopExecution(t.Context(), &sfn.StopExecutionInput{ExecutionArn: &arn}); err != nil {
		t.Fatal(err)
	}
	waiting := s.alice.reaches(t, job.JobID, backup.Pending)
	if waiting.NextTryAt == nil || waiting.LastError == nil || waiting.LastError.Kind != backup.Internal {
		t.Errorf("the backup waits until %s after %+v", waiting.NextTryAt, waiting.LastError)
	}
	held.release()
	if _, err := s.alice.RetryBackup(t.Context(), job.JobID); err != nil {
		t.Fatal(err)
	}
	done := s.alice.reaches(t, job.JobID, backup.Done)
	if done.Attempt != 2 {
		t.Errorf("the backup is done in attempt %d", done.Attempt)
	}
	s.awaitExecution(t, job.JobID, 2, sfntypes.ExecutionStatusSucceeded)
	if versions, uploads := s.storage.contents(t, prefix); len(versions) != 3 || len(uploads) != 0 {
		t.Errorf("the bucket holds %q and the uploads %q", versions, uploads)
	}
}

// cancelledLeavesNothing: cancelling stops the execution and removes what is stored, the part that was under way
// included.
func (s *story) cancelledLeavesNothing(t *testing.T) {
	job := s.alice.create(t, siteID)
	prefix := s.alice.id + "/" + siteID + "/" + job.JobID + "/"
	held := s.storage.hold(t, "UploadPart", prefix)
	held.await(t)
	if _, err := s.alice.CancelBackup(t.Context(), job.JobID); err != nil {
		t.Fatal(err)
	}
	failed := s.alice.reaches(t, job.JobID, backup.Failed)
	if failed.Error == nil || failed.Error.Kind != backup.Cancelled {
		t.Errorf("the backup failed with %+v", failed.Error)
	}
	s.awaitExecution(t, job.JobID, 1, sfntypes.ExecutionStatusAborted)
	held.release()
	s.storage.empties(t, prefix)
}

// deletedLeavesNothing removes the first backup. Its second sweep, which waits until no worker can be alive, is had
// early: the row is made to say that the deletion began an hour ago.
func (s *story) deletedLeavesNothing(t *testing.T) {
	prefix := s.alice.id + "/" + siteID + "/" + s.job.JobID + "/"
	if _, err := s.alice.DeleteBackup(t.Context(), s.job.JobID); err != nil {
		t.Fatal(err)
	}
	s.alice.reaches(t, s.job.JobID, backup.Deleting)
	s.storage.empties(t, prefix)
	s.heard.hears(t, s.job.JobID, func(e busEvent) bool { return e.DetailType == string(backup.BackupJobDeleting) })

	store := dynamo.New(dynamodb.NewFromConfig(s.config), s.output.Data.TableName, time.Now, func() float64 { return 0 })
	await(t, "the row takes another date", jobTime, func() bool {
		row, err := store.GetJob(t.Context(), s.job.JobID)
		if err != nil {
			t.Fatal(err)
		}
		row.FencedAt, row.DueAt = row.FencedAt.Add(-time.Hour), time.Now().Add(-time.Second).Truncate(time.Millisecond)
		err = store.SwapJob(t.Context(), row)
		if backup.Is(err, backup.Conflict) {
			return false
		}
		if err != nil {
			t.Fatal(err)
		}
		return true
	})
	s.invoke(t, "sweep", map[string]string{"source": "aws.events"}, nil)
	s.swept++
	s.alice.reaches(t, s.job.JobID, backup.Deleted)
	s.heard.hears(t, s.job.JobID, func(e busEvent) bool { return e.DetailType == string(backup.BackupJobDeleted) })
}

// purgedLeavesNothing tells the function of the stream that the time to live has removed the row of the deleted backup,
// which the emulator's stream does not say, while an object is still there.
func (s *story) purgedLeavesNothing(t *testing.T) {
	prefix := s.alice.id + "/" + siteID + "/" + s.job.JobID + "/"
	key := prefix + "stray.zip"
	_, err := s.storage.direct.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &s.storage.bucket, Key: &key, Body: strings.NewReader("stray")})
	if err != nil {
		t.Fatal(err)
	}
	var row struct{ Item map[string]json.RawMessage }
	s.json(t, "dynamodb", "DynamoDB_20120810.GetItem", map[string]any{
		"TableName": s.output.Data.TableName,
		"Key":       map[string]any{dynamo.PartitionKey: map[string]string{"S": "JOB#" + s.job.JobID}, dynamo.SortKey: map[string]string{"S": "JOB"}},
	}, &row)
	record := map[string]any{
		"eventID": "purge", "eventName": "REMOVE", "eventSource": "aws:dynamodb",
		"userIdentity": map[string]string{"type": "Service", "principalId": "dynamodb.amazonaws.com"},
		"dynamodb":     map[string]any{"OldImage": row.Item, "SequenceNumber": "1"},
	}
	var answer struct{ BatchItemFailures []any }
	s.invoke(t, "stream", map[string]any{"Records": []any{record}}, &answer)
	if len(answer.BatchItemFailures) != 0 {
		t.Errorf("the record was refused: %v", answer)
	}
	if versions, uploads := s.storage.contents(t, prefix); len(versions)+len(uploads) != 0 {
		t.Errorf("the bucket holds %q and the uploads %q", versions, uploads)
	}
}

// invoke calls a function as Lambda's users do, and waits for its answer.
func (d *deployment) invoke(t *testing.T, function string, in, out any) {
	t.Helper()
	d.rest(t, http.MethodPost, "lambda", "/2015-03-31/functions/"+name+"-"+function+"/invocations", in, out)
}

// empties waits until nothing is stored below the prefix.
func (s *storage) empties(t *testing.T, prefix string) {
	t.Helper()
	await(t, prefix+" is empty", jobTime, func() bool {
		versions, uploads := s.contents(t, prefix)
		return len(versions)+len(uploads) == 0
	})
}
