package asl

import "time"

// Limits of AWS Step Functions, enforced here so that a machine which works in this process works there.
const (
	// MaxPayloadBytes bounds every state input, state output, task result and execution input, in bytes of UTF-8.
	// https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html, "Quotas related to task executions".
	MaxPayloadBytes = 262_144

	// MaxHistoryEvents bounds the history of one execution; the event that reaches it is ExecutionFailed.
	// https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html, "Quotas related to state machine
	// executions", and .../dg/bp-history-limit.html.
	MaxHistoryEvents = 25_000

	// MaxMapConcurrency is how many iterations of an inline Map run at once, whatever MaxConcurrency says.
	// https://docs.aws.amazon.com/step-functions/latest/dg/state-map-inline.html.
	MaxMapConcurrency = 40

	// maxDefinitionBytes: https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html, "Quotas related
	// to accounts", maximum state machine definition size 1 MB.
	maxDefinitionBytes = 1 << 20

	// maxStateNameRunes: https://docs.aws.amazon.com/step-functions/latest/dg/statemachine-structure.html.
	maxStateNameRunes = 80

	// maxSeconds bounds TimeoutSeconds, Seconds and IntervalSeconds, and maxAttempts a retrier's MaxAttempts.
	// https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html and .../dg/state-task.html.
	maxSeconds  = 99_999_999
	maxAttempts = 99_999_999

	// maxDelaySeconds is exclusive, as for a retrier's MaxDelaySeconds.
	// https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html.
	maxDelaySeconds = 31_622_400

	// Defaults of a retrier. https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html.
	defaultIntervalSeconds = 1
	defaultMaxAttempts     = 3
	defaultBackoffRate     = 2.0
)

const (
	// maxPathIndex bounds an array index in a path: no payload within MaxPayloadBytes has more elements.
	maxPathIndex = MaxPayloadBytes
	// maxPanicStackBytes bounds what a handler's panic adds to the error's Cause.
	maxPanicStackBytes = 2048
	// contextTimeFormat is how the context object shows StartTime and EnteredTime: ISO 8601, milliseconds, UTC.
	// https://docs.aws.amazon.com/step-functions/latest/dg/input-output-contextobject.html.
	contextTimeFormat = "2006-01-02T15:04:05.000Z"
)

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }
