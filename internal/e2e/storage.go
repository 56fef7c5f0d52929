package e2e

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/sitevault/sitevault/internal/local"
	"github.com/sitevault/sitevault/internal/s3quirks"
	"github.com/sitevault/sitevault/internal/versitygw"
)

const bucket = "backups"

// Storage is a bucket with versions on a versitygw process of its own, behind a gate.
type Storage struct {
	*Gate
	local.S3 // through the gate
	direct   *s3.Client
	dir      string // of the server
}

// VersityGW is the path of the program; without it the test is skipped.
func VersityGW(tb testing.TB) string {
	tb.Helper()
	binary, err := versitygw.Find(os.Getenv("VERSITYGW"))
	if err != nil {
		tb.Skip(err)
	}
	return binary
}

// NewStorage starts a storage and stops it with the test.
func NewStorage(tb testing.TB) *Storage {
	tb.Helper()
	dir := tb.TempDir()
	server, err := versitygw.Start(context.Background(), versitygw.Config{Binary: VersityGW(tb), Dir: dir, Versioning: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { server.Close() })
	key := server.Credentials()
	gate := newGate(tb, proxy(tb, server.Endpoint()))
	s := &Storage{
		Gate: gate, direct: client(server.Endpoint(), key), dir: dir,
		S3: local.S3{Endpoint: gate.front, Bucket: bucket, AccessKey: key.AccessKey, SecretKey: key.SecretKey, PathStyle: true},
	}
	s.createBucket(tb)
	return s
}

// proxy forwards requests to the endpoint.
func proxy(tb testing.TB, endpoint string) http.Handler {
	target, err := url.Parse(endpoint)
	if err != nil {
		tb.Fatal(err)
	}
	return s3quirks.Forward(tb, target)
}

func client(endpoint string, key versitygw.Credentials) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: &endpoint, Region: versitygw.Region, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(key.AccessKey, key.SecretKey, ""),
	})
}

func (s *Storage) createBucket(tb testing.TB) {
	tb.Helper()
	_, err := s.direct.CreateBucket(tb.Context(), &s3.CreateBucketInput{Bucket: aws.String(bucket)})
	if err == nil {
		_, err = s.direct.PutBucketVersioning(tb.Context(), &s3.PutBucketVersioningInput{
			Bucket:                  aws.String(bucket),
			VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
		})
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// Contents is all that the bucket holds, by key and in order, past versions and unfinished uploads included.
type Contents struct {
	Versions []string
	Markers  []string
	Uploads  []string
}

// Empty tells whether nothing is there that anybody would be charged for.
func (c Contents) Empty() bool { return len(c.Versions)+len(c.Markers)+len(c.Uploads) == 0 }

// Contents lists the bucket, not through the gate.
func (s *Storage) Contents(tb testing.TB) (c Contents) {
	tb.Helper()
	versions, err := s.direct.ListObjectVersions(context.Background(), &s3.ListObjectVersionsInput{Bucket: aws.String(bucket)})
	if err != nil {
		tb.Fatal(err)
	}
	uploads, err := s.direct.ListMultipartUploads(context.Background(), &s3.ListMultipartUploadsInput{Bucket: aws.String(bucket)})
	if err != nil {
		tb.Fatal(err)
	}
	if aws.ToBool(versions.IsTruncated) || aws.ToBool(uploads.IsTruncated) {
		tb.Fatal("the bucket holds more than a test expects")
	}
	for _, v := range versions.Versions {
		c.Versions = append(c.Versions, *v.Key)
	}
	for _, m := range versions.DeleteMarkers {
		c.Markers = append(c.Markers, *m.Key)
	}
	for _, u := range uploads.Uploads {
		c.Uploads = append(c.Uploads, *u.Key)
	}
	slices.Sort(c.Versions)
	return c
}

// OnlyBackup fails the test unless the bucket holds exactly one version of each file's object, the manifest, and nothing
// else. A manifest may have been written twice, which leaves a past version of it.
func (s *Storage) OnlyBackup(tb testing.TB, jobID string, files ...string) {
	tb.Helper()
	c := s.Contents(tb)
	c.Versions = slices.CompactFunc(c.Versions, func(a, b string) bool { return a == b && strings.HasSuffix(a, "/manifest.json") })
	if len(c.Versions) != len(files)+1 || len(c.Markers)+len(c.Uploads) != 0 {
		tb.Errorf("the bucket holds %+v", c)
		return
	}
	for _, f := range append(files, "manifest.json") {
		if !slices.ContainsFunc(c.Versions, func(key string) bool { return strings.Contains(key, "/"+jobID+"/"+f) }) {
			tb.Errorf("no object of %s of job %s: %+v", f, jobID, c)
		}
	}
}

// Empties waits until the bucket holds nothing at all, neither for the API nor on the disk.
func (s *Storage) Empties(tb testing.TB) {
	tb.Helper()
	var c Contents
	var files []string
	defer func() {
		if tb.Failed() {
			tb.Logf("the bucket holds %+v, the disk %q", c, files)
		}
	}()
	Eventually(tb, "the bucket is empty", func() bool {
		c, files = s.Contents(tb), FilesOf(tb, s.dir)
		return c.Empty() && len(files) == 0
	})
}

// FilesOf lists what takes room on the disk of the S3 server in a folder.
func FilesOf(tb testing.TB, dir string) (files []string) {
	tb.Helper()
	for _, folder := range []string{"objects", "versions"} {
		err := filepath.WalkDir(filepath.Join(dir, folder), func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // removed while we looked
			}
			if err == nil && takesRoom(entry) {
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			tb.Fatal(err)
		}
	}
	return files
}

// Object reads a small object.
func (s *Storage) Object(tb testing.TB, key string) []byte {
	tb.Helper()
	out, err := s.direct.GetObject(tb.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: &key})
	if err != nil {
		tb.Fatal(err)
	}
	defer out.Body.Close()
	return readAll(tb, out.Body)
}

// takesRoom leaves out the server's lock files, which are empty.
func takesRoom(entry fs.DirEntry) bool {
	info, err := entry.Info()
	return err == nil && info.Mode().IsRegular() && info.Size() > 0
}

// Put stores an object beside the service's back.
func (s *Storage) Put(tb testing.TB, key, content string) {
	tb.Helper()
	_, err := s.direct.PutObject(context.Background(), &s3.PutObjectInput{Bucket: aws.String(bucket), Key: &key, Body: strings.NewReader(content)})
	if err != nil {
		tb.Fatal(err)
	}
}
