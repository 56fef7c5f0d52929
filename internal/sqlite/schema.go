package sqlite

import (
	"database/sql"
	"fmt"
)

// migrations bring a database from version i (kept in user_version) to i+1. What has been released is never edited.
var migrations = []string{`
CREATE TABLE sites (
	user_id    TEXT NOT NULL,
	site_id    TEXT NOT NULL,
	providers  TEXT NOT NULL,
	schedule   TEXT NOT NULL,
	keep_days  INTEGER NOT NULL,
	limits     TEXT NOT NULL,
	created_at INTEGER,
	updated_at INTEGER,
	rev        INTEGER NOT NULL,
	PRIMARY KEY (user_id, site_id)
) STRICT;

CREATE TABLE jobs (
	job_id             TEXT NOT NULL PRIMARY KEY,
	user_id            TEXT NOT NULL,
	site_id            TEXT NOT NULL,
	status             TEXT NOT NULL,
	triggered_by       TEXT NOT NULL,
	attempt            INTEGER NOT NULL,
	providers          TEXT NOT NULL,
	limits             TEXT NOT NULL,
	failure            TEXT,
	size_bytes         INTEGER NOT NULL,
	created_at         INTEGER,
	updated_at         INTEGER,
	started_at         INTEGER,
	deadline_at        INTEGER,
	finished_at        INTEGER,
	keep_until         INTEGER,
	delete_at          INTEGER,
	fenced_at          INTEGER,
	purge_at           INTEGER,
	due_at             INTEGER,
	cleanup            TEXT NOT NULL,
	cleanup_everything INTEGER NOT NULL,
	rev                INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX active_job_of_site ON jobs (user_id, site_id) WHERE status IN ('pending', 'running');
CREATE INDEX jobs_of_user ON jobs (user_id, job_id);
CREATE INDEX jobs_of_site ON jobs (user_id, site_id, job_id);
CREATE INDEX jobs_due ON jobs (due_at, job_id) WHERE due_at IS NOT NULL;
CREATE INDEX jobs_to_purge ON jobs (purge_at) WHERE purge_at IS NOT NULL;

CREATE TABLE idempotency_keys (
	user_id    TEXT NOT NULL,
	key        TEXT NOT NULL,
	body_hash  TEXT NOT NULL,
	job_id     TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE,
	expires_at INTEGER NOT NULL,
	PRIMARY KEY (user_id, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX keys_of_job ON idempotency_keys (job_id);
CREATE INDEX keys_to_purge ON idempotency_keys (expires_at);

CREATE TABLE files (
	job_id             TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE,
	name               TEXT NOT NULL,
	status             TEXT NOT NULL,
	attempt            INTEGER NOT NULL,
	upload_id          TEXT NOT NULL,
	object_key         TEXT NOT NULL,
	token              TEXT NOT NULL,
	etag               TEXT NOT NULL,
	size_bytes         INTEGER NOT NULL,
	part_size_bytes    INTEGER NOT NULL,
	crc64nvme          INTEGER NOT NULL,
	entries            INTEGER NOT NULL,
	uncompressed_bytes INTEGER NOT NULL,
	failure            TEXT,
	restarts           INTEGER NOT NULL,
	created_at         INTEGER,
	updated_at         INTEGER,
	finished_at        INTEGER,
	recorded_parts     INTEGER NOT NULL,
	recorded_bytes     INTEGER NOT NULL,
	changes            INTEGER NOT NULL,
	rev                INTEGER NOT NULL,
	PRIMARY KEY (job_id, name)
) STRICT;

CREATE TABLE parts (
	job_id      TEXT NOT NULL,
	file        TEXT NOT NULL,
	upload_id   TEXT NOT NULL,
	number      INTEGER NOT NULL,
	etag        TEXT NOT NULL,
	size_bytes  INTEGER NOT NULL,
	crc64nvme   INTEGER NOT NULL,
	recorded_at INTEGER,
	PRIMARY KEY (job_id, file, upload_id, number),
	FOREIGN KEY (job_id, file) REFERENCES files ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE tickets (
	digest     TEXT NOT NULL PRIMARY KEY,
	user_id    TEXT NOT NULL,
	expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX tickets_to_purge ON tickets (expires_at);
`, `
ALTER TABLE sites ADD COLUMN scheduled_at INTEGER;
UPDATE sites SET scheduled_at = updated_at;
`, `
ALTER TABLE files ADD COLUMN trouble TEXT;
`, `
ALTER TABLE files ADD COLUMN uploads INTEGER NOT NULL DEFAULT 0;
`, `
CREATE TABLE usage (
	user_id       TEXT NOT NULL PRIMARY KEY,
	sites         INTEGER NOT NULL,
	active_jobs   INTEGER NOT NULL,
	ranges        INTEGER NOT NULL,
	stored_bytes  INTEGER NOT NULL,
	fetched_bytes INTEGER NOT NULL,
	day           TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO usage SELECT user_id,
	(SELECT count(*) FROM sites WHERE sites.user_id = users.user_id),
	(SELECT count(*) FROM jobs WHERE jobs.user_id = users.user_id AND status IN ('pending', 'running')),
	(SELECT coalesce(sum(limits ->> 'parallelism'), 0) FROM jobs WHERE jobs.user_id = users.user_id AND status = 'running'),
	(SELECT coalesce(sum(files.size_bytes), 0) FROM files JOIN jobs USING (job_id)
		WHERE jobs.user_id = users.user_id AND jobs.status <> 'deleted' AND files.upload_id <> ''),
	0, ''
FROM (SELECT user_id FROM sites UNION SELECT user_id FROM jobs) AS users;
`, `
ALTER TABLE jobs ADD COLUMN tries INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN retries INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN last_error TEXT;
ALTER TABLE jobs ADD COLUMN next_try_at INTEGER;
UPDATE jobs SET retries = attempt - 1;
`, `
DELETE FROM parts WHERE NOT EXISTS (SELECT 1 FROM files
	WHERE files.job_id = parts.job_id AND files.name = parts.file AND files.upload_id = parts.upload_id AND files.status <> 'done');
`, `
ALTER TABLE files RENAME COLUMN trouble TO last_error;
`, `
ALTER TABLE tickets ADD COLUMN token_expires_at INTEGER;
`, `
ALTER TABLE files DROP COLUMN last_error;
ALTER TABLE files ADD COLUMN recorded_at INTEGER;
CREATE TABLE last_errors (
	job_id TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE,
	file   TEXT NOT NULL,
	error  TEXT NOT NULL,
	writes INTEGER NOT NULL,
	PRIMARY KEY (job_id, file)
) STRICT, WITHOUT ROWID;
`}

// migrate brings the database up to this program's version, one transaction a step.
func migrate(db *sql.DB) error {
	var version int
	if err := db.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if version > len(migrations) {
		return fmt.Errorf("the database has schema version %d, this program knows up to %d: use the newer program that wrote it",
			version, len(migrations))
	}
	for ; version < len(migrations); version++ {
		if err := migrateStep(db, version); err != nil {
			return fmt.Errorf("migrate schema to version %d: %w", version+1, err)
		}
	}
	return nil
}

func migrateStep(db *sql.DB, from int) error {
	t, err := db.Begin()
	if err != nil {
		return err
	}
	defer t.Rollback()
	if _, err := t.Exec(migrations[from]); err != nil {
		return err
	}
	if _, err := t.Exec(fmt.Sprintf("PRAGMA user_version = %d", from+1)); err != nil {
		return err
	}
	return t.Commit()
}
