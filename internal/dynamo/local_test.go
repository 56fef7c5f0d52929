package dynamo_test

import (
	"bufio"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"testing"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/step"
)

// jars is where `mvn dependency:copy-dependencies` with testdata/dynamodb-local/pom.xml puts DynamoDB Local.
var jars = filepath.Join("..", "..", "bin", "dynamodb-local")

// startLocal runs Amazon's DynamoDB Local until the test ends, or skips the test if it is not there.
func startLocal(t testing.TB) *dynamodb.Client {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED, DynamoDB Local is not for short tests")
	}
	java, err := exec.LookPath("java")
	if err != nil {
		t.Skipf("SKIPPED, DynamoDB Local needs Java 17: %v", err)
	}
	if found, _ := filepath.Glob(filepath.Join(jars, "DynamoDBLocal-*.jar")); len(found) == 0 {
		t.Skipf("SKIPPED, there is no DynamoDB Local in %s: fetch it with Maven, as testdata/dynamodb-local/pom.xml says", jars)
	}
	server := exec.Command(java, "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Djava.library.path="+jars, "-cp", filepath.Join(jars, "*"),
		filepath.Join("testdata", "dynamodb-local", "Loopback.java"))
	server.Stderr = t.Output()
	stdin, err := server.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		if err := server.Wait(); err != nil {
			t.Errorf("DynamoDB Local: %v", err)
		}
	})
	var port int
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if n, _ := fmt.Sscanf(lines.Text(), "port %d", &port); n == 1 {
			break
		}
	}
	if port == 0 {
		t.Fatal("DynamoDB Local did not start")
	}
	return newClient(fmt.Sprintf("http://127.0.0.1:%d", port), awshttp.NewBuildableClient().WithTransportOptions(func(tr *http.Transport) {
		tr.MaxIdleConns, tr.MaxIdleConnsPerHost = 64, 64
	}))
}

// The store keeps the contract of step.Store on Amazon's own imitation of DynamoDB, which is strict about expressions,
// reports every refused condition of a transaction and knows ClientRequestToken.
func TestConformanceOnDynamoDBLocal(t *testing.T) {
	client := startLocal(t)
	shorten(t, "10")
	backuptest.StoreConformance(t, func(t *testing.T, q backup.Quotas) step.Store { return newStore(t, client).WithQuotas(q) })
}
