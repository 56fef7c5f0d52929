package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"github.com/sitevault/sitevault/internal/backup"
)

// Source is the source of every event of ours.
const Source = "sitevault"

const (
	// maxEntries: https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html (read 2026-11).
	maxEntries = 10
	// An entry that EventBridge leaves out of a call that otherwise succeeds is sent again this often; the SDK tries
	// whole calls again.
	maxTries   = 4
	firstDelay = 100 * time.Millisecond
)

// Bus is an EventBridge bus.
type Bus struct {
	Client *eventbridge.Client
	Name   string // or ARN
}

// Publish puts the events on the bus in their order. It returns how many from the first on are there for sure; with an
// error the one after these is not, and of later ones some may be.
func (b Bus) Publish(ctx context.Context, events []Event) (published int, err error) {
	for published < len(events) {
		n := min(maxEntries, len(events)-published)
		put, err := b.put(ctx, events[published:published+n])
		published += put
		if err != nil {
			return published, backup.E(backup.StoreUnavailable, "publish %s: %w", events[published].EventID, err)
		}
	}
	return published, nil
}

// put sends one call's events until all are taken.
func (b Bus) put(ctx context.Context, events []Event) (put int, err error) {
	entries, err := b.entries(events)
	if err != nil {
		return 0, err
	}
	pending := make([]int, len(entries)) // places in events
	for i := range pending {
		pending[i] = i
	}
	for try := range maxTries {
		if err := pause(ctx, try); err != nil {
			return pending[0], err
		}
		var refused error
		if pending, refused, err = b.try(ctx, entries, pending); err != nil {
			return pending[0], err
		}
		if len(pending) == 0 {
			return len(events), nil
		}
		err = refused
	}
	return pending[0], err
}

// try sends the pending entries and returns those that were left out, and why the first was.
func (b Bus) try(ctx context.Context, entries []types.PutEventsRequestEntry, pending []int) (left []int, refused, err error) {
	var in eventbridge.PutEventsInput
	for _, i := range pending {
		in.Entries = append(in.Entries, entries[i])
	}
	out, err := b.Client.PutEvents(ctx, &in)
	if err != nil {
		return pending, nil, err
	}
	if len(out.Entries) != len(pending) {
		return pending, nil, fmt.Errorf("%d answers to %d events", len(out.Entries), len(pending))
	}
	for at, e := range out.Entries {
		if e.ErrorCode == nil {
			continue
		}
		if left = append(left, pending[at]); refused == nil {
			refused = errors.New(aws.ToString(e.ErrorCode) + ": " + aws.ToString(e.ErrorMessage))
		}
	}
	return left, refused, nil
}

func (b Bus) entries(events []Event) ([]types.PutEventsRequestEntry, error) {
	entries := make([]types.PutEventsRequestEntry, len(events))
	for i, e := range events {
		detail, err := json.Marshal(e)
		if err != nil {
			return nil, err
		}
		entries[i] = types.PutEventsRequestEntry{
			EventBusName: &b.Name, Source: aws.String(Source), DetailType: aws.String(string(e.Name)), Detail: aws.String(string(detail)), Time: &events[i].Time,
		}
	}
	return entries, nil
}

// pause waits longer before each further try.
func pause(ctx context.Context, tries int) error {
	if tries == 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(firstDelay << (tries - 1))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
