package backup_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sitevault/sitevault/internal/backup"
)

func at(t *testing.T, text string) time.Time {
	t.Helper()
	when, err := time.Parse(time.RFC3339, text)
	return must(t, when, err)
}

// The daily run comes once a day by the site's own clock, also when that clock jumps.
func TestScheduleNext(t *testing.T) {
	for _, tc := range []struct{ name, zone, at, after, want string }{
		{"later today", "UTC", "03:30", "2026-03-01T00:00:00Z", "2026-03-01T03:30:00Z"},
		{"tomorrow", "UTC", "03:30", "2026-03-01T03:30:01Z", "2026-03-02T03:30:00Z"},
		{"strictly after", "UTC", "03:30", "2026-03-01T03:30:00Z", "2026-03-02T03:30:00Z"},
		{"empty zone is UTC", "", "03:30", "2026-03-01T00:00:00Z", "2026-03-01T03:30:00Z"},
		{"over a year's end", "UTC", "00:00", "2026-12-31T00:00:00Z", "2027-01-01T00:00:00Z"},
		{"leap day", "UTC", "12:00", "2028-02-28T12:00:00Z", "2028-02-29T12:00:00Z"},

		{"Berlin in winter", "Europe/Berlin", "02:30", "2026-03-28T00:00:00Z", "2026-03-28T01:30:00Z"},
		{"Berlin skips 02:00-03:00", "Europe/Berlin", "02:30", "2026-03-28T02:00:00Z", "2026-03-29T01:30:00Z"}, // 03:30 summer time
		{"Berlin after the jump", "Europe/Berlin", "02:30", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"},

		{"New York skips 02:00-03:00", "America/New_York", "02:30", "2026-03-07T12:00:00Z", "2026-03-08T07:30:00Z"}, // 03:30 EDT

		// Santiago's clocks jump from 24:00 to 01:00: the run must stay on its own date.
		{"Santiago skips midnight", "America/Santiago", "00:30", "2026-09-05T12:00:00Z", "2026-09-06T04:30:00Z"},
		{"Santiago the day before", "America/Santiago", "00:30", "2026-09-05T00:00:00Z", "2026-09-05T04:30:00Z"},

		// Samoa had no 30 December 2011.
		{"Apia before the day that never was", "Pacific/Apia", "03:30", "2011-12-29T00:00:00Z", "2011-12-29T13:30:00Z"},
		{"Apia skips a day", "Pacific/Apia", "03:30", "2011-12-29T13:30:00Z", "2011-12-30T13:30:00Z"},
		{"Apia runs once then", "Pacific/Apia", "03:30", "2011-12-30T13:30:00Z", "2011-12-31T13:30:00Z"},
	} {
		s := backup.Schedule{At: tc.at, TimeZone: tc.zone}
		if got, want := s.Next(at(t, tc.after)), at(t, tc.want); !got.Equal(want) {
			t.Errorf("%s: after %s comes %s, want %s", tc.name, tc.after, got.Format(time.RFC3339), tc.want)
		}
	}
	if got := (backup.Schedule{Off: true, At: "03:30"}).Next(epoch); !got.IsZero() {
		t.Errorf("switched off: %s", got)
	}
}

// When the clocks show the run's time twice, it runs at one of the two and not at the other.
func TestScheduleRunsOnceWhenClocksGoBack(t *testing.T) {
	for _, tc := range []struct{ zone, at, before, first, second, next string }{
		{"Europe/Berlin", "02:30", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"},
		{"America/New_York", "01:30", "2026-10-31T12:00:00Z", "2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z", "2026-11-02T06:30:00Z"},
	} {
		s := backup.Schedule{At: tc.at, TimeZone: tc.zone}
		run := s.Next(at(t, tc.before))
		if !run.Equal(at(t, tc.first)) && !run.Equal(at(t, tc.second)) {
			t.Errorf("%s runs at %s", tc.zone, run)
		}
		for _, later := range []time.Time{run, at(t, tc.second)} {
			if got := s.Next(later); !got.Equal(at(t, tc.next)) {
				t.Errorf("%s runs again at %s", tc.zone, got)
			}
		}
	}
}

// One run follows another by about a day, on the next local date, whatever the zone and the day.
func TestScheduleRunsDaily(t *testing.T) {
	zones := []string{
		"UTC", "Europe/Berlin", "America/New_York", "America/Santiago", "America/Havana", "Africa/Cairo", "Asia/Beirut",
		"Australia/Lord_Howe", "Pacific/Chatham", "Asia/Kathmandu",
	}
	rapid.Check(t, func(t *rapid.T) {
		site := testSite()
		site.Schedule = backup.Schedule{
			TimeZone: rapid.SampledFrom(zones).Draw(t, "zone"),
			At:       time.Date(0, 1, 1, 0, rapid.IntRange(0, 24*60-1).Draw(t, "minute"), 0, 0, time.UTC).Format("15:04"),
		}
		run := epoch.Add(time.Duration(rapid.IntRange(0, 5*366*24).Draw(t, "hours")) * time.Hour)
		run = site.Schedule.Next(run)
		for range 5 {
			next := site.Schedule.Next(run)
			if gap := next.Sub(run); gap < 22*time.Hour || gap > 26*time.Hour {
				t.Fatalf("from %s to %s", run, next)
			}
			if site.RunKey(next) == site.RunKey(run) {
				t.Fatalf("%s and %s have the key %s", run, next, site.RunKey(run))
			}
			if between := site.Schedule.Next(next.Add(-time.Second)); !between.Equal(next) {
				t.Fatalf("%s comes before %s", between, next)
			}
			if last, before := site.Schedule.Last(next), site.Schedule.Last(next.Add(-time.Second)); !last.Equal(next) || !before.Equal(run) {
				t.Fatalf("at %s the last run is %s, before it %s", next, last, before)
			}
			run = next
		}
	})
}

// A schedule that is off has no last run.
func TestScheduleLastOff(t *testing.T) {
	if last := (backup.Schedule{Off: true}).Last(epoch); !last.IsZero() {
		t.Errorf("last run %s", last)
	}
}

// A run is keyed by its local date, so that a late or repeated delivery is the same run.
func TestRunKey(t *testing.T) {
	for _, tc := range []struct{ zone, at, run, want string }{
		{"UTC", "03:30", "2026-03-01T03:30:00Z", "daily/blog/2026-03-01"},
		{"Europe/Berlin", "00:30", "2026-03-01T23:30:00Z", "daily/blog/2026-03-02"},
		{"America/Santiago", "00:30", "2026-09-06T04:30:00Z", "daily/blog/2026-09-06"},
		{"Not/AZone", "00:30", "2026-03-01T23:30:00Z", "daily/blog/2026-03-01"},
	} {
		site := testSite()
		site.Schedule = backup.Schedule{At: tc.at, TimeZone: tc.zone}
		if got := site.RunKey(at(t, tc.run)); got != tc.want {
			t.Errorf("run at %s in %s: %s, want %s", tc.run, tc.zone, got, tc.want)
		}
	}
}
