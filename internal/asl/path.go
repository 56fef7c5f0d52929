package asl

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// path is a reference path: it selects one value of a payload or of the context object.
type path struct {
	text    string
	discard bool // null: the empty object
	context contextField
	steps   []pathStep
}

// pathStep is a member name, or an element index where key is empty and index is not negative.
type pathStep struct {
	key   string
	index int
}

// contextField is a value of the context object; 0 stands for the payload.
type contextField int

const (
	contextNone contextField = iota
	contextExecutionID
	contextExecutionName
	contextExecutionInput
	contextExecutionStartTime
	contextStateName
	contextStateEnteredTime
	contextStateRetryCount
	contextMachineName
	contextMapItemIndex
	contextMapItemValue
)

var contextFields = []struct {
	prefix string
	field  contextField
	open   bool // the value is JSON of the execution's own, so that steps may go on inside it
}{
	{"Execution.Id", contextExecutionID, false},
	{"Execution.Name", contextExecutionName, false},
	{"Execution.Input", contextExecutionInput, true},
	{"Execution.StartTime", contextExecutionStartTime, false},
	{"State.Name", contextStateName, false},
	{"State.EnteredTime", contextStateEnteredTime, false},
	{"State.RetryCount", contextStateRetryCount, false},
	{"StateMachine.Name", contextMachineName, false},
	{"Map.Item.Index", contextMapItemIndex, false},
	{"Map.Item.Value", contextMapItemValue, true},
}

// parsePath reads a reference path and refuses the rest of JSONPath.
func parsePath(text string) (*path, error) {
	rest, ok := strings.CutPrefix(text, "$")
	if !ok {
		return nil, pathRefusal(text)
	}
	rest, inContext := strings.CutPrefix(rest, "$")
	steps, err := parseSteps(rest)
	if err != nil {
		return nil, err
	}
	p := &path{text: text, steps: steps}
	if inContext {
		return p, p.bindContext()
	}
	return p, nil
}

func pathRefusal(text string) error {
	if strings.HasPrefix(text, reservedPrefix) {
		return errors.New("intrinsic functions are not supported")
	}
	return errors.New("a path begins with $")
}

func parseSteps(rest string) ([]pathStep, error) {
	var steps []pathStep
	for rest != "" {
		step, n, err := parseStep(rest)
		if err != nil {
			return nil, err
		}
		steps, rest = append(steps, step), rest[n:]
	}
	return steps, nil
}

// parseStep reads one step at the start of text and returns its length.
func parseStep(text string) (pathStep, int, error) {
	switch {
	case strings.HasPrefix(text, "."):
		n := 1 + nameLength(text[1:])
		if n == 1 {
			break
		}
		return pathStep{key: text[1:n], index: -1}, n, nil
	case strings.HasPrefix(text, "['"):
		name, _, closed := strings.Cut(text[2:], "']")
		if !closed || name == "" || strings.ContainsAny(name, `'\`) {
			break
		}
		return pathStep{key: name, index: -1}, len(name) + 4, nil
	case strings.HasPrefix(text, "["):
		digits, _, closed := strings.Cut(text[1:], "]")
		index, err := strconv.ParseUint(digits, 10, 31)
		if !closed || err != nil || strconv.FormatUint(index, 10) != digits || index > maxPathIndex {
			break
		}
		return pathStep{index: int(index)}, len(digits) + 2, nil
	}
	return pathStep{}, 0, fmt.Errorf("%q: only .name, ['name'] and [index] are supported", text)
}

// nameLength measures the plain member name at the start of text.
func nameLength(text string) int {
	for i, c := range text {
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c != '-' && (c < '0' || c > '9')) {
			return i
		}
	}
	return len(text)
}

// bindContext replaces the leading steps by the context field that they name.
func (p *path) bindContext() error {
	for _, known := range contextFields {
		names := strings.Split(known.prefix, ".")
		if !hasPrefix(p.steps, names) {
			continue
		}
		if p.context, p.steps = known.field, p.steps[len(names):]; len(p.steps) > 0 && !known.open {
			break
		}
		return nil
	}
	return fmt.Errorf("%q is not a supported field of the context object", p.text)
}

func hasPrefix(steps []pathStep, names []string) bool {
	if len(steps) < len(names) {
		return false
	}
	for i, name := range names {
		if steps[i].key != name {
			return false
		}
	}
	return true
}

func (p *path) needsMapItem() bool {
	return p.context == contextMapItemIndex || p.context == contextMapItemValue
}

// selection is what a path found.
type selection int

const (
	selectedNothing selection = iota
	selectedPastEnd           // the last step is an index beyond its array
	selectedValue
)

// find selects from payload or, for a context path, from the visit's context object. A nil path is $.
func (p *path) find(payload json.RawMessage, v *visit) (json.RawMessage, selection) {
	switch {
	case p == nil:
		return payload, selectedValue
	case p.discard:
		return emptyObject, selectedValue
	case p.context != contextNone:
		payload = v.contextValue(p.context)
	}
	for i, step := range p.steps {
		next, found := step.take(payload)
		if found == selectedPastEnd && i < len(p.steps)-1 {
			found = selectedNothing
		}
		if found != selectedValue {
			return nil, found
		}
		payload = next
	}
	return payload, selectedValue
}

func (s pathStep) take(doc json.RawMessage) (json.RawMessage, selection) {
	switch {
	case s.key != "" && isObject(doc):
		if start, end, ok := locate(doc, s.key); ok {
			return doc[start:end:end], selectedValue
		}
	case s.key == "" && isArray(doc):
		i := 0
		for element := range elements(doc) {
			if i == s.index {
				return element, selectedValue
			}
			i++
		}
		return nil, selectedPastEnd
	}
	return nil, selectedNothing
}

// resultPath says where a result goes in a state's input: nowhere (null), in its place ($), or under keys.
type resultPath struct {
	discard bool
	keys    []string
}

// apply merges result into input.
func (p resultPath) apply(input, result json.RawMessage) (json.RawMessage, bool) {
	if p.discard {
		return input, true
	}
	return put(input, p.keys, result)
}
