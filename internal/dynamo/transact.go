package dynamo

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// condition is an expression over one row with the names (#...) and values (:...) in it. The zero condition always holds.
type condition struct {
	expression string
	names      map[string]string
	values     item
}

func (c condition) text() *string {
	if c.expression == "" {
		return nil
	}
	return &c.expression
}

var absent = condition{expression: "attribute_not_exists(" + PartitionKey + ")"}

// atRevision holds for a row that has the revision, where 0 stands for no row.
func atRevision(rev int64) condition {
	if rev == 0 {
		return absent
	}
	return condition{"#rev = :rev", map[string]string{"#rev": "Rev"}, item{":rev": number(rev)}}
}

// write is one row's share of a transaction, and the error that its refused condition means.
type write struct {
	types.TransactWriteItem
	refused error
}

// put writes a whole row.
func (s *Store) put(row any, c condition, refused error) (write, error) {
	it, err := marshal(row)
	w := write{refused: refused}
	w.Put = &types.Put{
		TableName: &s.table, Item: it,
		ConditionExpression: c.text(), ExpressionAttributeNames: c.names, ExpressionAttributeValues: c.values,
	}
	return w, err
}

// update changes attributes; c carries the names and values of the update as well.
func (s *Store) update(k key, expression string, c condition, refused error) write {
	w := write{refused: refused}
	w.Update = &types.Update{
		TableName: &s.table, Key: k.attributes(), UpdateExpression: &expression,
		ConditionExpression: c.text(), ExpressionAttributeNames: c.names, ExpressionAttributeValues: c.values,
	}
	return w
}

func (s *Store) remove(k key, c condition, refused error) write {
	w := write{refused: refused}
	w.Delete = &types.Delete{
		TableName: &s.table, Key: k.attributes(),
		ConditionExpression: c.text(), ExpressionAttributeNames: c.names, ExpressionAttributeValues: c.values,
	}
	return w
}

// check writes nothing.
func (s *Store) check(k key, c condition, refused error) write {
	w := write{refused: refused}
	w.ConditionCheck = &types.ConditionCheck{
		TableName: &s.table, Key: k.attributes(),
		ConditionExpression: c.text(), ExpressionAttributeNames: c.names, ExpressionAttributeValues: c.values,
	}
	return w
}

// transact makes all writes or none. Of several refused conditions the first in the list tells.
func (s *Store) transact(ctx context.Context, writes ...write) error {
	items := make([]types.TransactWriteItem, len(writes))
	for i, w := range writes {
		items[i] = w.TransactWriteItem
	}
	_, err := s.client.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: items}, s.options)
	cancelled, ok := errors.AsType[*types.TransactionCanceledException](err)
	if !ok {
		return err
	}
	if place, code := firstReason(cancelled); code == reasonRefused && writes[place].refused != nil {
		return writes[place].refused
	}
	return err
}
