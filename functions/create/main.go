// Command create answers the API's writes.
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
	store, storage, executions := s.Store(), s.Storage(ctx), s.Executions()
	handler := api.New(api.Config{
		Backups:   s.Backups(store, executions, s.Cleaner(store, storage, executions)),
		Sites:     step.Sites{Store: store, Schedules: s.Schedules(), Now: s.Now},
		Status:    s.Status(store),
		Objects:   storage,
		Tickets:   store,
		Identify:  apigateway.Caller(s.Now),
		Admit:     store.Admit,
		Secret:    s.NewRandom,
		SocketURL: s.SocketURL(),
		Now:       s.Now,
		Version:   s.Version(),
		Log:       s.Log,
	})
	s.Start(apigateway.Proxy(api.Prefix, handler, s.Log))
}
