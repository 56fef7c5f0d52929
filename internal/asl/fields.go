package asl

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// fields reads the members of one JSON object of the file. Reading a field takes it out; what is left at the end is
// unknown and refused. The first refusal of a file is kept and the readers after it return zero values.
type fields struct {
	load   *loading
	state  string // the state the object belongs to; empty for the machine's own
	prefix string // where the object sits in its state, such as "Retry[0]."
	names  []string
	values map[string]json.RawMessage
}

// newFields opens doc, found at the field called name (a full path within its state), as an object.
func newFields(l *loading, state, name string, doc json.RawMessage) *fields {
	f := &fields{load: l, state: state, values: map[string]json.RawMessage{}}
	if name != "" {
		f.prefix = name + "."
	}
	if !isObject(doc) {
		l.refuse(state, name, "must be an object")
		return f
	}
	for quoted, at := range members(doc) {
		key := unquote(quoted)
		if _, twice := f.values[key]; twice {
			f.refuse(key, "occurs twice")
			continue
		}
		f.names = append(f.names, key)
		f.values[key] = doc[at[0]:at[1]]
	}
	return f
}

func (f *fields) refuse(name, format string, args ...any) {
	f.load.refuse(f.state, f.prefix+name, format, args...)
}

// end refuses whatever no reader took.
func (f *fields) end() {
	for _, name := range f.names {
		if _, left := f.values[name]; left {
			f.refuse(name, "is not supported")
			return
		}
	}
}

func (f *fields) has(name string) bool {
	_, ok := f.values[name]
	return ok
}

func (f *fields) take(name string) (json.RawMessage, bool) {
	doc, ok := f.values[name]
	delete(f.values, name)
	return doc, ok
}

// text reads an optional string.
func (f *fields) text(name string) string {
	doc, ok := f.take(name)
	if !ok {
		return ""
	}
	if !isString(doc) {
		f.refuse(name, "must be a string")
		return ""
	}
	return unquote(doc)
}

func (f *fields) requiredText(name string) string {
	if !f.has(name) {
		f.refuse(name, "is required")
	}
	return f.text(name)
}

// only reads an optional string that may have but few values, the first of which is the default.
func (f *fields) only(name string, allowed ...string) string {
	if !f.has(name) {
		return allowed[0]
	}
	value := f.text(name)
	for _, a := range allowed {
		if value == a {
			return value
		}
	}
	f.refuse(name, "value %q is not supported", value)
	return ""
}

func (f *fields) flag(name string) bool {
	doc, ok := f.take(name)
	if ok && string(doc) != "true" && string(doc) != "false" {
		f.refuse(name, "must be true or false")
	}
	return string(doc) == "true"
}

// whole reads an optional integer between low and high, both inclusive.
func (f *fields) whole(name string, low, high, absent int) int {
	doc, ok := f.take(name)
	if !ok {
		return absent
	}
	n, err := strconv.Atoi(string(doc))
	if err != nil || n < low || n > high {
		f.refuse(name, "must be an integer from %d to %d", low, high)
	}
	return n
}

// number reads an optional number of at least low.
func (f *fields) number(name string, low, absent float64) float64 {
	doc, ok := f.take(name)
	if !ok {
		return absent
	}
	n, ok := parseNumber(doc)
	if !ok || n < low || math.IsInf(n, 0) {
		f.refuse(name, "must be a number of at least %v", low)
	}
	return n
}

// parseNumber reads compact JSON as a number.
func parseNumber(doc json.RawMessage) (float64, bool) {
	if c := doc[0]; c != '-' && (c < '0' || c > '9') {
		return 0, false
	}
	n, err := strconv.ParseFloat(string(doc), 64)
	return n, err == nil
}

// path reads an optional path; nil is absent.
func (f *fields) path(name string) *path {
	if !f.has(name) {
		return nil
	}
	p, err := parsePath(f.text(name))
	if err == nil {
		err = f.load.accept(p)
	}
	if err != nil {
		f.refuse(name, "%s", err)
		return nil
	}
	return p
}

// pathOrNull reads a path for which null means the empty object.
func (f *fields) pathOrNull(name string) *path {
	if f.takeNull(name) {
		return &path{discard: true}
	}
	return f.path(name)
}

func (f *fields) takeNull(name string) bool {
	isNull := string(f.values[name]) == "null"
	if isNull {
		delete(f.values, name)
	}
	return isNull
}

func (f *fields) template(name string) *template {
	doc, ok := f.take(name)
	if !ok {
		return nil
	}
	t, err := parseTemplate(doc, f.load.accept)
	if err != nil {
		f.refuse(name, "%s", err)
	}
	return t
}

func (f *fields) resultPath() resultPath {
	const name = "ResultPath"
	if f.takeNull(name) {
		return resultPath{discard: true}
	}
	p := f.path(name)
	if p == nil {
		return resultPath{}
	}
	var keys []string
	for _, step := range p.steps {
		keys = append(keys, step.key)
		if step.key == "" {
			f.refuse(name, "an index is not supported")
		}
	}
	if p.context != contextNone {
		f.refuse(name, "cannot write to the context object")
	}
	return resultPath{keys: keys}
}

// object opens a required object.
func (f *fields) object(name string) *fields {
	doc, ok := f.take(name)
	if !ok {
		f.refuse(name, "is required")
		doc = emptyObject
	}
	return newFields(f.load, f.state, f.prefix+name, doc)
}

// objects opens an optional array of objects.
func (f *fields) objects(name string) []*fields {
	doc, ok := f.take(name)
	if !ok {
		return nil
	}
	if !isArray(doc) {
		f.refuse(name, "must be an array")
		return nil
	}
	var list []*fields
	for element := range elements(doc) {
		at := fmt.Sprintf("%s%s[%d]", f.prefix, name, len(list))
		list = append(list, newFields(f.load, f.state, at, element))
	}
	return list
}

// texts reads a required array of strings that is not empty.
func (f *fields) texts(name string) []string {
	doc, ok := f.take(name)
	var list []string
	if ok && isArray(doc) {
		for element := range elements(doc) {
			if !isString(element) {
				f.refuse(name, "must be an array of strings")
				return nil
			}
			list = append(list, unquote(element))
		}
	}
	if len(list) == 0 {
		f.refuse(name, "must be an array of strings that is not empty")
	}
	return list
}

// exactlyOne refuses unless one and only one of the fields is there.
func (f *fields) exactlyOne(names ...string) {
	if f.count(names) != 1 {
		f.refuse(names[0], "exactly one of %s is required", strings.Join(names, ", "))
	}
}

func (f *fields) atMostOne(names ...string) {
	if f.count(names) > 1 {
		f.refuse(names[len(names)-1], "cannot be combined with %s", names[0])
	}
}

func (f *fields) count(names []string) int {
	n := 0
	for _, name := range names {
		if f.has(name) {
			n++
		}
	}
	return n
}
