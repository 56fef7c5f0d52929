package functions_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/asl"
)

// programs is where the functions are built for this machine, once for all tests.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sitevault-functions")
	if err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-tags", "lambda.norpc", "-ldflags", "-s -w", "-o", dir+string(filepath.Separator), "./...")
	if out, err := build.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("%w\n%s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if built {
		dir, _ := programs()
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

var built bool // set by program, read after all tests

// program is the path of a built function.
func program(tb testing.TB, name string) string {
	tb.Helper()
	if testing.Short() {
		tb.Skip("SKIPPED: functions are not built in short runs")
	}
	built = true
	dir, err := programs()
	if err != nil {
		tb.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// function is a running function and the runtime API that it speaks to:
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html (read 2026-11).
type function struct {
	testing.TB
	name     string
	process  *exec.Cmd
	started  time.Time
	ready    chan time.Duration // from the start of the process to its first call
	ended    chan struct{}      // closed when the process has ended
	events   chan invocation
	output   *output
	busy     sync.Mutex // a function handles one event at a time
	mu       sync.Mutex
	waiting  map[string]chan outcome
	requests int
}

type invocation struct {
	id      string
	payload []byte
	timeout time.Duration
}

// outcome is what the function reports of an event.
type outcome struct {
	result  []byte
	failure []byte // as Step Functions sees it
}

// output is what a process writes, for tests to read while it runs.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

// wantOutput waits until the process has written all facts: its answer may be here before its output is.
func (f *function) wantOutput(facts ...string) {
	f.Helper()
	for _, fact := range facts {
		deadline := time.Now().Add(10 * time.Second)
		for !strings.Contains(f.output.String(), fact) {
			if time.Now().After(deadline) {
				f.Errorf("no %s in\n%s", fact, f.output)
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// start runs a function until the test ends. env is all of its environment.
func start(tb testing.TB, name string, env ...string) *function {
	tb.Helper()
	path := program(tb, name)
	f := &function{
		TB: tb, name: name, ready: make(chan time.Duration, 1), ended: make(chan struct{}), events: make(chan invocation), output: &output{}, waiting: map[string]chan outcome{},
	}
	server := httptest.NewServer(f)
	ctx, kill := context.WithCancel(context.Background())
	f.process = exec.CommandContext(ctx, path)
	f.process.Env = append(env, "AWS_LAMBDA_RUNTIME_API="+strings.TrimPrefix(server.URL, "http://"), "AWS_LAMBDA_FUNCTION_NAME="+name)
	f.process.Stdout, f.process.Stderr = f.output, f.output
	f.started = time.Now()
	if err := f.process.Start(); err != nil {
		tb.Fatal(err)
	}
	go func() {
		_ = f.process.Wait() // ProcessState tells how
		close(f.ended)
	}()
	tb.Cleanup(func() {
		kill()
		<-f.ended
		server.CloseClientConnections()
		server.Close()
	})
	return f
}

// ServeHTTP is the runtime API.
func (f *function) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/2018-06-01/runtime/invocation/")
	if path == "next" {
		f.next(w, r)
		return
	}
	id, kind, _ := strings.Cut(path, "/")
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	f.mu.Lock()
	done := f.waiting[id]
	delete(f.waiting, id)
	f.mu.Unlock()
	if done == nil {
		http.Error(w, "no such invocation", http.StatusBadRequest)
		return
	}
	if kind == "error" {
		done <- outcome{failure: body}
	} else {
		done <- outcome{result: body}
	}
	w.WriteHeader(http.StatusAccepted)
}

func (f *function) next(w http.ResponseWriter, r *http.Request) {
	select {
	case f.ready <- time.Since(f.started):
	default:
	}
	select {
	case i := <-f.events:
		w.Header().Set("Lambda-Runtime-Aws-Request-Id", i.id)
		w.Header().Set("Lambda-Runtime-Deadline-Ms", fmt.Sprint(time.Now().Add(i.timeout).UnixMilli()))
		w.Header().Set("Lambda-Runtime-Trace-Id", "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0")
		w.Header().Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:eu-central-1:123456789012:function:"+f.name)
		w.Write(i.payload)
	case <-r.Context().Done():
	}
}

// patience is how long a function may take in a test before it counts as hung.
const patience = 60 * time.Second

// awaitReady returns how long the function took from its start to its first call for work.
func (f *function) awaitReady() time.Duration {
	f.Helper()
	select {
	case took := <-f.ready:
		return took
	case <-f.ended:
		f.Fatalf("%s does not start:\n%s", f.name, f.output)
		return 0
	case <-time.After(patience):
		f.Fatalf("%s does not start:\n%s", f.name, f.output)
		return 0
	}
}

// invoke hands an event to the function and waits for what it reports.
func (f *function) invoke(payload []byte) outcome {
	f.busy.Lock()
	defer f.busy.Unlock()
	f.mu.Lock()
	f.requests++
	i := invocation{id: fmt.Sprintf("request-%s-%d", f.name, f.requests), payload: payload, timeout: 15 * time.Minute}
	done := make(chan outcome, 1)
	f.waiting[i.id] = done
	f.mu.Unlock()
	hung := time.After(patience)
	select {
	case f.events <- i:
	case <-hung:
		return outcome{failure: fmt.Appendf(nil, `{"errorType":"Test","errorMessage":"%s takes no event"}`, f.name)}
	}
	select {
	case o := <-done:
		return o
	case <-f.ended:
		return outcome{failure: fmt.Appendf(nil, `{"errorType":"Runtime.ExitError","errorMessage":"%s has ended"}`, f.name)}
	case <-hung:
		return outcome{failure: fmt.Appendf(nil, `{"errorType":"Test","errorMessage":"%s is hung"}`, f.name)}
	}
}

// task is the function as a state of the machine calls it.
func (f *function) task(_ context.Context, input json.RawMessage) (json.RawMessage, error) {
	o := f.invoke(input)
	if o.failure == nil {
		return o.result, nil
	}
	return nil, &asl.Error{Name: errorType(o.failure), Cause: string(o.failure)}
}

func errorType(failure []byte) string {
	var document struct{ ErrorType string }
	_ = json.Unmarshal(failure, &document)
	return document.ErrorType
}
