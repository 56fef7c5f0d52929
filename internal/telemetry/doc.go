// Package telemetry is what Sitevault tells about itself: log lines that say whom they concern, the metrics of package
// metric as lines for CloudWatch or as /metrics of one machine, and the subsegments of X-Ray traces. Steps know nothing
// of it: jobs and files are counted where their rows change, requests are measured around the steps' ports.
package telemetry
