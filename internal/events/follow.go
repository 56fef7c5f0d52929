package events

import (
	"context"

	"github.com/sitevault/sitevault/internal/backup"
)

// Delivered is an event as a rule of the bus hands it to a function.
type Delivered struct {
	DetailType backup.EventName `json:"detail-type"`
	Detail     Event            `json:"detail"`
}

// Follower is the function clean: what is to be removed after a job's end is removed without waiting for the sweeper.
type Follower struct {
	Follow func(ctx context.Context, jobID string) error // step.Cleaner's
}

// FollowedOut is empty.
type FollowedOut struct{}

// Handle hands on the job that the event is about.
func (f Follower) Handle(ctx context.Context, in Delivered) (FollowedOut, error) {
	if !backup.ValidJobID(in.Detail.JobID) {
		return FollowedOut{}, backup.E(backup.InvalidRequest, "event %s names no job", in.DetailType)
	}
	return FollowedOut{}, f.Follow(ctx, in.Detail.JobID)
}
