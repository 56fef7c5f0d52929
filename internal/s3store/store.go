// Package s3store moves parts into S3 or any server that speaks its API, and reads, lists and removes what is stored.
//
// The SDK retries every call but UploadPart, whose body is one stream that cannot be rewound.
package s3store

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"

	"github.com/sitevault/sitevault/internal/breaker"
	"github.com/sitevault/sitevault/internal/step"
)

var (
	_ step.Uploader = (*Store)(nil)
	_ step.Objects  = (*Store)(nil)
	_ step.Sweeping = (*Store)(nil)
)

const (
	maxAttempts = 4 // of the SDK, per call
	maxBackoff  = 5 * time.Second

	minContinueBytes = 2 << 20 // as the SDK's own

	defaultRegion = "us-east-1" // of servers other than AWS, which only use it in signatures
)

// Config says where the bucket is.
type Config struct {
	Bucket   string
	Endpoint string // base URL of the server; "": AWS
	Region   string // "": the SDK's default chain on AWS, us-east-1 elsewhere

	// AccessKey and SecretKey are the credentials; both "": the SDK's default chain.
	AccessKey, SecretKey string

	PathStyle bool // bucket in the path instead of the host name

	// APIOptions are added to every call's middleware, for tracing.
	APIOptions []func(*middleware.Stack) error
}

// Store is one bucket. It is safe for concurrent use.
type Store struct {
	bucket  string
	client  *s3.Client
	presign *s3.PresignClient
	patient *http.Client // for the one call that works for minutes before it answers
	sides   *breaker.Set[class]

	foreign   bool        // not Amazon's own: less of the API may be there
	noBatches atomic.Bool // DeleteObjects has been refused
	byPrefix  atomic.Bool // foreign, but lists all uploads under a prefix
}

// Open makes a Store; it calls nobody but the SDK's credential chain's local parts.
func Open(ctx context.Context, c Config) (*Store, error) {
	if c.Bucket == "" {
		return nil, fmt.Errorf("open storage: no bucket is named")
	}
	loaded, err := config.LoadDefaultConfig(ctx, c.load()...)
	if err != nil {
		return nil, fmt.Errorf("open storage: %w", err)
	}
	sides := &breaker.Set[class]{}
	quick, patient := clients(sides)
	client := s3.NewFromConfig(loaded, func(o *s3.Options) {
		o.HTTPClient = quick
		o.UsePathStyle = c.PathStyle
		o.ContinueHeaderThresholdBytes = c.continueBytes()
		o.DisableLogOutputChecksumValidationSkipped = true
		o.APIOptions = append(o.APIOptions, c.APIOptions...)
		if c.Endpoint != "" {
			o.BaseEndpoint = aws.String(c.Endpoint)
		}
	})
	return &Store{
		bucket: c.Bucket, client: client, presign: s3.NewPresignClient(client), patient: patient, sides: sides, foreign: c.Endpoint != "",
	}, nil
}

// continueBytes is the size from which a part waits for 100 Continue: where S3 refuses the part, its bytes are not sent at
// all. That costs a round trip, which is little beside a part of 16 MiB. Other servers often say 100 before they look at
// the request (versitygw), or never, which costs continueTimeout a part; their early answers are read all the same.
func (c Config) continueBytes() int64 {
	if c.Endpoint != "" {
		return -1
	}
	return minContinueBytes
}

func (c Config) load() []func(*config.LoadOptions) error {
	options := []func(*config.LoadOptions) error{
		// We send and compare our own CRC64NVME; the SDK would hash every byte once more.
		config.WithRequestChecksumCalculation(aws.RequestChecksumCalculationWhenRequired),
		config.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenRequired),
		config.WithRetryer(func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) {
				o.MaxAttempts, o.MaxBackoff = maxAttempts, maxBackoff
			})
		}),
	}
	if c.Region != "" {
		options = append(options, config.WithRegion(c.Region))
	} else if c.Endpoint != "" {
		options = append(options, config.WithRegion(defaultRegion))
	}
	if c.AccessKey != "" || c.SecretKey != "" {
		options = append(options, config.WithCredentialsProvider(
			credentials.NewStaticCredentialsProvider(c.AccessKey, c.SecretKey, "")))
	}
	return options
}
