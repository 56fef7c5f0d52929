package s3store_test

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/sitevault/sitevault/internal/s3store"
	"github.com/sitevault/sitevault/internal/versitygw"
)

// startServer runs a real S3 server for one test or benchmark.
func startServer(tb testing.TB, versioning bool) *versitygw.Server {
	tb.Helper()
	return startConfigured(tb, versitygw.Config{Dir: tb.TempDir(), Versioning: versioning})
}

func startConfigured(tb testing.TB, c versitygw.Config) *versitygw.Server {
	tb.Helper()
	binary, err := versitygw.Find(os.Getenv("VERSITYGW"))
	if err != nil {
		tb.Skip(err)
	}
	c.Binary = binary
	s, err := versitygw.Start(tb.Context(), c)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Close() })
	return s
}

func configOf(server *versitygw.Server, bucket string) s3store.Config {
	return s3store.Config{
		Bucket: bucket, Endpoint: server.Endpoint(), Region: versitygw.Region, PathStyle: true,
		AccessKey: server.Credentials().AccessKey, SecretKey: server.Credentials().SecretKey,
	}
}

func openStore(tb testing.TB, c s3store.Config, versioned bool) *s3store.Store {
	tb.Helper()
	store, err := s3store.Open(tb.Context(), c)
	if err != nil {
		tb.Fatal(err)
	}
	if on, err := store.EnsureBucket(tb.Context(), versioned); err != nil || on != versioned {
		tb.Fatalf("EnsureBucket: versioning %v, %v, want %v", on, err, versioned)
	}
	return store
}

// bucketNames hands out a fresh bucket name with each call.
func bucketNames() func() string {
	var mu sync.Mutex
	n := 0
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		n++
		return fmt.Sprintf("vault-%d", n)
	}
}
