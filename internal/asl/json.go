package asl

import (
	"bytes"
	"encoding/json"
	"iter"
)

// Payloads stay JSON text from state to state: nothing is decoded but what a path points at. The functions below scan
// text that compact has proven valid and freed of white space; they index without checks because of that proof.

var (
	emptyObject = json.RawMessage("{}")
	nullValue   = json.RawMessage("null")
)

// compact validates text and returns a copy without white space; the copy belongs to the caller alone.
func compact(text []byte) (json.RawMessage, error) {
	var out bytes.Buffer
	out.Grow(len(text))
	if err := json.Compact(&out, text); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// skipString returns the offset after the string that opens at i.
func skipString(doc []byte, i int) int {
	for i++; doc[i] != '"'; i++ {
		if doc[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// skipValue returns the offset after the value that starts at i.
func skipValue(doc []byte, i int) int {
	for depth := 0; ; {
		switch doc[i] {
		case '"':
			i = skipString(doc, i)
		case '{', '[':
			depth++
			i++
		case '}', ']':
			depth--
			i++
		case ',', ':':
			i++
		default:
			i = skipLiteral(doc, i)
		}
		if depth == 0 {
			return i
		}
	}
}

// skipLiteral passes a number, true, false or null.
func skipLiteral(doc []byte, i int) int {
	for i < len(doc) && doc[i] != ',' && doc[i] != ']' && doc[i] != '}' {
		i++
	}
	return i
}

// members yields an object's keys (still quoted) with the offsets of their values.
func members(doc []byte) iter.Seq2[[]byte, [2]int] {
	return func(yield func([]byte, [2]int) bool) {
		for i := 1; doc[i] != '}'; {
			keyEnd := skipString(doc, i)
			end := skipValue(doc, keyEnd+1)
			if !yield(doc[i:keyEnd], [2]int{keyEnd + 1, end}) {
				return
			}
			if i = end; doc[i] == ',' {
				i++
			}
		}
	}
}

// elements yields an array's values.
func elements(doc []byte) iter.Seq[json.RawMessage] {
	return func(yield func(json.RawMessage) bool) {
		for i := 1; doc[i] != ']'; {
			end := skipValue(doc, i)
			if !yield(doc[i:end:end]) {
				return
			}
			if i = end; doc[i] == ',' {
				i++
			}
		}
	}
}

// locate finds the value of key in an object. Of repeated keys the last counts, as for encoding/json.
func locate(doc []byte, key string) (start, end int, ok bool) {
	for quoted, value := range members(doc) {
		if keyIs(quoted, key) {
			start, end, ok = value[0], value[1], true
		}
	}
	return start, end, ok
}

func keyIs(quoted []byte, key string) bool {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1:len(quoted)-1]) == key
	}
	return unquote(quoted) == key
}

func unquote(quoted []byte) string {
	var text string
	if json.Unmarshal(quoted, &text) != nil {
		return ""
	}
	return text
}

// quote writes text as a JSON string; unlike other values a string always marshals.
func quote(text string) json.RawMessage {
	quoted, err := json.Marshal(text)
	if err != nil {
		return json.RawMessage(`""`)
	}
	return quoted
}

// isObject, isArray and isString look at the first byte, which decides the kind of compact JSON.
func isObject(doc []byte) bool { return doc[0] == '{' }
func isArray(doc []byte) bool  { return doc[0] == '[' }
func isString(doc []byte) bool { return doc[0] == '"' }

// joinArray writes the array of the given values.
func joinArray(values []json.RawMessage) json.RawMessage {
	sizeBytes := 2
	for _, value := range values {
		sizeBytes += len(value) + 1
	}
	out := append(make([]byte, 0, sizeBytes), '[')
	for i, value := range values {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, value...)
	}
	return append(out, ']')
}

// put returns doc with value at the given keys below it, creating the objects that are missing. It reports false where
// something other than an object stands in the way.
func put(doc json.RawMessage, keys []string, value json.RawMessage) (json.RawMessage, bool) {
	if len(keys) == 0 {
		return value, true
	}
	if !isObject(doc) {
		return nil, false
	}
	start, end, found := locate(doc, keys[0])
	child := emptyObject
	if found {
		child = doc[start:end]
	}
	child, ok := put(child, keys[1:], value)
	if !ok {
		return nil, false
	}
	if found {
		return splice(doc[:start], child, doc[end:]), true
	}
	return splice(beforeNewMember(doc, keys[0]), child, doc[len(doc)-1:]), true
}

// beforeNewMember is the object up to where the new key's value goes.
func beforeNewMember(doc []byte, key string) []byte {
	head := bytes.Clone(doc[:len(doc)-1])
	if len(head) > 1 {
		head = append(head, ',')
	}
	return append(append(head, quote(key)...), ':')
}

func splice(parts ...[]byte) json.RawMessage { return bytes.Join(parts, nil) }
