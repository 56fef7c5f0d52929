// Package storagecheck makes a trial of a storage before backups are trusted to it: whatever a backup asks of a storage is
// asked once, rightly and wrongly, in some twenty requests and 5 MiB.
package storagecheck

import (
	"context"
	"errors"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
)

// Storage is what is tried.
type Storage interface {
	step.Uploader
	step.Objects
	step.Sweeping
	Inspector
}

// Inspector asks what only a trial wants to know.
type Inspector interface {
	// Clock is the storage's time, zero if unknown, as it answered a question about the bucket. The error is about the bucket.
	Clock(ctx context.Context) (time.Time, error)
	// ListsUpload tells whether the listing of open uploads under a prefix shows one of key.
	ListsUpload(ctx context.Context, prefix, key string) (bool, error)
	// ListsVersions tells whether the listing of versions shows one of key.
	ListsVersions(ctx context.Context, key string) (bool, error)
}

// Step is one thing that was tried.
type Step struct {
	Name         string `json:"name"`
	OK           bool   `json:"ok"`
	Milliseconds int64  `json:"milliseconds"`
	Note         string `json:"note,omitempty"`  // what the storage has otherwise, and Sitevault works around
	Error        string `json:"error,omitempty"` // what it answered
}

// Report is what a trial found.
type Report struct {
	OK      bool   `json:"ok"`
	Refusal string `json:"refusal,omitempty"` // one sentence: what is wrong and what to do
	Steps   []Step `json:"steps"`
	// ListsByPrefix is true where all uploads under a prefix are listed.
	ListsByPrefix bool `json:"listsByPrefix,omitempty"`
	// Replaces is true where an object is put over another although it is asked not to. Then only multipart uploads are
	// safe: each has a key of its own, and is gone once it is completed.
	Replaces bool `json:"replaces,omitempty"`
}

// Trial is one trial of a storage.
type Trial struct {
	Storage Storage
	Now     func() time.Time
	// ID names the trial's place in the bucket. A trial with the same ID removes what one has left that was killed.
	ID string
	// Done is told each step when it is over; nil: nobody is.
	Done func(Step)
}

// prefix begins with what no user's id can have.
const prefix = "sitevault.check/"

// cleanTime bounds the removal of what a trial has left.
const cleanTime = time.Minute

// Run makes the trial. The error is StorageRefused with one sentence that says what is wrong and what to do, or
// StorageUnavailable where the storage does not answer, which says nothing about it. Nothing stays in the storage, also
// when ctx ends midway.
func (t Trial) Run(ctx context.Context) (Report, error) {
	r := &run{Trial: t, prefix: prefix + t.ID + "/"}
	r.key, r.small, r.aborted = r.prefix+"trial.zip", r.prefix+"small.zip", r.prefix+"aborted.zip"
	err := r.steps(ctx)
	if cleaned := r.clean(ctx); err == nil {
		err = cleaned
	}
	r.report.OK = err == nil
	if backup.Is(err, backup.StorageRefused) {
		r.report.Refusal = err.Error()
	}
	return r.report, err
}

// run is a trial under way.
type run struct {
	Trial
	report   Report
	prefix   string
	key      string // of the object that is made
	small    string // of the one that is stored in one request
	aborted  string // of an upload that is aborted
	uploadID string
	parts    []backup.Part

	bucketErr error // of the question that also told the time
}

func (r *run) keys() []string { return []string{r.key, r.aborted} }

func (r *run) steps(ctx context.Context) error {
	for _, s := range trialSteps {
		if err := r.one(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) one(ctx context.Context, s trialStep) error {
	began := time.Now()
	note, err := s.try(r, ctx)
	done := Step{Name: s.name, OK: err == nil, Note: note, Milliseconds: time.Since(began).Milliseconds()}
	if err != nil {
		done.Error = err.Error()
	}
	r.report.Steps = append(r.report.Steps, done)
	if r.Done != nil {
		r.Done(done)
	}
	return judge(s, err)
}

// judge turns what went wrong in a step into the sentence of its refusal.
func judge(s trialStep, err error) error {
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return err
	case backup.Is(err, backup.StorageUnavailable):
		return backup.E(backup.StorageUnavailable, "the trial of the storage stopped at %q: %w", s.name, err)
	}
	return backup.E(backup.StorageRefused, "the storage %s: %s (%w)", s.fault, s.advice, err)
}

// clean removes everything that the trial has made, although ctx may be over.
func (r *run) clean(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
	defer cancel()
	return r.one(ctx, removal)
}
