package attestor

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/release"
	"github.com/colophon-build/colophon/test/await"
)

func TestRecordsAndLogs(t *testing.T) {
	dir := t.TempDir()
	const log = "<script>log"
	id, sum := strings.Repeat("1", 32), fmt.Sprintf("%x", sha256.Sum256([]byte(log)))
	damaged := strings.Repeat("c", 64)
	const record = `{"image":"r.example.com/a","digest":"sha256:1","tags":["v1"]}`
	for name, content := range map[string]string{"records/" + id + ".json": record, "records/12" + id[2:] + ".json": record, "logs/" + sum: log, "logs/" + damaged: "other bytes", "secret.json": "secret", "records/x.json": "secret"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r, err := release.New(release.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(New(r, dir, prometheus.NewRegistry(), slog.New(slog.DiscardHandler)).Handler())
	defer srv.Close()
	for path, want := range map[string]struct {
		status int
		body   string
	}{
		api.PathReleases + "/" + id:                                  {200, ""},
		api.PathReleases + "/1111":                                   {200, ""},
		api.PathReleases + "/11":                                     {400, ""},
		api.PathReleases + "/" + id + "/log":                         {404, ""},
		api.PathReleases + "/" + id + "/log?follow=1":                {400, ""},
		api.PathReleases + "/x/log":                                  {400, ""},
		api.PathReleases:                                             {200, `{"releases":[]}` + "\n"},
		api.PathReleases + "?state=failed&limit=3&image=a":           {200, `{"releases":[]}` + "\n"},
		api.PathReleases + "?state=x":                                {400, ""},
		api.PathReleases + "?limit=0":                                {400, ""},
		api.PathReleases + "?limit=1&limit=2":                        {400, ""},
		api.PathReleases + "?limits=1":                               {400, ""},
		api.PathLogs + "/sha256:" + sum:                              {200, log},
		api.PathLogs + "/sha256:" + damaged:                          {500, ""},
		api.PathReleases + "/" + strings.Repeat("2", 32):             {404, ""},
		api.PathLogs + "/sha256:" + strings.Repeat("b", 64):          {404, ""},
		api.PathReleases + "/x":                                      {400, ""},
		api.PathReleases + "/..%2fsecret":                            {400, ""},
		api.PathReleases + "/%2e%2e":                                 {400, ""},
		api.PathReleases + "/" + id + "%00":                          {400, ""},
		api.PathReleases + "/" + strings.Repeat("A", 32):             {400, ""},
		api.PathLogs + "/..%2f..%2fsecret.json":                      {400, ""},
		api.PathLogs + "/sha256:..%2f..%2fsecret.json":               {400, ""},
		api.PathLogs + "/" + sum:                                     {400, ""},
		api.PathLogs + "/sha256:" + sum + "%2f..%2f..%2fsecret.json": {400, ""},
		api.PathLogs + "/sha512:" + sum:                              {400, ""},
	} {
		req, err := http.NewRequest(http.MethodGet, srv.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != want.status || want.body != "" && string(body) != want.body || strings.Contains(string(body), "secret\n") {
			t.Errorf("%s: got %d %q, %v; want %d %q", path, resp.StatusCode, body, err, want.status, want.body)
		}
		if path == api.PathReleases+"/"+id && !strings.Contains(string(body), `"state":"released"`) {
			t.Errorf("%s: got %s", path, body)
		}
		if resp.StatusCode == 200 && resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: a browser may guess its type", path)
		}
	}
}

func TestBadRequests(t *testing.T) {
	srv := httptest.NewServer(New(nil, t.TempDir(), prometheus.NewRegistry(), slog.New(slog.DiscardHandler)).Handler())
	defer srv.Close()
	for name, body := range map[string]string{
		"unknown member": `{"evil":1}`, "duplicate": `{"ref":"a","ref":"b"}`, "no JSON": `x`, "nothing": ``, "two": `{}{}`,
		"too large": `{"ref":"` + strings.Repeat("a", 1<<20) + `"}`,
	} {
		for _, path := range []string{api.PathReleases, api.PathDeclared} {
			resp, err := http.Post(srv.URL+path, "application/json", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusBadRequest {
				t.Errorf("%s, %s: got %s, want 400", path, name, resp.Status)
			}
		}
	}
	c := &api.ClientConfig{URL: srv.URL, Token: "t"}
	d, err := c.Declared(t.Context(), api.ReleaseRequest{Source: "https://git.example.com/a", Image: "r.example.com/a"}, func(api.Event) {})
	if known, ok := errors.AsType[*api.Error](err); !ok || known.Kind != api.Usage {
		t.Errorf("declared images of one image: got %+v, %v, want a usage error", d, err)
	}
}

// A requester that stays connected but reads nothing must not delay a release.
func TestRequesterWhoReadsNothing(t *testing.T) {
	if patience != time.Minute {
		t.Errorf("got a patience of %s, want a minute", patience)
	}
	ended := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		out := &eventWriter{w: w, rc: http.NewResponseController(w), patience: 200 * time.Millisecond}
		for r.Context().Err() == nil {
			out.write(api.Event{Phase: "build", Line: strings.Repeat("x", 10000)})
		}
	}))
	defer srv.Close()
	c, err := net.Dial("tcp", strings.TrimPrefix(srv.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	await.Value(t, "the end of the release", ended)
}

// The output of a build must not make a line that is too long for the client.
func TestEventsFitTheClient(t *testing.T) {
	w := httptest.NewRecorder()
	out := &eventWriter{w: w, rc: http.NewResponseController(w), patience: time.Second}
	evil := strings.Repeat("<\x01", 1<<20)
	out.write(api.Event{Phase: "build", Step: evil, Line: evil, Error: &api.Error{Message: evil, Hint: evil}})
	if n := w.Body.Len(); n > api.MaxEvent || n < 1000 {
		t.Errorf("an event of %d bytes, clients take %d", n, api.MaxEvent)
	}
}

func TestMetrics(t *testing.T) {
	dir := t.TempDir()
	r, err := release.New(release.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	s := New(r, dir, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	s.metrics.ended(nil, 3*time.Second)
	s.metrics.ended(fmt.Errorf("build: %w", context.Canceled), time.Second)
	s.metrics.ended(&api.Error{Message: "refused"}, time.Second)
	s.metrics.ended(&api.Error{Message: "refused"}, time.Second)
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{
		`colophon_releases_total{outcome="released"} 1`, `colophon_releases_total{outcome="cancelled"} 1`, `colophon_releases_total{outcome="failed"} 2`,
		`colophon_release_seconds_bucket{outcome="released",le="5"} 1`, `colophon_releases_running 0`,
	} {
		if !strings.Contains(w.Body.String(), want+"\n") {
			t.Errorf("got %s, want %q in it", w.Body, want)
		}
	}
}
