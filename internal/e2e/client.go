package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"testing"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
)

// Client calls the API of a service.
type Client struct {
	URL           string
	tb            testing.TB
	authorization string
}

// As is the client with an Authorization header.
func (c Client) As(authorization string) Client {
	c.authorization = authorization
	return c
}

// Reply is an answer of the API.
type Reply struct {
	Status int
	Header http.Header
	Body   []byte
}

// Call sends a request with body as JSON, unless it is nil.
func (c Client) Call(method, path string, body any) Reply {
	c.tb.Helper()
	var content bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&content).Encode(body); err != nil {
			c.tb.Fatal(err)
		}
	}
	req, err := http.NewRequest(method, c.URL+api.Prefix+path, &content)
	if err != nil {
		c.tb.Fatal(err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.authorization != "" {
		req.Header.Set("Authorization", c.authorization)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.tb.Fatal(err)
	}
	defer resp.Body.Close()
	return Reply{resp.StatusCode, resp.Header, readAll(c.tb, resp.Body)}
}

// Into calls, expects the status and reads the answer.
func Into[T any](c Client, status int, method, path string, body any) (v T) {
	c.tb.Helper()
	r := c.Call(method, path, body)
	if r.Status != status {
		c.tb.Fatalf("%s %s: %d %s", method, path, r.Status, r.Body)
	}
	if err := json.Unmarshal(r.Body, &v); err != nil {
		c.tb.Fatalf("%s %s: %v in %s", method, path, err, r.Body)
	}
	return v
}

// Exports are the exports of a site by the names of their providers, in whose order they are backed up.
type Exports map[string]*Export

// PutSite registers a site without a daily run.
func (c Client) PutSite(siteID string, exports Exports) {
	c.tb.Helper()
	c.putSite(siteID, api.SiteBody{Schedule: backup.Schedule{Off: true}}, exports)
}

// PutDailySite registers a site that is backed up each day at the given time in UTC.
func (c Client) PutDailySite(siteID, at string, exports Exports) {
	c.tb.Helper()
	c.putSite(siteID, api.SiteBody{Schedule: backup.Schedule{At: at}}, exports)
}

// PutSerialSite registers a site whose ranges are pulled one after the other, without a daily run.
func (c Client) PutSerialSite(siteID string, exports Exports) {
	c.tb.Helper()
	limits := backup.Limits{Parallelism: 1}
	c.putSite(siteID, api.SiteBody{Schedule: backup.Schedule{Off: true}, Limits: limits}, exports)
}

// PutWideSite registers a site of which as many ranges are pulled at a time as may be, without a daily run.
func (c Client) PutWideSite(siteID string, exports Exports) {
	c.tb.Helper()
	limits := backup.Limits{Parallelism: backup.MaxParallelism}
	c.putSite(siteID, api.SiteBody{Schedule: backup.Schedule{Off: true}, Limits: limits}, exports)
}

func (c Client) putSite(siteID string, site api.SiteBody, exports Exports) {
	c.tb.Helper()
	for _, name := range slices.Sorted(maps.Keys(exports)) {
		site.Providers = append(site.Providers, backup.Provider{Name: name, URL: exports[name].URL})
	}
	if r := c.Call(http.MethodPut, "/site/"+siteID, site); r.Status/100 != 2 {
		c.tb.Fatalf("put site %s: %d %s", siteID, r.Status, r.Body)
	}
}

// Create asks for a backup of the site and returns its id.
func (c Client) Create(siteID string) string {
	c.tb.Helper()
	return Into[api.Backup](c, http.StatusAccepted, http.MethodPost, "/backup", map[string]any{"siteId": siteID}).JobID
}

// Get reads a backup.
func (c Client) Get(jobID string) api.BackupDetail {
	c.tb.Helper()
	return Into[api.BackupDetail](c, http.StatusOK, http.MethodGet, "/backup/"+jobID, nil)
}

// Fails waits until the backup has failed for the given reason.
func (c Client) Fails(jobID string, want backup.Kind) (job api.BackupDetail) {
	c.tb.Helper()
	job = c.Await(jobID, backup.Failed)
	if job.Error == nil || job.Error.Kind != want {
		c.tb.Errorf("job %s failed with %+v, not %s", jobID, job.Error, want)
	}
	return job
}

// TriedAgain waits until the backup waits for its next try after an attempt that failed for the given reason.
func (c Client) TriedAgain(jobID string, want backup.Kind) (job api.BackupDetail) {
	c.tb.Helper()
	Eventually(c.tb, fmt.Sprintf("job %s waits for its next try", jobID), func() bool {
		job = c.Get(jobID)
		return job.NextTryAt != nil
	})
	if job.Status != backup.Pending || job.LastError == nil || job.LastError.Kind != want {
		c.tb.Errorf("job %s is %s after %+v, not %s", jobID, job.Status, job.LastError, want)
	}
	return job
}

// Refused expects a problem of the given status and kind.
func (c Client) Refused(status int, kind backup.Kind, method, path string, body any) {
	c.tb.Helper()
	if p := Into[api.Problem](c, status, method, path, body); p.Kind != kind {
		c.tb.Errorf("%s %s: %+v, not %s", method, path, p, kind)
	}
}

// List reads all backups of the site, newest first.
func (c Client) List(siteID string) []api.Backup {
	c.tb.Helper()
	return Into[api.BackupPage](c, http.StatusOK, http.MethodGet, "/backup?siteId="+siteID, nil).Backups
}

// Act posts "retry" or "cancel".
func (c Client) Act(jobID, action string) api.Backup {
	c.tb.Helper()
	return Into[api.Backup](c, http.StatusAccepted, http.MethodPost, "/backup/"+jobID+"/"+action, nil)
}

// Delete asks for the deletion of a backup.
func (c Client) Delete(jobID string) api.Backup {
	c.tb.Helper()
	return Into[api.Backup](c, http.StatusAccepted, http.MethodDelete, "/backup/"+jobID, nil)
}

// Await waits until the backup has the status.
func (c Client) Await(jobID string, want backup.Status) (job api.BackupDetail) {
	c.tb.Helper()
	final := map[backup.Status]bool{backup.Done: true, backup.Failed: true, backup.Deleted: true}
	Eventually(c.tb, fmt.Sprintf("job %s is %s", jobID, want), func() bool {
		c.tb.Helper()
		job = c.Get(jobID)
		if job.Status != want && final[job.Status] && final[want] && want != backup.Deleted {
			c.tb.Fatalf("job %s is %s, not %s: %+v", jobID, job.Status, want, job.Error)
		}
		return job.Status == want
	})
	return job
}

// AwaitParts waits until so many parts of the backup are recorded.
func (c Client) AwaitParts(jobID string, parts int) (job api.BackupDetail) {
	c.tb.Helper()
	Eventually(c.tb, fmt.Sprintf("job %s has %d parts", jobID, parts), func() bool {
		job = c.Get(jobID)
		return job.Progress.Parts == parts
	})
	return job
}

// Same downloads a file of the backup by its presigned link and compares it with what should be in it.
func (c Client) Same(jobID, file string, content backuptest.Content) {
	c.tb.Helper()
	link := Into[api.Download](c, http.StatusOK, http.MethodGet, "/backup/"+jobID+"/files/"+file, nil)
	resp, err := http.Get(link.URL)
	if err != nil {
		c.tb.Fatal(err)
	}
	defer resp.Body.Close()
	if err := SameBytes(resp.Body, content); err != nil || resp.StatusCode != http.StatusOK {
		c.tb.Errorf("file %s of job %s: status %d, %v", file, jobID, resp.StatusCode, err)
	}
}
