package s3store_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/minio/crc64nvme"
	"pgregory.net/rapid"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/checksum"
	"github.com/sitevault/sitevault/internal/s3store"
	"github.com/sitevault/sitevault/internal/step"
	"github.com/sitevault/sitevault/internal/versitygw"
)

// storeOn opens a store on a server that answers with handler.
func storeOn(t *testing.T, handler http.HandlerFunc) *s3store.Store {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return storeAt(t, server.URL)
}

// storeAt is a store that knows nothing yet of the server.
func storeAt(t *testing.T, url string) *s3store.Store {
	t.Helper()
	store, err := s3store.Open(t.Context(), s3store.Config{
		Bucket: "vault", Endpoint: url, PathStyle: true, AccessKey: "access", SecretKey: "secret",
	})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func partOf(content io.Reader, size int64) step.PartUpload {
	return step.PartUpload{Key: "a/b.zip", UploadID: "upload", Number: 7, SizeBytes: size, Body: backuptest.NewPartBody(content)}
}

// refuse answers as S3 does with an error.
func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>as told</Message></Error>", code)
}

// unchunk decodes an aws-chunked body strictly: the content, and the trailer's lines.
func unchunk(r *bufio.Reader) (content []byte, trailer string, err error) {
	for {
		line, err := r.ReadString('\n')
		if err != nil || !strings.HasSuffix(line, "\r\n") {
			return nil, "", fmt.Errorf("chunk header %q: %v", line, err)
		}
		length, err := strconv.ParseInt(strings.TrimSuffix(line, "\r\n"), 16, 64)
		if err != nil {
			return nil, "", err
		}
		if length == 0 {
			rest, err := io.ReadAll(r)
			return content, string(rest), err
		}
		chunk := make([]byte, length+2)
		if _, err := io.ReadFull(r, chunk); err != nil || string(chunk[length:]) != "\r\n" {
			return nil, "", fmt.Errorf("chunk of %d bytes ends with %q: %v", length, chunk[length:], err)
		}
		content = append(content, chunk[:length]...)
	}
}

// A part goes out in one signed stream of exactly the announced length, with nothing but its checksum behind it.
func TestPartOnTheWire(t *testing.T) {
	var header http.Header
	var announced int64
	var body []byte
	store := storeOn(t, func(w http.ResponseWriter, r *http.Request) {
		header, announced = r.Header.Clone(), r.ContentLength
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("ETag", `"etag"`)
	})
	content := bytes.Repeat([]byte("0123456789"), 60_000) // two chunks and a piece
	etag, err := store.UploadPart(t.Context(), partOf(bytes.NewReader(content), int64(len(content))))
	if err != nil || etag != `"etag"` {
		t.Fatalf("%q, %v", etag, err)
	}
	for name, want := range map[string]string{
		"X-Amz-Content-Sha256":         "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
		"X-Amz-Decoded-Content-Length": "600000",
		"X-Amz-Trailer":                "x-amz-checksum-crc64nvme",
		"Content-Encoding":             "aws-chunked",
		"Expect":                       "",
		"X-Amz-Sdk-Checksum-Algorithm": "",
		"X-Amz-Checksum-Crc32":         "",
	} {
		if got := header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if announced != int64(len(body)) {
		t.Errorf("Content-Length %d, body %d", announced, len(body))
	}
	got, trailer, err := unchunk(bufio.NewReader(bytes.NewReader(body)))
	want := "x-amz-checksum-crc64nvme:" + checksum.Encode(crc64nvme.Checksum(content)) + "\r\n\r\n"
	if err != nil || !bytes.Equal(got, content) || trailer != want {
		t.Errorf("%d bytes, trailer %q, %v, want trailer %q", len(got), trailer, err, want)
	}
}

// Any content in any pieces arrives as it is, in a body of the announced length.
func TestAnyPartArrives(t *testing.T) {
	var body []byte
	var announced int64
	store := storeOn(t, func(w http.ResponseWriter, r *http.Request) {
		announced = r.ContentLength
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("ETag", `"etag"`)
	})
	readers := []func(io.Reader) io.Reader{
		func(r io.Reader) io.Reader { return r }, iotest.HalfReader, iotest.DataErrReader, iotest.OneByteReader,
	}
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.OneOf(rapid.IntRange(0, 40), rapid.IntRange(256<<10-3, 256<<10+3), rapid.IntRange(0, 700_000)).Draw(rt, "size")
		content := make([]byte, size)
		for i := range content {
			content[i] = byte(i*7 + i>>9)
		}
		reader := rapid.SampledFrom(readers).Draw(rt, "reader")
		if _, err := store.UploadPart(t.Context(), partOf(reader(bytes.NewReader(content)), int64(size))); err != nil {
			rt.Fatal(err)
		}
		got, _, err := unchunk(bufio.NewReader(bytes.NewReader(body)))
		if err != nil || announced != int64(len(body)) || !bytes.Equal(got, content) {
			rt.Fatalf("%d of %d bytes in a body of %d (announced %d): %v", len(got), size, len(body), announced, err)
		}
	})
}

// What S3 and other servers answer decides the kind: the code first, the status for codes that nobody knows. A part is
// never sent twice.
func TestAnswersHaveKinds(t *testing.T) {
	for _, tc := range []struct {
		kind   backup.Kind
		status int
		codes  string
	}{
		{backup.UploadLost, 404, "NoSuchUpload"},
		{backup.NotFound, 404, "NoSuchKey NoSuchVersion"},
		{backup.Conflict, 412, "PreconditionFailed"},
		{backup.UploadConflict, 409, "ConditionalRequestConflict"},
		{backup.ChecksumMismatch, 400, "BadDigest InvalidDigest InvalidPart InvalidPartOrder XAmzContentChecksumMismatch XAmzContentSHA256Mismatch"},
		{backup.StorageFull, 507, "InsufficientStorage XMinioStorageFull AnythingElse"},
		{backup.StorageFull, 403, "QuotaExceeded BucketQuotaExceeded StorageQuotaExceeded"},
		{backup.StorageFull, 400, "XMinioAdminBucketQuotaExceeded"},

		{backup.StorageUnavailable, 400, "ExpiredToken IncompleteBody RequestTimeout TokenRefreshRequired KMS.ThrottlingException"},
		{backup.StorageUnavailable, 409, "OperationAborted"},
		{backup.StorageUnavailable, 307, "TemporaryRedirect"},
		{backup.StorageUnavailable, 403, "RequestTimeTooSkewed SlowDown"},
		{backup.StorageUnavailable, 408, "RequestTimeout AnythingElse"},
		{backup.StorageUnavailable, 429, "TooManyRequests AnythingElse"},
		{backup.StorageUnavailable, 500, "InternalError AnythingElse"},
		{backup.StorageUnavailable, 502, "AnythingElse"},
		{backup.StorageUnavailable, 503, "SlowDown SlowDownRead SlowDownWrite ServiceUnavailable Busy XMinioServerNotInitialized AnythingElse"},
		{backup.StorageUnavailable, 504, "AnythingElse"},

		{backup.StorageRefused, 301, "PermanentRedirect AnythingElse"},
		{backup.StorageRefused, 400, "EntityTooLarge EntityTooSmall InvalidArgument InvalidRequest InvalidToken AuthorizationHeaderMalformed KMS.DisabledException MalformedXML AnythingElse"},
		{backup.StorageRefused, 401, "AnythingElse"},
		{backup.StorageRefused, 403, "AccessDenied InvalidAccessKeyId SignatureDoesNotMatch AllAccessDisabled AccountProblem InvalidObjectState AnythingElse"},
		{backup.StorageRefused, 404, "NoSuchBucket"},
		{backup.StorageRefused, 405, "MethodNotAllowed AnythingElse"},
		{backup.StorageRefused, 409, "InvalidBucketState XMinioObjectExistsAsDirectory"},
		{backup.StorageRefused, 411, "MissingContentLength"},
		{backup.StorageRefused, 416, "InvalidRange"},
		{backup.StorageRefused, 501, "NotImplemented AnythingElse"},
		{backup.StorageRefused, 503, "AccessDenied"},
		{backup.StorageRefused, 505, "AnythingElse"},
	} {
		for _, code := range strings.Fields(tc.codes) {
			t.Run(fmt.Sprintf("%d %s", tc.status, code), func(t *testing.T) {
				var calls atomic.Int32
				store := storeOn(t, func(w http.ResponseWriter, r *http.Request) {
					calls.Add(1)
					io.Copy(io.Discard, r.Body)
					refuse(w, tc.status, code)
				})
				etag, err := store.UploadPart(t.Context(), partOf(strings.NewReader("content"), 7))
				if backup.KindOf(err) != tc.kind || etag != "" {
					t.Errorf("%q, %v: kind %s, want %s", etag, err, backup.KindOf(err), tc.kind)
				}
				if !strings.Contains(err.Error(), "part 7 of a/b.zip") || calls.Load() != 1 {
					t.Errorf("%d calls, %v", calls.Load(), err)
				}
			})
		}
	}
}

// Where another operation is in the way of making an object, it is made anew under another key; elsewhere the call is tried again.
func TestConflictsOfObjects(t *testing.T) {
	single := partOf(strings.NewReader("content"), 7)
	single.UploadID = bodies["single"]
	for _, code := range []string{"OperationAborted", "ConditionalRequestConflict", "AnythingElse"} {
		store := storeOn(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			io.Copy(io.Discard, r.Body)
			refuse(w, http.StatusConflict, code)
		})
		if err := store.CompleteUpload(t.Context(), oneCompletion); !backup.Is(err, backup.UploadConflict) || !strings.Contains(err.Error(), code) {
			t.Errorf("%s at completion: %v", code, err)
		}
		single.Body = backuptest.NewPartBody(strings.NewReader("content"))
		if _, err := store.UploadPart(t.Context(), single); !backup.Is(err, backup.UploadConflict) || !strings.Contains(err.Error(), code) {
			t.Errorf("%s of a single upload: %v", code, err)
		}
	}
}

var oneCompletion = step.Completion{
	Key: "a/b.zip", UploadID: "upload", SizeBytes: 9, CRC64NVME: 0xAE8B14860A799888,
	Parts: []backup.Part{{Number: 1, ETag: `"e"`, SizeBytes: 9, CRC64NVME: 0xAE8B14860A799888}},
}

// A part that is listed without its checksum is of an upload that is being removed.
func TestPartsWithoutChecksum(t *testing.T) {
	store := storeOn(t, func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "<ListPartsResult><Part><PartNumber>1</PartNumber><ETag>e</ETag><Size>9</Size></Part></ListPartsResult>")
	})
	if _, err := store.UploadedParts(t.Context(), "a/b.zip", "upload", 1, 1); !backup.Is(err, backup.UploadLost) {
		t.Errorf("%v", err)
	}
}

// An object whose checksum the storage does not report is told as that.
func TestObjectsWithoutChecksum(t *testing.T) {
	store := storeOn(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			w.Header().Set("X-Amz-Meta-Sitevault-Token", "token")
			w.Header().Set("Content-Length", "7")
			return
		}
		io.Copy(io.Discard, r.Body)
		refuse(w, http.StatusPreconditionFailed, "PreconditionFailed")
	})
	single := partOf(strings.NewReader("content"), 7)
	single.UploadID = bodies["single"]
	if _, err := store.UploadPart(t.Context(), single); !backup.Is(err, backup.ChecksumMissing) {
		t.Errorf("sent: %v", err)
	}
	if _, err := store.UploadedParts(t.Context(), single.Key, single.UploadID, 1, 1); !backup.Is(err, backup.ChecksumMissing) {
		t.Errorf("listed: %v", err)
	}
}

// A clock that is off is the reason of a refusal, whatever the server says, and both times are told.
func TestSkewedClocks(t *testing.T) {
	for name, tc := range map[string]struct {
		off    time.Duration
		status int
		code   string
		kind   backup.Kind
		told   bool
	}{
		"S3":                 {20 * time.Minute, 403, "RequestTimeTooSkewed", backup.StorageUnavailable, true},
		"behind":             {-20 * time.Minute, 403, "RequestTimeTooSkewed", backup.StorageUnavailable, true},
		"other words":        {time.Hour, 403, "AccessDenied", backup.StorageUnavailable, true},
		"a bad request":      {time.Hour, 400, "BadRequest", backup.StorageUnavailable, true},
		"a worker asleep":    {0, 403, "RequestTimeTooSkewed", backup.StorageUnavailable, true},
		"nearly right":       {14 * time.Minute, 403, "AccessDenied", backup.StorageRefused, false},
		"another complaint":  {time.Hour, 404, "NoSuchUpload", backup.UploadLost, false},
		"nothing to do here": {time.Hour, 503, "SlowDown", backup.StorageUnavailable, false},
	} {
		t.Run(name, func(t *testing.T) {
			there := time.Now().Add(tc.off).UTC().Truncate(time.Second)
			var signed atomic.Value
			store := storeOn(t, func(w http.ResponseWriter, r *http.Request) {
				signed.Store(r.Header.Get("X-Amz-Date"))
				io.Copy(io.Discard, r.Body)
				w.Header().Set("Date", there.Format(http.TimeFormat))
				refuse(w, tc.status, tc.code)
			})
			_, err := store.UploadPart(t.Context(), partOf(strings.NewReader("content"), 7))
			if !backup.Is(err, tc.kind) {
				t.Fatalf("%v, want %s", err, tc.kind)
			}
			here, perr := time.Parse("20060102T150405Z", signed.Load().(string))
			both := strings.Contains(err.Error(), here.Format(time.RFC3339)) && strings.Contains(err.Error(), there.Format(time.RFC3339))
			if perr != nil || both != tc.told || strings.Contains(err.Error(), "clocks") != tc.told {
				t.Errorf("%v", err)
			}
		})
	}
}

// Answers to HEAD have no code: times that lie apart tell the reason all the same.
func TestSkewedClocksOfHEAD(t *testing.T) {
	store := storeOn(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
		w.WriteHeader(http.StatusForbidden)
	})
	if err := store.CheckBucket(t.Context()); !backup.Is(err, backup.StorageUnavailable) || !strings.Contains(err.Error(), "clocks") {
		t.Errorf("%v", err)
	}
}

// An answer that does not prove the part is no success.
func TestPoorAcknowledgements(t *testing.T) {
	const size, endless = 4 << 20, 1 << 40
	for name, tc := range map[string]struct {
		size   int64
		answer http.HandlerFunc
		kind   backup.Kind
	}{
		"no ETag": {size, func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
		}, backup.StorageUnavailable},
		"another checksum": {size, func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			w.Header().Set("ETag", `"etag"`)
			w.Header().Set("X-Amz-Checksum-Crc64nvme", "rosUhgp5mIg=")
		}, backup.ChecksumMismatch},
		"too early": {endless, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"etag"`)
		}, backup.StorageUnavailable},
		"cut connection": {size, func(w http.ResponseWriter, r *http.Request) {
			io.CopyN(io.Discard, r.Body, size/2)
			panic(http.ErrAbortHandler)
		}, backup.StorageUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			var fired atomic.Bool
			store := storeOn(t, func(w http.ResponseWriter, r *http.Request) {
				fired.Store(true)
				tc.answer(w, r)
			})
			etag, err := store.UploadPart(t.Context(), partOf(io.LimitReader(zeros{}, tc.size), tc.size))
			if !fired.Load() || backup.KindOf(err) != tc.kind || etag != "" {
				t.Errorf("fired %v, %q, %v: kind %s, want %s", fired.Load(), etag, err, backup.KindOf(err), tc.kind)
			}
		})
	}
}

// Once UploadPart has returned, the transport cannot read the part's content any more: it may be closed by then.
func TestContentIsLeftAlone(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusForbidden, "AccessDenied") // long before the end of the part
	}))
	defer server.Close()
	var sent io.Reader
	store, err := s3store.Open(t.Context(), s3store.Config{
		Bucket: "vault", Endpoint: server.URL, PathStyle: true, AccessKey: "access", SecretKey: "secret",
		APIOptions: []func(*middleware.Stack) error{func(stack *middleware.Stack) error {
			return stack.Finalize.Add(middleware.FinalizeMiddlewareFunc("capture", func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (
				middleware.FinalizeOutput, middleware.Metadata, error,
			) {
				sent = in.Request.(*smithyhttp.Request).GetStream()
				return next.HandleFinalize(ctx, in)
			}), middleware.After)
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var returned, late atomic.Bool
	content := readerFunc(func(p []byte) (int, error) {
		late.Store(late.Load() || returned.Load())
		return len(p), nil
	})
	if _, err := store.UploadPart(t.Context(), partOf(content, 1<<40)); err == nil {
		t.Fatal("a refused part is a success")
	}
	returned.Store(true)
	if n, err := sent.Read(make([]byte, 10)); n != 0 || err == nil || late.Load() {
		t.Errorf("read %d bytes of the request, %v; content read: %v", n, err, late.Load())
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// A server that is not there is unavailable, and so is one that does not answer before the deadline.
func TestNoAnswer(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	store, err := s3store.Open(t.Context(), s3store.Config{Bucket: "vault", Endpoint: gone.URL, PathStyle: true, AccessKey: "a", SecretKey: "s"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.UploadPart(t.Context(), partOf(strings.NewReader("content"), 7)); !backup.Is(err, backup.StorageUnavailable) {
		t.Errorf("nobody listens: %v", err)
	}
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if _, err := store.Head(ctx, "a"); !backup.Is(err, backup.StorageUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("past the deadline: %v", err)
	}
}

// All calls but UploadPart are tried again.
func TestSDKRetries(t *testing.T) {
	var calls atomic.Int32
	store := storeOn(t, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			refuse(w, http.StatusServiceUnavailable, "SlowDown")
			return
		}
		w.Header().Set("Content-Length", "5")
	})
	if object, err := store.Head(t.Context(), "a"); err != nil || object.SizeBytes != 5 || object.Checked || calls.Load() != 2 {
		t.Errorf("%+v, %v after %d calls", object, err, calls.Load())
	}
}

// S3 answers CompleteMultipartUpload with 200 and white space before it knows the outcome.
func TestCompletionAnswersLate(t *testing.T) {
	for name, tc := range map[string]struct {
		xml  string
		kind backup.Kind
	}{
		"success": {"<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>", ""},
		"failure": {"<Error><Code>NoSuchUpload</Code><Message>gone</Message></Error>", backup.UploadLost},
		"size":    {"<Error><Code>InvalidRequest</Code><Message>size</Message></Error>", backup.ChecksumMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			var request *http.Request
			store := storeOn(t, func(w http.ResponseWriter, r *http.Request) {
				request = r
				io.WriteString(w, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n")
				for range 3 {
					io.WriteString(w, strings.Repeat(" ", 100))
					w.(http.Flusher).Flush()
				}
				io.WriteString(w, tc.xml)
			})
			err := store.CompleteUpload(t.Context(), oneCompletion)
			if backup.KindOf(err) != tc.kind {
				t.Errorf("%v: kind %q, want %q", err, backup.KindOf(err), tc.kind)
			}
			for name, want := range map[string]string{
				"If-None-Match": "*", "X-Amz-Mp-Object-Size": "9",
				"X-Amz-Checksum-Crc64nvme": "rosUhgp5mIg=", "X-Amz-Checksum-Type": "FULL_OBJECT",
			} {
				if got := request.Header.Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
		})
	}
}

// A range whose answer is not what was asked for is an error, at the latest while it is read.
func TestReadRangeIsChecked(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"longer": func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "0123456789") },
		"cut": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "4")
			io.WriteString(w, "01")
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			body, err := storeOn(t, answer).ReadRange(t.Context(), "a", 3, 4)
			if err == nil {
				_, err = io.ReadAll(body)
				body.Close()
			}
			if !backup.Is(err, backup.StorageUnavailable) {
				t.Errorf("%v", err)
			}
		})
	}
}

// A listing that never empties ends the sweep with an error.
func TestEndlessSweep(t *testing.T) {
	var listings atomic.Int32
	store := storeOn(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
		case r.URL.Query().Has("uploads"):
			listings.Add(1)
			io.WriteString(w, "<ListMultipartUploadsResult><Upload><Key>a/b</Key><UploadId>u</UploadId></Upload></ListMultipartUploadsResult>")
		default:
			t.Errorf("%s %s", r.Method, r.URL)
		}
	})
	n, err := store.AbortUploads(t.Context(), "a/", nil, nil)
	if !backup.Is(err, backup.StorageRefused) || n != 10 || listings.Load() != 10 {
		t.Errorf("removed %d in %d listings, %v", n, listings.Load(), err)
	}
}

// An object that stays although the deletion as a whole succeeded is an error.
func TestDeletionErrorsPerKey(t *testing.T) {
	store := storeOn(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			io.WriteString(w, "<DeleteResult><Error><Key>a/b</Key><Code>AccessDenied</Code><Message>locked</Message></Error></DeleteResult>")
			return
		}
		io.WriteString(w, "<ListVersionsResult><Version><Key>a/b</Key><VersionId>v</VersionId></Version></ListVersionsResult>")
	})
	if _, err := store.DeleteObjects(t.Context(), "a/", nil); !backup.Is(err, backup.StorageRefused) || !strings.Contains(err.Error(), "a/b") {
		t.Errorf("%v", err)
	}
}

// A file name in a link cannot leave its quotes, and keeps its extension.
func TestPresignedFileNames(t *testing.T) {
	store := storeOn(t, func(http.ResponseWriter, *http.Request) {})
	for name, want := range map[string]string{
		"blog-files.zip":                     "blog-files.zip",
		"a\"; filename=\"b\r\nSet-Cookie: c": "a___filename__b__Set-Cookie__c",
		"../../etc/passwd":                   "_.._etc_passwd",
		"größe.zip":                          "gr__e.zip",
		"":                                   "download",
		strings.Repeat("x", 200) + ".zip":    strings.Repeat("x", 146) + ".zip",
	} {
		link, err := store.PresignGet(t.Context(), "a/b.zip", name, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(link)
		if err != nil {
			t.Fatal(err)
		}
		if got := u.Query().Get("response-content-disposition"); got != `attachment; filename="`+want+`"` {
			t.Errorf("%q: %s", name, got)
		}
		if u.Query().Get("X-Amz-Expires") != "3600" || u.Path != "/vault/a/b.zip" {
			t.Errorf("link %s", link)
		}
	}
}

// An upload outlives a server that is killed while it puts the object together.
func TestUploadOutlivesKilledServer(t *testing.T) {
	dir := t.TempDir()
	config := versitygw.Config{Dir: dir, Credentials: versitygw.Credentials{AccessKey: "access", SecretKey: "secret"}}
	server := startConfigured(t, config)
	store := openStore(t, configOf(server, "vault"), false)
	id, err := store.CreateUpload(t.Context(), "a/b.zip", "token")
	if err != nil {
		t.Fatal(err)
	}
	part := step.PartUpload{Key: "a/b.zip", UploadID: id, Number: 1, SizeBytes: 9, Body: backuptest.NewPartBody(strings.NewReader("123456789"))}
	etag, err := store.UploadPart(t.Context(), part)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(server.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	server.Close()
	claim(t, dir, id)

	store = openStore(t, configOf(startConfigured(t, config), "vault"), false)
	const checkValue = 0xAE8B14860A799888 // of "123456789"
	err = store.CompleteUpload(t.Context(), step.Completion{
		Key: "a/b.zip", UploadID: id, SizeBytes: 9, CRC64NVME: checkValue,
		Parts: []backup.Part{{Number: 1, ETag: etag, SizeBytes: 9, CRC64NVME: checkValue}},
	})
	object, headErr := store.Head(t.Context(), "a/b.zip")
	if want := (step.Object{SizeBytes: 9, CRC64NVME: checkValue, Checked: true, Token: "token"}); err != nil || headErr != nil || object != want {
		t.Fatalf("%v; %+v, %v", err, object, headErr)
	}
}

// claim leaves the upload as versitygw does when it dies in the middle of completing it.
func claim(t *testing.T, dir, uploadID string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*", "vault", ".sgwtmp", "multipart", "*", uploadID))
	if err != nil || len(found) == 0 {
		t.Fatalf("%v, %v", found, err)
	}
	for _, folder := range found { // beside the objects also the metadata, where attributes are not supported
		if err := os.Rename(folder, folder+".0123abcd-1.inprogress"); err != nil {
			t.Fatal(err)
		}
	}
}
