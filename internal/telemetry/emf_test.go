package telemetry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/telemetry"
	"github.com/sitevault/sitevault/internal/telemetry/metric"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 345e6, time.UTC)

func at(now time.Time) func() time.Time { return func() time.Time { return now } }

// newEMF returns an EMF, what it writes and what it logs.
func newEMF() (e *telemetry.EMF, out, log *bytes.Buffer) {
	out, log = &bytes.Buffer{}, &bytes.Buffer{}
	return telemetry.NewEMF(out, metric.Namespace, at(noon), slog.New(slog.NewTextHandler(log, nil))), out, log
}

// linesOf reads lines, all of which must pass the rules of the format.
func linesOf(t *testing.T, out *bytes.Buffer) (lines []emfLine) {
	t.Helper()
	s := loadSchema(t)
	for text := range bytes.Lines(out.Bytes()) {
		line, err := readEMF(s, text)
		if err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		lines = append(lines, line)
	}
	return lines
}

func sum(lines []emfLine, name string) (total float64, count int) {
	for _, l := range lines {
		for _, v := range l.metrics[name] {
			total += v
			count++
		}
	}
	return total, count
}

// inLambda is the context of an invocation.
func inLambda(ctx context.Context, header string) context.Context {
	ctx = lambdacontext.NewContext(ctx, &lambdacontext.LambdaContext{AwsRequestID: "request-1"})
	return context.WithValue(ctx, "x-amzn-trace-id", header) //nolint:staticcheck // aws-lambda-go's own key
}

const sampledHeader = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"

// One invocation's metrics are one line, byte for byte.
func TestEMFGolden(t *testing.T) {
	e, out, _ := newEMF()
	ctx := telemetry.With(inLambda(t.Context(), sampledHeader), slog.String(telemetry.KeyJobID, "01HZX"), slog.Int(telemetry.KeyAttempt, 2))
	e.Record(ctx, metric.PartSeconds.Of(1.25), metric.PartSeconds.Of(2), metric.PartsMoved.Of(1), metric.PartsMoved.Of(1))
	e.Record(ctx, metric.OldestGoodBackupHours.Of(30), metric.OldestGoodBackupHours.Of(3.5), metric.JobsFailed.For("TimedOut", 1))
	e.Flush(ctx)
	want, err := os.ReadFile("testdata/emf.golden.json")
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("got  %swant %s", out, want)
	}
	if lines := linesOf(t, out); len(lines) != 1 {
		t.Errorf("%d lines", len(lines))
	}
}

// Every metric of the table, each value of its dimension included, makes valid lines that tell the same again.
func TestEMFTable(t *testing.T) {
	e, out, log := newEMF()
	want := map[string]float64{}
	for i, d := range metric.Table() {
		labels := []string{""}
		if d.Dimension != nil {
			labels = d.Dimension.Values
		}
		for _, label := range labels {
			name := d.Name
			if label != "" {
				name += "/" + label
			}
			want[name] = float64(i) + 0.5
			e.Record(t.Context(), d.For(label, want[name]))
		}
	}
	e.Flush(t.Context())
	lines := linesOf(t, out)
	if len(lines) != len(metric.Kind.Values) {
		t.Errorf("%d lines for %d kinds", len(lines), len(metric.Kind.Values))
	}
	for name, value := range want {
		if got, n := sum(lines, name); got != value || n != 1 {
			t.Errorf("%s is %v in %d values, want %v", name, got, n, value)
		}
	}
	if log.Len() > 0 {
		t.Error(log)
	}
}

// What cannot be a value is dropped with a line in the log; the others of the same call stand.
func TestEMFOddValues(t *testing.T) {
	for _, odd := range []metric.Sample{
		metric.PartSeconds.Of(math.NaN()), metric.PartSeconds.Of(math.Inf(1)), metric.PartSeconds.Of(math.Inf(-1)),
		metric.PartSeconds.Of(math.MaxFloat64), metric.JobsDone.Of(-1), metric.JobsDone.For("label", 1), {},
		(&metric.Def{Name: "Mine", Unit: metric.Count}).Of(1),
	} {
		e, out, log := newEMF()
		e.Record(t.Context(), metric.JobsCreated.Of(1), odd, metric.JobsRetried.Of(1))
		e.Flush(t.Context())
		lines := linesOf(t, out)
		if len(lines) != 1 || len(lines[0].metrics) != 2 || strings.Count(log.String(), "drop sample") != 1 {
			t.Errorf("%+v: %s, logged %s", odd, out, log)
		}
	}
	e, out, _ := newEMF()
	e.Record(t.Context(), metric.JobBytes.Of(0), metric.JobBytes.Of(math.SmallestNonzeroFloat64), metric.JobBytes.Of(1e30), metric.PartsMoved.Of(0))
	e.Flush(t.Context())
	if got := linesOf(t, out)[0].metrics; !slices.Equal(got["JobBytes"], []float64{0, math.SmallestNonzeroFloat64, 1e30}) || got["PartsMoved"][0] != 0 {
		t.Errorf("%v", got)
	}
}

// A full distribution is written without waiting, so that nothing grows; nothing twice and nothing lost.
func TestEMFFull(t *testing.T) {
	e, out, _ := newEMF()
	for i := range 250 {
		e.Record(t.Context(), metric.PartSeconds.Of(float64(i)), metric.PartsMoved.Of(1))
	}
	if n := len(linesOf(t, out)); n != 2 {
		t.Errorf("%d lines before the end", n)
	}
	e.Flush(t.Context())
	e.Flush(t.Context())
	lines := linesOf(t, out)
	seconds, n := sum(lines, "PartSeconds")
	parts, _ := sum(lines, "PartsMoved")
	if len(lines) != 3 || n != 250 || seconds != 249*250/2 || parts != 250 {
		t.Errorf("%d lines with %d values of %v, %v parts", len(lines), n, seconds, parts)
	}
}

// Labels that nobody listed share one series, however many there are.
func TestEMFCardinality(t *testing.T) {
	e, out, _ := newEMF()
	for i := range 10_000 {
		e.Record(t.Context(), metric.JobsFailed.For(fmt.Sprint("site-", i), 1))
	}
	e.Flush(t.Context())
	lines := linesOf(t, out)
	if n, _ := sum(lines, "JobsFailed/"+metric.Other); len(lines) != 1 || n != 10_000 {
		t.Errorf("%d lines, %v", len(lines), n)
	}
}

// Concurrent callers lose nothing, and lines never mix.
func TestEMFConcurrent(t *testing.T) {
	e, out, _ := newEMF()
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			for range 500 {
				e.Record(t.Context(), metric.PartSeconds.Of(1), metric.FilesFailed.For(string(backup.UploadLost), 1))
			}
			e.Flush(t.Context())
		})
	}
	work.Wait()
	lines := linesOf(t, out)
	seconds, _ := sum(lines, "PartSeconds")
	failed, _ := sum(lines, "FilesFailed/UploadLost")
	if seconds != 4000 || failed != 4000 {
		t.Errorf("%v seconds, %v failed", seconds, failed)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("no space") }

// Metrics that cannot be written are lost with a line in the log, not with an error; none is kept for a second try.
func TestEMFBroken(t *testing.T) {
	var log bytes.Buffer
	e := telemetry.NewEMF(io.Writer(brokenWriter{}), metric.Namespace, at(noon), slog.New(slog.NewTextHandler(&log, nil)))
	e.Record(t.Context(), metric.JobsDone.Of(1))
	e.Flush(t.Context())
	e.Flush(t.Context())
	if strings.Count(log.String(), "no space") != 1 {
		t.Error(log.String())
	}
}

func BenchmarkEMFRecord(b *testing.B) {
	e := telemetry.NewEMF(io.Discard, metric.Namespace, time.Now, slog.New(slog.DiscardHandler))
	for b.Loop() {
		e.Record(b.Context(), metric.PartSeconds.Of(1))
	}
}
