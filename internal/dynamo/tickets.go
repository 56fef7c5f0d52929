package dynamo

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/sitevault/sitevault/internal/backup"
)

// PutTicket implements step.TicketStore.
func (s *Store) PutTicket(ctx context.Context, digest string, t backup.Ticket) error {
	it, err := marshal(ticketRow{header{ticketKey(digest), ticketType}, t, ttl(t.ExpiresAt)})
	if err == nil {
		_, err = s.client.PutItem(ctx, &dynamodb.PutItemInput{TableName: &s.table, Item: it}, s.options)
	}
	return failure(err, "put ticket of user %s", t.UserID)
}

// TakeTicket implements step.TicketStore. A deletion whose reply is lost uses the ticket up.
func (s *Store) TakeTicket(ctx context.Context, digest string, now time.Time) (backup.Ticket, error) {
	out, err := s.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{
		TableName: &s.table, Key: ticketKey(digest).attributes(), ReturnValues: types.ReturnValueAllOld,
		ConditionExpression:       aws.String("ExpiresAt > :now"),
		ExpressionAttributeValues: item{":now": millis(now)},
	}, s.options)
	if _, refused := errors.AsType[*types.ConditionalCheckFailedException](err); refused {
		err = backup.E(backup.NotFound, "absent, used or expired")
	}
	if err != nil {
		return backup.Ticket{}, failure(err, "take ticket")
	}
	row, err := unmarshal[ticketRow](out.Attributes)
	return row.Ticket, failure(err, "take ticket")
}
