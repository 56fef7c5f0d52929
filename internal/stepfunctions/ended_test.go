package stepfunctions_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/sqlite"
	"github.com/sitevault/sitevault/internal/step"
	"github.com/sitevault/sitevault/internal/stepfunctions"
)

var epoch = time.Date(2026, 3, 1, 2, 30, 0, 0, time.UTC)

// runningJob is a job that its execution has started, seen at the given time.
func runningJob(t *testing.T, seen time.Time) (*sqlite.Store, stepfunctions.Ended) {
	t.Helper()
	store, err := sqlite.Open(filepath.Join(t.TempDir(), "db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	site := backup.Site{UserID: "ada", SiteID: "blog", Providers: []backup.Provider{{Name: "files", URL: "https://example.org/"}}}.WithDefaults()
	policy := backup.DefaultPolicy()
	if _, err := store.CreateJob(t.Context(), backup.NewJob(jobID, site, backup.Manual, epoch.Add(24*time.Hour), epoch, policy), backup.Idempotency{}); err != nil {
		t.Fatal(err)
	}
	if _, err := (step.StartJob{Jobs: store, Policy: policy, Now: func() time.Time { return epoch }}).Handle(t.Context(), step.StartJobIn{JobID: jobID, Attempt: 1}); err != nil {
		t.Fatal(err)
	}
	cleaner := step.Cleaner{Jobs: store, Files: store, Storage: backuptest.NewStorage(), Policy: policy, Now: func() time.Time { return seen }}
	return store, stepfunctions.Ended{Cleaner: cleaner, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
}

// An execution that ends by itself ends its attempt, under the kind of what ended it: the job is tried again later, unless
// its time is over. A second event changes nothing.
func TestEnded(t *testing.T) {
	for _, tc := range []struct {
		event  string // members of detail beside the name
		kind   backup.Kind
		detail string
	}{
		{`"status":"TIMED_OUT"`, backup.TimedOut, "not finished by 2026-03-01T08:30:00Z"},
		{`"status":"ABORTED","error":null,"cause":null`, backup.Internal, "the execution was aborted"},
		{`"status":"FAILED"`, backup.Internal, "the execution failed"},
		{`"status":"FAILED","error":"StoreUnavailable","cause":"{\"errorMessage\":\"no answer\",\"errorType\":\"StoreUnavailable\"}"`, backup.StoreUnavailable, "no answer"},
		{`"status":"FAILED","error":"States.DataLimitExceeded","cause":"too much"`, backup.Internal, "States.DataLimitExceeded: too much"},
	} {
		seen := epoch
		if tc.kind == backup.TimedOut {
			seen = epoch.Add(backup.DefaultJobTimeout)
		}
		store, ended := runningJob(t, seen)
		for range 2 {
			if err := handle(t, ended, jobID+"-1", tc.event); err != nil {
				t.Errorf("%s: %v", tc.event, err)
			}
		}
		job, err := store.GetJob(t.Context(), jobID)
		failure, status := job.LastError, backup.Pending
		if tc.kind == backup.TimedOut {
			failure, status = job.Failure, backup.Failed
		}
		if err != nil || job.Status != status || failure == nil || failure.Kind != tc.kind || failure.Detail != tc.detail {
			t.Errorf("%s: job %s %+v, %v", tc.event, job.Status, failure, err)
		}
	}
}

// An execution that has waited for room runs out of its time before the job does, which the room was given later: the job
// goes on in another execution, as long as it has time.
func TestEndedAfterWaiting(t *testing.T) {
	waited := 2 * time.Hour
	store, ended := runningJob(t, epoch.Add(backup.DefaultJobTimeout-waited))
	if err := handle(t, ended, jobID+"-1", `"status":"TIMED_OUT"`); err != nil {
		t.Error(err)
	}
	job, err := store.GetJob(t.Context(), jobID)
	if deadline := epoch.Add(backup.DefaultJobTimeout); err != nil || job.Status != backup.Pending || job.Attempt != 2 || !job.DeadlineAt.Equal(deadline) || job.LastError.Kind != backup.TimedOut {
		t.Errorf("job %s in attempt %d, deadline %s, last error %+v, %v", job.Status, job.Attempt, job.DeadlineAt, job.LastError, err)
	}
}

func handle(t *testing.T, ended stepfunctions.Ended, name, rest string) error {
	t.Helper()
	var in stepfunctions.StatusChange
	event := fmt.Sprintf(`{"detail-type":"Step Functions Execution Status Change","source":"aws.states","detail":{"name":%q,%s}}`, name, rest)
	if err := json.Unmarshal([]byte(event), &in); err != nil {
		t.Fatal(err)
	}
	_, err := ended.Handle(t.Context(), in)
	return err
}

// Events of other executions, other attempts and other states leave the job running.
func TestEndedLeavesOthersAlone(t *testing.T) {
	store, ended := runningJob(t, epoch)
	for name, rest := range map[string]string{
		jobID + "-2": `"status":"TIMED_OUT"`, "01JD0000000000000000000001-1": `"status":"TIMED_OUT"`, "by-hand": `"status":"FAILED"`, jobID: `"status":"FAILED"`, jobID + "-1": `"status":"SUCCEEDED"`,
	} {
		if err := handle(t, ended, name, rest); err != nil {
			t.Errorf("%s %s: %v", name, rest, err)
		}
	}
	if job, err := store.GetJob(t.Context(), jobID); err != nil || job.Status != backup.Running {
		t.Errorf("job %s, %v", job.Status, err)
	}
}
