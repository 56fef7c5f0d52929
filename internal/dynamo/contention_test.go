package dynamo_test

import (
	"bytes"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	minidyn "github.com/truora/minidyn/server"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/dynamo"
)

// transactionTime is how long a transaction holds its rows here.
const transactionTime = 8 * time.Millisecond

// contended cancels a transaction that names a row of one still under way, as DynamoDB does and its imitations do not.
type contended struct {
	to dynamodb.HTTPClient

	mu        sync.Mutex
	busy      map[string]bool
	cancelled int
}

func (c *contended) Do(r *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".TransactWriteItems") {
		return c.to.Do(r)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	rows, err := rowsNamed(body)
	if err != nil {
		return nil, err
	}
	if reasons, met := c.take(rows); met {
		return answer(r, cancelled(reasons...)), nil
	}
	defer c.release(rows)
	time.Sleep(transactionTime)
	return c.to.Do(r)
}

// rowsNamed lists the keys of a transaction's rows.
func rowsNamed(body []byte) (rows []string, err error) {
	type named struct{ Key, Item map[string]json.RawMessage }
	var request struct{ TransactItems []map[string]named }
	if err := json.Unmarshal(body, &request); err != nil {
		return nil, err
	}
	for _, one := range request.TransactItems {
		for _, n := range one {
			attributes := n.Key
			if attributes == nil {
				attributes = n.Item
			}
			rows = append(rows, string(attributes[dynamo.PartitionKey])+string(attributes[dynamo.SortKey]))
		}
	}
	return rows, nil
}

func (c *contended) take(rows []string) (reasons []string, met bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, row := range rows {
		reason := "None"
		if c.busy[row] {
			reason, met = "TransactionConflict", true
		}
		reasons = append(reasons, reason)
	}
	if met {
		c.cancelled++
		return reasons, true
	}
	for _, row := range rows {
		c.busy[row] = true
	}
	return nil, false
}

func (c *contended) release(rows []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, row := range rows {
		delete(c.busy, row)
	}
}

// A hundred parts a second of one file find their way although transactions that meet cancel each other, and so does
// the fence that ends them.
func TestHundredPartsASecond(t *testing.T) {
	const (
		workers = 40
		each    = 20
		pause   = 400 * time.Millisecond // of a worker from part to part on average: 40 / 0.4 s = 100 a second
	)
	synctest.Test(t, func(t *testing.T) {
		rows := &contended{to: inProcess{minidyn.NewServer()}, busy: map[string]bool{}}
		client := newClient("http://minidyn", rows)
		_, table := newTable(t, client)
		store := dynamo.New(client, table, time.Now, rand.Float64)
		job, file := openFile(t, store, 1)

		began := time.Now()
		var recorded, stale atomic.Int64
		var group sync.WaitGroup
		for w := range workers {
			group.Go(func() {
				for i := range each {
					next := time.Now().Add(time.Duration(rand.Int64N(int64(2 * pause))))
					switch err := store.RecordPart(t.Context(), partOf(file, 1+w+i*workers)); backup.KindOf(err) {
					case "":
						recorded.Add(1)
					case backup.StaleAttempt:
						stale.Add(1)
					default:
						t.Error(err)
					}
					time.Sleep(time.Until(next))
				}
			})
		}
		time.Sleep(each * pause / 2)
		if rows.cancelled == 0 || rows.cancelled > int(recorded.Load())/2 {
			t.Errorf("%d transactions cancelled for %d parts: want some, but few", rows.cancelled, recorded.Load())
		}
		fencing, calls := time.Now(), 1
		job.Status = backup.Deleting
		for calls < 3 && backup.Is(store.SwapJob(t.Context(), job), backup.StoreUnavailable) {
			calls++
		}
		t.Logf("fenced in %v, %d calls", time.Since(fencing), calls)
		group.Wait()
		t.Logf("%d parts in %v, %d transactions cancelled", workers*each, time.Since(began), rows.cancelled)
		got, err := store.GetFile(t.Context(), job.JobID, file.Name)
		if err != nil || int64(got.Recorded.Parts) != recorded.Load() || stale.Load() == 0 {
			t.Errorf("%d parts counted, %d acknowledged, %d refused, %v", got.Recorded.Parts, recorded.Load(), stale.Load(), err)
		}
	})
}
