package stacks

import "slices"

// Grant allows actions on one resource.
type Grant struct {
	On      Resource
	Actions []string
	Via     string // the only service that may use a key in the role's name; "": no condition
}

// Resource is what a Grant is on.
type Resource string

// The resources of a deployment.
const (
	TheTable      Resource = "the table"
	RequestCounts Resource = "the table's counts of requests"
	DueIndex      Resource = "the index of due jobs"
	TableStream   Resource = "the table's stream"
	TheBucket     Resource = "the bucket"
	Objects       Resource = "objects of the bucket"
	DataKey       Resource = "the key of bucket and table"
	Machine       Resource = "the state machine"
	Executions    Resource = "executions of the state machine"
	Bus           Resource = "the event bus"
	Schedules     Resource = "schedules of the group"
	ScheduleRole  Resource = "the role of schedules"
	Connections   Resource = "open sockets"
	Secrets       Resource = "secrets of providers"
	DeadLetters   Resource = "the function's dead-letter queue"
	LogStreams    Resource = "streams of the function's log group"
	Everything    Resource = "*"
)

// Wildcard says why a resource is named by a pattern.
type Wildcard struct {
	Reason  string
	finding string // how cdk-nag writes it, as a regular expression of JavaScript; "": it does not notice
}

// Wildcards are the resources that no list of ARNs could name.
var Wildcards = map[Resource]Wildcard{
	Objects: {
		"Keys begin with the user's id, which is not known before there are users; every function serves all users.",
		`/^Resource::.*Bucket[0-9A-F]+\.?Arn.*\/\*$/`,
	},
	Executions:  {"An execution's ARN ends with the id of its backup.", `/^Resource::arn:.*:states:.*:execution:<Machine[0-9A-F]+\.Name>:\*$/`},
	Schedules:   {"A schedule's ARN ends with a name made of the user's and the site's id.", `/^Resource::arn:.*:scheduler:.*:schedule\/<Schedules>\/\*$/`},
	Connections: {"API Gateway names a socket's resource by its connection id.", `/^Resource::arn:.*:execute-api:.*\/v1\/(POST|DELETE)\/@connections\/\*$/`},
	Secrets: {
		"A secret's ARN ends with the user's id, the secret's name and six random characters.",
		`/^Resource::arn:.*:secretsmanager:.*:secret:[a-z0-9-]+\/\*$/`,
	},
	LogStreams: {"Lambda names a stream by date and instance.", ""},
	Everything: {"X-Ray has no resources to name.", `/^Resource::\*$/`},
}

// set is a list of grants that can be put together.
type set []Grant

func (s set) and(more ...set) set { return slices.Concat(append([]set{s}, more...)...) }

func allow(on Resource, actions ...string) Grant { return Grant{On: on, Actions: actions} }

// viaS3 lets S3 use the data key in the role's name. DynamoDB may use it for whoever may use the table: see the key's
// own policy.
func viaS3(actions ...string) Grant { return Grant{On: DataKey, Actions: actions, Via: "s3"} }

// What the code of the functions asks of AWS. A transaction needs the permission of each kind of write in it.
var (
	readRows     = set{allow(TheTable, "dynamodb:GetItem", "dynamodb:Query")}
	listJobs     = set{allow(TheTable, "dynamodb:BatchGetItem")}
	readDue      = set{allow(DueIndex, "dynamodb:Query")}
	writeJobs    = set{allow(TheTable, "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem")}
	writeFiles   = set{allow(TheTable, "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:ConditionCheckItem")}
	writeSites   = set{allow(TheTable, "dynamodb:PutItem", "dynamodb:DeleteItem")}
	writeGood    = set{allow(TheTable, "dynamodb:UpdateItem")}
	writeTickets = set{allow(TheTable, "dynamodb:PutItem")}
	takeTickets  = set{allow(TheTable, "dynamodb:DeleteItem")}

	countRequests = set{allow(RequestCounts, "dynamodb:UpdateItem")}

	openSockets      = set{allow(TheTable, "dynamodb:Query", "dynamodb:PutItem")}
	subscribeSockets = set{allow(TheTable, "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem")}
	dropSockets      = set{allow(TheTable, "dynamodb:DeleteItem", "dynamodb:BatchWriteItem")}

	putObjects    = set{allow(Objects, "s3:PutObject"), viaS3("kms:GenerateDataKey", "kms:Decrypt")}
	listParts     = set{allow(Objects, "s3:ListMultipartUploadParts")}
	readObjects   = set{allow(Objects, "s3:GetObject"), allow(TheBucket, "s3:ListBucket"), viaS3("kms:Decrypt")}
	signLinks     = set{allow(Objects, "s3:GetObject"), viaS3("kms:Decrypt")}
	abortOne      = set{allow(Objects, "s3:AbortMultipartUpload")}
	abortUploads  = abortOne.and(set{allow(TheBucket, "s3:ListBucketMultipartUploads")})
	deleteObjects = set{allow(TheBucket, "s3:ListBucketVersions"), allow(Objects, "s3:DeleteObject", "s3:DeleteObjectVersion")}

	startExecutions = set{allow(Machine, "states:StartExecution")}
	stopExecutions  = set{allow(Executions, "states:StopExecution")}
	putEvents       = set{allow(Bus, "events:PutEvents")}
	writeSchedules  = set{
		allow(Schedules, "scheduler:CreateSchedule", "scheduler:UpdateSchedule", "scheduler:DeleteSchedule"),
		{On: ScheduleRole, Actions: []string{"iam:PassRole"}, Via: "scheduler"},
	}
	pushToSockets = set{allow(Connections, "execute-api:ManageConnections")}
	readSecrets   = set{allow(Secrets, "secretsmanager:GetSecretValue")}
	readStream    = set{allow(TableStream, "dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator", "dynamodb:ListStreams")}
)
