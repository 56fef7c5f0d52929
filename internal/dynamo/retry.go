package dynamo

import (
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// A call is tried at most maxTries times. The waits in between grow from firstDelay to maxDelay and come to 3 s on
// average, 6 s at most: long enough for a transaction that meets a hundred others a second (docs/store.md), short enough for a
// request to the API.
const (
	maxTries   = 12
	firstDelay = 20 * time.Millisecond
	maxDelay   = time.Second
)

// backoff is exponential with full jitter; try counts from 1.
func backoff(jitter func() float64) func(try int) time.Duration {
	return func(try int) time.Duration {
		longest := maxDelay
		if shift := try - 1; shift < 10 {
			longest = min(longest, firstDelay<<shift)
		}
		return time.Duration(jitter() * float64(longest))
	}
}

// retryer is the only retrier of calls to DynamoDB: it lives in the SDK, because a try after a lost reply must carry the
// token of the first. It has no budget shared between calls, since to meet another transaction is no sign of an outage.
func retryer(delay func(try int) time.Duration) aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = maxTries
		o.Backoff = retry.BackoffDelayerFunc(func(try int, _ error) (time.Duration, error) { return delay(try), nil })
		o.RateLimiter = ratelimit.None
		o.Retryables = append(o.Retryables,
			retry.RetryableErrorCode{Codes: map[string]struct{}{"TransactionConflictException": {}}},
			retry.IsErrorRetryableFunc(cancelledInPassing))
	})
}

// Codes of a cancellation reason:
// https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_CancellationReason.html (read 2026-11).
const (
	reasonNone    = "None"
	reasonRefused = "ConditionalCheckFailed"
)

var passingReasons = map[string]bool{
	"TransactionConflict": true, "ProvisionedThroughputExceeded": true, "ThrottlingError": true,
}

// cancelledInPassing tells whether a transaction was cancelled by something that passes. The first reason counts: while
// a row is busy nobody knows whether its condition holds, and it comes before the conditions of later rows.
func cancelledInPassing(err error) aws.Ternary {
	cancelled, ok := errors.AsType[*types.TransactionCanceledException](err)
	if !ok {
		return aws.UnknownTernary
	}
	_, code := firstReason(cancelled)
	return aws.BoolTernary(passingReasons[code])
}

// firstReason is the place and the code of the first row that cancelled a transaction.
func firstReason(e *types.TransactionCanceledException) (place int, code string) {
	for i, r := range e.CancellationReasons {
		if code := aws.ToString(r.Code); code != reasonNone {
			return i, code
		}
	}
	return 0, reasonNone
}

var errBusy = errors.New("DynamoDB left rows out of every answer")
