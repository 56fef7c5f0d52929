package local_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/local"
)

func TestSmoke(t *testing.T) {
	var buf bytes.Buffer
	zw := zip.NewWriter(&buf)
	for i := range 40 {
		w, _ := zw.CreateHeader(&zip.FileHeader{Name: fmt.Sprint("f", i), Method: zip.Store})
		b := make([]byte, 1<<20)
		rand.Read(b)
		w.Write(b)
	}
	zw.Close()
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		http.ServeContent(w, r, "x.zip", time.Time{}, bytes.NewReader(buf.Bytes()))
	}))
	defer p.Close()
	c := local.DefaultConfig(t.TempDir())
	c.Listen = "127.0.0.1:0"
	c.AllowHosts = []string{"127.0.0.1"}
	c.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	s, err := local.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- s.Serve(ctx) }()
	do := func(method, path, body string) map[string]any {
		r, _ := http.NewRequest(method, s.URL()+path, strings.NewReader(body))
		if body != "" {
			r.Header.Set("Content-Type", "application/json")
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		raw, _ := io.ReadAll(res.Body)
		t.Log(method, path, res.StatusCode, string(raw))
		var m map[string]any
		json.Unmarshal(raw, &m)
		return m
	}
	do("PUT", "/v1/site/shop", fmt.Sprintf(`{"providers":[{"name":"files","url":%q},{"name":"database","url":%q}]}`, p.URL, p.URL))
	job := do("POST", "/v1/backup", `{"siteId":"shop"}`)
	for range 50 {
		time.Sleep(100 * time.Millisecond)
		m := do("GET", "/v1/backup/"+job["jobId"].(string), "")
		if m["status"] == "done" || m["status"] == "failed" {
			break
		}
	}
	do("GET", "/v1/backup/"+job["jobId"].(string)+"/tasks", "")
	do("GET", "/v1/backup/"+job["jobId"].(string)+"/files/files", "")
	do("GET", "/v1/backup", "")
	do("GET", "/v1/nope", "")
	do("PUT", "/v1/backup", "{}")
	do("POST", "/v1/backup", `{"siteId":"shop","x":1}`)
	do("POST", "/v1/backup", `{"siteId"`)
	do("POST", "/v1/backup", `{"siteId":"nope"}`)
	do("DELETE", "/v1/backup/"+job["jobId"].(string), "")
	do("GET", "/v1/backup/"+job["jobId"].(string), "")
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
