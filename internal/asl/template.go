package asl

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// template is a payload template: JSON text with holes that paths fill. Fields whose name ends in ".$" are the holes.
type template struct {
	parts []templatePart
}

// templatePart is literal text followed by the value of path; only the last part of a template has no path.
type templatePart struct {
	literal []byte
	path    *path
	field   string
}

// parseTemplate compiles compact JSON. accept vets every path in it.
func parseTemplate(doc json.RawMessage, accept func(*path) error) (*template, error) {
	if !isObject(doc) {
		return nil, errors.New("must be an object")
	}
	c := templateCompiler{accept: accept}
	if err := c.value(doc); err != nil {
		return nil, err
	}
	return &template{parts: append(c.parts, templatePart{literal: c.literal})}, nil
}

type templateCompiler struct {
	accept  func(*path) error
	parts   []templatePart
	literal []byte
}

func (c *templateCompiler) value(doc json.RawMessage) error {
	switch {
	case isObject(doc):
		return c.object(doc)
	case isArray(doc):
		return c.array(doc)
	}
	c.literal = append(c.literal, doc...)
	return nil
}

func (c *templateCompiler) object(doc json.RawMessage) error {
	seen := map[string]bool{}
	c.literal = append(c.literal, '{')
	for quoted, at := range members(doc) {
		name := unquote(quoted)
		key, isPath := strings.CutSuffix(name, ".$")
		if seen[key] {
			return fmt.Errorf("field %q occurs twice", key)
		}
		if len(seen) > 0 {
			c.literal = append(c.literal, ',')
		}
		seen[key] = true
		c.literal = append(append(c.literal, quote(key)...), ':')
		if err := c.member(name, doc[at[0]:at[1]], isPath); err != nil {
			return err
		}
	}
	c.literal = append(c.literal, '}')
	return nil
}

func (c *templateCompiler) member(name string, doc json.RawMessage, isPath bool) error {
	if !isPath {
		return c.value(doc)
	}
	if !isString(doc) {
		return fmt.Errorf("field %q: must be a path", name)
	}
	p, err := parsePath(unquote(doc))
	if err == nil {
		err = c.accept(p)
	}
	if err != nil {
		return fmt.Errorf("field %q: %w", name, err)
	}
	c.parts = append(c.parts, templatePart{literal: c.literal, path: p, field: name})
	c.literal = nil
	return nil
}

func (c *templateCompiler) array(doc json.RawMessage) error {
	c.literal = append(c.literal, '[')
	first := true
	for element := range elements(doc) {
		if !first {
			c.literal = append(c.literal, ',')
		}
		first = false
		if err := c.value(element); err != nil {
			return err
		}
	}
	c.literal = append(c.literal, ']')
	return nil
}

// render fills the template from payload and the visit's context object. As on AWS an index past the end of its array
// gives null, and anything else that is missing is an error. A nil template is the payload itself.
func (t *template) render(payload json.RawMessage, v *visit) (json.RawMessage, *Error) {
	if t == nil {
		return payload, nil
	}
	values := make([]json.RawMessage, len(t.parts))
	sizeBytes := 0
	for i, part := range t.parts {
		if part.path != nil {
			value, found := part.path.find(payload, v)
			switch found {
			case selectedNothing:
				return nil, runtimeError(v.state.name, "path %s of field %q selects nothing", part.path.text, part.field)
			case selectedPastEnd:
				value = nullValue
			}
			values[i] = value
		}
		sizeBytes += len(part.literal) + len(values[i])
	}
	out := make([]byte, 0, sizeBytes)
	for i, part := range t.parts {
		out = append(append(out, part.literal...), values[i]...)
	}
	return out, nil
}
