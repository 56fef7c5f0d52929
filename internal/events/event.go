// Package events tells the world outside what happens to backups. It reads the stream of the table, puts a domain event
// on the bus for every transition, pushes to sockets, counts, and looks after what the time to live has removed.
//
// The stream delivers at least once. Each event has an id that follows from the change that it tells of, so that whoever
// acts on an event can drop the second one.
package events

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

// Event is the detail of a domain event on the bus. Its detail-type is its name.
type Event struct {
	Name backup.EventName `json:"-"`

	EventID string    `json:"eventId"` // the same for the same change, however often it is told
	Time    time.Time `json:"time"`    // of the change
	JobID   string    `json:"jobId"`
	UserID  string    `json:"userId"`
	SiteID  string    `json:"siteId"`
	Attempt int       `json:"attempt"`
	Status  string    `json:"status"` // of the job, the file or the part task

	File        string      `json:"file,omitempty"`      // of events about a file or a part task
	FirstPart   int         `json:"firstPart,omitempty"` // of part tasks: the parts FirstPart..LastPart, inclusive
	LastPart    int         `json:"lastPart,omitempty"`
	FailureKind backup.Kind `json:"failureKind,omitempty"`
	// Seq is the revision of the job (job events) or of the file (file events): of two events about the same one the
	// higher is the newer.
	Seq int64 `json:"seq,omitempty"`
}

// ofJob is the event of a job's change, if it is one that is told.
func ofJob(c backup.JobChange) []Event {
	next := c.New
	name := backup.JobEvent(c.Old, next)
	if next.Rev == 0 || name == "" {
		return nil
	}
	e := Event{
		Name: name, EventID: fmt.Sprintf("%s/%d/%s", next.JobID, next.Rev, name), Time: next.UpdatedAt.UTC(),
		JobID: next.JobID, UserID: next.UserID, SiteID: next.SiteID, Attempt: next.Attempt, Status: string(next.Status), Seq: next.Rev,
	}
	if next.Failure != nil {
		e.FailureKind = next.Failure.Kind
	}
	return []Event{e}
}

// ofFile are the events of a file's change; job is the file's.
func ofFile(c backup.FileChange, job backup.Job) (events []Event) {
	next := c.New
	if next.Rev == 0 {
		return nil
	}
	for _, name := range backup.FileEvents(c.Old, next) {
		e := aboutFile(name, next, job)
		e.EventID, e.Time, e.Seq = fmt.Sprintf("%s/%s/%d/%s", next.JobID, next.Name, next.Rev, name), next.UpdatedAt.UTC(), next.Rev
		if name == backup.UploadPartTaskCreated {
			e.FirstPart, e.LastPart = 1, next.PartCount()
		}
		events = append(events, e)
	}
	return events
}

// ofTask is the event of a part task that has been finished by the part recorded at the given time.
func ofTask(b backup.Batch, f backup.File, job backup.Job, at time.Time) Event {
	e := aboutFile(backup.UploadPartTaskFinished, f, job)
	upload := sha256.Sum256([]byte(f.UploadID))
	e.EventID = fmt.Sprintf("%s/%s/%s/%d-%d/%s", f.JobID, f.Name, hex.EncodeToString(upload[:8]), b.First, b.Last, e.Name)
	e.Time, e.Status, e.FirstPart, e.LastPart, e.FailureKind = at.UTC(), "done", b.First, b.Last, ""
	return e
}

func aboutFile(name backup.EventName, f backup.File, job backup.Job) Event {
	e := Event{
		Name: name, JobID: f.JobID, UserID: job.UserID, SiteID: job.SiteID, Attempt: f.Attempt, Status: string(f.Status), File: f.Name,
	}
	if f.Failure != nil {
		e.FailureKind = f.Failure.Kind
	}
	return e
}
