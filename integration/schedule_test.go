package integration_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"

	schedules "github.com/sitevault/sitevault/internal/schedule"
)

// schedule is the one of the tenant's site.
func (d *deployment) schedule(t *testing.T, u *tenant) *scheduler.GetScheduleOutput {
	t.Helper()
	schedule, err := scheduler.NewFromConfig(d.config).GetSchedule(t.Context(), &scheduler.GetScheduleInput{
		GroupName: aws.String(name), Name: aws.String(schedules.ScheduleName(u.id, siteID)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return schedule
}
