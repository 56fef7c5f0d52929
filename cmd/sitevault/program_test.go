// The tests are inside the package: a program exports nothing.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/client"
	"github.com/sitevault/sitevault/internal/demo"
	"github.com/sitevault/sitevault/internal/provider"
	"github.com/sitevault/sitevault/internal/step"
)

// asProgram makes the test binary be the program, for tests that start it as a process.
const asProgram = "TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// result is what a run of the program left.
type result struct {
	code     int
	out, err string
}

// setting is what a run of the program finds.
type setting struct {
	env   map[string]string
	input string
}

func (s setting) run(t *testing.T, args ...string) result {
	t.Helper()
	in, out, errs := temporary(t, s.input), temporary(t, ""), temporary(t, "")
	now := func() time.Time { return time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC) }
	p := &program{in: in, out: out, err: errs, getenv: func(name string) string { return s.env[name] }, environ: func() []string { return nil }, now: now, version: "v1.2.3"}
	code := p.run(t.Context(), args)
	return result{code, content(t, out), content(t, errs)}
}

func temporary(t *testing.T, content string) *os.File {
	t.Helper()
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	if _, err := file.WriteString(content); err != nil {
		t.Fatal(err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	return file
}

func content(t *testing.T, file *os.File) string {
	t.Helper()
	raw, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

const (
	goodJob   = "01JD3Z8Q7V5X2M4N6P8R0S1T2V"
	failedJob = "01JD3Z8Q7V5X2M4N6P8R0S1T2W"
)

// service answers like a service with two sites, a good backup and a newer failed one. Bodies that came are kept.
type service struct {
	*httptest.Server
	bodies map[string]string // by method and path
}

func newService(t *testing.T) *service {
	s := &service{bodies: map[string]string{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *service) setting() setting {
	return setting{env: map[string]string{"SITEVAULT_SERVER": s.URL}}
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	route := r.Method + " " + strings.TrimPrefix(r.URL.Path, "/v1")
	s.bodies[route] = string(raw)
	status, answer := s.answer(route)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(answer)
}

func (s *service) answer(route string) (int, any) {
	switch route {
	case "GET /site":
		return 200, api.SitePage{Sites: []api.Site{shop(), {SiteID: "blog", Schedule: backup.Schedule{Off: true}}}}
	case "GET /site/shop", "PUT /site/shop":
		return 200, shop()
	case "PUT /site/new":
		return 201, api.Site{SiteID: "new"}
	case "GET /backup":
		return 200, api.BackupPage{Backups: []api.Backup{failed().Backup, good().Backup}}
	case "GET /backup/" + goodJob:
		return 200, good()
	case "GET /backup/" + failedJob:
		return 200, failed()
	case "POST /backup/" + goodJob + "/retry":
		return refusal(409, backup.IllegalState, "only a failed backup can be retried")
	case "POST /backup":
		return 202, failed().Backup
	case "DELETE /site/shop":
		return 204, nil
	case "PATCH /backup/" + goodJob:
		return 200, good().Backup
	}
	return refusal(404, backup.NotFound, route)
}

func refusal(status int, kind backup.Kind, detail string) (int, any) {
	return status, api.Problem{Title: kind.Sentence(), Kind: kind, Detail: detail}
}

func shop() api.Site {
	return api.Site{
		SiteID: "shop", KeepDays: 60, Schedule: backup.Schedule{At: "03:30", TimeZone: "Europe/Berlin"}, Limits: backup.Limits{MaxFileBytes: 1 << 30, Parallelism: 4},
		Providers: []backup.Provider{{Name: "files", URL: "https://shop.example.com/files", SecretRef: "shop"}},
	}
}

func good() api.BackupDetail {
	return api.BackupDetail{
		Backup: api.Backup{JobID: goodJob, SiteID: "shop", Status: backup.Done, Trigger: backup.Daily, Attempt: 1, SizeBytes: 5 << 20},
		Seq:    9, Progress: step.Progress{Parts: 1, TotalParts: 1, Bytes: 5 << 20, TotalBytes: 5 << 20},
		Files: []api.File{{Name: "files", Status: "done", SizeBytes: 5 << 20}},
	}
}

func failed() api.BackupDetail {
	return api.BackupDetail{
		Backup: api.Backup{
			JobID: failedJob, SiteID: "shop", Status: backup.Failed, Trigger: backup.Manual, Attempt: 1,
			Error: &api.Failure{Kind: backup.ProviderTimeout, Message: backup.ProviderTimeout.Sentence(), Detail: "GET files: \x1b[31mtimeout", File: "files", Retryable: true},
		},
		Seq: 7,
	}
}

// Each way to end has its exit code, and what the user reads says what to do.
func TestExitCodes(t *testing.T) {
	s := newService(t).setting()
	away := setting{env: map[string]string{"SITEVAULT_SERVER": "http://127.0.0.1:1"}}
	tests := map[string]struct {
		setting setting
		args    string
		code    int
		says    string
	}{
		"ok":                    {s, "site list", exitOK, ""},
		"help":                  {s, "", exitOK, ""},
		"version":               {s, "version", exitOK, ""},
		"unknown command":       {s, "bakup", exitUsage, `did you mean "backup"`},
		"unknown subcommand":    {s, "backup creat", exitUsage, `did you mean "create"`},
		"unknown flag":          {s, "site list --x", exitUsage, "--help"},
		"missing argument":      {s, "backup create", exitUsage, "SITE"},
		"extra argument":        {s, "site get a b", exitUsage, "one argument too many"},
		"bad output":            {s, "site list -o yaml", exitUsage, "table, json or jsonl"},
		"flags that exclude":    {s, "site put shop --at 03:00 --no-schedule", exitUsage, "no-schedule"},
		"a flag of two":         {s, "backup keep shop@latest", exitUsage, "until"},
		"bad time":              {s, "backup keep shop@latest --until soon", exitUsage, "2027-01-31"},
		"bad size":              {s, "site put shop --max-bytes lots", exitUsage, "50GB"},
		"no backup's id":        {s, "backup get nope", exitUsage, "backup list"},
		"no site's id":          {s, "backup get Shop@latest", exitUsage, "shop@latest"},
		"new site, no export":   {s, "site put new", exitUsage, "--provider NAME=URL"},
		"absent site":           {s, "site get nope", exitNotFound, "site list"},
		"absent backup":         {s, "backup get 01JD3Z8Q7V5X2M4N6P8R0S1T2Z", exitNotFound, "backup list"},
		"conflict":              {s, "backup retry " + goodJob, exitConflict, "only a failed backup can be retried"},
		"nobody to confirm":     {s, "site delete shop", exitUsage, "--yes"},
		"confirmed":             {s, "site delete shop --yes", exitOK, ""},
		"failed backup":         {s, "backup watch " + failedJob, exitBackupFailed, "sitevault backup retry " + failedJob + " --wait"},
		"created, then failed":  {s, "backup create shop --wait", exitBackupFailed, "A retry can help"},
		"watch the newest":      {s, "backup watch shop@latest", exitBackupFailed, failedJob},
		"get the newest good":   {s, "backup get shop@latest", exitOK, ""},
		"service away":          {away, "site list", exitUnreachable, "--server"},
		"server is no URL":      {s, "site list --server localhost", exitUsage, "http://127.0.0.1:8420"},
		"no token file":         {s, "site list --token-file /nowhere", exitUsage, "--token-file"},
		"agent without export":  {s, "agent --dir /nowhere", exitUsage, "--files"},
		"agent open to all":     {s, "agent --listen 0.0.0.0:0 --dir /nowhere --files /", exitUsage, "--token-file"},
		"storage without keys":  {s, "serve --data /nowhere --s3-endpoint http://127.0.0.1:1 --s3-bucket b", exitUsage, "AWS_ACCESS_KEY_ID"},
		"issuer by http":        {s, "serve --data /nowhere --issuer http://issuer.example --audience x", exitUsage, "https"},
		"issuer, no audience":   {s, "serve --data /nowhere --issuer https://x", exitUsage, "--audience"},
		"bad log level":         {s, "serve --data /nowhere --log-level loud", exitUsage, "debug"},
		"serve without a place": {s, "serve", exitUsage, "--data"},
		"open without sign-in":  {s, "serve --data " + t.TempDir() + " --listen 0.0.0.0:0", exitFailure, "--issuer"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := test.setting.run(t, strings.Fields(test.args)...)
			if got.code != test.code || !strings.Contains(got.err, test.says) {
				t.Errorf("exit code %d, standard error:\n%s", got.code, got.err)
			}
			if (got.code == exitOK) != (got.err == "") {
				t.Errorf("exit code %d with standard error %q", got.code, got.err)
			}
		})
	}
}

// The exit codes of errors that need no service to arise.
func TestErrorCodes(t *testing.T) {
	for _, test := range []struct {
		err  error
		want int
	}{
		{nil, exitOK},
		{errors.New("x"), exitFailure},
		{fmt.Errorf("watch: %w", context.Canceled), exitInterrupted},
		{fmt.Errorf("download: %w", &client.MismatchError{}), exitFailure},
		{fmt.Errorf("download: %w", &client.ExistsError{}), exitConflict},
		{fmt.Errorf("demo: %w", &demo.FailedError{}), exitBackupFailed},
		{&demo.DifferenceError{}, exitFailure},
		{&client.Error{Problem: api.Problem{Status: 412}}, exitConflict},
		{&client.Error{Problem: api.Problem{Status: 422}}, exitUsage},
		{&client.Error{Problem: api.Problem{Status: 401}}, exitFailure},
		{&client.Error{Problem: api.Problem{Status: 503}}, exitFailure},
	} {
		if got := exitCode(test.err); got != test.want {
			t.Errorf("%T %v: %d, not %d", test.err, test.err, got, test.want)
		}
	}
}

// Lists come as a table, as one JSON array, or as one object a line; without a terminal JSON is the default.
func TestOutput(t *testing.T) {
	s := newService(t).setting()
	if got := s.run(t, "site", "list", "-o", "table").out; !strings.HasPrefix(got, "SITE  EXPORTS  DAILY                NEXT BACKUP  KEPT\nshop  files    03:30 Europe/Berlin               60 days\n") {
		t.Errorf("table:\n%s", got)
	}
	for _, args := range [][]string{{"site", "list"}, {"site", "list", "-o", "json"}} {
		var sites []api.Site
		if err := json.Unmarshal([]byte(s.run(t, args...).out), &sites); err != nil || len(sites) != 2 || sites[0].SiteID != "shop" {
			t.Errorf("%q: %+v, %v", args, sites, err)
		}
	}
	lines := strings.Split(strings.TrimSpace(s.run(t, "site", "list", "-o", "jsonl").out), "\n")
	if len(lines) != 2 || !json.Valid([]byte(lines[0])) || !strings.Contains(lines[1], `"siteId":"blog"`) {
		t.Errorf("lines %q", lines)
	}
	if got := s.run(t, "backup", "list", "--limit", "1", "-o", "jsonl"); strings.Count(got.out, "\n") != 1 || !strings.Contains(got.err, "--limit 0") {
		t.Errorf("got %+v", got)
	}
}

// A watch prints one JSON line for each change.
func TestWatchOutput(t *testing.T) {
	got := newService(t).setting().run(t, "backup", "watch", goodJob)
	var job api.BackupDetail
	if err := json.Unmarshal([]byte(got.out), &job); err != nil || job.Seq != 9 || strings.Count(got.out, "\n") != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
}

// What a site answered cannot steer the terminal.
func TestDetailsArePlain(t *testing.T) {
	got := newService(t).setting().run(t, "backup", "get", failedJob, "-o", "table")
	if strings.ContainsRune(got.out, 0x1b) || !strings.Contains(got.out, "[31mtimeout") {
		t.Errorf("got %q", got.out)
	}
}

// A change of a site leaves alone what it does not name.
func TestSitePutChanges(t *testing.T) {
	service := newService(t)
	tests := map[string]struct {
		args   string
		change func(*api.SiteBody)
	}{
		"keep days":   {"--keep-days 7", func(b *api.SiteBody) { b.KeepDays = 7 }},
		"time":        {"--at 04:00", func(b *api.SiteBody) { b.Schedule.At = "04:00" }},
		"no schedule": {"--no-schedule", func(b *api.SiteBody) { b.Schedule.Off = true }},
		"size":        {"--max-bytes 2GiB", func(b *api.SiteBody) { b.Limits.MaxFileBytes = 2 << 30 }},
		"providers": {"--provider db=https://x/db,a=b,secret=s --provider f=https://x/f", func(b *api.SiteBody) {
			b.Providers = []backup.Provider{{Name: "db", URL: "https://x/db,a=b", SecretRef: "s"}, {Name: "f", URL: "https://x/f"}}
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := service.setting().run(t, append([]string{"site", "put", "shop"}, strings.Fields(test.args)...)...); got.code != exitOK {
				t.Fatalf("got %+v", got)
			}
			site := shop()
			want := api.SiteBody{Providers: site.Providers, Schedule: site.Schedule, KeepDays: site.KeepDays, Limits: site.Limits}
			test.change(&want)
			raw, err := json.Marshal(want)
			if err != nil || service.bodies["PUT /site/shop"] != string(raw) {
				t.Errorf("sent %s\nwant %s", service.bodies["PUT /site/shop"], raw)
			}
		})
	}
}

func TestKeep(t *testing.T) {
	service := newService(t)
	for args, want := range map[string]string{"--days 3": "2026-11-27T12:00:00Z", "--until 2027-01-31T10:00:00Z": "2027-01-31T10:00:00Z"} {
		got := service.setting().run(t, append([]string{"backup", "keep", "shop@latest"}, strings.Fields(args)...)...)
		if sent := service.bodies["PATCH /backup/"+goodJob]; got.code != exitOK || sent != `{"deleteAt":"`+want+`"}` {
			t.Errorf("%s: sent %s, got %+v", args, sent, got)
		}
	}
}

// The shell offers sites and backups as the service knows them, and stays silent when it is away.
func TestCompletion(t *testing.T) {
	s := newService(t).setting()
	tests := map[string]struct {
		setting setting
		args    []string
		want    []string
	}{
		"sites":        {s, []string{"site", "get", ""}, []string{"shop", "blog"}},
		"prefix":       {s, []string{"backup", "create", "b"}, []string{"blog"}},
		"backups":      {s, []string{"backup", "watch", ""}, []string{"shop@latest", failedJob, goodJob}},
		"flag":         {s, []string{"backup", "list", "--site", "s"}, []string{"shop"}},
		"formats":      {s, []string{"site", "list", "-o", ""}, []string{"table", "json", "jsonl"}},
		"no second":    {s, []string{"site", "get", "shop", ""}, nil},
		"service away": {setting{env: map[string]string{"SITEVAULT_SERVER": "http://127.0.0.1:1"}}, []string{"site", "get", ""}, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := test.setting.run(t, append([]string{"__complete"}, test.args...)...)
			var offered []string
			for line := range strings.Lines(got.out) {
				if word, _, _ := strings.Cut(strings.TrimSpace(line), "\t"); !strings.HasPrefix(word, ":") {
					offered = append(offered, word)
				}
			}
			if fmt.Sprint(offered) != fmt.Sprint(test.want) {
				t.Errorf("offered %q", offered)
			}
		})
	}
}

// Settings of the service come from the command line, else from the environment, else from the defaults.
func TestEnvironment(t *testing.T) {
	data := t.TempDir()
	s := setting{env: map[string]string{"SITEVAULT_DATA": data, "SITEVAULT_EXECUTIONS": "many"}}
	if got := s.run(t, "serve"); got.code != exitUsage || !strings.Contains(got.err, "$SITEVAULT_EXECUTIONS") {
		t.Errorf("got %+v", got)
	}
	s.env["SITEVAULT_EXECUTIONS"] = "0"
	if got := s.run(t, "serve"); got.code != exitUsage || !strings.Contains(got.err, "--executions is at least 1") {
		t.Errorf("the variable had no effect: %+v", got)
	}
	if got := s.run(t, "serve", "--executions", "3", "--listen", "0.0.0.0:0"); got.code != exitFailure || !strings.Contains(got.err, "--issuer") {
		t.Errorf("the command line does not win: %+v", got)
	}
	delete(s.env, "SITEVAULT_EXECUTIONS")
	for memory, want := range map[string]string{"much": "a size such as 128MiB", "1MiB": "--memory is at least 4.0 MiB"} {
		s.env["SITEVAULT_MEMORY"] = memory
		if got := s.run(t, "serve"); got.code != exitUsage || !strings.Contains(got.err, want) {
			t.Errorf("memory %q: %+v", memory, got)
		}
	}
}

// A secret is readable by its owner only, listed by name only, and never on the command line.
func TestSecrets(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s := setting{env: map[string]string{"SITEVAULT_DATA": data}, input: "top secret\n"}
	if got := s.run(t, "secret", "put", "shop"); got != (result{}) {
		t.Fatalf("got %+v", got)
	}
	path := filepath.Join(data, "secrets", "local", "shop")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	if raw, _ := os.ReadFile(path); string(raw) != "top secret" {
		t.Errorf("stored %q", raw)
	}
	if got := s.run(t, "secret", "list", "-o", "jsonl"); got.out != "\"shop\"\n" {
		t.Errorf("listed %q", got.out)
	}
	for range 2 {
		s.run(t, "secret", "put", "shop") // replaces
	}
	if got := s.run(t, "secret", "delete", "shop"); got.code != exitOK {
		t.Errorf("got %+v", got)
	}
	if got := s.run(t, "secret", "delete", "shop"); got.code != exitNotFound {
		t.Errorf("got %+v", got)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// The secrets of a user who signs in lie under the id that the program prints.
func TestUserID(t *testing.T) {
	data := t.TempDir()
	s := setting{env: map[string]string{"SITEVAULT_DATA": data}, input: "x\n"}
	for subject, want := range map[string]string{"ada": "ada", "john.doe": "u-30f69670bba25e88a97e749a67b8b93d", "local": backup.UserID("local")} {
		got := s.run(t, "user-id", subject)
		if got != (result{out: want + "\n"}) {
			t.Errorf("subject %q: %+v", subject, got)
		}
		if got := s.run(t, "secret", "put", "shop", "--user", strings.TrimSpace(got.out)); got.code != exitOK {
			t.Errorf("subject %q: %+v", subject, got)
		}
		if _, err := os.Stat(filepath.Join(data, "secrets", want, "shop")); err != nil {
			t.Error(err)
		}
	}
	if got := s.run(t, "secret", "put", "shop", "--user", "john.doe"); got.code != exitUsage || !strings.Contains(got.err, "user-id") {
		t.Errorf("a subject for an id: %+v", got)
	}
}

func TestSecretsRefuse(t *testing.T) {
	for name, test := range map[string]struct{ input, args string }{
		"empty":            {"\n", "put shop"},
		"two lines":        {"a\nb\n", "put shop"},
		"too long":         {strings.Repeat("x", provider.MaxSecretBytes+1), "put shop"},
		"name":             {"x", "put ../shop"},
		"user":             {"x", "put shop --user ../x"},
		"delete elsewhere": {"", "delete ../../x"},
	} {
		t.Run(name, func(t *testing.T) {
			s := setting{env: map[string]string{"SITEVAULT_DATA": t.TempDir()}, input: test.input}
			if got := s.run(t, append([]string{"secret"}, strings.Fields(test.args)...)...); got.code != exitUsage {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// docs/openapi.json is what the program prints.
func TestOpenAPI(t *testing.T) {
	committed, err := os.ReadFile(filepath.Join("..", "..", "docs", "openapi.json"))
	if err != nil {
		t.Fatal(err)
	}
	if got := (setting{}).run(t, "openapi"); got.out != string(committed) {
		t.Error("docs/openapi.json is out of date: run make openapi")
	}
}

// Each kind of failure comes with a next command, and a retry is only advised where the service would accept it.
func TestRemedies(t *testing.T) {
	for _, kind := range backup.Kinds() {
		job := failed()
		job.Error = &api.Failure{Kind: kind, Message: kind.Sentence(), Retryable: kind.Retryable()}
		text := failureText(job)
		if !strings.Contains(text, "Next: ") || !strings.Contains(text, kind.Sentence()) {
			t.Errorf("%s: %q", kind, text)
		}
		if strings.Contains(text, "backup retry") != kind.Retryable() {
			t.Errorf("%s: wrong advice: %q", kind, text)
		}
	}
	job := failed()
	job.Retries = backup.MaxRetries
	if text := failureText(job); strings.Contains(text, "backup retry") {
		t.Errorf("a retry too many: %q", text)
	}
}

// A failed or deleted backup says that its cleanup fails, a running one does not take the attempt before for a cleanup.
func TestFailingCleanupIsShown(t *testing.T) {
	job := failed().Backup
	since := job.CreatedAt
	job.LastError = &api.Failure{Kind: backup.StorageRefused, Message: backup.StorageRefused.Sentence(), Detail: "legal hold", At: since.Add(time.Hour), Since: &since}
	for status, shown := range map[backup.Status]bool{backup.Failed: true, backup.Deleting: true, backup.Running: false} {
		job.Status = status
		text := failingCleanup(job)
		if (text != "") != shown || (shown && (!strings.Contains(text, "since "+at(since)) || !strings.Contains(text, "legal hold"))) {
			t.Errorf("%s: %q", status, text)
		}
	}
}

// The flag never panics, and what it accepts keeps the name and loses nothing of the URL.
func FuzzParseProvider(f *testing.F) {
	for _, seed := range []string{"files=https://x/f", "f=https://x/?a=b,secret=s", "=", "a=,secret=", "a=b,secret=c,secret=d"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parseProvider(text)
		if err != nil {
			return
		}
		again := p.Name + "=" + p.URL
		if p.SecretRef != "" {
			again += ",secret=" + p.SecretRef
		}
		if again != text || p.Name == "" {
			t.Errorf("%q became %+v", text, p)
		}
	})
}

// The speed follows the reports smoothly and is told only once it is known.
func TestRate(t *testing.T) {
	r, now := &rate{}, time.Unix(0, 0)
	var notes []string
	for second := range 5 {
		notes = append(notes, r.note(int64(second)<<20, 10<<20, now.Add(time.Duration(second)*time.Second)))
	}
	if want := []string{"", "", "", " 1.0 MiB/s ~7s", " 1.0 MiB/s ~6s"}; fmt.Sprint(notes) != fmt.Sprint(want) {
		t.Errorf("got %q", notes)
	}
}

// What has become the matter with a file is told once, and again when it is something else.
func TestLastErrorsAreToldOnce(t *testing.T) {
	known := lastErrors{}
	told := func(detail string) string {
		f := api.File{Name: "files"}
		if detail != "" {
			f.LastError = &api.Failure{Kind: backup.ProviderTimeout, Message: "Too slow.", Detail: detail}
		}
		return strings.Join(known.news(api.BackupDetail{Files: []api.File{f}}), "|")
	}
	for _, c := range []struct{ detail, want string }{
		{"", ""}, {"a\x1b[2J", "files: Too slow. It is tried again. (a [2J)"}, {"a\x1b[2J", ""},
		{"b", "files: Too slow. It is tried again. (b)"}, {"", ""}, {"b", "files: Too slow. It is tried again. (b)"},
	} {
		if got := told(c.detail); got != c.want {
			t.Errorf("%q: told %q, want %q", c.detail, got, c.want)
		}
	}
}

// What hinders the end of a running backup is told, and not what ended the attempt before.
func TestHinderedEndIsTold(t *testing.T) {
	started := time.Unix(1000, 0)
	for _, c := range []struct {
		status backup.Status
		at     time.Time
		want   string
	}{
		{backup.Running, started.Add(time.Second), "No answer. It is tried again. (PutObject)"},
		{backup.Running, started.Add(-time.Second), ""}, {backup.Done, started.Add(time.Second), ""},
	} {
		job := api.Backup{Status: c.status, StartedAt: &started, LastError: &api.Failure{Message: "No answer.", Detail: "PutObject", At: c.at}}
		if got := strings.Join((lastErrors{}).news(api.BackupDetail{Backup: job}), "|"); got != c.want {
			t.Errorf("%s at %s: %q, want %q", c.status, c.at, got, c.want)
		}
	}
}
