package statemachine_test

import (
	"container/heap"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/step"
	"github.com/sitevault/sitevault/statemachine"
)

// night is a simulated one: jobs are started by the real StartJob over real rows, asked for with the pauses of the state
// machine, and their ranges wait in one line for the workers that all users share. Only its clock is not real.
type night struct {
	*testing.T
	store   *backuptest.MemoryStore
	clock   time.Time
	agenda  agenda
	pause   func(try int) time.Duration
	workers int // that are free
	line    []func()
	refused map[string]int // starts, by user
	most    map[string]int // ranges at a time, by user
	moving  map[string]int
	done    map[string]time.Time // by job
}

// What a backup takes when nobody is in its way.
const (
	simulatedRanges = 20
	rangeTime       = time.Minute
	aloneTime       = simulatedRanges / backup.DefaultParallelism * rangeTime
)

func newNight(t *testing.T, q backup.Quotas) *night {
	return &night{
		T: t, store: backuptest.NewMemoryStoreWithin(q), clock: epoch, pause: roomPauses(t), workers: 300,
		refused: map[string]int{}, most: map[string]int{}, moving: map[string]int{}, done: map[string]time.Time{},
	}
}

// roomPauses are those of the state machine for a job without room.
func roomPauses(t *testing.T) func(try int) time.Duration {
	t.Helper()
	var machine struct {
		States map[string]struct {
			Retry []struct {
				ErrorEquals                                   []string
				IntervalSeconds, BackoffRate, MaxDelaySeconds float64
			}
		}
	}
	if err := json.Unmarshal(statemachine.Backup, &machine); err != nil {
		t.Fatal(err)
	}
	r := machine.States["StartJob"].Retry[0]
	if r.ErrorEquals[0] != string(backup.NoRoom) || r.MaxDelaySeconds == 0 {
		t.Fatalf("%+v", r)
	}
	random := rand.New(rand.NewPCG(1, 2))
	return func(try int) time.Duration {
		longest := min(r.MaxDelaySeconds, r.IntervalSeconds*math.Pow(r.BackoffRate, float64(try)))
		return time.Duration(random.Float64() * longest * float64(time.Second))
	}
}

// create is J1, and the start of the execution.
func (n *night) create(userID string, number int) (jobID string) {
	n.Helper()
	site := backup.Site{UserID: userID, SiteID: fmt.Sprint("site-", number)}.WithDefaults()
	job := backup.NewJob(fmt.Sprintf("01E2A%021d", number), site, backup.Daily, n.clock.AddDate(0, 0, 60), n.clock, backup.DefaultPolicy())
	job, err := n.store.CreateJob(n.Context(), job, backup.Idempotency{})
	if err != nil {
		n.Fatal(err)
	}
	n.start(job, 0)
	return job.JobID
}

func (n *night) start(job backup.Job, try int) {
	start := step.StartJob{Jobs: n.store, Policy: backup.DefaultPolicy(), Now: func() time.Time { return n.clock }}
	_, err := start.Handle(n.Context(), step.StartJobIn{JobID: job.JobID, Attempt: 1})
	if backup.Is(err, backup.NoRoom) {
		n.refused[job.UserID]++
		n.after(n.pause(try), func() { n.start(job, try+1) })
		return
	}
	if err != nil {
		n.Fatal(err)
	}
	left, lanes := simulatedRanges, job.Limits.Parallelism
	for range lanes {
		n.move(job, &left, &lanes)
	}
}

// move moves one range after the other, as the Map over the batches does.
func (n *night) move(job backup.Job, left, lanes *int) {
	if *left == 0 {
		if *lanes--; *lanes == 0 {
			n.finish(job)
		}
		return
	}
	*left--
	n.work(func() {
		n.moving[job.UserID]++
		n.most[job.UserID] = max(n.most[job.UserID], n.moving[job.UserID])
		n.after(rangeTime, func() {
			n.moving[job.UserID]--
			n.release()
			n.move(job, left, lanes)
		})
	})
}

func (n *night) finish(job backup.Job) {
	running, err := n.store.GetJob(n.Context(), job.JobID)
	if err == nil {
		running, err = running.Finish(1, 0, n.clock)
	}
	if err == nil {
		err = n.store.SwapJob(n.Context(), running)
	}
	if err != nil {
		n.Fatal(err)
	}
	n.done[job.JobID] = n.clock
}

// work takes a worker, or stands in line for one.
func (n *night) work(begin func()) {
	if n.workers == 0 {
		n.line = append(n.line, begin)
		return
	}
	n.workers--
	begin()
}

func (n *night) release() {
	n.workers++
	if len(n.line) > 0 {
		next := n.line[0]
		n.line = n.line[1:]
		n.work(next)
	}
}

func (n *night) after(d time.Duration, do func()) {
	heap.Push(&n.agenda, event{n.clock.Add(d), do})
}

// until lets time pass.
func (n *night) until(over func() bool) {
	for !over() {
		next := heap.Pop(&n.agenda).(event)
		n.clock = next.at
		next.do()
	}
}

type event struct {
	at time.Time
	do func()
}

// agenda is a heap by time.
type agenda []event

func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].at.Before(a[j].at) }
func (a agenda) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)        { *a = append(*a, x.(event)) }
func (a *agenda) Pop() any {
	last := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return last
}

// delay is how much longer than alone bob's single backup takes beside ada's thousand, all of which are due at once.
func (n *night) delay() time.Duration {
	n.Helper()
	for i := range 1000 {
		n.create("ada", i)
	}
	asked := epoch.Add(7 * time.Minute)
	n.until(func() bool { return !n.agenda[0].at.Before(asked) })
	n.clock = asked
	single := n.create("bob", 1000)
	n.until(func() bool { return !n.done[single].IsZero() })
	return n.done[single].Sub(asked) - aloneTime
}

// A user with a thousand due sites delays another's single backup by at most the time of one, whatever the workers are: his own
// backups wait for each other as pending ones. Without the quota of ranges his would stand before the other's at the workers.
func TestThousandSitesDelayNobody(t *testing.T) {
	n := newNight(t, backup.DefaultQuotas())
	delay := n.delay()
	if delay > aloneTime || n.refused["bob"] > 0 {
		t.Errorf("delayed by %s, refused %d times", delay, n.refused["bob"])
	}
	if quota := int(backup.DefaultQuotas().Ranges); n.most["ada"] != quota || n.refused["ada"] == 0 {
		t.Errorf("the thousand moved %d ranges at a time, were refused %d times", n.most["ada"], n.refused["ada"])
	}
	without := newNight(t, backup.Quotas{}).delay()
	if without <= aloneTime {
		t.Errorf("without the quota delayed by %s only: the simulation shows nothing", without)
	}
	t.Logf("%s later with the quota, of which %d starts were refused, and %s without", delay, n.refused["ada"], without)
}
