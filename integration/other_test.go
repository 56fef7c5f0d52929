package integration_test

import (
	"bytes"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/backup"
)

// tenantsAreApart: for Bob, what is Alice's answers as what is nobody's.
func (s *story) tenantsAreApart(t *testing.T) {
	const absent = "01JD0000000000000000000001"
	for _, r := range []struct{ method, path string }{
		{http.MethodGet, ""}, {http.MethodGet, "/tasks"}, {http.MethodGet, "/files/files"},
		{http.MethodPost, "/retry"}, {http.MethodPost, "/cancel"}, {http.MethodDelete, ""},
	} {
		theirs := s.bob.call(t, r.method, "/backup/"+s.job.JobID+r.path, nil, nil)
		nobodys := s.bob.call(t, r.method, "/backup/"+absent+r.path, nil, nil)
		theirs.problem(t, http.StatusNotFound)
		same := bytes.ReplaceAll(nobodys.body, []byte(absent), []byte(s.job.JobID))
		if nobodys.status != theirs.status || !bytes.Equal(theirs.body, same) {
			t.Errorf("%s %s: %d %s, and for an absent backup %d %s", r.method, r.path, theirs.status, theirs.body, nobodys.status, nobodys.body)
		}
	}
	s.bob.call(t, http.MethodGet, "/site/"+siteID, nil, nil).problem(t, http.StatusNotFound)
	for job, err := range s.bob.Backups(t.Context(), "") {
		t.Errorf("Bob is shown %+v, %v", job, err)
	}
	for site, err := range s.bob.Sites(t.Context()) {
		t.Errorf("Bob is shown %+v, %v", site, err)
	}
}

// secretsAreApart: Bob's site of the same name names a secret that only Alice has. Its backup fails for good, and says so.
func (s *story) secretsAreApart(t *testing.T) {
	body := api.SiteBody{Providers: s.agent.providers(secretRef), Schedule: backup.Schedule{Off: true}}
	if _, err := s.bob.PutSite(t.Context(), siteID, body, ""); err != nil {
		t.Fatal(err)
	}
	job := s.bob.reaches(t, s.bob.create(t, siteID).JobID, backup.Failed)
	if job.Error == nil || job.Error.Kind != backup.SecretMissing {
		t.Errorf("the backup failed with %+v", job.Error)
	}
	s.bob.call(t, http.MethodPost, "/backup/"+job.JobID+"/retry", nil, nil).problem(t, http.StatusConflict)
	s.awaitExecution(t, job.JobID, 1, sfntypes.ExecutionStatusFailed)
	s.heard.hears(t, job.JobID, func(e busEvent) bool {
		return e.DetailType == string(backup.BackupJobFinished) && e.Detail.Status == string(backup.Failed) && e.Detail.FailureKind == backup.SecretMissing
	})
}

// awaitExecution waits until the execution of an attempt has the status.
func (d *deployment) awaitExecution(t *testing.T, jobID string, attempt int, want sfntypes.ExecutionStatus) {
	t.Helper()
	machines, arn := sfn.NewFromConfig(d.config), d.executionARN(jobID, attempt)
	await(t, "the execution of job "+jobID+" is "+string(want), jobTime, func() bool {
		execution, err := machines.DescribeExecution(t.Context(), &sfn.DescribeExecutionInput{ExecutionArn: &arn})
		if err != nil {
			t.Fatal(err)
		}
		return execution.Status == want
	})
}
