package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/platform/authority/indexlog"
	"github.com/colophon-build/colophon/platform/authority/tiles"
	indexer "github.com/colophon-build/colophon/platform/search"
	"github.com/colophon-build/colophon/search"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/tlog"
)

// searchStage is a log with an index log and a search.
type searchStage struct {
	*logStage
	index  *indexlog.Server
	search *indexer.Service
}

func newSearchStage(t *testing.T) *searchStage {
	s := &searchStage{logStage: newLogStage(t)}
	dir := t.TempDir()
	signer, key, err := s.log.Signer(search.IndexOrigin("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	s.index, err = indexlog.New(indexlog.Config{LogConfig: tiles.LogConfig{Dir: filepath.Join(dir, "index"), Record: filepath.Join(dir, "index.vkey"), Signer: signer, PublicKey: key, Log: slog.New(slog.DiscardHandler)}, Of: s.log.Source(), OfVerifier: s.log.Verifier()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.index.Close(context.Background()) })
	s.index.Register(s.mux)
	indexKey, err := tlog.NewVerifier(search.IndexOrigin("127.0.0.1"), key)
	if err != nil {
		t.Fatal(err)
	}
	s.search = indexer.New(indexer.Config{
		Dir: dir, Log: tlog.HTTP{URL: s.url + "/api/v2"}, LogKey: s.log.Verifier(), Index: tlog.HTTP{URL: s.url + "/index"}, IndexKey: indexKey,
		Append: func(ctx context.Context, entry []byte) error { _, err := s.index.Append(ctx, entry); return err },
		Logger: slog.New(slog.DiscardHandler),
	})
	s.search.Register(s.mux)
	await.Background(t, s.search.Run)
	return s
}

// indexed waits until the index has n entries of the log.
func (s *searchStage) indexed(n int) {
	s.t.Helper()
	await.True(s.t, fmt.Sprint(n, " entries are indexed"), func() bool {
		w := httptest.NewRecorder()
		s.mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/search/v1?kind=unparsed", nil))
		a, err := search.ParseAnswer(w.Body.Bytes())
		if err != nil {
			return false
		}
		_, cp, err := search.ParseLeaf(a.Leaf, s.log.Verifier())
		return err == nil && cp.Size >= int64(n)
	})
}

// TestLogSearch searches a log, and is told lies.
func TestLogSearch(t *testing.T) {
	s := newSearchStage(t)
	s.trustIt()
	s.add("first")
	s.add("second")
	s.indexed(2)
	digest := fmt.Sprintf("%x", sha256.Sum256([]byte("second")))
	s.run(exitOK, []string{"log", "search", "--digest", digest}, "entry 1  no certificate", "digest    sha256:"+digest, "1 of 1 entries with the digest sha256:"+digest+", and no others, before entry 2 of "+s.url)
	s.run(exitOK, []string{"log", "search", "--source", "https://git.example/app"}, "0 of 0 entries with the source https://git.example/app, and no others, before entry 2")
	s.run(exitOK, []string{"log", "search", "--unparsed"}, "0 of 0 entries")
	var found foundEntries
	out := s.run(exitOK, []string{"log", "search", "--digest", "sha256:" + digest, "--since", "2026-01-01", "--json"})
	if err := json.Unmarshal([]byte(out), &found); err != nil || len(found.Entries) != 1 || found.Entries[0].Index != 1 || found.Total != 1 || found.Indexed != 2 || found.Next != nil {
		t.Errorf("got %s, %v", out, err)
	}
	for _, bad := range [][]string{{}, {"--digest", "a", "--source", "b"}, {"--digest", "SHA256:" + digest}, {"--digest", strings.ToUpper(digest)}, {"--digest", digest[:63]}, {"--digest", "sha512:" + digest}, {"--key", digest}, {"--key", "sha256:" + digest[:63]}, {"--digest", ""}, {"--digest", digest, "--limit", "0"}, {"--digest", digest, "--from", "-1"}, {"--digest", digest, "--since", "yesterday"}, {"word"}, {"--source", ""}} {
		s.run(exitUsage, append([]string{"log", "search"}, bad...))
	}
	s.run(exitOK, []string{"log", "audit"}, "entries    2, all read", "all computed again and equal", "audited")
	old := s.run(exitOK, []string{"log", "checkpoint", "--raw"})
	oldIndex := getBody(t, s.url+"/index/checkpoint")
	oldAnswer := getBody(t, s.url+"/search/v1?kind=digest&value=sha256:"+digest)
	s.add("third")
	s.indexed(3)

	outer := t
	for name, lie := range map[string]struct {
		bend func(path string, body []byte) []byte
		code int
		args []string
		word string
	}{
		"another answer":        {flip("/search"), exitUndecided, []string{"log", "search", "--digest", digest}, "answer"},
		"the answer to another": {swap("/search", getBody(t, s.url+"/search/v1?kind=digest&value=x")), exitRejected, []string{"log", "search", "--digest", digest}, "proves nothing"},
		"an older answer":       {swap("/search", oldAnswer), exitRejected, []string{"log", "search", "--digest", digest}, "has shrunk"},
		"an older log":          {swap("checkpoint", []byte(old)), exitRejected, []string{"log", "audit"}, "about 3 entries, and the log has 2"},
		"an older index":        {swap("/index/checkpoint", oldIndex), exitOK, []string{"log", "audit"}, "not in the index yet"},
		"another index":         {swap("/index/checkpoint", []byte(old)), exitRejected, []string{"log", "audit"}, "checkpoint"},
		"another root":          {flip("/index/tile/entries"), exitRejected, []string{"log", "audit"}, "contradict"},
		"another entry":         {flip("tile/entries"), exitRejected, []string{"log", "audit"}, "contradict"},
		"no search":             {gone("/search"), exitUndecided, []string{"log", "search", "--digest", digest}, "no index"},
		"no index":              {gone("/index"), exitUndecided, []string{"log", "search", "--digest", digest}, "404"},
		"no index to audit":     {gone("/index"), exitUndecided, []string{"log", "audit"}, "404"},
		"no tiles to audit":     {gone("tile/"), exitUndecided, []string{"log", "audit"}, "404"},
	} {
		t.Run(name, func(t *testing.T) {
			s.bend = lie.bend
			defer func() { s.bend = nil }()
			s.t = t
			defer func() { s.t = outer }()
			s.run(lie.code, lie.args, lie.word)
		})
	}
}

// TestSearchTimes: whoever logs an entry cannot hide it from a search by time, by a certificate of
// their own beside the one that matters.
func TestSearchTimes(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issued := func(year int) string {
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC), EmailAddresses: []string{"dev@team.example"}}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`{"verifier":{"x509Certificate":{"rawBytes":%q}}}`, base64.StdEncoding.EncodeToString(der))
	}
	broken := fmt.Sprintf(`{"verifier":{"x509Certificate":{"rawBytes":%q}}}`, base64.StdEncoding.EncodeToString([]byte("x")))
	plain := fmt.Sprintf(`{"verifier":{"publicKey":{"rawBytes":%q}}}`, base64.StdEncoding.EncodeToString([]byte("k")))
	of2026, err := parseTimes("2026-01-01", "2027-01-01")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what    string
		signers []string
		want    bool
	}{
		{"of the time", []string{issued(2026)}, true},
		{"earlier", []string{issued(2025)}, false},
		{"later", []string{issued(2027)}, false},
		{"both at other times", []string{issued(2025), issued(2027)}, false},
		{"a later one beside it", []string{issued(2026), issued(2050)}, true},
		{"an earlier one beside it", []string{issued(2001), issued(2026)}, true},
		{"one that nobody can read beside it", []string{issued(2050), broken}, true},
		{"a key beside it", []string{issued(2050), plain}, true},
		{"a key", []string{plain}, true},
		{"nobody", nil, true},
	} {
		entry := fmt.Sprintf(`{"kind":"dsse","apiVersion":"0.0.2","spec":{"dsseV002":{"payloadHash":{"algorithm":"SHA2_256","digest":%q},"signatures":[%s]}}}`,
			base64.StdEncoding.EncodeToString(make([]byte, 32)), strings.Join(c.signers, ","))
		if got := of2026.keeps([]byte(entry)); got != c.want {
			t.Errorf("%s: got %v, want %v", c.what, got, c.want)
		}
	}
}

func getBody(t *testing.T, url string) []byte {
	t.Helper()
	w := httptest.NewRecorder()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := w.Body.ReadFrom(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v", url, resp.Status, err)
	}
	return w.Body.Bytes()
}

// swap serves another body below path.
func swap(path string, other []byte) func(string, []byte) []byte {
	return func(p string, body []byte) []byte {
		if strings.HasPrefix(p, path) {
			return other
		}
		return body
	}
}
