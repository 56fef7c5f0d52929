package api

import (
	"strconv"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/checksum"
	"github.com/sitevault/sitevault/internal/step"
)

// Backup is a backup job as clients see it.
type Backup struct {
	JobID      string         `json:"jobId" example:"01JD3Z8Q7V5X2M4N6P8R0S1T2V"`
	UserID     string         `json:"userId"`
	SiteID     string         `json:"siteId" example:"shop-example-com"`
	Status     backup.Status  `json:"status" enum:"pending,running,done,failed,deleting,deleted"`
	Trigger    backup.Trigger `json:"trigger" enum:"manual,daily"`
	Attempt    int            `json:"attempt" doc:"From 1; each try adds one, on request or by the service itself"`
	Retries    int            `json:"retries,omitempty" doc:"Tries on request"`
	CreatedAt  time.Time      `json:"createdAt"`
	UpdatedAt  time.Time      `json:"updatedAt"`
	StartedAt  *time.Time     `json:"startedAt,omitempty" doc:"Of the current attempt"`
	FinishedAt *time.Time     `json:"finishedAt,omitempty"`
	NextTryAt  *time.Time     `json:"nextTryAt,omitempty" doc:"While pending after a failed attempt: when the next one begins by itself"`
	DeadlineAt time.Time      `json:"deadlineAt" doc:"The backup is given up at this time, however often it was tried"`
	DeleteAt   time.Time      `json:"deleteAt" doc:"The backup is deleted at this time"`
	SizeBytes  int64          `json:"sizeBytes,omitempty" doc:"Of all files, once done"`
	Error      *Failure       `json:"error,omitempty" doc:"Why it failed"`
	LastError  *Failure       `json:"lastError,omitempty" doc:"Why the attempt before failed, or what hinders the end of this one; of a failed or deleting backup, why its cleanup does"`
	Waiting    *step.Waiting  `json:"waiting,omitempty" doc:"What a pending backup waits for, once it waits for longer than a start takes"`
}

// BackupDetail adds how far a backup has come.
type BackupDetail struct {
	Backup
	Seq      int64         `json:"seq" doc:"Grows with every change; of two answers the one with the higher number is the newer"`
	Progress step.Progress `json:"progress"`
	Files    []File        `json:"files"`
}

// Failure says why something failed.
type Failure struct {
	Kind      backup.Kind `json:"kind" example:"ProviderUnavailable"`
	Message   string      `json:"message" doc:"What happened, in plain words"`
	Detail    string      `json:"detail,omitempty" doc:"For the people who operate the site"`
	File      string      `json:"file,omitempty" doc:"The provider whose file failed"`
	Retryable bool        `json:"retryable" doc:"Whether a retry can help without a change elsewhere"`
	At        time.Time   `json:"at"`
	Since     *time.Time  `json:"since,omitempty" doc:"When it first came, if it has come again since"`
	Try       int         `json:"try,omitempty" doc:"Of the step that met it, from 1, where it is known"`
}

// File is one provider's file.
type File struct {
	Name       string          `json:"name" doc:"Of the provider"`
	Status     string          `json:"status" enum:"pending,open,completing,stored,done,failed"`
	SizeBytes  int64           `json:"sizeBytes,omitempty"`
	Progress   step.Progress   `json:"progress"`
	CRC64NVME  string          `json:"crc64nvme,omitempty" doc:"Of the whole file, base64 as in x-amz-checksum-crc64nvme; once proven"`
	Archive    *backup.Archive `json:"archive,omitempty" doc:"What the zip's directory says; once done"`
	Error      *Failure        `json:"error,omitempty"`
	LastError  *Failure        `json:"lastError,omitempty" doc:"What hinders the file: a provider or a storage that does not answer, or the failure of the last try, while that is waited for or repeated"`
	FinishedAt *time.Time      `json:"finishedAt,omitempty"`
}

// Task is one unit of work of a backup.
type Task struct {
	TaskID    string          `json:"taskId" example:"files-1-8"`
	JobID     string          `json:"jobId"`
	Type      step.TaskType   `json:"type" enum:"UploadFile,UploadPart"`
	Status    step.TaskStatus `json:"status" enum:"pending,running,done,failed"`
	Params    TaskParams      `json:"params"`
	Error     *Failure        `json:"error,omitempty"`
	CreatedAt time.Time       `json:"createdAt"`
	UpdatedAt time.Time       `json:"updatedAt"`
}

// TaskParams say what a task moves: a whole file, or its parts FirstPart..LastPart (inclusive, from 1).
type TaskParams struct {
	File          string `json:"file"`
	SizeBytes     int64  `json:"sizeBytes,omitempty"`
	PartSizeBytes int64  `json:"partSizeBytes,omitempty"`
	FirstPart     int    `json:"firstPart,omitempty"`
	LastPart      int    `json:"lastPart,omitempty"`
}

// Site is a site as clients see it.
type Site struct {
	SiteID    string            `json:"siteId"`
	UserID    string            `json:"userId"`
	Providers []backup.Provider `json:"providers"`
	Schedule  backup.Schedule   `json:"schedule"`
	NextRunAt *time.Time        `json:"nextRunAt,omitempty" doc:"The next daily backup"`
	KeepDays  int               `json:"keepDays"`
	Limits    backup.Limits     `json:"limits"`
	CreatedAt time.Time         `json:"createdAt"`
	UpdatedAt time.Time         `json:"updatedAt"`
}

func backupView(j backup.Job, now time.Time) Backup {
	return Backup{
		JobID: j.JobID, UserID: j.UserID, SiteID: j.SiteID, Status: j.StatusAt(now), Trigger: j.Trigger, Attempt: j.Attempt, Retries: j.Retries,
		CreatedAt: j.CreatedAt.UTC(), UpdatedAt: j.UpdatedAt.UTC(), StartedAt: when(j.StartedAt), FinishedAt: when(j.FinishedAt),
		NextTryAt: when(j.NextTry(now)), DeadlineAt: j.DeadlineAt.UTC(), DeleteAt: j.DeleteAt.UTC(), SizeBytes: j.SizeBytes, Error: failureView(j.FailureAt(now)),
		LastError: failureView(j.LastErrorAt(now)),
		Waiting:   step.WaitingOf(j, now),
	}
}

func detailView(v step.View) BackupDetail {
	d := BackupDetail{Backup: backupView(v.Job, v.At), Seq: v.Seq(), Progress: v.Progress(), Files: make([]File, len(v.Job.Providers))}
	d.Error = failureView(v.Failure())
	byName := make(map[string]backup.File, len(v.Files))
	for _, f := range v.Files {
		byName[f.Name] = f
	}
	for i, p := range v.Job.Providers {
		d.Files[i] = fileView(p.Name, byName[p.Name])
		d.Files[i].LastError = failureView(v.LastError(byName[p.Name]))
	}
	return d
}

func fileView(name string, f backup.File) File {
	v := File{
		Name: name, Status: string(f.ShownStatus()), SizeBytes: f.Pin.SizeBytes, Progress: step.FileProgress(f),
		Error: failureView(f.Failure), FinishedAt: when(f.FinishedAt),
	}
	if f.Settled() {
		v.CRC64NVME = checksum.Encode(f.CRC64NVME)
	}
	if f.Status == backup.FileDone {
		v.Archive = &f.Archive
	}
	return v
}

func failureView(f *backup.Failure) *Failure {
	if f == nil {
		return nil
	}
	return &Failure{Kind: f.Kind, Message: f.Kind.Sentence(), Detail: f.Detail, File: f.File, Retryable: f.Kind.Retryable(), At: f.At.UTC(), Since: when(f.Since), Try: f.Try}
}

func taskView(t step.Task) Task {
	f := t.File
	v := Task{
		TaskID: f.Name, JobID: f.JobID, Type: t.Type, Status: t.Status,
		Params:    TaskParams{File: f.Name, SizeBytes: f.Pin.SizeBytes, PartSizeBytes: f.PartSizeBytes, FirstPart: t.Batch.First, LastPart: t.Batch.Last},
		CreatedAt: f.CreatedAt.UTC(), UpdatedAt: f.UpdatedAt.UTC(),
	}
	if t.Type == step.UploadPart {
		v.TaskID = f.Name + "-" + strconv.Itoa(t.Batch.First) + "-" + strconv.Itoa(t.Batch.Last)
	}
	if t.Status == step.TaskFailed {
		v.Error = failureView(f.Failure)
	}
	return v
}

func siteView(s backup.Site, now time.Time) Site {
	return Site{
		SiteID: s.SiteID, UserID: s.UserID, Providers: s.Providers, Schedule: s.Schedule, NextRunAt: when(s.Schedule.Next(now)),
		KeepDays: s.KeepDays, Limits: s.Limits, CreatedAt: s.CreatedAt.UTC(), UpdatedAt: s.UpdatedAt.UTC(),
	}
}

// when leaves the zero time out of an answer.
func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
