// Package awstest imitates Step Functions, EventBridge and its Scheduler, Secrets Manager and the management API of API
// Gateway sockets for tests: their protocols on a loopback port, with the rules that the adapters rely on, and faults on
// demand. DynamoDB is minidyn's.
package awstest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	minidyn "github.com/truora/minidyn/server"
)

// Region and account of everything.
const (
	Region  = "eu-central-1"
	Account = "123456789012"
)

// Server is all of AWS that the tests need. It is safe for concurrent use.
type Server struct {
	URL string

	table http.Handler

	mu         sync.Mutex
	faults     map[string][]Fault // by operation
	fired      int
	calls      map[string]int
	executions map[string]*Execution
	schedules  map[string]Schedule
	bus        []BusEvent
	secrets    map[string]string
	sockets    map[string]*[]json.RawMessage
	// disconnected are the messages of sockets that the service has ended
	disconnected map[string][]json.RawMessage
}

// Fault is what the next call of an operation gets.
type Fault struct {
	Status int
	Code   string
	Lost   bool // the call is carried out, its answer gets lost
	Left   int  // of PutEvents: how many entries from the end on are left out of a call that succeeds
}

// Throttled refuses a call as AWS does when there are too many.
var Throttled = Fault{Status: http.StatusBadRequest, Code: "ThrottlingException"}

// New starts a server that the test stops.
func New(tb testing.TB) *Server {
	tb.Helper()
	s := &Server{
		table: minidyn.NewServer(), faults: map[string][]Fault{}, calls: map[string]int{}, executions: map[string]*Execution{},
		schedules: map[string]Schedule{}, secrets: map[string]string{}, sockets: map[string]*[]json.RawMessage{}, disconnected: map[string][]json.RawMessage{},
	}
	server := httptest.NewServer(s)
	tb.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

// Config is for clients in the test's process. They try again without waiting.
func (s *Server) Config() aws.Config {
	return aws.Config{
		Region: Region, BaseEndpoint: &s.URL, Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) {
				o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
			})
		},
	}
}

// Env is for processes that the test starts.
func (s *Server) Env() []string {
	return []string{
		"AWS_REGION=" + Region, "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_ENDPOINT_URL=" + s.URL, "AWS_EC2_METADATA_DISABLED=true",
	}
}

// Fail plans faults for the next calls of an operation, such as "StartExecution".
func (s *Server) Fail(operation string, faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[operation] = append(s.faults[operation], faults...)
}

// Fired is how many planned faults have hit a call.
func (s *Server) Fired() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fired
}

// Calls is how many calls of an operation there were, refused ones included.
func (s *Server) Calls(operation string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[operation]
}

// answer is what a call gets: a body, or an error with a code.
type answer struct {
	status int
	code   string
	body   any
}

func succeed(body any) answer               { return answer{status: http.StatusOK, body: body} }
func refuse(status int, code string) answer { return answer{status: status, code: code} }
func refuseValue(format string, a ...any) answer {
	return answer{400, "ValidationException", map[string]string{"message": fmt.Sprintf(format, a...)}}
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	target := r.Header.Get("X-Amz-Target")
	if strings.HasPrefix(target, "DynamoDB_") {
		s.table.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	operation, handle := s.route(r, target)
	if handle == nil {
		http.Error(w, "no such operation: "+r.Method+" "+r.URL.Path+" "+target, http.StatusNotImplemented)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[operation]++
	fault, planned := s.next(operation)
	var a answer
	switch {
	case planned && fault.Lost:
		handle(body)
		hangUp(w)
		return
	case planned && fault.Left > 0:
		a = s.putSome(body, fault.Left)
	case planned:
		a = refuse(fault.Status, fault.Code)
	default:
		a = handle(body)
	}
	a.write(w)
}

func (s *Server) next(operation string) (Fault, bool) {
	queue := s.faults[operation]
	if len(queue) == 0 {
		return Fault{}, false
	}
	s.faults[operation] = queue[1:]
	s.fired++
	return queue[0], true
}

func hangUp(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

func (a answer) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	if a.code != "" {
		w.Header().Set("X-Amzn-ErrorType", a.code)
		if a.body == nil {
			a.body = map[string]string{}
		}
		a.body = withType(a.body, a.code)
	}
	w.WriteHeader(a.status)
	if a.body != nil {
		_ = json.NewEncoder(w).Encode(a.body)
	}
}

func withType(body any, code string) any {
	if fields, ok := body.(map[string]string); ok {
		fields["__type"] = code
	}
	return body
}

type handler = func(body []byte) answer

// route finds the operation by its target, or by its path for those that have none.
func (s *Server) route(r *http.Request, target string) (operation string, handle handler) {
	if _, name, ok := strings.Cut(target, "."); ok {
		return name, map[string]handler{
			"StartExecution": s.startExecution, "StopExecution": s.stopExecution, "PutEvents": s.putEvents, "GetSecretValue": s.getSecretValue,
		}[name]
	}
	if name, ok := strings.CutPrefix(r.URL.Path, "/schedules/"); ok {
		return s.routeSchedule(r, name)
	}
	if _, id, ok := strings.Cut(r.URL.Path, "/@connections/"); ok && r.Method == http.MethodPost {
		return "PostToConnection", func(body []byte) answer { return s.postToConnection(id, body) }
	}
	if _, id, ok := strings.Cut(r.URL.Path, "/@connections/"); ok && r.Method == http.MethodDelete {
		return "DeleteConnection", func([]byte) answer { return s.deleteConnection(id) }
	}
	return "", nil
}
