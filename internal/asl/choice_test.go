package asl_test

import (
	"testing"
)

// Each operator holds for values of its own type only, and never compares across types.
func TestChoiceOperators(t *testing.T) {
	for _, tc := range []struct {
		rule, value string
		holds       bool
	}{
		{`"StringEquals": "a"`, `"a"`, true},
		{`"StringEquals": "é<"`, `"\u00e9\u003c"`, true},
		{`"StringEquals": "a"`, `"b"`, false},
		{`"StringEquals": "1"`, `1`, false},
		{`"StringEquals": "null"`, `null`, false},
		{`"StringMatches": "*.zip"`, `"a/b.zip"`, true},
		{`"StringMatches": "a*b*c"`, `"a1b2b3c"`, true},
		{`"StringMatches": "a*bc"`, `"abc"`, true},
		{`"StringMatches": "ab*bc"`, `"abc"`, false},
		{`"StringMatches": "a\\*"`, `"a*"`, true},
		{`"StringMatches": "a\\*"`, `"ab"`, false},
		{`"StringMatches": "a"`, `"ab"`, false},
		{`"StringMatches": "*"`, `7`, false},
		{`"NumericEquals": 1`, `1.0`, true},
		{`"NumericEquals": 1`, `"1"`, false},
		{`"NumericEquals": 0`, `null`, false},
		{`"NumericLessThan": 2`, `1e0`, true},
		{`"NumericLessThan": 2`, `2`, false},
		{`"NumericLessThanEquals": 2`, `2`, true},
		{`"NumericGreaterThan": -2`, `-1.5`, true},
		{`"NumericGreaterThan": 2`, `2`, false},
		{`"NumericGreaterThanEquals": 2`, `2`, true},
		{`"NumericGreaterThanEquals": 2`, `true`, false},
		{`"BooleanEquals": true`, `true`, true},
		{`"BooleanEquals": false`, `false`, true},
		{`"BooleanEquals": false`, `true`, false},
		{`"BooleanEquals": false`, `null`, false},
		{`"IsPresent": true`, `null`, true},
		{`"IsPresent": false`, `null`, false},
		{`"IsNull": true`, `null`, true},
		{`"IsNull": true`, `0`, false},
		{`"IsNull": false`, `0`, true},
	} {
		wantChoice(t, `"Variable": "$.v", `+tc.rule, `{"v": `+tc.value+`}`, tc.holds)
	}
}

// Rules combine, and evaluation stops where the outcome is known, so that IsPresent can guard its neighbours.
func TestChoiceCombinations(t *testing.T) {
	const yes, no = `{"Variable": "$.v", "NumericEquals": 1}`, `{"Variable": "$.v", "NumericEquals": 2}`
	const absent, missing = `{"Variable": "$.none", "IsPresent": false}`, `{"Variable": "$.none", "IsNull": true}`
	for _, tc := range []struct {
		rule  string
		holds bool
	}{
		{`"And": [` + yes + `,` + yes + `]`, true},
		{`"And": [` + yes + `,` + no + `]`, false},
		{`"Or": [` + no + `,` + yes + `]`, true},
		{`"Or": [` + no + `,` + no + `]`, false},
		{`"Not": ` + no, true},
		{`"Not": {"And": [` + yes + `, {"Not": ` + no + `}]}`, false},
		{`"Or": [` + absent + `,` + missing + `]`, true},
		{`"And": [{"Not": ` + absent + `},` + missing + `]`, false},
	} {
		wantChoice(t, tc.rule, `{"v": 1}`, tc.holds)
	}
}

func wantChoice(t *testing.T, rule, input string, holds bool) {
	t.Helper()
	file := states(`"A": {"Type": "Choice", "Choices": [{` + rule + `, "Next": "Yes"}], "Default": "No"},
		"Yes": {"Type": "Pass", "Result": true, "End": true}, "No": {"Type": "Pass", "Result": false, "End": true}`)
	result, _ := run(t, file, input, nil)
	want := "false"
	if holds {
		want = "true"
	}
	if string(result.Output) != want {
		t.Errorf("%s for %s: %s %s, want %s", rule, input, result.Output, result.Cause, want)
	}
}

// The first rule that holds decides, and InputPath and OutputPath shape what goes on.
func TestChoiceOrderAndPaths(t *testing.T) {
	file := states(`"A": {"Type": "Choice", "InputPath": "$.in", "OutputPath": "$.x", "Choices": [
			{"Variable": "$.x", "NumericGreaterThan": 1, "Next": "B"}, {"Variable": "$.x", "NumericGreaterThan": 0, "Next": "C"}]},
		"B": {"Type": "Succeed"}, "C": {"Type": "Fail"}`)
	result, _ := run(t, file, `{"in": {"x": 2}}`, nil)
	wantOutput(t, result, `2`)
}
