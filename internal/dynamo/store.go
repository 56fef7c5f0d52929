package dynamo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
)

var _ step.Store = (*Store)(nil)

// Store is one table. It is safe for concurrent use.
type Store struct {
	client *dynamodb.Client
	table  string
	now    func() time.Time
	quotas backup.Quotas
	tries  aws.Retryer
	delay  func(try int) time.Duration
}

// New makes the store of a table as Table describes it. now tells which rows have outlived their time although DynamoDB
// has not removed them yet; jitter, a random number from 0 to below 1, spreads the tries of calls that met each other.
func New(client *dynamodb.Client, table string, now func() time.Time, jitter func() float64) *Store {
	delay := backoff(jitter)
	return &Store{client: client, table: table, now: now, tries: retryer(delay), delay: delay}
}

// options of every call.
func (s *Store) options(o *dynamodb.Options) { o.Retryer = s.tries }

// get reads one row; nil when there is none.
func (s *Store) get(ctx context.Context, k key) (item, error) {
	out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: &s.table, Key: k.attributes(), ConsistentRead: aws.Bool(true),
	}, s.options)
	if err != nil {
		return nil, err
	}
	return out.Item, nil
}

// failure names the operation in err and gives errors of DynamoDB their kind. Kinds of the domain and the end of the
// caller's context pass through.
func failure(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	operation := fmt.Sprintf(format, args...)
	_, known := errors.AsType[*backup.Error](err)
	if known || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", operation, err)
	}
	return backup.E(backup.StoreUnavailable, "%s: %w", operation, err)
}
