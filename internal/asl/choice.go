package asl

import (
	"context"
	"encoding/json"
	"strings"
)

// condition is one rule of a Choice. Evaluating it fails with States.Runtime where its Variable selects nothing.
type condition interface {
	holds(v *visit) (bool, *Error)
}

type choice struct {
	rules     []choiceRule
	otherwise *state
}

type choiceRule struct {
	condition condition
	next      *state
}

func (c *choice) step(_ context.Context, v *visit) (json.RawMessage, *state, *halt) {
	for _, rule := range c.rules {
		ok, err := rule.condition.holds(v)
		if err != nil {
			return nil, nil, v.run.fatal(err)
		}
		if ok {
			return v.output(v.effective, rule.next)
		}
	}
	if c.otherwise == nil {
		return nil, nil, v.run.fatal(runtimeError(v.state.name, "no rule matches and there is no Default"))
	}
	return v.output(v.effective, c.otherwise)
}

type (
	allOf  []condition
	anyOf  []condition
	negate struct{ condition }
)

func (all allOf) holds(v *visit) (bool, *Error) {
	for _, c := range all {
		if ok, err := c.holds(v); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (some anyOf) holds(v *visit) (bool, *Error) {
	for _, c := range some {
		if ok, err := c.holds(v); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

func (n negate) holds(v *visit) (bool, *Error) {
	ok, err := n.condition.holds(v)
	return !ok && err == nil, err
}

// comparison tests the value of variable.
type comparison struct {
	variable *path
	test     func(value json.RawMessage) bool
}

func (c comparison) holds(v *visit) (bool, *Error) {
	value, found := c.variable.find(v.effective, v)
	if found != selectedValue {
		return false, runtimeError(v.state.name, "path %s of field %q selects nothing", c.variable.text, "Variable")
	}
	return c.test(value), nil
}

// presence is IsPresent, the one test that a missing value does not fail.
type presence struct {
	variable *path
	wanted   bool
}

func (p presence) holds(v *visit) (bool, *Error) {
	_, found := p.variable.find(v.effective, v)
	return (found == selectedValue) == p.wanted, nil
}

var numericTests = map[string]func(value, bound float64) bool{
	"NumericEquals":            func(value, bound float64) bool { return value == bound },
	"NumericLessThan":          func(value, bound float64) bool { return value < bound },
	"NumericLessThanEquals":    func(value, bound float64) bool { return value <= bound },
	"NumericGreaterThan":       func(value, bound float64) bool { return value > bound },
	"NumericGreaterThanEquals": func(value, bound float64) bool { return value >= bound },
}

// operators are the fields of which a rule has exactly one, in the order in which messages list them.
var operators = []string{
	"And", "Or", "Not", "StringEquals", "StringMatches", "BooleanEquals", "NumericEquals", "NumericLessThan",
	"NumericLessThanEquals", "NumericGreaterThan", "NumericGreaterThanEquals", "IsPresent", "IsNull",
}

func (r stateReader) choice() {
	r.inputOutput()
	c := &choice{}
	rules := r.objects("Choices")
	if len(rules) == 0 {
		r.refuse("Choices", "must be an array that is not empty")
	}
	for _, f := range rules {
		f.text("Comment")
		c.rules = append(c.rules, choiceRule{next: r.target(f, "Next"), condition: readCondition(f)})
	}
	if r.has("Default") {
		c.otherwise = r.target(r.fields, "Default")
	}
	r.state.behavior = c
}

// readCondition reads one rule without its Next, which only the outermost rules have.
func readCondition(f *fields) condition {
	operator := f.operator()
	defer f.end()
	switch operator {
	case "And":
		return allOf(readConditions(f, operator))
	case "Or":
		return anyOf(readConditions(f, operator))
	case "Not":
		return negate{readCondition(f.object(operator))}
	case "":
		return nil
	}
	if !f.has("Variable") {
		f.refuse("Variable", "is required")
	}
	return readComparison(f, f.path("Variable"), operator)
}

// operator names the one operator of the rule; what it does not know stays behind for end to refuse.
func (f *fields) operator() string {
	found := ""
	for _, name := range operators {
		switch {
		case !f.has(name):
		case found != "":
			f.refuse(name, "cannot be combined with %s", found)
		default:
			found = name
		}
	}
	if found == "" {
		f.take("Variable")
		f.end()
		f.refuse("Variable", "needs one of %s", strings.Join(operators, ", "))
	}
	return found
}

func readConditions(f *fields, name string) []condition {
	var list []condition
	for _, inner := range f.objects(name) {
		list = append(list, readCondition(inner))
	}
	if len(list) == 0 {
		f.refuse(name, "must be an array that is not empty")
	}
	return list
}

func readComparison(f *fields, variable *path, operator string) condition {
	switch operator {
	case "IsPresent":
		return presence{variable: variable, wanted: f.flag(operator)}
	case "IsNull":
		wanted := f.flag(operator)
		return comparison{variable, func(value json.RawMessage) bool { return (string(value) == "null") == wanted }}
	case "BooleanEquals":
		wanted := f.flag(operator)
		return comparison{variable, func(value json.RawMessage) bool {
			return string(value) == "true" && wanted || string(value) == "false" && !wanted
		}}
	case "StringEquals":
		wanted := f.text(operator)
		return comparison{variable, func(value json.RawMessage) bool { return isString(value) && keyIs(value, wanted) }}
	case "StringMatches":
		pattern := parsePattern(f.text(operator))
		return comparison{variable, func(value json.RawMessage) bool {
			return isString(value) && pattern.matches(unquote(value))
		}}
	}
	test, bound := numericTests[operator], f.requiredNumber(operator)
	return comparison{variable, func(value json.RawMessage) bool {
		n, ok := parseNumber(value)
		return ok && test(n, bound)
	}}
}

func (f *fields) requiredNumber(name string) float64 {
	doc, _ := f.take(name)
	n, ok := parseNumber(doc)
	if !ok {
		f.refuse(name, "must be a number")
	}
	return n
}

// pattern is a StringMatches value cut at its asterisks; a backslash takes the special meaning from * and \.
type pattern []string

func parsePattern(text string) pattern {
	p := pattern{""}
	for i := 0; i < len(text); i++ {
		last := &p[len(p)-1]
		switch {
		case text[i] == '*':
			p = append(p, "")
		case text[i] == '\\' && i+1 < len(text):
			i++
			*last += text[i : i+1]
		default:
			*last += text[i : i+1]
		}
	}
	return p
}

// matches wants the pieces in their order: the first at the start of text, the last at its end.
func (p pattern) matches(text string) bool {
	rest, ok := strings.CutPrefix(text, p[0])
	if len(p) == 1 || !ok {
		return ok && rest == ""
	}
	for _, piece := range p[1 : len(p)-1] {
		if _, rest, ok = strings.Cut(rest, piece); !ok {
			return false
		}
	}
	return strings.HasSuffix(rest, p[len(p)-1])
}
