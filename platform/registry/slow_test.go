package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/internal/logs"
	"github.com/colophon-build/colophon/platform/distribution"
	"github.com/colophon-build/colophon/test/await"
)

// TestUploadsAnswerAndEnd: what the answers about an upload say, and that it ends with
// nothing left of it.
func TestUploadsAnswerAndEnd(t *testing.T) {
	metrics := prometheus.NewRegistry()
	c := start(t, Config{Registerer: metrics, MaxUnfinished: 100})
	open := func() (n float64) {
		families, err := metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "colophon_registry_uploads" {
				n = f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		return n
	}
	loc := c.startUpload()
	id := loc[strings.LastIndex(loc, "/")+1:]
	if got := open(); got != 1 {
		t.Errorf("got %v uploads in the metrics, want 1", got)
	}
	content := bytes.Repeat([]byte("x"), 100)
	for _, r := range []*reply{c.want(204, "GET", loc, nil), c.want(202, "PATCH", loc, content[:40]), c.want(416, "PATCH", loc, content[:1], "Content-Range", "41-41")} {
		if r.Header.Get("Location") != loc || r.Header.Get("Docker-Upload-UUID") != id || r.Header.Get("Range") == "" {
			t.Errorf("%d: got %v, want where the upload goes on", r.StatusCode, r.Header)
		}
	}
	c.want(202, "PATCH", loc, content[40:50])
	u := c.reg.uploads[id]
	if u.summed != 50 {
		t.Errorf("got %d bytes hashed as they came, want 50", u.summed)
	}
	c.want(400, "PATCH", loc, nil, "Content-Range", "50-50") // no bytes for one
	c.want(400, "PUT", loc+"?digest=latest", content[50:])   // the upload goes on
	u.busy.Lock()
	if r := c.want(409, "PATCH", loc, content[50:]); r.code() != distribution.CodeBlobUploadInvalid {
		t.Errorf("two requests at once: got %s", r.body)
	}
	u.busy.Unlock()
	c.want(202, "PATCH", loc, content[50:]) // as much as an account may have
	c.want(201, "PUT", loc+"?digest="+sum("sha256", content), nil)
	if got := open(); got != 0 {
		t.Errorf("got %v uploads in the metrics, want 0", got)
	}
	// One that ended while a request waited for it.
	loc = c.startUpload()
	u = c.reg.uploads[loc[strings.LastIndex(loc, "/")+1:]]
	u.gone = true
	if r := c.want(404, "PATCH", loc, content); r.code() != distribution.CodeBlobUploadUnknown {
		t.Errorf("an upload that is gone: got %s", r.body)
	}
	u.gone = false
	// Each request lets it live longer, and the last one not for ever.
	c.reg.cfg.UploadIdle = 300 * time.Millisecond
	c.want(202, "PATCH", loc, content[:1])
	await.True(t, "an idle upload is gone", func() bool { return c.do("GET", loc, nil).StatusCode == 404 })
	c.reg.cfg.UploadIdle = time.Hour
	c.startUpload()
	dir := c.reg.store.path("tmp")
	if err := c.reg.Close(); err != nil {
		t.Error(err)
	}
	if e, _ := os.ReadDir(dir); len(e) != 0 || len(c.reg.uploads) != 0 {
		t.Errorf("closed: got %d files and %d uploads, want none", len(e), len(c.reg.uploads))
	}
}

// patient is a connection whose deadlines are seen.
type patient struct {
	*httptest.ResponseRecorder
	read, write []time.Time
	flushed     int // deadlines for writing that were set when it was flushed
}

func (p *patient) SetReadDeadline(t time.Time) error { p.read = append(p.read, t); return nil }

func (p *patient) SetWriteDeadline(t time.Time) error { p.write = append(p.write, t); return nil }

func (p *patient) FlushError() error { p.flushed = len(p.write); return nil }

// TestDeadlines: a client may stall for a minute in a body, and as long in a list. Then
// the deadline is lifted.
func TestDeadlines(t *testing.T) {
	c := start(t, Config{})
	raw := c.image("a", "sha256", "x", nil)
	ask := func(method, path string, body []byte) *patient {
		t.Helper()
		req := httptest.NewRequest(method, path, bytes.NewReader(body))
		req.SetBasicAuth("x", "boss")
		p := &patient{ResponseRecorder: httptest.NewRecorder()}
		c.reg.ServeHTTP(p, req)
		if p.Code >= 300 {
			t.Fatalf("%s %s: got %d %s", method, path, p.Code, p.Body)
		}
		return p
	}
	limited := func(what string, at []time.Time) {
		t.Helper()
		if len(at) < 2 || at[0].IsZero() || time.Until(at[0]) > stall || !at[len(at)-1].IsZero() {
			t.Errorf("%s: got deadlines %v, want one in %s, and then none", what, at, stall)
		}
	}
	limited("a manifest", ask("PUT", "/v2/a/manifests/v1", raw).read)
	limited("a blob", ask("POST", "/v2/a/blobs/uploads/?digest="+sum("sha256", raw), raw).read)
	list := ask("GET", "/v2/a/tags/list", nil)
	limited("a list", list.write)
	if list.flushed != 1 {
		t.Error("the list is not sent before its deadline is lifted")
	}
	if got := list.Header().Get("Content-Length"); got != fmt.Sprint(list.Body.Len()) {
		t.Errorf("got Content-Length %q for %d bytes", got, list.Body.Len())
	}
}

// waiting returns a context that is done.
func waiting() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// impatient is a context that ends without a sign, after a slot was taken.
type impatient struct{ context.Context }

func (impatient) Err() error { return context.Canceled }

func fill(slots chan struct{}) (empty func()) {
	for range cap(slots) {
		slots <- struct{}{}
	}
	return func() {
		for range cap(slots) {
			<-slots
		}
	}
}

// TestSlots: whoever waits for a slot and goes away gets none, and leaves nothing behind.
func TestSlots(t *testing.T) {
	c := start(t, Config{})
	s := c.reg.store
	raw := c.image("a", "sha256", "x", nil)
	d := mustDigest(t, sum("sha256", []byte("layer x")))
	gone := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want context.Canceled", what, err)
		}
	}

	clear(s.checked.done) // what the push has added
	empty := fill(s.checked.slots)
	_, err := s.openIntact(waiting(), s.pool(d), d)
	gone("a file to compare", err)
	empty()
	_, err = s.openIntact(impatient{context.Background()}, s.pool(d), d)
	gone("a file amid its comparison", err)
	m, err := parseManifest(raw)
	if err != nil {
		t.Fatal(err)
	}
	gone("a manifest amid the comparison of its blobs", c.reg.checkIntact(impatient{context.Background()}, "a", m))

	empty = fill(s.lists.loading)
	_, err = s.lists.names(waiting(), s.repo("a", "blobs"))
	gone("a list", err)
	if names, err := s.lists.names(waiting(), s.repo("nowhere")); names != nil || err != nil {
		t.Errorf("a directory that is not there needs a slot: got %q, %v", names, err)
	}
	if _, err := s.lists.names(waiting(), filepath.Join(s.pool(d), "x")); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("a file in the place of a directory needs a slot: got %v", err)
	}
	empty()

	a := c.reg.account("boss")
	empty = fill(a.pushing)
	req := &request{Request: httptest.NewRequest("PUT", "/v2/a/manifests/v1", bytes.NewReader(raw)).WithContext(waiting()), name: "a", ref: "v1", account: a}
	gone("a manifest", c.reg.putManifest(httptest.NewRecorder(), req))
	empty()
	c.want(404, "GET", "/v2/a/manifests/v1", nil)

	defer fill(c.reg.listing)()
	for n, want := range map[int]bool{shortList: true, shortList + 1: false} {
		w := httptest.NewRecorder()
		err := c.reg.answerJSON(w, &request{Request: req.Request}, "application/json", strings.Repeat("x", n-2))
		if (err == nil) != want || want && w.Body.Len() != n || !want && w.Body.Len() != 0 {
			t.Errorf("a list of %d bytes: got %d, %v, want it without a slot: %v", n, w.Body.Len(), err, want)
		}
	}
}

// TestDisconnects: a client that goes away is no failure of the registry, in the log and
// in the metrics.
func TestDisconnects(t *testing.T) {
	for _, tt := range []struct {
		ctx   context.Context
		level string
	}{{context.Background(), "ERROR"}, {waiting(), "INFO"}} {
		var log bytes.Buffer
		c := start(t, Config{Log: slog.New(slog.NewJSONHandler(&log, nil))})
		log.Reset()
		c.reg.fail(&logs.Answer{ResponseWriter: httptest.NewRecorder()}, &request{Request: httptest.NewRequest("GET", "/v2/a/tags/list", nil).WithContext(tt.ctx)}, io.ErrClosedPipe)
		var line struct{ Level, Error string }
		if err := json.Unmarshal(log.Bytes(), &line); err != nil || line.Level != tt.level || line.Error != io.ErrClosedPipe.Error() {
			t.Errorf("got %s, %v, want level %s", log.Bytes(), err, tt.level)
		}
	}
	// Nor is a question that wants no body.
	var log bytes.Buffer
	c := start(t, Config{Log: slog.New(slog.NewJSONHandler(&log, nil))})
	c.image("a", "sha256", "x", nil)
	for _, path := range []string{"/v2/", "/v2/a/tags/list", "/v2/a/blobs/" + sum("sha256", []byte("layer x"))} {
		if r := c.want(200, "HEAD", path, nil); r.ContentLength <= 0 {
			t.Errorf("HEAD %s: got %d bytes", path, r.ContentLength)
		}
	}
	if bytes.Contains(log.Bytes(), []byte("ERROR")) {
		t.Errorf("got %s", log.Bytes())
	}
	metrics := prometheus.NewRegistry()
	c = start(t, Config{Registerer: metrics})
	c.want(404, "GET", "/v2/a/tags/list", nil)
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "colophon_registry_requests_total" {
			continue
		}
		labels := map[string]string{}
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		if labels["status"] != "404" || labels["kind"] != "tags" || labels["method"] != http.MethodGet {
			t.Errorf("got %v", labels)
		}
	}
}
