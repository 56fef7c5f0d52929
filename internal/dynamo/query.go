package dynamo

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

const (
	// maxPageRows keeps the first page of a long query small enough to come quickly.
	maxPageRows = 1000
	// maxBatchKeys: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html (read 2026-11).
	maxBatchKeys = 100
)

// query reads at most limit rows of one partition in the order of their sort keys, page by page.
func (s *Store) query(ctx context.Context, q dynamodb.QueryInput, limit int) ([]item, error) {
	q.TableName = &s.table
	q.ConsistentRead = aws.Bool(q.IndexName == nil)
	var rows []item
	for len(rows) < limit {
		q.Limit = aws.Int32(int32(min(limit-len(rows), maxPageRows)))
		page, err := s.client.Query(ctx, &q, s.options)
		if err != nil {
			return nil, err
		}
		rows = append(rows, page.Items...)
		if len(page.LastEvaluatedKey) == 0 {
			break
		}
		q.ExclusiveStartKey = page.LastEvaluatedKey
	}
	return rows, nil
}

// inPartition asks for the rows of a partition; sort, if any, is a condition on SortKey with :from and :to.
func inPartition(pk, sort string, from, to string) dynamodb.QueryInput {
	expression, values := PartitionKey+" = :pk", item{":pk": str(pk)}
	if sort != "" {
		expression += " AND " + sort
		values[":from"] = str(from)
	}
	if to != "" {
		values[":to"] = str(to)
	}
	return dynamodb.QueryInput{KeyConditionExpression: &expression, ExpressionAttributeValues: values}
}

// getAll reads rows by their keys, in no order and without those that are not there.
func (s *Store) getAll(ctx context.Context, keys []item) ([]item, error) {
	var rows []item
	for len(keys) > 0 {
		n := min(len(keys), maxBatchKeys)
		batch, err := s.getBatch(ctx, keys[:n])
		if err != nil {
			return nil, err
		}
		rows, keys = append(rows, batch...), keys[n:]
	}
	return rows, nil
}

// getBatch asks again for what DynamoDB leaves out of an answer, which the SDK does not take for an error.
func (s *Store) getBatch(ctx context.Context, keys []item) (rows []item, err error) {
	for try := 1; len(keys) > 0; try++ {
		out, err := s.client.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{
			s.table: {Keys: keys, ConsistentRead: aws.Bool(true)},
		}}, s.options)
		if err != nil {
			return nil, err
		}
		rows, keys = append(rows, out.Responses[s.table]...), out.UnprocessedKeys[s.table].Keys
		if len(keys) == 0 {
			break
		}
		if try == maxTries {
			return nil, errBusy
		}
		if err := pause(ctx, s.delay(try)); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
