package integration_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/client"
)

// tenant is a user of the pool who has signed in.
type tenant struct {
	*client.Client
	id    string // sub
	token string
	api   string
}

// jobTime is the longest that a backup of the small site may take here.
const jobTime = 90 * time.Second

// invite makes a user as an administrator does, lets her set a password and sign in.
func (d *deployment) invite(t *testing.T, email string) *tenant {
	t.Helper()
	const service, prefix = "cognito-idp", "AWSCognitoIdentityProviderService."
	pool, password := d.output.Data.UserPoolID, "Aa1!"+rand.Text()
	var made struct {
		User struct {
			Attributes []struct{ Name, Value string }
		}
	}
	d.json(t, service, prefix+"AdminCreateUser", map[string]any{
		"UserPoolId": pool, "Username": email, "MessageAction": "SUPPRESS", "TemporaryPassword": "Bb2!" + rand.Text(),
		"UserAttributes": []map[string]string{{"Name": "email", "Value": email}, {"Name": "email_verified", "Value": "true"}},
	}, &made)
	d.json(t, service, prefix+"AdminSetUserPassword", map[string]any{
		"UserPoolId": pool, "Username": email, "Password": password, "Permanent": true,
	}, &struct{}{})
	var signedIn struct {
		AuthenticationResult struct{ IdToken string }
	}
	d.json(t, service, prefix+"AdminInitiateAuth", map[string]any{
		"UserPoolId": pool, "ClientId": d.output.Data.UserPoolClientID, "AuthFlow": "ADMIN_USER_PASSWORD_AUTH",
		"AuthParameters": map[string]string{"USERNAME": email, "PASSWORD": password},
	}, &signedIn)
	u := &tenant{token: signedIn.AuthenticationResult.IdToken, api: d.api()}
	for _, a := range made.User.Attributes {
		if a.Name == "sub" {
			u.id = a.Value
		}
	}
	var err error
	if u.Client, err = client.New(client.Config{Server: u.api, Token: u.token, UserAgent: "integration"}); err != nil {
		t.Fatal(err)
	}
	return u
}

// keepSecret stores a provider's secret as the operator does for the tenant.
func (d *deployment) keepSecret(t *testing.T, u *tenant, ref, value string) {
	t.Helper()
	secrets := secretsmanager.NewFromConfig(d.config)
	secret := name + "/" + u.id + "/" + ref
	if _, err := secrets.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: &secret, SecretString: &value}); err != nil {
		t.Fatal(err)
	}
}

// reply is an answer of the API.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// call sends one request as it is, with whatever header.
func (u *tenant) call(t *testing.T, method, path string, header http.Header, body any) reply {
	t.Helper()
	var payload bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&payload).Encode(body); err != nil {
			t.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), method, u.api+api.Prefix+path, &payload)
	if err != nil {
		t.Fatal(err)
	}
	for field, values := range header {
		req.Header[field] = values
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if u.token != "" {
		req.Header.Set("Authorization", "Bearer "+u.token)
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{answer.StatusCode, answer.Header, content}
}

// problem reads a refusal of the given status.
func (r reply) problem(t *testing.T, status int) (p api.Problem) {
	t.Helper()
	if r.status != status {
		t.Fatalf("status %d instead of %d: %s", r.status, status, r.body)
	}
	if err := json.Unmarshal(r.body, &p); err != nil {
		t.Fatalf("%v in %s", err, r.body)
	}
	if got := r.header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("a problem of Content-Type %q: %s", got, r.body)
	}
	return p
}

// create asks for a backup of the site.
func (u *tenant) create(t *testing.T, siteID string) api.Backup {
	t.Helper()
	job, err := u.CreateBackup(t.Context(), api.CreateBackupBody{SiteID: siteID}, "")
	if err != nil {
		t.Fatal(err)
	}
	return job
}

// reaches waits until the backup has the status.
func (u *tenant) reaches(t *testing.T, jobID string, want backup.Status) (job api.BackupDetail) {
	t.Helper()
	await(t, "job "+jobID+" is "+string(want), jobTime, func() bool {
		var err error
		if job, _, err = u.Backup(t.Context(), jobID); err != nil {
			t.Fatal(err)
		}
		if job.Status != want && client.Over(job.Status) && want != backup.Deleting && want != backup.Deleted {
			t.Fatalf("job %s is %s, not %s: %+v", jobID, job.Status, want, job.Error)
		}
		return job.Status == want
	})
	return job
}

// into calls, expects the status and reads the answer.
func (u *tenant) into(t *testing.T, status int, method, path string, header http.Header, body, out any) {
	t.Helper()
	answer := u.call(t, method, path, header, body)
	if answer.status != status {
		t.Fatalf("%s %s: status %d, not %d: %s", method, path, answer.status, status, answer.body)
	}
	if err := json.Unmarshal(answer.body, out); err != nil {
		t.Fatalf("%s %s: %v in %s", method, path, err, answer.body)
	}
}
