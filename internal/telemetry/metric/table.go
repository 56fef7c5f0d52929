package metric

import (
	"slices"

	"github.com/sitevault/sitevault/internal/backup"
)

// Namespace is the default CloudWatch namespace.
const Namespace = "Sitevault"

// Kind divides by what went wrong.
var Kind = &Dimension{Name: "Kind", Values: kinds()}

// The table. Jobs, files and parts are counted where their rows change (telemetry.FromChange), the rest where it happens.
var (
	JobsCreated   = &Def{Name: "JobsCreated", Unit: Count, Help: "Backups asked for, by hand or by the daily run."}
	JobsDone      = &Def{Name: "JobsDone", Unit: Count, Help: "Backups that ended done."}
	JobsFailed    = &Def{Name: "JobsFailed", Unit: Count, Dimension: Kind, Help: "Backups that ended failed, those that timed out included, cancelled ones not."}
	JobsTimedOut  = &Def{Name: "JobsTimedOut", Unit: Count, Help: "Backups that were given up at their deadline; JobsFailed counts them too."}
	JobsCancelled = &Def{Name: "JobsCancelled", Unit: Count, Help: "Backups that their owner cancelled."}
	JobsRetried   = &Def{Name: "JobsRetried", Unit: Count, Help: "Attempts that followed a failed one, on request or by the service itself."}

	JobDurationSeconds = &Def{Name: "JobDurationSeconds", Unit: Seconds, Form: Distribution, Help: "Time from the start of the attempt to done."}
	JobBytes           = &Def{Name: "JobBytes", Unit: Bytes, Form: Distribution, Help: "Size of a done backup, all files together."}

	FilesDone   = &Def{Name: "FilesDone", Unit: Count, Help: "Exports that were stored and proven."}
	FilesFailed = &Def{Name: "FilesFailed", Unit: Count, Dimension: Kind, Help: "Exports that could not be stored in an attempt."}
	ExportBytes = &Def{Name: "ExportBytes", Unit: Bytes, Form: Distribution, Help: "Size of one stored export."}

	PartsMoved  = &Def{Name: "PartsMoved", Unit: Count, Help: "Parts that were stored and recorded."}
	PartBytes   = &Def{Name: "PartBytes", Unit: Bytes, Help: "Bytes of the parts that were stored and recorded."}
	PartSeconds = &Def{Name: "PartSeconds", Unit: Seconds, Form: Distribution, Help: "Time from the first bytes of a part to the storage's answer."}

	ProviderSeconds = &Def{Name: "ProviderSeconds", Unit: Seconds, Form: Distribution, Help: "Time until an export service begins its answer or the request fails."}

	OldestGoodBackupHours = &Def{Name: "OldestGoodBackupHours", Unit: None, Form: Gauge, Help: "Age of the last good backup of the scheduled site that has waited longest."}
	SitesWithoutBackup    = &Def{Name: "SitesWithoutBackup", Unit: Count, Form: Gauge, Help: "Scheduled sites that have had no good backup for 26 hours."}
	SweepTended           = &Def{Name: "SweepTended", Unit: Count, Help: "Jobs that were due and tended by the sweeper."}
	CleanupsFailing       = &Def{Name: "CleanupsFailing", Unit: Count, Help: "Failed or deleted backups, once a sweep, of which nothing could be removed from the storage for a day."}
	PushesFailed          = &Def{Name: "PushesFailed", Unit: Count, Help: "Status pushes that could not be delivered to an open socket."}
	StraysFound           = &Def{Name: "StraysFound", Unit: Count, Help: "Objects found under the prefix of a job whose row went or is about to."}
)

var table = []*Def{
	JobsCreated, JobsDone, JobsFailed, JobsTimedOut, JobsCancelled, JobsRetried, JobDurationSeconds, JobBytes,
	FilesDone, FilesFailed, ExportBytes, PartsMoved, PartBytes, PartSeconds, ProviderSeconds,
	OldestGoodBackupHours, SitesWithoutBackup, SweepTended, CleanupsFailing, PushesFailed, StraysFound,
}

// Table lists every metric.
func Table() []*Def { return slices.Clone(table) }

func kinds() []string {
	values := []string{Other}
	for _, k := range backup.Kinds() {
		values = append(values, string(k))
	}
	return values
}
