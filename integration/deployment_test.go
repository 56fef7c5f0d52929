package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Times for the steps that lead to a deployment. The first build of the CDK's packages takes minutes on two processors.
const (
	buildTime  = 5 * time.Minute
	deployTime = 5 * time.Minute
	startTime  = time.Minute // of a program until it answers
)

const (
	region    = "us-east-1" // also versitygw's
	accountID = "000000000000"
	name      = "sitevault" // of the deployment, and so of its functions and groups
)

// deployment is the service in an emulated account.
type deployment struct {
	*account
	front    *front
	programs *programs
	storage  *storage
	agent    *agent
	output   output
	work     string // for what the test builds and writes
	root     string // of the repository
}

// output is what the stacks tell after a deployment.
type output struct {
	App struct {
		APIURL          string `json:"ApiUrl"`
		SocketURL       string `json:"SocketUrl"`
		StateMachineARN string `json:"StateMachineArn"`
	} `json:"sitevault-app"`
	Data struct {
		BucketName       string
		TableName        string
		UserPoolID       string `json:"UserPoolId"`
		UserPoolClientID string `json:"UserPoolClientId"`
	} `json:"sitevault-data"`
}

// deploy brings the service up and ends everything with the test. cdk is the npm package of the CDK's command line, with
// its version.
func deploy(t *testing.T, cdk string) *deployment {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	d := &deployment{root: root, work: filepath.Join(root, "dist", "integration")}
	if err := os.RemoveAll(d.work); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"functions", "assets", "home", "tmp"} {
		if err := os.MkdirAll(filepath.Join(d.work, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	d.programs = &programs{work: d.work}
	t.Cleanup(d.programs.stop)
	t.Cleanup(func() { d.programs.showTails(t) })
	endOnSignal(t, d.programs)

	d.startEmulator(t)
	d.agent = d.startAgent(t)
	d.storage = startStorage(t, filepath.Join(d.work, "storage"))
	d.step(t, "functions", buildTime, d.buildFunctions)
	d.step(t, "cdk", deployTime, func(ctx context.Context) error { return d.deployStacks(ctx, cdk) })
	d.storage.createBucket(t, d.output.Data.BucketName)
	d.redirectPushes(t)
	// The emulator takes every schedule for one of the default group.
	d.allow(t, "create", "scheduler:*", "arn:aws:scheduler:"+region+":"+accountID+":schedule/default/*")
	return d
}

// step does one long thing and says how long it took.
func (d *deployment) step(t *testing.T, what string, most time.Duration, do func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), most, fmt.Errorf("not done within %s", most))
	defer cancel()
	begun := time.Now()
	if err := do(ctx); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	t.Logf("%s: %s", what, time.Since(begun).Round(100*time.Millisecond))
}

// buildFunctions builds the functions for this machine, where the emulator runs them as they are. A function's declared
// architecture does not matter to it.
func (d *deployment) buildFunctions(ctx context.Context) error {
	env := append(os.Environ(), "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH, "CGO_ENABLED=0")
	built, assets := filepath.Join(d.work, "functions")+string(filepath.Separator), filepath.Join(d.work, "assets")
	err := d.programs.complete(ctx, "build", env, d.root, "go", "build", "-tags", "lambda.norpc", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -buildid=", "-o", built, "./functions/...")
	if err != nil {
		return err
	}
	return d.programs.complete(ctx, "zip", os.Environ(), d.root, "go", "run", "./internal/lambdazip", "-from", built, "-to", assets)
}

// deployStacks runs the CDK's command line against the emulator, as `make deploy` does against AWS.
func (d *deployment) deployStacks(ctx context.Context, cdk string) error {
	app := filepath.Join(d.work, "infra")
	if err := d.programs.complete(ctx, "build-infra", os.Environ(), d.root, "go", "build", "-o", app, "./infra"); err != nil {
		return err
	}
	templates, outputs := filepath.Join(d.work, "cdk.out"), filepath.Join(d.work, "outputs.json")
	settings := []string{
		"-c", "assets=" + filepath.Join(d.work, "assets"), "-c", "s3Endpoint=" + d.storage.endpoint, "-c", "allowHosts=" + d.agent.host,
		"-c", "removalPolicy=destroy", "-c", "version=integration",
	}
	for _, args := range [][]string{
		append([]string{"synth", "--quiet", "--app", app, "--output", templates}, settings...),
		{"bootstrap", "--app", templates, "aws://" + accountID + "/" + region},
		// The Ops stack is left out: see notProven.
		{"deploy", "--app", templates, "--require-approval", "never", "--outputs-file", outputs, name + "-data", name + "-app"},
	} {
		args = append([]string{"--yes", cdk}, args...)
		if err := d.programs.complete(ctx, "cdk", d.cdkEnv(), d.root, "npx", args...); err != nil {
			return err
		}
	}
	content, err := os.ReadFile(outputs)
	if err != nil {
		return err
	}
	return json.Unmarshal(content, &d.output)
}

func (d *deployment) cdkEnv() []string {
	return append(os.Environ(), append(d.account.environment(),
		"CI=true", "NODE_NO_WARNINGS=1", "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION=20", "CDK_DISABLE_CLI_TELEMETRY=true")...)
}

// startEmulator starts MiniStack on the loopback interface.
func (d *deployment) startEmulator(t *testing.T) {
	t.Helper()
	port := freePort(t)
	d.front = startFront(t, "http://127.0.0.1:"+port)
	d.account = newAccount(d.front.url)
	tmp := filepath.Join(d.work, "tmp")
	env := append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Join(d.work, "home"), "TMPDIR=" + tmp,
		"BIND_HOST=127.0.0.1", "GATEWAY_PORT=" + port, "IOT_MTLS_ENABLED=0", "SFTP_ENABLED=0",
		"DOCKER_HOST=unix://" + filepath.Join(tmp, "no-docker"),
		"MINISTACK_REGION=" + region, "MINISTACK_ACCOUNT_ID=" + accountID, "S3_DATA_DIR=" + filepath.Join(tmp, "s3"),
		"AUTH=true", // each call is made in the name of its role, and refused where the role's policies do not allow it
	}, d.account.environment()...)
	python := filepath.Join(d.root, "bin", "ministack-venv", "bin", "python")
	emulator, err := d.programs.start("ministack", env, d.work, python, "-m", "ministack")
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the emulator answers", startTime, func() bool {
		select {
		case <-emulator.ended:
			t.Fatalf("the emulator ended: %v\n%s", emulator.err, emulator.tail())
		default:
		}
		answer, err := http.Get(d.endpoint + "/_ministack/health")
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		var health struct{ Auth string }
		if answer.StatusCode != http.StatusOK || json.NewDecoder(answer.Body).Decode(&health) != nil {
			return false
		}
		if health.Auth != "enabled" {
			t.Fatalf("the emulator asks for no rights: auth is %q", health.Auth)
		}
		return true
	})
}

// api is the base URL of the REST API, below which the stage is.
func (d *deployment) api() string {
	return d.endpoint + "/_aws/execute-api/" + apiID(d.output.App.APIURL)
}

// socket is the URL of the stage of the WebSocket API.
func (d *deployment) socket() string {
	return "ws" + strings.TrimPrefix(d.endpoint, "http") + "/_aws/execute-api/" + apiID(d.output.App.SocketURL) + "/v1"
}

// apiID is the first label of the URL's host.
func apiID(url string) string {
	_, host, _ := strings.Cut(url, "://")
	id, _, _ := strings.Cut(host, ".")
	return id
}

// redirectPushes tells the functions that push where the emulator has the sockets: at no name of AWS's.
func (d *deployment) redirectPushes(t *testing.T) {
	t.Helper()
	for _, function := range []string{"create", "stream", "socket-message"} {
		path := "/2015-03-31/functions/" + name + "-" + function + "/configuration"
		var config struct {
			Environment struct{ Variables map[string]string }
		}
		d.rest(t, http.MethodGet, "lambda", path, nil, &config)
		if config.Environment.Variables["SOCKET_ENDPOINT"] == "" {
			t.Fatalf("function %s has no SOCKET_ENDPOINT", function)
		}
		config.Environment.Variables["SOCKET_ENDPOINT"] = "http" + strings.TrimPrefix(d.socket(), "ws")
		d.rest(t, http.MethodPut, "lambda", path, config, nil)
	}
}

// await polls until ok, and fails the test when it never is.
func await(t *testing.T, what string, most time.Duration, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(most); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never within %s: %s", most, what)
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}
