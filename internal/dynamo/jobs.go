package dynamo

import (
	"context"
	"errors"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

// GetJob implements step.JobStore.
func (s *Store) GetJob(ctx context.Context, jobID string) (backup.Job, error) {
	job, err := s.readJob(ctx, jobID)
	if err == nil && (job.Rev == 0 || s.expired(job)) {
		err = backup.E(backup.NotFound, "no such job")
	}
	if err != nil {
		return backup.Job{}, failure(err, "get job %s", jobID)
	}
	return job, nil
}

// expired tells whether the job's row only waits for DynamoDB to remove it, which can take days.
func (s *Store) expired(j backup.Job) bool {
	return j.Status == backup.Deleted && !j.PurgeAt.IsZero() && !s.now().Before(j.PurgeAt)
}

// readJob returns the zero Job when there is none.
func (s *Store) readJob(ctx context.Context, jobID string) (backup.Job, error) {
	row, err := s.readJobRow(ctx, jobID)
	return row.Job, err
}

func (s *Store) readJobRow(ctx context.Context, jobID string) (jobRow, error) {
	it, err := s.get(ctx, jobKey(jobID))
	if err != nil {
		return jobRow{}, err
	}
	return unmarshal[jobRow](it)
}

// SwapJob implements step.JobStore. It reads the row first: what else changes with a job depends on its old state,
// which stays what was read for as long as the revision does.
func (s *Store) SwapJob(ctx context.Context, next backup.Job) error {
	old, err := s.readJobRow(ctx, next.JobID)
	if err == nil && (next.Rev == 0 || old.Rev != next.Rev) {
		err = backup.E(backup.Conflict, "revision is %d, not %d", old.Rev, next.Rev)
	}
	if err == nil {
		err = s.swapJob(ctx, old, next)
	}
	return failure(err, "swap job %s", next.JobID)
}

func (s *Store) swapJob(ctx context.Context, old jobRow, next backup.Job) error {
	writes, err := s.jobWrites(old.Job, next)
	if err != nil {
		return err
	}
	use := s.useOfJob(old, next)
	if ttlOf(next) != ttlOf(old.Job) {
		rows, err := s.readFiles(ctx, next.JobID)
		if err != nil {
			return err
		}
		writes = append(writes, s.stamps(next, rows)...)
		if old.Status != backup.Deleted {
			use.counted.StoredBytes -= heldBy(rows.files)
		}
	}
	return s.transactUsing(ctx, use, writes...)
}

// jobWrites replaces a job's row, takes or frees its site, and opens or shuts its gates.
func (s *Store) jobWrites(old, next backup.Job) ([]write, error) {
	row, err := s.put(s.newJobRow(next), atRevision(next.Rev), backup.E(backup.Conflict, "revision is not %d", next.Rev))
	if err != nil {
		return nil, err
	}
	writes := []write{row}
	switch {
	case next.Active() && !old.Active():
		slot, err := s.put(slotRow{header{slotKey(next), slotType}, next.JobID}, absent,
			backup.E(backup.SiteBusy, "another job of site %s is active", next.SiteID))
		if err != nil {
			return nil, err
		}
		writes = append(writes, slot)
	case old.Active() && !next.Active():
		ours := condition{expression: "JobID = :job", values: item{":job": str(next.JobID)}}
		writes = append(writes, s.remove(slotKey(next), ours, backup.E(backup.Internal, "the site is not held by its active job")))
	}
	return append(writes, s.gatesOfJob(old, next)...), nil
}

// newJobRow is the row of job with its next revision.
func (s *Store) newJobRow(j backup.Job) jobRow {
	j.Rev++
	row := jobRow{header: header{jobKey(j.JobID), JobType}, Job: j, Counted: s.counts(), TTL: ttlOf(j)}
	if !j.DueAt.IsZero() {
		row.DuePK, row.DueSK = duePartition(shardOf(j.JobID)), dueSort(j.DueAt, j.JobID)
	}
	return row
}

// ttlOf is the time to live of a job's row; 0 until it is deleted.
func ttlOf(j backup.Job) int64 {
	if j.Status != backup.Deleted {
		return 0
	}
	return ttl(j.PurgeAt)
}

// stamps gives the few other rows of a deleted job its time to live. No file is opened and no error recorded any more while
// a job is being deleted, so that none can slip through. Parts have their own time to live.
func (s *Store) stamps(j backup.Job, rows filesRows) []write {
	keys := listKeys(j)
	for _, f := range rows.files {
		keys = append(keys, fileKey(j.JobID, f.Name))
	}
	for _, e := range rows.errors {
		keys = append(keys, errorKey(j.JobID, e.File))
	}
	stamp := condition{names: map[string]string{"#ttl": TTLAttribute}, values: item{":ttl": number(ttlOf(j))}}
	var writes []write
	for _, k := range keys {
		writes = append(writes, s.update(k, "SET #ttl = :ttl", stamp, nil))
	}
	return writes
}

// The refusals of the idempotency row, and of the row with the site's newest id.
var (
	errKeyUsed  = errors.New("the key was used before")
	errNotAfter = backup.E(backup.Conflict, "the site has a newer job")
)

// newestRetention is how long a site's newest id is remembered: its older backups may be kept for so long.
const newestRetention = backup.MaxKeepDays*24*time.Hour + backup.DeletedRowRetention

// maxOvertaken bounds how often a new job of a site may be overtaken by others.
const maxOvertaken = 8

// CreateJob implements step.JobStore. A key counts as expired from ExpiresAt on, by the new job's CreatedAt.
func (s *Store) CreateJob(ctx context.Context, job backup.Job, k backup.Idempotency) (backup.Job, error) {
	stored, err := s.createJob(ctx, job, k)
	for tries := 0; errors.Is(err, errNotAfter) && tries < maxOvertaken; tries++ {
		stored, err = s.createAfterNewest(ctx, job, k)
	}
	if errors.Is(err, errKeyUsed) {
		stored, err = s.jobOfKey(ctx, k)
	}
	if err != nil {
		return backup.Job{}, failure(err, "create job %s", job.JobID)
	}
	return stored, nil
}

func (s *Store) createJob(ctx context.Context, job backup.Job, k backup.Idempotency) (backup.Job, error) {
	writes, err := s.creation(job, k)
	if err != nil {
		return backup.Job{}, err
	}
	if err := s.transactUsing(ctx, s.useOfJob(jobRow{}, job), writes...); err != nil {
		return backup.Job{}, err
	}
	it, err := marshal(s.newJobRow(job))
	if err != nil {
		return backup.Job{}, err
	}
	row, err := unmarshal[jobRow](it)
	return row.Job, err
}

// createAfterNewest is for a job whose id is not above all others of its site: the clock has gone back, or another job
// was created in the same millisecond.
func (s *Store) createAfterNewest(ctx context.Context, job backup.Job, k backup.Idempotency) (backup.Job, error) {
	it, err := s.get(ctx, newestKey(job))
	if err != nil {
		return backup.Job{}, err
	}
	newest, err := unmarshal[newestRow](it)
	if err != nil {
		return backup.Job{}, err
	}
	job.JobID = backup.JobIDAfter(newest.JobID, job.JobID)
	return s.createJob(ctx, job, k)
}

// creation lists the rows of a new job in the order in which their refusals tell: the key before the site's newest id,
// that before the job, and the job before its site.
func (s *Store) creation(job backup.Job, k backup.Idempotency) (writes []write, err error) {
	if k.Key != "" {
		row := keyRow{header{idempotencyKey(k.UserID, k.Key), keyType}, k, job.JobID, ttl(k.ExpiresAt)}
		free := condition{
			expression: absent.expression + " OR ExpiresAt <= :now",
			values:     item{":now": millis(job.CreatedAt)},
		}
		used, err := s.put(row, free, errKeyUsed)
		if err != nil {
			return nil, err
		}
		writes = append(writes, used)
	}
	newest, err := s.put(newestRow{header{newestKey(job), newestType}, job.JobID, ttl(job.CreatedAt.Add(newestRetention))},
		condition{absent.expression + " OR JobID < :job", nil, item{":job": str(job.JobID)}}, errNotAfter)
	if err != nil {
		return nil, err
	}
	rows, err := s.jobWrites(backup.Job{}, job)
	if err != nil {
		return nil, err
	}
	writes = append(append(writes, newest), rows...)
	for _, at := range listKeys(job) {
		row, err := s.put(listRow{header: header{at, listType}}, condition{}, nil)
		if err != nil {
			return nil, err
		}
		writes = append(writes, row)
	}
	return writes, nil
}

// jobOfKey returns the job that the key has made.
func (s *Store) jobOfKey(ctx context.Context, k backup.Idempotency) (backup.Job, error) {
	it, err := s.get(ctx, idempotencyKey(k.UserID, k.Key))
	if err != nil {
		return backup.Job{}, err
	}
	first, err := unmarshal[keyRow](it)
	switch {
	case err != nil:
		return backup.Job{}, err
	case first.JobID == "":
		return backup.Job{}, backup.E(backup.Conflict, "key %q has just expired", k.Key)
	case first.BodyHash != k.BodyHash:
		return backup.Job{}, backup.E(backup.IdempotencyReuse, "the key made job %s from another request", first.JobID)
	}
	job, err := s.readJob(ctx, first.JobID)
	if err == nil && job.Rev == 0 {
		err = backup.E(backup.Conflict, "job %s of key %q is gone", first.JobID, k.Key)
	}
	return job, err
}
