package functions_test

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/sitevault/sitevault/internal/awstest"
)

// Groups of settings that belong to one part of the service.
var (
	everywhere = []string{"METRIC_NAMESPACE"}
	table      = []string{"TABLE", "QUOTAS"}
	bucket     = []string{"BUCKET"}
	machine    = []string{"STATE_MACHINE_ARN"}
	exports    = []string{"SECRET_PREFIX", "SERVICE_VERSION"}
	policy     = []string{"JOB_TIMEOUT", "FAILED_KEEP", "RETRY_WINDOW"}
	schedules  = []string{"SCHEDULE_GROUP", "SCHEDULE_ROLE_ARN", "SCHEDULE_DLQ_ARN", "DAILY_RUN_ARN"}
)

// needed are the settings without which each function does not start. The infrastructure gives each exactly these, and
// the optional ones of the parts that it has: ALLOW_HOSTS with exports, S3_ENDPOINT and S3_PATH_STYLE with the bucket,
// LOG_LEVEL everywhere.
var needed = map[string][]string{
	"create":              slices.Concat(table, bucket, machine, policy, schedules, []string{"SERVICE_VERSION", "SOCKET_ENDPOINT"}),
	"status":              slices.Concat(table, bucket, []string{"SERVICE_VERSION"}),
	"start-job":           slices.Concat(table, policy),
	"open-upload":         slices.Concat(table, bucket, exports),
	"export-range-upload": slices.Concat(table, bucket, exports),
	"complete-multipart":  slices.Concat(table, bucket),
	"inspect-archive":     slices.Concat(table, bucket),
	"fail-file":           table,
	"finish-job":          slices.Concat(table, bucket, policy),
	"daily-run":           slices.Concat(table, bucket, machine, policy),
	"sweep":               slices.Concat(table, bucket, machine, policy),
	"clean":               slices.Concat(table, bucket, machine, policy),
	"execution-ended":     slices.Concat(table, bucket, policy),
	"stream":              slices.Concat(table, bucket, []string{"EVENT_BUS", "SOCKET_ENDPOINT"}),
	"socket-authorize":    table,
	"socket-connect":      table,
	"socket-disconnect":   table,
	"socket-message":      slices.Concat(table, []string{"SOCKET_ENDPOINT"}),
	"authorize":           {"ISSUER", "AUDIENCE"},
}

// environment gives every setting a value.
func environment(server *awstest.Server, more ...string) []string {
	return slices.Concat(server.Env(), []string{
		"METRIC_NAMESPACE=Sitevault", "TABLE=rows", `QUOTAS={"sites":1000}`, "BUCKET=backups", "SERVICE_VERSION=test",
		"STATE_MACHINE_ARN=arn:aws:states:eu-central-1:123456789012:stateMachine:backup",
		"SECRET_PREFIX=sitevault/secrets", "JOB_TIMEOUT=6h", "FAILED_KEEP=168h", "RETRY_WINDOW=1h",
		"SCHEDULE_GROUP=sitevault", "SCHEDULE_ROLE_ARN=arn:role", "SCHEDULE_DLQ_ARN=arn:queue", "DAILY_RUN_ARN=arn:daily",
		"EVENT_BUS=bus", "SOCKET_ENDPOINT=" + server.URL + "/v1", "ISSUER=" + server.URL, "AUDIENCE=sitevault",
	}, more)
}

// only keeps the settings of one function, and what is no setting of ours.
func only(env []string, names []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return !strings.HasPrefix(name, "AWS_") && !slices.Contains(names, name)
	})
}

// The table above holds every folder.
func TestEveryFunctionIsListed(t *testing.T) {
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var folders []string
	for _, e := range entries {
		if e.IsDir() {
			folders = append(folders, e.Name())
		}
	}
	if listed := slices.Sorted(maps.Keys(needed)); !slices.Equal(folders, listed) {
		t.Errorf("folders %v\nlisted %v", folders, listed)
	}
}

// Every function starts with exactly its settings; the log names how long each took.
func TestFunctionsStart(t *testing.T) {
	server := awstest.New(t)
	for _, name := range slices.Sorted(maps.Keys(needed)) {
		if name == "authorize" {
			continue // asks its issuer, see TestAuthorize
		}
		f := start(t, name, only(environment(server), slices.Concat(everywhere, needed[name]))...)
		t.Logf("%-20s ready after %s", name, f.awaitReady())
		if out := f.output.String(); out != "" {
			t.Errorf("%s says:\n%s", name, out)
		}
	}
}

// Without its settings a function ends at once and names every one of them in one line.
func TestFunctionsNameMissingSettings(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(needed)) {
		process := exec.Command(program(t, name))
		process.Env = []string{"AWS_LAMBDA_RUNTIME_API=127.0.0.1:1", "AWS_REGION=eu-central-1"}
		out, err := process.CombinedOutput()
		if _, failed := err.(*exec.ExitError); !failed {
			t.Errorf("%s: %v", name, err)
		}
		var line struct{ Level, Error string }
		if err := json.Unmarshal(out, &line); err != nil || line.Level != "ERROR" {
			t.Errorf("%s: %v in %s", name, err, out)
			continue
		}
		list := strings.TrimPrefix(line.Error, "settings: missing in the environment: ")
		missing := strings.Split(list, ", ")
		slices.Sort(missing)
		want := slices.Sorted(slices.Values(slices.Concat(everywhere, needed[name])))
		if !slices.Equal(missing, want) {
			t.Errorf("%s says %s\nmissing are %v", name, line.Error, want)
		}
	}
}

// BenchmarkStart measures from the start of a function's process to its first call for work, which is what a cold start
// adds to the platform's own.
func BenchmarkStart(b *testing.B) {
	server := awstest.New(b)
	for _, name := range []string{"start-job", "export-range-upload", "create", "stream"} {
		b.Run(name, func(b *testing.B) {
			var total float64
			for b.Loop() {
				total += start(b, name, environment(server)...).awaitReady().Seconds()
			}
			b.ReportMetric(1000*total/float64(b.N), "ms/start")
		})
	}
}
