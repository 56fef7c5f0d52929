// Command socket-disconnect forgets a socket and all that it watches.
package main

import (
	"context"

	"github.com/sitevault/sitevault/internal/cloud"
	"github.com/sitevault/sitevault/internal/lambdaedge/apigateway"
)

func main() {
	s := cloud.Open(context.Background())
	s.Start(apigateway.Disconnect(s.Store().CloseSocket))
}
