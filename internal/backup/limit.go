package backup

import "time"

// Limits of the services that Sitevault stands on. Each is checked where the value enters.
const (
	// S3: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html (read 2026-11).
	MinPartSizeBytes int64 = 5 << 20 // every part but the last
	MaxPartSizeBytes int64 = 5 << 30
	MaxParts               = 10_000
	MaxKeyBytes            = 1024

	// Step Functions: https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html (read 2026-11).
	MaxPayloadBytes     = 262_144
	MaxHistoryEvents    = 25_000
	MaxExecutionNameLen = 80

	// Lambda: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html (read 2026-11).
	MaxLambdaLife = 15 * time.Minute

	// API Gateway REST: https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-execution-service-limits-table.html (read 2026-11).
	MaxAPIAnswer = 29 * time.Second
)

// Limits of our own.
const (
	// BasePartSizeBytes serves files up to BasePartSizeBytes x plannedParts; larger files get larger parts.
	BasePartSizeBytes int64 = 16 << 20
	// plannedParts leaves a tenth of MaxParts free, so that rounding the part size to MiB never overflows.
	plannedParts int64 = 9_000
	// MaxBatches over all files of a job: about 7 history events each keep an execution under MaxHistoryEvents
	// with room for one retry of every second batch.
	MaxBatches = 2_000
	// maxPartsPerSmallBatch lets a worker overlap parts without making a failed batch costly.
	maxPartsPerSmallBatch = 8

	MaxProviders        = 8
	MaxParallelism      = 40 // concurrent iterations of an inline Map, same Step Functions page
	DefaultParallelism  = 4
	DefaultKeepDays     = 60
	MaxKeepDays         = 3_650
	DefaultMaxFileBytes = int64(1) << 40
	MaxFileBytes        = MaxPartSizeBytes * plannedParts
	MaxRetries          = 4 // that somebody asks for
	MaxRestarts         = 3
	DefaultJobTimeout   = 6 * time.Hour
	StartGrace          = 2 * time.Minute // a pending job older than this lost its start
	// DecisionLag covers what passes between reading the clock and the write that it decides, and clocks that differ.
	DecisionLag          = 5 * time.Minute
	SweepGrace           = 30 * time.Second // whoever writes the fence of a job sweeps it; the sweeper comes after this
	CleanupAlarm         = 24 * time.Hour   // a cleanup that has failed for this long needs a person
	IdempotencyRetention = 48 * time.Hour
	DeletedRowRetention  = 30 * 24 * time.Hour
)
