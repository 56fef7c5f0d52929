package dynamo_test

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	minidyn "github.com/truora/minidyn/server"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/dynamo"
	"github.com/sitevault/sitevault/internal/step"
)

var epoch = time.Date(2026, 3, 1, 2, 30, 0, 0, time.UTC)

// newClient talks to DynamoDB at the endpoint, by transport if there is one.
func newClient(endpoint string, transport dynamodb.HTTPClient) *dynamodb.Client {
	return dynamodb.New(dynamodb.Options{
		Region: "eu-central-1", BaseEndpoint: &endpoint, HTTPClient: transport,
		Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""),
	})
}

var tables atomic.Int64

func newStore(t testing.TB, client *dynamodb.Client) *dynamo.Store {
	t.Helper()
	store, _ := newTable(t, client)
	return store
}

// newTable makes an empty table and its store, whose clock stands still at epoch.
func newTable(t testing.TB, client *dynamodb.Client) (store *dynamo.Store, name string) {
	t.Helper()
	name = fmt.Sprintf("sitevault-%d", tables.Add(1))
	if _, err := client.CreateTable(t.Context(), dynamo.Table(name)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := client.DeleteTable(context.Background(), &dynamodb.DeleteTableInput{TableName: aws.String(name)}); err != nil {
			t.Error(err)
		}
	})
	return dynamo.New(client, name, func() time.Time { return epoch }, func() float64 { return 0.5 }), name
}

// inProcess hands requests to a handler without a network.
type inProcess struct{ handler http.Handler }

func (p inProcess) Do(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	answer := httptest.NewRecorder()
	p.handler.ServeHTTP(answer, r)
	return answer.Result(), nil
}

// The store keeps the contract of step.Store on minidyn.
func TestConformanceOnMinidyn(t *testing.T) {
	shorten(t, "10")
	backuptest.StoreConformance(t, func(t *testing.T, q backup.Quotas) step.Store {
		return newStore(t, newClient("http://minidyn", inProcess{minidyn.NewServer()})).WithQuotas(q)
	})
}

// shorten sets how many random runs a property is checked by, until the test ends.
func shorten(t *testing.T, checks string) {
	t.Helper()
	f := flag.Lookup("rapid.checks")
	before := f.Value.String()
	t.Cleanup(func() { _ = f.Value.Set(before) })
	if err := f.Value.Set(checks); err != nil {
		t.Fatal(err)
	}
}
