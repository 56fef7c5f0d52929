package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/s3store"
	"github.com/sitevault/sitevault/internal/storagecheck"
)

const (
	// askTime bounds the question at the start whether the storage answers.
	askTime = 10 * time.Second
	// trialTime bounds a trial.
	trialTime = 2 * time.Minute
	// trialEvery is how long a trial that went well is believed.
	trialEvery = 7 * 24 * time.Hour
	// refusedFor is how long a refusal is repeated before the next backup tries the storage again.
	refusedFor = time.Minute
)

// trust lets no backup begin in a storage of the operator's own unless a trial has shown that what is stored there can be
// proven and deleted. The trial that went well is remembered in the data folder.
type trust struct {
	storage *s3store.Store
	trial   storagecheck.Trial
	want    tried // but for the time
	path    string
	log     *slog.Logger
	now     func() time.Time

	turn      chan struct{} // of whoever looks at what follows, and makes the trial
	last      tried
	refusal   error
	refusedAt time.Time
}

// tried is a trial that went well.
type tried struct {
	Endpoint string    `json:"endpoint"`
	Bucket   string    `json:"bucket"`
	Version  string    `json:"version"` // of the program
	At       time.Time `json:"at"`
	// As in storagecheck.Report.
	Replaces      bool `json:"replaces,omitempty"`
	ListsByPrefix bool `json:"listsByPrefix,omitempty"`
}

func (s *Service) newTrust() *trust {
	c := s.config
	t := &trust{
		storage: s.storage, trial: newTrial(s.storage, c.DataDir), log: c.Log, now: c.Now, turn: make(chan struct{}, 1),
		want: tried{Endpoint: c.S3.Endpoint, Bucket: c.S3.Bucket, Version: c.Version}, path: filepath.Join(c.DataDir, "storage-check.json"),
	}
	if text, err := os.ReadFile(t.path); err == nil {
		_ = json.Unmarshal(text, &t.last) // what cannot be read is no trial
	}
	if t.fresh() {
		t.apply()
	}
	return t
}

// newTrial makes trials whose place in the bucket belongs to a place on this machine. Their clock is the machine's own,
// by which requests are signed.
func newTrial(storage storagecheck.Storage, place string) storagecheck.Trial {
	host, _ := os.Hostname()
	digest := sha256.Sum256([]byte(host + "\x00" + place))
	return storagecheck.Trial{Storage: storage, Now: time.Now, ID: hex.EncodeToString(digest[:8])}
}

// CheckStorage makes the trial of a storage; done is told each step.
func CheckStorage(ctx context.Context, c S3, done func(storagecheck.Step)) (storagecheck.Report, error) {
	store, err := s3store.Open(ctx, c.store())
	if err != nil {
		return storagecheck.Report{}, err
	}
	trial := newTrial(store, "storage check")
	trial.Done = done
	ctx, cancel := context.WithTimeout(ctx, trialTime)
	defer cancel()
	return trial.Run(ctx)
}

// atStart refuses a storage that is known to be no good. One that does not answer may come up later; it is tried then.
func (t *trust) atStart(ctx context.Context) error {
	asked, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	err := t.storage.CheckBucket(asked)
	if err == nil || !backup.Is(err, backup.StorageUnavailable) {
		if err == nil && t.fresh() {
			return nil
		}
		err = t.try(ctx)
	}
	if backup.Is(err, backup.StorageUnavailable) {
		t.log.WarnContext(ctx, "the storage does not answer; backups wait for it", "endpoint", t.want.Endpoint, "error", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("storage %s: %w", t.want.Endpoint, err)
	}
	return nil
}

// Trusted tells what is known of the storage once it may be trusted. A storage that has been trusted before is not doubted
// because it does not answer now: that is for the backups to wait for.
func (t *trust) Trusted(ctx context.Context) (replaces bool, err error) {
	known, err := t.check(ctx)
	return known.Replaces, err
}

// check returns the trial by which the storage may be trusted.
func (t *trust) check(ctx context.Context) (tried, error) {
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return tried{}, backup.E(backup.StorageUnavailable, "wait for the trial of the storage: %w", ctx.Err())
	}
	if t.fresh() {
		return t.last, nil
	}
	if t.refusal != nil && t.now().Sub(t.refusedAt) < refusedFor {
		return tried{}, t.refusal
	}
	err := t.try(ctx)
	if backup.Is(err, backup.StorageUnavailable) && t.last.sameStorage(t.want) {
		t.log.WarnContext(ctx, "the trial of the storage is due, and it does not answer", "endpoint", t.want.Endpoint, "error", err)
		return t.last, nil
	}
	return t.last, err
}

func (t tried) sameStorage(other tried) bool {
	return t.Endpoint == other.Endpoint && t.Bucket == other.Bucket
}

func (t *trust) fresh() bool {
	age := t.now().Sub(t.last.At)
	return t.last.sameStorage(t.want) && t.last.Version == t.want.Version && age >= 0 && age < trialEvery
}

func (t *trust) try(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, trialTime)
	defer cancel()
	report, err := t.trial.Run(ctx)
	if err != nil {
		t.refusal, t.refusedAt = nil, t.now()
		if backup.Is(err, backup.StorageRefused) {
			t.refusal = err
		}
		return err
	}
	t.refusal, t.last = nil, t.want
	t.last.At, t.last.Replaces, t.last.ListsByPrefix = t.now(), report.Replaces, report.ListsByPrefix
	t.apply()
	for _, s := range report.Steps {
		if s.Note != "" {
			t.log.InfoContext(ctx, "the storage differs from Amazon's", "endpoint", t.want.Endpoint, "note", s.Note)
		}
	}
	return t.remember()
}

// apply tells the storage what the trial has shown.
func (t *trust) apply() {
	if t.last.ListsByPrefix {
		t.storage.ListsByPrefix()
	}
}

// remember replaces the file as a whole.
func (t *trust) remember() error {
	text, err := json.Marshal(t.last)
	if err != nil {
		return err
	}
	if err := errors.Join(os.WriteFile(t.path+".new", text, 0o600), os.Rename(t.path+".new", t.path)); err != nil {
		return fmt.Errorf("remember the trial of the storage: %w", err)
	}
	return nil
}
