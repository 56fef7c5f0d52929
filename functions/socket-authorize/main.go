// Command socket-authorize lets in whoever brings an unused ticket.
package main

import (
	"context"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/cloud"
	"github.com/sitevault/sitevault/internal/lambdaedge/apigateway"
)

func main() {
	s := cloud.Open(context.Background())
	store := s.Store()
	s.Start(apigateway.AuthorizeSocket(func(ctx context.Context, ticket string) (backup.Ticket, error) {
		return store.TakeTicket(ctx, backup.TicketDigest(ticket), s.Now())
	}))
}
