package s3store

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/breaker"
)

// class is a class of requests. A storage may be away for one of them only: one that is full of work, or being moved, still
// reads but takes nothing new.
type class string

const (
	reads   class = "reads"
	writes  class = "writes"
	deletes class = "deletes"
)

func classOf(method string) class {
	switch method {
	case http.MethodGet, http.MethodHead:
		return reads
	case http.MethodDelete:
		return deletes
	}
	return writes
}

// notSent is the error of a request that was not sent. The SDK must not try again at once what would not be sent either.
type notSent struct{ *breaker.Away }

func (n notSent) Unwrap() error      { return n.Away }
func (notSent) RetryableError() bool { return false }

func ask(sides *breaker.Set[class], method string) (*breaker.Request, error) {
	asked, err := sides.Ask(classOf(method))
	if away, ok := errors.AsType[*breaker.Away](err); ok {
		return nil, notSent{away}
	}
	return asked, err
}

// learn tells the breaker what came of a request: nothing, if it ended for a reason of our own.
func learn(asked *breaker.Request, body *watched, answer *http.Response, err error) {
	switch {
	case err == nil && !unavailable(answer.StatusCode):
		asked.Answered()
	case err == nil || !(errors.Is(err, context.Canceled) || body.failed()):
		asked.Failed(0)
	}
}

func unavailable(status int) bool {
	return status >= http.StatusMultipleChoices && statusKind(status) == backup.StorageUnavailable
}

// watched is a request's body that remembers whether it was the one that failed: it comes from a provider.
type watched struct {
	io.ReadCloser
	broken atomic.Bool
}

func watch(r *http.Request) *watched {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	w := &watched{ReadCloser: r.Body}
	r.Body = w
	return w
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		w.broken.Store(true)
	}
	return n, err
}

func (w *watched) failed() bool { return w != nil && w.broken.Load() }

// Doubtful tells whether the storage did not answer when it was last asked: whoever needs it for something dear asks it for
// something cheap first.
func (s *Store) Doubtful() bool { return s.sides.Doubtful(reads) || s.sides.Doubtful(writes) }

// takesParts asks, when the last write has failed, whether the storage takes parts again: by an empty one of no upload, which
// every storage refuses that works.
func (s *Store) takesParts(ctx context.Context, key string) error {
	if !s.sides.Doubtful(writes) {
		return nil
	}
	_, err := s.client.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: &s.bucket, Key: &key, UploadId: aws.String("none"), PartNumber: aws.Int32(1), ContentLength: aws.Int64(0),
	}, func(o *s3.Options) { o.Retryer = aws.NopRetryer{} })
	if statusOf(err) == http.StatusInternalServerError {
		s.sides.Answered(writes) // perhaps this one is just not understood
		return nil
	}
	if err != nil && kindOf(err) == backup.StorageUnavailable {
		return fail(err, "ask whether the storage takes %s", key)
	}
	return nil
}
