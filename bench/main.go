// Command bench compares Sitevault's upload path with rclone copyurl and aws s3 cp: each pulls the same export from a
// loopback provider and stores it in the same versitygw, in turn, round by round. It then counts small jobs a second
// through API, state machine and store, and measures the memory over many wide jobs. Figures are per process as the kernel
// accounts them; nothing passes or fails.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/sitevault/sitevault/internal/s3store"
	"github.com/sitevault/sitevault/internal/versitygw"
)

const (
	gib    = int64(1) << 30
	bucket = "bench"
)

type settings struct {
	bin    string
	sizes  []int64
	rounds int
	jobs   int
	wide   int
}

func main() {
	bin := flag.String("bin", "bin", "folder with sitevault, versitygw and rclone")
	sizes := flag.String("gib", "1,10", "export sizes in GiB")
	rounds := flag.Int("rounds", 3, "rounds for each size")
	jobs := flag.Int("jobs", 2000, "small jobs; 0 leaves that table out")
	wide := flag.Int("wide", 16, "jobs at a time of as many parallel ranges as a site may have; 0 leaves that table out")
	serve := flag.String("serve", "", "internal: serve an export of this many bytes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	if *serve != "" {
		err = serveExport(ctx, *serve)
	} else {
		err = run(ctx, *bin, *sizes, settings{rounds: *rounds, jobs: *jobs, wide: *wide})
	}
	stop()
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin, sizes string, s settings) (err error) {
	if s.bin, err = filepath.Abs(bin); err != nil {
		return err
	}
	for word := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.ParseInt(word, 10, 64)
		if err != nil || n < 0 {
			return fmt.Errorf("-gib %q: want whole numbers such as 1,10", sizes)
		}
		if n > 0 {
			s.sizes = append(s.sizes, n*gib)
		}
	}
	dir, err := os.MkdirTemp("", "sitevault-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	store, err := startStorage(ctx, s.bin, dir)
	if err != nil {
		return err
	}
	defer store.Close()
	for _, size := range s.sizes {
		if err := compare(ctx, s, store, dir, size); err != nil {
			return err
		}
	}
	if s.wide > 0 {
		if err := wideJobs(ctx, s, store, dir); err != nil {
			return err
		}
	}
	if s.jobs > 0 {
		return smallJobs(ctx, s, store, dir)
	}
	return nil
}

// storage is the S3 server that every peer writes into.
type storage struct {
	*versitygw.Server
	objects   *s3store.Store
	awsConfig string
}

func startStorage(ctx context.Context, bin, dir string) (*storage, error) {
	server, err := versitygw.Start(ctx, versitygw.Config{Binary: filepath.Join(bin, "versitygw"), Dir: filepath.Join(dir, "s3"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	key := server.Credentials()
	objects, err := s3store.Open(ctx, s3store.Config{
		Endpoint: server.Endpoint(), Region: versitygw.Region, Bucket: bucket, AccessKey: key.AccessKey, SecretKey: key.SecretKey, PathStyle: true,
	})
	if err == nil {
		_, err = objects.EnsureBucket(ctx, false)
	}
	if err != nil {
		return nil, errors.Join(err, server.Close())
	}
	awsConfig := filepath.Join(dir, "aws-config")
	if err := os.WriteFile(awsConfig, []byte(awsSettings), 0o600); err != nil {
		return nil, errors.Join(err, server.Close())
	}
	return &storage{server, objects, awsConfig}, nil
}

// awsSettings give the AWS client parts of Sitevault's size. With its own 8 MiB, as with rclone's 5 MiB, 10 GiB are more
// parts than the S3 server can keep on ext4 (see versitygw.MaxParts).
const awsSettings = "[default]\ns3 =\n  multipart_chunksize = 16MB\n"

// environment lets any S3 client find the server and cut the export into parts of the same size.
func (s *storage) environment() []string {
	key := s.Credentials()
	return append(os.Environ(),
		"AWS_ACCESS_KEY_ID="+key.AccessKey, "AWS_SECRET_ACCESS_KEY="+key.SecretKey, "AWS_REGION="+versitygw.Region,
		"AWS_DEFAULT_REGION="+versitygw.Region, "AWS_EC2_METADATA_DISABLED=true",
		"RCLONE_CONFIG=", "RCLONE_S3_PROVIDER=Other", "RCLONE_S3_ENV_AUTH=true", "RCLONE_S3_ENDPOINT="+s.Endpoint(),
		"RCLONE_S3_REGION="+versitygw.Region, "RCLONE_S3_NO_CHECK_BUCKET=true",
		"RCLONE_S3_CHUNK_SIZE=16Mi", "AWS_CONFIG_FILE="+s.awsConfig)
}

// clear removes what a round has stored, so that the disk holds one object at a time.
func (s *storage) clear(ctx context.Context) error {
	if _, err := s.objects.AbortUploads(ctx, "", nil, nil); err != nil {
		return err
	}
	_, err := s.objects.DeleteObjects(ctx, "", nil)
	return err
}

func found(path string) bool {
	_, err := exec.LookPath(path)
	return err == nil
}
