package asl_test

import (
	"bytes"
	"context"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sitevault/sitevault/internal/asl"
)

// No file makes Load panic, and a file that loads runs to an end without one.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(good), []byte(`{"a": 1, "l": [{"t": 1}], "c": 2}`))
	f.Add([]byte(mapOver(`"Catch": [{"ErrorEquals": ["X"], "Next": "B"}],`)), []byte(`[1]`))
	f.Add([]byte(`{"StartAt":"A","States":{"A":{"Type":"Choice","Choices":[{"Not":{"Variable":"$","StringMatches":"*a\\*"},"Next":"B"}]},"B":{"Type":"Succeed"}}}`), []byte(`"xa*"`))
	f.Add([]byte(`{"StartAt":"A","States":{"A":{"Type":"Fail"},"A":{"Type":"Fail"}}}`), []byte(`{}`))
	f.Fuzz(func(t *testing.T, file, input []byte) {
		m, err := asl.Load(file, handlers{"F": echo})
		if err != nil {
			return
		}
		skip := func(context.Context, time.Duration) {}
		result := m.Run(t.Context(), asl.Execution{Input: input}, asl.Options{Sleep: skip, MaxHistoryEvents: 200})
		if result.Status == asl.Succeeded && !json.Valid(result.Output) {
			t.Errorf("output %q is not JSON", result.Output)
		}
	})
}

// A path selects from JSON text what a walk through the decoded value selects, and ResultPath writes where it reads.
func FuzzPath(f *testing.F) {
	for path, input := range map[string]string{
		"$": `1`, "$.a.b": `{"a": {"b": [true]}}`, "$['a b'][1]": `{"a b": [0, {"\"": 2}]}`, "$.a[9]": `{"a": [1]}`,
		"$.k": `{"\u006b": "\\", "x": "]}"}`, "$[0][0]": `[[[]]]`, "$$.Execution.Input.a": `{"a": {}}`, "$['é']": `{"é": 1, "é": 2}`,
		"$.a..b": `{}`, "$['a": `{}`, "$[01]": `[1]`,
	} {
		f.Add(path, []byte(input))
	}
	f.Fuzz(func(t *testing.T, path string, input []byte) {
		var value any
		if !utf8.ValidString(path) || !utf8.Valid(input) || json.Unmarshal(input, &value) != nil {
			return
		}
		quoted, err := json.Marshal(path)
		if err != nil {
			t.Fatal(err)
		}
		m, err := asl.Load([]byte(states(`"A": {"Type": "Pass", "InputPath": `+string(quoted)+`, "End": true}`)), nil)
		if err != nil || len(input) > asl.MaxPayloadBytes {
			return
		}
		result := m.Run(t.Context(), asl.Execution{Input: input}, asl.Options{})
		want, ok := walk(value, strings.TrimPrefix(strings.TrimPrefix(path, "$$.Execution.Input"), "$"))
		if strings.HasPrefix(path, "$$.") && !strings.HasPrefix(path, "$$.Execution.Input") {
			return
		}
		if ok != (result.Status == asl.Succeeded) {
			t.Fatalf("%s of %s: %s %s, want found %v", path, input, result.Status, result.Cause, ok)
		}
		if ok && !reflect.DeepEqual(decode(t, result.Output), want) {
			t.Errorf("%s of %s: got %s", path, input, result.Output)
		}
		roundTrip(t, path, input)
	})
}

// roundTrip writes a marker by ResultPath and reads it back by the same path.
func roundTrip(t *testing.T, path string, input []byte) {
	t.Helper()
	quoted, err := json.Marshal(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := asl.Load([]byte(states(`"A": {"Type": "Pass", "Result": "marker", "ResultPath": `+string(quoted)+`, "Next": "B"},
		"B": {"Type": "Pass", "InputPath": `+string(quoted)+`, "End": true}`)), nil)
	if err != nil {
		return
	}
	result := m.Run(t.Context(), asl.Execution{Input: input}, asl.Options{})
	if result.Status == asl.Succeeded && !bytes.Equal(result.Output, []byte(`"marker"`)) {
		t.Errorf("%s in %s: wrote and read %s", path, input, result.Output)
	}
	if result.Status != asl.Succeeded && result.Error != asl.ErrorResultPath && result.Error != asl.ErrorDataLimitExceeded {
		t.Errorf("%s in %s: %s %s", path, input, result.Error, result.Cause)
	}
}

func decode(t *testing.T, text []byte) any {
	t.Helper()
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		t.Fatal(err)
	}
	return value
}

// walk follows the steps of an accepted path through a decoded value.
func walk(value any, steps string) (any, bool) {
	if steps == "" {
		return value, true
	}
	if name, rest, ok := cutName(steps); ok {
		object, _ := value.(map[string]any)
		member, found := object[name]
		if !found {
			return nil, false
		}
		return walk(member, rest)
	}
	digits, rest, _ := strings.Cut(steps[1:], "]")
	index, err := strconv.Atoi(digits)
	array, _ := value.([]any)
	if err != nil || index >= len(array) {
		return nil, false
	}
	return walk(array[index], rest)
}

func cutName(steps string) (name, rest string, ok bool) {
	if strings.HasPrefix(steps, "['") {
		name, rest, ok = strings.Cut(steps[2:], "']")
		return name, rest, ok
	}
	if steps[0] != '.' {
		return "", "", false
	}
	end := strings.IndexAny(steps[1:], ".[")
	if end < 0 {
		return steps[1:], "", true
	}
	return steps[1 : end+1], steps[end+1:], true
}
