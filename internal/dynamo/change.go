package dynamo

import (
	"fmt"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/sitevault/sitevault/internal/backup"
)

// Changes reads one record of the table's stream, which must carry both images. A row that was created has the zero
// value for its Old, one that was removed for its New. A recorded part comes alone, as Part, and a last error as Error, since
// its file's row does not change with it; and the images of a file do not count the parts: whoever wants the progress reads the job. Rows
// that are no job, file, last error or new part make the zero Change.
func Changes(record events.DynamoDBEventRecord) (backup.Change, error) {
	change, err := changeOf(record)
	if err != nil {
		return backup.Change{}, fmt.Errorf("stream record %s: %w", record.EventID, err)
	}
	return change, nil
}

// Purged tells whether DynamoDB itself removed the row because its time to live had passed.
func Purged(record events.DynamoDBEventRecord) bool {
	by := record.UserIdentity
	return events.DynamoDBOperationType(record.EventName) == events.DynamoDBOperationTypeRemove &&
		by != nil && by.Type == "Service" && by.PrincipalID == "dynamodb.amazonaws.com"
}

func changeOf(record events.DynamoDBEventRecord) (backup.Change, error) {
	change := backup.Change{JobID: text(record.Change, "JobID")}
	switch text(record.Change, TypeAttribute) {
	case JobType:
		old, next, err := images[jobRow](record.Change)
		change.Job = &backup.JobChange{Old: old.Job, New: next.Job}
		return change, err
	case FileType:
		old, next, err := images[fileRow](record.Change)
		change.File = &backup.FileChange{Old: old.File, New: next.File}
		return change, err
	case ErrorType:
		_, next, err := images[errorRow](record.Change)
		change.Error = &next.Failure
		if len(record.Change.NewImage) > 0 {
			return change, err
		}
	case PartType:
		_, next, err := images[partRow](record.Change)
		change.Part = &next.PartWrite
		if len(record.Change.OldImage) == 0 {
			return change, err
		}
	}
	return backup.Change{}, nil
}

// text is a text that the row has had all along; "" when it has none.
func text(r events.DynamoDBStreamRecord, name string) string {
	row := r.NewImage
	if len(row) == 0 {
		row = r.OldImage
	}
	if t, ok := row[name]; ok && t.DataType() == events.DataTypeString {
		return t.String()
	}
	return ""
}

func images[T any](r events.DynamoDBStreamRecord) (old, next T, err error) {
	if old, err = image[T](r.OldImage); err != nil {
		return old, next, fmt.Errorf("old image: %w", err)
	}
	if next, err = image[T](r.NewImage); err != nil {
		return old, next, fmt.Errorf("new image: %w", err)
	}
	return old, next, nil
}

func image[T any](attributes map[string]events.DynamoDBAttributeValue) (row T, err error) {
	it := make(item, len(attributes))
	for name, value := range attributes {
		if it[name], err = attribute(value); err != nil {
			return row, fmt.Errorf("%s: %w", name, err)
		}
	}
	return unmarshal[T](it)
}

// attribute translates what the rows are made of.
func attribute(v events.DynamoDBAttributeValue) (types.AttributeValue, error) {
	switch v.DataType() {
	case events.DataTypeString:
		return str(v.String()), nil
	case events.DataTypeNumber:
		return &types.AttributeValueMemberN{Value: v.Number()}, nil
	case events.DataTypeBoolean:
		return &types.AttributeValueMemberBOOL{Value: v.Boolean()}, nil
	case events.DataTypeNull:
		return &types.AttributeValueMemberNULL{Value: true}, nil
	case events.DataTypeList:
		return list(v.List())
	case events.DataTypeMap:
		return fields(v.Map())
	}
	return nil, fmt.Errorf("no row holds type %d", v.DataType())
}

func list(values []events.DynamoDBAttributeValue) (types.AttributeValue, error) {
	all := make([]types.AttributeValue, len(values))
	for i, v := range values {
		var err error
		if all[i], err = attribute(v); err != nil {
			return nil, err
		}
	}
	return &types.AttributeValueMemberL{Value: all}, nil
}

func fields(values map[string]events.DynamoDBAttributeValue) (types.AttributeValue, error) {
	all := make(item, len(values))
	for name, v := range values {
		var err error
		if all[name], err = attribute(v); err != nil {
			return nil, err
		}
	}
	return &types.AttributeValueMemberM{Value: all}, nil
}
