package backup

import "time"

// Quotas bound what one user may take up; 0: no limit.
type Quotas struct {
	Sites        int64 `json:"sites,omitempty"`
	ActiveJobs   int64 `json:"activeJobs,omitempty"`   // pending or running
	Ranges       int64 `json:"ranges,omitempty"`       // of running jobs together; while it is reached pending ones wait
	StoredBytes  int64 `json:"storedBytes,omitempty"`  // of jobs that are not deleted
	FetchedBytes int64 `json:"fetchedBytes,omitempty"` // from providers within one day of UTC
	Sockets      int64 `json:"sockets,omitempty"`      // open at the same time
	Requests     int64 `json:"requests,omitempty"`     // to the API in a second
}

// DefaultQuotas are far above what a site owner needs. A platform that keeps all its sites under one user raises them.
func DefaultQuotas() Quotas {
	return Quotas{Sites: 1000, ActiveJobs: 1000, Ranges: 64, StoredBytes: 100 << 40, FetchedBytes: 10 << 40, Sockets: 100, Requests: 50}
}

// Usage is what a user takes up, or what one write changes of it.
type Usage struct {
	Sites        int64
	ActiveJobs   int64
	Ranges       int64
	StoredBytes  int64
	FetchedBytes int64 // on Day
	Day          string
}

// UsageDay is the day on which bytes fetched at the given time count.
func UsageDay(at time.Time) string { return at.UTC().Format(time.DateOnly) }

// Plus adds a change. A change of an earlier day comes too late for the bytes of that day.
func (u Usage) Plus(change Usage) Usage {
	u.Sites += change.Sites
	u.ActiveJobs += change.ActiveJobs
	u.Ranges += change.Ranges
	u.StoredBytes += change.StoredBytes
	if change.Day > u.Day {
		u.Day, u.FetchedBytes = change.Day, 0
	}
	if change.Day == u.Day {
		u.FetchedBytes += change.FetchedBytes
	}
	return u
}

// Usage is what a job takes up; its files take up bytes.
func (j Job) Usage() (u Usage) {
	if j.Active() {
		u.ActiveJobs = 1
	}
	if j.Status == Running {
		u.Ranges = int64(j.Limits.Parallelism)
	}
	return u
}

// UsageChange is what the write of next over j changes.
func (j Job) UsageChange(next Job) Usage {
	before, after := j.Usage(), next.Usage()
	change := Usage{ActiveJobs: after.ActiveJobs - before.ActiveJobs, Ranges: after.Ranges - before.Ranges}
	if change.ActiveJobs > 0 {
		change.Day = UsageDay(next.UpdatedAt)
	}
	return change
}

// HeldBytes is what a file takes up in the storage, or will once its upload is complete.
func (f File) HeldBytes() int64 {
	if f.UploadID == "" {
		return 0
	}
	return f.Pin.SizeBytes
}

// UsageChange is what the write of next over f changes. A new upload counts as fetched in full before its first byte is:
// later would be too late to refuse it.
func (f File) UsageChange(next File) Usage {
	change := Usage{StoredBytes: next.HeldBytes() - f.HeldBytes()}
	if next.UploadID != "" && next.UploadID != f.UploadID {
		change.Day, change.FetchedBytes = UsageDay(next.UpdatedAt), next.Pin.SizeBytes
	}
	return change
}

// Measure is one of the things that a Usage counts.
type Measure string

const (
	Sites        Measure = "Sites"
	ActiveJobs   Measure = "ActiveJobs"
	Ranges       Measure = "Ranges"
	StoredBytes  Measure = "StoredBytes"
	FetchedBytes Measure = "FetchedBytes"
)

// Of is the count of one measure.
func (u Usage) Of(m Measure) int64 {
	return map[Measure]int64{
		Sites: u.Sites, ActiveJobs: u.ActiveJobs, Ranges: u.Ranges, StoredBytes: u.StoredBytes, FetchedBytes: u.FetchedBytes,
	}[m]
}

// Bound admits a write as long as the usage before it is at most AtMost.
type Bound struct {
	Measure Measure
	AtMost  int64
	limit   int64
}

// Bounds are what a write must meet that changes the usage so. What only gives back is always admitted. A job is refused
// when there is no room for a single byte of it. A job of any parallelism starts while less than all ranges are taken, so
// that jobs of few ranges cannot keep one of many waiting for ever.
func (q Quotas) Bounds(change Usage) (bounds []Bound) {
	add := func(m Measure, limit, more int64) {
		if limit > 0 && more > 0 {
			bounds = append(bounds, Bound{m, limit - more, limit})
		}
	}
	begun := change.ActiveJobs
	add(Sites, q.Sites, change.Sites)
	add(ActiveJobs, q.ActiveJobs, begun)
	add(Ranges, q.Ranges, min(change.Ranges, 1))
	add(StoredBytes, q.StoredBytes, max(change.StoredBytes, begun))
	add(FetchedBytes, q.FetchedBytes, max(change.FetchedBytes, begun))
	return bounds
}

// Refuse tells why a change is not admitted beside the usage; nil when it is.
func (q Quotas) Refuse(u, change Usage, now time.Time) error {
	today := u.Plus(Usage{Day: change.Day}) // yesterday's bytes do not count
	for _, b := range q.Bounds(change) {
		if used := today.Of(b.Measure); used > b.AtMost {
			return b.exceeded(used, now)
		}
	}
	return nil
}

// measures say what is counted in words, and where an operator sets its limit: a flag of `sitevault serve` and a value of
// the CDK context. Only on AWS jobs wait for ranges; on one machine users share the places.
var measures = map[Measure]struct{ words, flag, context string }{
	Sites:        {"%d sites, of at most %d", "--quota-sites", "quotaSites"},
	ActiveJobs:   {"%d pending and running backups, of at most %d", "--quota-active", "quotaActive"},
	Ranges:       {"running backups that move %d ranges at a time, of at most %d", "", "quotaRanges"},
	StoredBytes:  {"%d bytes stored, of at most %d, and needs more than is left", "--quota-stored-gib", "quotaStoredGiB"},
	FetchedBytes: {"%d bytes fetched today, of at most %d, and needs more than is left", "--quota-fetched-gib", "quotaFetchedGiB"},
}

func (b Bound) exceeded(used int64, now time.Time) *Error {
	m := measures[b.Measure]
	setting := m.flag + " (on AWS the context " + m.context + ")"
	if m.flag == "" {
		setting = "the context " + m.context
	}
	e := E(QuotaExceeded, "the user has "+m.words+"; the operator can raise %s", used, b.limit, setting)
	if b.Measure == FetchedBytes {
		e.RetryAfter = now.UTC().Truncate(24 * time.Hour).Add(24 * time.Hour).Sub(now)
	}
	return e
}

// TooMany refuses a request beyond the quota of Requests.
func TooMany(perSecond int64, wait time.Duration) *Error {
	e := E(TooManyRequests, "the user may make %d requests a second; the operator can raise --quota-requests (on AWS the context quotaRequests)", perSecond)
	e.RetryAfter = wait
	return e
}

// CheckSockets refuses another socket beside those that the user has open.
func (q Quotas) CheckSockets(open int) error {
	if q.Sockets == 0 || int64(open) < q.Sockets {
		return nil
	}
	return E(QuotaExceeded, "the user has %d sockets open, of at most %d; the operator can raise --quota-sockets (on AWS the context quotaSockets)", open, q.Sockets)
}
