package statemachine_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"github.com/sitevault/sitevault/internal/dynamo"
)

// row is a row of the table in JSON as DynamoDB speaks it: {"name": {"S": "value"}}.
type row map[string]map[string]json.RawMessage

// meter stands between the store and an imitation of DynamoDB, and counts what DynamoDB would charge for.
// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html (read 2026-11)
type meter struct {
	t     *testing.T
	table http.Handler
	parts parts
	known map[string]row // as they were last written, by their keys

	mu           sync.Mutex
	transactions int
	writeUnits   int                          // of the table: one per KiB of a row, two within a transaction, also for a row that is only checked
	indexUnits   int                          // of the index due
	readUnits    int                          // one for 4 KiB read consistently
	sweeps       int                          // queries of the index due, which belong to the sweeper and to no backup
	stream       []events.DynamoDBEventRecord // what its filter lets through and nobody has read yet
}

// Do implements dynamodb.HTTPClient.
func (m *meter) Do(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	switch op {
	case "TransactWriteItems":
		return m.transact(body), nil
	case "UpdateItem":
		return m.update(body), nil
	case "GetItem", "BatchGetItem", "Query":
		return m.read(op, body), nil
	case "CreateTable":
	default:
		m.t.Errorf("%s is not counted", op)
	}
	return m.send(op, body).Result(), nil
}

func (m *meter) send(op string, body []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
	r.Header.Set("X-Amz-Target", "DynamoDB_20120810."+op)
	r.Header.Set("Content-Type", "application/x-amz-json-1.0")
	answer := httptest.NewRecorder()
	m.table.ServeHTTP(answer, r)
	return answer
}

func (m *meter) read(op string, body []byte) *http.Response {
	var asked struct {
		partQuery
		IndexName string
	}
	var got struct {
		Item      row
		Items     []row
		Responses map[string][]row
	}
	m.decode(body, &asked)
	var answer *httptest.ResponseRecorder
	if strings.HasPrefix(asked.ExpressionAttributeValues.text(":pk"), "PARTS#") {
		answer = m.parts.query(asked.partQuery)
	} else {
		answer = m.send(op, body)
	}
	m.decode(answer.Body.Bytes(), &got)
	switch {
	case asked.IndexName != "":
		m.sweeps++
	case op == "BatchGetItem":
		for _, rows := range got.Responses {
			for _, r := range rows {
				m.readUnits += units(r.size(), 4096)
			}
		}
	default:
		total := got.Item.size()
		for _, r := range got.Items {
			total += r.size()
		}
		m.readUnits += units(total, 4096)
	}
	return answer.Result()
}

// target is the row that a write is about.
type target struct {
	TableName string
	Key, Item row
}

func (t target) key() row {
	if t.Key != nil {
		return t.Key
	}
	return row{dynamo.PartitionKey: t.Item[dynamo.PartitionKey], dynamo.SortKey: t.Item[dynamo.SortKey]}
}

// transact keeps the rows of parts apart from the rest. The rest decides whether the transaction is made.
func (m *meter) transact(body []byte) *http.Response {
	var asked struct {
		ClientRequestToken string
		TransactItems      []map[string]json.RawMessage
	}
	m.decode(body, &asked)
	var targets []target
	rest := asked
	rest.TransactItems = nil
	for _, item := range asked.TransactItems {
		for _, raw := range item {
			var t target
			m.decode(raw, &t)
			targets = append(targets, t)
			if !isPart(t.Item) {
				rest.TransactItems = append(rest.TransactItems, item)
			}
		}
	}
	m.transactions++
	return m.write("TransactWriteItems", m.encode(rest), 2, targets)
}

func (m *meter) update(body []byte) *http.Response {
	var t target
	m.decode(body, &t)
	return m.write("UpdateItem", body, 1, []target{t})
}

func (m *meter) write(op string, body []byte, perKiB int, targets []target) *http.Response {
	answer := m.send(op, body)
	if answer.Code != http.StatusOK {
		m.t.Errorf("%s was refused: %s", op, answer.Body)
	}
	for _, t := range targets {
		if isPart(t.Item) && !m.parts.put(t.Item) {
			m.t.Errorf("part %s is recorded twice", t.Item.text(dynamo.SortKey))
		}
	}
	for _, t := range targets {
		key := t.key()
		name := key.text(dynamo.PartitionKey) + " " + key.text(dynamo.SortKey)
		before, after := m.known[name], m.row(t.TableName, key)
		m.known[name] = after
		m.writeUnits += perKiB * units(max(before.size(), after.size()), 1024)
		m.indexUnits += indexWrites(before, after)
		m.emit(before, after)
	}
	return answer.Result()
}

// row reads a row without counting.
func (m *meter) row(table string, key row) row {
	if isPart(key) {
		return m.parts.get(key)
	}
	var got struct{ Item row }
	m.decode(m.send("GetItem", m.encode(map[string]any{"TableName": table, "Key": key, "ConsistentRead": true})).Body.Bytes(), &got)
	return got.Item
}

func (m *meter) decode(body []byte, into any) {
	if err := json.Unmarshal(body, into); err != nil {
		m.t.Errorf("%v in %s", err, body)
	}
}

// emit puts a change on the stream, if the filter of infra/stacks lets it through.
func (m *meter) emit(before, after row) {
	was, is := m.encode(before), m.encode(after)
	if !slices.Contains([]string{dynamo.JobType, dynamo.FileType, dynamo.PartType}, after.text(dynamo.TypeAttribute)) || bytes.Equal(was, is) {
		return
	}
	var record events.DynamoDBEventRecord
	m.decode(is, &record.Change.NewImage)
	if before != nil {
		m.decode(was, &record.Change.OldImage)
	}
	m.stream = append(m.stream, record)
}

// drain hands over what is on the stream.
func (m *meter) drain() []events.DynamoDBEventRecord {
	m.mu.Lock()
	defer m.mu.Unlock()
	records := m.stream
	m.stream = nil
	return records
}

func (m *meter) encode(value any) []byte {
	encoded, err := json.Marshal(value)
	if err != nil {
		m.t.Error(err)
	}
	return encoded
}

// indexWrites of one write: an entry that comes or goes is one, an entry that moves is both. Entries are small.
func indexWrites(before, after row) (n int) {
	entry := func(r row) string { return r.text(dynamo.DuePartitionKey) + r.text(dynamo.DueSortKey) }
	was, is := entry(before), entry(after)
	if was == is {
		return 0
	}
	for _, e := range []string{was, is} {
		if e != "" {
			n++
		}
	}
	return n
}

func units(sizeBytes, unitBytes int) int { return max(1, (sizeBytes+unitBytes-1)/unitBytes) }

// size is that of a row as DynamoDB counts it: names, texts, half a byte for each digit, three bytes for a list or a map
// and one for each of its members.
// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html (read 2026-11)
func (r row) size() (n int) {
	for name, value := range r {
		n += len(name) + valueSize(value)
	}
	return n
}

func valueSize(value map[string]json.RawMessage) (n int) {
	for kind, raw := range value {
		switch kind {
		case "S":
			var text string
			_ = json.Unmarshal(raw, &text)
			n = len(text)
		case "N":
			n = len(raw)/2 + 1
		case "M":
			var members row
			_ = json.Unmarshal(raw, &members)
			n = 3 + len(members) + members.size()
		case "L":
			var members []map[string]json.RawMessage
			_ = json.Unmarshal(raw, &members)
			n = 3
			for _, m := range members {
				n += 1 + valueSize(m)
			}
		default: // BOOL, NULL
			n = 1
		}
	}
	return n
}
