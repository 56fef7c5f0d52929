package api

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sitevault/sitevault/internal/backup"
)

func (s server) registerTickets(api huma.API) {
	route(s, api, huma.Operation{
		OperationID: "create-ticket", Method: http.MethodPost, Path: "/ticket", Tags: []string{"Live progress"}, DefaultStatus: http.StatusCreated,
		Summary: "Get a one-use ticket for the live socket, since a browser cannot send credentials with a socket",
	}, s.createTicket)
}

// Ticket opens one socket.
type Ticket struct {
	Ticket    string    `json:"ticket" doc:"Goes into the query of the socket's URL"`
	SocketURL string    `json:"socketUrl" doc:"Where the socket is, absolute or relative to the service's address. It ends when the token expires that the ticket was got with" example:"/ws"`
	ExpiresAt time.Time `json:"expiresAt"`
}

type ticketOut struct{ Body Ticket }

const ticketLife = 30 * time.Second

func (s server) createTicket(ctx context.Context, _ *struct{}) (*ticketOut, error) {
	caller, secret, expires := callerOf(ctx), s.Secret(), s.Now().Add(ticketLife)
	ticket := backup.Ticket{UserID: caller.UserID, ExpiresAt: expires, TokenExpiresAt: caller.ExpiresAt}
	if err := s.Tickets.PutTicket(ctx, backup.TicketDigest(secret), ticket); err != nil {
		return nil, err
	}
	return &ticketOut{Ticket{Ticket: secret, SocketURL: cmp.Or(s.SocketURL, "/ws"), ExpiresAt: expires.UTC()}}, nil
}
