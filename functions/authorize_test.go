package functions_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sitevault/sitevault/internal/awstest"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
)

// Tokens of a foreign issuer for our audience are let in under an id that can stand in a key, all others are not.
func TestAuthorize(t *testing.T) {
	program(t, "authorize")
	server := awstest.New(t)
	issuer := backuptest.NewIssuer(t)
	f := start(t, "authorize", only(environment(server, "ISSUER="+issuer.URL), slices.Concat(everywhere, needed["authorize"]))...)
	f.awaitReady()
	for audience, want := range map[string]string{"sitevault": `"userId":"` + backup.UserID("auth0|ada") + `"`, "another": `"errorMessage":"Unauthorized"`} {
		claims := issuer.Claims("auth0|ada")
		claims["aud"] = audience
		o := f.invoke(fmt.Appendf(nil, `{"type":"TOKEN","authorizationToken":"bearer  %s","methodArn":"arn:aws:execute-api:r:1:a/v1/GET/backup"}`, issuer.Sign(claims)))
		if !strings.Contains(string(o.result)+string(o.failure), want) {
			t.Errorf("%s: %s%s", audience, o.result, o.failure)
		}
	}
	if out := f.output.String(); strings.Contains(out, "eyJ") {
		t.Errorf("a token in the log:\n%s", out)
	}
}

// An issuer that does not answer is named when the function starts, which Lambda then tries again.
func TestAuthorizeWithoutIssuer(t *testing.T) {
	program(t, "authorize")
	server := awstest.New(t)
	f := start(t, "authorize", only(environment(server), slices.Concat(everywhere, needed["authorize"]))...)
	<-f.ended
	if f.process.ProcessState.Success() || !strings.Contains(f.output.String(), "issuer "+server.URL) {
		t.Errorf("%s:\n%s", f.process.ProcessState, f.output)
	}
}
