package telemetry_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"regexp"
	"testing"
	"unicode/utf8"
)

// schema is the part of JSON Schema that testdata/emf.schema.json is written in. Any other keyword fails to load, so
// that no rule is passed over.
type schema struct {
	Description string            `json:"description"`
	Type        string            `json:"type"`
	Required    []string          `json:"required"`
	Properties  map[string]schema `json:"properties"`
	Items       *schema           `json:"items"`
	MinItems    int               `json:"minItems"`
	MaxItems    *int              `json:"maxItems"`
	MinLength   int               `json:"minLength"`
	MaxLength   *int              `json:"maxLength"`
	Pattern     string            `json:"pattern"`
}

func loadSchema(t *testing.T) schema {
	t.Helper()
	f, err := os.Open("testdata/emf.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var s schema
	d := json.NewDecoder(f)
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

// check returns the first rule that v, as encoding/json decodes it, breaks.
func (s schema) check(path string, v any) error {
	switch v := v.(type) {
	case map[string]any:
		return s.checkObject(path, v)
	case []any:
		return s.checkArray(path, v)
	case string:
		n := utf8.RuneCountInString(v)
		if s.Type != "string" || n < s.MinLength || (s.MaxLength != nil && n > *s.MaxLength) || !regexp.MustCompile(s.Pattern).MatchString(v) {
			return fmt.Errorf("%s: %q", path, v)
		}
	case float64:
		if s.Type != "integer" || v != math.Trunc(v) {
			return fmt.Errorf("%s: %v", path, v)
		}
	default:
		return fmt.Errorf("%s: %v", path, v)
	}
	return nil
}

func (s schema) checkObject(path string, v map[string]any) error {
	if s.Type != "object" {
		return fmt.Errorf("%s is an object", path)
	}
	for _, name := range s.Required {
		if _, ok := v[name]; !ok {
			return fmt.Errorf("%s lacks %s", path, name)
		}
	}
	for name, property := range s.Properties {
		if member, ok := v[name]; ok {
			if err := property.check(path+"."+name, member); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s schema) checkArray(path string, v []any) error {
	if s.Type != "array" || len(v) < s.MinItems || (s.MaxItems != nil && len(v) > *s.MaxItems) {
		return fmt.Errorf("%s has %d items", path, len(v))
	}
	for i, item := range v {
		if err := s.Items.check(fmt.Sprintf("%s[%d]", path, i), item); err != nil {
			return err
		}
	}
	return nil
}

// emfLine is one line after it has passed all rules.
type emfLine struct {
	metrics map[string][]float64 // by name, for those with a dimension by name/label
	members map[string]any
}

// readEMF checks a line against the schema and against what the text of the specification adds: each name points at a
// member, metrics at no more than 100 numbers, dimensions at a string.
func readEMF(s schema, text []byte) (emfLine, error) {
	line := emfLine{metrics: map[string][]float64{}}
	if err := json.Unmarshal(text, &line.members); err != nil {
		return line, err
	}
	if err := s.check("", line.members); err != nil {
		return line, err
	}
	var meta struct {
		AWS struct {
			CloudWatchMetrics []struct {
				Dimensions [][]string
				Metrics    []struct{ Name string }
			}
		} `json:"_aws"`
	}
	if err := json.Unmarshal(text, &meta); err != nil {
		return line, err
	}
	for _, directive := range meta.AWS.CloudWatchMetrics {
		label := ""
		for _, set := range directive.Dimensions {
			for _, dimension := range set {
				value, ok := line.members[dimension].(string)
				if !ok || value == "" || len(value) > 1024 {
					return line, fmt.Errorf("dimension %s is %v", dimension, line.members[dimension])
				}
				label = "/" + value
			}
		}
		for _, m := range directive.Metrics {
			values, err := numbers(line.members[m.Name])
			if err != nil {
				return line, fmt.Errorf("metric %s: %w", m.Name, err)
			}
			line.metrics[m.Name+label] = values
		}
	}
	return line, nil
}

func numbers(target any) (values []float64, err error) {
	list, ok := target.([]any)
	if !ok {
		list = []any{target}
	}
	for _, item := range list {
		n, ok := item.(float64)
		if !ok {
			return nil, fmt.Errorf("%v is no number", item)
		}
		values = append(values, n)
	}
	if len(values) == 0 || len(values) > 100 {
		return nil, fmt.Errorf("%d values", len(values))
	}
	return values, nil
}

// The rules are able to fail.
func TestSchema(t *testing.T) {
	s := loadSchema(t)
	const good = `{"_aws":{"Timestamp":1,"CloudWatchMetrics":[{"Namespace":"N","Dimensions":[[],["D"]],"Metrics":[{"Name":"M","Unit":"Bytes/Second"}]}]},"M":[1,2],"D":"d"}`
	if _, err := readEMF(s, []byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		`[]`, `{}`, `{"_aws":{"Timestamp":1}}`,
		`{"_aws":{"Timestamp":1.5,"CloudWatchMetrics":[]}}`,
		`{"_aws":{"Timestamp":"1","CloudWatchMetrics":[]}}`,
		`{"_aws":{"Timestamp":1,"CloudWatchMetrics":[{"Namespace":"","Dimensions":[[]],"Metrics":[]}]}}`,
		`{"_aws":{"Timestamp":1,"CloudWatchMetrics":[{"Namespace":"N","Dimensions":[],"Metrics":[]}]}}`,
		`{"_aws":{"Timestamp":1,"CloudWatchMetrics":[{"Namespace":"N","Dimensions":["D"],"Metrics":[]}]},"D":"d"}`,
		`{"_aws":{"Timestamp":1,"CloudWatchMetrics":[{"Namespace":"N","Dimensions":[["D"]],"Metrics":[]}]}}`,
		`{"_aws":{"Timestamp":1,"CloudWatchMetrics":[{"Namespace":"N","Dimensions":[["D"]],"Metrics":[]}]},"D":1}`,
		`{"_aws":{"Timestamp":1,"CloudWatchMetrics":[{"Namespace":"N","Dimensions":[[]],"Metrics":[{"Unit":"None"}]}]}}`,
		`{"_aws":{"Timestamp":1,"CloudWatchMetrics":[{"Namespace":"N","Dimensions":[[]],"Metrics":[{"Name":"M","Unit":"Hours"}]}]},"M":1}`,
		`{"_aws":{"Timestamp":1,"CloudWatchMetrics":[{"Namespace":"N","Dimensions":[[]],"Metrics":[{"Name":"M"}]}]}}`,
		`{"_aws":{"Timestamp":1,"CloudWatchMetrics":[{"Namespace":"N","Dimensions":[[]],"Metrics":[{"Name":"M"}]}]},"M":"1"}`,
		`{"_aws":{"Timestamp":1,"CloudWatchMetrics":[{"Namespace":"N","Dimensions":[[]],"Metrics":[{"Name":"M"}]}]},"M":[]}`,
	} {
		if _, err := readEMF(s, []byte(bad)); err == nil {
			t.Errorf("%s passes", bad)
		}
	}
}
