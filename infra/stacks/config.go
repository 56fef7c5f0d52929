package stacks

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/mail"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/provider"
	"github.com/sitevault/sitevault/internal/telemetry/metric"
)

// Config is how a deployment is set up. cdk.json and `cdk --context key=value` give the values; the keys are those of
// ReadConfig.
type Config struct {
	Name         string        // of the deployment: begins the names of stacks, log groups and secrets
	FailedKeep   time.Duration // a failed backup is removed after this
	RetryWindow  time.Duration // parts of a failed attempt wait this long for a retry
	JobTimeout   time.Duration // an attempt is given up after this
	Workers      int           // most ranges that are moved at the same time over all backups; 0: no limit but the account's
	Quotas       backup.Quotas // of each user
	Retain       bool          // keep bucket, table, key and users when their stack is deleted
	Issuer       string        // of OpenID Connect; "": a Cognito user pool of our own
	Audience     string        // of the issuer's tokens
	AlarmEmail   string        // "": alarms notify nobody by themselves
	Tolerated    int           // sites that may have no good backup for 26 hours without an alarm
	LogRetention int           // days, one that CloudWatch offers
	AllowHosts   []string      // addresses, blocks or names that exports may come from although they are not public
	S3Endpoint   string        // of an emulator; "": AWS
	Version      string        // of the service, in logs and traces
	AssetsDir    string        // holds <function>.zip
}

// Names are given and not made up by CloudFormation where operators type them and where the Ops stack looks at what is
// in another stack: a reference would keep the service from removing a function as long as it is watched.

func (c Config) functionName(f string) string { return c.Name + "-" + f }
func (c Config) queueName(f string) string    { return c.Name + "-" + f + "-dead-letters" }

// namespace keeps the metrics of two deployments in one account apart.
func (c Config) namespace() string {
	if c.Name == defaultName {
		return metric.Namespace
	}
	return metric.Namespace + "/" + c.Name
}

const defaultName = "sitevault"

// maxWorkers is far beyond what a typing error should ask for. What an account has only Lambda knows: it refuses to
// reserve more than its concurrent executions less 100.
// https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html (read 2026-11)
const maxWorkers = 100_000

// maxRetryWindowHours lets an upload that waits for a retry live through both attempts before the bucket's lifecycle rule
// aborts it: 6 + 12 + 6 hours are a day.
const maxRetryWindowHours = 12

// retentions are those that CloudWatch Logs offers, by their days.
// https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html (read 2026-11)
var retentions = map[int]awslogs.RetentionDays{
	1: awslogs.RetentionDays_ONE_DAY, 3: awslogs.RetentionDays_THREE_DAYS, 5: awslogs.RetentionDays_FIVE_DAYS,
	7: awslogs.RetentionDays_ONE_WEEK, 14: awslogs.RetentionDays_TWO_WEEKS, 30: awslogs.RetentionDays_ONE_MONTH,
	60: awslogs.RetentionDays_TWO_MONTHS, 90: awslogs.RetentionDays_THREE_MONTHS, 120: awslogs.RetentionDays_FOUR_MONTHS,
	150: awslogs.RetentionDays_FIVE_MONTHS, 180: awslogs.RetentionDays_SIX_MONTHS, 365: awslogs.RetentionDays_ONE_YEAR,
	400: awslogs.RetentionDays_THIRTEEN_MONTHS, 545: awslogs.RetentionDays_EIGHTEEN_MONTHS, 731: awslogs.RetentionDays_TWO_YEARS,
	1096: awslogs.RetentionDays_THREE_YEARS, 1827: awslogs.RetentionDays_FIVE_YEARS, 2192: awslogs.RetentionDays_SIX_YEARS,
	2557: awslogs.RetentionDays_SEVEN_YEARS, 2922: awslogs.RetentionDays_EIGHT_YEARS, 3288: awslogs.RetentionDays_NINE_YEARS,
	3653: awslogs.RetentionDays_TEN_YEARS,
}

var deploymentName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,19}$`)

// ReadConfig reads every setting through context, which returns nil for what is not set, and reports all that is wrong.
func ReadConfig(context func(key string) any) (Config, error) {
	r := &reader{context: context}
	c := Config{
		Name:         r.text("name", defaultName),
		FailedKeep:   time.Duration(r.number("failedKeepDays", 7, 1, backup.MaxKeepDays)) * 24 * time.Hour,
		RetryWindow:  time.Duration(r.number("retryWindowHours", 1, 1, maxRetryWindowHours)) * time.Hour,
		JobTimeout:   time.Duration(r.number("jobTimeoutHours", 6, 1, int(backup.DefaultJobTimeout/time.Hour))) * time.Hour,
		Workers:      r.number("workers", 300, 0, maxWorkers),
		Quotas:       r.quotas(),
		Retain:       r.choice("removalPolicy", "retain", "destroy") == "retain",
		Issuer:       r.text("issuer", ""),
		Audience:     r.text("audience", ""),
		AlarmEmail:   r.text("alarmEmail", ""),
		Tolerated:    r.number("toleratedSites", 0, 0, math.MaxInt32),
		LogRetention: r.number("logRetentionDays", 90, 1, math.MaxInt32),
		AllowHosts:   r.list("allowHosts"),
		S3Endpoint:   r.text("s3Endpoint", ""),
		Version:      r.text("version", "dev"),
		AssetsDir:    r.text("assets", "dist"),
	}
	r.check(c)
	return c, errors.Join(r.wrong...)
}

// reader collects what is wrong with the settings, so that one run names all of it.
type reader struct {
	context func(key string) any
	wrong   []error
}

func (r *reader) refuse(key, format string, args ...any) {
	r.wrong = append(r.wrong, fmt.Errorf("context %s: %s", key, fmt.Sprintf(format, args...)))
}

// maxQuota is far beyond what a typing error should ask for.
const maxQuota = 1_000_000_000

// quotas reads the limits of each user. All of them at 0 switch the counting off.
func (r *reader) quotas() backup.Quotas {
	preset := backup.DefaultQuotas()
	number := func(key string, preset int64) int64 { return int64(r.number(key, int(preset), 0, maxQuota)) }
	return backup.Quotas{
		Sites:        number("quotaSites", preset.Sites),
		ActiveJobs:   number("quotaActive", preset.ActiveJobs),
		Ranges:       number("quotaRanges", preset.Ranges),
		StoredBytes:  number("quotaStoredGiB", preset.StoredBytes>>30) << 30,
		FetchedBytes: number("quotaFetchedGiB", preset.FetchedBytes>>30) << 30,
		Sockets:      number("quotaSockets", preset.Sockets),
		Requests:     number("quotaRequests", preset.Requests),
	}
}

// quotas are the setting of functions.
func (c Config) quotas() string {
	text, err := json.Marshal(c.Quotas)
	if err != nil {
		panic(err) // numbers alone
	}
	return string(text)
}

func (r *reader) text(key, preset string) string {
	switch v := r.context(key).(type) {
	case nil:
		return preset
	case string:
		return strings.TrimSpace(v)
	default:
		r.refuse(key, "is a text, not %v", v)
		return preset
	}
}

func (r *reader) choice(key string, options ...string) string {
	v := r.text(key, options[0])
	if slices.Contains(options, v) {
		return v
	}
	r.refuse(key, "is one of %s, not %q", strings.Join(options, ", "), v)
	return options[0]
}

// number reads a whole number: cdk.json gives a float64, the command line a string.
func (r *reader) number(key string, preset, least, most int) int {
	var n float64
	switch v := r.context(key).(type) {
	case nil:
		return preset
	case float64:
		n = v
	case string:
		parsed, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
		if err != nil {
			r.refuse(key, "is a number from %d to %d, not %q", least, most, v)
			return preset
		}
		n = parsed
	default:
		n = math.NaN()
	}
	if n != math.Trunc(n) || n < float64(least) || n > float64(most) {
		r.refuse(key, "is a whole number from %d to %d, not %v", least, most, r.context(key))
		return preset
	}
	return int(n)
}

// list reads an array of cdk.json or a comma-separated text.
func (r *reader) list(key string) []string {
	var items []string
	switch v := r.context(key).(type) {
	case nil:
	case string:
		for item := range strings.SplitSeq(v, ",") {
			if item = strings.TrimSpace(item); item != "" {
				items = append(items, item)
			}
		}
	case []any:
		for _, item := range v {
			items = append(items, fmt.Sprint(item))
		}
	default:
		r.refuse(key, "is a list, not %v", v)
	}
	return items
}

func (r *reader) check(c Config) {
	if !deploymentName.MatchString(c.Name) || c.Name == "default" { // as EventBridge calls its own bus and group
		r.refuse("name", "is 1 to 20 lower-case letters, digits and hyphens, starting with a letter, and not default, not %q", c.Name)
	}
	if (c.Issuer == "") != (c.Audience == "") {
		r.refuse("issuer", "and audience belong together: give both, or neither for a user pool of your own")
	}
	if c.Issuer != "" && !absolute(c.Issuer, "https") {
		r.refuse("issuer", "is an https URL, not %q", c.Issuer)
	}
	if c.S3Endpoint != "" && !absolute(c.S3Endpoint, "https", "http") {
		r.refuse("s3Endpoint", "is an http or https URL, not %q", c.S3Endpoint)
	}
	if a, err := mail.ParseAddress(c.AlarmEmail); c.AlarmEmail != "" && (err != nil || a.Address != c.AlarmEmail) {
		r.refuse("alarmEmail", "is an e-mail address alone, not %q", c.AlarmEmail)
	}
	if _, offered := retentions[c.LogRetention]; !offered {
		r.refuse("logRetentionDays", "is one of %v, not %d", slices.Sorted(maps.Keys(retentions)), c.LogRetention)
	}
	if _, err := provider.ParseGuard(c.AllowHosts); err != nil {
		r.refuse("allowHosts", "%v", err)
	}
}

func absolute(raw string, schemes ...string) bool {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return false
	}
	return slices.Contains(schemes, u.Scheme)
}
