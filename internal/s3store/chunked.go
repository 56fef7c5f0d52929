package s3store

import (
	"errors"
	"io"
	"strconv"
	"sync"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/checksum"
	"github.com/sitevault/sitevault/internal/step"
)

const (
	// frameBytes is the length of every chunk but the last. S3 wants 8 KiB at least.
	// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html
	frameBytes = 256 << 10

	trailerName  = "x-amz-checksum-crc64nvme"
	crcTextBytes = 12
	lineEnd      = "\r\n"
	maxLineBytes = 64 // of what stands between two frames or behind the last

	maxEmptyReads = 100 // in a row, before a content that yields nothing is given up
)

// chunkedBytes is the length of sizeBytes of content in aws-chunked coding with the checksum as its trailer.
func chunkedBytes(sizeBytes int64) int64 {
	n := sizeBytes/frameBytes*(frameOverhead(frameBytes)+frameBytes) + int64(len("0"+lineEnd))
	if rest := sizeBytes % frameBytes; rest > 0 {
		n += frameOverhead(rest) + rest
	}
	return n + int64(len(trailerName)+len(":")+crcTextBytes+2*len(lineEnd))
}

func frameOverhead(length int64) int64 {
	return int64(len(strconv.FormatInt(length, 16)) + 2*len(lineEnd))
}

// chunkedBody codes a part's content as aws-chunked while it is read, and holds no content itself. The HTTP transport
// may still be reading when its RoundTrip has returned; stop ends that.
type chunkedBody struct {
	mu      sync.Mutex
	content step.PartBody
	left    int64 // of the content, frames begun included
	frame   int64 // left of the current frame
	begun   bool
	ended   bool // the trailer has been queued
	err     error
	crc     uint64
	empty   int    // reads in a row that yielded nothing
	line    []byte // queued framing
	space   [maxLineBytes]byte
}

var errStopped = errors.New("the request is over")

func newChunkedBody(p step.PartUpload) *chunkedBody {
	return &chunkedBody{content: p.Body, left: p.SizeBytes}
}

// Read fills p as far as the content goes, so that each write to the network is a large one.
func (c *chunkedBody) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for n < len(p) && c.err == nil {
		if len(c.line) > 0 {
			m := copy(p[n:], c.line)
			n, c.line = n+m, c.line[m:]
			continue
		}
		if c.frame == 0 {
			c.err = c.advance()
			continue
		}
		m, err := c.content.Read(p[n:min(int64(len(p)), int64(n)+c.frame)])
		n, c.frame, c.left = n+m, c.frame-int64(m), c.left-int64(m)
		c.err = c.contentError(m, err)
	}
	if n > 0 {
		return n, nil // the error, if there is one, comes with the next call
	}
	return 0, c.err
}

// advance queues what stands before the next frame or, once, behind the last; io.EOF after that.
func (c *chunkedBody) advance() error {
	if c.ended {
		return io.EOF
	}
	line := c.space[:0]
	if c.begun {
		line = append(line, lineEnd...)
	}
	c.begun = true
	if c.left > 0 {
		c.frame = min(c.left, frameBytes)
		line = strconv.AppendInt(line, c.frame, 16)
		line = append(line, lineEnd...)
		c.line = line
		return nil
	}
	if err := c.expectEnd(); err != nil {
		return err
	}
	c.ended, c.crc = true, c.content.CRC64NVME()
	line = append(line, "0"+lineEnd+trailerName+":"...)
	line = append(line, checksum.Encode(c.crc)...)
	line = append(line, lineEnd+lineEnd...)
	c.line = line
	return nil
}

// contentError judges a read of the content that yielded n bytes: its end must not come early.
func (c *chunkedBody) contentError(n int, err error) error {
	switch {
	case err == io.EOF && c.left > 0:
		return backup.E(backup.Internal, "the content ends %d bytes early: %w", c.left, io.ErrUnexpectedEOF)
	case err == io.EOF:
		return nil
	case err != nil || n > 0:
		c.empty = 0
		return err
	}
	if c.empty++; c.empty > maxEmptyReads {
		return io.ErrNoProgress
	}
	return nil
}

// expectEnd reads the end of the content, which must come now.
func (c *chunkedBody) expectEnd() error {
	var extra [1]byte
	for range maxEmptyReads {
		n, err := c.content.Read(extra[:])
		if n > 0 {
			return backup.E(backup.Internal, "the content is longer than announced")
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// Close is called by the transport when it needs the body no more; the content is its owner's to close.
func (c *chunkedBody) Close() error { return nil }

// abandon fails every later read with cause, unless all of the body has been handed over: then the request may take
// effect, and abandon returns false.
func (c *chunkedBody) abandon(cause error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended && len(c.line) == 0 {
		return false
	}
	if c.err == nil {
		c.err = cause
	}
	return true
}

// stop waits for a read under way and fails every later one. It returns what has been handed over, and the error that the content
// ended with: nil when it was read as announced or not to its end.
func (c *chunkedBody) stop() (sent, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.err
	c.err = errStopped
	if err == io.EOF || err == errStopped {
		err = nil
	}
	return sent{begun: c.begun, whole: c.ended && len(c.line) == 0, crc: c.crc}, err
}

// sent is how much of a part was handed over to the network: some of it, or all of it, and then its checksum.
type sent struct {
	begun, whole bool
	crc          uint64
}
