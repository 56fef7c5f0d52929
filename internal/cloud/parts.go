package cloud

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/dynamo"
	"github.com/sitevault/sitevault/internal/events"
	"github.com/sitevault/sitevault/internal/provider"
	"github.com/sitevault/sitevault/internal/push"
	"github.com/sitevault/sitevault/internal/s3store"
	"github.com/sitevault/sitevault/internal/schedule"
	"github.com/sitevault/sitevault/internal/step"
	"github.com/sitevault/sitevault/internal/stepfunctions"
	"github.com/sitevault/sitevault/internal/telemetry"
)

// Store reads TABLE and QUOTAS.
func (s *Service) Store() *dynamo.Store {
	return dynamo.New(dynamodb.NewFromConfig(s.config), s.Settings.Text("TABLE"), s.Now, jitter).WithQuotas(s.Quotas())
}

// Quotas reads QUOTAS, the JSON of a backup.Quotas.
func (s *Service) Quotas() (q backup.Quotas) {
	if text := s.Settings.Text("QUOTAS"); text != "" { // Settings.Err says so
		s.check(json.Unmarshal([]byte(text), &q))
	}
	return q
}

// Storage reads BUCKET and, where S3 is somebody else's, S3_ENDPOINT and S3_PATH_STYLE.
func (s *Service) Storage(ctx context.Context) *s3store.Store {
	c := s3store.Config{
		Bucket: s.Settings.Text("BUCKET"), Endpoint: s.Settings.Optional("S3_ENDPOINT"), PathStyle: s.Settings.Flag("S3_PATH_STYLE"),
		Region: s.config.Region, APIOptions: s.config.APIOptions,
	}
	if c.Bucket == "" {
		return nil // Settings.Err says so
	}
	return part(s, "storage", func() (*s3store.Store, error) { return s3store.Open(ctx, c) })
}

// Uploads is the storage as a worker uses it, its answers measured.
func (s *Service) Uploads(storage *s3store.Store) step.Uploader {
	return telemetry.Uploads(storage, s.Metrics, time.Now)
}

// Exports reads SECRET_PREFIX, SERVICE_VERSION and, optionally, ALLOW_HOSTS.
func (s *Service) Exports() step.Exporter {
	guard := part(s, "ALLOW_HOSTS", func() (*provider.Guard, error) { return provider.ParseGuard(s.Settings.List("ALLOW_HOSTS")) })
	secrets := provider.NewSecretsManager(secretsmanager.NewFromConfig(s.config), s.Settings.Text("SECRET_PREFIX"), s.Now)
	client := provider.New(provider.Config{Guard: guard, Secrets: secrets, UserAgent: "Sitevault/" + s.Version(), Now: s.Now, Log: s.Log})
	return telemetry.Exports(client, s.Metrics, s.Trace, time.Now)
}

// Version reads SERVICE_VERSION.
func (s *Service) Version() string { return s.Settings.Text("SERVICE_VERSION") }

// Executions reads STATE_MACHINE_ARN.
func (s *Service) Executions() *stepfunctions.Executions {
	arn := s.Settings.Text("STATE_MACHINE_ARN")
	if arn == "" {
		return nil // Settings.Err says so
	}
	return part(s, "STATE_MACHINE_ARN", func() (*stepfunctions.Executions, error) {
		return stepfunctions.New(sfn.NewFromConfig(s.config), arn)
	})
}

// Schedules reads SCHEDULE_GROUP, DAILY_RUN_ARN, SCHEDULE_ROLE_ARN and SCHEDULE_DLQ_ARN.
func (s *Service) Schedules() step.Schedules {
	return schedule.EventBridge{
		Client: scheduler.NewFromConfig(s.config), Group: s.Settings.Text("SCHEDULE_GROUP"),
		Target: s.Settings.Text("DAILY_RUN_ARN"), Role: s.Settings.Text("SCHEDULE_ROLE_ARN"), DeadLetters: s.Settings.Text("SCHEDULE_DLQ_ARN"),
	}
}

// SocketURL reads SOCKET_ENDPOINT, the address for calls to sockets, at which clients open theirs.
func (s *Service) SocketURL() string {
	return strings.Replace(s.Settings.Text("SOCKET_ENDPOINT"), "http", "ws", 1)
}

// Policy reads JOB_TIMEOUT, FAILED_KEEP and RETRY_WINDOW.
func (s *Service) Policy() backup.Policy {
	p := backup.DefaultPolicy()
	p.JobTimeout, p.FailedKeep, p.RetryWindow = s.Settings.Duration("JOB_TIMEOUT"), s.Settings.Duration("FAILED_KEEP"), s.Settings.Duration("RETRY_WINDOW")
	return p
}

// Cleaner is composed of the parts that the function has already. Functions that the state machine itself calls, or
// that hear of its end, stop no executions and pass nil: they could not name the machine that names them.
func (s *Service) Cleaner(store *dynamo.Store, storage *s3store.Store, executions step.Executions) step.Cleaner {
	return step.Cleaner{Jobs: store, Files: store, Storage: storage, Executions: executions, Policy: s.Policy(), Now: s.Now}
}

// Backups are the use cases of the API's writes and of the daily runs.
func (s *Service) Backups(store *dynamo.Store, executions step.Executions, cleaner step.Cleaner) step.Backups {
	return step.Backups{
		Jobs: store, Sites: store, Executions: executions, Cleaner: cleaner, Policy: cleaner.Policy, Now: s.Now, NewID: s.NewID, Log: s.Log,
	}
}

// Status are the use cases of the API's reads.
func (s *Service) Status(store *dynamo.Store) step.Status {
	return step.Status{Jobs: store, Files: store, Now: s.Now}
}

// Bus reads EVENT_BUS.
func (s *Service) Bus() events.Bus {
	return events.Bus{Client: eventbridge.NewFromConfig(s.config), Name: s.Settings.Text("EVENT_BUS")}
}

// Gateway reads SOCKET_ENDPOINT.
func (s *Service) Gateway() push.Gateway {
	endpoint := s.Settings.URL("SOCKET_ENDPOINT")
	return push.Gateway{Client: apigatewaymanagementapi.NewFromConfig(s.config, func(o *apigatewaymanagementapi.Options) {
		o.BaseEndpoint = &endpoint
	})}
}
