package step_test

import (
	"slices"
	"testing"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
)

// A part task is finished when all its parts are recorded, and only tasks that hold one of the named parts are looked at.
func TestFinished(t *testing.T) {
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
	batches := backup.Batches(parts, 1, backup.MaxBatches)
	if batches[0] != (backup.Batch{First: 1, Last: 8}) {
		t.Fatalf("the plan has changed: %v", batches)
	}
	for _, tc := range []struct {
		parts []int
		want  []backup.Batch
	}{
		{nil, nil},
		{[]int{8}, []backup.Batch{{First: 1, Last: 8}}},
		{[]int{1, 2, 3, 9, 10}, []backup.Batch{{First: 1, Last: 8}}},
		{[]int{9, 10, 36}, nil},
		{[]int{0, 41}, nil},
	} {
		got, err := status.Finished(t.Context(), job, file, tc.parts)
		if err != nil || !slices.Equal(got, tc.want) {
			t.Errorf("parts %v: finished %v, %v; want %v", tc.parts, got, err, tc.want)
		}
	}
}
