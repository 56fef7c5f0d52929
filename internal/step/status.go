package step

import (
	"context"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

// Status are the use cases of the API's reads.
type Status struct {
	Jobs  JobStore
	Files FileStore
	Now   func() time.Time
}

// View is a backup as its owner sees it at one moment.
type View struct {
	Job   backup.Job
	Files []backup.File
	At    time.Time
}

// Seq grows by one with every write to the job, its files or their parts: of two views of a job the one with the
// higher number is the newer.
func (v View) Seq() int64 {
	seq := v.Job.Rev
	for _, f := range v.Files {
		seq += f.Changes
	}
	return seq
}

// Waiting says what a backup waits for that is not under way.
type Waiting struct {
	For   string    `json:"for" enum:"room" doc:"room: other backups take up what this service runs at the same time"`
	Since time.Time `json:"since"`
}

// WaitingOf is nil for a backup that waits for nothing.
func WaitingOf(j backup.Job, now time.Time) *Waiting {
	since, waits := j.WaitsForRoom(now)
	if !waits {
		return nil
	}
	return &Waiting{For: "room", Since: since.UTC()}
}

// Progress sums up the files whose size is known.
type Progress struct {
	Parts      int   `json:"parts" doc:"Parts recorded so far"`
	TotalParts int   `json:"totalParts" doc:"Parts of all files whose size is known"`
	Bytes      int64 `json:"bytes" doc:"Bytes recorded so far"`
	TotalBytes int64 `json:"totalBytes" doc:"Size of all files whose size is known"`
}

// Progress of the whole backup.
func (v View) Progress() (p Progress) {
	for _, f := range v.Files {
		one := FileProgress(f)
		p.Parts += one.Parts
		p.TotalParts += one.TotalParts
		p.Bytes += one.Bytes
		p.TotalBytes += one.TotalBytes
	}
	return p
}

// FileProgress of one file.
func FileProgress(f backup.File) Progress {
	return Progress{Parts: f.Recorded.Parts, TotalParts: f.PartCount(), Bytes: f.Recorded.Bytes, TotalBytes: f.Pin.SizeBytes}
}

// Get reads a backup of the user.
func (s Status) Get(ctx context.Context, userID, jobID string) (View, error) {
	job, err := ownedJob(ctx, s.Jobs, userID, jobID)
	if err != nil {
		return View{}, err
	}
	return s.view(ctx, job)
}

// Read reads a backup whoever it belongs to.
func (s Status) Read(ctx context.Context, jobID string) (View, error) {
	job, err := s.Jobs.GetJob(ctx, jobID)
	if err != nil {
		return View{}, err
	}
	return s.view(ctx, job)
}

func (s Status) view(ctx context.Context, job backup.Job) (View, error) {
	files, err := s.Files.Files(ctx, job.JobID)
	return View{Job: job, Files: files, At: s.Now()}, err
}

// ownedJob answers a foreign id exactly as an absent one.
func ownedJob(ctx context.Context, jobs JobStore, userID, jobID string) (backup.Job, error) {
	absent := backup.E(backup.NotFound, "there is no backup %q", jobID)
	if !backup.ValidJobID(jobID) {
		return backup.Job{}, absent
	}
	job, err := jobs.GetJob(ctx, jobID)
	if backup.Is(err, backup.NotFound) || (err == nil && job.UserID != userID) {
		return backup.Job{}, absent
	}
	return job, err
}

// TaskType is the type of a task.
type TaskType string

const (
	UploadFile TaskType = "UploadFile"
	UploadPart TaskType = "UploadPart"
)

// TaskStatus is the state of a task.
type TaskStatus string

const (
	TaskPending TaskStatus = "pending"
	TaskRunning TaskStatus = "running"
	TaskDone    TaskStatus = "done"
	TaskFailed  TaskStatus = "failed"
)

// Task is one unit of work of a job. UploadPart tasks are the batches of a file; they follow from the file's plan and
// its recorded parts, so that they cost no rows of their own.
type Task struct {
	Type   TaskType
	Status TaskStatus
	File   backup.File
	Batch  backup.Batch // of an UploadPart
}

// Tasks lists the tasks of a file: the UploadFile task, then its UploadPart tasks.
func (s Status) Tasks(ctx context.Context, job backup.Job, f backup.File) ([]Task, error) {
	tasks := []Task{{Type: UploadFile, Status: fileTaskStatus(f), File: f}}
	if f.UploadID == "" {
		return tasks, nil
	}
	recorded, err := s.recorded(ctx, f)
	if err != nil {
		return nil, err
	}
	share := shareOf(job)
	for _, b := range backup.Batches(f.PartCount(), share.Parallelism, share.MaxBatches) {
		tasks = append(tasks, Task{Type: UploadPart, Status: batchStatus(f, b, recorded), File: f, Batch: b})
	}
	return tasks, nil
}

// recorded tells for each part of a file whether it is. A settled file has them all, and its part rows need not be
// there any more.
func (s Status) recorded(ctx context.Context, f backup.File) (map[int]bool, error) {
	recorded := make(map[int]bool, f.PartCount())
	if f.Settled() {
		for n := 1; n <= f.PartCount(); n++ {
			recorded[n] = true
		}
		return recorded, nil
	}
	parts, err := s.Files.Parts(ctx, f, 1, f.PartCount())
	for _, p := range parts {
		recorded[p.Number] = true
	}
	return recorded, err
}

// TaskOf is the UploadPart task of a file that a part belongs to; false for a number that the file's plan does not have.
func TaskOf(job backup.Job, f backup.File, part int) (task backup.Batch, ok bool) {
	share := shareOf(job)
	for _, b := range backup.Batches(f.PartCount(), share.Parallelism, share.MaxBatches) {
		if b.First <= part && part <= b.Last {
			return b, true
		}
	}
	return backup.Batch{}, false
}

// Finished tells whether all parts of an UploadPart task are recorded.
func (s Status) Finished(ctx context.Context, f backup.File, task backup.Batch) (bool, error) {
	if f.Settled() {
		return true, nil
	}
	recorded, err := s.Files.Parts(ctx, f, task.First, task.Last)
	return len(recorded) == task.Last-task.First+1, err
}

func fileTaskStatus(f backup.File) TaskStatus {
	switch f.Status {
	case "":
		return TaskPending
	case backup.FileDone:
		return TaskDone
	case backup.FileFailed:
		return TaskFailed
	}
	return TaskRunning
}

func batchStatus(f backup.File, b backup.Batch, recorded map[int]bool) TaskStatus {
	done := 0
	for n := b.First; n <= b.Last; n++ {
		if recorded[n] {
			done++
		}
	}
	switch {
	case done == b.Last-b.First+1:
		return TaskDone
	case f.Status == backup.FileFailed:
		return TaskFailed
	case done > 0:
		return TaskRunning
	}
	return TaskPending
}
