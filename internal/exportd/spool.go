package exportd

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// The snapshot folder holds, for each snapshot, <stem>.zip and <stem>.json. The JSON file is renamed into place last: a
// snapshot exists exactly when both are there. Names ending in .partial are being written.
const (
	zipEnding     = ".zip"
	sidecarEnding = ".json"
	partialEnding = ".partial"
)

// ownFile matches what this package writes; anything else in the folder is left alone.
var ownFile = regexp.MustCompile(`^([a-z0-9][a-z0-9-]{0,39}-[0-9a-f]{32})(\.zip|\.json)(\.partial)?$`)

const (
	// spoolBufferBytes makes one write and one hash step of many small zip pieces.
	spoolBufferBytes = 256 << 10
	// maxSidecarBytes is far above what a sidecar can need.
	maxSidecarBytes = 16 << 10
	// stampEvery spares the disk: a last use is written at most this often.
	stampEvery = time.Minute
)

const sidecarVersion = 1

// sidecar is the JSON file that makes a zip a snapshot. Its modification time is the snapshot's last use.
type sidecar struct {
	Version   int       `json:"version"`
	Export    string    `json:"export"`
	BackupID  string    `json:"backupId,omitempty"`
	SHA256    string    `json:"sha256"`
	SizeBytes int64     `json:"sizeBytes"`
	CreatedAt time.Time `json:"createdAt"`
}

func (s *Server) path(stem, ending string) string {
	return filepath.Join(s.config.Dir, stem+ending)
}

// prepare makes sn in the background and logs how it ended.
func (s *Server) prepare(ctx context.Context, sn *snapshot) {
	report, digest, err := s.spool(ctx, sn)
	if err != nil {
		err = errors.Join(err, s.removeFiles(sn.stem))
	}
	log := s.config.Log.With("file", sn.export, "jobId", sn.backupID, "durationMs", s.config.Now().Sub(sn.created).Milliseconds())
	if err != nil {
		log.Error("snapshot failed", "error", err)
	} else {
		log.Info("snapshot ready", "bytes", sn.sizeBytes, "entries", report.Entries, "special", report.Special, "vanished", report.Vanished,
			"changed", report.Changed, "excluded", report.Excluded, "notes", report.Notes)
	}
	s.finish(sn, `"`+digest+`"`, err)
}

// spool waits for the export's turn, writes the archive and commits it.
func (s *Server) spool(ctx context.Context, sn *snapshot) (Report, string, error) {
	turn := s.turns[sn.export]
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return Report{}, "", ctx.Err()
	}
	report, digest, err := s.writeZip(ctx, sn)
	for diskFull(err) && s.makeRoom(sn) {
		report, digest, err = s.writeZip(ctx, sn)
	}
	if err != nil {
		return report, "", err
	}
	return report, digest, s.commit(sn, digest)
}

func diskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

func (s *Server) writeZip(ctx context.Context, sn *snapshot) (Report, string, error) {
	f, err := os.OpenFile(s.path(sn.stem, zipEnding+partialEnding), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return Report{}, "", err
	}
	digest := sha256.New()
	m := &meter{
		out: bufio.NewWriterSize(tee{f, digest}, spoolBufferBytes),
		permit: func(n int) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return s.reserve(sn, int64(n))
		},
	}
	report, err := s.config.Exports[sn.export].Snapshot(ctx, m)
	err = m.end(err)
	if err == nil {
		err = f.Sync()
	}
	return report, hex.EncodeToString(digest.Sum(nil)), errors.Join(err, f.Close())
}

// commit turns the finished partial file into a snapshot that survives a crash of the machine.
func (s *Server) commit(sn *snapshot, digest string) error {
	side, err := json.MarshalIndent(sidecar{
		Version: sidecarVersion, Export: sn.export, BackupID: sn.backupID,
		SHA256: digest, SizeBytes: sn.sizeBytes, CreatedAt: sn.created,
	}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.Rename(s.path(sn.stem, zipEnding+partialEnding), s.path(sn.stem, zipEnding)); err != nil {
		return err
	}
	partial := s.path(sn.stem, sidecarEnding+partialEnding)
	if err := writeSynced(partial, side); err != nil {
		return err
	}
	if err := os.Rename(partial, s.path(sn.stem, sidecarEnding)); err != nil {
		return err
	}
	return syncDir(s.config.Dir)
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(f.Sync(), f.Close())
}

// removeFiles unlinks the sidecar first: what is left after a crash in between is not a snapshot.
func (s *Server) removeFiles(stem string) error {
	var errs []error
	for _, ending := range []string{sidecarEnding, zipEnding, zipEnding + partialEnding, sidecarEnding + partialEnding} {
		if err := os.Remove(s.path(stem, ending)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// load takes over the snapshots of an earlier run and removes everything of ours that is not whole.
func (s *Server) load() error {
	entries, err := os.ReadDir(s.config.Dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := ownFile.FindStringSubmatch(entry.Name())
		if name == nil || s.held[name[1]] != nil && name[3] == "" {
			continue
		}
		if sn := s.readSidecar(name[1]); sn != nil && name[3] == "" {
			s.add(sn)
			continue
		}
		if err := os.Remove(filepath.Join(s.config.Dir, entry.Name())); err != nil {
			return fmt.Errorf("remove leftover: %w", err)
		}
		s.config.Log.Info("leftover removed", "path", entry.Name())
	}
	return nil
}

// readSidecar returns nil unless both files of a snapshot are there and fit each other.
func (s *Server) readSidecar(stem string) *snapshot {
	data, used, err := readSmall(s.path(stem, sidecarEnding))
	if err != nil {
		return nil
	}
	var side sidecar
	if json.Unmarshal(data, &side) != nil || side.Version != sidecarVersion || !strings.HasPrefix(stem, side.Export+"-") {
		return nil
	}
	if sum, err := hex.DecodeString(side.SHA256); err != nil || len(sum) != sha256.Size {
		return nil
	}
	if info, err := os.Stat(s.path(stem, zipEnding)); err != nil || info.Size() != side.SizeBytes {
		return nil
	}
	sn := &snapshot{
		stem: stem, export: side.Export, backupID: side.BackupID, created: side.CreatedAt, ready: make(chan struct{}),
		etag: `"` + side.SHA256 + `"`, sizeBytes: side.SizeBytes, used: used, stamped: used,
	}
	close(sn.ready)
	return sn
}

func readSmall(path string) (data []byte, modified time.Time, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, time.Time{}, err
	}
	data, err = io.ReadAll(io.LimitReader(f, maxSidecarBytes))
	return data, info.ModTime(), err
}

// touch notes a use of sn, on disk too when the last note is old enough.
func (s *Server) touch(sn *snapshot) {
	now := s.config.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	sn.used = now
	if s.held[sn.stem] != sn || now.Sub(sn.stamped) < stampEvery {
		return
	}
	sn.stamped = now
	if err := os.Chtimes(s.path(sn.stem, sidecarEnding), now, now); err != nil {
		s.config.Log.Warn("last use not recorded", "file", sn.export, "error", err)
	}
}

// tee writes to the spool file and hashes what the file took.
type tee struct {
	file   io.Writer
	digest hash.Hash
}

func (t tee) Write(p []byte) (int, error) {
	n, err := t.file.Write(p)
	t.digest.Write(p[:n])
	return n, err
}

// meter asks before it writes, and remembers its first error: a source may lose it behind an error of its own, and then
// a full disk would look like a broken site.
type meter struct {
	out    *bufio.Writer
	permit func(n int) error
	err    error
}

func (m *meter) Write(p []byte) (n int, err error) {
	if m.err == nil {
		m.err = m.permit(len(p))
	}
	if m.err != nil {
		return 0, m.err
	}
	n, m.err = m.out.Write(p)
	return n, m.err
}

// end flushes and returns the first cause of trouble: the spool's own, then the source's.
func (m *meter) end(sourceErr error) error {
	if m.err != nil {
		return m.err
	}
	if sourceErr != nil {
		return sourceErr
	}
	return m.out.Flush()
}
