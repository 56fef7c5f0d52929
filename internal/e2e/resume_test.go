package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/e2e"
	"github.com/sitevault/sitevault/internal/sqlite"
)

// A service killed in the middle of a backup goes on with it at its next start, by itself, and moves no part twice
// that was recorded before. Its S3 server dies with it.
func TestKilledServiceResumes(t *testing.T) {
	t.Parallel()
	e2e.VersityGW(t)
	p := e2e.StartProcess(t, nil)
	export := e2e.NewExport(t, 1, 6)
	fifth := export.HoldBefore(e2e.Is(e2e.Range(e2e.Offset(5))))
	p.PutSerialSite("shop", e2e.Exports{"files": export})
	jobID := p.Create("shop")
	fifth.Reached(t)
	p.AwaitParts(jobID, 4)
	gateway := gatewayPID(t, p.DataDir)
	p.Kill()
	e2e.Eventually(t, "the S3 server ends with the service", func() bool { return !alive(gateway) })
	p.Start()
	job := p.Await(jobID, backup.Done)
	p.Same(jobID, "files", export.Content)
	if job.Attempt != 1 {
		t.Errorf("done in attempt %d", job.Attempt)
	}
	fetchedOnce(t, export, 1, 4)
	p.Terminate()
}

// The same after a proper stop, in one process and in several.
func TestStoppedServiceResumes(t *testing.T) {
	t.Parallel()
	s, storage := e2e.Run(t)
	export := e2e.NewExport(t, 1, 6)
	fifth := export.HoldBefore(e2e.Is(e2e.Range(e2e.Offset(5))))
	s.PutSerialSite("shop", e2e.Exports{"files": export})
	jobID := s.Create("shop")
	fifth.Reached(t)
	s.AwaitParts(jobID, 4)
	s.Restart()
	s.Await(jobID, backup.Done)
	s.Same(jobID, "files", export.Content)
	fetchedOnce(t, export, 1, 4)
	storage.OnlyBackup(t, jobID, "files")
}

// Whatever call the service is killed at, with or without the call having had its effect: the next start ends the
// backup, with one object for each file and nothing besides.
func TestKilledAtEachCall(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		parts int
		call  string
	}{
		{2, e2e.CreateUpload}, {2, e2e.UploadPart(2)}, {2, e2e.CompleteUpload}, {1, e2e.PutObject},
		{2, e2e.HeadObject}, {1, e2e.HeadObject}, {2, e2e.GetObject}, {2, e2e.PutManifest},
	} {
		for when, hold := range map[string]func(*e2e.Gate, e2e.Match) *e2e.Rule{"before": (*e2e.Gate).HoldBefore, "after": (*e2e.Gate).HoldAfter} {
			t.Run(fmt.Sprintf("%s %s of %d", when, c.call, c.parts), func(t *testing.T) {
				t.Parallel()
				storage := e2e.NewStorage(t)
				held := hold(storage.Gate, e2e.Is(c.call))
				p := e2e.StartProcess(t, storage)
				export := e2e.NewExport(t, 1, c.parts)
				p.PutSite("shop", e2e.Exports{"files": export})
				jobID := p.Create("shop")
				held.Reached(t)
				p.Kill()
				p.Start()
				p.Await(jobID, backup.Done)
				p.Same(jobID, "files", export.Content)
				storage.OnlyBackup(t, jobID, "files")
			})
		}
	}
}

// An S3 server killed in the middle of a backup is started again, and the backup goes on.
func TestKilledStorageResumes(t *testing.T) {
	t.Parallel()
	e2e.VersityGW(t)
	c := e2e.Config(t, nil)
	s := e2e.Start(t, c)
	export := e2e.NewExport(t, 1, 6)
	fourth := export.HoldBefore(e2e.Is(e2e.Range(e2e.Offset(4))))
	s.PutSerialSite("shop", e2e.Exports{"files": export})
	jobID := s.Create("shop")
	fourth.Reached(t)
	s.AwaitParts(jobID, 3)
	pid := gatewayPID(t, c.DataDir)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	fourth.Release()
	s.Await(jobID, backup.Done)
	s.Same(jobID, "files", export.Content)
	fetchedOnce(t, export, 1, 3)
	if gatewayPID(t, c.DataDir) == pid {
		t.Error("the S3 server was not killed")
	}
	s.Delete(jobID)
	s.Await(jobID, backup.Deleted)
	if files := e2e.FilesOf(t, filepath.Join(c.DataDir, "s3")); len(files) != 0 {
		t.Errorf("after the deletion the disk holds %q", files)
	}
}

// A pending job whose execution was never started is started when the service starts.
func TestLostStart(t *testing.T) {
	t.Parallel()
	storage, export := e2e.NewStorage(t), e2e.NewExport(t, 1, 1)
	c := e2e.Config(t, storage)
	jobID := ulid.Make().String()
	store, err := sqlite.Open(filepath.Join(c.DataDir, "sitevault.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	site := backup.Site{UserID: "local", SiteID: "shop", Providers: []backup.Provider{{Name: "files", URL: export.URL}}}.WithDefaults()
	now := time.Now().UTC().Truncate(time.Millisecond)
	job := backup.NewJob(jobID, site, backup.Manual, now.Add(time.Hour), now, c.Policy)
	if _, err := store.CreateJob(t.Context(), job, backup.Idempotency{}); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	s := e2e.Start(t, c)
	s.Await(jobID, backup.Done)
	s.Same(jobID, "files", export.Content)
}

func fetchedOnce(t *testing.T, e *e2e.Export, first, last int) {
	t.Helper()
	for part := first; part <= last; part++ {
		if n := e.Fetched(part); n != 1 {
			t.Errorf("part %d was fetched %d times", part, n)
		}
	}
}

// gatewayPID waits for the process of the service's own S3 server.
func gatewayPID(t *testing.T, dataDir string) (pid int) {
	t.Helper()
	e2e.Eventually(t, "an S3 server runs", func() bool {
		text, err := os.ReadFile(filepath.Join(dataDir, "s3", "versitygw.pid"))
		if err != nil {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
		return err == nil && alive(pid)
	})
	return pid
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }
