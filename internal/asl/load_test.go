package asl_test

import (
	"strings"
	"testing"

	"github.com/sitevault/sitevault/internal/asl"
)

// good uses every supported field once.
const good = `{
	"Comment": "c", "Version": "1.0", "QueryLanguage": "JSONPath", "TimeoutSeconds": 60, "StartAt": "Task",
	"States": {
		"Task": {"Type": "Task", "Comment": "c", "Resource": "${F}", "InputPath": "$", "OutputPath": "$", "Next": "Map",
			"Parameters": {"a.$": "$.a"}, "ResultSelector": {"b.$": "$.b"}, "ResultPath": "$.r", "TimeoutSeconds": 30,
			"Retry": [
				{"ErrorEquals": ["X", "States.Timeout"], "IntervalSeconds": 2, "MaxAttempts": 0, "BackoffRate": 1.5,
					"MaxDelaySeconds": 60, "JitterStrategy": "FULL", "Comment": "c"},
				{"ErrorEquals": ["States.ALL"]}],
			"Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Fail", "ResultPath": "$.e", "Comment": "c"}]},
		"Map": {"Type": "Map", "ItemsPath": "$.l", "MaxConcurrencyPath": "$.c", "ItemSelector": {"v.$": "$$.Map.Item.Value"},
			"ItemProcessor": {"ProcessorConfig": {"Mode": "INLINE"}, "StartAt": "Inner",
				"States": {"Inner": {"Type": "Task", "Resource": "${F}", "TimeoutSecondsPath": "$.t", "End": true}}},
			"ResultSelector": {"r.$": "$"}, "ResultPath": null, "Next": "Choice",
			"Retry": [{"ErrorEquals": ["X"]}], "Catch": [{"ErrorEquals": ["X"], "Next": "Pass"}]},
		"Choice": {"Type": "Choice", "Default": "Pass", "Choices": [
			{"Variable": "$.a", "NumericLessThan": 3, "Next": "Wait", "Comment": "c"},
			{"And": [{"Variable": "$.b", "IsPresent": true}, {"Not": {"Variable": "$.b", "StringEquals": "x"}}], "Next": "Done"}]},
		"Wait": {"Type": "Wait", "Seconds": 1, "Next": "Pass"},
		"Pass": {"Type": "Pass", "Result": {"x": 1}, "ResultPath": "$.p", "End": true},
		"Done": {"Type": "Succeed", "InputPath": "$.a", "OutputPath": null},
		"Fail": {"Type": "Fail", "Error": "E", "CausePath": "$.e.Cause"}
	}
}`

// The file that the refusals start from is itself accepted.
func TestLoadAcceptsEveryField(t *testing.T) {
	load(t, good, handlers{"F": echo})
}

// Whatever the package does not support is refused when the file is loaded, naming the state and the field.
func TestLoadRefuses(t *testing.T) {
	for _, tc := range []struct{ old, new, message string }{
		// the machine
		{`"Version": "1.0"`, `"Version": "2.0"`, `asl: field "Version": value "2.0" is not supported`},
		{`"JSONPath"`, `"JSONata"`, `asl: field "QueryLanguage": value "JSONata" is not supported`},
		{`"TimeoutSeconds": 60`, `"TimeoutSeconds": 0`, `asl: field "TimeoutSeconds": must be an integer from 1 to 99999999`},
		{`"TimeoutSeconds": 60`, `"TimeoutSeconds": 1.5`, `asl: field "TimeoutSeconds": must be an integer`},
		{`"TimeoutSeconds": 60`, `"Timeout": 60`, `asl: field "Timeout": is not supported`},
		{`"Comment": "c", "Version"`, `"Comment": 7, "Version"`, `asl: field "Comment": must be a string`},
		{`"Comment": "c", "Version"`, `"StartAt": "Pass", "Version"`, `asl: field "StartAt": occurs twice`},
		{`"StartAt": "Task"`, `"StartAt": "Nowhere"`, `asl: field "StartAt": there is no state "Nowhere"`},
		{`, "StartAt": "Task"`, ``, `asl: field "StartAt": is required`},
		{`"States": {
		"Task"`, `"Stages": {
		"Task"`, `asl: field "States": is required`},
		// the graph
		{`"Next": "Map"`, `"Next": "Nowhere"`, `state "Task": field "Next": names no state of the same flow`},
		{`"Next": "Map"`, `"Next": "Inner"`, `state "Task": field "Next": names no state of the same flow`},
		{`"Next": "Map"`, `"Next": "Pass"`, `state "Map": no state leads to it`},
		{`"Next": "Map"`, `"Next": "Map", "End": true`, `state "Task": field "Next": exactly one of Next, End is required`},
		{`"Next": "Map",
			"Parameters"`, `"Parameters"`, `state "Task": field "Next": exactly one of Next, End is required`},
		{`"$.p", "End": true`, `"$.p", "End": false`, `state "Pass": field "End": must be true`},
		{`"$.t", "End": true`, `"$.t", "Next": "Inner"`, `state "Map": field "ItemProcessor.States": no state ends the flow`},
		{`"Wait": {"Type"`, `"Pass": {"Type"`, `asl: field "States.Pass": occurs twice`},
		{`"Inner": {"Type"`, `"Pass": {"Type"`, `state "Pass": the name occurs twice in the machine`},
		{`"Default": "Pass"`, `"Default": "Nowhere"`, `state "Choice": field "Default": names no state`},
		{`"Next": "Wait"`, `"Next": "Nowhere"`, `state "Choice": field "Choices[0].Next": names no state`},
		{`"Next": "Fail"`, `"Next": "Nowhere"`, `state "Task": field "Catch[0].Next": names no state`},
		{`"Wait": {"Type"`, `"` + strings.Repeat("W", 81) + `": {"Type"`, `must have 1 to 80 characters`},
		// states and their fields
		{`"Type": "Succeed"`, `"Type": "Parallel"`, `state "Done": field "Type": value "Parallel" is not supported`},
		{`"Type": "Succeed", `, ``, `state "Done": field "Type": is required`},
		{`{"Type": "Wait", "Seconds": 1, "Next": "Pass"}`, `[]`, `state "Wait": must be an object`},
		{`"TimeoutSeconds": 30`, `"HeartbeatSeconds": 30`, `state "Task": field "HeartbeatSeconds": is not supported`},
		{`"TimeoutSeconds": 30`, `"TimeoutSeconds": 30, "TimeoutSecondsPath": "$.t"`, `state "Task": field "TimeoutSecondsPath": cannot be combined`},
		{`"TimeoutSeconds": 30`, `"TimeoutSeconds": "30"`, `state "Task": field "TimeoutSeconds": must be an integer`},
		{`"TimeoutSeconds": 30`, `"Assign": {}`, `state "Task": field "Assign": is not supported`},
		{`"TimeoutSeconds": 30`, `"ResultPath": "$.q"`, `state "Task": field "ResultPath": occurs twice`},
		{`"Result": {"x": 1}`, `"ResultSelector": {}`, `state "Pass": field "ResultSelector": is not supported`},
		{`"Result": {"x": 1}`, `"Result": 1, "Parameters": {}`, `state "Pass": field "Parameters": cannot be combined with Result`},
		{`"Seconds": 1`, `"Seconds": 1, "SecondsPath": "$.s"`, `state "Wait": field "Seconds": exactly one of`},
		{`"Seconds": 1`, `"Timestamp": "2026-01-02"`, `state "Wait": field "Timestamp": "2026-01-02" is not an RFC 3339 timestamp`},
		{`"Seconds": 1`, `"Timestamp": "2026-01-02T03:04:05z"`, `state "Wait": field "Timestamp":`},
		{`"Seconds": 1, `, ``, `state "Wait": field "Seconds": exactly one of`},
		{`"Error": "E"`, `"Error": "E", "ErrorPath": "$.e"`, `state "Fail": field "ErrorPath": cannot be combined with Error`},
		{`"Error": "E"`, `"InputPath": "$"`, `state "Fail": field "InputPath": is not supported`},
		{`"OutputPath": null`, `"ResultPath": null`, `state "Done": field "ResultPath": is not supported`},
		// resources
		{`"Resource": "${F}", "InputPath"`, `"Resource": "${G}", "InputPath"`, `state "Task": field "Resource": no handler is registered as "G"`},
		{`"Resource": "${F}", "TimeoutSecondsPath"`, `"Resource": "arn:aws:states:::sns:publish", "TimeoutSecondsPath"`,
			`state "Inner": field "Resource": "arn:aws:states:::sns:publish" is not a placeholder`},
		{`"Resource": "${F}", "InputPath"`, `"InputPath"`, `state "Task": field "Resource": is required`},
		// paths
		{`"InputPath": "$", `, `"InputPath": "a", `, `state "Task": field "InputPath": a path begins with $`},
		{`"InputPath": "$", `, `"InputPath": "$.a[*]", `, `state "Task": field "InputPath": "[*]": only`},
		{`"InputPath": "$", `, `"InputPath": "$..a", `, `state "Task": field "InputPath": "..a": only`},
		{`"InputPath": "$", `, `"InputPath": "$.a[0:2]", `, `state "Task": field "InputPath": "[0:2]": only`},
		{`"InputPath": "$", `, `"InputPath": "$.a[-1]", `, `state "Task": field "InputPath": "[-1]": only`},
		{`"InputPath": "$", `, `"InputPath": "$.a[?(@.b)]", `, `state "Task": field "InputPath": "[?(@.b)]": only`},
		{`"InputPath": "$", `, `"InputPath": "$.a.length()", `, `state "Task": field "InputPath": "()": only`},
		{`"InputPath": "$", `, `"InputPath": "$['a','b']", `, `state "Task": field "InputPath":`},
		{`"InputPath": "$", `, `"InputPath": "$$", `, `state "Task": field "InputPath": "$$" is not a supported field`},
		{`"InputPath": "$", `, `"InputPath": "$$.Task.Token", `, `"$$.Task.Token" is not a supported field of the context object`},
		{`"InputPath": "$", `, `"InputPath": "$$.State.Name.x", `, `"$$.State.Name.x" is not a supported field`},
		{`"InputPath": "$", `, `"InputPath": "$$.Map.Item.Value", `, `state "Task": field "InputPath": $$.Map.Item.Value exists only inside a Map`},
		{`{"r.$": "$"}`, `{"r.$": "$$.Map.Item.Index"}`, `state "Map": field "ResultSelector": field "r.$": $$.Map.Item.Index exists only inside a Map`},
		{`"ResultPath": "$.p"`, `"ResultPath": "$.p[0]"`, `state "Pass": field "ResultPath": an index is not supported`},
		{`"ResultPath": "$.p"`, `"ResultPath": "$$.Execution.Input"`, `state "Pass": field "ResultPath": cannot write to the context object`},
		{`"ItemsPath": "$.l"`, `"ItemsPath": null`, `state "Map": field "ItemsPath": must be a string`},
		// templates
		{`{"a.$": "$.a"}`, `{"a.$": "States.UUID()"}`, `state "Task": field "Parameters": field "a.$": intrinsic functions are not supported`},
		{`{"a.$": "$.a"}`, `{"a.$": 7}`, `state "Task": field "Parameters": field "a.$": must be a path`},
		{`{"a.$": "$.a"}`, `{"o": [{"a.$": "x"}]}`, `state "Task": field "Parameters": field "a.$": a path begins with $`},
		{`{"a.$": "$.a"}`, `{"a.$": "$.a", "a": 1}`, `state "Task": field "Parameters": field "a" occurs twice`},
		{`{"a.$": "$.a"}`, `[]`, `state "Task": field "Parameters": must be an object`},
		{`{"b.$": "$.b"}`, `{"b.$": "$.b[*]"}`, `state "Task": field "ResultSelector": field "b.$": "[*]": only`},
		{`{"v.$": "$$.Map.Item.Value"}`, `{"v.$": "$$.Map.Item.Key"}`, `state "Map": field "ItemSelector": field "v.$": "$$.Map.Item.Key" is not`},
		// Map
		{`"Mode": "INLINE"`, `"Mode": "DISTRIBUTED"`, `state "Map": field "ItemProcessor.ProcessorConfig.Mode": value "DISTRIBUTED" is not supported`},
		{`"Mode": "INLINE"`, `"ExecutionType": "STANDARD"`, `state "Map": field "ItemProcessor.ProcessorConfig.ExecutionType": is not supported`},
		{`"StartAt": "Inner"`, `"StartAt": "Task"`, `state "Map": field "ItemProcessor.StartAt": there is no state "Task"`},
		{`"StartAt": "Inner"`, `"StartAt": "Inner", "TimeoutSeconds": 1`, `state "Map": field "ItemProcessor.TimeoutSeconds": is not supported`},
		{`"ItemProcessor"`, `"Iterator"`, `state "Map": field "ItemProcessor": is required`},
		{`"MaxConcurrencyPath": "$.c"`, `"MaxConcurrency": -1`, `state "Map": field "MaxConcurrency": must be an integer from 0`},
		{`"MaxConcurrencyPath": "$.c"`, `"MaxConcurrency": 1, "MaxConcurrencyPath": "$.c"`, `state "Map": field "MaxConcurrencyPath": cannot be combined`},
		{`"MaxConcurrencyPath": "$.c"`, `"ToleratedFailureCount": 1`, `state "Map": field "ToleratedFailureCount": is not supported`},
		// Choice
		{`"NumericLessThan": 3`, `"NumericLessThanPath": "$.n"`, `state "Choice": field "Choices[0].NumericLessThanPath": is not supported`},
		{`"NumericLessThan": 3`, `"NumericLessThan": "3"`, `state "Choice": field "Choices[0].NumericLessThan": must be a number`},
		{`"NumericLessThan": 3`, `"NumericLessThan": 3, "IsNull": true`, `state "Choice": field "Choices[0].IsNull": cannot be combined with NumericLessThan`},
		{`"NumericLessThan": 3, `, ``, `state "Choice": field "Choices[0].Variable": needs one of`},
		{`"Variable": "$.a", `, ``, `state "Choice": field "Choices[0].Variable": is required`},
		{`"IsPresent": true`, `"IsPresent": "true"`, `state "Choice": field "Choices[1].And[0].IsPresent": must be true or false`},
		{`"IsPresent": true`, `"IsPresent": true, "Next": "Done"`, `state "Choice": field "Choices[1].And[0].Next": is not supported`},
		{`"StringEquals": "x"`, `"StringLessThan": "x"`, `state "Choice": field "Choices[1].And[1].Not.StringLessThan": is not supported`},
		{`"StringEquals": "x"`, `"StringEquals": 7`, `state "Choice": field "Choices[1].And[1].Not.StringEquals": must be a string`},
		{`"Default": "Pass", "Choices"`, `"Next": "Pass", "Choices"`, `state "Choice": field "Next": is not supported`},
		{`"Choices": [`, `"Choices": [], "Other": [`, `state "Choice": field "Choices": must be an array that is not empty`},
		// Retry and Catch
		{`"JitterStrategy": "FULL"`, `"JitterStrategy": "HALF"`, `state "Task": field "Retry[0].JitterStrategy": value "HALF" is not supported`},
		{`"BackoffRate": 1.5`, `"BackoffRate": 0.5`, `state "Task": field "Retry[0].BackoffRate": must be a number of at least 1`},
		{`"IntervalSeconds": 2`, `"IntervalSeconds": 0`, `state "Task": field "Retry[0].IntervalSeconds": must be an integer from 1`},
		{`"MaxAttempts": 0`, `"MaxAttempts": -1`, `state "Task": field "Retry[0].MaxAttempts": must be an integer from 0`},
		{`"MaxDelaySeconds": 60`, `"MaxDelaySeconds": 2`, `state "Task": field "Retry[0].MaxDelaySeconds": must be greater than IntervalSeconds`},
		{`"MaxDelaySeconds": 60`, `"MaxDelaySeconds": 31622400`, `state "Task": field "Retry[0].MaxDelaySeconds": must be an integer from 1 to 31622399`},
		{`["X", "States.Timeout"]`, `["States.ALL"]`, `state "Task": field "Retry[0].ErrorEquals": States.ALL must stand alone, in the last entry`},
		{`{"ErrorEquals": ["States.ALL"]}`, `{"ErrorEquals": ["States.ALL", "X"]}`, `state "Task": field "Retry[1].ErrorEquals": States.ALL must stand alone`},
		{`["X", "States.Timeout"]`, `["States.Timeouts"]`, `state "Task": field "Retry[0].ErrorEquals": "States.Timeouts" is not an error name`},
		{`["X", "States.Timeout"]`, `[]`, `state "Task": field "Retry[0].ErrorEquals": must be an array of strings that is not empty`},
		{`["X", "States.Timeout"]`, `["X", 1]`, `state "Task": field "Retry[0].ErrorEquals": must be an array of strings`},
		{`"ResultPath": "$.e"`, `"OutputPath": "$.e"`, `state "Task": field "Catch[0].OutputPath": is not supported`},
		{`"Catch": [{"ErrorEquals": ["X"], "Next": "Pass"}]`, `"Catch": {}`, `state "Map": field "Catch": must be an array`},
		{`"Retry": [{"ErrorEquals": ["X"]}]`, `"Retry": ["X"]`, `state "Map": field "Retry[0]": must be an object`},
	} {
		if strings.Count(good, tc.old) == 0 {
			t.Fatalf("the good file has no %s", tc.old)
		}
		_, err := asl.Load([]byte(strings.Replace(good, tc.old, tc.new, 1)), handlers{"F": echo})
		if err == nil || !strings.Contains(err.Error(), tc.message) {
			t.Errorf("%s\n got  %v\n want %s", tc.new, err, tc.message)
		}
	}
}

// Text that is no definition at all is refused too.
func TestLoadRefusesOtherText(t *testing.T) {
	for text, message := range map[string]string{
		``:                              "unexpected end of JSON input",
		`{`:                             "unexpected end of JSON input",
		`[]`:                            "must be an object",
		`{} {}`:                         "invalid character",
		`{"StartAt": "A", "States": 1}`: `field "States": must be an object`,
		strings.Repeat(" ", 1<<20+1):    "exceeds the limit of 1048576 bytes",
	} {
		if _, err := asl.Load([]byte(text), nil); err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("%.40s: got %v, want %s", text, err, message)
		}
	}
}
