package compatibility

import (
	"fmt"
	"testing"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/e2e"
	"github.com/sitevault/sitevault/internal/local"
	"github.com/sitevault/sitevault/internal/s3store"
	"github.com/sitevault/sitevault/internal/storagecheck"
)

// Every server obeys the rules of a storage through our adapter.
func TestConformance(t *testing.T) {
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			s, n := start(t), 0
			backuptest.StorageConformance(t, func(t *testing.T) backuptest.AnyStorage {
				n++
				return s.open(t, fmt.Sprintf("vault-%d", n))
			}, s.lacks...)
		})
	}
}

// Every server passes the trial, which leaves nothing.
func TestTrial(t *testing.T) {
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			store := s.open(t, "vault")
			report, err := local.CheckStorage(t.Context(), s.s3("vault"), func(step storagecheck.Step) { t.Logf("%+v", step) })
			if err != nil || !report.OK {
				t.Fatalf("%+v, %v", report, err)
			}
			wantEmpty(t, store)
		})
	}
}

// On every server a backup is made, downloaded, deleted and cancelled midway, and nothing stays.
func TestBackup(t *testing.T) {
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			store := s.open(t, "vault")
			c := e2e.Config(t, nil)
			c.S3 = s.s3("vault")
			service := e2e.Start(t, c)
			large, small := e2e.NewExport(t, 1, 3), e2e.NewExport(t, 2, 1)
			service.PutSerialSite("shop", e2e.Exports{"files": large, "database": small})
			jobID := service.Create("shop")
			service.Await(jobID, backup.Done)
			service.Same(jobID, "files", large.Content)
			service.Same(jobID, "database", small.Content)
			service.Delete(jobID)
			service.Await(jobID, backup.Deleted)
			wantEmpty(t, store)
			cancelMidway(t, service, large)
			wantEmpty(t, store)
		})
	}
}

// cancelMidway cancels a backup while one part of its upload is stored and the next is on its way, and deletes it.
func cancelMidway(t *testing.T, service *e2e.Service, export *e2e.Export) {
	t.Helper()
	held := export.HoldBefore(e2e.Is(e2e.Range(e2e.Offset(2))))
	jobID := service.Create("shop")
	held.Reached(t)
	service.Act(jobID, "cancel")
	held.Release()
	service.Await(jobID, backup.Failed)
	service.Delete(jobID)
	service.Await(jobID, backup.Deleted)
}

// wantEmpty fails the test unless the bucket holds nothing, and empties it. The uploads of MinIO are listed by their
// whole key, or without any prefix.
func wantEmpty(t *testing.T, store *s3store.Store) {
	t.Helper()
	uploads, err := store.AbortUploads(t.Context(), "", nil, nil)
	objects, err2 := store.DeleteObjects(t.Context(), "", nil)
	if uploads+objects != 0 || err != nil || err2 != nil {
		t.Errorf("the bucket holds %d uploads and %d objects; %v, %v", uploads, objects, err, err2)
	}
}

func (s server) s3(bucket string) local.S3 {
	return local.S3{Endpoint: s.endpoint, Region: s.region, Bucket: bucket, AccessKey: s.accessKey, SecretKey: s.secretKey, PathStyle: true}
}
