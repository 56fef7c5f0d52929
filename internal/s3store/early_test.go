package s3store_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/checksum"
	"github.com/sitevault/sitevault/internal/s3store"
	"github.com/sitevault/sitevault/internal/step"
)

const earlySize = 16 << 20 // more than the buffers between two sockets hold

// bodies says how the uploads of a test are sent: as a part, or as an object.
var bodies = map[string]string{"part": "upload", "single": backup.SingleUploadID("token")}

func bigPart(uploadID string) step.PartUpload {
	p := partOf(io.LimitReader(zeros{}, earlySize), earlySize)
	p.UploadID = uploadID
	return p
}

// resets counts the requests whose sending was cut off by the other side.
func resets(t *testing.T) (ctx context.Context, count *atomic.Int32) {
	count = new(atomic.Int32)
	return httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{WroteRequest: func(w httptrace.WroteRequestInfo) {
		if w.Err != nil && (strings.Contains(w.Err.Error(), syscall.ECONNRESET.Error()) || strings.Contains(w.Err.Error(), syscall.EPIPE.Error())) {
			count.Add(1) // net/http hides the error itself
		}
	}}), count
}

// cutOff answers, if there is an answer, and closes while most of the part is still on its way, so that the connection is reset.
func cutOff(w http.ResponseWriter, answer string) {
	c, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, answer)
}

func earlyAnswer(status int, code string) string {
	body := "<Error><Code>" + code + "</Code><Message>" + strings.Repeat("as told ", 2_000) + "</Message></Error>"
	return fmt.Sprintf("HTTP/1.1 %d Told\r\nContent-Type: application/xml\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", status, len(body), body)
}

// An answer that comes before the part has been read, and with it the end of the connection, is heard every time.
func TestEarlyAnswersAreHeard(t *testing.T) {
	const tries = 50
	for _, tc := range []struct {
		status int
		code   string
		kind   backup.Kind
	}{
		{404, "NoSuchUpload", backup.UploadLost},
		{403, "AccessDenied", backup.StorageRefused},
		{503, "SlowDown", backup.StorageUnavailable},
	} {
		for name, uploadID := range bodies {
			t.Run(tc.code+" of a "+name, func(t *testing.T) {
				var asked atomic.Int32
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Method == http.MethodPut {
						cutOff(w, earlyAnswer(tc.status, tc.code))
						return
					}
					asked.Add(1)
					w.WriteHeader(http.StatusNotFound)
				}))
				defer server.Close()
				ctx, count := resets(t)
				for range tries {
					_, err := storeAt(t, server.URL).UploadPart(ctx, bigPart(uploadID))
					if !backup.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.code) {
						t.Fatalf("%v, want %s", err, tc.kind)
					}
				}
				if count.Load() == 0 {
					t.Error("no connection was reset")
				}
				if name == "part" && asked.Load() > 0 {
					t.Errorf("%d answers were asked for once more", asked.Load())
				}
			})
		}
	}
}

// A real server refuses parts that it does not read to their end: its own words are heard.
func TestEarlyAnswersOfServer(t *testing.T) {
	const tries = 100
	server := startServer(t, false)
	right := configOf(server, "vault")
	openStore(t, right, false)
	foreign, absent := right, right
	foreign.SecretKey, absent.Bucket = "wrong", "none"
	for name, c := range map[string]s3store.Config{"SignatureDoesNotMatch": foreign, "NoSuchBucket": absent} {
		for body, uploadID := range bodies {
			t.Run(name+" of a "+body, func(t *testing.T) {
				store, err := s3store.Open(t.Context(), c)
				if err != nil {
					t.Fatal(err)
				}
				ctx, count := resets(t)
				for range tries {
					if _, err := store.UploadPart(ctx, bigPart(uploadID)); !backup.Is(err, backup.StorageRefused) || !strings.Contains(err.Error(), name) {
						t.Fatalf("%v, want %s", err, name)
					}
				}
				if count.Load() == 0 {
					t.Error("no connection was reset")
				}
			})
		}
	}
}

// A part that breaks without an answer is asked for, by a request that has no body.
func TestBrokenPartsAreAskedFor(t *testing.T) {
	listed := func(crc uint64) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `<ListPartsResult><Part><PartNumber>7</PartNumber><ETag>"e"</ETag><Size>%d</Size><ChecksumCRC64NVME>%s</ChecksumCRC64NVME></Part></ListPartsResult>`,
				earlySize, checksum.Encode(crc))
		}
	}
	refused := func(status int, code string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { refuse(w, status, code) }
	}
	right := bigPart("upload")
	if _, err := io.Copy(io.Discard, right.Body); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		read   int64 // of the part, before the connection breaks
		answer http.HandlerFunc
		kind   backup.Kind
	}{
		"the upload is gone":       {0, refused(404, "NoSuchUpload"), backup.UploadLost},
		"these keys may not":       {0, refused(403, "AccessDenied"), backup.StorageRefused},
		"busy":                     {0, refused(503, "SlowDown"), backup.StorageUnavailable},
		"parts are never listed":   {0, refused(501, "NotImplemented"), backup.StorageUnavailable},
		"silence":                  {0, func(w http.ResponseWriter, _ *http.Request) { cutOff(w, "") }, backup.StorageUnavailable},
		"the part is not there":    {0, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<ListPartsResult/>") }, backup.StorageUnavailable},
		"an earlier part is there": {0, listed(right.Body.CRC64NVME()), backup.StorageUnavailable},
		"another part is there":    {1 << 30, listed(right.Body.CRC64NVME() + 1), backup.StorageUnavailable},
		"the part is there":        {1 << 30, listed(right.Body.CRC64NVME()), ""},
	} {
		t.Run(name, func(t *testing.T) {
			var parts, asked atomic.Int32
			store := storeOn(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPut {
					parts.Add(1)
					io.CopyN(io.Discard, r.Body, tc.read)
					cutOff(w, "")
					return
				}
				asked.Add(1)
				tc.answer(w, r)
			})
			etag, err := store.UploadPart(t.Context(), bigPart("upload"))
			if backup.KindOf(err) != tc.kind || (etag != "") != (tc.kind == "") {
				t.Errorf("%q, %v, want kind %q", etag, err, tc.kind)
			}
			if parts.Load() != 1 || asked.Load() != 1 {
				t.Errorf("sent %d times, asked %d times", parts.Load(), asked.Load())
			}
		})
	}
}

// Of an object that breaks without an answer HEAD tells that these keys may not.
func TestBrokenObjectsAreAskedFor(t *testing.T) {
	for status, kind := range map[int]backup.Kind{403: backup.StorageRefused, 404: backup.StorageUnavailable} {
		var asked atomic.Int32
		store := storeOn(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut {
				cutOff(w, "")
				return
			}
			asked.Add(1)
			w.WriteHeader(status)
		})
		if _, err := store.UploadPart(t.Context(), bigPart(bodies["single"])); !backup.Is(err, kind) || asked.Load() != 1 {
			t.Errorf("%d: %v after %d questions, want %s", status, err, asked.Load(), kind)
		}
	}
}

// A server that cannot be reached is not asked what became of the part.
func TestUnsentPartsAreNotAskedFor(t *testing.T) {
	server := httptest.NewServer(nil)
	server.Close()
	store, err := s3store.Open(t.Context(), s3store.Config{Bucket: "vault", Endpoint: server.URL, PathStyle: true, AccessKey: "a", SecretKey: "s"})
	if err != nil {
		t.Fatal(err)
	}
	var dials atomic.Int32
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{ConnectStart: func(string, string) { dials.Add(1) }})
	if _, err := store.UploadPart(ctx, bigPart("upload")); !backup.Is(err, backup.StorageUnavailable) || dials.Load() != 1 {
		t.Errorf("%v after %d connections", err, dials.Load())
	}
}

// On AWS a part waits for 100 Continue: one that is refused is not sent.
func TestRefusedPartsAreNotSentOnAWS(t *testing.T) {
	var expected atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		expected.Store(r.Header.Get("Expect"))
		w.Header().Set("Connection", "close") // as S3 does
		refuse(w, http.StatusNotFound, "NoSuchUpload")
	}))
	defer server.Close()
	t.Setenv("AWS_ENDPOINT_URL_S3", server.URL)
	store, err := s3store.Open(t.Context(), s3store.Config{Bucket: "vault", Region: "eu-central-1", PathStyle: true, AccessKey: "access", SecretKey: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	var read atomic.Int64
	p := bigPart("upload")
	p.Body = backuptest.NewPartBody(readerFunc(func(b []byte) (int, error) { read.Add(int64(len(b))); return len(b), nil }))
	if _, err := store.UploadPart(t.Context(), p); !backup.Is(err, backup.UploadLost) || expected.Load() != "100-continue" || read.Load() != 0 {
		t.Errorf("%v; Expect: %v, %d bytes read", err, expected.Load(), read.Load())
	}
}
