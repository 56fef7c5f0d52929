package storagecheck_test

import (
	"context"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/s3quirks"
	"github.com/sitevault/sitevault/internal/s3store"
	"github.com/sitevault/sitevault/internal/storagecheck"
	"github.com/sitevault/sitevault/internal/versitygw"
)

var keys = aws.Credentials{AccessKeyID: "access", SecretAccessKey: "secret"}

// storage is a bucket on a real server, seen through a proxy with quirks and directly.
type storage struct {
	tried, direct *s3store.Store
	proxy         *s3quirks.Proxy
}

func start(t *testing.T, versioned bool, quirks ...s3quirks.Quirk) storage {
	t.Helper()
	binary, err := versitygw.Find(os.Getenv("VERSITYGW"))
	if err != nil {
		t.Skip(err)
	}
	server, err := versitygw.Start(context.Background(), versitygw.Config{Binary: binary, Dir: t.TempDir(), Versioning: versioned, Credentials: versitygw.Credentials{AccessKey: keys.AccessKeyID, SecretKey: keys.SecretAccessKey}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	proxy := s3quirks.Start(t, server.Endpoint(), quirks...)
	s := storage{tried: open(t, server, proxy.URL), direct: open(t, server, server.Endpoint()), proxy: proxy}
	if _, err := s.direct.EnsureBucket(t.Context(), versioned); err != nil {
		t.Fatal(err)
	}
	return s
}

func open(t *testing.T, server *versitygw.Server, endpoint string) *s3store.Store {
	t.Helper()
	store, err := s3store.Open(t.Context(), s3store.Config{
		Bucket: "vault", Endpoint: endpoint, Region: versitygw.Region, PathStyle: true,
		AccessKey: server.Credentials().AccessKey, SecretKey: server.Credentials().SecretKey,
	})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func (s storage) trial() storagecheck.Trial {
	return storagecheck.Trial{Storage: s.tried, Now: time.Now, ID: "test"}
}

// empty fails the test unless the bucket holds nothing, not even in the past.
func (s storage) empty(t *testing.T) {
	t.Helper()
	uploads, err := s.direct.AbortUploads(context.Background(), "", nil, nil)
	objects, err2 := s.direct.DeleteObjects(context.Background(), "", nil)
	if uploads+objects != 0 || err != nil || err2 != nil {
		t.Errorf("the trial has left %d uploads and %d objects; %v, %v", uploads, objects, err, err2)
	}
}

// A storage that is right is accepted, in some twenty requests, and so is one whose lacks are no matter of proof.
func TestAccepted(t *testing.T) {
	for name, tc := range map[string]struct {
		versioned bool
		quirks    []s3quirks.Quirk
		note      string
	}{
		"plain":                    {},
		"versioned":                {versioned: true},
		"no versions listed":       {quirks: []s3quirks.Quirk{s3quirks.NoVersions(http.StatusNotImplemented, "NotImplemented")}, note: "versions are not listed"},
		"versions are objects":     {quirks: []s3quirks.Quirk{s3quirks.PlainVersions()}, note: "versions are not listed"},
		"whole keys":               {quirks: []s3quirks.Quirk{s3quirks.WholeKeys()}, note: "whole key only"},
		"batches want Content-MD5": {quirks: []s3quirks.Quirk{s3quirks.BatchNeedsMD5()}},
		"batches keep":             {quirks: []s3quirks.Quirk{s3quirks.BatchKeeps()}},
		"replaces objects":         {quirks: []s3quirks.Quirk{s3quirks.Replaces(keys, versitygw.Region)}, note: "objects are replaced"},
		"a clock a little off":     {quirks: []s3quirks.Quirk{s3quirks.SkewedClock(14 * time.Minute)}},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, tc.versioned, tc.quirks...)
			report, err := s.trial().Run(t.Context())
			if err != nil || !report.OK || report.Refusal != "" {
				t.Fatalf("%+v, %v", report, err)
			}
			if notes := notesOf(report); (tc.note == "") != (notes == "") || !strings.Contains(notes, tc.note) {
				t.Errorf("notes %q, want %q", notes, tc.note)
			}
			if n := s.proxy.Seen(); n > 45 {
				t.Errorf("%d requests", n)
			}
			t.Logf("%d requests", s.proxy.Seen())
			s.fired(t, tc.quirks)
			s.empty(t)
		})
	}
}

func notesOf(r storagecheck.Report) string {
	var notes []string
	for _, s := range r.Steps {
		if s.Note != "" {
			notes = append(notes, s.Note)
		}
	}
	return strings.Join(notes, ", ")
}

func (s storage) fired(t *testing.T, quirks []s3quirks.Quirk) {
	t.Helper()
	for _, q := range quirks {
		if s.proxy.Fired(q) == 0 {
			t.Errorf("%s has never shown", q.Name)
		}
	}
}

// What cannot be proven or removed somewhere is refused in one sentence, and nothing stays where it can be removed.
func TestRefused(t *testing.T) {
	none := func(name string, match func(*http.Request) bool) s3quirks.Quirk {
		return s3quirks.Refuse(name, http.StatusNotImplemented, "NotImplemented", match)
	}
	for name, tc := range map[string]struct {
		versioned bool
		quirks    []s3quirks.Quirk
		says      string
		leaves    bool
	}{
		"no checksum of the object": {quirks: []s3quirks.Quirk{s3quirks.WithoutHeader("X-Amz-Checksum-Crc64nvme")}, says: "does not show the size"},
		"no metadata":               {quirks: []s3quirks.Quirk{s3quirks.WithoutHeader("X-Amz-Meta-Sitevault-Token")}, says: "metadata"},
		"stores the framing":        {quirks: []s3quirks.Quirk{s3quirks.StoresFraming(keys, versitygw.Region)}, says: "CRC64NVME"},
		"no uploads":                {quirks: []s3quirks.Quirk{none("no uploads", s3quirks.Is(http.MethodPost, "uploads"))}, says: "begins no multipart upload"},
		"no list of uploads":        {quirks: []s3quirks.Quirk{none("no list of uploads", s3quirks.Is(http.MethodGet, "uploads"))}, says: "list"},
		"no list of parts":          {quirks: []s3quirks.Quirk{none("no list of parts", s3quirks.Is(http.MethodGet, "uploadId"))}, says: "does not show the size and the CRC64NVME of the parts"},
		"a wrong clock":             {quirks: []s3quirks.Quirk{s3quirks.SkewedClock(-16 * time.Minute)}, says: "same time"},
		"hidden versions":           {versioned: true, quirks: []s3quirks.Quirk{s3quirks.NoVersions(http.StatusNotImplemented, "NotImplemented")}, says: "turn the versioning of the bucket off", leaves: true},
		"keeps what is deleted":     {quirks: []s3quirks.Quirk{s3quirks.BatchKeeps(), s3quirks.DeleteKeeps()}, says: "does not remove", leaves: true},
		"keeps uploads":             {quirks: []s3quirks.Quirk{s3quirks.AbortKeeps()}, says: "does not remove", leaves: true},
		"may not delete": {quirks: []s3quirks.Quirk{
			s3quirks.Refuse("no deletion", http.StatusForbidden, "AccessDenied", s3quirks.Is(http.MethodPost, "delete"))}, says: "does not remove", leaves: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, tc.versioned, tc.quirks...)
			report, err := s.trial().Run(t.Context())
			if !backup.Is(err, backup.StorageRefused) || report.OK || !strings.Contains(report.Refusal, tc.says) || strings.Contains(report.Refusal, "\n") {
				t.Errorf("%+v, %v, want %q", report, err, tc.says)
			}
			s.fired(t, tc.quirks)
			if !tc.leaves {
				s.empty(t)
			}
		})
	}
}

// A storage that does not answer is not judged.
func TestUnanswered(t *testing.T) {
	down := s3quirks.Refuse("down", http.StatusServiceUnavailable, "SlowDown", s3quirks.Is(http.MethodPost, "uploadId"))
	s := start(t, false, down)
	report, err := s.trial().Run(t.Context())
	if !backup.Is(err, backup.StorageUnavailable) || report.OK || report.Refusal != "" {
		t.Errorf("%+v, %v", report, err)
	}
	s.fired(t, []s3quirks.Quirk{down})
	s.empty(t)
}

// A trial that is cancelled, at whichever request, leaves nothing; nor does the one after it fail.
func TestCancelled(t *testing.T) {
	s := start(t, true)
	full := s.requests(t)
	for n := 1; n <= full; n++ {
		ctx, cancel := context.WithCancel(t.Context())
		before := s.proxy.Seen()
		s.proxy.OnRequest(func() {
			if s.proxy.Seen()-before >= n {
				cancel()
			}
		})
		_, err := s.trial().Run(ctx)
		if ctx.Err() == nil {
			t.Fatalf("never cancelled at request %d", n)
		}
		if err == nil && n < full/2 {
			t.Errorf("cancelled at request %d, and nobody noticed", n)
		}
		cancel()
		s.proxy.OnRequest(nil)
		s.empty(t)
	}
}

// requests is how many a trial makes.
func (s storage) requests(t *testing.T) int {
	t.Helper()
	before := s.proxy.Seen()
	if report, err := s.trial().Run(t.Context()); err != nil {
		t.Fatal(report, err)
	}
	return s.proxy.Seen() - before
}

// What a trial has left that was killed goes with the next one.
func TestLeftovers(t *testing.T) {
	s := start(t, true, s3quirks.WholeKeys())
	for _, key := range []string{"sitevault.check/test/trial.zip", "sitevault.check/test/aborted.zip"} {
		if _, err := s.direct.CreateUpload(t.Context(), key, "token"); err != nil {
			t.Fatal(err)
		}
		if err := s.direct.Put(t.Context(), key, "text/plain", []byte("left")); err != nil {
			t.Fatal(err)
		}
	}
	if report, err := s.trial().Run(t.Context()); err != nil {
		t.Fatalf("%+v, %v", report, err)
	}
	s.empty(t)
}
