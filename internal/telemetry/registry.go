package telemetry

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	"github.com/sitevault/sitevault/internal/telemetry/metric"
)

// Registry keeps the metrics of one process since its start.
type Registry struct {
	log *slog.Logger

	mu     sync.Mutex
	series map[key]*Series
}

type key struct {
	def   *metric.Def
	label string
}

// Series is what a metric, or one value of its dimension, amounts to.
type Series struct {
	Def     *metric.Def
	Label   string  // value of the dimension; "" without one
	Value   float64 // sum of a counter or a distribution, latest value of a gauge
	Count   int64   // of samples
	Buckets []int64 // of a distribution: samples at or below each of Bounds(Def.Unit), each sample counted in all of these
}

var _ metric.Recorder = (*Registry)(nil)

// NewRegistry makes a Registry in which counters and distributions without a dimension stand at zero; log hears of
// samples that are dropped.
func NewRegistry(log *slog.Logger) *Registry {
	r := &Registry{log: log, series: map[key]*Series{}}
	for _, def := range metric.Table() {
		if def.Dimension == nil && def.Form != metric.Gauge {
			r.at(key{def, ""})
		}
	}
	return r
}

// Record implements metric.Recorder.
func (r *Registry) Record(ctx context.Context, samples ...metric.Sample) {
	samples = checked(ctx, r.log, samples)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range samples {
		r.at(key{s.Def, s.Label}).add(s.Value)
	}
}

func (r *Registry) at(k key) *Series {
	s := r.series[k]
	if s == nil {
		s = &Series{Def: k.def, Label: k.label}
		if k.def.Form == metric.Distribution {
			s.Buckets = make([]int64, len(Bounds(k.def.Unit)))
		}
		r.series[k] = s
	}
	return s
}

func (s *Series) add(value float64) {
	s.Count++
	if s.Def.Form == metric.Gauge {
		s.Value = value
		return
	}
	s.Value += value
	for i, bound := range Bounds(s.Def.Unit)[:len(s.Buckets)] {
		if value <= bound {
			s.Buckets[i]++
		}
	}
}

// Read returns a copy of every series in the order of the table and of the labels.
func (r *Registry) Read() []Series {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]Series, 0, len(r.series))
	for _, def := range metric.Table() {
		labels := []string{""}
		if def.Dimension != nil {
			labels = def.Dimension.Values
		}
		for _, label := range labels {
			if s := r.series[key{def, label}]; s != nil {
				c := *s
				c.Buckets = slices.Clone(s.Buckets)
				all = append(all, c)
			}
		}
	}
	return all
}

// Steps of three between a hundredth of a second and six hours, and of sixteen between 64 KiB and 1 TiB.
var (
	secondBounds = []float64{0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60, 180, 600, 1800, 3600, 10800, 21600}
	byteBounds   = []float64{1 << 16, 1 << 20, 1 << 24, 1 << 28, 1 << 32, 1 << 36, 1 << 40}
)

// Bounds are the upper ends of a distribution's buckets, without the last one that holds everything.
func Bounds(u metric.Unit) []float64 {
	switch u {
	case metric.Seconds:
		return secondBounds
	case metric.Bytes:
		return byteBounds
	}
	return nil
}
