// Command status answers the API's reads.
package main

import (
	"context"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/cloud"
	"github.com/sitevault/sitevault/internal/lambdaedge/apigateway"
	"github.com/sitevault/sitevault/internal/step"
)

func main() {
	ctx := context.Background()
	s := cloud.Open(ctx)
	store := s.Store()
	handler := api.New(api.Config{
		Sites:    step.Sites{Store: store, Now: s.Now},
		Status:   s.Status(store),
		Objects:  s.Storage(ctx),
		Identify: apigateway.Caller(s.Now),
		Admit:    store.Admit,
		Now:      s.Now,
		Version:  s.Version(),
		Log:      s.Log,
	})
	s.Start(apigateway.Proxy(api.Prefix, apigateway.ReadsOnly(handler), s.Log))
}
