package dynamo

import (
	"maps"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/sitevault/sitevault/internal/backup"
)

// item is a row, or the key of one, as DynamoDB has it.
type item = map[string]types.AttributeValue

// header stands in every row.
type header struct {
	key
	Type string `dynamodbav:"type"`
}

// The rows hold the fields of the domain under their own names.
type (
	jobRow struct {
		header
		backup.Job
		Counted bool   `dynamodbav:",omitempty"` // in the user's usage
		DuePK   string `dynamodbav:"duePk,omitempty"`
		DueSK   string `dynamodbav:"dueSk,omitempty"`
		TTL     int64  `dynamodbav:"ttl,omitempty"`
	}
	// fileRow counts in Changes what was written to itself; the counts of the parts are in the gates.
	fileRow struct {
		header
		backup.File
		Held int64 `dynamodbav:",omitempty"` // bytes that it counts for in the user's usage
		TTL  int64 `dynamodbav:"ttl,omitempty"`
	}
	// errorRow is the last error of a file, whose row need not be there.
	errorRow struct {
		header
		JobID string
		backup.Failure
		Writes int64
		TTL    int64 `dynamodbav:"ttl,omitempty"`
	}
	partRow struct {
		header
		backup.PartWrite
		TTL int64 `dynamodbav:"ttl"`
	}
	// listRow puts the job that its sort key names into a list.
	listRow struct {
		header
		TTL int64 `dynamodbav:"ttl,omitempty"`
	}
	// slotRow says which job holds the site.
	slotRow struct {
		header
		JobID string
	}
	// newestRow says which job of the site has the newest id, also when that job is gone.
	newestRow struct {
		header
		JobID string
		TTL   int64 `dynamodbav:"ttl"`
	}
	// keyRow says which job the first use of a key has made.
	keyRow struct {
		header
		backup.Idempotency
		JobID string
		TTL   int64 `dynamodbav:"ttl"`
	}
	siteRow struct {
		header
		backup.Site
		Counted bool `dynamodbav:",omitempty"` // in the user's usage
	}
	// usageRow holds the counts, or those of a day.
	usageRow struct {
		header
		backup.Usage
	}
	ticketRow struct {
		header
		backup.Ticket
		TTL int64 `dynamodbav:"ttl"`
	}
	// goodRow says by its place in the due index since when a scheduled site has had no good backup.
	goodRow struct {
		header
		DuePK string `dynamodbav:"duePk"`
		DueSK string `dynamodbav:"dueSk"`
	}
	// socketRow counts the jobs that the socket watches.
	socketRow struct {
		header
		backup.Socket
		Slot    string `dynamodbav:",omitempty"` // the sort key of its slot
		Watches int
		TTL     int64 `dynamodbav:"ttl"`
	}
	// socketSlotRow is one of the sockets that a user may have open.
	socketSlotRow struct {
		header
		SocketID string
		ClosesAt time.Time
		TTL      int64 `dynamodbav:"ttl"`
	}
	// watchRow says by its keys who watches what.
	watchRow struct {
		header
		TTL int64 `dynamodbav:"ttl"`
	}
)

// ttl is the first whole second that is not before t.
func ttl(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Add(time.Second - time.Nanosecond).Unix()
}

// A checksum is text in a row: its 64 bits do not survive readers that take every number for a float.
const checksumField = "CRC64NVME"

// recode returns the item with its checksums, and those of a row within it, as f makes them.
func recode(it item, f func(types.AttributeValue) types.AttributeValue) item {
	recoded := maps.Clone(it)
	for name, value := range it {
		if name == checksumField {
			recoded[name] = f(value)
		} else if inner, ok := value.(*types.AttributeValueMemberM); ok && inner.Value[checksumField] != nil {
			recoded[name] = &types.AttributeValueMemberM{Value: recode(inner.Value, f)}
		}
	}
	return recoded
}

func asText(v types.AttributeValue) types.AttributeValue {
	if n, ok := v.(*types.AttributeValueMemberN); ok {
		return &types.AttributeValueMemberS{Value: n.Value}
	}
	return v
}

func asNumber(v types.AttributeValue) types.AttributeValue {
	if s, ok := v.(*types.AttributeValueMemberS); ok {
		return &types.AttributeValueMemberN{Value: s.Value}
	}
	return v
}

// marshal makes the item of a row. Times are Unix milliseconds, and NULL when zero.
func marshal(row any) (item, error) {
	it, err := attributevalue.MarshalMapWithOptions(row, func(o *attributevalue.EncoderOptions) {
		o.EncodeTime = func(t time.Time) (types.AttributeValue, error) {
			if t.IsZero() {
				return &types.AttributeValueMemberNULL{Value: true}, nil
			}
			return millis(t), nil
		}
	})
	return recode(it, asText), err
}

// unmarshal reads what marshal made; what the item does not hold stays zero.
func unmarshal[T any](it item) (T, error) {
	var row T
	err := attributevalue.UnmarshalMapWithOptions(recode(it, asNumber), &row, func(o *attributevalue.DecoderOptions) {
		o.DecodeTime.N = func(n string) (time.Time, error) {
			ms, err := strconv.ParseInt(n, 10, 64)
			return time.UnixMilli(ms).UTC(), err
		}
	})
	return row, err
}

// unmarshalAll reads what is wanted of each row; nil when there are none.
func unmarshalAll[R, T any](items []item, wanted func(R) T) (list []T, err error) {
	for _, it := range items {
		row, err := unmarshal[R](it)
		if err != nil {
			return nil, err
		}
		list = append(list, wanted(row))
	}
	return list, nil
}

func millis(t time.Time) types.AttributeValue { return number(t.UnixMilli()) }

func number(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}

func str[T ~string](s T) types.AttributeValue { return &types.AttributeValueMemberS{Value: string(s)} }

// typeOf is the type of a row.
func typeOf(it item) string {
	if kind, ok := it[TypeAttribute].(*types.AttributeValueMemberS); ok {
		return kind.Value
	}
	return ""
}
