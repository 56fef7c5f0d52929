package local

import (
	"log/slog"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/httpserver"
	"github.com/sitevault/sitevault/internal/provider"
	"github.com/sitevault/sitevault/internal/s3store"
	"github.com/sitevault/sitevault/internal/transfer"
)

// Config says how the service runs on this machine. DefaultConfig fills what is seldom changed.
type Config struct {
	DataDir string // holds the database, the secrets and, unless S3 names another storage, the objects
	Listen  string // host:port; only loopback unless Issuer is set
	Limits  httpserver.Limits
	Version string
	Log     *slog.Logger
	Now     func() time.Time

	S3         S3
	VersityGW  string            // path of the program; "": found beside ours, in bin/ or in PATH
	AllowHosts []string          // exceptions from "public addresses only" for export URLs, see provider.ParseGuard
	Patience   provider.Timeouts // with exports; zero: the client's own

	Issuer   string // OIDC issuer; "": one local user
	Audience string // of its tokens
	// MetricsListen is a loopback address for /metrics; "": with the API, and with an issuer nowhere.
	MetricsListen string

	Quotas      backup.Quotas // of each user
	Policy      backup.Policy
	HangAfter   time.Duration // an export that is silent for so long keeps no place
	Executions  int           // state machine executions at work at a time, not counting those that wait for a provider or a retry
	MemoryBytes int64         // of what is on its way from providers to the storage, of all backups together
	SweepEvery  time.Duration // how often due jobs are tended
}

// S3 names a storage other than the versitygw process that is started on DataDir.
type S3 struct {
	Endpoint  string // "": start versitygw
	Region    string
	Bucket    string
	AccessKey string
	SecretKey string
	PathStyle bool
}

func (c S3) store() s3store.Config {
	return s3store.Config{
		Endpoint: c.Endpoint, Region: c.Region, Bucket: c.Bucket, AccessKey: c.AccessKey, SecretKey: c.SecretKey, PathStyle: c.PathStyle,
	}
}

// DefaultConfig is a service on a folder. A stopped execution leaves no worker behind here, but requests on their way: to put
// a large object together takes the storage as long as it takes a function to die on AWS, so that the policy is the same.
func DefaultConfig(dataDir string) Config {
	return Config{
		DataDir: dataDir, Listen: "127.0.0.1:8420", Limits: httpserver.DefaultLimits(), Now: time.Now, Log: slog.Default(),
		S3: S3{Bucket: "sitevault"}, Policy: backup.DefaultPolicy(), HangAfter: defaultHangAfter, Executions: 16, MemoryBytes: transfer.DefaultBudgetBytes, SweepEvery: 2 * time.Second,
	}
}

// reserve is the part of what users share that is for those who have none of it. One user alone needs none.
func (c Config) reserve(size int64) int64 {
	if c.Issuer == "" {
		return 0
	}
	return size / 8
}
