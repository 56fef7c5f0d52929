package s3store

import (
	"context"
	"fmt"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// streamingPayload stands where the hash of the body would: the body is chunked, unsigned and ends with a checksum.
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html
const streamingPayload = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

// streaming makes a call send a chunkedBody of sizeBytes of content, once.
func streaming(sizeBytes int64) func(*s3.Options) {
	return func(o *s3.Options) {
		o.Retryer = aws.NopRetryer{}
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			_, err := stack.Finalize.Swap("ComputePayloadHash", streamingHeaders(sizeBytes))
			return err
		})
	}
}

// streamingHeaders takes the place of the SDK's hashing of the body, just before the request is signed: the SDK
// itself sends trailers over TLS only, and computes their checksum a second time.
type streamingHeaders int64

// ID implements middleware.FinalizeMiddleware.
func (streamingHeaders) ID() string { return "ComputePayloadHash" }

// HandleFinalize implements middleware.FinalizeMiddleware.
func (h streamingHeaders) HandleFinalize(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (
	middleware.FinalizeOutput, middleware.Metadata, error,
) {
	req, ok := in.Request.(*smithyhttp.Request)
	if !ok {
		return middleware.FinalizeOutput{}, middleware.Metadata{}, fmt.Errorf("stream a part: unknown request %T", in.Request)
	}
	req.Header.Set("Content-Encoding", "aws-chunked")
	req.Header.Set("X-Amz-Decoded-Content-Length", strconv.FormatInt(int64(h), 10))
	req.Header.Set("X-Amz-Trailer", trailerName)
	return next.HandleFinalize(v4.SetPayloadHash(ctx, streamingPayload), in)
}
