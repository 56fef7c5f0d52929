package telemetry_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/sitevault/sitevault/internal/telemetry"
)

// canary is what must never be told.
const canary = "canary-secret"

func dynamo(server *httptest.Server, tracer *telemetry.Tracer) *dynamodb.Client {
	return dynamodb.New(dynamodb.Options{
		Region: "eu-central-1", BaseEndpoint: aws.String(server.URL), APIOptions: tracer.AWS(),
		Credentials: credentials.NewStaticCredentialsProvider("AKID", canary, canary),
		Retryer:     retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = time.Millisecond }),
	})
}

// A call of AWS is one subsegment with all its tries, and its service learns whose call it is.
func TestTraceAWS(t *testing.T) {
	var tries atomic.Int32
	headers := make(chan string, 2)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		headers <- r.Header.Get("X-Amzn-Trace-Id")
		w.Header().Set("x-amzn-RequestId", "aws-request")
		if tries.Add(1) == 1 {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = w.Write([]byte(`{}`))
	}))
	defer server.Close()
	tracer, d := newTracer()
	ctx, step := tracer.Begin(inLambda(t.Context(), sampledHeader), "start-job")
	_, err := dynamo(server, tracer).GetItem(ctx, &dynamodb.GetItemInput{
		TableName: aws.String("t"), Key: map[string]types.AttributeValue{"PK": &types.AttributeValueMemberS{Value: canary}},
	})
	step.End(err)
	all := d.sent(t)
	if err != nil || tries.Load() != 2 || len(all) != 2 {
		t.Fatalf("%v, %d tries, %d subsegments", err, tries.Load(), len(all))
	}
	call := all[0]
	if call.Name != "DynamoDB" || call.Namespace != "aws" || call.ParentID != all[1].ID || call.HTTP.Response.Status != 200 || call.Fault || call.Error {
		t.Errorf("%+v", call)
	}
	if call.AWS["operation"] != "GetItem" || call.AWS["region"] != "eu-central-1" || call.AWS["request_id"] != "aws-request" {
		t.Errorf("%v", call.AWS)
	}
	want := "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=" + call.ID + ";Sampled=1"
	if first, second := <-headers, <-headers; first != want || second != want {
		t.Errorf("headers %q and %q, want %q", first, second, want)
	}
	noCanary(t, d)
}

// An answer that refuses tells its code and whose fault it is.
func TestTraceAWSRefused(t *testing.T) {
	for _, tc := range []struct {
		status                 int
		code                   string
		error, throttle, fault bool
	}{
		{400, "ConditionalCheckFailedException", true, false, false},
		{429, "SomethingElse", true, true, false},
		{501, "NotImplemented", false, false, true},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("x-amzn-ErrorType", tc.code)
			w.WriteHeader(tc.status)
			_, _ = w.Write([]byte(`{"message":"` + canary + `"}`))
		}))
		tracer, d := newTracer()
		_, err := dynamo(server, tracer).ListTables(inLambda(t.Context(), sampledHeader), &dynamodb.ListTablesInput{}, func(o *dynamodb.Options) { o.Retryer = aws.NopRetryer{} })
		server.Close()
		s := d.sent(t)[0]
		if err == nil || s.exception() != tc.code || s.Error != tc.error || s.Throttle != tc.throttle || s.Fault != tc.fault || s.HTTP.Response.Status != tc.status {
			t.Errorf("%d: %+v", tc.status, s)
		}
		noCanary(t, d)
	}
}

// Outside a sampled invocation, and beyond the bound, calls are made as ever and name no one.
func TestTraceAWSUntraced(t *testing.T) {
	headers := make(chan string, 300)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		headers <- r.Header.Get("X-Amzn-Trace-Id")
		_, _ = w.Write([]byte(`{}`))
	}))
	defer server.Close()
	tracer, d := newTracer()
	client := dynamo(server, tracer)
	if _, err := client.ListTables(t.Context(), &dynamodb.ListTablesInput{}); err != nil || <-headers != "" || len(d.sent(t)) > 0 {
		t.Errorf("%v, sent %v", err, d.sent(t))
	}
	ctx, step := tracer.Begin(inLambda(t.Context(), sampledHeader), "work")
	for range 110 {
		if _, err := client.ListTables(ctx, &dynamodb.ListTablesInput{}); err != nil {
			t.Fatal(err)
		}
	}
	step.End(nil)
	close(headers)
	named := 0
	for h := range headers {
		if h != "" {
			named++
		}
	}
	all := d.sent(t)
	if len(all) != 100 || named != 99 || all[99].HTTP.Response.Status != 0 {
		t.Errorf("%d sent, %d named, %+v", len(all), named, all[len(all)-1])
	}
}

func noCanary(t *testing.T, d *daemon) {
	t.Helper()
	for _, datagram := range d.datagrams {
		if strings.Contains(string(datagram), canary) {
			t.Errorf("told: %s", datagram)
		}
	}
}
