package statemachine_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"

	"github.com/sitevault/sitevault/internal/dynamo"
)

// parts keeps the rows of parts for the meter, by partition and sort key. The imitation of DynamoDB behind the meter looks
// at every row of the table for each query, which would make thousands of parts take minutes.
type parts map[string]map[string]row

func (r row) text(name string) (text string) {
	_ = json.Unmarshal(r[name]["S"], &text)
	return text
}

func isPart(key row) bool { return strings.HasPrefix(key.text(dynamo.PartitionKey), "PARTS#") }

func (p parts) get(key row) row {
	return p[key.text(dynamo.PartitionKey)][key.text(dynamo.SortKey)]
}

// put refuses a row that is there already.
func (p parts) put(r row) bool {
	partition := p[r.text(dynamo.PartitionKey)]
	if partition == nil {
		partition = map[string]row{}
		p[r.text(dynamo.PartitionKey)] = partition
	}
	_, taken := partition[r.text(dynamo.SortKey)]
	partition[r.text(dynamo.SortKey)] = r
	return !taken
}

// partQuery is the only query for parts that the store knows: from one number to another, page by page.
type partQuery struct {
	ExpressionAttributeValues row
	ExclusiveStartKey         row
	Limit                     int
}

func (p parts) query(q partQuery) *httptest.ResponseRecorder {
	values := q.ExpressionAttributeValues
	partition := p[values.text(":pk")]
	var page struct {
		Items            []row
		Count            int
		LastEvaluatedKey row `json:",omitempty"`
	}
	page.Items = []row{}
	for _, number := range slices.Sorted(maps.Keys(partition)) {
		if number < values.text(":from") || number > values.text(":to") || number <= q.ExclusiveStartKey.text(dynamo.SortKey) {
			continue
		}
		if page.Count == q.Limit {
			last := page.Items[page.Count-1]
			page.LastEvaluatedKey = row{dynamo.PartitionKey: last[dynamo.PartitionKey], dynamo.SortKey: last[dynamo.SortKey]}
			break
		}
		page.Items, page.Count = append(page.Items, partition[number]), page.Count+1
	}
	answer := httptest.NewRecorder()
	answer.Header().Set("Content-Type", "application/x-amz-json-1.0")
	answer.WriteHeader(http.StatusOK)
	_ = json.NewEncoder(answer).Encode(page)
	return answer
}
