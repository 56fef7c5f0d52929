package local_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/e2e"
	"github.com/sitevault/sitevault/internal/local"
	"github.com/sitevault/sitevault/internal/s3quirks"
	"github.com/sitevault/sitevault/internal/versitygw"
)

// behind is the config of a service whose storage is seen through quirks, and is down while down says so.
func behind(t *testing.T, storage *e2e.Storage, down *atomic.Bool, quirks ...s3quirks.Quirk) (local.Config, *s3quirks.Proxy) {
	t.Helper()
	away := s3quirks.Refuse("down", http.StatusServiceUnavailable, "SlowDown", func(*http.Request) bool { return down.Load() })
	proxy := s3quirks.Start(t, storage.Endpoint, append([]s3quirks.Quirk{away}, quirks...)...)
	c := e2e.Config(t, storage)
	c.S3.Endpoint = proxy.URL
	return c, proxy
}

// A storage that does not answer at the start is tried before the first backup is trusted to it.
func TestStorageThatComesUpLater(t *testing.T) {
	noChecksum := s3quirks.WithoutHeader("X-Amz-Checksum-Crc64nvme")
	for name, tc := range map[string]struct {
		quirks []s3quirks.Quirk
		status backup.Status
	}{
		"accepted": {nil, backup.Done},
		"refused":  {[]s3quirks.Quirk{noChecksum}, backup.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			var down atomic.Bool
			down.Store(true)
			storage := e2e.NewStorage(t)
			c, proxy := behind(t, storage, &down, tc.quirks...)
			s := e2e.Start(t, c)
			export := e2e.NewExport(t, 1, 3)
			s.PutSerialSite("shop", e2e.Exports{"files": export})
			jobID := s.Create("shop")
			e2e.Eventually(t, "it is told that the storage does not answer", func() bool {
				told := s.Get(jobID).Files[0].LastError
				return told != nil && told.Kind == backup.StorageUnavailable
			})
			down.Store(false)
			s.Await(jobID, tc.status)
			for _, q := range tc.quirks {
				if proxy.Fired(q) == 0 {
					t.Errorf("%s has never shown", q.Name)
				}
			}
			if tc.status == backup.Done {
				storage.OnlyBackup(t, jobID, "files")
				return
			}
			if failure := s.Get(jobID).Error; failure == nil || failure.Kind != backup.StorageRefused {
				t.Errorf("%+v", failure)
			}
			storage.Empties(t)
		})
	}
}

// Where objects are replaced although it is asked not to, small files are multipart uploads too, also after a restart.
func TestStorageThatReplaces(t *testing.T) {
	var down atomic.Bool
	storage := e2e.NewStorage(t)
	replaces := s3quirks.Replaces(aws.Credentials{AccessKeyID: storage.AccessKey, SecretAccessKey: storage.SecretKey}, versitygw.Region)
	c, proxy := behind(t, storage, &down, replaces)
	s := e2e.Start(t, c)
	export := e2e.NewExport(t, 1, 1)
	s.PutSerialSite("shop", e2e.Exports{"files": export})
	for range 2 {
		before := storage.Seen("CreateMultipartUpload")
		s.Await(s.Create("shop"), backup.Done)
		if n := storage.Seen("CreateMultipartUpload") - before; n != 1 {
			t.Errorf("%d multipart uploads, want the file's", n)
		}
		s.Restart()
	}
	if proxy.Fired(replaces) == 0 {
		t.Error("the quirk has never shown")
	}
}

// A trial is made again after a week, before the next backup; a storage that is known is not doubted while it is away.
func TestStorageIsTriedAgain(t *testing.T) {
	var down atomic.Bool
	var clock e2e.Clock
	c, proxy := behind(t, e2e.NewStorage(t), &down)
	c.Now = clock.Now
	s := e2e.Start(t, c)
	export := e2e.NewExport(t, 1, 3)
	s.PutSerialSite("shop", e2e.Exports{"files": export})
	requests := func() int {
		before := proxy.Seen()
		s.Await(s.Create("shop"), backup.Done)
		return proxy.Seen() - before
	}
	before := requests()
	clock.Advance(8 * 24 * time.Hour)
	if again := requests(); again < before+20 {
		t.Errorf("%d requests after a week, %d before: no trial was made", again, before)
	}
}
