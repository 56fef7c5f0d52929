package integration_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// gap is something of the AWS form that the emulator cannot show, with the test that does.
type gap struct {
	what  string
	where string // folder of the proving test
	test  string
}

// notProven is said by name at the end of the run, so that nobody takes it for proven.
var notProven = []gap{
	{"the machine's own TimeoutSeconds and the event TIMED_OUT (ignored, never sent)", "internal/stepfunctions", "TestEnded"},
	{"the machine's six hours", "infra/stacks", "TestMachineEndsAfterSixHours"},
	{"history events within Maps and their limit (the history leaves them out)", "statemachine", "TestLargeBackups"},
	{"waits between retries, jitter included, and tasks that run into their TimeoutSeconds", "internal/asl", "TestRetryDelays"},
	{"a bucket of S3 itself: encryption, lifecycle, access log, TLS only (versitygw stands in; the emulator gets CRC64NVME wrong)", "infra/stacks", "TestBucket"},
	{"signatures at S3 (the gate signs anew)", "internal/s3store", "TestConformance"},
	{"the key's policy and who may use the key (not asked at all)", "infra/stacks", "TestKey"},
	{"the reach of the right to write schedules: only those of the group (all schedules count as of the group default)", "infra/stacks", "TestGrantsAreExact"},
	{"the time that a schedule puts into its input, its flexible window and its dead letters", "internal/schedule", "TestDailyRuns"},
	{"what rules do with events that nobody takes", "infra/stacks", "TestRules"},
	{"dead letters, retries and halved batches of functions that fail", "infra/stacks", "TestDeadLetters"},
	{"the time to live that removes rows (the stream does not say that it was that)", "internal/events", "TestPurged"},
	{"401 for a used ticket (answered with 500)", "internal/lambdaedge/apigateway", "TestAuthorizeSocket"},
	{"limits of the API: throttles, sizes, TLS policy, access log", "infra/stacks", "TestRESTStage"},
	{"the Ops stack (alarms over expressions are refused)", "infra/stacks", "TestMetricsExist"},
	{"the architecture arm64 (the functions run as built for this machine)", "functions", "TestArchives"},
	{"traces in X-Ray", "internal/telemetry", "TestTraceUDP"},
	{"another issuer than the user pool", "internal/lambdaedge/apigateway", "TestAuthorizeToken"},
}

// TestGapsAreProven looks for the tests that notProven names.
func TestGapsAreProven(t *testing.T) {
	for _, g := range notProven {
		files, err := filepath.Glob(filepath.Join("..", filepath.FromSlash(g.where), "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		if !anyDefines(t, files, g.test) {
			t.Errorf("%s has no %s, which should prove: %s", g.where, g.test, g.what)
		}
	}
}

func anyDefines(t *testing.T, files []string, test string) bool {
	t.Helper()
	definition := regexp.MustCompile(`(?m)^func ` + test + `\(`)
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if definition.Match(content) {
			return true
		}
	}
	return false
}

func sayWhatIsNotProven(t *testing.T) {
	t.Helper()
	for _, g := range notProven {
		t.Logf("NOT PROVEN HERE: %s (proven by %s, %s)", g.what, g.where, g.test)
	}
}
