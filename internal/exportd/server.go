// Package exportd is the server of the reference provider: it serves a site's folder and database as zip archives over
// the export contract of docs/provider-api.md. Each backup job reads one pinned snapshot, spooled to disk once and
// served from there byte for byte the same until it expires, also across a restart.
package exportd

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/sitevault/sitevault/internal/httpserver"
)

const (
	// DefaultKeepFor outlasts a whole job: a job lives at most 6 h, so a snapshot touched at any moment of it is still
	// there when the job ends, with an hour left for a retry.
	DefaultKeepFor = 7 * time.Hour
	// DefaultShareFor is how long requests without a Backup-Id are given the same snapshot.
	DefaultShareFor = 5 * time.Minute
	// DefaultMaxSnapshots holds two jobs of several exports at once.
	DefaultMaxSnapshots = 16

	sweepEvery = time.Minute
)

// Source is what an export serves. Snapshot writes one whole zip archive of the present content to w and returns nil
// only when the archive is complete: a file or table that could not be read is an error that names it, never a hole.
// Content that has not changed should give the same bytes again, so that an interrupted job can go on. Snapshot is never
// run twice at the same time for one export.
type Source interface {
	Snapshot(ctx context.Context, w io.Writer) (Report, error)
}

// Report says what a finished snapshot holds and what it could not hold.
type Report struct {
	Entries  int // entries in the archive, directories included
	Special  int // sockets, pipes and devices, which no archive can carry
	Vanished int // removed by the site between listing and reading
	Changed  int // written by the site while being read; the archive has the bytes that were read
	Excluded int // left out by an exclude pattern; a directory counts once
	Notes    []string
}

// maxNotes bounds Report.Notes, which only illustrate the counts.
const maxNotes = 10

func (r *Report) note(format string, args ...any) {
	if len(r.Notes) < maxNotes {
		r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
	}
}

// Config is what New needs. Zero values mean the defaults named above, except where a comment says otherwise.
type Config struct {
	Exports      map[string]Source // by the name in the URL: "files" is served at /files
	Dir          string            // holds the snapshots; private to one server, created if absent, never inside an exported folder
	Token        string            // bearer token; empty: requests are checked by httpserver.LocalOnly, for a loopback listener
	KeepFor      time.Duration     // a snapshot is dropped this long after its last use
	ShareFor     time.Duration
	MaxBytes     int64 // bound on all snapshots together; 0: the disk is the bound
	MaxSnapshots int
	Now          func() time.Time
	Log          *slog.Logger
}

// exportName keeps export names usable as a URL segment and as the head of a file name.
var exportName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}$`)

const healthPath = "/healthz"

func (c *Config) complete() error {
	c.KeepFor = orDefault(c.KeepFor, DefaultKeepFor)
	c.ShareFor = orDefault(c.ShareFor, DefaultShareFor)
	c.MaxSnapshots = orDefault(c.MaxSnapshots, DefaultMaxSnapshots)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Dir == "" {
		return errors.New("no snapshot folder is set")
	}
	if len(c.Exports) == 0 {
		return errors.New("nothing to export")
	}
	for name := range c.Exports {
		if !exportName.MatchString(name) || "/"+name == healthPath {
			return fmt.Errorf("export name %q: want lower-case letters, digits and hyphens, at most 40", name)
		}
	}
	return nil
}

func orDefault[T int | time.Duration](v, standard T) T {
	if v <= 0 {
		return standard
	}
	return v
}

// Server is the http.Handler of the export contract. The http.Server around it sets the connection's timeouts.
type Server struct {
	config   Config
	turns    map[string]chan struct{} // by export: one snapshot at a time
	starts   chan *snapshot
	stop     context.CancelFunc
	stopping <-chan struct{}
	stopped  chan struct{}
	lock     io.Closer

	mu     sync.Mutex
	held   map[string]*snapshot // by stem, in every state
	shared map[string]*snapshot // by export: the newest one taken without a Backup-Id
	bytes  int64                // of all held snapshots, growing ones included
}

var _ http.Handler = (*Server)(nil)

// New takes over config.Dir: snapshots of an earlier run are served on, leftovers of a crash are removed. It fails when
// another server holds the folder. Cancelling ctx does what Close does, without waiting.
func New(ctx context.Context, config Config) (*Server, error) {
	if err := config.complete(); err != nil {
		return nil, fmt.Errorf("export server: %w", err)
	}
	if err := prepareDir(config); err != nil {
		return nil, fmt.Errorf("export server: %w", err)
	}
	lock, err := lockDir(config.Dir)
	if err != nil {
		return nil, fmt.Errorf("export server: %w", err)
	}
	s := &Server{
		config: config, lock: lock,
		turns: make(map[string]chan struct{}), starts: make(chan *snapshot), stopped: make(chan struct{}),
		held: make(map[string]*snapshot), shared: make(map[string]*snapshot),
	}
	for name := range config.Exports {
		s.turns[name] = make(chan struct{}, 1)
	}
	if err := s.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("export server: %w", err), lock.Close())
	}
	ctx, s.stop = context.WithCancel(ctx)
	s.stopping = ctx.Done()
	go s.run(ctx)
	return s, nil
}

// prepareDir makes the snapshot folder, readable by nobody else, and refuses one that an export would publish.
func prepareDir(config Config) error {
	there, err := nearest(config.Dir)
	if err != nil {
		return fmt.Errorf("snapshot folder: %w", err)
	}
	for name, source := range config.Exports {
		folder, ok := source.(*folder)
		if !ok {
			continue
		}
		inside, err := folder.contains(there)
		if err != nil {
			return fmt.Errorf("export %s: %w", name, err)
		}
		if inside {
			return fmt.Errorf("snapshot folder %s lies inside the exported folder %s: every snapshot would hold the ones before it, "+
				"and visitors of the site might download them", config.Dir, folder.root)
		}
	}
	if err := os.MkdirAll(config.Dir, 0o700); err != nil {
		return fmt.Errorf("make snapshot folder: %w", err)
	}
	return nil
}

// nearest is dir, or the folder above it in which it would be made.
func nearest(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			return dir, err
		}
		dir = filepath.Dir(dir)
	}
}

// run owns all background work, so that Close can wait for it.
func (s *Server) run(ctx context.Context) {
	defer close(s.stopped)
	var work sync.WaitGroup
	defer work.Wait()
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	for {
		select {
		case sn := <-s.starts:
			work.Go(func() { s.prepare(ctx, sn) })
		case <-sweep.C:
			s.sweep()
		case <-ctx.Done():
			return
		}
	}
}

// Close stops snapshots that are being made, removes their temporary files and waits until that is done. Finished
// snapshots stay on disk for the next server. It may be called more than once.
func (s *Server) Close() error {
	s.stop()
	<-s.stopped
	if err := s.lock.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("release snapshot folder: %w", err)
	}
	return nil
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := http.Handler(http.HandlerFunc(s.answer))
	if s.config.Token == "" {
		answer = httpserver.LocalOnly(answer)
	}
	answer.ServeHTTP(w, r)
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	if err := s.route(w, r); err != nil {
		writeProblem(w, err)
	}
}

func (s *Server) route(w http.ResponseWriter, r *http.Request) error {
	health := r.URL.Path == healthPath
	if !health && !s.authorised(r) {
		return &refusal{status: http.StatusUnauthorized, detail: "this export needs the agent's bearer token"}
	}
	name := strings.TrimPrefix(r.URL.Path, "/")
	if _, ok := s.config.Exports[name]; !ok && !health {
		return &refusal{status: http.StatusNotFound, detail: "no export has this path"}
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return &refusal{status: http.StatusMethodNotAllowed, detail: "an export is only read, by GET or HEAD"}
	}
	if health {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, err := io.WriteString(w, "ok\n")
		return err
	}
	return s.export(w, r, name)
}

// authorised compares digests, so that neither the token's content nor its length shows in the time taken.
func (s *Server) authorised(r *http.Request) bool {
	if s.config.Token == "" {
		return true
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	got, want := sha256.Sum256([]byte(strings.TrimLeft(token, " "))), sha256.Sum256([]byte(s.config.Token))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(got[:], want[:]) == 1
}
