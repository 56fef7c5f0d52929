// Command socket-connect notes an open socket.
package main

import (
	"context"

	"github.com/sitevault/sitevault/internal/cloud"
	"github.com/sitevault/sitevault/internal/lambdaedge/apigateway"
)

func main() {
	s := cloud.Open(context.Background())
	s.Start(apigateway.Connect(s.Store().OpenSocket, s.Now))
}
