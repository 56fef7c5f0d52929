package dynamo

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/sitevault/sitevault/internal/backup"
)

// rateWindow is how long requests of a user are counted together: functions that serve them know nothing of each other.
const rateWindow = 10 * time.Second

// RequestCounts is the pattern of the partitions in which requests are counted: whoever serves requests may write there.
const RequestCounts = "RATE#*"

// rateRow counts the requests of a window.
type rateRow struct {
	header
	Requests int64
}

// Admit counts a request of the user, and refuses it with TooManyRequests until the window is over when it is too many.
func (s *Store) Admit(ctx context.Context, userID string) error {
	if s.quotas.Requests == 0 {
		return nil
	}
	now := s.now()
	window := now.Truncate(rateWindow)
	out, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: &s.table, Key: rateKey(userID, window).attributes(), ReturnValues: types.ReturnValueAllNew,
		UpdateExpression:          aws.String("SET #type = :type, #ttl = :ttl ADD Requests :one"),
		ExpressionAttributeNames:  map[string]string{"#type": TypeAttribute, "#ttl": TTLAttribute},
		ExpressionAttributeValues: item{":type": str(rateType), ":ttl": number(ttl(now.Add(time.Hour))), ":one": number(1)},
	}, s.options)
	if err != nil {
		return failure(err, "count requests of user %s", userID)
	}
	row, err := unmarshal[rateRow](out.Attributes)
	if err == nil && row.Requests > s.quotas.Requests*int64(rateWindow/time.Second) {
		return backup.TooMany(s.quotas.Requests, window.Add(rateWindow).Sub(now))
	}
	return failure(err, "count requests of user %s", userID)
}

func rateKey(userID string, window time.Time) key {
	return key{partition("RATE", userID), fmt.Sprint(window.Unix())}
}
