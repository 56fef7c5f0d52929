package integration_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// The account's root user, whom everything is allowed.
const (
	rootKey    = "test"
	rootSecret = "test"
)

// account is the emulated AWS account, seen by its root user.
type account struct {
	endpoint string
	config   aws.Config
}

func newAccount(endpoint string) *account {
	return &account{endpoint: endpoint, config: aws.Config{
		Region: region, BaseEndpoint: &endpoint, Credentials: credentials.NewStaticCredentialsProvider(rootKey, rootSecret, ""),
	}}
}

// environment points AWS's tools at the account.
func (a *account) environment() []string {
	return []string{
		"AWS_ENDPOINT_URL=" + a.endpoint, "AWS_REGION=" + region, "AWS_DEFAULT_REGION=" + region, "AWS_EC2_METADATA_DISABLED=true",
		"AWS_ACCESS_KEY_ID=" + rootKey, "AWS_SECRET_ACCESS_KEY=" + rootSecret, "AWS_SESSION_TOKEN=", "AWS_PROFILE=", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null",
	}
}

// json calls an action of a service with AWS's JSON protocol. target is the service's prefix and the action, as in
// Logs_20140328.FilterLogEvents. The services that are called so have no client among the project's dependencies.
func (a *account) json(t *testing.T, service, target string, in, out any) {
	t.Helper()
	header := http.Header{"Content-Type": {"application/x-amz-json-1.1"}, "X-Amz-Target": {target}}
	a.send(t, http.MethodPost, service, "/", header, marshal(t, in), func(body []byte) error { return json.Unmarshal(body, out) })
}

// rest calls a service whose actions are paths.
func (a *account) rest(t *testing.T, method, service, path string, in, out any) {
	t.Helper()
	var payload []byte
	if in != nil {
		payload = marshal(t, in)
	}
	a.send(t, method, service, path, http.Header{"Content-Type": {"application/json"}}, payload, func(body []byte) error {
		if out == nil {
			return nil
		}
		return json.Unmarshal(body, out)
	})
}

// query calls an action of a service with AWS's oldest protocol: a form that is answered in XML.
func (a *account) query(t *testing.T, service string, form url.Values, read func(body []byte) error) {
	t.Helper()
	header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	a.send(t, http.MethodPost, service, "/", header, []byte(form.Encode()), read)
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const callTime = 30 * time.Second

func (a *account) send(t *testing.T, method, service, path string, header http.Header, payload []byte, read func(body []byte) error) {
	t.Helper()
	if err := a.try(t.Context(), method, service, path, header, payload, read); err != nil {
		t.Fatalf("%s %s %s%s: %v", method, service, path, header.Get("X-Amz-Target"), err)
	}
}

func (a *account) try(ctx context.Context, method, service, path string, header http.Header, payload []byte, read func(body []byte) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, a.endpoint+path, bytes.NewReader(payload))
	if err != nil {
		return err
	}
	req.Header = header
	if err := a.sign(req, service, payload); err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %s", answer.Status, body)
	}
	return read(body)
}

func (a *account) sign(req *http.Request, service string, payload []byte) error {
	key, err := a.config.Credentials.Retrieve(req.Context())
	if err != nil {
		return err
	}
	sum := sha256.Sum256(payload)
	return v4.NewSigner().SignHTTP(req.Context(), key, req, hex.EncodeToString(sum[:]), service, region, time.Now())
}
