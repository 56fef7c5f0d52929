package telemetry

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sitevault/sitevault/internal/telemetry/metric"
)

// Limits of the embedded metric format:
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
// (read 2026-11). The others, 100 metrics of a directive and 30 dimensions, the table stays below by far.
const maxValuesPerMetric = 100

// EMF gathers samples and writes them as lines of CloudWatch's embedded metric format: one line for all, and one more
// for each further value of a dimension. A line also carries what With put into the context, for queries: only
// dimensions make metrics of their own and cost. What it holds is bounded by the table: counters are summed, and it flushes by
// itself when a distribution is full.
type EMF struct {
	out       io.Writer
	namespace string
	now       func() time.Time
	log       *slog.Logger

	mu     sync.Mutex
	groups map[group]values
}

// group is what can stand in one directive of a line: metrics without a dimension (the zero group), or those with the
// same value of the same dimension.
type group struct {
	dimension *metric.Dimension
	label     string
}

type values map[*metric.Def][]float64

var _ metric.Recorder = (*EMF)(nil)

// NewEMF writes to out, one Write for each line; log hears of samples that are dropped.
func NewEMF(out io.Writer, namespace string, now func() time.Time, log *slog.Logger) *EMF {
	return &EMF{out: out, namespace: namespace, now: now, log: log, groups: map[group]values{}}
}

// Record implements metric.Recorder.
func (e *EMF) Record(ctx context.Context, samples ...metric.Sample) {
	samples = checked(ctx, e.log, samples)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range samples {
		g := group{s.Def.Dimension, s.Label}
		if e.groups[g] == nil {
			e.groups[g] = values{}
		}
		if e.groups[g].add(s) == maxValuesPerMetric {
			e.flush(ctx)
		}
	}
}

// add returns how many values the metric has now.
func (v values) add(s metric.Sample) int {
	old := v[s.Def]
	switch {
	case s.Def.Form == metric.Distribution:
		v[s.Def] = append(old, s.Value)
	case s.Def.Form == metric.Counter && len(old) > 0:
		old[0] += s.Value
	default:
		v[s.Def] = []float64{s.Value}
	}
	return len(v[s.Def])
}

// Flush writes what was gathered; nothing when there is nothing.
func (e *EMF) Flush(ctx context.Context) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.flush(ctx)
}

func (e *EMF) flush(ctx context.Context) {
	groups := slices.SortedFunc(maps.Keys(e.groups), func(a, b group) int { return strings.Compare(a.label, b.label) })
	if len(groups) > 1 && groups[0] == (group{}) {
		e.write(ctx, groups[:2])
		groups = groups[2:]
	}
	for _, g := range groups {
		e.write(ctx, []group{g})
	}
	clear(e.groups)
}

// directive and definition are parts of the format's _aws member.
type directive struct {
	Namespace  string
	Dimensions [][]string
	Metrics    []definition
}

type definition struct {
	Name string
	Unit metric.Unit
}

func (e *EMF) write(ctx context.Context, groups []group) {
	line := map[string]any{}
	for _, a := range slices.Concat(invocation(ctx), carried(ctx)) {
		line[a.Key] = a.Value.Resolve().Any()
	}
	var directives []directive
	for _, g := range groups {
		d := directive{Namespace: e.namespace, Dimensions: [][]string{{}}, Metrics: targets(line, e.groups[g])}
		if g.dimension != nil {
			d.Dimensions = append(d.Dimensions, []string{g.dimension.Name})
			line[g.dimension.Name] = g.label
		}
		directives = append(directives, d)
	}
	line["_aws"] = map[string]any{"Timestamp": e.now().UnixMilli(), "CloudWatchMetrics": directives}
	e.print(ctx, line)
}

// targets adds the values to the line and returns what defines them, in the order of the table.
func targets(line map[string]any, of values) (definitions []definition) {
	for _, def := range metric.Table() {
		switch all := of[def]; len(all) {
		case 0:
			continue
		case 1:
			line[def.Name] = all[0]
		default:
			line[def.Name] = all
		}
		definitions = append(definitions, definition{def.Name, def.Unit})
	}
	return definitions
}

func (e *EMF) print(ctx context.Context, line map[string]any) {
	text, err := json.Marshal(line)
	if err == nil {
		_, err = e.out.Write(append(text, '\n'))
	}
	if err != nil {
		e.log.ErrorContext(ctx, "write metrics", "error", err)
	}
}

// checked leaves out what may not be recorded.
func checked(ctx context.Context, log *slog.Logger, samples []metric.Sample) []metric.Sample {
	valid := make([]metric.Sample, 0, len(samples))
	for _, s := range samples {
		s, err := s.Check()
		if err != nil {
			log.WarnContext(ctx, "drop sample", "error", err)
			continue
		}
		valid = append(valid, s)
	}
	return valid
}
