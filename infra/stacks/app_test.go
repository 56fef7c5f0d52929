package stacks_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/sitevault/sitevault/infra/stacks"
	"github.com/sitevault/sitevault/internal/dynamo"
	"github.com/sitevault/sitevault/statemachine"
)

// byFunction are the Lambda functions by their names without the deployment's.
func byFunction(d deployment) map[string]resource {
	functions := map[string]resource{}
	for _, r := range of(d.app, "AWS::Lambda::Function") {
		name, _ := r.at("FunctionName").(string)
		_, name, _ = strings.Cut(name, "-")
		functions[name] = r
	}
	return functions
}

// Each function is what its line of the table says, small and traced, with a log that ends.
func TestFunctionTemplates(t *testing.T) {
	for name, tc := range map[string]struct {
		synthesis func() (deployment, error)
		config    map[string]any
	}{
		"standard": {standard, nil},
		"foreign":  {foreign, map[string]any{"issuer": "https://issuer.example", "audience": "sitevault", "workers": 0.0}},
	} {
		d := synthesised(t, tc.synthesis)
		config, err := stacks.ReadConfig(context(tc.config))
		if err != nil {
			t.Fatal(err)
		}
		functions := byFunction(d)
		for _, f := range stacks.Functions(config) {
			r := functions[f.Name]
			delete(functions, f.Name)
			if text(r.at("Architectures")) != `["arm64"]` || r.at("Runtime") != "provided.al2023" || r.at("Handler") != "bootstrap" || r.at("TracingConfig", "Mode") != "Active" {
				t.Errorf("%s %s: %s", name, f.Name, text(r.Properties))
			}
			if r.at("MemorySize") != float64(f.MemoryMiB) || r.at("Timeout") != f.Timeout.Seconds() || reserved(r) != f.Reserved {
				t.Errorf("%s %s: %v MiB, %v s, %d reserved", name, f.Name, r.at("MemorySize"), r.at("Timeout"), reserved(r))
			}
			if policy := named(t, d.app, "AWS::IAM::Policy", r.ID[:len(r.ID)-8]+"Policy"); !strings.Contains(text(r.DependsOn), policy.ID) {
				t.Errorf("%s %s is made before its role may trace: %s", name, f.Name, text(r.DependsOn))
			}
			if r.at("LoggingConfig", "LogGroup") == nil {
				t.Errorf("%s %s has no log of its own", name, f.Name)
			}
		}
		for extra := range functions {
			t.Errorf("%s: %s is not in the table", name, extra)
		}
	}
}

func reserved(r resource) int {
	n, _ := r.at("ReservedConcurrentExecutions").(float64)
	return int(n)
}

// A function is told what it reads and nothing else; what is not set is left out.
func TestEnvironment(t *testing.T) {
	standard, foreign := byFunction(synthesised(t, standard)), byFunction(synthesised(t, foreign))
	for _, f := range stacks.Functions(everything(t)) {
		environment, _ := foreign[f.Name].at("Environment", "Variables").(map[string]any)
		var want []string
		for _, v := range f.Reads {
			want = append(want, string(v))
		}
		slices.Sort(want)
		if got := slices.Sorted(maps.Keys(environment)); !slices.Equal(got, want) {
			t.Errorf("%s is told %v and reads %v", f.Name, got, want)
		}
		for _, only := range []string{"ALLOW_HOSTS", "S3_ENDPOINT", "S3_PATH_STYLE", "ISSUER"} {
			if standard[f.Name].at("Environment", "Variables", only) != nil {
				t.Errorf("%s is told %s, which nobody has set", f.Name, only)
			}
		}
	}
}

// Every log ends after the days that were asked for.
func TestLogRetention(t *testing.T) {
	d := synthesised(t, standard)
	groups := of(d.all(), "AWS::Logs::LogGroup")
	if len(groups) < len(of(d.app, "AWS::Lambda::Function"))+3 {
		t.Errorf("%d groups", len(groups))
	}
	for _, g := range groups {
		if g.at("RetentionInDays") != 90.0 {
			t.Errorf("%s: %v", g.ID, g.at("RetentionInDays"))
		}
	}
}

// The machine runs our file, unchanged, on our functions; it logs no payloads and is traced.
func TestMachine(t *testing.T) {
	d := synthesised(t, standard)
	machine := one(t, d.app, "AWS::StepFunctions::StateMachine")
	if machine.at("DefinitionString") != string(statemachine.Backup) {
		t.Error("the definition is not statemachine/backup.asl.json")
	}
	functions := byFunction(d)
	substitutions, _ := machine.at("DefinitionSubstitutions").(map[string]any)
	var own []string
	for _, f := range stacks.Functions(everything(t)) {
		if f.State == "" {
			continue
		}
		arn := fmt.Sprintf(`{"Fn::GetAtt":[%q,"Arn"]}`, functions[f.Name].ID)
		if text(substitutions[f.State]) != arn {
			t.Errorf("%s calls %s", f.State, text(substitutions[f.State]))
		}
		own = append(own, arn)
	}
	if len(substitutions) != len(own) || machine.at("StateMachineType") != "STANDARD" || machine.at("TracingConfiguration", "Enabled") != true ||
		machine.at("LoggingConfiguration", "Level") != "ERROR" || machine.at("LoggingConfiguration", "IncludeExecutionData") != false {
		t.Errorf("%s", text(machine.at("LoggingConfiguration")))
	}
	invoked := map[string]bool{}
	policy := named(t, d.app, "AWS::IAM::Policy", "MachinePolicy")
	for _, s := range statements(policy) {
		if slices.Contains(s.actions, "lambda:InvokeFunction") {
			for _, arn := range s.resources {
				invoked[arn] = true
			}
		}
	}
	if !slices.Equal(slices.Sorted(maps.Keys(invoked)), slices.Sorted(slices.Values(own))) {
		t.Errorf("the machine may invoke %v, its functions are %v", invoked, own)
	}
}

// statement is one of a policy; its resources are JSON.
type statement struct {
	actions, resources []string
	condition          any
}

func statements(policy resource) []statement {
	list, _ := policy.at("PolicyDocument", "Statement").([]any)
	var all []statement
	for _, s := range list {
		one := statement{condition: at(s, "Condition")}
		for _, action := range many(at(s, "Action")) {
			one.actions = append(one.actions, action.(string))
		}
		for _, r := range many(at(s, "Resource")) {
			one.resources = append(one.resources, text(r))
		}
		all = append(all, one)
	}
	return all
}

func many(value any) []any {
	if list, ok := value.([]any); ok {
		return list
	}
	return []any{value}
}

// Policies allow single actions. A resource is named by a pattern only where stacks.Wildcards or the delivery of logs
// says why.
func TestNoUnexplainedWildcard(t *testing.T) {
	patterns := []string{
		`/*"]]}`, // objects, schedules, secrets
		`/v1/POST/@connections/*"]]}`, `/v1/DELETE/@connections/*"]]}`, `:*"]]}`,
	}
	for _, synthesis := range []func() (deployment, error){standard, foreign} {
		d := synthesised(t, synthesis)
		for _, policy := range of(d.all(), "AWS::IAM::Policy") {
			for _, s := range statements(policy) {
				for _, action := range s.actions {
					if strings.Contains(action, "*") {
						t.Errorf("%s allows %s", policy.ID, action)
					}
				}
				for _, r := range s.resources {
					explained := slices.ContainsFunc(patterns, func(p string) bool { return strings.HasSuffix(r, p) })
					if r == `"*"` {
						explained = slices.IndexFunc(s.actions, func(a string) bool { return !strings.HasPrefix(a, "xray:") && !strings.HasPrefix(a, "logs:") }) < 0
					}
					if strings.Contains(r, "*") && !explained {
						t.Errorf("%s allows %v on %s", policy.ID, s.actions, r)
					}
				}
			}
		}
		for _, role := range of(d.all(), "AWS::IAM::Role") {
			if managed := role.at("ManagedPolicyArns"); managed != nil && !strings.HasPrefix(role.ID, "ApiCloudWatchRole") {
				t.Errorf("%s has %s", role.ID, text(managed))
			}
		}
	}
}

// The role of each function allows what the table says and what Lambda itself needs, no more and no less.
func TestRoles(t *testing.T) {
	platform := []string{"logs:CreateLogStream", "logs:PutLogEvents", "xray:PutTraceSegments", "xray:PutTelemetryRecords"}
	reading := []string{"dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator", "dynamodb:ListStreams"}
	d := synthesised(t, foreign)
	for _, f := range stacks.Functions(everything(t)) {
		want := map[string]bool{}
		for _, g := range f.Grants {
			for _, action := range g.Actions {
				want[action] = true
			}
		}
		for _, action := range platform {
			want[action] = true
		}
		if f.DeadLetters() && !f.Periodic {
			want["sqs:SendMessage"] = true
		}
		if f.Name == "stream" {
			for _, action := range reading {
				want[action] = true
			}
		}
		got := map[string]bool{}
		for _, s := range statements(named(t, d.app, "AWS::IAM::Policy", id(f.Name)+"Policy")) {
			for _, action := range s.actions {
				got[action] = true
			}
		}
		if w, g := slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got)); !slices.Equal(w, g) {
			t.Errorf("%s may %v, not %v", f.Name, g, w)
		}
	}
}

// id is a name as the logical ids have it.
func id(function string) string {
	var words strings.Builder
	for word := range strings.SplitSeq(function, "-") {
		words.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return words.String()
}

// Keys and roles are handed on only to the service that they are meant for.
func TestConditions(t *testing.T) {
	for _, policy := range of(synthesised(t, standard).app, "AWS::IAM::Policy") {
		for _, s := range statements(policy) {
			for _, action := range s.actions {
				if strings.HasPrefix(action, "kms:") && at(s.condition, "StringEquals", "kms:ViaService") == nil {
					t.Errorf("%s: %s without a condition", policy.ID, action)
				}
				if action == "iam:PassRole" && at(s.condition, "StringEquals", "iam:PassedToService") != "scheduler.amazonaws.com" {
					t.Errorf("%s: %s on %v", policy.ID, action, s.condition)
				}
				keys := at(s.condition, "ForAllValues:StringLike", "dynamodb:LeadingKeys")
				if strings.HasPrefix(policy.ID, "StatusPolicy") && action == "dynamodb:UpdateItem" && !strings.Contains(fmt.Sprint(keys), dynamo.RequestCounts) {
					t.Errorf("%s: %s on every row", policy.ID, action)
				}
			}
		}
	}
	role := named(t, synthesised(t, standard).app, "AWS::IAM::Role", "ScheduleRole")
	if trust := role.at("AssumeRolePolicyDocument", "Statement", 0, "Condition", "StringEquals"); at(trust, "aws:SourceAccount") == nil || at(trust, "aws:SourceArn") == nil {
		t.Errorf("any schedule of any account may take the role: %s", text(trust))
	}
}

// What is given up anywhere can be found in a queue that keeps it for two weeks, encrypted.
func TestDeadLetters(t *testing.T) {
	d := synthesised(t, standard)
	queues := of(d.app, "AWS::SQS::Queue")
	if len(queues) != 5 {
		t.Errorf("%d queues", len(queues))
	}
	for _, q := range queues {
		if q.at("SqsManagedSseEnabled") != true || q.at("MessageRetentionPeriod") != 14*24*3600.0 {
			t.Errorf("%s: %s", q.ID, text(q.Properties))
		}
	}
	for _, p := range of(d.app, "AWS::SQS::QueuePolicy") {
		if !strings.Contains(text(p.at("PolicyDocument")), `{"Bool":{"aws:SecureTransport":"false"}},"Effect":"Deny"`) {
			t.Errorf("%s lets requests without TLS in", p.ID)
		}
	}
	rules := of(d.app, "AWS::Events::Rule")
	if len(rules) != 4 {
		t.Errorf("%d rules", len(rules))
	}
	for _, r := range rules {
		if r.at("Targets", 0, "DeadLetterConfig", "Arn") == nil || r.at("Targets", 0, "RetryPolicy", "MaximumRetryAttempts") == nil || r.at("Targets", 1) != nil {
			t.Errorf("%s: %s", r.ID, text(r.at("Targets")))
		}
	}
	invokes := of(d.app, "AWS::Lambda::EventInvokeConfig")
	if len(invokes) != 4 {
		t.Errorf("%d functions are called without waiting", len(invokes))
	}
	for _, i := range invokes {
		kept, periodic := i.at("DestinationConfig", "OnFailure", "Destination") != nil, strings.HasPrefix(i.ID, "Sweep")
		if kept == periodic || i.at("MaximumRetryAttempts") == nil || i.at("MaximumEventAgeInSeconds") == nil {
			t.Errorf("%s: %s", i.ID, text(i.Properties))
		}
	}
}

// The rules match what they are for: the sweeper's clock, our executions that ended badly, and two of our own events.
func TestRules(t *testing.T) {
	d := synthesised(t, standard)
	machine := one(t, d.app, "AWS::StepFunctions::StateMachine").ID
	for name, want := range map[string]string{
		"SweepRule": `null`,
		"ExecutionEndedRule": `{"detail":{"stateMachineArn":[{"Ref":"` + machine + `"}],"status":["TIMED_OUT","FAILED","ABORTED"]},` +
			`"detail-type":["Step Functions Execution Status Change"],"source":["aws.states"]}`,
		"DeletingRule":  `{"detail-type":["BackupJobDeleting"],"source":["sitevault"]}`,
		"CancelledRule": `{"detail":{"failureKind":["Cancelled"]},"detail-type":["BackupJobFinished"],"source":["sitevault"]}`,
	} {
		rule := named(t, d.app, "AWS::Events::Rule", name)
		if got := text(rule.at("EventPattern")); got != want {
			t.Errorf("%s: %s", name, got)
		}
		if ownBus := rule.at("EventBusName") != nil; ownBus != (name == "DeletingRule" || name == "CancelledRule") {
			t.Errorf("%s is on the wrong bus", name)
		}
	}
	if clock := named(t, d.app, "AWS::Events::Rule", "SweepRule").at("ScheduleExpression"); clock != "rate(1 minute)" {
		t.Errorf("the sweeper runs at %v", clock)
	}
}

// The stream is read in small steps, loses nothing in silence and delivers only rows that somebody waits for.
func TestStream(t *testing.T) {
	mapping := one(t, synthesised(t, standard).app, "AWS::Lambda::EventSourceMapping")
	if mapping.at("BisectBatchOnFunctionError") != true || text(mapping.at("FunctionResponseTypes")) != `["ReportBatchItemFailures"]` ||
		mapping.at("MaximumBatchingWindowInSeconds") != 1.0 || mapping.at("MaximumRetryAttempts") != 8.0 || mapping.at("StartingPosition") != "TRIM_HORIZON" ||
		mapping.at("DestinationConfig", "OnFailure", "Destination") == nil || mapping.DependsOn == nil {
		t.Errorf("%s", text(mapping.Properties))
	}
	var types []string
	for i := range 2 {
		var pattern map[string]any
		raw, _ := mapping.at("FilterCriteria", "Filters", i, "Pattern").(string)
		if err := json.Unmarshal([]byte(raw), &pattern); err != nil {
			t.Fatal(err)
		}
		image := "NewImage"
		if at(pattern, "userIdentity", "principalId", 0) == "dynamodb.amazonaws.com" {
			image = "OldImage"
		}
		for _, name := range many(at(pattern, "dynamodb", image, dynamo.TypeAttribute, "S")) {
			types = append(types, fmt.Sprint(image, " ", name))
		}
	}
	if !slices.Equal(types, []string{"NewImage job", "NewImage file", "NewImage part", "NewImage error", "OldImage job"}) {
		t.Errorf("%v", types)
	}
}

// Every route of the API asks who calls, and only those of the API are there.
func TestREST(t *testing.T) {
	routes, err := stacks.Routes()
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		synthesis     func() (deployment, error)
		authorization string
	}{"standard": {standard, "COGNITO_USER_POOLS"}, "foreign": {foreign, "CUSTOM"}} {
		d := synthesised(t, tc.synthesis)
		methods := of(d.app, "AWS::ApiGateway::Method")
		if len(methods) != len(routes) {
			t.Errorf("%s: %d methods for %d routes", name, len(methods), len(routes))
		}
		paths, functions := resourcePaths(d), byFunction(d)
		served := map[string]string{}
		for _, m := range methods {
			if m.at("AuthorizationType") != tc.authorization || m.at("AuthorizerId") == nil || m.at("RequestValidatorId") == nil {
				t.Errorf("%s %s: %s", name, m.ID, text(m.Properties))
			}
			route := fmt.Sprint(m.at("HttpMethod"), " ", paths[fmt.Sprint(at(m.at("ResourceId"), "Ref"))])
			for function, r := range functions {
				if strings.Contains(text(m.at("Integration", "Uri")), `"`+r.ID+`"`) {
					served[route] = function
				}
			}
		}
		for _, r := range routes {
			if got := served[r.Method+" "+r.Path]; got != r.Function() {
				t.Errorf("%s: %s %s is served by %q", name, r.Method, r.Path, got)
			}
		}
	}
}

// resourcePaths are the paths of API Gateway's resources by their logical ids.
func resourcePaths(d deployment) map[string]string {
	byID := map[string]resource{}
	for _, r := range of(d.app, "AWS::ApiGateway::Resource") {
		byID[r.ID] = r
	}
	paths := map[string]string{}
	for id := range byID {
		path := ""
		for r, ok := byID[id]; ok; r, ok = byID[fmt.Sprint(r.at("ParentId", "Ref"))] {
			path = fmt.Sprint("/", r.at("PathPart"), path)
		}
		paths[id] = path
	}
	return paths
}

// The API takes current TLS only, bounds the rate, and logs who asked for what without what was in it.
func TestRESTStage(t *testing.T) {
	d := synthesised(t, standard)
	rest, stage := one(t, d.app, "AWS::ApiGateway::RestApi"), one(t, d.app, "AWS::ApiGateway::Stage")
	if rest.at("SecurityPolicy") != "SecurityPolicy_TLS13_1_2_PFS_PQ_2025_09" || rest.at("EndpointAccessMode") != "STRICT" {
		t.Errorf("%s", text(rest.Properties))
	}
	settings := stage.at("MethodSettings", 0)
	if at(settings, "DataTraceEnabled") != false || at(settings, "ThrottlingRateLimit") == nil || at(settings, "ThrottlingBurstLimit") == nil ||
		stage.at("TracingEnabled") != true || stage.at("StageName") != "v1" {
		t.Errorf("%s", text(stage.Properties))
	}
	checkLog(t, stage.at("AccessLogSetting", "Format"))
	if got := len(of(d.app, "AWS::ApiGateway::GatewayResponse")); got != len(stacks.Refusals()) {
		t.Errorf("%d answers of the gateway's own", got)
	}
}

// The socket asks for a ticket at its one door, and its log does not keep it.
func TestSocket(t *testing.T) {
	d := synthesised(t, standard)
	for _, route := range of(d.app, "AWS::ApiGatewayV2::Route") {
		if asks := route.at("AuthorizationType") == "CUSTOM"; asks != (route.at("RouteKey") == "$connect") {
			t.Errorf("%v: %v", route.at("RouteKey"), route.at("AuthorizationType"))
		}
	}
	authorizer := one(t, d.app, "AWS::ApiGatewayV2::Authorizer")
	if text(authorizer.at("IdentitySource")) != `["route.request.querystring.ticket"]` || authorizer.at("AuthorizerType") != "REQUEST" {
		t.Errorf("%s", text(authorizer.Properties))
	}
	stage := one(t, d.app, "AWS::ApiGatewayV2::Stage")
	if stage.at("DefaultRouteSettings", "ThrottlingRateLimit") == nil || stage.at("StageName") != "v1" {
		t.Errorf("%s", text(stage.Properties))
	}
	checkLog(t, stage.at("AccessLogSettings", "Format"))
}

func checkLog(t *testing.T, format any) {
	t.Helper()
	line, _ := format.(string)
	if !json.Valid([]byte(line)) {
		t.Errorf("no JSON: %s", line)
	}
	for _, secret := range []string{"querystring", "header", "authorization", "ticket", "$context.requestOverride"} {
		if strings.Contains(strings.ToLower(line), secret) {
			t.Errorf("the log keeps %s: %s", secret, line)
		}
	}
}
