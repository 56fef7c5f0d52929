package s3store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/breaker"
)

// codeKinds maps the error codes of the calls in use: those of S3, and those of other servers that speak its API. A code
// decides before the status of the answer, which several of them share.
// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html (read 2026-11)
// https://docs.ceph.com/en/latest/radosgw/s3/commons/ (read 2026-11)
// https://github.com/minio/minio/blob/master/cmd/api-errors.go (read 2026-11)
var codeKinds = byCode(map[backup.Kind]string{
	backup.NotFound:   "NoSuchKey NoSuchVersion NotFound", // NotFound is the SDK's: answers to HEAD have no body, so no better code
	backup.UploadLost: "NoSuchUpload",
	backup.Conflict:   "PreconditionFailed",

	backup.UploadConflict: "ConditionalRequestConflict",

	backup.ChecksumMismatch: `BadDigest InvalidDigest InvalidPart InvalidPartOrder XAmzContentChecksumMismatch
		XAmzContentSHA256Mismatch`,

	backup.StorageFull: `InsufficientStorage InsufficientStorageSpace QuotaExceeded BucketQuotaExceeded StorageQuotaExceeded
		XMinioStorageFull XMinioAdminBucketQuotaExceeded`,

	// A server that is busy or starting, a request that broke on its way, or credentials that the next call renews.
	backup.StorageUnavailable: `BandwidthLimitExceeded Busy ExpiredToken IncompleteBody InternalError KMS.ThrottlingException
		OperationAborted ProvisionedThroughputExceededException RequestLimitExceeded RequestThrottled RequestThrottledException
		RequestTimeout RequestTimeTooSkewed ServerBusy ServiceUnavailable SlowDown SlowDownRead SlowDownWrite
		TemporaryRedirect Throttling ThrottlingException TokenRefreshRequired TooManyRequests TooManyRequestsException
		XMinioBackendDown XMinioServerNotInitialized`,

	backup.StorageRefused: `AccessDenied AccessForbidden AccountProblem AllAccessDisabled AuthorizationHeaderMalformed
		AuthorizationQueryParametersError BadRequest BucketAlreadyExists BucketAlreadyOwnedByYou CredentialsNotSupported
		DirectoryObjectContainsData EntityTooLarge EntityTooSmall ExistingObjectIsDirectory Forbidden
		IllegalLocationConstraintException InvalidAccessKeyId InvalidAddressingHeader InvalidArgument InvalidBucketName
		InvalidBucketState InvalidChunkSizeError InvalidEncryptionAlgorithmError InvalidLocationConstraint InvalidObjectName
		InvalidObjectState InvalidPartNumber InvalidPayer InvalidRange InvalidRegion InvalidRequest InvalidSecurity
		InvalidStorageClass InvalidTag InvalidToken InvalidURI KeyTooLongError KMS.DisabledException KMS.InvalidKeyUsageException
		KMS.KMSInvalidStateException KMS.NotFoundException MalformedDate MalformedPolicy MalformedTrailerError MalformedXML
		MaxMessageLengthExceeded MetadataTooLarge MethodNotAllowed MissingContentLength MissingRequestBodyError
		MissingSecurityHeader MovedPermanently NoSuchBucket NotDeviceOwnerError NotImplemented NotSignedUp ObjectParentIsFile
		PermanentRedirect Redirect RequestHeaderSectionTooLarge SignatureDoesNotMatch TooManyBuckets UnauthorizedAccess
		UnexpectedContent UserKeyMustBeSpecified UserSuspended VersioningNotConfigured XMinioInvalidObjectName
		XMinioObjectExistsAsDirectory XMinioParentIsObject`,
})

func byCode(codes map[backup.Kind]string) map[string]backup.Kind {
	kinds := map[string]backup.Kind{}
	for kind, list := range codes {
		for _, code := range strings.Fields(list) {
			kinds[code] = kind
		}
	}
	return kinds
}

// fail gives err its kind and wraps it once; format and args name the operation and its key value. An error that
// has a kind already keeps it, and a cancelled context stays visible in the chain.
func fail(err error, format string, args ...any) error {
	var kinded *backup.Error
	kind := kindOf(err)
	if errors.As(err, &kinded) {
		kind = kinded.Kind
	}
	if here, there, skewed := clocks(err); skewed {
		kind = backup.StorageUnavailable
		err = fmt.Errorf("the clocks of Sitevault and of the storage differ by more than %s, set them right: here it was %s, there %s: %w",
			maxSkew, here.Format(time.RFC3339), there.Format(time.RFC3339), spoken{err})
	}
	return backup.E(kind, format+": %w", append(args, spoken{err})...)
}

// maxSkew is how far the clock that signs a request may be off.
// https://docs.aws.amazon.com/AmazonS3/latest/API/RESTAuthentication.html (read 2026-11)
const maxSkew = 15 * time.Minute

// clocks tells of a request that was refused when it was signed here and answered there, and whether that lies further
// apart than the storage allows: then that is the reason, whatever the answer says, which has no code if it is one to HEAD.
func clocks(err error) (here, there time.Time, skewed bool) {
	var response *awshttp.ResponseError
	if !errors.As(err, &response) || response.Response == nil || response.Response.Response == nil || response.Response.Request == nil {
		return here, there, false
	}
	here, herr := time.Parse("20060102T150405Z", response.Response.Request.Header.Get("X-Amz-Date"))
	there, terr := http.ParseTime(response.Response.Header.Get("Date"))
	refused := response.HTTPStatusCode() == http.StatusForbidden || response.HTTPStatusCode() == http.StatusBadRequest
	apart := there.Sub(here).Abs() > maxSkew || codeOf(err) == "RequestTimeTooSkewed"
	return here, there.UTC(), refused && herr == nil && terr == nil && apart
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
	var away *breaker.Away
	var errno syscall.Errno
	var dns *net.DNSError
	switch {
	case errors.As(s.error, &away):
		return away.Error()
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
	if kind, known := codeKinds[codeOf(err)]; known {
		return kind
	}
	return statusKind(statusOf(err))
}

// statusKind judges an answer by its status. Without an answer, and with one of 2xx that could not be understood, nothing
// is known.
func statusKind(status int) backup.Kind {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return backup.StorageUnavailable
	case http.StatusInsufficientStorage:
		return backup.StorageFull
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return backup.StorageRefused
	}
	if status >= http.StatusMultipleChoices && status < http.StatusInternalServerError {
		return backup.StorageRefused
	}
	return backup.StorageUnavailable
}

// conflicting gives a refusal to make an object, by the completion of an upload or in one request, its kind where another
// operation on the object is the reason. To make it anew, under another key, helps.
func conflicting(err error) error {
	kind, known := codeKinds[codeOf(err)]
	if statusOf(err) == http.StatusConflict && (!known || kind == backup.StorageUnavailable) {
		return backup.E(backup.UploadConflict, "%w", spoken{err})
	}
	return err
}
