package push_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/push"
	"github.com/sitevault/sitevault/internal/step"
)

const jobID = "01JD0000000000000000000001"

var epoch = time.Date(2026, 3, 1, 2, 30, 0, 0, time.UTC)

// view is what a hub reads: a running job with one file, until a test changes it.
type view struct {
	mu    sync.Mutex
	view  step.View
	fail  error // of the next read
	reads int
}

func newView() *view {
	site := backup.Site{UserID: "ada", SiteID: "blog", Providers: []backup.Provider{{Name: "files"}}}.WithDefaults()
	job := backup.NewJob(jobID, site, backup.Manual, epoch.AddDate(0, 0, 60), epoch, backup.DefaultPolicy())
	job.Status, job.Rev = backup.Running, 2
	file := backup.File{JobID: jobID, Name: "files", Status: backup.FileOpen, Pin: backup.Pin{SizeBytes: 40 << 20}, PartSizeBytes: 16 << 20, Changes: 1}
	return &view{view: step.View{Job: job, Files: []backup.File{file}, At: epoch}}
}

func (v *view) read(context.Context, string) (step.View, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.reads++
	if err := v.fail; err != nil {
		v.fail = nil
		return step.View{}, err
	}
	read := v.view
	read.Files = append([]backup.File(nil), read.Files...)
	return read, nil
}

func (v *view) timesRead() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.reads
}

// part records one more part and tells the hub.
func (v *view) part(h *push.Hub) {
	v.mu.Lock()
	f := &v.view.Files[0]
	f.Changes++
	f.Recorded.Parts++
	v.mu.Unlock()
	h.Notify(backup.Change{JobID: jobID, File: &backup.FileChange{}})
}

// becomes changes the job's status and tells the hub.
func (v *view) becomes(h *push.Hub, status backup.Status) {
	v.mu.Lock()
	old := v.view.Job
	v.view.Job.Status = status
	v.view.Job.Rev++
	next := v.view.Job
	v.mu.Unlock()
	h.Notify(backup.Change{JobID: jobID, Job: &backup.JobChange{Old: old, New: next}})
}

func never() { panic("a watcher that keeps up was dropped") }

func got(ch chan push.Message) (all []push.Message) {
	for {
		select {
		case m := <-ch:
			all = append(all, m)
		default:
			return all
		}
	}
}

// A watcher hears of the present state at once, then of changes at most once a second, each message following on the
// one before; a change of status is told without delay.
func TestHubCoalesces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newView()
		h := push.NewHub(v.read)
		defer h.Close()
		out := make(chan push.Message, 100)
		defer h.Watch(jobID, out, never)()
		synctest.Wait()
		first := got(out)
		if len(first) != 1 || first[0].Seq != 3 || first[0].Prev != 0 || first[0].Status != backup.Running || first[0].Progress.TotalParts != 3 {
			t.Fatalf("at first: %+v", first)
		}
		time.Sleep(push.Interval)
		for range 50 {
			v.part(h)
			synctest.Wait()
		}
		time.Sleep(push.Interval / 2)
		if early := got(out); len(early) > 1 {
			t.Errorf("%d messages in half an interval", len(early))
		} else if len(early) == 1 && early[0].Prev != 3 {
			t.Errorf("message %+v does not follow on 3", early[0])
		}
		time.Sleep(2 * push.Interval)
		if later := got(out); len(later) != 1 || later[0].Seq != 53 || later[0].Prev != 4 || later[0].Files[0].Progress.Parts != 50 {
			t.Errorf("after 50 parts: %+v", later)
		}
		v.part(h)
		synctest.Wait()
		got(out)
		began := time.Now()
		v.becomes(h, backup.Done)
		last := <-out
		if last.Status != backup.Done || time.Since(began) != 0 {
			t.Errorf("%s came after %s", last.Status, time.Since(began))
		}
		time.Sleep(time.Hour)
		if more := got(out); len(more) != 0 {
			t.Errorf("%d messages although nothing changed", len(more))
		}
	})
}

// A client that follows Seq and Prev notices every message it has not got, and only those.
func TestHubGaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newView()
		h := push.NewHub(v.read)
		defer h.Close()
		steady := make(chan push.Message, 100)
		defer h.Watch(jobID, steady, never)()
		for range 3 {
			v.part(h)
			time.Sleep(2 * push.Interval)
		}
		seen := int64(0)
		for _, m := range got(steady) {
			if m.Prev > seen || m.Seq <= seen {
				t.Errorf("message %d after %d follows on %d", m.Seq, seen, m.Prev)
			}
			seen = m.Seq
		}
		late := make(chan push.Message, 100)
		defer h.Watch(jobID, late, never)()
		time.Sleep(2 * push.Interval)
		if m := got(late); len(m) != 1 || m[0].Seq != seen || m[0].Prev != seen {
			t.Errorf("a late watcher gets %+v, the present state is %d", m, seen)
		}
	})
}

// A watcher that does not keep up is dropped and holds up nobody.
func TestHubDropsSlowWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newView()
		h := push.NewHub(v.read)
		defer h.Close()
		slow, quick := make(chan push.Message, 1), make(chan push.Message, 100)
		dropped := 0
		cancel := h.Watch(jobID, slow, func() { dropped++ })
		defer h.Watch(jobID, quick, never)()
		for range 5 {
			v.part(h)
			time.Sleep(2 * push.Interval)
		}
		if n := len(got(quick)); dropped != 1 || len(slow) != 1 || n < 5 {
			t.Errorf("dropped %d times, %d messages wait; the other got %d", dropped, len(slow), n)
		}
		cancel()
	})
}

// A read that fails is repeated, since it may have been the job's last change; a job that is gone is not asked for
// again and again.
func TestHubReadsAgain(t *testing.T) {
	for _, tc := range []struct {
		fail  error
		again bool
	}{{errors.New("the store is down"), true}, {backup.E(backup.NotFound, "purged"), false}} {
		synctest.Test(t, func(t *testing.T) {
			v := newView()
			h := push.NewHub(v.read)
			defer h.Close()
			out := make(chan push.Message, 100)
			defer h.Watch(jobID, out, never)()
			time.Sleep(2 * push.Interval)
			got(out)
			v.mu.Lock()
			v.fail = tc.fail
			v.mu.Unlock()
			before := v.timesRead()
			v.becomes(h, backup.Done)
			time.Sleep(10 * push.Interval)
			messages := got(out)
			if again := len(messages) == 1 && messages[0].Status == backup.Done; again != tc.again {
				t.Errorf("%v: %+v", tc.fail, messages)
			}
			if reads := v.timesRead() - before; reads > 2 {
				t.Errorf("%v: read %d times", tc.fail, reads)
			}
		})
	}
}

// Jobs that nobody watches are not read, and nobody hears of another job.
func TestHubWithoutWatchers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newView()
		h := push.NewHub(v.read)
		defer h.Close()
		v.part(h)
		time.Sleep(time.Minute)
		if v.timesRead() != 0 {
			t.Errorf("read %d times for nobody", v.timesRead())
		}
		out := make(chan push.Message, 10)
		cancel := h.Watch(jobID, out, never)
		synctest.Wait()
		got(out)
		h.Notify(backup.Change{JobID: "01JD0000000000000000000002"})
		time.Sleep(time.Minute)
		cancel()
		v.part(h)
		time.Sleep(time.Minute)
		if m := got(out); len(m) != 0 || v.timesRead() != 1 {
			t.Errorf("%d messages after %d reads", len(m), v.timesRead())
		}
	})
}

// Close ends all watching; a watcher that comes later hears nothing and breaks nothing.
func TestHubClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newView()
		h := push.NewHub(v.read)
		out := make(chan push.Message, 10)
		cancel := h.Watch(jobID, out, never)
		h.Close()
		v.part(h)
		h.Watch("01JD0000000000000000000002", out, never)()
		cancel()
		synctest.Wait()
		if len(got(out)) > 1 {
			t.Error("messages after the end")
		}
	})
}

// A message says what its reader would see: a job past its deadline has failed, in plain words.
func TestNewMessage(t *testing.T) {
	v := newView().view
	v.At = v.Job.DeadlineAt
	m := push.NewMessage(v, 2)
	if m.Status != backup.Failed || m.Error == nil || m.Error.Kind != backup.TimedOut || m.Error.Message != backup.TimedOut.Sentence() {
		t.Errorf("past its deadline: %+v", m)
	}
	if m.Type != "backup" || m.Seq != 3 || m.Prev != 2 || m.Attempt != 1 || len(m.Files) != 1 || m.Files[0].Name != "files" {
		t.Errorf("%+v", m)
	}
}
