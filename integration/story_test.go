package integration_test

import (
	"net/http"
	"os"
	"testing"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/backup"
)

// cdkVariable names the npm package of the CDK's command line; `make integration` sets it.
const cdkVariable = "SITEVAULT_INTEGRATION_CDK"

// TestDeployment deploys the whole template and uses it as two tenants do. The scenes play in this order, in one account.
func TestDeployment(t *testing.T) {
	cdk := os.Getenv(cdkVariable)
	if cdk == "" {
		t.Skip("SKIPPED, the deployment is tested by `make integration`, which needs Python 3.10 and Node 20")
	}
	d := deploy(t, cdk)
	s := &story{
		deployment: d, heard: d.listen(t),
		alice: d.invite(t, "alice@example.com"), bob: d.invite(t, "bob@example.com"),
	}
	d.keepSecret(t, s.alice, secretRef, d.agent.token)
	for _, scene := range []struct {
		name string
		play func(*testing.T)
	}{
		{"a request without a token is refused", s.strangerIsRefused},
		{"a site gets a schedule of its own", s.siteIsScheduled},
		{"a backup holds what was exported", s.backupIsProven},
		{"the execution visited every state", s.executionSucceeded},
		{"the rows tell the same, and no secret", s.rowsAgree},
		{"the bus heard of every transition", s.busHeard},
		{"a repeated request makes one backup, which a socket shows live", s.liveProgress},
		{"a ticket opens one socket, which shows nobody else's backups", s.ticketsAreTheirOwners},
		{"another tenant sees nothing", s.tenantsAreApart},
		{"another tenant's secret is out of reach, and the failure is told", s.secretsAreApart},
		{"a schedule that fires makes a backup", s.scheduleFires},
		{"an execution that is stopped is followed by another, which a retry begins at once", s.abortedIsTriedAgain},
		{"a cancelled backup leaves nothing", s.cancelledLeavesNothing},
		{"a deleted backup leaves nothing", s.deletedLeavesNothing},
		{"what is still there when its row is purged is removed", s.purgedLeavesNothing},
		{"the sweeper runs by its rule", s.sweeperRuns},
		{"the logs hold the metrics of all that has happened", s.metricsAreTold},
		{"each function may do at S3 what it has done", s.rightsAtS3},
		{"no event was given up and no call refused", s.nothingIsLeft},
	} {
		if !t.Run(scene.name, scene.play) {
			break // the next scene would only fail because of this one
		}
	}
	d.saveLogs(t)
	sayWhatIsNotProven(t)
}

// story is what the scenes share.
type story struct {
	*deployment
	heard      *queue
	alice, bob *tenant
	job        api.BackupDetail // Alice's first backup, done
	swept      int              // calls of the sweeper that were not the rule's
}

const (
	siteID    = "shop"
	secretRef = "agent"
)

func (s *story) strangerIsRefused(t *testing.T) {
	stranger := &tenant{api: s.api()}
	for _, token := range []string{"", "not.a.token"} {
		stranger.token = token
		answer := stranger.call(t, http.MethodGet, "/backup", nil, nil)
		if p := answer.problem(t, http.StatusUnauthorized); p.Kind != backup.Unauthenticated {
			t.Errorf("with token %q: %+v", token, p)
		}
		if answer.header.Get("WWW-Authenticate") == "" {
			t.Errorf("with token %q: no WWW-Authenticate", token)
		}
	}
}
