package dynamo

import (
	"context"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/sitevault/sitevault/internal/backup"
)

const (
	// maxWatchers of one job are told of it; others have to poll.
	maxWatchers = 1000
	// pushRetention is how long a job's last push is remembered. Forgetting it costs a reader one superfluous read.
	pushRetention = 24 * time.Hour
	// maxBatchWrites: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html (read 2026-11).
	maxBatchWrites = 25
)

// GetSocket fails with NotFound when the socket was never opened, is closed or has outlived its time.
func (s *Store) GetSocket(ctx context.Context, socketID string) (backup.Socket, error) {
	it, err := s.get(ctx, socketKey(socketID))
	if err != nil {
		return backup.Socket{}, failure(err, "get socket")
	}
	row, err := unmarshal[socketRow](it)
	if err == nil && (row.SocketID == "" || !s.now().Before(row.ExpiresAt)) {
		err = backup.E(backup.NotFound, "no such socket is open")
	}
	return row.Socket, failure(err, "get socket")
}

// errWatched is the refusal of a row that says what is so already.
var errWatched = errors.New("nothing to change")

// Watch lets a socket hear of a job. Watching it again changes nothing; a socket that watches limit jobs already, or was
// closed meanwhile, is refused with InvalidRequest.
func (s *Store) Watch(ctx context.Context, socket backup.Socket, jobID string, limit int) error {
	err := s.watch(ctx, socket, jobID, limit)
	if errors.Is(err, errWatched) {
		return nil
	}
	return failure(err, "watch job %s", jobID)
}

func (s *Store) watch(ctx context.Context, socket backup.Socket, jobID string, limit int) error {
	expires := ttl(socket.ExpiresAt)
	watch, err := s.put(watchRow{header{watchKey(socket.SocketID, jobID), watchType}, expires}, absent, errWatched)
	if err != nil {
		return err
	}
	watcher, err := s.put(watchRow{header{watcherKey(jobID, socket.SocketID), watchType}, expires}, condition{}, nil)
	if err != nil {
		return err
	}
	room := condition{expression: "Watches < :limit", values: item{":limit": number(int64(limit)), ":one": number(1)}}
	counted := s.update(socketKey(socket.SocketID), "ADD Watches :one", room,
		backup.E(backup.InvalidRequest, "one socket watches at most %d backups", limit))
	return s.transact(ctx, watch, counted, watcher)
}

// Unwatch ends a Watch; one that is not there is success.
func (s *Store) Unwatch(ctx context.Context, socketID, jobID string) error {
	there := condition{expression: "attribute_exists(" + PartitionKey + ")"}
	open := there
	open.values = item{":less": number(-1)}
	err := s.transact(ctx,
		s.remove(watchKey(socketID, jobID), there, errWatched),
		s.update(socketKey(socketID), "ADD Watches :less", open, errWatched), // closed: its watches are being removed
		s.remove(watcherKey(jobID, socketID), condition{}, nil))
	if errors.Is(err, errWatched) {
		return nil
	}
	return failure(err, "unwatch job %s", jobID)
}

// CloseSocket removes a socket and all that it watches; an unknown one is success. Its slot goes first, since only the
// socket's row says which it is, then the socket, so that nothing is watched by it any more while the rest is removed.
func (s *Store) CloseSocket(ctx context.Context, socketID string) error {
	if err := s.giveBackSlot(ctx, socketID); err != nil {
		return failure(err, "close socket")
	}
	if err := s.deleteAll(ctx, []key{socketKey(socketID)}); err != nil {
		return failure(err, "close socket")
	}
	items, err := s.query(ctx, inPartition(socketKey(socketID).PK, "", "", ""), math.MaxInt)
	if err != nil {
		return failure(err, "close socket")
	}
	watched, err := unmarshalAll(items, func(r watchRow) key { return r.key })
	if err != nil {
		return failure(err, "close socket")
	}
	var keys []key
	for _, k := range watched {
		keys = append(keys, watcherKey(strings.TrimPrefix(k.SK, watchPrefix), socketID), k)
	}
	return failure(s.deleteAll(ctx, keys), "close socket")
}

// deleteAll asks again for what DynamoDB leaves out, which the SDK does not take for an error.
func (s *Store) deleteAll(ctx context.Context, keys []key) error {
	var pending []types.WriteRequest
	for _, k := range keys {
		pending = append(pending, types.WriteRequest{DeleteRequest: &types.DeleteRequest{Key: k.attributes()}})
	}
	for try := 1; len(pending) > 0; {
		n := min(len(pending), maxBatchWrites)
		out, err := s.client.BatchWriteItem(ctx, &dynamodb.BatchWriteItemInput{
			RequestItems: map[string][]types.WriteRequest{s.table: pending[:n]},
		}, s.options)
		if err != nil {
			return err
		}
		left := out.UnprocessedItems[s.table]
		pending = append(left, pending[n:]...)
		if len(left) == 0 {
			continue
		}
		if try == maxTries {
			return errBusy
		}
		if err := pause(ctx, s.delay(try)); err != nil {
			return err
		}
		try++
	}
	return nil
}

// Watchers lists the sockets that watch a job, at most maxWatchers, and apart those that have outlived their time: rows go
// some time later.
func (s *Store) Watchers(ctx context.Context, jobID string) (open, expired []string, err error) {
	items, err := s.query(ctx, inPartition(watchers(jobID), "", "", ""), maxWatchers)
	if err != nil {
		return nil, nil, failure(err, "list watchers of job %s", jobID)
	}
	rows, err := unmarshalAll(items, func(r watchRow) watchRow { return r })
	for _, r := range rows {
		if s.now().Before(time.Unix(r.TTL, 0)) {
			open = append(open, r.SK)
		} else {
			expired = append(expired, r.SK)
		}
	}
	return open, expired, failure(err, "list watchers of job %s", jobID)
}

// ClaimPush takes the right to push a job's state with the number seq, and returns the number of the push before, 0 for
// the first. With a pace, a push that follows another one sooner is not allowed, and neither is one that is not newer;
// without one, the state may also be pushed again, so that a claim whose reply was lost is not lost with it.
func (s *Store) ClaimPush(ctx context.Context, jobID string, seq int64, now time.Time, pace time.Duration) (prev int64, ok bool, err error) {
	allowed := "attribute_not_exists(Seq) OR Seq <= :seq"
	values := item{
		":type": str(pushType), ":seq": number(seq), ":now": millis(now), ":ttl": number(ttl(now.Add(pushRetention))),
	}
	if pace > 0 {
		allowed = "attribute_not_exists(Seq) OR (Seq < :seq AND PushedAt <= :before)"
		values[":before"] = millis(now.Add(-pace))
	}
	out, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: &s.table, Key: pushKey(jobID).attributes(), ReturnValues: types.ReturnValueAllOld,
		UpdateExpression:         aws.String("SET #type = :type, Seq = :seq, PushedAt = :now, #ttl = :ttl"),
		ExpressionAttributeNames: map[string]string{"#type": TypeAttribute, "#ttl": TTLAttribute},
		ConditionExpression:      &allowed, ExpressionAttributeValues: values,
	}, s.options)
	if _, refused := errors.AsType[*types.ConditionalCheckFailedException](err); refused {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, failure(err, "claim push of job %s", jobID)
	}
	if before, ok := out.Attributes["Seq"].(*types.AttributeValueMemberN); ok {
		prev, err = strconv.ParseInt(before.Value, 10, 64)
	}
	return prev, err == nil, failure(err, "claim push of job %s", jobID)
}
