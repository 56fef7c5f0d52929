package client

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/minio/crc64nvme"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/checksum"
)

const (
	// stall is how long a download may bring nothing before its connection is given up.
	stall = time.Minute
	// maxStops is how many connections in a row may end without a byte.
	maxStops      = 5
	copyBytes     = 256 << 10
	reportEvery   = 1 << 20 // bytes between two reports of progress
	partialSuffix = ".part"
)

// Downloaded is a file that lies on disk, proven equal to what was backed up.
type Downloaded struct {
	Provider  string `json:"provider"`
	Path      string `json:"path"`
	SizeBytes int64  `json:"sizeBytes"`
	CRC64NVME string `json:"crc64nvme"`
	// ResumedBytes were there from a download before; all of SizeBytes if the whole file was.
	ResumedBytes int64 `json:"resumedBytes"`
}

// MismatchError means that what was downloaded is not what was backed up. The bytes are gone, so that the next try
// starts anew.
type MismatchError struct{ Path, Want, Got string }

func (e *MismatchError) Error() string {
	return fmt.Sprintf("%s: the checksum of the downloaded bytes is %s, that of the backup %s", e.Path, e.Got, e.Want)
}

// ExistsError means that another file has the name of the download.
type ExistsError struct{ Path string }

func (e *ExistsError) Error() string { return e.Path + " exists and is not this backup's file" }

// Download fetches one provider's file of a done backup into dir under the name that the service gives it. Until it is
// proven by size and checksum it is called "<name>.<jobId>.part"; a later call goes on where an interrupted one ended.
// progress is called now and then with the bytes on disk and the bytes in all.
func (c *Client) Download(ctx context.Context, jobID, provider, dir string, progress func(doneBytes, totalBytes int64)) (Downloaded, error) {
	link, err := c.Link(ctx, jobID, provider)
	if err != nil {
		return Downloaded{}, err
	}
	name := filepath.Base(filepath.Clean(link.FileName))
	if name != link.FileName || !filepath.IsLocal(name) || name == "." {
		return Downloaded{}, fmt.Errorf("the service names the file %q, which is not a plain file name", link.FileName)
	}
	d := &download{Client: c, jobID: jobID, provider: provider, link: link, path: filepath.Join(dir, name), progress: progress}
	d.partial = d.path + "." + jobID + partialSuffix
	if err := d.run(ctx); err != nil {
		return Downloaded{}, fmt.Errorf("download %s: %w", provider, err)
	}
	return Downloaded{Provider: provider, Path: d.path, SizeBytes: link.SizeBytes, CRC64NVME: link.CRC64NVME, ResumedBytes: d.resumed}, nil
}

// download is one call of Download.
type download struct {
	*Client
	jobID, provider string
	link            api.Download
	path, partial   string
	progress        func(doneBytes, totalBytes int64)
	resumed         int64

	file     *os.File
	hash     hash.Hash64
	done     int64 // bytes in file and hash
	reported int64
}

func (d *download) run(ctx context.Context) error {
	present, err := d.alreadyThere(ctx)
	if present || err != nil {
		return err
	}
	err = d.fetch(ctx)
	if _, wrong := errors.AsType[*MismatchError](err); wrong && d.resumed > 0 {
		err = d.fetch(ctx) // the old part was of something else; it is gone now
	}
	return err
}

// alreadyThere accepts a file of the same name only with the same content.
func (d *download) alreadyThere(ctx context.Context) (bool, error) {
	file, err := os.Open(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() || info.Size() != d.link.SizeBytes {
		return false, &ExistsError{d.path}
	}
	d.hash, d.done = crc64nvme.New(), 0
	if err := d.rehash(ctx, file); err != nil {
		return false, err
	}
	if checksum.Encode(d.hash.Sum64()) != d.link.CRC64NVME {
		return false, &ExistsError{d.path}
	}
	d.resumed = d.done
	return true, nil
}

// rehash brings the content of a file into the hash.
func (d *download) rehash(ctx context.Context, file *os.File) error {
	buffer := make([]byte, copyBytes)
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		n, err := file.Read(buffer)
		d.hash.Write(buffer[:n])
		d.advance(n)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (d *download) advance(n int) {
	d.done += int64(n)
	if d.progress != nil && (d.done-d.reported >= reportEvery || d.done == d.link.SizeBytes || d.done < d.reported) {
		d.reported = d.done
		d.progress(d.done, d.link.SizeBytes)
	}
}

func (d *download) fetch(ctx context.Context) (err error) {
	if d.file, err = os.OpenFile(d.partial, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	defer d.file.Close()
	if err := d.resume(ctx); err != nil {
		return err
	}
	if err := d.fill(ctx); err != nil {
		return err
	}
	if got := checksum.Encode(d.hash.Sum64()); got != d.link.CRC64NVME {
		return errors.Join(&MismatchError{Path: d.path, Want: d.link.CRC64NVME, Got: got}, os.Remove(d.partial))
	}
	if err := errors.Join(d.file.Sync(), d.file.Close()); err != nil {
		return err
	}
	return os.Rename(d.partial, d.path)
}

func (d *download) resume(ctx context.Context) error {
	d.hash, d.done = crc64nvme.New(), 0
	info, err := d.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() > d.link.SizeBytes {
		if err := d.file.Truncate(0); err != nil {
			return err
		}
	}
	if err := d.rehash(ctx, d.file); err != nil {
		return err
	}
	d.resumed = d.done
	return nil
}

// fill reads until all bytes are there, over as many connections as that takes.
func (d *download) fill(ctx context.Context) error {
	pause := firstPause
	for stops := 0; d.done < d.link.SizeBytes; {
		before := d.done
		err := d.stream(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil {
			continue
		}
		if d.done > before {
			stops, pause = 0, firstPause
		}
		if stops++; stops == maxStops || !d.mayHelpToRepeat(ctx, err) {
			return err
		}
		if err := d.config.Sleep(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, maxPause)
	}
	return nil
}

// errLink is an answer that a new link may mend: links live for minutes only.
var errLink = errors.New("the link is no longer valid")

func (d *download) mayHelpToRepeat(ctx context.Context, err error) bool {
	if _, ok := errors.AsType[*UnreachableError](err); ok {
		return true
	}
	if !errors.Is(err, errLink) {
		return false
	}
	link, err := d.Link(ctx, d.jobID, d.provider)
	if err != nil || link.SizeBytes != d.link.SizeBytes || link.CRC64NVME != d.link.CRC64NVME {
		return false
	}
	d.link.URL = link.URL
	return true
}

// stream reads over one connection.
func (d *download) stream(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(stall, func() { cancel(fmt.Errorf("nothing came for %s", stall)) })
	defer watchdog.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.link.URL, nil)
	if err != nil {
		return err
	}
	d.identify(req)
	req.Header.Set("Accept-Encoding", "identity")
	if d.done > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.done))
	}
	res, err := d.data.Do(req)
	if err != nil {
		return d.storageUnreachable(ctx, err)
	}
	defer res.Body.Close()
	if err := d.checkAnswer(res); err != nil {
		return err
	}
	return d.copy(ctx, res.Body, func() { watchdog.Reset(stall) })
}

func (d *download) storageUnreachable(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	host := "the storage"
	if u, parseErr := url.Parse(d.link.URL); parseErr == nil {
		host = "the storage at " + u.Host
	}
	return &UnreachableError{Server: host, Err: err}
}

func (d *download) checkAnswer(res *http.Response) error {
	switch {
	case res.StatusCode == http.StatusOK && d.done == 0:
		return nil
	case res.StatusCode == http.StatusPartialContent && strings.HasPrefix(res.Header.Get("Content-Range"), "bytes "+strconv.FormatInt(d.done, 10)+"-"):
		return nil
	case res.StatusCode == http.StatusForbidden:
		return fmt.Errorf("%w: the storage answered %s", errLink, res.Status)
	case res.StatusCode >= http.StatusInternalServerError:
		return &UnreachableError{Server: "the storage", Err: errors.New(res.Status)}
	}
	return fmt.Errorf("the storage answered %s to a request for the bytes from %d on", res.Status, d.done)
}

// copy appends the body to the file, never more than the file has.
func (d *download) copy(ctx context.Context, body io.Reader, alive func()) error {
	buffer := make([]byte, copyBytes)
	for {
		n, err := body.Read(buffer)
		if int64(n) > d.link.SizeBytes-d.done {
			return fmt.Errorf("the storage sent more than the %d bytes of the backup", d.link.SizeBytes)
		}
		if n > 0 {
			alive()
			if _, err := d.file.WriteAt(buffer[:n], d.done); err != nil {
				return err
			}
			d.hash.Write(buffer[:n])
			d.advance(n)
		}
		if err == io.EOF && d.done == d.link.SizeBytes {
			return nil
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return d.storageUnreachable(ctx, err)
		}
	}
}
