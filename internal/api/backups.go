package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/checksum"
	"github.com/sitevault/sitevault/internal/step"
)

func (s server) registerBackups(api huma.API) {
	op := func(id, method, path, summary string, status int, errs ...int) huma.Operation {
		return huma.Operation{
			OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{"Backups"}, DefaultStatus: status, Errors: errs,
		}
	}
	const absent, conflict = http.StatusNotFound, http.StatusConflict
	route(s, api, op("create-backup", http.MethodPost, "/backup", "Back up a site now", http.StatusAccepted, append(badBody, absent, conflict)...), s.createBackup)
	route(s, api, op("list-backups", http.MethodGet, "/backup", "List backups, newest first", http.StatusOK), s.listBackups)
	route(s, api, op("get-backup", http.MethodGet, "/backup/{jobId}", "Read a backup and how far it has come", http.StatusOK, absent), s.getBackup)
	route(s, api, op("keep-backup", http.MethodPatch, "/backup/{jobId}", "Change until when a done backup is kept", http.StatusOK, append(badBody, absent, conflict)...), s.keepBackup)
	route(s, api, op("delete-backup", http.MethodDelete, "/backup/{jobId}", "Delete a backup", http.StatusAccepted, absent, conflict), s.deleteBackup)
	route(s, api, op("retry-backup", http.MethodPost, "/backup/{jobId}/retry", "Try a failed backup again; finished work is kept", http.StatusAccepted, absent, conflict), s.retryBackup)
	route(s, api, op("cancel-backup", http.MethodPost, "/backup/{jobId}/cancel", "Cancel a pending or running backup", http.StatusAccepted, absent, conflict), s.cancelBackup)
	route(s, api, op("list-tasks", http.MethodGet, "/backup/{jobId}/tasks", "List the tasks of a backup", http.StatusOK, absent), s.listTasks)
	route(s, api, op("get-file", http.MethodGet, "/backup/{jobId}/files/{provider}", "Get a short-lived download link", http.StatusOK, absent, conflict), s.getFile)
}

// CreateBackupBody asks for a backup.
type CreateBackupBody struct {
	SiteID   string    `json:"siteId" maxLength:"63"`
	KeepDays int       `json:"keepDays,omitempty" minimum:"1" maximum:"3650" doc:"How long to keep it; the site's keepDays unless said otherwise"`
	DeleteAt time.Time `json:"deleteAt,omitzero" doc:"Instead of keepDays: when to delete it"`
}

type createBackupIn struct {
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"255" pattern:"^[!-~]+$" doc:"Repeating a request with the same key within 48 hours answers with the same backup"`
	Body           CreateBackupBody
}

// acceptedOut answers work that goes on after the answer.
type acceptedOut struct {
	Location   string `header:"Location"`
	RetryAfter int    `header:"Retry-After"`
	Body       Backup
}

func (s server) accepted(job backup.Job) *acceptedOut {
	now := s.Now()
	return &acceptedOut{
		Location: Prefix + "/backup/" + job.JobID, RetryAfter: retryAfterSeconds(job.StatusAt(now)), Body: backupView(job, now),
	}
}

func (s server) createBackup(ctx context.Context, in *createBackupIn) (*acceptedOut, error) {
	c := step.CreateBackup{
		UserID: userOf(ctx), SiteID: in.Body.SiteID, KeepDays: in.Body.KeepDays, DeleteAt: in.Body.DeleteAt.Truncate(time.Millisecond), Trigger: backup.Manual,
	}
	if in.IdempotencyKey != "" {
		// Clients' keys have a name space of their own beside those of the daily runs.
		c.Key, c.BodyHash = "api/"+in.IdempotencyKey, in.Body.hash()
	}
	job, err := s.Backups.Create(ctx, c)
	if err != nil {
		return nil, err
	}
	return s.accepted(job), nil
}

// hash covers what the request means, not how it was spelled.
func (b CreateBackupBody) hash() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %d %d", b.SiteID, b.KeepDays, b.DeleteAt.UnixMilli()))
	return hex.EncodeToString(sum[:])
}

type listBackupsIn struct {
	PageIn
	SiteID string `query:"siteId" maxLength:"63" doc:"Only backups of this site"`
}

// BackupPage is one page of backups.
type BackupPage struct {
	Backups       []Backup `json:"backups"`
	NextPageToken string   `json:"nextPageToken,omitempty"`
}

type backupPageOut struct{ Body BackupPage }

func (s server) listBackups(ctx context.Context, in *listBackupsIn) (*backupPageOut, error) {
	from, err := parseToken(in.PageToken)
	if err != nil {
		return nil, err
	}
	jobs, err := s.Status.Jobs.ListJobs(ctx, backup.JobQuery{UserID: userOf(ctx), SiteID: in.SiteID, Before: from.After, Limit: in.Limit + 1})
	if err != nil {
		return nil, err
	}
	page := BackupPage{Backups: []Backup{}}
	if len(jobs) > in.Limit {
		jobs = jobs[:in.Limit]
		page.NextPageToken = position{After: jobs[in.Limit-1].JobID}.token()
	}
	for _, j := range jobs {
		page.Backups = append(page.Backups, backupView(j, s.Now()))
	}
	return &backupPageOut{page}, nil
}

// JobPath names a backup.
type JobPath struct {
	JobID string `path:"jobId" maxLength:"64"`
}

type backupOut struct {
	RetryAfter string `header:"Retry-After" doc:"Seconds until another look is worth it; only while the backup is under way"`
	Body       BackupDetail
}

func (s server) getBackup(ctx context.Context, in *JobPath) (*backupOut, error) {
	view, err := s.Status.Get(ctx, userOf(ctx), in.JobID)
	if err != nil {
		return nil, err
	}
	out := &backupOut{Body: detailView(view)}
	if status := out.Body.Status; status == backup.Pending || status == backup.Running {
		out.RetryAfter = strconv.Itoa(retryAfterSeconds(status))
	}
	return out, nil
}

type keepBackupIn struct {
	JobPath
	Body struct {
		DeleteAt time.Time `json:"deleteAt" doc:"When to delete the backup"`
	}
}

type jobOut struct{ Body Backup }

func (s server) keepBackup(ctx context.Context, in *keepBackupIn) (*jobOut, error) {
	job, err := s.Backups.Keep(ctx, userOf(ctx), in.JobID, in.Body.DeleteAt.Truncate(time.Millisecond))
	if err != nil {
		return nil, err
	}
	return &jobOut{backupView(job, s.Now())}, nil
}

func (s server) deleteBackup(ctx context.Context, in *JobPath) (*acceptedOut, error) {
	return s.act(ctx, in, s.Backups.Delete)
}

func (s server) retryBackup(ctx context.Context, in *JobPath) (*acceptedOut, error) {
	return s.act(ctx, in, s.Backups.Retry)
}

func (s server) cancelBackup(ctx context.Context, in *JobPath) (*acceptedOut, error) {
	return s.act(ctx, in, s.Backups.Cancel)
}

func (s server) act(ctx context.Context, in *JobPath, action func(context.Context, string, string) (backup.Job, error)) (*acceptedOut, error) {
	job, err := action(ctx, userOf(ctx), in.JobID)
	if err != nil {
		return nil, err
	}
	return s.accepted(job), nil
}

type listTasksIn struct {
	JobPath
	PageIn
}

// TaskPage is one page of tasks.
type TaskPage struct {
	Tasks         []Task `json:"tasks"`
	NextPageToken string `json:"nextPageToken,omitempty"`
}

type taskPageOut struct{ Body TaskPage }

func (s server) listTasks(ctx context.Context, in *listTasksIn) (*taskPageOut, error) {
	from, err := parseToken(in.PageToken)
	if err != nil {
		return nil, err
	}
	view, err := s.Status.Get(ctx, userOf(ctx), in.JobID)
	if err != nil {
		return nil, err
	}
	page := TaskPage{Tasks: []Task{}}
	for _, f := range view.Files {
		if f.Name < from.After {
			continue
		}
		tasks, err := s.Status.Tasks(ctx, view.Job, f)
		if err != nil {
			return nil, err
		}
		start := 0
		if f.Name == from.After {
			start = min(from.Index, len(tasks))
		}
		for i, t := range tasks[start:] {
			if len(page.Tasks) == in.Limit {
				page.NextPageToken = position{After: f.Name, Index: start + i}.token()
				return &taskPageOut{page}, nil
			}
			page.Tasks = append(page.Tasks, taskView(t))
		}
	}
	return &taskPageOut{page}, nil
}

// FilePath names one file of a backup.
type FilePath struct {
	JobPath
	Provider string `path:"provider" maxLength:"32"`
}

// Download is a short-lived link to one file of a done backup.
type Download struct {
	URL       string    `json:"url" doc:"Works without further credentials until expiresAt; supports ranges"`
	ExpiresAt time.Time `json:"expiresAt"`
	FileName  string    `json:"fileName"`
	SizeBytes int64     `json:"sizeBytes"`
	CRC64NVME string    `json:"crc64nvme" doc:"Base64 as in x-amz-checksum-crc64nvme"`
}

type downloadOut struct{ Body Download }

// linkLife bounds what a leaked link gives away.
const linkLife = 15 * time.Minute

func (s server) getFile(ctx context.Context, in *FilePath) (*downloadOut, error) {
	view, err := s.Status.Get(ctx, userOf(ctx), in.JobID)
	if err != nil {
		return nil, err
	}
	if status := view.Job.StatusAt(view.At); status != backup.Done {
		return nil, backup.E(backup.IllegalState, "backup %s is %s: only files of a done backup can be downloaded", in.JobID, status)
	}
	for _, f := range view.Files {
		if f.Name == in.Provider {
			return s.link(ctx, view.Job, f)
		}
	}
	return nil, backup.E(backup.NotFound, "backup %s has no file %q", in.JobID, in.Provider)
}

func (s server) link(ctx context.Context, job backup.Job, f backup.File) (*downloadOut, error) {
	name := fmt.Sprintf("%s-%s-%s.zip", job.SiteID, f.Name, job.CreatedAt.UTC().Format("2006-01-02T1504Z"))
	expires := s.Now().Add(linkLife)
	url, err := s.Objects.PresignGet(ctx, f.Key, name, linkLife)
	if err != nil {
		return nil, err
	}
	return &downloadOut{Download{
		URL: url, ExpiresAt: expires.UTC(), FileName: name, SizeBytes: f.Pin.SizeBytes, CRC64NVME: checksum.Encode(f.CRC64NVME),
	}}, nil
}
