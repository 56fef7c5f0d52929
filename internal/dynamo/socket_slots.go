package dynamo

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/sitevault/sitevault/internal/backup"
)

// A user has as many slots as he may have sockets, and each socket takes one. A slot is a row that only one of two
// writes can make, so that nothing is counted that could drift; one that nobody gives back, since API Gateway does not promise
// to tell of the end of a socket, is free again when its socket cannot be open any more.

// errTaken is the refusal of a slot.
var errTaken = errors.New("another socket has just taken the slot")

// OpenSocket stores a socket that watches nothing yet. QuotaExceeded when the user has no slot left.
func (s *Store) OpenSocket(ctx context.Context, socket backup.Socket) error {
	return failure(s.openSocket(ctx, socket), "open socket of user %s", socket.UserID)
}

func (s *Store) openSocket(ctx context.Context, socket backup.Socket) error {
	if s.quotas.Sockets == 0 {
		return s.putSocket(ctx, socket, "")
	}
	taken, err := s.takenSlots(ctx, socket.UserID)
	if err != nil {
		return err
	}
	for {
		if err := s.quotas.CheckSockets(len(taken)); err != nil {
			return err
		}
		slot := freeSlot(socket.SocketID, s.quotas.Sockets, taken)
		if err := s.putSocket(ctx, socket, slot); !errors.Is(err, errTaken) {
			return err
		}
		taken[slot] = true
	}
}

// takenSlots are those whose sockets may still be open. They may be more than the quota, when it was lowered.
func (s *Store) takenSlots(ctx context.Context, userID string) (map[string]bool, error) {
	items, err := s.query(ctx, inPartition(socketSlotKey(userID, "").PK, "", "", ""), math.MaxInt)
	if err != nil {
		return nil, err
	}
	slots, err := unmarshalAll(items, func(r socketSlotRow) socketSlotRow { return r })
	taken := map[string]bool{}
	for _, slot := range slots {
		if s.now().Before(slot.ClosesAt) {
			taken[slot.SK] = true
		}
	}
	return taken, err
}

// freeSlot begins to look where the socket's id points, so that sockets that are opened at the same time do not all want
// the same slot. Fewer than all are taken.
func freeSlot(socketID string, slots int64, taken map[string]bool) string {
	h := fnv.New32a()
	h.Write([]byte(socketID))
	for n := int64(h.Sum32()); ; n++ {
		if slot := fmt.Sprintf("%010d", n%slots); !taken[slot] {
			return slot
		}
	}
}

// putSocket writes the socket and, if it needs one, its slot.
func (s *Store) putSocket(ctx context.Context, socket backup.Socket, slot string) error {
	closes := ttl(socket.ClosesAt)
	open, err := s.put(socketRow{header: header{socketKey(socket.SocketID), socketType}, Socket: socket, Slot: slot, TTL: closes}, condition{}, nil)
	if err != nil {
		return err
	}
	if slot == "" {
		return s.transact(ctx, open)
	}
	free := condition{
		expression: "attribute_not_exists(" + PartitionKey + ") OR ClosesAt <= :now", values: item{":now": millis(s.now())},
	}
	taken, err := s.put(socketSlotRow{header{socketSlotKey(socket.UserID, slot), socketSlotType}, socket.SocketID, socket.ClosesAt, closes}, free, errTaken)
	if err != nil {
		return err
	}
	return s.transact(ctx, taken, open)
}

// giveBackSlot frees the slot of a socket, unless another one has it by now.
func (s *Store) giveBackSlot(ctx context.Context, socketID string) error {
	it, err := s.get(ctx, socketKey(socketID))
	if err != nil {
		return err
	}
	row, err := unmarshal[socketRow](it)
	if err != nil || row.Slot == "" {
		return err
	}
	_, err = s.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{
		TableName: &s.table, Key: socketSlotKey(row.UserID, row.Slot).attributes(),
		ConditionExpression: aws.String("SocketID = :socket"), ExpressionAttributeValues: item{":socket": str(socketID)},
	}, s.options)
	if _, refused := errors.AsType[*types.ConditionalCheckFailedException](err); refused {
		return nil
	}
	return err
}
