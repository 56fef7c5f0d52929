package telemetry

import (
	"context"
	"errors"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/sitevault/sitevault/internal/backup"
)

// AWS returns options for clients of AWS that make each call a subsegment: for aws.Config.APIOptions, or the APIOptions
// of s3store.Config. A nil Tracer has none.
func (t *Tracer) AWS() []func(*middleware.Stack) error {
	if t == nil {
		return nil
	}
	return []func(*middleware.Stack) error{
		func(s *middleware.Stack) error {
			return s.Initialize.Add(middleware.InitializeMiddlewareFunc("SitevaultTraceCall", t.call), middleware.After)
		},
		func(s *middleware.Stack) error {
			return s.Deserialize.Add(middleware.DeserializeMiddlewareFunc("SitevaultTraceAnswer", answered), middleware.Before)
		},
	}
}

// callKey holds the subsegment of the call itself, whatever its parents are.
type callKey struct{}

// call covers one call with all its retries.
func (t *Tracer) call(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
	ctx, s := t.Begin(ctx, awsmiddleware.GetServiceID(ctx))
	if s == nil {
		return next.HandleInitialize(ctx, in)
	}
	s.change(func(d *document) {
		d.Namespace = "aws"
		d.AWS = map[string]any{"operation": awsmiddleware.GetOperationName(ctx), "region": awsmiddleware.GetRegion(ctx)}
	})
	out, metadata, err := next.HandleInitialize(context.WithValue(ctx, callKey{}, s), in)
	s.End(err)
	return out, metadata, err
}

// answered sees each try of a call; the last one stands.
func answered(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
	s, _ := ctx.Value(callKey{}).(*Subsegment)
	if s == nil {
		return next.HandleDeserialize(ctx, in)
	}
	if request, ok := in.Request.(*smithyhttp.Request); ok {
		request.Header.Set("X-Amzn-Trace-Id", s.downstream()) // which the signature leaves out
	}
	out, metadata, err := next.HandleDeserialize(ctx, in)
	if response, ok := out.RawResponse.(*smithyhttp.Response); ok {
		s.response(response.StatusCode, response.ContentLength)
	}
	if id, ok := awsmiddleware.GetRequestIDMetadata(metadata); ok {
		s.change(func(d *document) { d.AWS["request_id"] = id })
	}
	return out, metadata, err
}

// errorName is the kind of one of our errors, else the code of an answer of AWS, else the end of a context.
func errorName(err error) string {
	if e, ok := errors.AsType[*backup.Error](err); ok {
		return segmentName(string(e.Kind))
	}
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return segmentName(e.ErrorCode())
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "DeadlineExceeded"
	case errors.Is(err, context.Canceled):
		return "Canceled"
	}
	return string(backup.Internal)
}
