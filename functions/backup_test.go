package functions_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/sitevault/sitevault/internal/asl"
	"github.com/sitevault/sitevault/internal/awstest"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/dynamo"
	"github.com/sitevault/sitevault/internal/s3store"
	"github.com/sitevault/sitevault/internal/versitygw"
	"github.com/sitevault/sitevault/statemachine"
)

// canary is a secret that must turn up nowhere but in the request to the provider.
const canary = "canary-of-the-secret"

// account is an AWS account with the service in it: its functions are real processes, AWS around them is imitated, S3 is
// a real server.
type account struct {
	*testing.T
	server    *awstest.Server
	env       []string
	functions map[string]*function
}

func newAccount(t *testing.T) *account {
	t.Helper()
	program(t, "create") // skips short runs before anything is started
	binary, err := versitygw.Find("")
	if err != nil {
		t.Skipf("SKIPPED, a whole backup needs an S3 server: %v", err)
	}
	gateway, err := versitygw.Start(t.Context(), versitygw.Config{Binary: binary, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = gateway.Close() })
	key := gateway.Credentials()
	storage, err := s3store.Open(t.Context(), s3store.Config{
		Endpoint: gateway.Endpoint(), Region: versitygw.Region, Bucket: "backups", AccessKey: key.AccessKey, SecretKey: key.SecretKey, PathStyle: true,
	})
	if err == nil {
		_, err = storage.EnsureBucket(t.Context(), false)
	}
	if err != nil {
		t.Fatal(err)
	}
	server := awstest.New(t)
	if _, err := dynamodb.NewFromConfig(server.Config()).CreateTable(t.Context(), dynamo.Table("rows")); err != nil {
		t.Fatal(err)
	}
	env := environment(server, "S3_ENDPOINT="+gateway.Endpoint(), "S3_PATH_STYLE=true", "ALLOW_HOSTS=127.0.0.1",
		"AWS_REGION="+versitygw.Region, "AWS_ACCESS_KEY_ID="+key.AccessKey, "AWS_SECRET_ACCESS_KEY="+key.SecretKey)
	return &account{T: t, server: server, env: env, functions: map[string]*function{}}
}

// function is a running function of the account.
func (a *account) function(name string) *function {
	a.Helper()
	if a.functions[name] == nil {
		a.functions[name] = start(a, name, a.env...)
		a.functions[name].awaitReady()
	}
	return a.functions[name]
}

// request calls the API as API Gateway does, which sends reads to the one function and writes to the other.
func (a *account) request(method, path, body string) (status int, answer map[string]any) {
	a.Helper()
	name := "create"
	if method == http.MethodGet {
		name = "status"
	}
	event := events.APIGatewayProxyRequest{HTTPMethod: method, Path: path, Body: body, MultiValueHeaders: map[string][]string{"Content-Type": {"application/json"}}}
	event.RequestContext.Authorizer = map[string]any{"claims": map[string]any{"sub": "ada", "exp": time.Now().Add(time.Hour).UTC().Format(time.UnixDate)}}
	payload, err := json.Marshal(event)
	if err != nil {
		a.Fatal(err)
	}
	o := a.function(name).invoke(payload)
	var response events.APIGatewayProxyResponse
	if err := json.Unmarshal(o.result, &response); err != nil {
		a.Fatalf("%s %s: %s%v", method, path, o.failure, err)
	}
	if response.Body != "" {
		if err := json.Unmarshal([]byte(response.Body), &answer); err != nil {
			a.Fatalf("%s %s: %s", method, path, response.Body)
		}
	}
	return response.StatusCode, answer
}

// execute runs the execution that Step Functions was asked for, with the functions as its tasks.
func (a *account) execute(name string) asl.Result {
	a.Helper()
	handlers := map[string]asl.Handler{}
	for state, folder := range map[string]string{
		"StartJob": "start-job", "OpenUpload": "open-upload", "ExportRangeUpload": "export-range-upload", "CompleteMultipart": "complete-multipart",
		"InspectArchive": "inspect-archive", "FailFile": "fail-file", "FinishJob": "finish-job",
	} {
		handlers[state] = a.function(folder).task
	}
	machine, err := asl.Load(statemachine.Backup, handlers)
	if err != nil {
		a.Fatal(err)
	}
	execution, ok := a.server.Executions()[name]
	if !ok {
		a.Fatalf("execution %s was not started", name)
	}
	return machine.Run(a.Context(), asl.Execution{Name: name, MachineName: "backup", Input: json.RawMessage(execution.Input)}, asl.Options{})
}

// rows are all rows of the table as JSON.
func (a *account) rows() string {
	a.Helper()
	request, err := http.NewRequestWithContext(a.Context(), http.MethodPost, a.server.URL, strings.NewReader(`{"TableName":"rows"}`))
	if err != nil {
		a.Fatal(err)
	}
	request.Header.Set("X-Amz-Target", "DynamoDB_20120810.Scan")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		a.Fatal(err)
	}
	defer response.Body.Close()
	var all bytes.Buffer
	if _, err := all.ReadFrom(response.Body); err != nil {
		a.Fatal(err)
	}
	return all.String()
}

// stream hands all job and file rows to the function stream as just inserted.
func (a *account) stream() outcome {
	a.Helper()
	var scanned struct {
		Items []map[string]events.DynamoDBAttributeValue
	}
	if err := json.Unmarshal([]byte(a.rows()), &scanned); err != nil {
		a.Fatal(err)
	}
	var in events.DynamoDBEvent
	for i, row := range scanned.Items {
		if kind := row[dynamo.TypeAttribute].String(); kind == dynamo.JobType || kind == dynamo.FileType || kind == dynamo.PartType || kind == dynamo.ErrorType {
			in.Records = append(in.Records, events.DynamoDBEventRecord{
				EventName: "INSERT", EventID: fmt.Sprint(i), Change: events.DynamoDBStreamRecord{NewImage: row, SequenceNumber: fmt.Sprint(i)},
			})
		}
	}
	payload, err := json.Marshal(in)
	if err != nil {
		a.Fatal(err)
	}
	return a.function("stream").invoke(payload)
}

// wantNoCanary looks for the secret in everything that leaves the functions.
func (a *account) wantNoCanary(more ...string) {
	a.Helper()
	for name, f := range a.functions {
		more = append(more, name+": "+f.output.String())
	}
	for _, e := range a.server.Events() {
		more = append(more, e.Detail)
	}
	more = append(more, a.rows(), fmt.Sprint(a.server.Executions()), fmt.Sprint(a.server.Schedules()))
	for _, text := range more {
		if at := strings.Index(text, canary); at >= 0 {
			a.Errorf("the secret is in: %s", text[max(0, at-200):min(len(text), at+100)])
		}
	}
}

func (a *account) putSite(url string, secretRef string) {
	a.Helper()
	status, answer := a.request(http.MethodPut, "/site/blog", fmt.Sprintf(`{"providers":[{"name":"files","url":%q,"secretRef":%q}],"schedule":{"at":"03:30"}}`, url, secretRef))
	if status != http.StatusCreated {
		a.Fatalf("put site: %d %v", status, answer)
	}
}

func (a *account) createBackup() (jobID string) {
	a.Helper()
	status, answer := a.request(http.MethodPost, "/backup", `{"siteId":"blog"}`)
	if status != http.StatusAccepted {
		a.Fatalf("create backup: %d %v", status, answer)
	}
	return answer["jobId"].(string)
}

// A backup on the production form: the API starts it, the functions carry out the state machine, the storage proves the
// bytes, the stream tells of it, and the secret reaches nobody but the provider.
func TestBackupOnLambda(t *testing.T) {
	a := newAccount(t)
	provider := backuptest.NewProvider(t, backuptest.ZipOf(1, 40<<20))
	a.server.PutSecret("sitevault/secrets/ada/key", canary)
	a.putSite(provider.URL, "key")
	if got := a.server.Schedules()["ada.blog"]; got.ScheduleExpression != "cron(30 3 * * ? *)" {
		t.Errorf("schedule %+v", got)
	}
	jobID := a.createBackup()
	result := a.execute(backup.ExecutionName(jobID, 1))
	if result.Status != asl.Succeeded {
		t.Errorf("execution %+v", result)
	}
	status, answer := a.request(http.MethodGet, "/v1/backup/"+jobID, "")
	if status != http.StatusOK || answer["status"] != "done" || answer["sizeBytes"] != float64(backuptest.ZipOf(1, 40<<20).Size()) {
		t.Errorf("%d %v", status, answer)
	}
	if o := a.stream(); o.failure != nil || string(o.result) != `{"batchItemFailures":null}` && string(o.result) != `{"batchItemFailures":[]}` {
		t.Errorf("stream: %s%s", o.result, o.failure)
	}
	var names []string
	for _, e := range a.server.Events() {
		names = append(names, e.DetailType)
	}
	slices.Sort(names)
	if got := strings.Join(slices.Compact(names), " "); got != "BackupJobCreated UploadFileTaskFinished UploadPartTaskFinished" { // every row counts as new here
		t.Errorf("events %s", got)
	}
	for _, r := range provider.Requests() {
		if r.Authorization != "Bearer "+canary {
			t.Errorf("%s without the secret", r.Method)
		}
	}
	if calls := a.server.Calls("GetSecretValue"); calls > 2 {
		t.Errorf("the secret was read %d times by two functions", calls)
	}
	a.wantNoCanary(fmt.Sprint(answer))
}

// A provider that throws the secret back is refused; the file fails under its kind, and the secret stays where it was.
func TestSecretThrownBack(t *testing.T) {
	a := newAccount(t)
	provider := backuptest.NewProvider(t, backuptest.ZipOf(1, 1<<20))
	provider.Misbehave(func(r backuptest.ProviderRequest) backuptest.Answer {
		return func(reply *backuptest.ProviderReply, req backuptest.ProviderRequest) {
			reply.Status = http.StatusForbidden
			reply.Header.Set("ETag", req.Authorization)
			reply.Header.Set("WWW-Authenticate", req.Authorization)
		}
	})
	a.server.PutSecret("sitevault/secrets/ada/key", canary)
	a.putSite(provider.URL, "key")
	jobID := a.createBackup()
	result := a.execute(backup.ExecutionName(jobID, 1))
	if result.Status != asl.Failed || result.Error != string(backup.ProviderRefused) || provider.Faults() == 0 {
		t.Errorf("execution %+v", result)
	}
	_, answer := a.request(http.MethodGet, "/backup/"+jobID, "")
	if answer["status"] != "failed" {
		t.Errorf("%v", answer)
	}
	a.stream()
	a.wantNoCanary(fmt.Sprint(answer, result))
}

// A step's failure reaches Step Functions as errorType under its kind's name, with a log line that says which invocation
// and job it was.
func TestErrorType(t *testing.T) {
	server := awstest.New(t)
	program(t, "export-range-upload")
	if _, err := dynamodb.NewFromConfig(server.Config()).CreateTable(t.Context(), dynamo.Table("rows")); err != nil {
		t.Fatal(err)
	}
	f := start(t, "export-range-upload", environment(server)...)
	for payload, want := range map[string]string{
		`{"jobId":"01JD0000000000000000000000","attempt":1,"file":"files","uploadId":"u","first":1,"last":2}`: "NotFound",
		`[]`: "Internal",
	} {
		o := f.invoke([]byte(payload))
		if errorType(o.failure) != want {
			t.Errorf("%s: %s%s", payload, o.result, o.failure)
		}
	}
	f.wantOutput(`"requestId":"request-export-range-upload-`, `"traceId":"1-5759e988-bd862e3fe1be46a994272793"`, `"jobId":"01JD0000000000000000000000"`, `"kind":"NotFound"`)
}

// The sweep tells the age of backups although nothing is due; a daily run that is delivered twice starts one backup.
func TestSweepAndDailyRun(t *testing.T) {
	a := newAccount(t)
	a.putSite("https://example.org/export", "")
	if o := a.function("sweep").invoke([]byte(`{"source":"aws.events"}`)); string(o.result) != `{"tended":0,"caughtUp":0}` {
		t.Errorf("sweep: %s%s", o.result, o.failure)
	}
	a.function("sweep").wantOutput(`"OldestGoodBackupHours"`, `"SweepTended"`)
	input := strings.Replace(a.server.Schedules()["ada.blog"].Target.Input, "<aws.scheduler.scheduled-time>", time.Now().UTC().Format(time.RFC3339), 1)
	var first string
	for range 2 {
		o := a.function("daily-run").invoke([]byte(input))
		var out struct{ JobID string }
		if err := json.Unmarshal(o.result, &out); err != nil || out.JobID == "" || (first != "" && out.JobID != first) {
			t.Errorf("daily run: %s%s", o.result, o.failure)
		}
		first = out.JobID
	}
	if len(a.server.Executions()) != 1 {
		t.Errorf("executions %v", a.server.Executions())
	}
}

// A socket from its ticket to its end: let in once, told the present state, forgotten.
func TestSocketOnLambda(t *testing.T) {
	a := newAccount(t)
	a.putSite("https://example.org/export", "")
	jobID := a.createBackup()
	status, answer := a.request(http.MethodPost, "/ticket", "")
	if status != http.StatusCreated {
		t.Fatalf("ticket: %d %v", status, answer)
	}
	authorize := fmt.Appendf(nil, `{"type":"REQUEST","methodArn":"arn:aws:execute-api:r:1:a/v1/$connect","queryStringParameters":{"ticket":%q}}`, answer["ticket"])
	if o := a.function("socket-authorize").invoke(authorize); !strings.Contains(string(o.result), `"userId":"ada"`) {
		t.Errorf("authorize: %s%s", o.result, o.failure)
	}
	if o := a.function("socket-authorize").invoke(authorize); errorType(o.failure) != "Unauthenticated" || !strings.Contains(string(o.failure), `"errorMessage":"Unauthorized"`) {
		t.Errorf("the same ticket again: %s%s", o.result, o.failure)
	}
	a.server.OpenSocket("c1")
	connection := fmt.Sprintf(`"requestContext":{"connectionId":"c1","authorizer":{"userId":"ada","expiresAt":"%d"}}`, time.Now().Add(time.Hour).Unix())
	for _, step := range []struct{ function, event string }{
		{"socket-connect", `{` + connection + `}`},
		{"socket-message", fmt.Sprintf(`{%s,"body":"{\"action\":\"subscribe\",\"jobId\":\"%s\"}"}`, connection, jobID)},
	} {
		if o := a.function(step.function).invoke([]byte(step.event)); !strings.Contains(string(o.result), `"statusCode":200`) {
			t.Errorf("%s: %s%s", step.function, o.result, o.failure)
		}
	}
	a.stream()
	messages := a.server.Messages("c1")
	if len(messages) != 2 || !strings.Contains(string(messages[0]), `"status":"pending"`) || !strings.Contains(string(messages[1]), jobID) {
		t.Errorf("messages %s", messages)
	}
	if o := a.function("socket-disconnect").invoke([]byte(`{` + connection + `}`)); !strings.Contains(string(o.result), `"statusCode":200`) {
		t.Errorf("disconnect: %s%s", o.result, o.failure)
	}
	if rows := a.rows(); strings.Contains(rows, "SOCKET#c1") || strings.Contains(rows, "SOCKETS#ada") {
		t.Errorf("rows of the socket are left: %s", rows)
	}
}
