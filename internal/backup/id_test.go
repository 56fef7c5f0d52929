package backup_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sitevault/sitevault/internal/backup"
)

// maxAttempts is more than a job ever has: each retry on request is followed by some thirty tries of the service itself.
const maxAttempts = 1000

func TestExecutionNameRoundTrip(t *testing.T) {
	for attempt := 1; attempt <= maxAttempts; attempt++ {
		name := backup.ExecutionName(jobID, attempt)
		id, got, err := backup.ParseExecutionName(name)
		if err != nil || id != jobID || got != attempt {
			t.Errorf("%s parses as %s attempt %d, %v", name, id, got, err)
		}
		if len(name) > backup.MaxExecutionNameLen {
			t.Errorf("%s is longer than Step Functions allows", name)
		}
	}
}

func TestParseExecutionNameRefuses(t *testing.T) {
	for _, name := range []string{
		"", "-", "-1", jobID, jobID + "-", jobID + "-0", jobID + "--1", jobID + "-01", jobID + "-+1", jobID + "-1 ", jobID + "-1-2",
		jobID + "-9999999999999999999999", strings.ToLower(jobID) + "-1", jobID[1:] + "-1", "8" + jobID[1:] + "-1", jobID + "-1\n",
	} {
		if id, attempt, err := backup.ParseExecutionName(name); err == nil {
			t.Errorf("%q parses as %s attempt %d", name, id, attempt)
		}
	}
}

// Whatever parses is the name of exactly that execution.
func FuzzParseExecutionName(f *testing.F) {
	f.Add(jobID + "-1")
	f.Add(jobID + "-01")
	f.Add("-")
	f.Fuzz(func(t *testing.T, name string) {
		id, attempt, err := backup.ParseExecutionName(name)
		if err != nil {
			return
		}
		if backup.ExecutionName(id, attempt) != name || !backup.ValidJobID(id) || attempt < 1 {
			t.Errorf("%q parses as %q attempt %d", name, id, attempt)
		}
	})
}

// Keys lie under the job's prefix and carry the attempt that opened the upload.
func TestKeys(t *testing.T) {
	j := newJob()
	if got := j.Prefix(); got != "ada/blog/"+jobID+"/" {
		t.Errorf("prefix %s", got)
	}
	if got := j.ManifestKey(); got != j.Prefix()+"manifest.json" || backup.KeyAttempt(got) != 0 {
		t.Errorf("manifest %s of attempt %d", got, backup.KeyAttempt(got))
	}
	for attempt := 1; attempt <= maxAttempts; attempt++ {
		key := j.FileKey("files-a7", attempt, 3)
		if got := backup.KeyAttempt(key); got != attempt || !strings.HasPrefix(key, j.Prefix()) {
			t.Errorf("key %s: attempt %d, want %d", key, got, attempt)
		}
	}
	longest := backup.Job{UserID: strings.Repeat("u", 64), SiteID: strings.Repeat("s", 63), JobID: jobID}
	if key := longest.FileKey(strings.Repeat("f", 32), maxAttempts, math.MaxInt); len(key) > backup.MaxKeyBytes {
		t.Errorf("a key of %d bytes is possible", len(key))
	}
}

// KeyAttempt finds the attempt in every key that FileKey makes, and 0 in whatever else lies in a bucket.
func FuzzKeyAttempt(f *testing.F) {
	f.Add("files", 1, 1, "ada/blog/x/files-a1-R.zip")
	f.Add("files-a9-x", 5, 12, "manifest.json")
	f.Add("a", 3, 0, "-a99999999999-x.zip")
	f.Fuzz(func(t *testing.T, file string, attempt, upload int, any string) {
		if got := backup.KeyAttempt(any); got < 0 || got > 999_999_999 {
			t.Errorf("%q has attempt %d", any, got)
		}
		plain := upload >= 0 && backup.ValidProviderName(file) && attempt > 0 && attempt < 1_000_000_000
		if got := backup.KeyAttempt(newJob().FileKey(file, attempt, upload)); plain && got != attempt {
			t.Errorf("file %q attempt %d upload %d: %d", file, attempt, upload, got)
		}
	})
}

// A plain subject is its own id; any other becomes a digest, which can stand in a key.
func TestUserID(t *testing.T) {
	for _, subject := range []string{
		"", "..", "a/b", "auth0|123", "ada lovelace", strings.Repeat("a", 65), "ада", "a\x00", "-a", "_a", "https://issuer/me", "ada\n",
		"Ada", "ADA", "local", "Local", "u-", "u-x", "u-30f69670bba25e88a97e749a67b8b93d", "U-30F69670BBA25E88A97E749A67B8B93D",
	} {
		id := backup.UserID(subject)
		if !strings.HasPrefix(id, "u-") || len(id) != 34 || id == subject || backup.UserID(subject+"x") == id {
			t.Errorf("subject %q becomes %q", subject, id)
		}
	}
	for _, subject := range []string{"ada", "u", "u_x", "locals", "0b9e5c5e-1111-2222-3333-444455556666", strings.Repeat("a", 64)} {
		if got := backup.UserID(subject); got != subject {
			t.Errorf("subject %q becomes %q", subject, got)
		}
	}
}

// Different subjects have different ids, also after folding upper and lower case, and nobody is the local user: a
// subject made from another one's id opens nothing of his.
func TestUserIDIsInjective(t *testing.T) {
	variants := []func(string) string{
		backup.UserID, strings.ToLower, strings.ToUpper, strings.TrimSpace,
		func(s string) string { return strings.ToUpper(backup.UserID(s)) },
		func(s string) string { return backup.UserID(backup.UserID(s)) },
		func(s string) string { return strings.TrimPrefix(backup.UserID(s), "u-") },
		func(s string) string { return "u-" + s },
	}
	subjects := rapid.OneOf(
		rapid.String(), rapid.StringMatching(`[A-Za-z0-9_-]{1,66}`), rapid.StringMatching(`[uU]-[0-9a-fA-F]{32}`),
		rapid.SampledFrom([]string{"local", "LOCAL", "john.doe", "auth0|1", "Ada"}),
	)
	rapid.Check(t, func(t *rapid.T) {
		subject := subjects.Draw(t, "subject")
		other := rapid.OneOf(subjects, rapid.Map(rapid.SampledFrom(variants), func(v func(string) string) string { return v(subject) })).Draw(t, "other")
		id, otherID := backup.UserID(subject), backup.UserID(other)
		if subject != other && strings.EqualFold(id, otherID) {
			t.Fatalf("%q and %q are both %q", subject, other, id)
		}
		if id == backup.LocalUser || !backup.ValidUserID(id) || id != strings.ToLower(id) {
			t.Fatalf("%q becomes %q", subject, id)
		}
	})
}

func TestValidIDs(t *testing.T) {
	for _, tc := range []struct {
		id   string
		want bool
	}{
		{jobID, true}, {"", false}, {jobID + "0", false}, {jobID[:25], false}, {"81D0000000000000000000000I", false},
		{"01JD000000000000000000000I", false}, {"01JD000000000000000000000l", false}, {jobID + "\n", false},
	} {
		if got := backup.ValidJobID(tc.id); got != tc.want {
			t.Errorf("job id %q: %t", tc.id, got)
		}
	}
}

// Every key that an opening can have used is among the job's upload keys, with or without rows.
func TestUploadKeys(t *testing.T) {
	j := newJob()
	j.Attempt, j.Providers = 2, []backup.Provider{{Name: "files"}, {Name: "database"}}
	rows := []backup.File{{Name: "files", Uploads: 2, Key: j.Prefix() + "files-a1-RANDOM.zip"}, {Name: "mail", Uploads: 1}}
	keys := j.UploadKeys(rows)
	for _, want := range []string{
		rows[0].Key, j.FileKey("files", 1, 3), j.FileKey("files", 2, 3), j.FileKey("database", 1, 1), j.FileKey("database", 2, 1), j.FileKey("mail", 1, 2),
	} {
		if !slices.Contains(keys, want) {
			t.Errorf("%s is missing in %v", want, keys)
		}
	}
	if want := 1 + 2*3 + 2*1 + 2*2; len(keys) != want {
		t.Errorf("%d keys, want %d: %v", len(keys), want, keys)
	}
}

// The ids of a site never go back: an id that would is the one after the newest.
func TestJobIDAfter(t *testing.T) {
	for _, c := range []struct{ newest, id, want string }{
		{"", "01JBY4WZ5M3QK8T9V2X6C7D1EF", "01JBY4WZ5M3QK8T9V2X6C7D1EF"},
		{"01JBY4WZ5M3QK8T9V2X6C7D1EF", "01JBY4WZ5M3QK8T9V2X6C7D1EG", "01JBY4WZ5M3QK8T9V2X6C7D1EG"},
		{"01JBY4WZ5M3QK8T9V2X6C7D1EF", "01JBY4WZ5M3QK8T9V2X6C7D1EF", "01JBY4WZ5M3QK8T9V2X6C7D1EG"},
		{"01JBY4WZ5M3QK8T9V2X6C7D1EH", "01AAAAAAAAAAAAAAAAAAAAAAAA", "01JBY4WZ5M3QK8T9V2X6C7D1EJ"},
		{"01JBY4WZ5M3QK8T9V2X6C7D1ZZ", "01AAAAAAAAAAAAAAAAAAAAAAAA", "01JBY4WZ5M3QK8T9V2X6C7D200"},
		{"01JBY4WZ5MZZZZZZZZZZZZZZZZ", "01AAAAAAAAAAAAAAAAAAAAAAAA", "01JBY4WZ5N0000000000000000"},
	} {
		got := backup.JobIDAfter(c.newest, c.id)
		if got != c.want || !backup.ValidJobID(got) {
			t.Errorf("after %s, %s becomes %s, want %s", c.newest, c.id, got, c.want)
		}
	}
}

// Whatever is asked for, the id is valid and above the newest, and the one asked for wherever that is.
func TestJobIDAfterOrders(t *testing.T) {
	ids := rapid.StringMatching(`[0-6][0-9A-HJKMNP-TV-Z]{25}`)
	rapid.Check(t, func(t *rapid.T) {
		newest, id := ids.Draw(t, "newest"), ids.Draw(t, "id")
		got := backup.JobIDAfter(newest, id)
		if got <= newest || !backup.ValidJobID(got) || (id > newest && got != id) {
			t.Fatalf("after %s, %s becomes %s", newest, id, got)
		}
	})
}
