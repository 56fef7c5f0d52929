package integration_test

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/backup"
	schedules "github.com/sitevault/sitevault/internal/schedule"
)

// siteIsScheduled registers Alice's site through the API.
func (s *story) siteIsScheduled(t *testing.T) {
	body := api.SiteBody{Providers: s.agent.providers(secretRef), Schedule: backup.Schedule{At: "03:30", TimeZone: "Europe/Berlin"}}
	if _, err := s.alice.PutSite(t.Context(), siteID, body, ""); err != nil {
		t.Fatal(err)
	}
	schedule := s.schedule(t)
	if got := aws.ToString(schedule.ScheduleExpression) + " " + aws.ToString(schedule.ScheduleExpressionTimezone); got != "cron(30 3 * * ? *) Europe/Berlin" {
		t.Errorf("the site's schedule is %s", got)
	}
	want := "arn:aws:lambda:" + region + ":" + accountID + ":function:" + name + "-daily-run"
	if schedule.Target == nil || aws.ToString(schedule.Target.Arn) != want || aws.ToString(schedule.Target.RoleArn) == "" ||
		schedule.Target.DeadLetterConfig == nil {
		t.Errorf("the schedule's target is %+v", schedule.Target)
	}
}

// schedule is the one of Alice's site.
func (s *story) schedule(t *testing.T) *scheduler.GetScheduleOutput {
	t.Helper()
	schedule, err := scheduler.NewFromConfig(s.config).GetSchedule(t.Context(), &scheduler.GetScheduleInput{
		GroupName: aws.String(name), Name: aws.String(schedules.ScheduleName(s.alice.id, siteID)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return schedule
}

// scheduleFires lets a copy of the site's schedule, with its target, role and input, come due now. The emulator does not
// fill in the time, so that is done here.
func (s *story) scheduleFires(t *testing.T) {
	schedule := s.schedule(t)
	const placeholder = "<aws.scheduler.scheduled-time>"
	now := time.Now().UTC()
	input := strings.ReplaceAll(aws.ToString(schedule.Target.Input), placeholder, now.Format(time.RFC3339))
	if input == aws.ToString(schedule.Target.Input) {
		t.Errorf("the schedule's input %s does not ask for the time", input)
	}
	schedule.Target.Input = &input
	_, err := scheduler.NewFromConfig(s.config).CreateSchedule(t.Context(), &scheduler.CreateScheduleInput{
		GroupName: schedule.GroupName, Name: aws.String("now"), FlexibleTimeWindow: schedule.FlexibleTimeWindow, Target: schedule.Target,
		ScheduleExpression: aws.String("at(" + now.Format("2006-01-02T15:04:05") + ")"),
	})
	if err != nil {
		t.Fatal(err)
	}
	var daily api.Backup
	await(t, "the schedule has made a backup", time.Minute, func() bool {
		for job, err := range s.alice.Backups(t.Context(), siteID) {
			if err != nil {
				t.Fatal(err)
			}
			if job.Trigger == backup.Daily {
				daily = job
				return true
			}
		}
		return false
	})
	s.alice.reaches(t, daily.JobID, backup.Done)
}
