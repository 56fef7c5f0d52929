package api_test

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/httpserver"
)

const absentJob = "01JD3Z8Q7V5X2M4N6P8R0S1T2V"

// hostile are ids that mean harm, escaped for a path.
func hostile() map[string]string {
	ids := map[string]string{
		"traversal": "../../etc/passwd", "traversal encoded": "..%2f..%2fetc", "sql": "x' OR '1'='1", "sql comment": "x';DROP TABLE jobs;--",
		"unicode": "шоп-☃", "look-alike": "ѕhop", "null byte": "shop\x00", "newline": "shop\nX-Evil: 1", "long": strings.Repeat("a", 5000),
		"upper case": "SHOP", "space": "shop ", "wildcard": "%", "template": "{siteId}", "html": "<script>alert(1)</script>", "not utf-8": "\xff\xfe",
		"percent": "%25", "dash": "-", "ulid overflow": "8" + absentJob[1:],
	}
	for name, id := range ids {
		ids[name] = url.PathEscape(id)
	}
	return ids
}

// A hostile id is refused in the one shape on every route, and stores nothing.
func TestHostileIDs(t *testing.T) {
	f := newFixture(t)
	f.putSite("alice", "shop")
	routes := []request{
		{method: "GET", path: "/backup/ID"}, {method: "DELETE", path: "/backup/ID"}, {method: "GET", path: "/backup/ID/tasks"},
		{method: "PATCH", path: "/backup/ID", body: `{"deleteAt":"2026-12-01T00:00:00Z"}`},
		{method: "POST", path: "/backup/ID/retry"}, {method: "POST", path: "/backup/ID/cancel"},
		{method: "GET", path: "/backup/ID/files/files"}, {method: "GET", path: "/backup/" + absentJob + "/files/ID"},
		{method: "GET", path: "/site/ID"}, {method: "DELETE", path: "/site/ID"}, {method: "PUT", path: "/site/ID", body: site()},
	}
	f.sameRows(func() {
		for name, id := range hostile() {
			for _, r := range routes {
				r.path = strings.Replace(r.path, "ID", id, 1)
				if a := f.do(r); a.status != http.StatusNotFound && a.status != http.StatusUnprocessableEntity {
					t.Errorf("%s: %s %.80s: %d %s", name, r.method, r.path, a.status, a.body)
				}
			}
			unescaped, _ := url.PathUnescape(id)
			a := f.do(request{method: "POST", path: "/backup", body: map[string]any{"siteId": unescaped}})
			if a.status != http.StatusNotFound && a.status != http.StatusUnprocessableEntity {
				t.Errorf("%s: create: %d %s", name, a.status, a.body)
			}
		}
	})
}

// A request that is not valid is refused with a pointer to what is wrong, and stores nothing.
func TestInvalidRequests(t *testing.T) {
	f := newFixture(t)
	f.putSite("alice", "shop")
	jobID := f.done("alice", "shop")
	post, put := request{method: "POST", path: "/backup"}, request{method: "PUT", path: "/site/other"}
	patch := request{method: "PATCH", path: "/backup/" + jobID}
	provider := func(url string) string { return `{"providers":[{"name":"files","url":"` + url + `"}]}` }
	cases := map[string]struct {
		request
		body   string
		status int
		names  string // what the answer must name
	}{
		"unknown field":           {post, `{"siteId":"shop","keepDay":3}`, 422, "keepDay"},
		"unknown nested field":    {put, `{"providers":[{"name":"files","url":"https://a.example","secret":"hunter2"}]}`, 422, "secret"},
		"broken json":             {post, `{"siteId":"shop"`, 400, ""},
		"two documents":           {post, `{"siteId":"shop"}{"siteId":"shop"}`, 400, ""},
		"no json":                 {post, `siteId=shop`, 400, ""},
		"no body":                 {post, ``, 400, ""},
		"null":                    {post, `null`, 422, ""},
		"an array":                {post, `[]`, 422, ""},
		"a string for a number":   {post, `{"siteId":"shop","keepDays":"3"}`, 422, "keepDays"},
		"a fraction for a number": {post, `{"siteId":"shop","keepDays":1.5}`, 422, "keepDays"},
		"a number for a string":   {post, `{"siteId":7}`, 422, "siteId"},
		"no site":                 {post, `{}`, 422, "siteId"},
		"keepDays 0":              {post, `{"siteId":"shop","keepDays":0}`, 422, "keepDays"},
		"keepDays -1":             {post, `{"siteId":"shop","keepDays":-1}`, 422, "keepDays"},
		"keepDays too many":       {post, `{"siteId":"shop","keepDays":3651}`, 422, "keepDays"},
		"keepDays overflow":       {post, `{"siteId":"shop","keepDays":99999999999999999999}`, 422, "keepDays"},
		"deleteAt no time":        {post, `{"siteId":"shop","deleteAt":"tomorrow"}`, 422, "deleteAt"},
		"deleteAt in the past":    {post, `{"siteId":"shop","deleteAt":"2020-01-01T00:00:00Z"}`, 422, "deleteAt"},
		"deleteAt too far":        {post, `{"siteId":"shop","deleteAt":"2126-01-01T00:00:00Z"}`, 422, ""},
		"deleteAt beyond years":   {post, `{"siteId":"shop","deleteAt":"99999-01-01T00:00:00Z"}`, 422, "deleteAt"},
		"both retentions":         {post, `{"siteId":"shop","keepDays":3,"deleteAt":"2026-12-01T00:00:00Z"}`, 422, "keepDays"},
		"keep no time":            {patch, `{}`, 422, "deleteAt"},
		"keep in the past":        {patch, `{"deleteAt":"2020-01-01T00:00:00Z"}`, 422, "deleteAt"},
		"no providers":            {put, `{}`, 422, "providers"},
		"empty providers":         {put, `{"providers":[]}`, 422, "providers"},
		"null providers":          {put, `{"providers":null}`, 422, "providers"},
		"too many providers":      {put, `{"providers":[` + strings.Repeat(`{"name":"a","url":"https://a.example"},`, 8) + `{"name":"b","url":"https://b.example"}]}`, 422, "providers"},
		"provider twice":          {put, `{"providers":[{"name":"a","url":"https://a.example"},{"name":"a","url":"https://b.example"}]}`, 422, "twice"},
		"provider name":           {put, `{"providers":[{"name":"../a","url":"https://a.example"}]}`, 422, "name"},
		"file url":                {put, provider("file:///etc/passwd"), 422, "url"},
		"relative url":            {put, provider("/export"), 422, "url"},
		"url with password":       {put, provider("https://user:hunter2@a.example/"), 422, "secretRef"},
		"url with fragment":       {put, provider("https://a.example/#x"), 422, "fragment"},
		"long url":                {put, provider("https://a.example/" + strings.Repeat("x", 3000)), 422, "url"},
		"secret traversal":        {put, `{"providers":[{"name":"a","url":"https://a.example","secretRef":"../../x"}]}`, 422, "secretRef"},
		"schedule time":           {put, `{"providers":[{"name":"a","url":"https://a.example"}],"schedule":{"at":"25:00"}}`, 422, "schedule"},
		"schedule zone":           {put, `{"providers":[{"name":"a","url":"https://a.example"}],"schedule":{"at":"03:00","timeZone":"../../etc/passwd"}}`, 422, "timeZone"},
		"schedule local zone":     {put, `{"providers":[{"name":"a","url":"https://a.example"}],"schedule":{"at":"03:00","timeZone":"Local"}}`, 422, "timeZone"},
		"parallelism":             {put, `{"providers":[{"name":"a","url":"https://a.example"}],"limits":{"parallelism":1000}}`, 422, "parallelism"},
		"negative limit":          {put, `{"providers":[{"name":"a","url":"https://a.example"}],"limits":{"maxFileBytes":-1}}`, 422, "maxFileBytes"},
		"deep nesting":            {post, strings.Repeat(`{"siteId":`, 20_000) + `1` + strings.Repeat(`}`, 20_000), 400, ""},
		"too large":               {post, `{"siteId":"` + strings.Repeat("x", 300<<10) + `"}`, 413, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := f.in(t)
			f.sameRows(func() {
				r := c.request
				r.body = c.body
				a := f.do(r)
				if a.status != c.status || !strings.Contains(a.body, c.names) {
					t.Errorf("%d %s, want %d naming %q", a.status, a.body, c.status, c.names)
				}
				if strings.Contains(a.body, "hunter2") {
					t.Errorf("the answer repeats a secret: %s", a.body)
				}
			})
		})
	}
}

// Parameters outside the path and the body are validated as well.
func TestInvalidParameters(t *testing.T) {
	f := newFixture(t)
	f.putSite("alice", "shop")
	body := map[string]any{"siteId": "shop"}
	f.sameRows(func() {
		for _, r := range []request{
			{method: "POST", path: "/backup", body: body, header: map[string]string{"Idempotency-Key": strings.Repeat("k", 256)}},
			{method: "POST", path: "/backup", body: body, header: map[string]string{"Idempotency-Key": "two words"}},
			{method: "POST", path: "/backup", body: body, header: map[string]string{"Idempotency-Key": "schlüssel"}},
			{method: "GET", path: "/backup?limit=0"}, {method: "GET", path: "/backup?limit=-1"}, {method: "GET", path: "/backup?limit=501"},
			{method: "GET", path: "/backup?limit=many"}, {method: "GET", path: "/backup?siteId=" + strings.Repeat("a", 64)},
			{method: "GET", path: "/site?limit=0"}, {method: "GET", path: "/site?limit=1e9"},
			{method: "PUT", path: "/site/new", body: site(), header: map[string]string{"If-None-Match": `"r1"`}},
		} {
			f.refused(http.StatusUnprocessableEntity, backup.InvalidRequest, r)
		}
		for _, header := range []string{"", "text/plain", "application/xml", "application/x-www-form-urlencoded", "multipart/form-data"} {
			r := request{method: "POST", path: "/backup", body: body, header: map[string]string{"Content-Type": header}}
			f.refused(http.StatusUnsupportedMediaType, backup.InvalidRequest, r)
		}
	})
}

// JSON is JSON in whatever case and with whatever parameters.
func TestContentType(t *testing.T) {
	f := newFixture(t)
	f.putSite("alice", "shop")
	for _, contentType := range []string{"APPLICATION/JSON", "Application/Json; Charset=UTF-8", " application/json ;x=\"y\"", "application/json"} {
		r := request{method: "PUT", path: "/site/shop", body: site(), header: map[string]string{"Content-Type": contentType}}
		into[api.Site](f, http.StatusOK, r)
	}
}

// A header that decides what a request does is not ignored because it is empty, or one of several.
func TestHeadersWithoutOneValue(t *testing.T) {
	f := newFixture(t)
	f.putSite("alice", "shop")
	f.sameRows(func() {
		for name, r := range map[string]request{
			"Idempotency-Key": {method: "POST", path: "/backup", body: map[string]any{"siteId": "shop"}},
			"If-Match":        {method: "PUT", path: "/site/shop", body: site()},
			"If-None-Match":   {method: "PUT", path: "/site/other", body: site()},
		} {
			for _, values := range [][]string{{""}, {" "}, {"\t "}, {"a", "b"}, {"*", ""}} {
				r.values = map[string][]string{name: values}
				if p := f.refused(http.StatusBadRequest, backup.InvalidRequest, r); !strings.Contains(p.Detail, name) {
					t.Errorf("%s %q: %s", name, values, p.Detail)
				}
			}
		}
	})
}

// A body that breaks off, whose chunks are broken or that does not come is the client's fault; one that is too large is said to
// be so to a client that goes on sending.
func TestBrokenBodies(t *testing.T) {
	f := newFixture(t)
	f.putSite("alice", "shop")
	address := listen(t, f.handler)
	large := strings.Repeat("x", 4<<20)
	f.sameRows(func() {
		for name, tc := range map[string]struct {
			request string
			ends    bool // the client sends no more
			status  int
		}{
			"no number":       {"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", false, 400},
			"negative":        {"Transfer-Encoding: chunked\r\n\r\n-1\r\n", false, 400},
			"too long":        {"Transfer-Encoding: chunked\r\n\r\n2\r\n{}}\r\n0\r\n\r\n", false, 400},
			"breaks off":      {"Transfer-Encoding: chunked\r\n\r\n9\r\n{\"si", true, 400},
			"no last chunk":   {"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", true, 400},
			"less":            {"Content-Length: 100\r\n\r\n{\"siteId\":", true, 400},
			"does not come":   {"Content-Length: 100\r\n\r\n{", false, 408},
			"large":           {"Content-Length: 4194304\r\n\r\n" + large, false, 413},
			"large in chunks": {"Transfer-Encoding: chunked\r\n\r\n400000\r\n" + large + "\r\n0\r\n\r\n", false, 413},
		} {
			conns := map[string]net.Conn{}
			for _, route := range []string{"POST /v1/backup", "PUT /v1/site/other", "PATCH /v1/backup/" + absentJob} {
				conns[route] = dial(t, address)
				if _, err := io.WriteString(conns[route], route+" HTTP/1.1\r\nHost: a\r\nTest-User: alice\r\nContent-Type: application/json\r\n"+tc.request); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if tc.ends {
					conns[route].(*net.TCPConn).CloseWrite()
				}
			}
			for route, conn := range conns {
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil || resp.StatusCode != tc.status || !resp.Close {
					t.Errorf("%s: %s: %+v, %v; want %d and the end", name, route, resp, err, tc.status)
				}
			}
		}
	})
}

// listen serves the API as the program does.
func listen(t *testing.T, h http.Handler) (address string) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	l, err := httpserver.Listen("127.0.0.1:0", httpserver.DefaultLimits(), log)
	if err != nil {
		t.Fatal(err)
	}
	server, served := httpserver.New(h, log), make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		<-served
	})
	return l.Addr().String()
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// What no route serves is told from what another method of it serves.
func TestUnknownRoutes(t *testing.T) {
	f := newFixture(t)
	for path, allow := range map[string]string{
		"/backup": "GET, POST", "/backup/" + absentJob: "DELETE, GET, PATCH", "/backup/" + absentJob + "/retry": "POST",
		"/backup/" + absentJob + "/cancel": "POST", "/backup/" + absentJob + "/tasks": "GET", "/backup/" + absentJob + "/files/files": "GET",
		"/site": "GET", "/site/shop": "DELETE, GET, PUT", "/ticket": "POST", "/openapi.json": "GET",
	} {
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"} {
			if strings.Contains(allow, method) {
				continue
			}
			a := f.do(request{method: method, path: path, header: map[string]string{"Origin": "https://evil.example", "Access-Control-Request-Method": "PUT"}})
			if a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != allow {
				t.Errorf("%s %s: %d, Allow %q, want %q", method, path, a.status, a.header.Get("Allow"), allow)
			}
		}
	}
	for _, path := range []string{"/", "", "/nope", "/backup/", "/backup/" + absentJob + "/", "/backup/" + absentJob + "/nope", "/site/", "//v2/backup", "//", "//etc/passwd", "/docs", "/schemas/Backup.json"} {
		for _, method := range []string{"GET", "POST", "OPTIONS"} {
			f.refused(http.StatusNotFound, backup.NotFound, request{method: method, path: path})
		}
	}
}

// Without a known user every route but the document asks to sign in, and tells nothing else.
func TestUnauthenticated(t *testing.T) {
	f := newFixture(t)
	f.putSite("alice", "shop")
	jobID := f.done("alice", "shop")
	f.sameRows(func() {
		for path, operations := range f.document.Paths {
			for method := range operations {
				path := strings.NewReplacer("/v1", "", "{jobId}", jobID, "{siteId}", "shop", "{provider}", "files").Replace(path)
				r := request{method: strings.ToUpper(method), path: path, user: "-"}
				f.refused(http.StatusUnauthorized, backup.Unauthenticated, r)
				if a := f.do(r); !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer ") {
					t.Errorf("%s %s: WWW-Authenticate is %q", method, path, a.header.Get("WWW-Authenticate"))
				}
			}
		}
	})
}
