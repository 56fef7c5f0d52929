// Package cloud composes the service on AWS: the same steps, API and rules as on one machine (internal/local), on
// DynamoDB, S3, Step Functions, EventBridge, Secrets Manager and API Gateway. Each function asks for the parts that it
// needs, and only these read their settings, so that a function is told nothing that it does not use.
package cloud

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/oklog/ulid/v2"

	"github.com/sitevault/sitevault/internal/lambdaedge"
	"github.com/sitevault/sitevault/internal/telemetry"
)

// Service hands out the parts of the service to one function. What goes wrong on the way is kept and told by Start.
type Service struct {
	*telemetry.Function
	Settings *lambdaedge.Settings

	config aws.Config
	errs   []error
}

// Calls to AWS other than to S3, which internal/s3store bounds itself.
const (
	dialTimeout = 3 * time.Second
	callTimeout = 15 * time.Second
)

// Open reads the process's environment and calls nobody. Every function reads METRIC_NAMESPACE.
func Open(ctx context.Context) *Service {
	s := &Service{Settings: lambdaedge.NewSettings(os.LookupEnv)}
	var err error
	if s.Function, err = telemetry.NewFunction(s.Settings, os.Stdout, time.Now, rand.Reader); err != nil {
		fmt.Fprintf(os.Stderr, "the function cannot start: %v\n", err)
		os.Exit(1)
	}
	slog.SetDefault(s.Log) // for what the runtime itself has to say
	client := awshttp.NewBuildableClient().WithTimeout(callTimeout).WithDialerOptions(func(d *net.Dialer) { d.Timeout = dialTimeout })
	s.config, err = config.LoadDefaultConfig(ctx, config.WithHTTPClient(client), config.WithAPIOptions(s.Trace.AWS()))
	s.check(err)
	return s
}

// check keeps what goes wrong for Start.
func (s *Service) check(err error) {
	if err != nil {
		s.errs = append(s.errs, err)
	}
}

// Start serves invocations by the handler and does not return. A function that could not be composed ends at once and
// says why: everything that its environment lacks in one line.
func (s *Service) Start(handler lambdaedge.Handler) {
	if err := errors.Join(append(s.errs, s.Settings.Err())...); err != nil {
		s.Log.Error("the function cannot start", "error", err)
		os.Exit(1)
	}
	lambda.Start(lambdaedge.Handler(s.Wrap(handler)))
}

// Now has the resolution of the rows.
func (s *Service) Now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// NewID makes a ULID.
func (s *Service) NewID() string {
	return ulid.MustNew(ulid.Timestamp(time.Now()), rand.Reader).String()
}

// NewRandom is unguessable and fit for a key.
func (s *Service) NewRandom() string { return rand.Text() }

func jitter() float64 { return mathrand.Float64() }

// part composes one part of the service; the zero T when that fails.
func part[T any](s *Service, what string, open func() (T, error)) T {
	made, err := open()
	if err != nil {
		s.check(fmt.Errorf("%s: %w", what, err))
	}
	return made
}
