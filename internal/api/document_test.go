package api_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sitevault/sitevault/internal/api"
)

// document is the OpenAPI document as its readers see it.
type document struct {
	OpenAPI    string                          `json:"openapi"`
	Info       struct{ Title, Version string } `json:"info"`
	Paths      map[string]map[string]operation `json:"paths"`
	Security   []map[string][]string           `json:"security"`
	Components struct {
		Schemas         map[string]schema         `json:"schemas"`
		SecuritySchemes map[string]map[string]any `json:"securitySchemes"`
	} `json:"components"`
}

type operation struct {
	OperationID string               `json:"operationId"`
	Summary     string               `json:"summary"`
	Parameters  []parameter          `json:"parameters"`
	RequestBody *content             `json:"requestBody"`
	Responses   map[string]*response `json:"responses"`
}

type parameter struct {
	Name, In string
	Required bool
	Schema   schema
}

type content struct {
	Required bool `json:"required"`
	Content  map[string]struct {
		Schema schema `json:"schema"`
	} `json:"content"`
}

type response struct {
	content
	Description string         `json:"description"`
	Headers     map[string]any `json:"headers"`
}

// schema is what the document uses of JSON Schema.
type schema struct {
	Ref                  string            `json:"$ref"`
	Type                 any               `json:"type"` // a name or a list of names
	Properties           map[string]schema `json:"properties"`
	Required             []string          `json:"required"`
	AdditionalProperties any               `json:"additionalProperties"`
	Items                *schema           `json:"items"`
	Enum                 []any             `json:"enum"`
	Minimum              *float64          `json:"minimum"`
	Maximum              *float64          `json:"maximum"`
}

func readDocument(t testing.TB) (d document) {
	t.Helper()
	raw, err := api.OpenAPI(version)
	if err == nil {
		err = json.Unmarshal(raw, &d)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// find is the operation that a request addresses, if the document has it.
func (d document) find(method, path string) (operation, bool) {
	path, _, _ = strings.Cut(path, "?")
	for template, operations := range d.Paths {
		if matchesTemplate(template, path) {
			op, ok := operations[strings.ToLower(method)]
			return op, ok
		}
	}
	return operation{}, false
}

func matchesTemplate(template, path string) bool {
	want, got := strings.Split(template, "/"), strings.Split(path, "/")
	return slices.EqualFunc(want, got, func(w, g string) bool { return w == g || (strings.HasPrefix(w, "{") && g != "") })
}

// check makes sure that the document tells of the answer, and that its body is as told.
func (d document) check(t testing.TB, r request, a answer) {
	t.Helper()
	op, ok := d.find(r.method, r.url())
	if !ok {
		return
	}
	told := op.Responses[strconv.Itoa(a.status)]
	if told == nil {
		t.Errorf("%s %s: status %d is not documented", r.method, r.path, a.status)
		return
	}
	for name := range told.Headers {
		if _, ok := a.header[http.CanonicalHeaderKey(name)]; !ok && name != "Retry-After" {
			t.Errorf("%s %s: the documented header %s is missing", r.method, r.path, name)
		}
	}
	if len(told.Content) == 0 {
		if a.body != "" {
			t.Errorf("%s %s: status %d has a body: %s", r.method, r.path, a.status, a.body)
		}
		return
	}
	media, ok := told.Content[a.header.Get("Content-Type")]
	if !ok {
		t.Errorf("%s %s: Content-Type %q is not documented", r.method, r.path, a.header.Get("Content-Type"))
		return
	}
	var v any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Errorf("%s %s: %v", r.method, r.path, err)
		return
	}
	if err := d.validate(media.Schema, v, "body"); err != nil {
		t.Errorf("%s %s: %v", r.method, r.path, err)
	}
}

// validate checks a value as far as the document's schemas say something.
func (d document) validate(s schema, v any, at string) error {
	if s.Ref != "" {
		s = d.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
	}
	if name := typeName(v); !slices.ContainsFunc(s.types(), func(t string) bool { return t == name || (t == "number" && name == "integer") }) {
		return fmt.Errorf("%s is %s, not %v", at, name, s.Type)
	}
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, v) {
		return fmt.Errorf("%s is %v, not one of %v", at, v, s.Enum)
	}
	switch v := v.(type) {
	case []any:
		for i, item := range v {
			if err := d.validate(*s.Items, item, fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
	case map[string]any:
		return d.validateObject(s, v, at)
	}
	return nil
}

func (d document) validateObject(s schema, v map[string]any, at string) error {
	for _, name := range s.Required {
		if _, ok := v[name]; !ok {
			return fmt.Errorf("%s.%s is missing", at, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v)) {
		property, ok := s.Properties[name]
		if !ok {
			return fmt.Errorf("%s.%s is not documented", at, name)
		}
		if err := d.validate(property, v[name], at+"."+name); err != nil {
			return err
		}
	}
	return nil
}

func (s schema) types() (names []string) {
	switch t := s.Type.(type) {
	case string:
		return []string{t}
	case []any:
		for _, name := range t {
			names = append(names, name.(string))
		}
	}
	return names
}

func typeName(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case float64:
		if v == math.Trunc(v) {
			return "integer"
		}
		return "number"
	case []any:
		return "array"
	}
	return "object"
}

// The document is OpenAPI 3.1: every operation has an id of its own, a summary, a success and its problem answers;
// everything it refers to is there; path parameters are those of the path.
func TestDocument(t *testing.T) {
	d := readDocument(t)
	if !strings.HasPrefix(d.OpenAPI, "3.1.") || d.Info.Title == "" || d.Info.Version != version {
		t.Errorf("openapi %q, info %+v", d.OpenAPI, d.Info)
	}
	ids := map[string]bool{}
	operations := 0
	for path, byMethod := range d.Paths {
		for method, op := range byMethod {
			operations++
			name := method + " " + path
			if op.OperationID == "" || op.Summary == "" || ids[op.OperationID] {
				t.Errorf("%s: id %q, summary %q", name, op.OperationID, op.Summary)
			}
			ids[op.OperationID] = true
			checkPathParameters(t, name, path, op)
			checkAnswers(t, name, path, method, op)
		}
	}
	if operations != 14 {
		t.Errorf("%d operations", operations)
	}
	checkReferences(t, d)
	if len(d.Security) == 0 || len(d.Components.SecuritySchemes) == 0 {
		t.Error("the document does not say how to sign in")
	}
}

func checkPathParameters(t *testing.T, name, path string, op operation) {
	t.Helper()
	for _, p := range op.Parameters {
		if p.In == "path" && (!p.Required || !strings.Contains(path, "{"+p.Name+"}")) {
			t.Errorf("%s: parameter %+v", name, p)
		}
	}
	for segment := range strings.SplitSeq(path, "/") {
		if !strings.HasPrefix(segment, "{") {
			continue
		}
		if !slices.ContainsFunc(op.Parameters, func(p parameter) bool { return p.In == "path" && "{"+p.Name+"}" == segment }) {
			t.Errorf("%s: no parameter %s", name, segment)
		}
	}
}

// checkAnswers expects what every request of the kind can meet.
func checkAnswers(t *testing.T, name, path, method string, op operation) {
	t.Helper()
	want := []int{401, 422, 500, 503}
	if strings.Contains(path, "{") && method != "put" {
		want = append(want, 404)
	}
	if op.RequestBody != nil {
		want = append(want, 400, 413, 415)
	}
	if method == "get" {
		want = append(want, 304)
	}
	for _, status := range want {
		if op.Responses[strconv.Itoa(status)] == nil {
			t.Errorf("%s: answer %d is not documented", name, status)
		}
	}
	successes := 0
	for status, r := range op.Responses {
		if r.Description == "" {
			t.Errorf("%s: answer %s has no description", name, status)
		}
		if status[0] == '2' {
			successes++
		}
		problem, ok := r.Content["application/problem+json"]
		if status[0] >= '4' && (!ok || problem.Schema.Ref != "#/components/schemas/Problem" || len(r.Content) != 1) {
			t.Errorf("%s: answer %s is no problem document: %+v", name, status, r.Content)
		}
	}
	if successes == 0 {
		t.Errorf("%s: no success", name)
	}
}

// checkReferences walks the whole document for references that lead nowhere.
func checkReferences(t *testing.T, d document) {
	t.Helper()
	raw, err := api.OpenAPI(version)
	if err != nil {
		t.Fatal(err)
	}
	var all any
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	walk(all, func(ref string) {
		if _, ok := d.Components.Schemas[strings.TrimPrefix(ref, "#/components/schemas/")]; !ok {
			t.Errorf("%s leads nowhere", ref)
		}
	})
}

func walk(v any, found func(ref string)) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			walk(item, found)
		}
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok {
			found(ref)
		}
		for _, item := range v {
			walk(item, found)
		}
	}
}

// The document is served to anybody, byte for byte as OpenAPI makes it.
func TestDocumentIsServed(t *testing.T) {
	f := newFixture(t)
	want, err := api.OpenAPI(version)
	if err != nil {
		t.Fatal(err)
	}
	a := f.do(request{method: "GET", path: "/openapi.json", user: "-"})
	if a.status != http.StatusOK || a.body != string(want) {
		t.Errorf("%d, %d bytes, want %d", a.status, len(a.body), len(want))
	}
	if again := f.do(request{method: "GET", path: "/openapi.json", header: map[string]string{"If-None-Match": a.header.Get("ETag")}}); again.status != http.StatusNotModified {
		t.Errorf("known document: %d", again.status)
	}
}
