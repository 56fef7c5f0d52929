package telemetry

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
	"github.com/sitevault/sitevault/internal/telemetry/metric"
)

// Exports measures and traces the requests to export services (ProviderSeconds).
func Exports(inner step.Exporter, metrics metric.Recorder, tracer *Tracer, now func() time.Time) step.Exporter {
	return exports{inner, metrics, tracer, now}
}

type exports struct {
	inner   step.Exporter
	metrics metric.Recorder
	tracer  *Tracer
	now     func() time.Time
}

func (x exports) Pin(ctx context.Context, e step.Export) (backup.Pin, error) {
	ctx, s := x.begin(ctx, "HEAD", e)
	began := x.now()
	pin, err := x.inner.Pin(ctx, e)
	x.answered(ctx, began)
	s.End(err)
	return pin, err
}

// Range ends its subsegment when the body is closed.
func (x exports) Range(ctx context.Context, e step.Export, pin backup.Pin, offset, lengthBytes int64) (io.ReadCloser, error) {
	ctx, s := x.begin(ctx, "GET", e)
	began := x.now()
	body, err := x.inner.Range(ctx, e, pin, offset, lengthBytes)
	x.answered(ctx, began)
	if err != nil || s == nil {
		s.End(err)
		return body, err
	}
	s.response(206, lengthBytes)
	return &tracedBody{ReadCloser: body, s: s}, nil
}

func (x exports) begin(ctx context.Context, method string, e step.Export) (context.Context, *Subsegment) {
	ctx, s := x.tracer.Begin(ctx, host(e.URL))
	s.remote(method, e.URL)
	return ctx, s
}

func (x exports) answered(ctx context.Context, began time.Time) {
	x.metrics.Record(ctx, metric.ProviderSeconds.Of(x.now().Sub(began).Seconds()))
}

// tracedBody remembers the error that ended the range.
type tracedBody struct {
	io.ReadCloser
	s   *Subsegment
	err error
}

func (b *tracedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	return n, err
}

func (b *tracedBody) Close() error {
	err := b.ReadCloser.Close()
	b.s.End(b.err)
	return err
}

// Uploads measures how long the storage takes for a part, from its first bytes being here (PartSeconds).
func Uploads(inner step.Uploader, metrics metric.Recorder, now func() time.Time) step.Uploader {
	return uploads{inner, metrics, now}
}

type uploads struct {
	step.Uploader
	metrics metric.Recorder
	now     func() time.Time
}

func (u uploads) UploadPart(ctx context.Context, p step.PartUpload) (string, error) {
	began := u.now()
	etag, err := u.Uploader.UploadPart(ctx, p)
	if err == nil {
		u.metrics.Record(ctx, metric.PartSeconds.Of(u.now().Sub(began).Seconds()))
	}
	return etag, err
}
