package local_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/e2e"
)

// backups are so many backups of sites of their own that are held at their first call of the export.
type backups struct {
	s       *e2e.Service
	exports []*e2e.Export
	holds   []*e2e.Rule
	jobs    []string
}

func start(t *testing.T, atOnce, count int) *backups {
	t.Helper()
	c := e2e.Config(t, e2e.NewStorage(t))
	c.Executions, c.HangAfter = atOnce, time.Hour // a held export is at work
	b := &backups{s: e2e.Start(t, c)}
	for i := range count {
		export := e2e.NewExport(t, uint64(i), 1)
		b.exports, b.holds = append(b.exports, export), append(b.holds, export.HoldBefore(e2e.Is(e2e.HEAD)))
		site := fmt.Sprint("site-", i)
		b.s.PutSite(site, e2e.Exports{"files": export})
		b.jobs = append(b.jobs, b.s.Create(site))
	}
	return b
}

// begun counts the backups that have got to their export.
func (b *backups) begun() (n int) {
	for _, e := range b.exports {
		n += min(1, e.Gate.Seen(e2e.HEAD))
	}
	return n
}

// So many executions run at once as there are slots; the others wait as pending backups and follow.
func TestSlots(t *testing.T) {
	b := start(t, 2, 5)
	ended := map[int]bool{}
	for len(ended) < len(b.jobs) {
		want := min(len(ended)+2, len(b.jobs))
		e2e.Eventually(t, fmt.Sprint(want, " have begun"), func() bool { return b.begun() >= want })
		if n := b.begun(); n != want {
			t.Fatalf("%d have begun while %d have ended", n, len(ended))
		}
		for i, e := range b.exports {
			begun := e.Gate.Seen(e2e.HEAD) > 0
			if status := b.s.Get(b.jobs[i]).Status; !begun && status != backup.Pending {
				t.Errorf("job %d has not begun and is %s", i, status)
			}
			if begun && !ended[i] {
				b.holds[i].Release()
				b.s.Await(b.jobs[i], backup.Done)
				ended[i] = true
				break
			}
		}
	}
}

// A backup that waits for a slot can be cancelled and deleted; its export never hears of it.
func TestEndingWhileWaiting(t *testing.T) {
	b := start(t, 1, 3)
	e2e.Eventually(t, "the first has begun", func() bool { return b.begun() == 1 })
	first := 0
	for b.exports[first].Gate.Seen(e2e.HEAD) == 0 {
		first++
	}
	one, two := (first+1)%3, (first+2)%3
	b.s.Act(b.jobs[one], "cancel")
	b.s.Delete(b.jobs[two])
	b.s.Fails(b.jobs[one], backup.Cancelled)
	b.s.Await(b.jobs[two], backup.Deleted)
	b.holds[first].Release()
	b.s.Await(b.jobs[first], backup.Done)
	if n := b.begun(); n != 1 {
		t.Errorf("%d exports were asked", n)
	}
}

// Stopping the service keeps running and waiting backups as they are; all go on at the next start.
func TestStopKeepsJobs(t *testing.T) {
	b := start(t, 1, 3)
	e2e.Eventually(t, "the first has begun", func() bool { return b.begun() == 1 })
	for _, hold := range b.holds {
		hold.Release()
	}
	b.s.Restart()
	for i, jobID := range b.jobs {
		if job := b.s.Await(jobID, backup.Done); job.Attempt != 1 {
			t.Errorf("job %d is done in attempt %d", i, job.Attempt)
		}
	}
}

// Cancelling waits until no step of the execution runs any more: until what it had sent to the storage is answered.
func TestStopWaits(t *testing.T) {
	storage := e2e.NewStorage(t)
	s := e2e.Start(t, e2e.Config(t, storage))
	s.PutSite("shop", e2e.Exports{"files": e2e.NewExport(t, 1, 2)})
	held := storage.HoldAfter(e2e.Is(e2e.UploadPart(1)))
	jobID := s.Create("shop")
	held.Reached(t)
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		s.Act(jobID, "cancel")
	}()
	s.Fails(jobID, backup.Cancelled)
	select {
	case <-answered:
		t.Error("answered while a part was on its way")
	default:
	}
	held.Release()
	<-answered
	storage.Empties(t)
}
