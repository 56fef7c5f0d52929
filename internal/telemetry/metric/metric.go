// Package metric is the closed list of the metrics that Sitevault publishes. It stands apart from their recording, so
// that dashboards and alarms take names, units and dimensions from where the functions take them.
package metric

import (
	"context"
	"fmt"
	"math"
	"slices"
)

// Unit is a unit as CloudWatch writes it.
type Unit string

const (
	Count   Unit = "Count"
	Seconds Unit = "Seconds"
	Bytes   Unit = "Bytes"
	None    Unit = "None" // the name tells the unit, CloudWatch knows none such
)

// Form tells how values of one metric add up.
type Form int

const (
	Counter      Form = iota // values are summed
	Gauge                    // the latest value stands
	Distribution             // every value counts
)

// Dimension divides a metric. Its values are a closed list that no user can lengthen, since each one costs as much as
// a metric of its own.
type Dimension struct {
	Name   string
	Values []string
}

// Other stands for every value that is not in the list, such as one of a newer version.
const Other = "Other"

// Def is one metric of the table. Definitions are never changed.
type Def struct {
	Name      string
	Unit      Unit
	Form      Form
	Dimension *Dimension // nil: none. With one, the sum over its values is published as well.
	Help      string     // one sentence for who reads a dashboard
}

// Of is one value of a metric without a dimension.
func (d *Def) Of(value float64) Sample { return Sample{Def: d, Value: value} }

// For is one value of a metric with a dimension.
func (d *Def) For(label string, value float64) Sample {
	return Sample{Def: d, Label: label, Value: value}
}

// Sample is one value.
type Sample struct {
	Def   *Def
	Label string // value of the dimension; "" without one
	Value float64
}

// Recorder takes samples. It drops invalid ones, never fails and never waits for anything outside the process. It is
// safe for concurrent use.
type Recorder interface {
	Record(ctx context.Context, samples ...Sample)
}

// maxValue is the largest value that CloudWatch takes, either side of zero:
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDatum.html (read 2026-11).
var maxValue = math.Ldexp(1, 360)

// Check returns the sample as it may be recorded, a label outside the list replaced by Other, or says why it may not.
func (s Sample) Check() (Sample, error) {
	if s.Def == nil || !slices.Contains(table, s.Def) {
		return s, fmt.Errorf("metric %s is not in the table", name(s.Def))
	}
	if math.IsNaN(s.Value) || math.Abs(s.Value) > maxValue {
		return s, fmt.Errorf("metric %s: %v is not a value", s.Def.Name, s.Value)
	}
	if s.Def.Form == Counter && s.Value < 0 {
		return s, fmt.Errorf("metric %s: a counter cannot go down by %v", s.Def.Name, -s.Value)
	}
	if s.Def.Dimension == nil && s.Label != "" {
		return s, fmt.Errorf("metric %s has no dimension", s.Def.Name)
	}
	if s.Def.Dimension != nil && !slices.Contains(s.Def.Dimension.Values, s.Label) {
		s.Label = Other
	}
	return s, nil
}

func name(d *Def) string {
	if d == nil {
		return "nil"
	}
	return d.Name
}
