package trustservices

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	sigroot "github.com/sigstore/sigstore-go/pkg/root"
	"google.golang.org/protobuf/encoding/protojson"

	ours "github.com/colophon-build/colophon/sign"
	"github.com/colophon-build/colophon/trust"
)

// foreign is the log of s as a Rekor v2 log answers: a duplicate gets status 409 and no entry,
// and where says in a header at which index the log has it.
func foreign(t *testing.T, s *services, where func(http.Header, int64)) *sigroot.SigningConfig {
	t.Helper()
	back, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	seen := map[int64]bool{}
	proxy := httputil.NewSingleHostReverseProxy(back)
	proxy.ModifyResponse = func(r *http.Response) error {
		if r.Request.Method != http.MethodPost || r.StatusCode != http.StatusCreated {
			return nil
		}
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		entry := new(rekorpb.TransparencyLogEntry)
		if err := protojson.Unmarshal(raw, entry); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		if seen[entry.LogIndex] {
			r.StatusCode, raw = http.StatusConflict, []byte(`{"code":6}`)
			where(r.Header, entry.LogIndex)
		}
		seen[entry.LogIndex] = true
		r.Header.Set("Content-Length", strconv.Itoa(len(raw)))
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(raw)), int64(len(raw))
		return nil
	}
	srv := httptest.NewServer(proxy)
	t.Cleanup(srv.Close)
	config, err := sigroot.NewSigningConfigFromJSON(s.root.SigningConfig())
	if err != nil {
		t.Fatal(err)
	}
	logs := config.RekorLogURLs()
	for i := range logs {
		logs[i].URL = srv.URL
	}
	return config.WithRekorLogURLs(logs...)
}

// A signature that a log has already, because a run died after it was logged, gets the log's
// entry, also of a log that answers a duplicate with its index alone.
func TestSignLoggedBefore(t *testing.T) {
	s := start(t, t.TempDir(), "127.0.0.1:0")
	trusted, err := trust.Parse(s.root.Document())
	if err != nil {
		t.Fatal(err)
	}
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	index := func(n int64) func(http.Header, int64) {
		return func(h http.Header, at int64) { h.Set("X-Log-Index", strconv.FormatInt(at+n, 10)) }
	}
	for name, tt := range map[string]struct {
		where func(http.Header, int64)
		want  string // in the error
	}{
		"where it is":          {index(0), ""},
		"where another one is": {index(-1), "log entry"},
		"behind the end":       {index(1000), "does not exist"},
		"nowhere":              {func(http.Header, int64) {}, "does not say where"},
		"no number":            {func(h http.Header, _ int64) { h.Set("X-Log-Index", "-1") }, "does not say where"},
	} {
		config := foreign(t, s, tt.where)
		var first, second []byte
		for i, raw := range []*[]byte{&first, &second} {
			session, err := ours.OpenKey(config, trusted.Material, private)
			if err != nil {
				t.Fatal(err)
			}
			*raw, err = session.Artifact(t.Context(), strings.NewReader(name))
			if i == 1 && tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%s: got %v, want %q", name, err, tt.want)
				}
			} else if err != nil {
				t.Errorf("%s: run %d: %v", name, i+1, err)
			}
		}
	}
}
