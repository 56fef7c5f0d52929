package backup

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"net/url"
	"slices"
	"strconv"
	"time"
	_ "time/tzdata" // daily runs keep to their zones also where the system has no zone files, as some Lambda images
)

// Site is what is backed up.
type Site struct {
	UserID      string
	SiteID      string
	Providers   []Provider
	Schedule    Schedule
	ScheduledAt time.Time // when the schedule became what it is: runs that were due before are nobody's
	KeepDays    int       // retention of a done backup when the request names none
	Limits      Limits
	CreatedAt   time.Time
	UpdatedAt   time.Time
	Rev         int64 // 0: not stored yet
}

// Provider is one export API of a site.
type Provider struct {
	Name      string `json:"name" doc:"1 to 32 lower-case letters, digits and hyphens, starting with a letter" example:"files"`
	URL       string `json:"url" doc:"http or https, of the export; never with credentials" example:"https://shop.example.com/export/files"`
	SecretRef string `json:"secretRef,omitempty" doc:"Name of the stored secret that is sent as Authorization; never the secret itself" example:"shop-token"`
}

// Limits bound what a backup of the site may take.
type Limits struct {
	MaxFileBytes int64 `json:"maxFileBytes,omitempty" doc:"A larger export of one provider fails; 1 TiB when left out" example:"50000000000"`
	Parallelism  int   `json:"parallelism,omitempty" doc:"Ranges pulled at the same time over all providers, 1 to 40; 4 when left out" example:"4"`
}

// Schedule is the daily run of a site.
type Schedule struct {
	Off      bool   `json:"off,omitempty" doc:"No daily backup"`
	At       string `json:"at,omitempty" doc:"Time of day in timeZone, HH:MM; when left out a time between 00:00 and 05:59 that depends on the site's id" example:"03:30"`
	TimeZone string `json:"timeZone,omitempty" doc:"IANA name; UTC when left out" example:"Europe/Berlin"`
}

// WithDefaults fills what the caller left out. A site without a time of its own gets one between 00:00 and 05:59 UTC
// that depends on its id, so that a fleet does not start at the same minute.
func (s Site) WithDefaults() Site {
	if s.KeepDays == 0 {
		s.KeepDays = DefaultKeepDays
	}
	if s.Limits.MaxFileBytes == 0 {
		s.Limits.MaxFileBytes = DefaultMaxFileBytes
	}
	if s.Limits.Parallelism == 0 {
		s.Limits.Parallelism = DefaultParallelism
	}
	if s.Schedule.At == "" && !s.Schedule.Off {
		s.Schedule.At = spreadTime(s.UserID + "/" + s.SiteID)
	}
	return s
}

func spreadTime(id string) string {
	h := fnv.New32a()
	h.Write([]byte(id))
	minute := h.Sum32() % (6 * 60)
	return fmt.Sprintf("%02d:%02d", minute/60, minute%60)
}

// Validate reports the first thing wrong with the site as an InvalidRequest that says what to do.
func (s Site) Validate() error {
	if !ValidSiteID(s.SiteID) {
		return E(InvalidRequest, "site id %q: use 1 to 63 lower-case letters, digits and hyphens, starting with a letter or digit", s.SiteID)
	}
	if len(s.Providers) == 0 || len(s.Providers) > MaxProviders {
		return E(InvalidRequest, "a site has 1 to %d providers, not %d", MaxProviders, len(s.Providers))
	}
	seen := map[string]bool{}
	for _, p := range s.Providers {
		if seen[p.Name] {
			return E(InvalidRequest, "provider name %q appears twice", p.Name)
		}
		seen[p.Name] = true
		if err := p.validate(); err != nil {
			return err
		}
	}
	return s.validateNumbers()
}

func (s Site) validateNumbers() error {
	if s.KeepDays < 1 || s.KeepDays > MaxKeepDays {
		return E(InvalidRequest, "keepDays is 1 to %d, not %d", MaxKeepDays, s.KeepDays)
	}
	if s.Limits.MaxFileBytes < 1 || s.Limits.MaxFileBytes > MaxFileBytes {
		return E(InvalidRequest, "limits.maxFileBytes is 1 to %d, not %d", MaxFileBytes, s.Limits.MaxFileBytes)
	}
	if s.Limits.Parallelism < 1 || s.Limits.Parallelism > MaxParallelism {
		return E(InvalidRequest, "limits.parallelism is 1 to %d, not %d", MaxParallelism, s.Limits.Parallelism)
	}
	return s.Schedule.validate()
}

// validate also checks what a schedule that is off would be.
func (s Schedule) validate() error {
	if s.Off {
		s.Off, s.At = false, cmp.Or(s.At, "00:00")
	}
	_, err := s.clock()
	return err
}

func (p Provider) validate() error {
	if !ValidProviderName(p.Name) {
		return E(InvalidRequest, "provider name %q: use 1 to 32 lower-case letters, digits and hyphens, starting with a letter", p.Name)
	}
	if p.SecretRef != "" && !ValidSecretRef(p.SecretRef) {
		return E(InvalidRequest, "provider %s: secretRef is the name of a stored secret (lower-case letters, digits, hyphens), never the secret itself", p.Name)
	}
	u, err := url.Parse(p.URL)
	if err != nil || u.Hostname() == "" || (u.Scheme != "http" && u.Scheme != "https") || len(p.URL) > 2048 {
		return E(InvalidRequest, "provider %s: url must be an absolute http or https URL of at most 2048 characters", p.Name)
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return E(InvalidRequest, "provider %s: the url's port is a number from 1 to 65535", p.Name)
		}
	}
	if u.User != nil {
		return E(InvalidRequest, "provider %s: the url carries credentials; store them as a secret and name it in secretRef", p.Name)
	}
	if u.Fragment != "" {
		return E(InvalidRequest, "provider %s: the url has a fragment (#...), which is never sent; leave it out", p.Name)
	}
	return nil
}

// noZones are what machines call so although no place has their time. Their other inventions ("posix/Europe/Berlin",
// "localtime") begin in lower case; EventBridge Scheduler knows none of them.
var noZones = []string{"Local", "Factory"}

type dailyClock struct {
	hour, minute int
	zone         *time.Location
}

func (s Schedule) clock() (dailyClock, error) {
	if s.Off {
		return dailyClock{}, nil
	}
	at, err := time.Parse("15:04", s.At)
	if err != nil {
		return dailyClock{}, E(InvalidRequest, "schedule.at is a time of day such as \"03:30\", not %q", s.At)
	}
	zone, err := time.LoadLocation(s.TimeZone)
	if err != nil || (s.TimeZone != "" && !zonePattern.MatchString(s.TimeZone)) || slices.Contains(noZones, s.TimeZone) {
		return dailyClock{}, E(InvalidRequest, "schedule.timeZone %q is not an IANA time zone such as \"Europe/Berlin\"", s.TimeZone)
	}
	return dailyClock{at.Hour(), at.Minute(), zone}, nil
}

// Next is the first run strictly after the given time, or the zero time when the schedule is off. On the day when
// clocks jump over the run's time, it runs as long after the jump as its time lies after the jump's beginning; when they
// show its time twice, it runs once.
func (s Schedule) Next(after time.Time) time.Time {
	c, err := s.clock()
	if err != nil || s.Off {
		return time.Time{}
	}
	local := after.In(c.zone)
	for day := local.Day(); ; day++ {
		if run := c.on(local.Year(), local.Month(), day); run.After(after) {
			return run.UTC()
		}
	}
}

// Last is the last run at or before the given time, or the zero time when the schedule is off.
func (s Schedule) Last(at time.Time) (last time.Time) {
	for next := s.Next(at.Add(-2 * 24 * time.Hour)); !next.IsZero() && !next.After(at); next = s.Next(next) {
		last = next
	}
	return last
}

// on is the run of one day. time.Date may map a time that the clocks jump over to before the jump, at midnight even to
// the day before, whose run has the same RunKey.
func (c dailyClock) on(year int, month time.Month, day int) time.Time {
	run := time.Date(year, month, day, c.hour, c.minute, 0, 0, c.zone)
	wanted := time.Date(year, month, day, c.hour, c.minute, 0, 0, time.UTC)
	_, offsetSeconds := run.Zone()
	shown := run.Add(time.Duration(offsetSeconds) * time.Second)
	return run.Add(max(0, wanted.Sub(shown)))
}

// RunKey is the idempotency key of the daily run at the given time: one per site and local date.
func (s Site) RunKey(run time.Time) string {
	zone := time.UTC
	if c, err := s.Schedule.clock(); err == nil && c.zone != nil {
		zone = c.zone
	}
	return "daily/" + s.SiteID + "/" + run.In(zone).Format(time.DateOnly)
}
