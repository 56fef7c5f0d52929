package e2e_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/e2e"
)

const slowDown = `<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>`

// What passes by itself is sat out: the backup ends done in its first attempt, byte for byte, with nothing left over.
func TestPassingFaults(t *testing.T) {
	t.Parallel()
	second := e2e.Offset(2)
	exportFaults := map[string]func(backuptest.ProviderRequest) backuptest.Answer{
		"preparing before the first byte": backuptest.FirstRequests(2, backuptest.AnswerPreparing("1")),
		"preparing, as a date":            backuptest.FirstRequests(1, backuptest.AnswerPreparing("Fri, 13 Nov 2026 10:00:00 GMT")),
		"503 before the first byte":       backuptest.FirstRequests(1, backuptest.AnswerStatus(503)),
		"202 before the first byte":       backuptest.FirstRequests(1, backuptest.AnswerStatus(202)),
		"preparing among the ranges":      backuptest.RangeAt(second, 2, backuptest.AnswerPreparing("1")),
		"429 among the ranges":            backuptest.RangeAt(second, 1, backuptest.AnswerStatus(429)),
		"500 among the ranges":            backuptest.RangeAt(second, 1, backuptest.AnswerStatus(500)),
		"short body":                      backuptest.RangeAt(second, 1, backuptest.AnswerShort(5<<20)),
		"short body, chunked":             backuptest.RangeAt(second, 1, backuptest.AnswerShortChunked(5<<20)),
		"no body":                         backuptest.RangeAt(second, 1, backuptest.AnswerShort(0)),
		"reset":                           backuptest.RangeAt(second, 1, backuptest.AnswerReset(5<<20)),
	}
	storageFaults := map[string]struct {
		parts int
		fault func(*e2e.Storage) *e2e.Rule
	}{
		"slow down at creation":        {3, refuse(e2e.CreateUpload)},
		"slow down at a part":          {3, refuse(e2e.UploadPart(2))},
		"slow down at completion":      {3, refuse(e2e.CompleteUpload)},
		"slow down at a small file":    {1, refuse(e2e.PutObject)},
		"lost answer to creation":      {3, lose(e2e.CreateUpload, 1)},
		"lost answer to a part":        {3, lose(e2e.UploadPart(2), 1)},
		"lost answer to completion":    {3, lose(e2e.CompleteUpload, 1)},
		"no answer to completion ever": {3, lose(e2e.CompleteUpload, 100)},
		"lost answer to a small file":  {1, lose(e2e.PutObject, 1)},
		"lost answer to the manifest":  {3, lose(e2e.PutManifest, 1)},
		"lost answer to the check":     {3, lose(e2e.HeadObject, 1)},
		"lost answer to the directory": {3, lose(e2e.GetObject, 1)},
	}
	for name, fault := range exportFaults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			export := e2e.NewExport(t, 1, 3)
			export.Misbehave(fault)
			s, storage := e2e.Run(t)
			endsDone(t, s, storage, export)
			if export.Faults() == 0 {
				t.Error("the fault never happened")
			}
		})
	}
	for name, c := range storageFaults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, storage := e2e.Run(t)
			rule := c.fault(storage)
			endsDone(t, s, storage, e2e.NewExport(t, 1, c.parts))
			if rule.Hits() == 0 {
				t.Error("the fault never happened")
			}
		})
	}
}

func refuse(call string) func(*e2e.Storage) *e2e.Rule {
	return func(s *e2e.Storage) *e2e.Rule {
		return s.Refuse(e2e.Is(call), 1, http.StatusServiceUnavailable, slowDown)
	}
}

func lose(call string, times int) func(*e2e.Storage) *e2e.Rule {
	return func(s *e2e.Storage) *e2e.Rule { return s.Lose(e2e.Is(call), times) }
}

func endsDone(t *testing.T, s *e2e.Service, storage *e2e.Storage, export *e2e.Export) {
	t.Helper()
	s.PutSite("shop", e2e.Exports{"files": export})
	job := s.Await(s.Create("shop"), backup.Done)
	s.Same(job.JobID, "files", export.Content)
	storage.OnlyBackup(t, job.JobID, "files")
	if job.Attempt != 1 {
		t.Errorf("done in attempt %d", job.Attempt)
	}
}

// A provider that breaks the contract for good fails the backup for the right reason, without filling memory and
// without leaving anything in the storage.
func TestLastingMisbehaviour(t *testing.T) {
	t.Parallel()
	third := func(a backuptest.Answer) func(backuptest.ProviderRequest) backuptest.Answer {
		return backuptest.RangeAt(e2e.Offset(3), 1000, a)
	}
	always := func(a backuptest.Answer) func(backuptest.ProviderRequest) backuptest.Answer {
		return backuptest.FirstRequests(1000, a)
	}
	cases := []struct {
		siteID    string
		misbehave func(backuptest.ProviderRequest) backuptest.Answer
		want      backup.Kind
	}{
		{"unauthorized", always(backuptest.AnswerStatus(401)), backup.ProviderRefused},
		{"forbidden", always(backuptest.AnswerStatus(403)), backup.ProviderRefused},
		{"unknown", always(backuptest.AnswerStatus(404)), backup.ProviderNotFound},
		{"gone-midway", third(backuptest.AnswerStatus(410)), backup.ProviderNotFound},
		{"teapot", always(backuptest.AnswerStatus(418)), backup.ProviderUnexpected},
		{"redirect", always(backuptest.AnswerRedirect("http://127.0.0.1:1/elsewhere")), backup.ProviderRedirected},
		{"redirect-midway", third(backuptest.AnswerRedirect("http://127.0.0.1:1/elsewhere")), backup.ProviderRedirected},
		{"error-page", always(backuptest.AnswerPage()), backup.ProviderUnpinned},
		{"error-page-midway", third(backuptest.AnswerPage()), backup.ProviderNoRanges},
		{"no-etag", always(backuptest.AnswerHeader("ETag", "")), backup.ProviderUnpinned},
		{"weak-etag", always(backuptest.AnswerHeader("ETag", `W/"version-1"`)), backup.ProviderUnpinned},
		{"weak-etag-midway", third(backuptest.AnswerHeader("ETag", `W/"version-1"`)), backup.ProviderUnpinned},
		{"no-ranges", always(backuptest.AnswerHeader("Accept-Ranges", "none")), backup.ProviderNoRanges},
		{"no-size", always(backuptest.AnswerHeader("Content-Length", "")), backup.ProviderUnsized},
		{"empty", always(backuptest.AnswerSize(0)), backup.ExportEmpty},
		{"huge", always(backuptest.AnswerSize(2 << 40)), backup.ExportTooLarge},
		{"gzip", always(backuptest.AnswerGzip()), backup.ProviderEncoded},
		{"gzip-midway", third(backuptest.AnswerGzip()), backup.ProviderEncoded},
		{"whole", third(backuptest.AnswerWhole()), backup.ProviderNoRanges},
		{"shifted", third(backuptest.AnswerShifted(1)), backup.ProviderWrongRange},
		{"other-size", third(backuptest.AnswerSize(1 << 40)), backup.ProviderWrongRange},
		{"long", third(backuptest.AnswerLong(1)), backup.ProviderLongBody},
		{"endless", third(backuptest.AnswerEndless()), backup.ProviderLongBody},
		{"endless-first", backuptest.EveryRange(backuptest.AnswerEndless()), backup.ProviderLongBody},
		{"short", third(backuptest.AnswerShort(1 << 20)), backup.ProviderShortBody},
	}
	storage := e2e.NewStorage(t)
	p := e2e.StartProcess(t, storage)
	jobs := map[string]string{}
	exports := map[string]*e2e.Export{}
	for _, c := range cases {
		export := e2e.NewExport(t, 1, 3)
		export.Misbehave(c.misbehave)
		exports[c.siteID] = export
		p.PutSite(c.siteID, e2e.Exports{"files": export})
		jobs[c.siteID] = p.Create(c.siteID)
	}
	for _, c := range cases {
		jobID := jobs[c.siteID]
		if c.want.Retryable() {
			p.TriedAgain(jobID, c.want)
			p.Delete(jobID) // what waits for the next try goes with it
		} else if job := p.Fails(jobID, c.want); job.Error.File != "files" || job.Error.Retryable || job.Error.Message != c.want.Sentence() {
			t.Errorf("%s: error is %+v", c.siteID, job.Error)
		} else {
			p.Refused(http.StatusConflict, backup.NotRetryable, http.MethodPost, "/backup/"+jobID+"/retry", nil)
		}
		if exports[c.siteID].Faults() == 0 {
			t.Errorf("%s: the fault never happened", c.siteID)
		}
	}
	storage.Empties(t)
	underPeak(t, p, peakBytes)
}

// An error page that a provider serves as its export, and an archive that it cut short, are stored in full and still
// are no backup.
func TestNotAnArchive(t *testing.T) {
	t.Parallel()
	s, storage := e2e.Run(t)
	archive := make([]byte, 1<<20)
	if _, err := e2e.Archive(1, 1).ReadAt(archive, 0); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"page": "<!doctype html>" + strings.Repeat("<p>Internal server error</p>", 1000), "cut": string(archive), "byte": "P",
	} {
		s.PutSite(name, e2e.Exports{"files": e2e.ExportOf(t, strings.NewReader(content))})
		s.Fails(s.Create(name), backup.ArchiveInvalid)
	}
	storage.Empties(t)
}

// An address that nobody allowed is never called, and a secret that is not stored stops the backup before any call.
func TestRefusedBeforeAnyCall(t *testing.T) {
	t.Parallel()
	storage := e2e.NewStorage(t)
	c := e2e.Config(t, storage)
	c.AllowHosts = nil
	s := e2e.Start(t, c)
	export := e2e.NewExport(t, 1, 1)
	s.PutSite("inside", e2e.Exports{"files": export})
	s.Fails(s.Create("inside"), backup.AddressForbidden)
	body := map[string]any{"providers": []backup.Provider{{Name: "files", URL: export.URL, SecretRef: "missing"}}}
	if r := s.Call(http.MethodPut, "/site/secret", body); r.Status != http.StatusCreated {
		t.Fatalf("%d %s", r.Status, r.Body)
	}
	s.Fails(s.Create("secret"), backup.SecretMissing)
	if n := len(export.Requests()); n != 0 {
		t.Errorf("%d requests reached the export", n)
	}
	storage.Empties(t)
}

// One provider's failure does not keep the others' files from being finished, and the backup still fails; nothing of it
// stays but what a retry can use.
func TestOneProviderFails(t *testing.T) {
	t.Parallel()
	s, storage := e2e.Run(t)
	good, bad := e2e.NewExport(t, 1, 2), e2e.NewExport(t, 2, 2)
	bad.Misbehave(backuptest.FirstRequests(1000, backuptest.AnswerStatus(404)))
	s.PutSite("shop", e2e.Exports{"database": bad, "files": good})
	job := s.Fails(s.Create("shop"), backup.ProviderNotFound)
	if job.Error.File != "database" || job.Files[0].Status != "failed" || job.Files[1].Status != "done" {
		t.Errorf("job is %+v", job)
	}
	s.Delete(job.JobID)
	s.Await(job.JobID, backup.Deleted)
	storage.Empties(t)
}
