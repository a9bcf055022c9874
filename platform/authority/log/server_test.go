package log

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	common "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	bundle "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/rekor-tiles/v2/pkg/client/read"
	"github.com/sigstore/rekor-tiles/v2/pkg/client/write"
	rekor "github.com/sigstore/rekor-tiles/v2/pkg/generated/protobuf"
	rekornote "github.com/sigstore/rekor-tiles/v2/pkg/note"
	"github.com/sigstore/rekor-tiles/v2/pkg/types/hashedrekord"
	"github.com/sigstore/rekor-tiles/v2/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/tlog"
)

const origin = "127.0.0.1"

// running is a log with a server on loopback.
type running struct {
	*Server
	url   string
	close func()
}

func config(dir string) Config {
	return Config{
		Dir: filepath.Join(dir, "log"), KeyFile: filepath.Join(dir, "trust", "log.key"), Origin: origin,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

func start(t testing.TB, cfg Config) *running {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	s.Register(mux)
	web := httptest.NewServer(mux)
	r := &running{Server: s, url: web.URL}
	r.close = sync.OnceFunc(func() {
		web.Close()
		ctx, cancel := context.WithTimeout(context.Background(), await.Patience)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(r.close)
	return r
}

// refused checks that a log does not start, for the reason want.
func refused(t *testing.T, cfg Config, why string) {
	t.Helper()
	s, err := New(cfg)
	if err == nil {
		s.Close(t.Context())
		t.Fatalf("the log starts, want an error with %q", why)
	}
	if !strings.Contains(err.Error(), why) {
		t.Fatalf("got %q, want an error with %q", err, why)
	}
}

var signingKey = func() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}()

// request signs a digest of text, so that each text gives another entry.
func request(t testing.TB, text string) *rekor.HashedRekordRequestV002 {
	t.Helper()
	digest := sha256.Sum256([]byte(text))
	sig, err := ecdsa.SignASN1(rand.Reader, signingKey, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return requestBy(t, signingKey.Public(), common.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256, digest[:], sig)
}

func requestBy(t testing.TB, key crypto.PublicKey, details common.PublicKeyDetails, digest, sig []byte) *rekor.HashedRekordRequestV002 {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return &rekor.HashedRekordRequestV002{Digest: digest, Signature: &rekor.Signature{Content: sig, Verifier: &rekor.Verifier{
		Verifier: &rekor.Verifier_PublicKey{PublicKey: &rekor.PublicKey{RawBytes: spki}}, KeyDetails: details,
	}}}
}

func wire(t testing.TB, hr *rekor.HashedRekordRequestV002) string {
	t.Helper()
	body, err := protojson.Marshal(&rekor.CreateEntryRequest{Spec: &rekor.CreateEntryRequest_HashedRekordRequestV002{HashedRekordRequestV002: hr}})
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func post(t testing.TB, url, body string) (*http.Response, string) {
	t.Helper()
	resp, err := http.Post(url+"/api/v2/log/entries", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(answer)
}

// add logs a request with Sigstore's own client and checks the answer with its verifier.
func (r *running) add(t testing.TB, hr *rekor.HashedRekordRequestV002) *bundle.TransparencyLogEntry {
	t.Helper()
	w, err := write.NewWriter(r.url)
	if err != nil {
		t.Fatal(err)
	}
	e, err := w.Add(t.Context(), hr)
	if err != nil {
		t.Fatal(err)
	}
	r.check(t, e, hr)
	return e
}

func (r *running) check(t testing.TB, e *bundle.TransparencyLogEntry, hr *rekor.HashedRekordRequestV002) {
	t.Helper()
	sv, err := signature.LoadVerifier(r.PublicKey(), crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	v, err := rekornote.NewNoteVerifier(r.Origin(), sv)
	if err != nil {
		t.Fatal(err)
	}
	if err := verify.VerifyLogEntry(e, v); err != nil {
		t.Fatal(err)
	}
	leaf, err := hashedrekord.ToEntryHash(hr.GetDigest(), hr.GetSignature())
	if err != nil {
		t.Fatal(err)
	}
	if err := verify.VerifyLogEntryWithHash(e, v, leaf); err != nil {
		t.Fatal(err)
	}
	if e.GetKindVersion().GetKind() != "hashedrekord" || e.GetKindVersion().GetVersion() != "0.0.2" {
		t.Fatalf("kind: got %v, want hashedrekord 0.0.2", e.GetKindVersion())
	}
	_, id, err := rekornote.KeyHash(r.Origin(), r.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	if string(id) != string(e.GetLogId().GetKeyId()) || string(id) != string(r.KeyID()) {
		t.Fatalf("log id: got %x, want %x", e.GetLogId().GetKeyId(), id)
	}
}

func (r *running) checkpoint(t testing.TB) tlog.Checkpoint {
	t.Helper()
	signed, err := r.source().Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cp, err := tlog.OpenCheckpoint(signed, r.verifier)
	if err != nil {
		t.Fatal(err)
	}
	return cp
}

func (r *running) source() tlog.Source { return tlog.HTTP{URL: r.url + "/api/v2"} }

func TestStockClient(t *testing.T) {
	r := start(t, config(t.TempDir()))
	empty := r.checkpoint(t)
	var entries []*bundle.TransparencyLogEntry
	for i := range 3 {
		e := r.add(t, request(t, fmt.Sprint(i)))
		if e.GetLogIndex() != int64(i) {
			t.Errorf("index: got %d, want %d", e.GetLogIndex(), i)
		}
		entries = append(entries, e)
	}
	sv, err := signature.LoadVerifier(r.PublicKey(), crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := read.NewReader(r.url+"/api/v2", origin, sv)
	if err != nil {
		t.Fatal(err)
	}
	cp, _, err := reader.ReadCheckpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if cp.Size != 3 {
		t.Fatalf("size: got %d, want 3", cp.Size)
	}
	data, err := reader.ReadEntryBundle(t.Context(), 0, 3)
	if err != nil {
		t.Fatal(err)
	}
	got, err := tlog.SplitEntries(data)
	if err != nil || len(got) != 3 || string(got[1]) != string(entries[1].GetCanonicalizedBody()) {
		t.Fatalf("entries: got %q, %v", got, err)
	}
	tile, err := reader.ReadTile(t.Context(), 0, 0, 2)
	if err != nil || len(tile) != 2*32 {
		t.Fatalf("tile: got %d bytes, %v, want 64", len(tile), err)
	}
	if err := tlog.Extends(t.Context(), r.source(), empty, r.checkpoint(t)); err != nil {
		t.Error(err)
	}
}

func TestOtherKeys(t *testing.T) {
	r := start(t, config(t.TempDir()))
	text := []byte("an artifact")

	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sum384 := sha512.Sum384(text)
	sig, err := ecdsa.SignASN1(rand.Reader, p384, sum384[:])
	if err != nil {
		t.Fatal(err)
	}
	r.add(t, requestBy(t, p384.Public(), common.PublicKeyDetails_PKIX_ECDSA_P384_SHA_384, sum384[:], sig))

	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	sum512 := sha512.Sum512(text)
	if sig, err = private.Sign(nil, sum512[:], crypto.SHA512); err != nil {
		t.Fatal(err)
	}
	r.add(t, requestBy(t, public, common.PublicKeyDetails_PKIX_ED25519_PH, sum512[:], sig))

	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Minute)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signingKey.Public(), signingKey)
	if err != nil {
		t.Fatal(err)
	}
	hr := request(t, "by certificate")
	hr.Signature.Verifier.Verifier = &rekor.Verifier_X509Certificate{X509Certificate: &common.X509Certificate{RawBytes: der}}
	r.add(t, hr)
}

// A client that lost the answer sends its request again: during the first request, after
// it, after a restart, and without an index.
func TestDuplicates(t *testing.T) {
	cfg := config(t.TempDir())
	registry := prometheus.NewRegistry()
	cfg.Metrics = registry
	r := start(t, cfg)
	r.add(t, request(t, "another"))
	hr := request(t, "wanted")
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			if e := r.add(t, hr); e.GetLogIndex() != 1 {
				t.Errorf("index: got %d, want 1", e.GetLogIndex())
			}
		})
	}
	wg.Wait()
	if cp := r.checkpoint(t); cp.Size != 2 {
		t.Errorf("the log has %d entries, want 2", cp.Size)
	}
	counted := map[string]float64{}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			counted[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	for name, want := range map[string]float64{"colophon_log_entries_total new": 2, "colophon_log_entries_total duplicate": 39, "colophon_log_size": 2} {
		if counted[name] != want {
			t.Errorf("%s: got %v, want %v", name, counted[name], want)
		}
	}
	r.add(t, request(t, "a third"))
	for _, damage := range []func(string) error{
		func(string) error { return nil },
		os.Remove,
		func(path string) error {
			return os.WriteFile(path, []byte("not a database, but of some length"), 0o644)
		},
	} {
		r.close()
		if err := damage(filepath.Join(cfg.Dir, "index.db")); err != nil {
			t.Fatal(err)
		}
		r = start(t, cfg)
		e := r.add(t, hr)
		if e.GetLogIndex() != 1 || e.GetInclusionProof().GetTreeSize() != 3 {
			t.Errorf("got index %d of %d, want 1 of 3", e.GetLogIndex(), e.GetInclusionProof().GetTreeSize())
		}
	}
}

// An entry is logged even if its client disconnects.
func TestAbandonedRequest(t *testing.T) {
	r := start(t, config(t.TempDir()))
	entry, _, err := canonicalEntry([]byte(wire(t, request(t, "abandoned"))), allowed)
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := r.place(gone, entry, 8); err != context.Canceled {
		t.Fatalf("got %v, want %v", err, context.Canceled)
	}
	p, _, err := r.place(t.Context(), entry, 8)
	if err != nil || p.index != 0 {
		t.Fatalf("got index %d, %v, want 0", p.index, err)
	}
}

// If all slots are taken, the log refuses requests at once and says when to retry.
func TestBusy(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.MaxPending = 1
	r := start(t, cfg)
	r.slots <- struct{}{}
	resp, _ := post(t, r.url, wire(t, request(t, "x")))
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") != "1" {
		t.Errorf("got %s, Retry-After %q, want 503 and 1", resp.Status, resp.Header.Get("Retry-After"))
	}
	<-r.slots

	// Strangers who use up their slots do not keep the attestor out.
	r.reserved = func(req *http.Request) bool { return req.URL.RawQuery == "attestor" }
	r.slots <- struct{}{}
	reserved, err := http.Post(r.url+"/api/v2/log/entries?attestor", "application/json", strings.NewReader(wire(t, request(t, "reserved"))))
	if err != nil {
		t.Fatal(err)
	}
	reserved.Body.Close()
	if reserved.StatusCode != http.StatusCreated {
		t.Errorf("a request with reserved slots: got %s, want 201", reserved.Status)
	}
	<-r.slots
	for waiting := 1; waiting > 0; { // until the index has it
		r.mu.Lock()
		waiting = len(r.pending)
		r.mu.Unlock()
	}

	// Entries that cannot be indexed stay in memory, and count.
	r.mu.Lock()
	done := make(chan struct{})
	r.pending[tlog.Hash{1}] = &pending{done: done}
	r.mu.Unlock()
	if resp, _ := post(t, r.url, wire(t, request(t, "x"))); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("got %s, want 503", resp.Status)
	}
	r.mu.Lock()
	delete(r.pending, tlog.Hash{1})
	r.mu.Unlock()
	r.add(t, request(t, "x"))

	r.close()
	if _, _, err := r.place(t.Context(), []byte("after the end"), 8); err != errBusy {
		t.Errorf("a closed log: got %v, want %v", err, errBusy)
	}
}

func TestReads(t *testing.T) {
	cfg := config(t.TempDir())
	r := start(t, cfg)
	var wg sync.WaitGroup
	for i := range 300 {
		wg.Go(func() { r.add(t, request(t, fmt.Sprint(i))) })
	}
	wg.Wait()
	// A crash can leave tiles that no checkpoint covers, and other temporary files.
	for _, path := range []string{"tile/0/001.p/45", "tile/0/001", "tile/entries/001.p/45"} {
		if err := os.WriteFile(filepath.Join(cfg.Dir, "tiles", path), make([]byte, 8192), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	get := func(path string) (*http.Response, []byte) {
		resp, err := http.Get(r.url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, body
	}
	for path, size := range map[string]int{"tile/0/000": 8192, "tile/0/000.p/7": 7 * 32, "tile/0/001.p/44": 44 * 32, "tile/0/001.p/3": 96, "tile/1/000.p/1": 32, "tile/entries/000": 0, "tile/entries/001.p/2": 0} {
		resp, body := get("/api/v2/" + path)
		if resp.StatusCode != 200 || size > 0 && len(body) != size || resp.Header.Get("Content-Type") != "application/octet-stream" || !strings.Contains(resp.Header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: got %s, %d bytes, %v", path, resp.Status, len(body), resp.Header)
		}
	}
	for _, path := range []string{"tile/0/001", "tile/0/001.p/45", "tile/entries/001.p/45", "tile/1/000", "tile/2/000.p/1", "tile/0/", "tile/", "tile/0/000/", "tile/0", "tile/%2e%2e/log.json",
		"tile/0/..%2f..%2f..%2f..%2ftrust%2flog.key", "tile/../../log.json", "tile/0/000.p/0", ".state/treeState", "index.db", ""} {
		resp, body := get("/api/v2/" + path)
		if resp.StatusCode != 404 || strings.Contains(resp.Header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: got %s %q, want 404 that is not kept", path, resp.Status, body)
		}
	}
	resp, _ := get("/api/v2/checkpoint")
	if resp.Header.Get("Cache-Control") != "no-cache" || resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("checkpoint: %v", resp.Header)
	}
	// A stranger reads the whole log and checks it against the checkpoint.
	cp := r.checkpoint(t)
	if cp.Size != 300 {
		t.Fatalf("size: got %d, want 300", cp.Size)
	}
	var leaves []tlog.Hash
	for from := int64(0); from < cp.Size; from += tlog.TileWidth {
		got, err := tlog.Leaves(t.Context(), r.source(), cp, from, min(cp.Size, from+tlog.TileWidth))
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, got...)
	}
	for i, width := range []int{256, 44} {
		data, err := tlog.ReadTile(t.Context(), r.source(), tlog.Tile{Level: tlog.Entries, Index: int64(i), Width: width})
		if err != nil {
			t.Fatal(err)
		}
		entries, err := tlog.SplitEntries(data)
		if err != nil || len(entries) != width {
			t.Fatalf("bundle %d: %d entries, %v, want %d", i, len(entries), err, width)
		}
		for j, e := range entries {
			if tlog.LeafHash(e) != leaves[i*tlog.TileWidth+j] {
				t.Fatalf("entry %d is not the one that the tree has", i*tlog.TileWidth+j)
			}
		}
	}
}
