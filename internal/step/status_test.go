package step_test

import (
	"testing"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
)

// Each part belongs to one task of the plan, which is finished when all its parts are recorded.
func TestTaskOfPart(t *testing.T) {
	r := newRig(t)
	r.site(smallSite())
	job := r.created()
	const parts = 40 // five batches of eight, with one range at a time
	job.Providers, job.Limits.Parallelism = job.Providers[:1], 1
	file := backup.File{
		JobID: job.JobID, Name: job.Providers[0].Name, Status: backup.FileOpen, Attempt: 1, UploadID: "upload",
		Pin: backup.Pin{ETag: `"v1"`, SizeBytes: parts * backup.BasePartSizeBytes}, PartSizeBytes: backup.BasePartSizeBytes,
	}
	r.need(second(r.startJob().Handle(t.Context(), step.StartJobIn{JobID: job.JobID, Attempt: 1})))
	r.need(r.store.SwapFile(t.Context(), backup.Guard(job.JobID, 1), file))
	for _, n := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 33, 34, 35, 36} {
		r.need(r.store.RecordPart(t.Context(), backup.PartWrite{
			JobID: job.JobID, Attempt: 1, File: file.Name, UploadID: "upload", Part: backup.Part{Number: n, SizeBytes: backup.BasePartSizeBytes}, At: r.now(),
		}))
	}
	status := step.Status{Jobs: r.store, Files: r.store, Now: r.now}
	for _, tc := range []struct {
		part     int
		task     backup.Batch
		finished bool
	}{
		{1, backup.Batch{First: 1, Last: 8}, true},
		{8, backup.Batch{First: 1, Last: 8}, true},
		{10, backup.Batch{First: 9, Last: 16}, false},
		{17, backup.Batch{First: 17, Last: 24}, false},
		{36, backup.Batch{First: 33, Last: 40}, false},
		{0, backup.Batch{}, false},
		{41, backup.Batch{}, false},
	} {
		task, ok := step.TaskOf(job, file, tc.part)
		if task != tc.task || ok != (tc.task != backup.Batch{}) {
			t.Errorf("part %d belongs to task %v, %t", tc.part, task, ok)
		}
		if !ok {
			continue
		}
		if finished, err := status.Finished(t.Context(), file, task); err != nil || finished != tc.finished {
			t.Errorf("task %v is finished: %t, %v", task, finished, err)
		}
	}
}
