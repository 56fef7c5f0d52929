package stacks

import (
	"slices"
	"time"
)

// Function is one Lambda function: functions/<Name>/main.go, built into <Name>.zip.
type Function struct {
	Name string
	// State is the Task state that calls it; "": the state machine does not.
	State     string
	MemoryMiB int           // also sets the share of a processor: a whole one at 1,769 MiB
	Timeout   time.Duration // of a state's function at most the TimeoutSeconds of its state
	Reserved  int           // the most that run at the same time; 0: as many as the account has left
	// Async functions are called by a service that does not wait for their answer. What stays undone after Retries goes
	// to a dead-letter queue of their own.
	Async   bool
	Retries int
	// Periodic functions are called again soon, and the next call does what a failed one left: no failure is kept.
	Periodic bool
	Reads    []Variable // of the environment
	Grants   []Grant    // what its role allows beside writing logs and traces
	Why      string     // this much memory and time
}

// DeadLetters tells whether events that cannot be delivered to the function are kept in a queue of its own.
func (f Function) DeadLetters() bool { return f.Async || f.Name == stream }

// KeepsFailures tells whether Lambda puts events that the function fails at into the same queue.
func (f Function) KeepsFailures() bool { return f.Async && !f.Periodic }

// Variable is the name of an environment variable.
type Variable string

// The environment of the functions.
const (
	Table           Variable = "TABLE"
	Quotas          Variable = "QUOTAS"
	Bucket          Variable = "BUCKET"
	StateMachineARN Variable = "STATE_MACHINE_ARN"
	EventBus        Variable = "EVENT_BUS"
	ScheduleGroup   Variable = "SCHEDULE_GROUP"
	ScheduleRoleARN Variable = "SCHEDULE_ROLE_ARN"
	ScheduleDLQARN  Variable = "SCHEDULE_DLQ_ARN"
	DailyRunARN     Variable = "DAILY_RUN_ARN"
	SocketEndpoint  Variable = "SOCKET_ENDPOINT"
	SecretPrefix    Variable = "SECRET_PREFIX"
	Issuer          Variable = "ISSUER"
	Audience        Variable = "AUDIENCE"
	JobTimeout      Variable = "JOB_TIMEOUT"
	FailedKeep      Variable = "FAILED_KEEP"
	RetryWindow     Variable = "RETRY_WINDOW"
	MetricNamespace Variable = "METRIC_NAMESPACE"
	ServiceVersion  Variable = "SERVICE_VERSION"
	LogLevel        Variable = "LOG_LEVEL"
	AllowHosts      Variable = "ALLOW_HOSTS"
	S3Endpoint      Variable = "S3_ENDPOINT"
	S3PathStyle     Variable = "S3_PATH_STYLE"
)

// Names of functions that something else refers to.
const (
	create           = "create"
	status           = "status"
	dailyRun         = "daily-run"
	sweep            = "sweep"
	clean            = "clean"
	stream           = "stream"
	executionEnded   = "execution-ended"
	socketAuthorize  = "socket-authorize"
	socketConnect    = "socket-connect"
	socketDisconnect = "socket-disconnect"
	socketMessage    = "socket-message"
	authorize        = "authorize"
)

// reads lists what a function reads: what all do, and the rest.
func reads(sets ...[]Variable) []Variable {
	return append([]Variable{MetricNamespace, LogLevel}, slices.Concat(sets...)...)
}

func of(variables ...Variable) []Variable { return variables }

var (
	policy    = of(JobTimeout, FailedKeep, RetryWindow)
	rows      = of(Table, Quotas)
	storage   = append(of(Bucket, S3Endpoint, S3PathStyle), rows...)
	providers = of(SecretPrefix, AllowHosts, ServiceVersion)
)

// Functions are all functions of a deployment, those of the states first.
func Functions(c Config) []Function {
	all := slices.Concat(stateFunctions(c), jobFunctions(c), socketFunctions())
	if c.Issuer != "" {
		all = append(all, Function{
			Name: authorize, MemoryMiB: 256, Timeout: 10 * time.Second, Reads: reads(of(Issuer, Audience)),
			Why: "A person waits; it checks a signature, and reads the issuer's keys now and then.",
		})
	}
	return all
}

func stateFunctions(c Config) []Function {
	return []Function{
		{
			Name: "start-job", State: "StartJob", MemoryMiB: 256, Timeout: time.Minute, Reads: reads(rows, policy),
			Grants: readRows.and(writeJobs),
			Why:    "Two small requests to the table; the minute is for a table that throttles.",
		},
		{
			Name: "open-upload", State: "OpenUpload", MemoryMiB: 256, Timeout: 5 * time.Minute, Reads: reads(storage, providers),
			Grants: readRows.and(writeFiles, putObjects, listParts, readObjects, abortOne, deleteObjects, readSecrets),
			Why:    "Waits for providers that answer slowly, and reads back 10,000 rows at most.",
		},
		{
			Name: "export-range-upload", State: "ExportRangeUpload", MemoryMiB: 512, Timeout: 15 * time.Minute, Reserved: c.Workers,
			Reads:  reads(storage, providers),
			Grants: readRows.and(writeFiles, putObjects, listParts, readObjects, readSecrets),
			Why: "0.29 of a processor encrypt and check about 100 MB/s, more than a function's network gives, and cost per GiB is time " +
				"times memory. 15 minutes is the longest that Lambda has. The limit keeps a night of many backups from taking the API's share of the account.",
		},
		{
			Name: "complete-multipart", State: "CompleteMultipart", MemoryMiB: 512, Timeout: 15 * time.Minute, Reads: reads(storage),
			Grants: readRows.and(writeFiles, putObjects, listParts, readObjects),
			Why:    "Holds 10,000 parts; S3 may work for minutes on a large object before it answers.",
		},
		{
			Name: "inspect-archive", State: "InspectArchive", MemoryMiB: 512, Timeout: 5 * time.Minute, Reads: reads(storage),
			Grants: readRows.and(writeFiles, readObjects),
			Why:    "Reads a zip's directory, which has a bound of its own.",
		},
		{
			Name: "fail-file", State: "FailFile", MemoryMiB: 256, Timeout: time.Minute, Reads: reads(rows),
			Grants: readRows.and(writeFiles),
			Why:    "Two small requests to the table; the minute is for a table that throttles.",
		},
		{
			Name: "finish-job", State: "FinishJob", MemoryMiB: 256, Timeout: 5 * time.Minute, Reads: reads(storage, policy),
			Grants: readRows.and(writeJobs, writeFiles, putObjects, abortUploads, deleteObjects),
			Why:    "Lists and removes what a failed attempt left; the sweeper goes on with what is more.",
		},
	}
}

func jobFunctions(c Config) []Function {
	sweepers := 0
	if c.Workers > 0 {
		sweepers = 1
	}
	return []Function{
		{
			Name: dailyRun, MemoryMiB: 256, Timeout: time.Minute, Async: true, Retries: 2,
			Reads:  reads(storage, of(StateMachineARN), policy),
			Grants: readRows.and(listJobs, writeJobs, writeFiles, abortUploads, deleteObjects, startExecutions, stopExecutions),
			Why:    "A few small requests; the minute is for ending a job that is in the way.",
		},
		{
			Name: create, MemoryMiB: 512, Timeout: 29 * time.Second,
			Reads:  reads(storage, of(StateMachineARN, ScheduleGroup, ScheduleRoleARN, ScheduleDLQARN, DailyRunARN, SocketEndpoint, ServiceVersion), policy),
			Grants: readRows.and(listJobs, countRequests, writeJobs, writeFiles, writeSites, writeTickets, abortUploads, deleteObjects, startExecutions, stopExecutions, writeSchedules),
			Why:    "A person waits; more memory starts faster. API Gateway gives up after 29 s.",
		},
		{
			Name: status, MemoryMiB: 512, Timeout: 10 * time.Second, Reads: reads(storage, of(ServiceVersion)),
			Grants: readRows.and(listJobs, countRequests, signLinks),
			Why:    "A person waits; more memory starts faster. A read that takes 10 s is stuck.",
		},
		{
			Name: sweep, MemoryMiB: 512, Timeout: 290 * time.Second, Reserved: sweepers, Async: true, Periodic: true,
			Reads:  reads(storage, of(StateMachineARN), policy),
			Grants: readRows.and(listJobs, readDue, writeJobs, writeFiles, abortUploads, deleteObjects, startExecutions, stopExecutions),
			Why:    "Runs every minute and never twice at the same time, which would only double the requests: after a long run some are left out, but the alarm for a quarter of an hour does not ring.",
		},
		{
			Name: executionEnded, MemoryMiB: 256, Timeout: 5 * time.Minute, Async: true, Retries: 2,
			Reads:  reads(storage, policy),
			Grants: readRows.and(writeJobs, writeFiles, abortUploads, deleteObjects),
			Why:    "Lists and removes what an execution left; the sweeper goes on with what is more.",
		},
		{
			Name: clean, MemoryMiB: 256, Timeout: 5 * time.Minute, Async: true, Retries: 2,
			Reads:  reads(storage, of(StateMachineARN), policy),
			Grants: readRows.and(writeJobs, writeFiles, abortUploads, deleteObjects, stopExecutions),
			Why:    "Lists and removes a job's uploads and objects; the sweeper goes on with what is more.",
		},
		{
			Name: stream, MemoryMiB: 512, Timeout: time.Minute, Reads: reads(storage, of(EventBus, SocketEndpoint)),
			Grants: readRows.and(writeGood, dropSockets, putEvents, pushToSockets, abortUploads, deleteObjects),
			Why:    "A batch of 100 changes is published and pushed in about a second; what takes a minute is tried again in halves.",
		},
	}
}

func socketFunctions() []Function {
	return []Function{
		{
			Name: socketAuthorize, MemoryMiB: 256, Timeout: 10 * time.Second, Reads: reads(rows),
			Grants: takeTickets,
			Why:    "A person waits; one request to the table.",
		},
		{
			Name: socketConnect, MemoryMiB: 256, Timeout: 10 * time.Second, Reads: reads(rows),
			Grants: openSockets,
			Why:    "A person waits; two requests to the table.",
		},
		{
			Name: socketDisconnect, MemoryMiB: 256, Timeout: 10 * time.Second, Reads: reads(rows),
			Grants: readRows.and(dropSockets),
			Why:    "Removes the rows of one connection.",
		},
		{
			Name: socketMessage, MemoryMiB: 256, Timeout: 10 * time.Second, Reads: reads(rows, of(SocketEndpoint)),
			Grants: readRows.and(subscribeSockets, dropSockets, pushToSockets),
			Why:    "A person waits; a few requests to the table.",
		},
	}
}
