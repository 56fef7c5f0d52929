package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

// PutTicket implements step.TicketStore.
func (s *Store) PutTicket(ctx context.Context, digest string, ticket backup.Ticket) error {
	err := s.writer.write(ctx, func(ctx context.Context, t *tx) error {
		_, err := t.exec(ctx, "INSERT OR REPLACE INTO tickets (digest, user_id, expires_at, token_expires_at) VALUES (?, ?, ?, ?)",
			digest, ticket.UserID, millis{&ticket.ExpiresAt}, millis{&ticket.TokenExpiresAt})
		return err
	})
	return failure(err, "put ticket of user %s", ticket.UserID)
}

// TakeTicket implements step.TicketStore.
func (s *Store) TakeTicket(ctx context.Context, digest string, now time.Time) (backup.Ticket, error) {
	var ticket backup.Ticket
	err := s.writer.write(ctx, func(ctx context.Context, t *tx) error {
		err := t.row(ctx, "DELETE FROM tickets WHERE digest = ? AND expires_at > ? RETURNING user_id, expires_at, token_expires_at",
			[]any{&ticket.UserID, millis{&ticket.ExpiresAt}, millis{&ticket.TokenExpiresAt}}, digest, millis{&now})
		if errors.Is(err, sql.ErrNoRows) {
			return backup.E(backup.NotFound, "absent, used or expired")
		}
		return err
	})
	return ticket, failure(err, "take ticket")
}
