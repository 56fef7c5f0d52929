package dynamo

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

// partRetention is how long the row of a part lives. A part is of use until its upload is completed or given up, and
// the storage gives up an unfinished upload itself after a day.
const partRetention = 30 * 24 * time.Hour

// Files implements step.FileStore. While a file is being written, its counters may for a moment be those of before or
// after.
func (s *Store) Files(ctx context.Context, jobID string) ([]backup.File, error) {
	rows, err := s.readFiles(ctx, jobID)
	if err != nil {
		return nil, failure(err, "list files of job %s", jobID)
	}
	files, err := rows.counted()
	return rows.withErrors(files), failure(err, "list files of job %s", jobID)
}

// filesRows are the rows of a job's files, which do not hold the counts of their parts, of its gates, which do, and of the
// files' last errors.
type filesRows struct {
	files  []fileRow
	gates  []item
	errors []errorRow
}

func (s *Store) readFiles(ctx context.Context, jobID string) (rows filesRows, err error) {
	items, err := s.query(ctx, inPartition(partition("JOB", jobID), SortKey+" BETWEEN :from AND :to", "FILE#", "GATE#~"), math.MaxInt)
	for _, it := range items {
		if err == nil {
			err = rows.add(it)
		}
	}
	return rows, err
}

func (r *filesRows) add(it item) error {
	switch typeOf(it) {
	case gateType:
		r.gates = append(r.gates, it)
	case ErrorType:
		row, err := unmarshal[errorRow](it)
		r.errors = append(r.errors, row)
		return err
	default:
		row, err := unmarshal[fileRow](it)
		r.files = append(r.files, row)
		return err
	}
	return nil
}

// counted are the files with the counts of their parts.
func (r filesRows) counted() (files []backup.File, err error) {
	for _, row := range r.files {
		for _, g := range r.gates {
			err = errors.Join(err, addCounts(&row.File, g))
		}
		files = append(files, row.File)
	}
	return files, err
}

// withErrors gives files their last errors. Those of files without a row come as files of their own.
func (r filesRows) withErrors(files []backup.File) []backup.File {
	for _, e := range r.errors {
		i, found := slices.BinarySearchFunc(files, e.File, func(f backup.File, name string) int { return strings.Compare(f.Name, name) })
		if !found {
			files = slices.Insert(files, i, backup.File{JobID: e.JobID, Name: e.File})
		}
		files[i].LastError = &e.Failure
		files[i].Changes += e.Writes
	}
	return files
}

// GetFile implements step.FileStore.
func (s *Store) GetFile(ctx context.Context, jobID, name string) (backup.File, error) {
	file, err := s.findFile(ctx, jobID, name)
	if err == nil && file.Rev == 0 {
		err = backup.E(backup.NotFound, "no such file")
	}
	return file, failure(err, "get file %s of job %s", name, jobID)
}

// findFile returns a file of Rev 0 when there is no row.
func (s *Store) findFile(ctx context.Context, jobID, name string) (backup.File, error) {
	files, err := s.Files(ctx, jobID)
	if at := slices.IndexFunc(files, func(f backup.File) bool { return f.Name == name }); at >= 0 {
		return files[at], err
	}
	return backup.File{}, err
}

// SwapFile implements step.FileStore.
func (s *Store) SwapFile(ctx context.Context, g backup.FileGuard, next backup.File) error {
	return failure(s.swapFile(ctx, g, next), "swap file %s of job %s", next.Name, next.JobID)
}

func (s *Store) swapFile(ctx context.Context, g backup.FileGuard, next backup.File) error {
	old, err := s.readFile(ctx, next)
	if err != nil {
		return err
	}
	stale := backup.E(backup.StaleAttempt, "job is not %s in attempt %d", g.Status, g.Attempt)
	moved := backup.E(backup.Conflict, "revision is not %d", next.Rev)
	if old.Rev != next.Rev {
		return s.lost(ctx, g, stale, moved)
	}
	row := fileRow{header: header{fileKey(next.JobID, next.Name), FileType}, File: next, Held: s.held(next)}
	row.Rev, row.Changes, row.Recorded, row.LastError = next.Rev+1, old.Changes+1, backup.Progress{}, nil
	replaced, err := s.put(row, atRevision(next.Rev), moved)
	if err != nil {
		return err
	}
	use, err := s.useOfFile(ctx, g, old, next)
	if err != nil {
		return err
	}
	writes := []write{s.check(jobKey(g.JobID), jobIs(g), stale), replaced}
	return s.transactUsing(ctx, use, append(writes, s.gatesOfFile(old.File, next)...)...)
}

// readFile returns the row that next is to replace; the zero File when there is none, or none is to be.
func (s *Store) readFile(ctx context.Context, next backup.File) (fileRow, error) {
	if next.Rev == 0 {
		return fileRow{}, nil
	}
	it, err := s.get(ctx, fileKey(next.JobID, next.Name))
	if err != nil {
		return fileRow{}, err
	}
	return unmarshal[fileRow](it)
}

// lost tells why a swap cannot be made whose row has moved on: a stale guard comes first.
func (s *Store) lost(ctx context.Context, g backup.FileGuard, stale, moved error) error {
	job, err := s.readJob(ctx, g.JobID)
	switch {
	case err != nil:
		return err
	case g != backup.FileGuard{JobID: job.JobID, Status: job.Status, Attempt: job.Attempt}:
		return stale
	}
	return moved
}

func jobIs(g backup.FileGuard) condition {
	return condition{
		expression: "#status = :status AND #attempt = :attempt",
		names:      map[string]string{"#status": "Status", "#attempt": "Attempt"},
		values:     item{":status": str(g.Status), ":attempt": number(int64(g.Attempt))},
	}
}

// errRecorded is the refusal of a part's row.
var errRecorded = errors.New("the part is recorded already")

// RecordPart implements step.FileStore.
func (s *Store) RecordPart(ctx context.Context, w backup.PartWrite) error {
	err := s.recordPart(ctx, w)
	if errors.Is(err, errRecorded) {
		err = nil
	}
	return failure(err, "record part %d of file %s of job %s", w.Part.Number, w.File, w.JobID)
}

func (s *Store) recordPart(ctx context.Context, w backup.PartWrite) error {
	at := key{partPartition(w.JobID, w.File, w.UploadID), partSort(w.Part.Number)}
	row, err := s.put(partRow{header{at, PartType}, w, ttl(w.At.Add(partRetention))}, absent, errRecorded)
	if err != nil {
		return err
	}
	return s.transact(ctx, s.enter(w), row)
}

// Parts implements step.FileStore.
func (s *Store) Parts(ctx context.Context, f backup.File, first, last int) ([]backup.Part, error) {
	if first > last {
		return nil, nil
	}
	q := inPartition(partPartition(f.JobID, f.Name, f.UploadID), SortKey+" BETWEEN :from AND :to", partSort(first), partSort(last))
	items, err := s.query(ctx, q, math.MaxInt)
	if err != nil {
		return nil, failure(err, "list parts of file %s of job %s", f.Name, f.JobID)
	}
	parts, err := unmarshalAll(items, func(r partRow) backup.Part { return r.Part })
	return parts, failure(err, "list parts of file %s of job %s", f.Name, f.JobID)
}
