package s3store

import (
	"context"
	"errors"
	"net"
	"net/http"
	"syscall"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/sitevault/sitevault/internal/backup"
)

// codeKinds maps the error codes that say more than their HTTP status.
// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
var codeKinds = map[string]backup.Kind{
	"NoSuchUpload": backup.UploadLost,
	"NoSuchKey":    backup.NotFound,
	"NotFound":     backup.NotFound, // HEAD answers have no body, so no better code

	"InvalidPart":                            backup.ChecksumMismatch,
	"InvalidPartOrder":                       backup.ChecksumMismatch,
	"BadDigest":                              backup.ChecksumMismatch,
	"InvalidDigest":                          backup.ChecksumMismatch,
	"XAmzContentChecksumMismatch":            backup.ChecksumMismatch,
	"XAmzContentSHA256Mismatch":              backup.ChecksumMismatch,
	"PreconditionFailed":                     backup.Conflict,
	"ConditionalRequestConflict":             backup.Conflict,
	"OperationAborted":                       backup.StorageUnavailable,
	"RequestTimeout":                         backup.StorageUnavailable,
	"RequestTimeTooSkewed":                   backup.StorageUnavailable, // of a worker that was frozen while it signed
	"IncompleteBody":                         backup.StorageUnavailable,
	"ExpiredToken":                           backup.StorageUnavailable, // the next call signs with fresh credentials
	"SlowDown":                               backup.StorageUnavailable,
	"InternalError":                          backup.StorageUnavailable,
	"ServiceUnavailable":                     backup.StorageUnavailable,
	"Throttling":                             backup.StorageUnavailable,
	"ThrottlingException":                    backup.StorageUnavailable,
	"RequestLimitExceeded":                   backup.StorageUnavailable,
	"BandwidthLimitExceeded":                 backup.StorageUnavailable,
	"TooManyRequestsException":               backup.StorageUnavailable,
	"ProvisionedThroughputExceededException": backup.StorageUnavailable,
}

// fail gives err its kind and wraps it once; format and args name the operation and its key value. An error that
// has a kind already keeps it, and a cancelled context stays visible in the chain.
func fail(err error, format string, args ...any) error {
	var kinded *backup.Error
	kind := kindOf(err)
	if errors.As(err, &kinded) {
		kind = kinded.Kind
	}
	return backup.E(kind, format+": %w", append(args, spoken{err})...)
}

// spoken is a transport error in words that tenants may read: those of the SDK hold the storage's address, and so the
// names of our own network. What S3 itself has said stands as it is.
type spoken struct{ error }

func (s spoken) Unwrap() error { return s.error }

func (s spoken) Error() string {
	var request *smithyhttp.RequestSendError
	if answered(s.error) || !errors.As(s.error, &request) {
		return s.error.Error()
	}
	var errno syscall.Errno
	var dns *net.DNSError
	switch {
	case errors.As(s.error, &errno):
		return "no answer: " + errno.Error()
	case errors.As(s.error, &dns):
		return "no answer: the storage's address cannot be found"
	case errors.Is(s.error, context.Canceled), errors.Is(s.error, context.DeadlineExceeded), isTimeout(s.error):
		return "no answer in time"
	}
	return "no answer: the connection broke"
}

// answered tells whether err is what the storage has answered.
func answered(err error) bool {
	var response *awshttp.ResponseError
	return errors.As(err, &response) && response.HTTPStatusCode() > 0
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func kindOf(err error) backup.Kind {
	var api smithy.APIError
	if errors.As(err, &api) {
		if kind, ok := codeKinds[api.ErrorCode()]; ok {
			return kind
		}
	}
	var response *awshttp.ResponseError
	if !errors.As(err, &response) {
		return backup.StorageUnavailable // no answer at all
	}
	switch status := response.HTTPStatusCode(); {
	case status == http.StatusNotImplemented:
		return backup.StorageRefused
	case status >= 500, status == http.StatusTooManyRequests, status == http.StatusRequestTimeout:
		return backup.StorageUnavailable
	case status >= 300:
		return backup.StorageRefused
	}
	return backup.StorageUnavailable // an answer of 2xx that could not be understood
}
