package local_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/e2e"
)

// A service that stops says so on its sockets, so that clients look for the next one.
func TestStopEndsSockets(t *testing.T) {
	e2e.VersityGW(t)
	s := e2e.Start(t, e2e.Config(t, nil))
	ticket := e2e.Into[api.Ticket](s.Client, http.StatusCreated, http.MethodPost, "/ticket", nil).Ticket
	socket, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(s.URL, "http")+"/ws?ticket="+ticket, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.CloseNow()
	s.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), e2e.Patience)
	defer cancel()
	if _, _, err := socket.Read(ctx); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("the socket ends with %v", err)
	}
}
