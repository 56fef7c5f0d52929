package s3store_test

import (
	"net/http"
	"testing"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/s3quirks"
	"github.com/sitevault/sitevault/internal/s3store"
	"github.com/sitevault/sitevault/internal/versitygw"
)

// behind opens a store on a bucket of server through a proxy with quirks.
func behind(t *testing.T, server *versitygw.Server, bucket string, versioned bool, quirks ...s3quirks.Quirk) (*s3store.Store, *s3quirks.Proxy) {
	t.Helper()
	c := configOf(server, bucket)
	openStore(t, c, versioned)
	proxy := s3quirks.Start(t, c.Endpoint, quirks...)
	c.Endpoint = proxy.URL
	store, err := s3store.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return store, proxy
}

// Servers that lack what Amazon's has are swept just as clean.
func TestSweepsOfOtherServers(t *testing.T) {
	server, bucket := startServer(t, false), bucketNames()
	for name, quirk := range map[string]s3quirks.Quirk{
		"no versions, 501":         s3quirks.NoVersions(http.StatusNotImplemented, "NotImplemented"),
		"no versions, 400":         s3quirks.NoVersions(http.StatusBadRequest, "InvalidRequest"),
		"no versions, 405":         s3quirks.NoVersions(http.StatusMethodNotAllowed, "MethodNotAllowed"),
		"versions are objects":     s3quirks.PlainVersions(),
		"batches want Content-MD5": s3quirks.BatchNeedsMD5(),
		"batches keep":             s3quirks.BatchKeeps(),
		"no batches":               s3quirks.Refuse("no batches", http.StatusNotImplemented, "NotImplemented", s3quirks.Is(http.MethodPost, "delete")),
		"whole keys":               s3quirks.WholeKeys(),
	} {
		t.Run(name, func(t *testing.T) {
			fired := 0
			t.Run("rules", func(t *testing.T) {
				backuptest.SweepConformance(t, func(t *testing.T) backuptest.AnyStorage {
					store, proxy := behind(t, server, bucket(), false, quirk)
					t.Cleanup(func() { fired += proxy.Fired(quirk) })
					return store
				})
			})
			if fired == 0 {
				t.Error("the quirk has never shown")
			}
		})
	}
}

// All of it at once, under every rule.
func TestConformanceOfAPoorServer(t *testing.T) {
	server, bucket := startServer(t, false), bucketNames()
	backuptest.StorageConformance(t, func(t *testing.T) backuptest.AnyStorage {
		store, _ := behind(t, server, bucket(), false, s3quirks.NoVersions(http.StatusNotImplemented, "NotImplemented"),
			s3quirks.BatchNeedsMD5(), s3quirks.WholeKeys())
		return store
	})
}

// A bucket that keeps versions which nothing lists is not swept by leaving them, whether or not it can be asked.
func TestHiddenVersionsAreRefused(t *testing.T) {
	server, bucket := startServer(t, true), bucketNames()
	unlisted, unasked := s3quirks.NoVersions(http.StatusNotImplemented, "NotImplemented"),
		s3quirks.Refuse("no answer about versions", http.StatusNotImplemented, "NotImplemented", s3quirks.Is(http.MethodGet, "versioning"))
	for name, quirks := range map[string][]s3quirks.Quirk{
		"asked":             {unlisted},
		"unasked":           {unlisted, unasked},
		"unasked, singly":   {unlisted, unasked, s3quirks.BatchNeedsMD5()},
		"listed as objects": {s3quirks.PlainVersions()},
	} {
		t.Run(name, func(t *testing.T) {
			store, proxy := behind(t, server, bucket(), true, quirks...)
			if err := store.Put(t.Context(), "a/b", "text/plain", []byte("content")); err != nil {
				t.Fatal(err)
			}
			_, err := store.DeleteObjects(t.Context(), "a/", nil)
			if !backup.Is(err, backup.StorageRefused) {
				t.Errorf("%v", err)
			}
			for _, q := range quirks {
				if proxy.Fired(q) == 0 {
					t.Errorf("%s has never shown", q.Name)
				}
			}
		})
	}
}

// A server that only says that it deletes is not believed.
func TestDeletionsThatKeepAreErrors(t *testing.T) {
	server, bucket := startServer(t, false), bucketNames()
	store, proxy := behind(t, server, bucket(), false, s3quirks.BatchKeeps(), s3quirks.DeleteKeeps(), s3quirks.AbortKeeps())
	if err := store.Put(t.Context(), "a/b", "text/plain", []byte("content")); err != nil {
		t.Fatal(err)
	}
	if _, err := store.DeleteObjects(t.Context(), "a/", nil); err == nil {
		t.Error("the object stays, and nobody says so")
	}
	if _, err := store.CreateUpload(t.Context(), "a/c", "token"); err != nil {
		t.Fatal(err)
	}
	if _, err := store.AbortUploads(t.Context(), "a/", nil, nil); err == nil {
		t.Error("the upload stays, and nobody says so")
	}
	for _, q := range []s3quirks.Quirk{s3quirks.BatchKeeps(), s3quirks.DeleteKeeps(), s3quirks.AbortKeeps()} {
		if proxy.Fired(q) == 0 {
			t.Errorf("%s has never shown", q.Name)
		}
	}
}
