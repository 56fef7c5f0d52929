// Command socket-message serves what clients send through their sockets.
package main

import (
	"context"

	"github.com/sitevault/sitevault/internal/cloud"
	"github.com/sitevault/sitevault/internal/lambdaedge/apigateway"
	"github.com/sitevault/sitevault/internal/push"
)

func main() {
	s := cloud.Open(context.Background())
	store := s.Store()
	s.Start(apigateway.Message(push.Requests{Sockets: store, Status: s.Status(store), Sender: s.Gateway(), Log: s.Log}.Serve))
}
