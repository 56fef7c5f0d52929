package exportd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// yieldAfter: a snapshot unused for so long makes way when room is needed. No answer takes longer (a worker lives 15
	// minutes), so that its job has most likely ended; one that has not is answered 412 and reads a new snapshot.
	yieldAfter = 20 * time.Minute
	// forgetFailureAfter bounds the memory of failures that nobody came back to hear about.
	forgetFailureAfter = 10 * time.Minute
	// fullRetryAfter is the pause asked for when MaxSnapshots are in use.
	fullRetryAfter = time.Minute
)

// errNoRoom is the reason of a snapshot that would grow past Config.MaxBytes.
var errNoRoom = errors.New("the agent's snapshot folder has reached its size limit")

// snapshot is one archive: being made until ready is closed, afterwards whole on disk, or failed with err.
type snapshot struct {
	stem     string // file name without ending
	export   string
	backupID string // empty: taken for requests without one
	created  time.Time
	ready    chan struct{}

	// Set before ready is closed.
	etag string // strong, quotes included
	err  error

	// Guarded by Server.mu; sizeBytes is fixed once ready is closed.
	sizeBytes int64
	used      time.Time
	stamped   time.Time // the last use that the disk knows of
}

// state tells without waiting whether sn is finished, and how.
func (sn *snapshot) state() (finished bool, err error) {
	select {
	case <-sn.ready:
		return true, sn.err
	default:
		return false, nil
	}
}

// stemOf names the files of a snapshot. The Backup-Id is outside input, so only its digest reaches the file system.
func stemOf(export, backupID string, created time.Time) string {
	key := "backup\x00" + backupID
	if backupID == "" {
		key = "shared\x00" + strconv.FormatInt(created.UnixNano(), 10)
	}
	sum := sha256.Sum256([]byte(key))
	return export + "-" + hex.EncodeToString(sum[:16])
}

// acquire finds the snapshot that a request means or starts it. A request with If-Match names an archive it has seen, and
// a new snapshot could not stand in for that one: when it is not held the answer is 412.
func (s *Server) acquire(export, backupID, ifMatch string) (*snapshot, error) {
	sn, started, err := s.findOrAdd(export, backupID, ifMatch)
	if err != nil || !started {
		return sn, err
	}
	select {
	case s.starts <- sn:
	case <-s.stopping:
		s.finish(sn, "", context.Canceled)
	}
	return sn, nil
}

func (s *Server) findOrAdd(export, backupID, ifMatch string) (sn *snapshot, started bool, err error) {
	now := s.config.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if sn := s.find(export, backupID, ifMatch, now); sn != nil {
		sn.used = now
		return sn, false, nil
	}
	if pinned(ifMatch) {
		return nil, false, errGone()
	}
	if len(s.held) >= s.config.MaxSnapshots && !s.evict(now) {
		return nil, false, &refusal{
			status: http.StatusServiceUnavailable, retryAfter: fullRetryAfter,
			detail: fmt.Sprintf("the agent already holds %d snapshots that are in use, its limit", len(s.held)),
		}
	}
	sn = &snapshot{
		stem: stemOf(export, backupID, now), export: export, backupID: backupID,
		created: now, used: now, ready: make(chan struct{}),
	}
	s.add(sn)
	return sn, true, nil
}

// find looks among the held snapshots; s.mu is held. Without a Backup-Id the ETag alone tells which one a transfer reads,
// so that a new shared snapshot does not break it.
func (s *Server) find(export, backupID, ifMatch string, now time.Time) *snapshot {
	if backupID != "" {
		return s.held[stemOf(export, backupID, time.Time{})]
	}
	if pinned(ifMatch) {
		for _, sn := range s.held {
			if finished, err := sn.state(); finished && err == nil && sn.export == export && matches(ifMatch, sn.etag) {
				return sn
			}
		}
		return nil
	}
	sn := s.shared[export]
	if sn == nil {
		return nil
	}
	if finished, _ := sn.state(); finished && now.Sub(sn.created) >= s.config.ShareFor {
		return nil
	}
	return sn
}

// add records sn; s.mu is held, or nobody else knows the server yet.
func (s *Server) add(sn *snapshot) {
	s.held[sn.stem] = sn
	s.bytes += sn.sizeBytes
	if newest := s.shared[sn.export]; sn.backupID == "" && (newest == nil || newest.created.Before(sn.created)) {
		s.shared[sn.export] = sn
	}
}

// forget drops sn and its files, if it is still the one held under its name; s.mu is held. Open handles go on reading.
func (s *Server) forget(sn *snapshot) {
	if s.held[sn.stem] != sn {
		return
	}
	delete(s.held, sn.stem)
	s.bytes -= sn.sizeBytes
	if s.shared[sn.export] == sn {
		delete(s.shared, sn.export)
	}
	if err := s.removeFiles(sn.stem); err != nil {
		s.config.Log.Error("snapshot files stay behind", "file", sn.export, "error", err)
	}
}

// evict makes room for one snapshot by dropping a failed one, or else the one unused for longest; s.mu is held.
func (s *Server) evict(now time.Time) bool {
	for _, sn := range s.held {
		if finished, err := sn.state(); finished && err != nil {
			s.forget(sn)
			return true
		}
	}
	return s.evictIdle(now)
}

// evictIdle drops the snapshot that was unused for longest, if that is long enough; s.mu is held.
func (s *Server) evictIdle(now time.Time) bool {
	var oldest *snapshot
	for _, sn := range s.held {
		if finished, err := sn.state(); finished && err == nil && now.Sub(sn.used) >= yieldAfter && (oldest == nil || sn.used.Before(oldest.used)) {
			oldest = sn
		}
	}
	if oldest == nil {
		return false
	}
	s.config.Log.Info("snapshot makes way for a new one", "file", oldest.export, "jobId", oldest.backupID)
	s.forget(oldest)
	return true
}

// makeRoom lets go of what sn has written and of an idle snapshot on the disk, if there is one.
func (s *Server) makeRoom(sn *snapshot) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes -= sn.sizeBytes
	sn.sizeBytes = 0
	return s.evictIdle(s.config.Now())
}

// sweep drops what has expired.
func (s *Server) sweep() {
	now := s.config.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sn := range s.held {
		finished, err := sn.state()
		idle := now.Sub(sn.used)
		switch {
		case !finished:
		case err != nil && idle >= forgetFailureAfter:
			s.forget(sn)
		case err == nil && idle >= s.config.KeepFor:
			s.config.Log.Info("snapshot expired", "file", sn.export, "jobId", sn.backupID, "bytes", sn.sizeBytes)
			s.forget(sn)
		}
	}
}

// reserve counts n more bytes for sn before they are written.
func (s *Server) reserve(sn *snapshot, n int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.config.MaxBytes > 0 && s.bytes+n > s.config.MaxBytes {
		if !s.evictIdle(s.config.Now()) {
			return errNoRoom
		}
	}
	s.bytes += n
	sn.sizeBytes += n
	return nil
}

// finish ends the making of sn and wakes those who wait for it. A failed one takes no room but stays held until somebody
// has been told.
func (s *Server) finish(sn *snapshot, etag string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.bytes -= sn.sizeBytes
		sn.sizeBytes = 0
	}
	sn.etag, sn.err = etag, err
	sn.used = s.config.Now()
	close(sn.ready)
}

// pinned says whether an If-Match value names certain archives; "*" only asks that one exists, and a snapshot can be made.
func pinned(ifMatch string) bool {
	return ifMatch != "" && strings.TrimSpace(ifMatch) != "*"
}

// matches is the strong comparison of RFC 9110 section 13.1.1. Our ETags hold no comma, so splitting at commas is exact.
func matches(ifMatch, etag string) bool {
	for candidate := range strings.SplitSeq(ifMatch, ",") {
		if strings.TrimSpace(candidate) == etag {
			return true
		}
	}
	return false
}
