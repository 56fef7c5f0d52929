package client

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/push"
)

const (
	// silence is when a socket without messages is given up: the connection may have died unnoticed. A backup whose
	// provider prepares its export is silent too; then the new socket costs two small requests.
	silence = 30 * time.Second
	// maxOutage is how long a service may be away before a watch gives up.
	maxOutage       = 2 * time.Minute
	maxSocketTries  = 5 // failures in a row after which only polling is left
	maxMessageBytes = 64 << 10
	pollPause       = 2 * time.Second // unless the answer says otherwise
)

// errNoSocket means that the service has no socket for us, now or ever.
var errNoSocket = errors.New("no live socket")

// Over tells whether a backup makes no more progress.
func Over(s backup.Status) bool { return s != backup.Pending && s != backup.Running }

// Watch calls changed with the backup's state, at first and after every change, until the backup is over; it returns the
// last state. It hears of changes by the live socket and falls back to asking when that cannot be had. Once it has
// seen the backup, an outage of the service ends the watch only after two minutes.
func (c *Client) Watch(ctx context.Context, jobID string, changed func(api.BackupDetail)) (api.BackupDetail, error) {
	w := &watch{Client: c, jobID: jobID, changed: changed, socketTries: maxSocketTries}
	if err := w.read(ctx); err != nil {
		return api.BackupDetail{}, err
	}
	for pause := firstPause; !Over(w.last.Status); pause = min(2*pause, maxPause) {
		err := w.live(ctx)
		if ctx.Err() != nil {
			return w.last, context.Cause(ctx)
		}
		if refused, ok := errors.AsType[*Error](err); ok && refused.Problem.Status == http.StatusNotFound {
			return w.last, err
		}
		if w.heard {
			pause, w.heard = firstPause, false
		}
		if Over(w.last.Status) {
			break
		}
		if err := w.poll(ctx, pause); err != nil {
			return w.last, err
		}
	}
	return w.last, nil
}

// watch is what one call of Watch knows.
type watch struct {
	*Client
	jobID       string
	changed     func(api.BackupDetail)
	last        api.BackupDetail
	again       time.Duration // as the last read advised
	socketTries int           // left
	heard       bool          // the last socket brought something
}

// read takes a snapshot.
func (w *watch) read(ctx context.Context) error {
	job, again, err := w.Backup(ctx, w.jobID)
	if err != nil {
		return err
	}
	w.again = again
	same := job.Seq == w.last.Seq && job.Status == w.last.Status && (job.Waiting == nil) == (w.last.Waiting == nil)
	if w.last.JobID != "" && (job.Seq < w.last.Seq || same) {
		return nil // older, or nothing new; the clock changes the status and the waiting alone
	}
	w.last = job
	w.changed(job)
	return nil
}

// poll waits and reads, and bridges an outage.
func (w *watch) poll(ctx context.Context, pause time.Duration) error {
	for away := time.Duration(0); ; pause = min(2*pause, maxPause) {
		wait := pause
		if w.socketTries == 0 {
			wait = max(w.again, pollPause)
		}
		if err := w.config.Sleep(ctx, wait); err != nil {
			return err
		}
		err := w.read(ctx)
		if _, ok := errors.AsType[*UnreachableError](err); !ok {
			return err
		}
		if away += wait; away > maxOutage {
			return err
		}
	}
}

// live follows the socket until the backup is over or the socket fails.
func (w *watch) live(ctx context.Context) error {
	if w.socketTries == 0 {
		return errNoSocket
	}
	w.socketTries--
	conn, err := w.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.CloseNow()
	if err := w.follow(ctx, conn); err != nil {
		return err
	}
	return conn.Close(websocket.StatusNormalClosure, "")
}

func (w *watch) dial(ctx context.Context) (*websocket.Conn, error) {
	ticket, err := w.ticket(ctx)
	if err != nil {
		return nil, err
	}
	header := http.Header{}
	if w.config.UserAgent != "" {
		header.Set("User-Agent", w.config.UserAgent)
	}
	dialing, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	target, err := w.socketAt(ticket)
	if err != nil {
		return nil, err
	}
	options := &websocket.DialOptions{HTTPClient: w.data, HTTPHeader: header}
	conn, res, err := websocket.Dial(dialing, target.String(), options) //nolint:bodyclose // Dial documents that nobody needs to
	if err != nil {
		if res != nil && (res.StatusCode == http.StatusNotFound || res.StatusCode == http.StatusForbidden) {
			w.socketTries = 0
		}
		return nil, errors.Join(errNoSocket, err)
	}
	conn.SetReadLimit(maxMessageBytes)
	return conn, nil
}

// socketAt is the socket's address with its ticket. A relative one lies below the service's address.
func (w *watch) socketAt(t api.Ticket) (*url.URL, error) {
	target, err := url.Parse(t.SocketURL)
	if err != nil {
		return nil, fmt.Errorf("socket address: %w", err)
	}
	if !target.IsAbs() {
		target = w.base.JoinPath(cmp.Or(t.SocketURL, "ws"))
	}
	target.RawQuery = url.Values{"ticket": {t.Ticket}}.Encode()
	return target, nil
}

// follow subscribes first and reads second, so that no change falls between the two.
func (w *watch) follow(ctx context.Context, conn *websocket.Conn) error {
	if err := wsjson.Write(ctx, conn, push.Request{Action: "subscribe", JobID: w.jobID}); err != nil {
		return err
	}
	if err := w.read(ctx); err != nil {
		return err
	}
	for !Over(w.last.Status) {
		if err := w.next(ctx, conn); err != nil {
			return err
		}
		w.heard, w.socketTries = true, maxSocketTries
	}
	return nil
}

// next takes one message.
func (w *watch) next(ctx context.Context, conn *websocket.Conn) error {
	reading, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	var raw json.RawMessage
	if err := wsjson.Read(reading, conn, &raw); err != nil {
		return err
	}
	var kind struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(raw, &kind); err != nil {
		return err
	}
	switch kind.Type {
	case "backup":
		return w.pushed(ctx, raw)
	case "error":
		return w.refused(raw)
	}
	return nil // a kind that later versions may send
}

func (w *watch) refused(raw json.RawMessage) error {
	var r push.Refusal
	if err := json.Unmarshal(raw, &r); err != nil {
		return err
	}
	e := &Error{Problem: api.Problem{Title: r.Kind.Sentence(), Kind: r.Kind, Detail: r.Message, Status: http.StatusBadRequest}}
	if r.Kind == backup.NotFound {
		e.Problem.Status = http.StatusNotFound
	}
	return e
}

// pushed applies a message, or reads again when one was missed, when the backup is over or when something is the matter:
// only a read tells it all.
func (w *watch) pushed(ctx context.Context, raw json.RawMessage) error {
	var m push.Message
	if err := json.Unmarshal(raw, &m); err != nil {
		return err
	}
	switch {
	case m.JobID != w.jobID || m.Seq < w.last.Seq:
		return nil
	case m.Seq == w.last.Seq && (m.Waiting == nil) == (w.last.Waiting == nil):
		return nil
	case m.Prev > w.last.Seq || Over(m.Status) || newError(w.last, m) || triedAgain(w.last, m):
		return w.read(ctx)
	}
	w.last = applied(w.last, m)
	w.changed(w.last)
	return nil
}

// applied is the state that a message makes of the one before. It shares nothing with it.
func applied(last api.BackupDetail, m push.Message) api.BackupDetail {
	last.Seq, last.Status, last.Attempt, last.Progress, last.Waiting = m.Seq, m.Status, m.Attempt, m.Progress, m.Waiting
	if m.NextTryAt == nil {
		last.NextTryAt = nil
	}
	if m.LastError == nil {
		last.LastError = nil
	}
	last.Files = slices.Clone(last.Files)
	for _, f := range m.Files {
		i := slices.IndexFunc(last.Files, func(known api.File) bool { return known.Name == f.Name })
		if i < 0 {
			last.Files = append(last.Files, api.File{Name: f.Name})
			i = len(last.Files) - 1
		}
		last.Files[i].Status, last.Files[i].Progress, last.Files[i].SizeBytes = string(f.Status), f.Progress, f.Progress.TotalBytes
		if f.LastError == nil {
			last.Files[i].LastError = nil
		}
	}
	return last
}

// triedAgain tells whether a message brings another attempt, whose reason is not known yet.
func triedAgain(last api.BackupDetail, m push.Message) bool {
	return m.Attempt != last.Attempt || (m.NextTryAt != nil && (last.NextTryAt == nil || !last.NextTryAt.Equal(*m.NextTryAt)))
}

// newError tells whether a message brings an error that is not known yet.
func newError(last api.BackupDetail, m push.Message) bool {
	if m.LastError != nil && (last.LastError == nil || last.LastError.Kind != m.LastError.Kind) {
		return true
	}
	return slices.ContainsFunc(m.Files, func(f push.FileMessage) bool {
		return f.LastError != nil && !slices.ContainsFunc(last.Files, func(known api.File) bool {
			return known.Name == f.Name && known.LastError != nil && known.LastError.Kind == f.LastError.Kind
		})
	})
}
