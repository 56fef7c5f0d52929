package step_test

import (
	"context"
	"io"
	"sync"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/step"
)

var (
	_ step.Exporter   = (*exports)(nil)
	_ step.Executions = (*executions)(nil)
)

// exports keeps the contract of step.Exporter for contents in memory, until a test scripts an answer.
type exports struct {
	mu     sync.Mutex
	served map[string]*export // by URL
	asked  []step.Export
}

type export struct {
	content backuptest.Content
	pin     backup.Pin
	fetches map[int64]int // by offset
	// onPin and onRange answer the next calls, one each; nil stands for the honest answer.
	onPin   []error
	onRange []error
	// body changes the bodies of all ranges; nil: as they are.
	body func(offset int64, body io.Reader) io.Reader
}

// serve exports a content from now on; another ETag makes it another version.
func (x *exports) serve(url string, content backuptest.Content, etag string) *export {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.served[url]
	if e == nil {
		e = &export{fetches: map[int64]int{}}
		x.served[url] = e
	}
	e.content, e.pin = content, backup.Pin{ETag: etag, SizeBytes: content.Size()}
	return e
}

func (x *exports) of(name string) *export { return x.served["https://example.org/"+name] }

func (e *export) total() (fetches int) {
	for _, n := range e.fetches {
		fetches += n
	}
	return fetches
}

// Pin implements step.Exporter.
func (x *exports) Pin(ctx context.Context, e step.Export) (backup.Pin, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.asked = append(x.asked, e)
	served := x.served[e.URL]
	if served == nil {
		return backup.Pin{}, backup.E(backup.ProviderNotFound, "no export %s", e.URL)
	}
	if err := scripted(&served.onPin); err != nil {
		return backup.Pin{}, err
	}
	return served.pin, ctx.Err()
}

func scripted(answers *[]error) error {
	if len(*answers) == 0 {
		return nil
	}
	next := (*answers)[0]
	*answers = (*answers)[1:]
	return next
}

// Range implements step.Exporter.
func (x *exports) Range(ctx context.Context, e step.Export, pin backup.Pin, offset, lengthBytes int64) (io.ReadCloser, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.asked = append(x.asked, e)
	served := x.served[e.URL]
	served.fetches[offset]++
	if err := scripted(&served.onRange); err != nil {
		return nil, err
	}
	if pin != served.pin {
		return nil, backup.E(backup.ProviderChanged, "the export is %s now", served.pin.ETag)
	}
	if offset < 0 || lengthBytes < 1 || offset+lengthBytes > pin.SizeBytes {
		return nil, backup.E(backup.ProviderWrongRange, "%d bytes at %d of %d", lengthBytes, offset, pin.SizeBytes)
	}
	var body io.Reader = io.NewSectionReader(served.content, offset, lengthBytes)
	if served.body != nil {
		body = served.body(offset, body)
	}
	return io.NopCloser(body), ctx.Err()
}

// failAfter is a body that breaks off.
func failAfter(body io.Reader, bytes int64, err error) io.Reader {
	return io.MultiReader(io.LimitReader(body, bytes), brokenReader{err})
}

type brokenReader struct{ err error }

func (b brokenReader) Read([]byte) (int, error) { return 0, b.err }

// fetches counts the ranges that were asked for.
func (x *exports) fetches() (n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, served := range x.served {
		for _, times := range served.fetches {
			n += times
		}
	}
	return n
}

// executions notes what was started and stopped.
type executions struct {
	mu      sync.Mutex
	started []string
	stopped []string
}

// Start implements step.Executions.
func (x *executions) Start(_ context.Context, job backup.Job) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.started = append(x.started, backup.ExecutionName(job.JobID, job.Attempt))
	return nil
}

// Stop implements step.Executions.
func (x *executions) Stop(_ context.Context, jobID string, attempt int) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.stopped = append(x.stopped, backup.ExecutionName(jobID, attempt))
	return nil
}
