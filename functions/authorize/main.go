// Command authorize lets in whoever brings a token of the OIDC issuer, where the API's users are not Cognito's.
package main

import (
	"context"

	"github.com/sitevault/sitevault/internal/cloud"
	"github.com/sitevault/sitevault/internal/lambdaedge/apigateway"
)

func main() {
	ctx := context.Background()
	s := cloud.Open(ctx)
	s.Start(apigateway.AuthorizeToken(s.Identify(ctx)))
}
