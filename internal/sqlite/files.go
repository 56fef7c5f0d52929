package sqlite

import (
	"context"

	"github.com/sitevault/sitevault/internal/backup"
)

var files = newTable("files", []string{"job_id", "name"}, func(f *backup.File) []column {
	return []column{
		{"job_id", &f.JobID},
		{"name", &f.Name},
		{"status", &f.Status},
		{"attempt", &f.Attempt},
		{"upload_id", &f.UploadID},
		{"object_key", &f.Key},
		{"token", &f.Token},
		{"etag", &f.Pin.ETag},
		{"size_bytes", &f.Pin.SizeBytes},
		{"part_size_bytes", &f.PartSizeBytes},
		{"crc64nvme", bits{&f.CRC64NVME}},
		{"entries", &f.Archive.Entries},
		{"uncompressed_bytes", &f.Archive.UncompressedBytes},
		{"failure", failed{&f.Failure}},
		{"restarts", &f.Restarts},
		{"uploads", &f.Uploads},
		{"created_at", millis{&f.CreatedAt}},
		{"updated_at", millis{&f.UpdatedAt}},
		{"finished_at", millis{&f.FinishedAt}},
		{"recorded_parts", &f.Recorded.Parts},
		{"recorded_bytes", &f.Recorded.Bytes},
		{"recorded_at", millis{&f.Recorded.At}},
		{"changes", &f.Changes},
		{"rev", &f.Rev},
	}
})

// guards reads of a job what admits writes below it.
var guards = newView("jobs", func(g *backup.FileGuard) []column {
	return []column{{"job_id", &g.JobID}, {"status", &g.Status}, {"attempt", &g.Attempt}}
})

var parts = newView("parts", func(p *backup.Part) []column {
	return []column{
		{"number", &p.Number},
		{"etag", &p.ETag},
		{"size_bytes", &p.SizeBytes},
		{"crc64nvme", bits{&p.CRC64NVME}},
	}
})

// Files implements step.FileStore.
func (s *Store) Files(ctx context.Context, jobID string) ([]backup.File, error) {
	list, err := files.list(ctx, s.reads, "WHERE job_id = ? ORDER BY name", jobID)
	if err != nil {
		return nil, failure(err, "list files of job %s", jobID)
	}
	known, err := lastErrors.list(ctx, s.reads, "WHERE job_id = ?", jobID)
	return withLastErrors(list, known), failure(err, "list last errors of job %s", jobID)
}

// GetFile implements step.FileStore.
func (s *Store) GetFile(ctx context.Context, jobID, name string) (backup.File, error) {
	file, err := findFile(ctx, s.reads, jobID, name)
	if err == nil && file.Rev == 0 {
		err = backup.E(backup.NotFound, "no such file")
	}
	if err != nil {
		return file, failure(err, "get file %s of job %s", name, jobID)
	}
	last, err := findLastError(ctx, s.reads, jobID, name)
	return last.of(file), failure(err, "get last error of file %s of job %s", name, jobID)
}

func findFile(ctx context.Context, q *statements, jobID, name string) (backup.File, error) {
	return files.find(ctx, q, "WHERE job_id = ? AND name = ?", jobID, name)
}

// SwapFile implements step.FileStore.
func (s *Store) SwapFile(ctx context.Context, g backup.FileGuard, next backup.File) error {
	err := s.writer.write(ctx, func(ctx context.Context, t *tx) error { return t.swapFile(ctx, g, next) })
	return failure(err, "swap file %s of job %s", next.Name, next.JobID)
}

func (t *tx) swapFile(ctx context.Context, g backup.FileGuard, next backup.File) error {
	if err := t.admit(ctx, g); err != nil {
		return err
	}
	old, err := findFile(ctx, t.statements, next.JobID, next.Name)
	if err != nil {
		return err
	}
	if old.Rev != next.Rev {
		return backup.E(backup.Conflict, "revision is %d, not %d", old.Rev, next.Rev)
	}
	if err := t.useFile(ctx, g, old, next); err != nil {
		return err
	}
	next.Recorded = backup.Progress{}
	if next.UploadID == old.UploadID {
		next.Recorded = old.Recorded
	}
	next.Rev++
	if err := t.dropParts(ctx, old, next); err != nil {
		return err
	}
	return t.putFile(ctx, old, next, nil)
}

// dropParts removes the parts that are of no use any more: all of a file that is done, else those of a replaced upload.
// They are by far the most rows, and would else stay as long as the job's row.
func (t *tx) dropParts(ctx context.Context, old, next backup.File) (err error) {
	switch {
	case next.Status == backup.FileDone:
		_, err = t.exec(ctx, "DELETE FROM parts WHERE job_id = ? AND file = ?", next.JobID, next.Name)
	case next.UploadID != old.UploadID:
		_, err = t.exec(ctx, "DELETE FROM parts WHERE job_id = ? AND file = ? AND upload_id <> ?", next.JobID, next.Name, next.UploadID)
	}
	return err
}

// admit refuses writes below a job that is not in the guard's state.
func (t *tx) admit(ctx context.Context, g backup.FileGuard) error {
	is, err := guards.find(ctx, t.statements, "WHERE job_id = ?", g.JobID)
	if err == nil && is != g {
		err = backup.E(backup.StaleAttempt, "job is %q in attempt %d, not %s in attempt %d", is.Status, is.Attempt, g.Status, g.Attempt)
	}
	return err
}

// putFile writes next over old as one more change, made by part if there is one.
func (t *tx) putFile(ctx context.Context, old, next backup.File, part *backup.PartWrite) error {
	next.Changes = old.Changes + 1
	t.changed(backup.Change{JobID: next.JobID, File: &backup.FileChange{Old: old, New: next}, Part: part})
	return files.put(ctx, t.statements, next)
}

// RecordPart implements step.FileStore.
func (s *Store) RecordPart(ctx context.Context, w backup.PartWrite) error {
	err := s.writer.write(ctx, func(ctx context.Context, t *tx) error { return t.recordPart(ctx, w) })
	return failure(err, "record part %d of file %s of job %s", w.Part.Number, w.File, w.JobID)
}

func (t *tx) recordPart(ctx context.Context, w backup.PartWrite) error {
	if err := t.admit(ctx, backup.Guard(w.JobID, w.Attempt)); err != nil {
		return err
	}
	file, err := findFile(ctx, t.statements, w.JobID, w.File)
	if err != nil {
		return err
	}
	if err := file.CheckPart(w); err != nil {
		return err
	}
	inserted, err := t.exec(ctx, `INSERT INTO parts (job_id, file, upload_id, number, etag, size_bytes, crc64nvme, recorded_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		w.JobID, w.File, w.UploadID, w.Part.Number, w.Part.ETag, w.Part.SizeBytes, bits{&w.Part.CRC64NVME}, millis{&w.At})
	if err != nil || inserted == 0 {
		return err
	}
	next := file
	next.Recorded.Parts++
	next.Recorded.Bytes += w.Part.SizeBytes
	next.Recorded.At = w.At
	return t.putFile(ctx, file, next, &w)
}

// Parts implements step.FileStore.
func (s *Store) Parts(ctx context.Context, f backup.File, first, last int) ([]backup.Part, error) {
	list, err := parts.list(ctx, s.reads,
		"WHERE job_id = ? AND file = ? AND upload_id = ? AND number BETWEEN ? AND ? ORDER BY number",
		f.JobID, f.Name, f.UploadID, first, last)
	return list, failure(err, "list parts of file %s of job %s", f.Name, f.JobID)
}
