package schedule

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/aws-sdk-go-v2/service/scheduler/types"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
)

// EventBridge keeps one schedule of EventBridge Scheduler for each site. A schedule invokes the function of the daily
// runs within FlexibleWindow after the site's time, in the site's time zone. Unlike backup.Schedule.Next, the service
// leaves out the run of the day on which the clocks jump over its time; the sweep makes up for it (step.CatchUp).
type EventBridge struct {
	Client *scheduler.Client
	Group  string // of the schedules
	// Target is the ARN of the function, Role that of the role which may invoke it, and DeadLetters that of the queue
	// for runs that it could not be invoked for.
	Target, Role, DeadLetters string
}

var _ step.Schedules = EventBridge{}

const (
	// FlexibleWindow spreads runs that share a time.
	FlexibleWindow = 15 * time.Minute
	// A run that cannot be delivered is tried again for as long as a backup started then is still that day's.
	maxRunAge     = 6 * time.Hour
	maxDeliveries = 50
	// maxNameLength: https://docs.aws.amazon.com/scheduler/latest/APIReference/API_CreateSchedule.html (read 2026-11).
	maxNameLength = 64
	// maxWrites bounds how often a schedule that comes and goes meanwhile is written anew.
	maxWrites = 4
)

// DailyRun is what a schedule sends. EventBridge Scheduler fills in the time for which the run was scheduled, whenever
// it is delivered.
type DailyRun struct {
	UserID      string `json:"userId"`
	SiteID      string `json:"siteId"`
	ScheduledAt string `json:"scheduledAt"` // RFC 3339
}

// scheduledTime: https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-context-attributes.html (read 2026-11).
const scheduledTime = "<aws.scheduler.scheduled-time>"

// ScheduleName is the name of a site's schedule: "<userID>.<siteID>", or a digest of it where that is too long. Neither
// id holds a dot, so that no two sites share a name.
func ScheduleName(userID, siteID string) string {
	name := userID + "." + siteID
	if len(name) <= maxNameLength {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:maxNameLength/2])
}

// Put implements step.Schedules. A site whose schedule is off has none.
func (e EventBridge) Put(ctx context.Context, site backup.Site) error {
	if site.Schedule.Off {
		return e.Delete(ctx, site.UserID, site.SiteID)
	}
	plan, err := e.plan(site)
	if err != nil {
		return failure(err, "plan", site.UserID, site.SiteID)
	}
	for range maxWrites {
		if err = e.update(ctx, plan); isNotFound(err) {
			err = e.create(ctx, plan)
		}
		if !isConflict(err) {
			break
		}
	}
	return failure(err, "put", site.UserID, site.SiteID)
}

// Delete implements step.Schedules.
func (e EventBridge) Delete(ctx context.Context, userID, siteID string) error {
	_, err := e.Client.DeleteSchedule(ctx, &scheduler.DeleteScheduleInput{Name: aws.String(ScheduleName(userID, siteID)), GroupName: &e.Group})
	if isNotFound(err) {
		return nil
	}
	return failure(err, "delete", userID, siteID)
}

func (e EventBridge) plan(site backup.Site) (scheduler.CreateScheduleInput, error) {
	input, err := runInput(site)
	if err != nil {
		return scheduler.CreateScheduleInput{}, err
	}
	expression, err := cron(site.Schedule.At)
	if err != nil {
		return scheduler.CreateScheduleInput{}, err
	}
	zone := site.Schedule.TimeZone
	if zone == "" {
		zone = "UTC"
	}
	return scheduler.CreateScheduleInput{
		Name: aws.String(ScheduleName(site.UserID, site.SiteID)), GroupName: &e.Group,
		ScheduleExpression: &expression, ScheduleExpressionTimezone: &zone,
		FlexibleTimeWindow: &types.FlexibleTimeWindow{
			Mode: types.FlexibleTimeWindowModeFlexible, MaximumWindowInMinutes: aws.Int32(int32(FlexibleWindow / time.Minute)),
		},
		Target: &types.Target{
			Arn: &e.Target, RoleArn: &e.Role, Input: &input,
			DeadLetterConfig: &types.DeadLetterConfig{Arn: &e.DeadLetters},
			RetryPolicy: &types.RetryPolicy{
				MaximumEventAgeInSeconds: aws.Int32(int32(maxRunAge / time.Second)), MaximumRetryAttempts: aws.Int32(maxDeliveries),
			},
		},
	}, nil
}

// runInput keeps the angle brackets of scheduledTime as they are: EventBridge Scheduler looks for it letter by letter.
func runInput(site backup.Site) (string, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(DailyRun{UserID: site.UserID, SiteID: site.SiteID, ScheduledAt: scheduledTime})
	return strings.TrimSpace(b.String()), err
}

// cron is the expression for every day at "HH:MM".
func cron(at string) (string, error) {
	t, err := time.Parse("15:04", at)
	if err != nil {
		return "", fmt.Errorf("time of day %q: %w", at, err)
	}
	return fmt.Sprintf("cron(%d %d * * ? *)", t.Minute(), t.Hour()), nil
}

func (e EventBridge) create(ctx context.Context, plan scheduler.CreateScheduleInput) error {
	_, err := e.Client.CreateSchedule(ctx, &plan)
	return err
}

// update replaces the whole schedule: what is left out of an update falls back to its default.
func (e EventBridge) update(ctx context.Context, p scheduler.CreateScheduleInput) error {
	_, err := e.Client.UpdateSchedule(ctx, &scheduler.UpdateScheduleInput{
		Name: p.Name, GroupName: p.GroupName, ScheduleExpression: p.ScheduleExpression, ScheduleExpressionTimezone: p.ScheduleExpressionTimezone,
		FlexibleTimeWindow: p.FlexibleTimeWindow, Target: p.Target,
	})
	return err
}

func isNotFound(err error) bool {
	_, ok := errors.AsType[*types.ResourceNotFoundException](err)
	return ok
}

func isConflict(err error) bool {
	_, ok := errors.AsType[*types.ConflictException](err)
	return ok
}

func failure(err error, operation, userID, siteID string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s schedule of site %s of user %s: %w", operation, siteID, userID, err)
	}
	return backup.E(backup.StoreUnavailable, "%s schedule of site %s of user %s: %w", operation, siteID, userID, err)
}

// DailyRuns is the function daily-run, which the schedules invoke.
type DailyRuns struct {
	Start func(ctx context.Context, userID, siteID string, due time.Time) (job backup.Job, started bool, err error)
}

// DailyRunOut says which job is the run's; none when the site is gone, its schedule is off or a backup is under way.
type DailyRunOut struct {
	JobID   string `json:"jobId,omitempty"`
	Started bool   `json:"started"` // by this call
}

// Handle starts the run. Delivered again, it starts nothing.
func (d DailyRuns) Handle(ctx context.Context, in DailyRun) (DailyRunOut, error) {
	due, err := time.Parse(time.RFC3339, in.ScheduledAt)
	if err != nil {
		return DailyRunOut{}, backup.E(backup.InvalidRequest, "scheduledAt %q is not a time", in.ScheduledAt)
	}
	job, started, err := d.Start(ctx, in.UserID, in.SiteID, due)
	return DailyRunOut{JobID: job.JobID, Started: started}, err
}
