package schedule_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/scheduler"

	"github.com/sitevault/sitevault/internal/awstest"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/schedule"
)

const targetARN = "arn:aws:lambda:eu-central-1:123456789012:function:daily-run"

func openScheduler(t *testing.T) (*awstest.Server, schedule.EventBridge) {
	t.Helper()
	server := awstest.New(t)
	return server, schedule.EventBridge{
		Client: scheduler.NewFromConfig(server.Config()), Group: "sitevault", Target: targetARN, Role: "arn:role", DeadLetters: "arn:queue",
	}
}

func scheduledSite(at, zone string) backup.Site {
	return backup.Site{UserID: "ada", SiteID: "blog", Schedule: backup.Schedule{At: at, TimeZone: zone}}
}

// A site's schedule invokes the function of daily runs every day at the site's own time, and follows its changes.
func TestEventBridgePut(t *testing.T) {
	server, schedules := openScheduler(t)
	for _, tc := range []struct{ at, zone, wantCron, wantZone string }{
		{"03:30", "Europe/Berlin", "cron(30 3 * * ? *)", "Europe/Berlin"},
		{"00:05", "", "cron(5 0 * * ? *)", "UTC"},
		{"23:59", "America/St_Johns", "cron(59 23 * * ? *)", "America/St_Johns"},
	} {
		if err := schedules.Put(t.Context(), scheduledSite(tc.at, tc.zone)); err != nil {
			t.Fatal(err)
		}
		got, ok := server.Schedules()["ada.blog"]
		if !ok || got.ScheduleExpression != tc.wantCron || got.ScheduleExpressionTimezone != tc.wantZone {
			t.Errorf("%s %s: %+v", tc.at, tc.zone, got)
		}
		if got.GroupName != "sitevault" || got.Target.Arn != targetARN || got.Target.RoleArn != "arn:role" || got.Target.DeadLetterConfig.Arn != "arn:queue" {
			t.Errorf("target %+v in group %s", got.Target, got.GroupName)
		}
		if got.FlexibleTimeWindow.Mode != "FLEXIBLE" || got.FlexibleTimeWindow.MaximumWindowInMinutes != 15 {
			t.Errorf("window %+v", got.FlexibleTimeWindow)
		}
		if want := `{"userId":"ada","siteId":"blog","scheduledAt":"<aws.scheduler.scheduled-time>"}`; got.Target.Input != want {
			t.Errorf("input %s", got.Target.Input)
		}
	}
	off := scheduledSite("", "")
	off.Schedule.Off = true
	for range 2 {
		if err := schedules.Put(t.Context(), off); err != nil {
			t.Error(err)
		}
	}
	if len(server.Schedules()) != 0 {
		t.Errorf("switched off: %+v", server.Schedules())
	}
}

// Deleting a schedule twice, or one that never was, is success.
func TestEventBridgeDelete(t *testing.T) {
	server, schedules := openScheduler(t)
	if err := schedules.Put(t.Context(), scheduledSite("03:30", "")); err != nil {
		t.Fatal(err)
	}
	server.Fail("DeleteSchedule", awstest.Throttled, awstest.Fault{Lost: true})
	for range 2 {
		if err := schedules.Delete(t.Context(), "ada", "blog"); err != nil {
			t.Error(err)
		}
	}
	if len(server.Schedules()) != 0 || server.Fired() != 2 {
		t.Errorf("%+v, %d faults", server.Schedules(), server.Fired())
	}
}

// The schedule stands whatever happens on the way: lost answers, throttling, and somebody else who creates it, deletes it
// or changes it at the same moment.
func TestEventBridgeRaces(t *testing.T) {
	conflict := awstest.Fault{Status: 409, Code: "ConflictException"}
	absent := awstest.Fault{Status: 404, Code: "ResourceNotFoundException"}
	for name, plan := range map[string]func(*awstest.Server){
		"answer to the creation lost": func(s *awstest.Server) { s.Fail("CreateSchedule", awstest.Fault{Lost: true}) },
		"throttled": func(s *awstest.Server) {
			s.Fail("UpdateSchedule", awstest.Fault{Status: 429, Code: "ThrottlingException"})
		},
		"created meanwhile, seen late":  func(s *awstest.Server) { s.Fail("UpdateSchedule", absent); s.Fail("CreateSchedule", conflict) },
		"changed at the same moment":    func(s *awstest.Server) { s.Fail("UpdateSchedule", conflict) },
		"created and deleted meanwhile": func(s *awstest.Server) { s.Fail("CreateSchedule", conflict) },
	} {
		server, schedules := openScheduler(t)
		plan(server)
		if err := schedules.Put(t.Context(), scheduledSite("03:30", "")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(server.Schedules()) != 1 || server.Fired() == 0 {
			t.Errorf("%s: %+v, %d faults", name, server.Schedules(), server.Fired())
		}
	}
}

// What does not come right is a failure of a known kind, after a bounded number of calls.
func TestEventBridgeFailures(t *testing.T) {
	server, schedules := openScheduler(t)
	for range 20 {
		server.Fail("UpdateSchedule", awstest.Fault{Status: 409, Code: "ConflictException"})
	}
	if err := schedules.Put(t.Context(), scheduledSite("03:30", "")); !backup.Is(err, backup.StoreUnavailable) || server.Fired() > 12 {
		t.Errorf("%v after %d calls", err, server.Fired())
	}
	server.Fail("DeleteSchedule", awstest.Fault{Status: 403, Code: "AccessDeniedException"})
	if err := schedules.Delete(t.Context(), "ada", "blog"); !backup.Is(err, backup.StoreUnavailable) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := schedules.Delete(ctx, "ada", "blog"); !errors.Is(err, context.Canceled) || backup.Is(err, backup.StoreUnavailable) {
		t.Errorf("after the end: %v", err)
	}
}

// No two sites share a name, and every name is one that the service takes.
func TestScheduleName(t *testing.T) {
	long := strings.Repeat("a", 63)
	seen := map[string]bool{}
	for _, site := range [][2]string{{"a", "b"}, {"a-b", "c"}, {"a", "b-c"}, {"a_b", "c"}, {long, "b"}, {long, "c"}, {long[:62], "b"}, {long + "a", long}} {
		name := schedule.ScheduleName(site[0], site[1])
		if seen[name] || len(name) > 64 || name == "" {
			t.Errorf("site %q: name %q", site, name)
		}
		seen[name] = true
	}
}

// A run starts the site's job for the time it was scheduled for, not for the time it arrives.
func TestDailyRuns(t *testing.T) {
	var got []any
	runs := schedule.DailyRuns{Start: func(_ context.Context, userID, siteID string, due time.Time) (backup.Job, bool, error) {
		got = []any{userID, siteID, due}
		return backup.Job{JobID: "job"}, true, nil
	}}
	out, err := runs.Handle(t.Context(), schedule.DailyRun{UserID: "ada", SiteID: "blog", ScheduledAt: "2026-03-01T02:30:00Z"})
	want := time.Date(2026, 3, 1, 2, 30, 0, 0, time.UTC)
	if err != nil || out != (schedule.DailyRunOut{JobID: "job", Started: true}) || got[0] != "ada" || got[1] != "blog" || !got[2].(time.Time).Equal(want) {
		t.Errorf("%+v, %v; started %v", out, err, got)
	}
	if _, err := runs.Handle(t.Context(), schedule.DailyRun{ScheduledAt: "<aws.scheduler.scheduled-time>"}); !backup.Is(err, backup.InvalidRequest) {
		t.Errorf("no time: %v", err)
	}
}
