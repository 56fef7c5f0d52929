package push_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/sitevault/sitevault/internal/awstest"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/dynamo"
	"github.com/sitevault/sitevault/internal/push"
	"github.com/sitevault/sitevault/internal/step"
)

// gateway is API Gateway with sockets, and their rows in a table.
type gateway struct {
	*testing.T
	server   *awstest.Server
	store    *dynamo.Store
	clock    time.Time
	pusher   push.Pusher
	requests push.Requests
}

func newGateway(t *testing.T) *gateway {
	t.Helper()
	g := &gateway{T: t, server: awstest.New(t), clock: epoch}
	client := dynamodb.NewFromConfig(g.server.Config())
	if _, err := client.CreateTable(t.Context(), dynamo.Table("rows")); err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return g.clock }
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	g.store = dynamo.New(client, "rows", now, func() float64 { return 0 }).WithQuotas(backup.Quotas{Sockets: 20})
	sender := push.Gateway{Client: apigatewaymanagementapi.NewFromConfig(g.server.Config())}
	g.pusher = push.Pusher{Watching: g.store, Sender: sender, Now: now, Log: log}
	g.requests = push.Requests{Sockets: g.store, Status: step.Status{Jobs: g.store, Files: g.store, Now: now}, Sender: sender, Log: log}
	return g
}

// connect opens a socket of the user, both at API Gateway and in the table.
func (g *gateway) connect(id, userID string) {
	g.Helper()
	g.server.OpenSocket(id)
	if err := g.store.OpenSocket(g.Context(), backup.Socket{SocketID: id, UserID: userID, ExpiresAt: epoch.Add(2 * time.Hour), ClosesAt: epoch.Add(2 * time.Hour)}); err != nil {
		g.Fatal(err)
	}
}

func (g *gateway) job(n int) backup.Job {
	g.Helper()
	site := backup.Site{UserID: "ada", SiteID: fmt.Sprintf("blog-%d", n), Providers: []backup.Provider{{Name: "files"}}}.WithDefaults()
	job, err := g.store.CreateJob(g.Context(),
		backup.NewJob(fmt.Sprintf("01JD%022d", n), site, backup.Manual, epoch.AddDate(0, 0, 60), epoch, backup.DefaultPolicy()), backup.Idempotency{})
	if err != nil {
		g.Fatal(err)
	}
	return job
}

// change is one more write to the job.
func (g *gateway) change(jobID string) {
	g.Helper()
	job, err := g.store.GetJob(g.Context(), jobID)
	if err == nil {
		err = g.store.SwapJob(g.Context(), job)
	}
	if err != nil {
		g.Fatal(err)
	}
}

func (g *gateway) say(id, format string, args ...any) {
	g.Helper()
	if err := g.requests.Serve(g.Context(), id, fmt.Appendf(nil, format, args...)); err != nil {
		g.Fatal(err)
	}
}

func (g *gateway) push(jobID string, urgent bool) (failed int) {
	g.Helper()
	failed, err := g.pusher.Push(g.Context(), jobID, urgent, func(ctx context.Context) (step.View, error) {
		return g.requests.Status.Read(ctx, jobID)
	})
	if err != nil {
		g.Fatal(err)
	}
	return failed
}

// A socket whose token has expired is told nothing more of a job: at the next push and at the next request of its client it
// hears why, is disconnected and forgotten. Others go on.
func TestGatewayEndsExpiredSockets(t *testing.T) {
	g := newGateway(t)
	job := g.job(1)
	for id, life := range map[string]time.Duration{"pushed": time.Minute, "asks": time.Minute, "lasting": time.Hour} {
		g.server.OpenSocket(id)
		if err := g.store.OpenSocket(t.Context(), backup.Socket{SocketID: id, UserID: "ada", ExpiresAt: epoch.Add(life), ClosesAt: epoch.Add(2 * time.Hour)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{"pushed", "lasting"} {
		g.say(id, `{"action":"subscribe","jobId":%q}`, job.JobID)
	}
	g.clock = epoch.Add(time.Minute)
	g.change(job.JobID)
	if failed := g.push(job.JobID, true); failed > 0 {
		t.Errorf("%d messages failed", failed)
	}
	g.say("asks", `{"action":"subscribe","jobId":%q}`, job.JobID)
	for id, want := range map[string]int{"pushed": 2, "asks": 1} {
		messages, gone := g.server.Disconnected(id)
		if !gone || len(messages) != want || !strings.Contains(string(messages[want-1]), `"kind":"Unauthenticated"`) {
			t.Errorf("%s: disconnected %t after %s", id, gone, messages)
		}
	}
	if open, expired, err := g.store.Watchers(t.Context(), job.JobID); err != nil || len(open) != 1 || len(expired) != 0 {
		t.Errorf("watched by %v, %v, %v", open, expired, err)
	}
	if got := g.received("lasting"); got != "backup 0<1, backup 0<2" {
		t.Errorf("the other received %s", got)
	}
}

// received are the messages of a socket as "type seq<prev", or "error <kind>".
func (g *gateway) received(id string) string {
	g.Helper()
	var all []string
	for _, raw := range g.server.Messages(id) {
		var m struct {
			Type, Kind, Message string
			Seq, Prev           int64
		}
		if err := json.Unmarshal(raw, &m); err != nil {
			g.Fatal(err)
		}
		switch m.Type {
		case "error":
			all = append(all, "error "+m.Kind)
		default:
			all = append(all, fmt.Sprintf("%s %d<%d", m.Type, m.Prev, m.Seq))
		}
	}
	return strings.Join(all, ", ")
}

// Who subscribes hears of the present state at once and then of each push, which follows on the one before, whichever
// invocation makes it; progress comes at most once a second, a change of status without delay.
func TestGatewayPushes(t *testing.T) {
	g := newGateway(t)
	job := g.job(1)
	g.connect("a", "ada")
	g.say("a", `{"action":"subscribe","jobId":%q}`, job.JobID)
	for _, round := range []struct {
		after  time.Duration
		urgent bool
	}{{0, true}, {100 * time.Millisecond, false}, {900 * time.Millisecond, false}, {100 * time.Millisecond, true}, {time.Second, false}} {
		g.clock = g.clock.Add(round.after)
		g.change(job.JobID)
		g.push(job.JobID, round.urgent)
	}
	if got, want := g.received("a"), "backup 0<1, backup 0<2, backup 2<4, backup 4<5, backup 5<6"; got != want {
		t.Errorf("received %s, want %s", got, want)
	}
	g.say("a", `{"action":"unsubscribe","jobId":%q}`, job.JobID)
	g.change(job.JobID)
	g.push(job.JobID, true)
	if got := len(g.server.Messages("a")); got != 5 {
		t.Errorf("%d messages after the end", got)
	}
}

// A job that nobody watches is not even read.
func TestGatewayWithoutWatchers(t *testing.T) {
	g := newGateway(t)
	failed, err := g.pusher.Push(t.Context(), g.job(1).JobID, true, func(context.Context) (step.View, error) {
		t.Error("the job was read")
		return step.View{}, nil
	})
	if failed != 0 || err != nil {
		t.Errorf("%d, %v", failed, err)
	}
}

// Who begins to watch while a push is on its way gets that push, too: it may be the last.
func TestGatewayLateWatcher(t *testing.T) {
	g := newGateway(t)
	job := g.job(1)
	g.connect("a", "ada")
	g.connect("b", "ada")
	g.say("a", `{"action":"subscribe","jobId":%q}`, job.JobID)
	_, err := g.pusher.Push(t.Context(), job.JobID, true, func(ctx context.Context) (step.View, error) {
		g.say("b", `{"action":"subscribe","jobId":%q}`, job.JobID)
		g.change(job.JobID)
		return g.requests.Status.Read(ctx, job.JobID)
	})
	if want := "backup 0<1, backup 0<2"; err != nil || g.received("a") != want || g.received("b") != want {
		t.Errorf("a received %s, b %s, %v", g.received("a"), g.received("b"), err)
	}
}

// A socket that is gone is forgotten, with all that it watches, and makes room for another; one that cannot be reached is counted; others hear all
// the same.
func TestGatewayFailures(t *testing.T) {
	g := newGateway(t)
	one, two := g.job(1), g.job(2)
	for i := range 20 {
		id := fmt.Sprintf("s%02d", i)
		g.connect(id, "ada")
		g.say(id, `{"action":"subscribe","jobId":%q}`, one.JobID)
		g.say(id, `{"action":"subscribe","jobId":%q}`, two.JobID)
	}
	g.server.CloseSocket("s00")
	g.server.Fail("PostToConnection", awstest.Fault{Status: 403, Code: "ForbiddenException"}, awstest.Fault{Status: 429, Code: "LimitExceededException"})
	g.change(one.JobID)
	if failed := g.push(one.JobID, true); failed != 1 || g.server.Fired() != 2 {
		t.Errorf("%d failed, %d faults", failed, g.server.Fired())
	}
	heard := 0
	for i := range 20 {
		heard += len(g.server.Messages(fmt.Sprintf("s%02d", i)))
	}
	if heard != 19*2+18 && heard != 19*2+19 { // the refused message may have been that of the closed socket
		t.Errorf("%d messages arrived", heard)
	}
	g.push(one.JobID, true)
	g.connect("in its place", "ada")
	if err := g.store.OpenSocket(t.Context(), backup.Socket{SocketID: "more", UserID: "ada", ClosesAt: epoch.Add(time.Hour)}); !backup.Is(err, backup.QuotaExceeded) {
		t.Errorf("a 21st socket: %v", err)
	}
	for _, jobID := range []string{one.JobID, two.JobID} {
		if watchers, _, err := g.store.Watchers(t.Context(), jobID); err != nil || len(watchers) != 19 {
			t.Errorf("%d watchers, %v", len(watchers), err)
		}
	}
}

// What cannot be met is refused by a message; another's job is one that is not there.
func TestGatewayRefusals(t *testing.T) {
	g := newGateway(t)
	job := g.job(1)
	g.connect("a", "ada")
	g.connect("e", "eve")
	for _, body := range []string{`{`, `[]`, `{"action":"shout"}`, `{"action":"subscribe"}`, `{"action":"subscribe","jobId":"../x"}`, strings.Repeat(" ", 5000)} {
		g.say("a", "%s", body)
	}
	if got, want := g.received("a"), "error InvalidRequest, error InvalidRequest, error InvalidRequest, error NotFound, error NotFound, error InvalidRequest"; got != want {
		t.Errorf("received %s, want %s", got, want)
	}
	g.say("a", `{"action":"unsubscribe","jobId":%q}`, strings.Repeat("x", 3000))
	g.say("e", `{"action":"subscribe","jobId":%q}`, job.JobID)
	if got := g.received("e"); got != "error NotFound" {
		t.Errorf("another's job: %s", got)
	}
	g.server.OpenSocket("unknown")
	g.say("unknown", `{"action":"subscribe","jobId":%q}`, job.JobID)
	if _, gone := g.server.Disconnected("unknown"); !gone {
		t.Error("a socket without a row is not disconnected")
	}
	if watchers, _, err := g.store.Watchers(t.Context(), job.JobID); err != nil || len(watchers) != 0 {
		t.Errorf("watched by %q, %v", watchers, err)
	}
}

// One socket watches a hundred jobs at most.
func TestGatewayBoundsSubscriptions(t *testing.T) {
	g := newGateway(t)
	g.connect("a", "ada")
	for i := range 101 {
		g.say("a", `{"action":"subscribe","jobId":%q}`, g.job(i+1).JobID)
	}
	if got := g.server.Messages("a"); len(got) != 101 || !strings.Contains(string(got[100]), "at most 100 backups") {
		t.Errorf("%d messages, the last %s", len(got), got[len(got)-1])
	}
}

// A socket that closes before its answer is forgotten; an answer that cannot be delivered is the function's failure.
func TestGatewayAnswerLost(t *testing.T) {
	g := newGateway(t)
	job := g.job(1)
	g.connect("a", "ada")
	g.server.CloseSocket("a")
	g.say("a", `{"action":"subscribe","jobId":%q}`, job.JobID)
	if watchers, _, err := g.store.Watchers(t.Context(), job.JobID); err != nil || len(watchers) != 0 {
		t.Errorf("watched by %q, %v", watchers, err)
	}
	g.connect("b", "ada")
	g.server.Fail("PostToConnection", awstest.Fault{Status: 403, Code: "ForbiddenException"})
	if err := g.requests.Serve(t.Context(), "b", []byte(`{}`)); err == nil || g.server.Fired() != 1 {
		t.Errorf("no failure, %d faults", g.server.Fired())
	}
}

// broken is a store whose rows cannot be read.
type broken struct{ step.JobStore }

func (broken) GetJob(context.Context, string) (backup.Job, error) {
	return backup.Job{}, backup.E(backup.StoreUnavailable, "get job: %w", errors.New("canary of the inside"))
}

// What clients cannot act on is logged, not shown.
func TestGatewayHidesTheInside(t *testing.T) {
	g := newGateway(t)
	g.connect("a", "ada")
	g.requests.Status.Jobs = broken{}
	g.say("a", `{"action":"subscribe","jobId":"01JD0000000000000000000001"}`)
	if got := g.server.Messages("a"); len(got) != 1 || strings.Contains(string(got[0]), "canary") || !strings.Contains(string(got[0]), "StoreUnavailable") {
		t.Errorf("received %s", got)
	}
}
