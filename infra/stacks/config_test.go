package stacks_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sitevault/sitevault/infra/stacks"
)

func context(settings map[string]any) func(string) any {
	return func(key string) any { return settings[key] }
}

// Without any setting a deployment keeps what it stores and signs users in by itself.
func TestDefaults(t *testing.T) {
	c, err := stacks.ReadConfig(context(nil))
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "sitevault" || !c.Retain || c.Issuer != "" || c.JobTimeout != 6*time.Hour || c.FailedKeep != 7*24*time.Hour || c.RetryWindow != time.Hour || c.LogRetention != 90 {
		t.Errorf("%+v", c)
	}
}

// The command line gives texts, cdk.json gives JSON's own types; both count.
func TestSettings(t *testing.T) {
	for _, settings := range []map[string]any{
		{"failedKeepDays": "3", "retryWindowHours": "2", "allowHosts": "10.0.0.0/8, nas.local:8443", "removalPolicy": "destroy"},
		{"failedKeepDays": 3.0, "retryWindowHours": 2.0, "allowHosts": []any{"10.0.0.0/8", "nas.local:8443"}, "removalPolicy": "destroy"},
	} {
		c, err := stacks.ReadConfig(context(settings))
		if err != nil {
			t.Errorf("%v: %v", settings, err)
			continue
		}
		if c.FailedKeep != 72*time.Hour || c.RetryWindow != 2*time.Hour || !slices.Equal(c.AllowHosts, []string{"10.0.0.0/8", "nas.local:8443"}) || c.Retain {
			t.Errorf("%v: %+v", settings, c)
		}
	}
}

// What cannot be right is refused by the name of its key.
func TestRefusedSettings(t *testing.T) {
	for _, tc := range []struct {
		key   string
		value any
	}{
		{"name", "Site Vault"},
		{"name", ""},
		{"name", strings.Repeat("a", 21)},
		{"failedKeepDays", "0"},
		{"failedKeepDays", 2.5},
		{"failedKeepDays", true},
		{"failedKeepDays", "many"},
		{"failedKeepDays", "1e9"},
		{"failedKeepDays", "NaN"},
		{"retryWindowHours", "0"},
		{"retryWindowHours", "13"},
		{"jobTimeoutHours", "7"},
		{"jobTimeoutHours", "0"},
		{"workers", "-1"},
		{"toleratedSites", "-1"},
		{"name", "default"},
		{"removalPolicy", "snapshot"},
		{"removalPolicy", 1.0},
		{"issuer", "https://issuer.example"}, // without its audience
		{"alarmEmail", "nobody"},
		{"alarmEmail", "Anna <anna@example.org>"},
		{"logRetentionDays", "91"},
		{"allowHosts", "https://nas.local"},
		{"allowHosts", 1.0},
		{"s3Endpoint", "localhost:9000"},
	} {
		_, err := stacks.ReadConfig(context(map[string]any{tc.key: tc.value}))
		if err == nil || !strings.Contains(err.Error(), "context "+tc.key) {
			t.Errorf("%s=%v: %v", tc.key, tc.value, err)
		}
	}
	if _, err := stacks.ReadConfig(context(map[string]any{"issuer": "http://issuer.example", "audience": "sitevault"})); err == nil {
		t.Error("an issuer without TLS is taken")
	}
	_, err := stacks.ReadConfig(context(map[string]any{"name": "A", "workers": "x", "issuer": "i"}))
	for _, key := range []string{"name", "workers", "issuer"} {
		if err == nil || !strings.Contains(err.Error(), "context "+key) {
			t.Errorf("%s is missing in %v", key, err)
		}
	}
}

// Synthesis without the functions' zips names those that are missing and how to make them.
func TestMissingAssets(t *testing.T) {
	c, err := stacks.ReadConfig(context(map[string]any{"assets": t.TempDir()}))
	if err != nil {
		t.Fatal(err)
	}
	err = stacks.CheckAssets(c)
	for _, want := range []string{"start-job", "create", "make functions", c.AssetsDir} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in: %v", want, err)
		}
	}
}
