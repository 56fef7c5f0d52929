package dynamo

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// Names of the table that whoever creates it must use. All keys are strings.
const (
	PartitionKey = "pk"
	SortKey      = "sk"
	// TypeAttribute tells the kinds of rows apart; filters of the stream match on it.
	TypeAttribute = "type"
	// TTLAttribute holds the second of the Unix epoch from which on a row may be removed.
	TTLAttribute = "ttl"

	// DueIndex holds the keys of the jobs that have a DueAt and of the last good backups of scheduled sites, and nothing
	// else.
	DueIndex        = "due"
	DuePartitionKey = "duePk"
	DueSortKey      = "dueSk"
)

// Row types that a consumer of the stream may ask for.
const (
	JobType   = "job"
	FileType  = "file"
	PartType  = "part"
	ErrorType = "error"
)

const (
	gateType       = "gate"
	listType       = "list"
	slotType       = "slot"
	newestType     = "newest"
	keyType        = "key"
	siteType       = "site"
	ticketType     = "ticket"
	goodType       = "good"
	socketType     = "socket"
	socketSlotType = "socketSlot"
	watchType      = "watch"
	pushType       = "push"
	usageType      = "usage"
	rateType       = "rate"
)

// Table is the table as the store expects it. Its TTL on TTLAttribute is switched on by a call of its own.
func Table(name string) *dynamodb.CreateTableInput {
	return &dynamodb.CreateTableInput{
		TableName:   &name,
		BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{
			textKey(PartitionKey), textKey(SortKey), textKey(DuePartitionKey), textKey(DueSortKey),
		},
		KeySchema: schema(PartitionKey, SortKey),
		GlobalSecondaryIndexes: []types.GlobalSecondaryIndex{{
			IndexName:  aws.String(DueIndex),
			KeySchema:  schema(DuePartitionKey, DueSortKey),
			Projection: &types.Projection{ProjectionType: types.ProjectionTypeKeysOnly},
		}},
		StreamSpecification: &types.StreamSpecification{
			StreamEnabled: aws.Bool(true), StreamViewType: types.StreamViewTypeNewAndOldImages,
		},
	}
}

func textKey(name string) types.AttributeDefinition {
	return types.AttributeDefinition{AttributeName: &name, AttributeType: types.ScalarAttributeTypeS}
}

func schema(partition, sort string) []types.KeySchemaElement {
	return []types.KeySchemaElement{
		{AttributeName: &partition, KeyType: types.KeyTypeHash},
		{AttributeName: &sort, KeyType: types.KeyTypeRange},
	}
}
