package asl

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// pass is a Pass state.
type pass struct {
	result     json.RawMessage // nil: the effective input, or what parameters make of it
	parameters *template
	resultPath resultPath
}

func (p *pass) step(_ context.Context, v *visit) (json.RawMessage, *state, *halt) {
	result := p.result
	if result == nil {
		var err *Error
		if result, err = p.parameters.render(v.effective, v); err != nil {
			return nil, nil, v.run.fatal(err)
		}
	}
	merged, ok := p.resultPath.apply(v.input, result)
	if !ok {
		return nil, nil, &halt{cause: resultPathError(v)}
	}
	return v.output(merged, v.state.next)
}

func resultPathError(v *visit) *Error {
	return &Error{
		Name:  ErrorResultPath,
		Cause: fmt.Sprintf("state %q: ResultPath leads through a value of the input that is not an object", v.state.name),
	}
}

// succeed is a Succeed state.
type succeed struct{}

func (succeed) step(_ context.Context, v *visit) (json.RawMessage, *state, *halt) {
	return v.output(v.effective, nil)
}

// fail is a Fail state.
type fail struct {
	err                  Error
	errorPath, causePath *path
}

func (f *fail) step(_ context.Context, v *visit) (json.RawMessage, *state, *halt) {
	err := f.err
	for _, part := range []struct {
		field string
		path  *path
		into  *string
	}{{"ErrorPath", f.errorPath, &err.Name}, {"CausePath", f.causePath, &err.Cause}} {
		if part.path == nil {
			continue
		}
		value, found := part.path.find(v.effective, v)
		if found != selectedValue || !isString(value) {
			return nil, nil, v.run.fatal(runtimeError(v.state.name, "%s %s selects no string", part.field, part.path.text))
		}
		*part.into = unquote(value)
	}
	return nil, nil, &halt{cause: &err}
}

// wait is a Wait state: for a duration, or until a point in time where one is set.
type wait struct {
	duration      time.Duration
	secondsPath   *path
	until         time.Time
	timestampPath *path
}

func (w *wait) step(ctx context.Context, v *visit) (json.RawMessage, *state, *halt) {
	d, err := w.remaining(v)
	if err != nil {
		return nil, nil, v.run.fatal(err)
	}
	v.run.options.Sleep(ctx, d)
	if ctx.Err() != nil {
		return nil, nil, &halt{}
	}
	return v.output(v.effective, v.state.next)
}

func (w *wait) remaining(v *visit) (time.Duration, *Error) {
	until := w.until
	switch {
	case w.secondsPath != nil:
		n, err := v.whole("SecondsPath", w.secondsPath, 0)
		return time.Duration(n) * time.Second, err
	case w.timestampPath != nil:
		value, found := w.timestampPath.find(v.effective, v)
		if found != selectedValue || !isString(value) {
			return 0, runtimeError(v.state.name, "TimestampPath %s selects no string", w.timestampPath.text)
		}
		at, err := parseTimestamp(unquote(value))
		if err != nil {
			return 0, runtimeError(v.state.name, "TimestampPath %s: %s", w.timestampPath.text, err)
		}
		until = at
	case until.IsZero():
		return w.duration, nil
	}
	return until.Sub(v.run.options.Now()), nil
}

// whole reads the integer that a ...Path field selects, from low to maxSeconds.
func (v *visit) whole(field string, p *path, low int) (int, *Error) {
	value, found := p.find(v.effective, v)
	if found != selectedValue {
		return 0, runtimeError(v.state.name, "%s %s selects nothing", field, p.text)
	}
	n, err := strconv.Atoi(string(value))
	if err != nil || n < low || n > maxSeconds {
		return 0, runtimeError(v.state.name, "%s %s selects no integer from %d to %d", field, p.text, low, maxSeconds)
	}
	return n, nil
}

// timestampForm is the profile of RFC 3339 that the language asks for: capital T, and Z or an offset.
var timestampForm = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})$`)

func parseTimestamp(text string) (time.Time, error) {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || !timestampForm.MatchString(text) {
		return time.Time{}, fmt.Errorf("%q is not an RFC 3339 timestamp", text)
	}
	return at, nil
}
