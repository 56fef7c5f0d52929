// Package compatibility runs other S3 servers than the one that comes along, and holds the storage adapter, the trial of
// a storage and whole backups against them: `make compatibility`.
package compatibility

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/s3store"
	"github.com/sitevault/sitevault/internal/versitygw"
)

// server is a running S3 server that makes buckets.
type server struct {
	endpoint  string
	region    string
	accessKey string
	secretKey string
	create    func(t *testing.T, bucket string) // nil: by the API
	versioned bool
	lacks     []string // rules of backuptest.StorageConformance
}

// servers start each server, or skip the test where its program is not named.
var servers = map[string]func(t *testing.T) server{
	"versitygw":           func(t *testing.T) server { return startVersityGW(t, false) },
	"versitygw versioned": func(t *testing.T) server { return startVersityGW(t, true) },
	"minio":               func(t *testing.T) server { return startMinIO(t, false) },
	"minio versioned":     func(t *testing.T) server { return startMinIO(t, true) },
	"garage":              startGarage,
}

// program is the path of a server's program in the folder that the environment names.
func program(t *testing.T, name string) string {
	t.Helper()
	bin := os.Getenv("SITEVAULT_COMPATIBILITY")
	if bin == "" {
		t.Skip("other S3 servers are tried by make compatibility")
	}
	path := filepath.Join(bin, name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("%v: this server is not installed", err)
	}
	return path
}

func startVersityGW(t *testing.T, versioned bool) server {
	t.Helper()
	s, err := versitygw.Start(context.Background(), versitygw.Config{Binary: program(t, "versitygw"), Dir: t.TempDir(), Versioning: versioned})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	key := s.Credentials()
	return server{endpoint: s.Endpoint(), region: versitygw.Region, accessKey: key.AccessKey, secretKey: key.SecretKey, versioned: versioned}
}

const (
	accessKey = "GK0123456789abcdef01234567" // of the form that Garage wants
	secretKey = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

func startMinIO(t *testing.T, versioned bool) server {
	t.Helper()
	binary, address := program(t, "minio"), freeAddress(t)
	run(t, binary, []string{"MINIO_ROOT_USER=" + accessKey, "MINIO_ROOT_PASSWORD=" + secretKey, "MINIO_BROWSER=off", "MINIO_UPDATE=off"},
		"server", "--address", address, filepath.Join(t.TempDir(), "data"))
	answers(t, "http://"+address+"/minio/health/ready")
	return server{endpoint: "http://" + address, region: "us-east-1", accessKey: accessKey, secretKey: secretKey, versioned: versioned,
		lacks: []string{backuptest.OtherSizesRefused}}
}

// garageLacks are rules that Garage does not obey. None is a matter of proof: no part is ever empty, sizes are proven by
// HEAD, and where objects are replaced every file is a multipart upload under a key of its own.
var garageLacks = []string{
	backuptest.OtherSizesRefused,
	"a part of any length arrives whole",
	"short parts stand only at the end",
	"an existing object is never replaced",
	"of two completions of one key one wins",
	"a single upload never replaces another object",
}

const garageConfig = `metadata_dir = "%[1]s/meta"
data_dir = "%[1]s/data"
db_engine = "sqlite"
replication_factor = 1
rpc_bind_addr = "%[2]s"
rpc_public_addr = "%[2]s"
rpc_secret = "%[3]s"
[s3_api]
s3_region = "garage"
api_bind_addr = "%[4]s"
[admin]
api_bind_addr = "%[5]s"
`

func startGarage(t *testing.T) server {
	t.Helper()
	binary, dir := program(t, filepath.Join("cargo", "bin", "garage")), t.TempDir()
	api, admin := freeAddress(t), freeAddress(t)
	config := filepath.Join(dir, "garage.toml")
	if err := os.WriteFile(config, fmt.Appendf(nil, garageConfig, dir, freeAddress(t), secretKey, api, admin), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, binary, nil, "-c", config, "server")
	garage := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(binary, append([]string{"-c", config}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("garage %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	eventually(t, "garage answers", func() bool { return exec.Command(binary, "-c", config, "status").Run() == nil })
	node, _, _ := strings.Cut(garage("node", "id", "-q"), "@")
	garage("layout", "assign", "-z", "here", "-c", "1G", strings.TrimSpace(node))
	garage("layout", "apply", "--version", "1")
	garage("key", "import", "--yes", "-n", "sitevault", accessKey, secretKey)
	return server{endpoint: "http://" + api, region: "garage", accessKey: accessKey, secretKey: secretKey, lacks: garageLacks, create: func(t *testing.T, bucket string) {
		garage("bucket", "create", bucket)
		garage("bucket", "allow", "--read", "--write", "--owner", bucket, "--key", accessKey)
	}}
}

// run keeps a program running until the test ends.
func run(t *testing.T, binary string, environment []string, args ...string) {
	t.Helper()
	var output bytes.Buffer
	cmd := exec.Command(binary, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), environment...), &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s: %s", filepath.Base(binary), lastOf(output.Bytes(), 4000))
		}
	})
}

func lastOf(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func answers(t *testing.T, url string) {
	t.Helper()
	eventually(t, url+" answers", func() bool {
		resp, err := http.Get(url)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode == http.StatusOK
	})
}

const patience = 2 * time.Minute

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// open makes a bucket and a store on it.
func (s server) open(t *testing.T, bucket string) *s3store.Store {
	t.Helper()
	store, err := s3store.Open(t.Context(), s3store.Config{
		Bucket: bucket, Endpoint: s.endpoint, Region: s.region, PathStyle: true, AccessKey: s.accessKey, SecretKey: s.secretKey,
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.create != nil {
		s.create(t, bucket)
		return store
	}
	if on, err := store.EnsureBucket(t.Context(), s.versioned); err != nil || on != s.versioned {
		t.Fatalf("versioning %v, %v", on, err)
	}
	return store
}
