package local

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"

	"github.com/sitevault/sitevault/internal/asl"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/fair"
	"github.com/sitevault/sitevault/internal/step"
)

// maxQueued bounds the executions that have begun or wait for a place. More stay pending rows, which the sweeper starts later.
const maxQueued = 10_000

// executions runs the state machine in this process. Nothing of a run is kept: a run that ended with the process is
// started again from its first state, and its steps find what is done already.
type executions struct {
	machine *asl.Machine
	// ended hears of every execution that failed or timed out by itself.
	ended  func(ctx context.Context, jobID string, attempt int, r asl.Result)
	log    *slog.Logger
	places *fair.Room

	ctx  context.Context // of all runs, ended by Close
	stop func()
	work sync.WaitGroup

	mu      sync.Mutex
	running map[string]*execution
}

type execution struct {
	abort func()
	done  chan struct{}
}

func newExecutions(places *fair.Room, log *slog.Logger) *executions {
	ctx, stop := context.WithCancel(context.Background())
	return &executions{log: log, places: places, ctx: ctx, stop: stop, running: map[string]*execution{}}
}

// Start implements step.Executions.
func (e *executions) Start(_ context.Context, job backup.Job) error {
	name := backup.ExecutionName(job.JobID, job.Attempt)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.running[name] != nil {
		return nil
	}
	if e.ctx.Err() != nil || len(e.running) >= maxQueued {
		return backup.E(backup.StoreUnavailable, "execution %s: no room", name)
	}
	ctx, abort := context.WithCancel(e.ctx)
	x, o := &execution{abort: abort, done: make(chan struct{})}, occupy(ctx, e.places, job)
	e.running[name] = x
	e.work.Go(func() {
		defer e.forget(name, x)
		e.run(ctx, job, o)
	})
	return nil
}

func (e *executions) forget(name string, x *execution) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.running, name)
	x.abort()
	close(x.done)
}

func (e *executions) run(ctx context.Context, job backup.Job, o *occupancy) {
	result := e.execute(ctx, job, o)
	if ctx.Err() != nil || result.Status == asl.Succeeded || result.Status == asl.Aborted {
		return // whoever aborted it sees to the rest
	}
	e.ended(ctx, job.JobID, job.Attempt, result)
}

func (e *executions) execute(ctx context.Context, job backup.Job, o *occupancy) asl.Result {
	defer o.end()
	if err := o.claim.Wait(ctx); err != nil {
		return asl.Result{Status: asl.Aborted, Cause: err.Error()}
	}
	input, err := json.Marshal(step.StartJobIn{JobID: job.JobID, Attempt: job.Attempt})
	if err != nil {
		return asl.Result{Status: asl.Failed, Error: string(backup.Internal), Cause: err.Error()}
	}
	r := e.machine.Run(context.WithValue(ctx, occupancyKey{}, o), asl.Execution{Name: backup.ExecutionName(job.JobID, job.Attempt), MachineName: "backup", Input: input},
		asl.Options{Sleep: o.sleep, Branches: o.change})
	e.log.InfoContext(ctx, "execution ended", "jobId", job.JobID, "attempt", job.Attempt, "status", r.Status, "error", r.Error,
		"historyEvents", r.HistoryEvents, "largestPayloadBytes", r.LargestPayloadBytes)
	return r
}

// Stop implements step.Executions: it returns when no step of the execution runs any more.
func (e *executions) Stop(ctx context.Context, jobID string, attempt int) error {
	name := backup.ExecutionName(jobID, attempt)
	e.mu.Lock()
	x := e.running[name]
	e.mu.Unlock()
	if x == nil {
		return nil
	}
	x.abort()
	select {
	case <-x.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop execution %s: %w", name, ctx.Err())
	}
}

// Close ends all runs and waits for them. Their jobs stay as they are and go on at the next start.
func (e *executions) Close() {
	e.stop()
	e.work.Wait()
}
