// Package local composes the whole service in one process: the same state machine, steps, API and rules as on AWS, on
// an embedded store, an S3 server on a folder, an in-process clock and an in-process hub.
package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/asl"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/fair"
	"github.com/sitevault/sitevault/internal/httpserver"
	"github.com/sitevault/sitevault/internal/identity"
	"github.com/sitevault/sitevault/internal/provider"
	"github.com/sitevault/sitevault/internal/push"
	"github.com/sitevault/sitevault/internal/rate"
	"github.com/sitevault/sitevault/internal/s3store"
	"github.com/sitevault/sitevault/internal/schedule"
	"github.com/sitevault/sitevault/internal/sqlite"
	"github.com/sitevault/sitevault/internal/step"
	"github.com/sitevault/sitevault/internal/telemetry"
	"github.com/sitevault/sitevault/internal/telemetry/metric"
	"github.com/sitevault/sitevault/internal/versitygw"
	"github.com/sitevault/sitevault/statemachine"
)

// Service is the running service.
type Service struct {
	config        Config
	listener      *httpserver.Listener
	server        *http.Server
	metricsServer *metricsServer // nil without an address of its own
	store         *sqlite.Store
	storage       *s3store.Store
	gateway       *versitygw.Server // nil with a storage of the operator's own
	trust         *trust            // in that storage; nil with the gateway
	exports       *provider.Client
	secrets       provider.SecretDir
	status        step.Status
	hub           *push.Hub
	metrics       *telemetry.Registry
	executions    *executions
	cleaner       step.Cleaner
	backups       step.Backups
	sweep         step.Sweep
	clock         schedule.Clock
}

// Open starts everything but the service itself; Serve then runs it and Close ends it. On an error nothing is left.
func Open(ctx context.Context, c Config) (_ *Service, err error) {
	s := &Service{config: c, metrics: telemetry.NewRegistry(c.Log)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := s.openSecrets(); err != nil {
		return nil, err
	}
	if err := s.listen(); err != nil {
		return nil, err
	}
	// The store's lock keeps a second service from the folder, and with it from our S3 server's files.
	if err := s.openStore(); err != nil {
		return nil, err
	}
	if err := s.openStorage(ctx); err != nil {
		return nil, err
	}
	if err := s.openExports(); err != nil {
		return nil, err
	}
	if err := s.openSteps(); err != nil {
		return nil, err
	}
	if err := s.openAPI(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// openSecrets makes the folder, and looks at its modes before anything is started.
func (s *Service) openSecrets() error {
	dir := filepath.Join(s.config.DataDir, "secrets")
	if err := os.MkdirAll(filepath.Join(dir, backup.LocalUser), 0o700); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	s.secrets = provider.SecretDir(dir)
	if err := s.secrets.Check(); err != nil {
		return fmt.Errorf("secrets: %w", err)
	}
	return nil
}

func (s *Service) listen() (err error) {
	if s.listener, err = httpserver.Listen(s.config.Listen, s.config.Limits, s.config.Log); err != nil {
		return err
	}
	if s.config.Issuer == "" && !s.listener.Loopback() {
		return fmt.Errorf("listen on %s: without an OIDC issuer anybody who reaches it could read every backup; use a loopback address or set --issuer", s.listener.Addr())
	}
	if s.config.MetricsListen != "" {
		return s.listenForMetrics()
	}
	return nil
}

func (s *Service) openStorage(ctx context.Context) (err error) {
	c := s.config.S3.store()
	if c.Endpoint == "" {
		if c, err = s.startGateway(ctx, c.Bucket); err != nil {
			return err
		}
	}
	if s.storage, err = s3store.Open(ctx, c); err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	if s.gateway == nil {
		s.trust = s.newTrust()
		return s.trust.atStart(ctx)
	}
	s.storage.ListsByPrefix()
	if _, err := s.storage.EnsureBucket(ctx, false); err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	return nil
}

func (s *Service) startGateway(ctx context.Context, bucket string) (s3store.Config, error) {
	binary, err := versitygw.Find(s.config.VersityGW)
	if err != nil {
		return s3store.Config{}, err
	}
	s.gateway, err = versitygw.Start(ctx, versitygw.Config{Binary: binary, Dir: filepath.Join(s.config.DataDir, "s3"), Log: s.config.Log})
	if err != nil {
		return s3store.Config{}, fmt.Errorf("start the S3 server: %w", err)
	}
	key := s.gateway.Credentials()
	return s3store.Config{
		Endpoint: s.gateway.Endpoint(), Region: versitygw.Region, Bucket: bucket, AccessKey: key.AccessKey, SecretKey: key.SecretKey, PathStyle: true,
	}, nil
}

func (s *Service) openExports() error {
	guard, err := provider.ParseGuard(s.config.AllowHosts)
	if err != nil {
		return err
	}
	s.exports = provider.New(provider.Config{
		Guard: guard, Secrets: s.secrets, Timeouts: s.config.Patience, UserAgent: "Sitevault/" + s.config.Version, Now: s.config.Now, Log: s.config.Log,
	})
	return nil
}

func (s *Service) openStore() (err error) {
	path := filepath.Join(s.config.DataDir, "sitevault.db")
	s.store, err = sqlite.Open(path, sqlite.Options{OnChange: s.changed, Quotas: s.config.Quotas})
	if err != nil {
		return err
	}
	s.status = step.Status{Jobs: s.store, Files: s.store, Now: s.now}
	s.hub = push.NewHub(s.status.Read)
	return nil
}

func (s *Service) openSteps() (err error) {
	log, policy := s.config.Log, s.config.Policy
	s.executions = newExecutions(fair.NewRoom(s.config.Executions, int(s.config.reserve(int64(s.config.Executions)))), log)
	s.cleaner = step.Cleaner{Jobs: s.store, Files: s.store, Storage: s.storage, Executions: s.executions, Policy: policy, Now: s.now}
	s.backups = step.Backups{
		Jobs: s.store, Sites: s.store, Executions: s.executions, Cleaner: s.cleaner, Policy: policy, Now: s.now, NewID: s.newID, Log: log,
	}
	s.sweep = step.Sweep{Jobs: s.store, Executions: s.executions, Cleaner: s.cleaner, Policy: policy, Now: s.now}
	s.clock = schedule.Clock{Sites: s.store.AllSites, Run: s.runDaily, Now: s.now, Log: log}
	s.executions.ended = s.executionEnded
	s.executions.machine, err = asl.Load(statemachine.Backup, s.handlers())
	if err != nil {
		return fmt.Errorf("statemachine/backup.asl.json: %w", err)
	}
	return nil
}

func (s *Service) openAPI(ctx context.Context) error {
	identify := identity.OneUser(backup.LocalUser)
	if s.config.Issuer != "" {
		var err error
		if identify, err = identity.OIDC(ctx, s.config.Issuer, s.config.Audience, s.config.Now); err != nil {
			return err
		}
	}
	mux := http.NewServeMux()
	mux.Handle("/", api.New(api.Config{
		Backups: s.backups, Sites: step.Sites{Store: s.store, Schedules: s.clock, Now: s.now}, Status: s.status,
		Objects: s.storage, Tickets: s.store, Identify: identify, Admit: rate.New(s.config.Quotas.Requests, s.config.Now).Admit, Secret: rand.Text, Now: s.now, Version: s.config.Version, Log: s.config.Log,
	}))
	sockets, closeSockets := context.WithCancel(context.Background())
	mux.Handle("/ws", until(sockets, push.Socket{Hub: s.hub, Status: s.status, Quotas: s.config.Quotas, Take: s.takeTicket, Now: s.config.Now, Log: s.config.Log}))
	s.server = httpserver.New(s.guarded(mux), s.config.Log)
	s.server.RegisterOnShutdown(closeSockets)
	return nil
}

// guarded answers without sign-in what only this machine may ask for. With it anybody may connect, and a proxy on this machine
// looks like this machine: the numbers, which are those of all users together, then have a listener of their own or none.
func (s *Service) guarded(mux *http.ServeMux) http.Handler {
	if s.config.Issuer != "" {
		return mux
	}
	mux.Handle("GET /metrics", s.metrics)
	return httpserver.LocalOnly(mux)
}

// until ends the requests of next with the service as well: net/http leaves sockets to their handlers.
func until(service context.Context, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(service, cancel)()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func (s *Service) takeTicket(ctx context.Context, ticket string) (backup.Ticket, error) {
	return s.store.TakeTicket(ctx, backup.TicketDigest(ticket), s.now())
}

// now has the resolution of the rows.
func (s *Service) now() time.Time { return s.config.Now().UTC().Truncate(time.Millisecond) }

func (s *Service) newID() string {
	return ulid.MustNew(ulid.Timestamp(s.config.Now()), rand.Reader).String()
}

func (s *Service) runDaily(ctx context.Context, site backup.Site, due time.Time) error {
	_, _, err := s.backups.RunDaily(ctx, site.UserID, site.SiteID, due)
	return err
}

// executionEnded tells the end of an execution that could not do so itself. Nobody else would before the job's deadline, so
// that it waits for a store that is away.
func (s *Service) executionEnded(ctx context.Context, jobID string, attempt int, r asl.Result) {
	caught := step.Caught{Error: r.Error, Cause: r.Cause}
	kind := caught.Kind()
	if r.Status == asl.TimedOut {
		kind = backup.TimedOut
	}
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		err := s.cleaner.EndExecution(ctx, jobID, attempt, kind, caught.Detail())
		if err == nil || ctx.Err() != nil {
			return
		}
		s.config.Log.WarnContext(ctx, "end of execution", "jobId", jobID, "attempt", attempt, "error", err)
		if !backup.Is(err, backup.StoreUnavailable) && !backup.Is(err, backup.Conflict) {
			return // of the cleanup, which the sweeper repeats
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// Pauses between two calls of a store that is away.
const (
	firstPause = time.Second
	maxPause   = time.Minute
)

// URL is the base URL of the API.
func (s *Service) URL() string { return "http://" + s.listener.Addr().String() }

// MetricsURL is where /metrics is when it has an address of its own, else "".
func (s *Service) MetricsURL() string {
	if s.metricsServer == nil {
		return ""
	}
	return "http://" + s.metricsServer.listener.Addr().String()
}

// Serve resumes what was under way when the program last ended, and runs until ctx ends.
func (s *Service) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := s.resume(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	var loops sync.WaitGroup
	defer loops.Wait()
	defer cancel()
	loops.Go(func() { every(ctx, s.config.SweepEvery, s.sweepOnce) })
	loops.Go(func() { every(ctx, s.config.SweepEvery, s.startDue) })
	loops.Go(func() { every(ctx, sweepsToPurge*s.config.SweepEvery, s.purgeOnce) })
	loops.Go(func() { s.clock.Serve(ctx) })
	served := make(chan error, 2)
	go func() { served <- s.server.Serve(s.listener) }()
	if s.metricsServer != nil {
		loops.Go(func() {
			if err := s.metricsServer.serve(ctx); err != nil {
				served <- err
			}
		})
	}
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
		return s.shutdown()
	}
}

const shutdownTime = 5 * time.Second

func (s *Service) shutdown() error {
	s.hub.Close()
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	if err := s.server.Shutdown(ctx); err != nil {
		return s.server.Close()
	}
	return nil
}

// resume goes on with running jobs, which nobody else would. Pending ones that find no room are started by the sweeper.
func (s *Service) resume(ctx context.Context) error {
	active, err := s.store.ActiveJobs(ctx)
	if err != nil {
		return fmt.Errorf("resume: %w", err)
	}
	for _, j := range active {
		if j.WaitsToTry() && !j.Due(s.now()) {
			continue // the sweeper starts it in its time
		}
		switch err := s.executions.Start(ctx, j); {
		case err != nil && j.Status == backup.Running:
			return fmt.Errorf("resume: %w", err)
		case err == nil:
			s.config.Log.InfoContext(ctx, "resume backup", "jobId", j.JobID, "siteId", j.SiteID, "attempt", j.Attempt, "status", j.Status)
		}
	}
	return nil
}

// startDue runs beside the sweep, which may hang with the storage.
func (s *Service) startDue(ctx context.Context) {
	if err := s.sweep.StartDue(ctx); err != nil && ctx.Err() == nil {
		s.config.Log.ErrorContext(ctx, "start due backups", "error", err)
	}
}

func (s *Service) sweepOnce(ctx context.Context) {
	swept, err := s.sweep.Run(ctx)
	if err != nil && ctx.Err() == nil {
		s.config.Log.ErrorContext(ctx, "sweep", "error", err)
	}
	s.metrics.Record(ctx, metric.SweepTended.Of(float64(swept.Tended)), metric.CleanupsFailing.Of(float64(swept.CleanupsFailing)))
}

// purgeOnce is in a loop of its own: a storage that does not answer keeps nobody but this from the work.
func (s *Service) purgeOnce(ctx context.Context) {
	if _, err := s.store.Purge(ctx, s.now(), s.lastLook); err != nil && ctx.Err() == nil {
		s.config.Log.ErrorContext(ctx, "purge", "error", err)
	}
}

// every works at once and then in each interval until ctx ends.
func every(ctx context.Context, interval time.Duration, work func(context.Context)) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		work(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

const sweepsToPurge = 30 // so many sweeps come between two purges

// lastLook removes what should not be in the storage any more before nobody knows of it.
func (s *Service) lastLook(ctx context.Context, job backup.Job) error {
	files, err := s.store.Files(ctx, job.JobID)
	if err != nil {
		return err
	}
	found, err := s.cleaner.RemovePurged(ctx, job, files)
	telemetry.Strays(ctx, s.metrics, s.config.Log, job, found)
	return err
}

// Close ends everything that Open started, in the opposite order. It may be called once, also after a failed Open.
func (s *Service) Close() error {
	var errs []error
	closeIf := func(open bool, c func() error) {
		if open {
			errs = append(errs, c())
		}
	}
	if s.executions != nil {
		s.executions.Close()
	}
	if s.hub != nil {
		s.hub.Close()
	}
	if s.exports != nil {
		s.exports.Close()
	}
	closeIf(s.gateway != nil, func() error { return s.gateway.Close() })
	closeIf(s.store != nil, func() error { return s.store.Close() })
	closeIf(s.metricsServer != nil, func() error { return ignoreClosed(s.metricsServer.listener.Close()) })
	closeIf(s.listener != nil, func() error { return ignoreClosed(s.listener.Close()) })
	return errors.Join(errs...)
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

var _ io.Closer = (*Service)(nil)
