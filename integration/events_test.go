package integration_test

import (
	"testing"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/events"
)

// busHeard waits for the last event of the job and looks at all.
func (s *story) busHeard(t *testing.T) {
	heard := s.heard.hears(t, s.job.JobID, func(e busEvent) bool { return e.DetailType == string(backup.BackupJobFinished) })
	counts, ids := map[string]int{}, map[string]bool{}
	for _, e := range heard {
		counts[e.DetailType]++
		ids[e.Detail.EventID] = true
		if e.Source != events.Source || e.Detail.UserID != s.alice.id || e.Detail.SiteID != siteID || e.Detail.Attempt != 1 || e.Detail.Time.IsZero() {
			t.Errorf("event %+v", e)
		}
	}
	t.Log(counts)
	for event, count := range map[backup.EventName]int{
		backup.BackupJobCreated: 1, backup.BackupJobStarted: 1, backup.UploadTaskCreated: 2, backup.UploadPartTaskCreated: 2,
		backup.UploadFileTaskFinished: 2, backup.BackupJobFinished: 1,
	} {
		if counts[string(event)] != count {
			t.Errorf("%d events %s, not %d", counts[string(event)], event, count)
		}
	}
	if counts[string(backup.UploadPartTaskFinished)] == 0 {
		t.Error("no part task was heard to finish")
	}
	if len(ids) != len(heard) {
		t.Errorf("%d events have %d ids", len(heard), len(ids))
	}
}
