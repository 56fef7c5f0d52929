package s3store_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/s3store"
	"github.com/sitevault/sitevault/internal/versitygw"
)

// A real S3 server, without and with versions, obeys every rule through this adapter.
func TestConformance(t *testing.T) {
	for name, versioned := range map[string]bool{"plain": false, "versioned": true} {
		t.Run(name, func(t *testing.T) {
			server, bucket := startServer(t, versioned), bucketNames()
			backuptest.StorageConformance(t, func(t *testing.T) backuptest.AnyStorage {
				return openStore(t, configOf(server, bucket()), versioned)
			})
		})
	}
}

// A bucket that is there, one that is not, one that may not be used and a server that is not there are told apart.
func TestCheckBucket(t *testing.T) {
	server := startServer(t, false)
	good := configOf(server, "vault")
	openStore(t, good, false)
	absent, foreign, nobody, nowhere := good, good, good, good
	absent.Bucket, foreign.SecretKey, nobody.Endpoint, nowhere.Endpoint = "none", "wrong", "http://127.0.0.1:1", "http://minio.invalid"
	for name, c := range map[string]struct {
		config s3store.Config
		want   backup.Kind
	}{"there": {good, ""}, "absent": {absent, backup.NotFound}, "wrong key": {foreign, backup.StorageRefused}, "nobody": {nobody, backup.StorageUnavailable}, "no address": {nowhere, backup.StorageUnavailable}} {
		store, err := s3store.Open(t.Context(), c.config)
		if err != nil {
			t.Fatal(err)
		}
		err = store.CheckBucket(t.Context())
		if (err == nil) != (c.want == "") || (err != nil && !backup.Is(err, c.want)) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && (strings.Contains(err.Error(), "127.0.0.1") || strings.Contains(err.Error(), "minio")) { // tenants read what became of their backups
			t.Errorf("%s tells where the storage is: %v", name, err)
		}
	}
}

// Delete markers go with the versions that they hide.
func TestDeleteMarkersAreDeleted(t *testing.T) {
	server := startServer(t, true)
	store := openStore(t, configOf(server, "vault"), true)
	if err := store.Put(t.Context(), "a/b", "text/plain", []byte("content")); err != nil {
		t.Fatal(err)
	}
	mark(t, server, "vault", "a/b")
	if _, err := store.Head(t.Context(), "a/b"); !backup.Is(err, backup.NotFound) {
		t.Fatalf("under a delete marker: %v", err)
	}
	if n, err := store.DeleteObjects(t.Context(), "a/", nil); n != 2 || err != nil {
		t.Fatalf("removed %d, %v, want the version and the marker", n, err)
	}
	if n, err := store.DeleteObjects(t.Context(), "a/", nil); n != 0 || err != nil {
		t.Fatalf("removed %d, %v more", n, err)
	}
}

// mark deletes without naming a version, as somebody at the bucket's console would.
func mark(t *testing.T, server *versitygw.Server, bucket, key string) {
	t.Helper()
	client := s3.New(s3.Options{
		BaseEndpoint: aws.String(server.Endpoint()), Region: versitygw.Region, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(server.Credentials().AccessKey, server.Credentials().SecretKey, ""),
	})
	if _, err := client.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: &key}); err != nil {
		t.Fatal(err)
	}
}

// A server that keeps no versions is told apart from one that fails.
func TestEnsureBucketWithoutVersions(t *testing.T) {
	server := startServer(t, false)
	store, err := s3store.Open(t.Context(), configOf(server, "vault"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if on, err := store.EnsureBucket(t.Context(), true); on || err != nil {
			t.Fatalf("EnsureBucket: versioning %v, %v", on, err)
		}
	}
}
