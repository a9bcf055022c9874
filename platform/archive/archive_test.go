package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/internal/intact"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/tlog"
)

func open(t testing.TB, dir string) *Archive {
	t.Helper()
	a, err := Open(Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// refuses fails the test unless the archive in dir does not open, for the reason why.
func refuses(t *testing.T, dir, why string) {
	t.Helper()
	a, err := Open(Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err == nil {
		a.Close()
	}
	if err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("got %v, want %q in it", err, why)
	}
}

// signed returns a bundle about a digest (hex), and the leaf hash of its entry.
func signed(t testing.TB, p *prooftest.Platform, digest string) (raw []byte, leaf string) {
	t.Helper()
	statement, err := attest.NewStatement("app", digest, attest.PredicateSign, map[string]any{})
	if err != nil {
		t.Fatal(err)
	}
	raw = p.Sign(prooftest.Identity{SAN: prooftest.Builder, Issuer: prooftest.URL}, statement)
	b, err := bundle.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	hash := tlog.LeafHash(b.Entries[0].GetCanonicalizedBody())
	return raw, hex.EncodeToString(hash[:])
}

func sumOf(raw []byte) string { return fmt.Sprintf("%x", sha256.Sum256(raw)) }

// attached is a manifest with layers, and their blobs.
type attached struct {
	manifest []byte
	blobs    map[string][]byte
}

type content struct {
	mediaType   string
	raw         []byte
	annotations map[string]string
}

func attach(t testing.TB, subject string, contents ...content) attached {
	t.Helper()
	a := attached{blobs: map[string][]byte{}}
	layers := []any{}
	for _, c := range contents {
		d := "sha256:" + sumOf(c.raw)
		a.blobs[d] = c.raw
		layers = append(layers, map[string]any{"mediaType": c.mediaType, "digest": d, "size": len(c.raw), "annotations": c.annotations})
	}
	m := map[string]any{"schemaVersion": 2, "layers": layers}
	if subject != "" {
		m["subject"] = map[string]any{"digest": subject}
	}
	var err error
	if a.manifest, err = json.Marshal(m); err != nil {
		t.Fatal(err)
	}
	return a
}

func (m attached) open(digest string) (io.ReadCloser, error) {
	raw, ok := m.blobs[digest]
	if !ok {
		return nil, os.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(raw)), nil
}

// find returns the digests of what is found by a leaf ("leaf:HEX") or digest.
func (a *Archive) find(t testing.TB, key string) (digests []string) {
	t.Helper()
	list, err := a.index.list(key, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range list.Kept {
		digests = append(digests, k.Digest)
	}
	return digests
}

func (a *Archive) wants(t testing.TB, key string, contents ...[]byte) {
	t.Helper()
	var want []string
	for _, c := range contents {
		want = append(want, "sha256:"+sumOf(c))
	}
	if got := a.find(t, key); !slices.Equal(got, want) {
		t.Errorf("%s: found %q, want %q", key, got, want)
	}
	for _, c := range contents {
		if raw, err := os.ReadFile(a.object(sumOf(c))); err != nil || !bytes.Equal(raw, c) {
			t.Errorf("%s: the content has %d bytes (%v), want %d", sumOf(c), len(raw), err, len(c))
		}
	}
}

// TestKept: evidence of each form is found by its entry and its subject, is kept once, and
// survives the loss of the index.
func TestKept(t *testing.T) {
	dir := t.TempDir()
	a := open(t, dir)
	p := prooftest.New(t)
	image, other := strings.Repeat("a", 64), "sha256:"+strings.Repeat("b", 64)
	raw, leaf := signed(t, p, image)
	second, secondLeaf := signed(t, p, image)
	env := envelopeOf(t, second)
	payload := fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":"r"},"image":{"docker-manifest-digest":"sha256:%s"},"type":"cosign container image signature"},"optional":null}`, strings.Repeat("c", 64))
	cosign := func(signature string) content {
		return content{attest.SimpleSigningMediaType, payload, map[string]string{attest.Cosign2Signature: signature}}
	}
	statement, err := attest.NewStatement("app", strings.Repeat("d", 64), "https://example.com/p", map[string]any{})
	if err != nil {
		t.Fatal(err)
	}
	keep := func(m attached) {
		t.Helper()
		if err := a.Manifest(t.Context(), m.manifest, m.open); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		keep(attach(t, "sha256:"+image, content{attest.BundleMediaType, raw, nil}))
		keep(attach(t, "", content{"application/vnd.oci.image.layer.v1.tar", []byte("a layer"), nil}))
		keep(attach(t, "", cosign(base64.StdEncoding.EncodeToString([]byte("one")))))
		keep(attach(t, "", cosign(base64.StdEncoding.EncodeToString([]byte("one"))), cosign(base64.StdEncoding.EncodeToString([]byte("two")))))
		keep(attach(t, other, content{attest.EnvelopeMediaType, env, nil}, content{attest.PayloadType, statement, nil}, content{"application/cose", []byte("notation"), nil}))
	}
	if _, err := a.Keep(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	keep(attach(t, other, content{attest.BundleMediaType, raw, nil})) // of another subject, too
	check := func() {
		t.Helper()
		a.wants(t, "leaf:"+leaf, raw)
		a.wants(t, "leaf:"+secondLeaf, second)
		a.wants(t, "sha256:"+image, raw, env, second)
		a.wants(t, "sha256:"+strings.Repeat("c", 64), payload, payload) // two signatures
		a.wants(t, "sha256:"+strings.Repeat("d", 64), statement)
		a.wants(t, other, raw, env, statement, []byte("notation"))
		if got := len(a.find(t, "")); got != 7 {
			t.Errorf("got %d pieces, want 7", got)
		}
	}
	check()
	for _, lost := range []string{"", "index.db", "index.db-wal"} {
		a.Close()
		if lost != "" {
			os.Remove(filepath.Join(dir, lost))
		}
		a = open(t, dir)
		check()
	}
}

func envelopeOf(t *testing.T, raw []byte) []byte {
	t.Helper()
	b, err := bundle.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	e := b.Proto.GetDsseEnvelope()
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, `{"payloadType":%q,"payload":%q,"signatures":[{"sig":%q}]}`, e.GetPayloadType(), b64(e.GetPayload()), b64(e.GetSignatures()[0].GetSig()))
}

// TestHostile: content is found by what its bytes are, never by what they claim, and what
// cannot be read is kept as bytes.
func TestHostile(t *testing.T) {
	a := open(t, t.TempDir())
	p := prooftest.New(t)
	genuine, leaf := signed(t, p, strings.Repeat("a", 64))
	forged, own := signed(t, p, strings.Repeat("b", 64))
	var g, f map[string]any
	if json.Unmarshal(genuine, &g) != nil || json.Unmarshal(forged, &f) != nil {
		t.Fatal("not JSON")
	}
	// The forged bundle claims the entry of the genuine one.
	f["verificationMaterial"].(map[string]any)["tlogEntries"] = g["verificationMaterial"].(map[string]any)["tlogEntries"]
	claims, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	subject := "sha256:" + strings.Repeat("e", 64)
	garbage := []byte(`{"mediaType":"x","mediaType":"y"}`)
	m := attach(t, subject, content{attest.BundleMediaType, claims, nil}, content{attest.BundleMediaType, garbage, nil}, content{attest.BundleMediaType, nil, nil})
	if err := a.Manifest(t.Context(), m.manifest, m.open); err != nil {
		t.Fatal(err)
	}
	a.wants(t, "leaf:"+leaf)
	a.wants(t, "leaf:"+own, claims)
	a.wants(t, subject, claims, garbage, nil)

	// Nothing is found by what is no digest.
	for name, about := range map[string]string{"not a digest": "latest", "long": "sha256:" + strings.Repeat("a", 1000), "upper case": "sha256:" + strings.Repeat("A", 64)} {
		if k, err := a.keep(t.Context(), api.FormBundle, []byte(name), nil, about); err != nil || len(a.find(t, about)) != 0 {
			t.Errorf("%s: got %v, %v; it is found by its subject", name, k, err)
		}
	}
	for name, m := range map[string]attached{
		"no blob":     {attach(t, subject, content{attest.BundleMediaType, []byte("x"), nil}).manifest, nil},
		"no manifest": {[]byte("{"), nil},
	} {
		if err := a.Manifest(t.Context(), m.manifest, m.open); err == nil {
			t.Errorf("%s: it is acknowledged", name)
		}
	}
	if _, err := a.Keep(t.Context(), garbage); !errors.Is(err, errNoBundle) {
		t.Errorf("got %v, want %v", err, errNoBundle)
	}
}

// TestPastLimits: what no verifier reads is left out, and the manifest is not refused.
func TestPastLimits(t *testing.T) {
	a := open(t, t.TempDir())
	subject := "sha256:" + strings.Repeat("e", 64)
	large := attach(t, subject, content{attest.BundleMediaType, make([]byte, api.MaxContent+1), nil})
	annotations := attach(t, subject, content{attest.SimpleSigningMediaType, []byte("{}"), map[string]string{attest.Cosign2Signature: strings.Repeat("a", maxAnnotations)}})
	for _, m := range []attached{large, annotations} {
		if err := a.Manifest(t.Context(), m.manifest, m.open); err != nil {
			t.Error(err)
		}
	}
	a.wants(t, subject)
	var subjects []attest.Subject
	for i := range maxSubjects + 1 {
		subjects = append(subjects, attest.Subject{Name: "f", Digest: map[string]string{"sha256": fmt.Sprintf("%064x", i)}})
	}
	statement, err := attest.NewStatementAbout(subjects, "https://example.com/p", map[string]any{})
	if err != nil {
		t.Fatal(err)
	}
	many := attach(t, subject, content{attest.PayloadType, statement, nil})
	if err := a.Manifest(t.Context(), many.manifest, many.open); err != nil {
		t.Fatal(err)
	}
	a.wants(t, subject, statement)
	a.wants(t, "sha256:"+fmt.Sprintf("%064x", 1))
	j := &journal{f: a.journal.f, size: a.journal.size}
	if err := j.append(&record{Subjects: []string{strings.Repeat("a", maxLine)}}); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a line past the limit: got %v", err)
	}
}

// TestHTTP asks and feeds the archive over HTTP.
func TestHTTP(t *testing.T) {
	a := open(t, t.TempDir())
	mux := http.NewServeMux()
	a.Register(mux, func(token string) (bool, bool) { return token == "read" || token == "push", token == "push" })
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	do := func(code int, method, path, token string, body []byte) []byte {
		t.Helper()
		r, _ := http.NewRequestWithContext(t.Context(), method, srv.URL+api.PathArchive+path, bytes.NewReader(body))
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		answer, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != code {
			t.Errorf("%s %s: got %s %s, want %d", method, path, resp.Status, answer, code)
		}
		return answer
	}
	p := prooftest.New(t)
	raw, leaf := signed(t, p, strings.Repeat("a", 64))
	do(401, "POST", "", "", raw)
	do(401, "POST", "", "read", raw)
	do(400, "POST", "", "push", []byte("{}"))
	do(413, "POST", "", "push", make([]byte, api.MaxContent+1))
	do(201, "POST", "", "push", raw)
	do(401, "GET", "?leaf="+leaf, "", nil)
	do(400, "GET", "?leaf=x", "read", nil)
	do(400, "GET", "?subject=x", "read", nil)
	do(400, "GET", "?leaf="+leaf+"&subject=sha256:"+leaf, "read", nil)
	do(400, "GET", "?after=-1", "read", nil)
	do(401, "GET", "/sha256:"+sumOf(raw), "", nil)
	do(404, "GET", "/sha256:"+leaf, "read", nil)
	do(400, "GET", "/sha256:..%2f..%2fjournal", "read", nil)
	if got := do(200, "GET", "/sha256:"+sumOf(raw), "read", nil); !bytes.Equal(got, raw) {
		t.Errorf("got other content")
	}
	c := &api.ClientConfig{URL: srv.URL, Token: "read"}
	for name, ask := range map[string]func(int64) (*api.KeptList, error){
		"leaf": func(after int64) (*api.KeptList, error) { return c.KeptWith(t.Context(), leaf, after) },
		"subject": func(after int64) (*api.KeptList, error) {
			return c.KeptAbout(t.Context(), "sha256:"+strings.Repeat("a", 64), after)
		},
	} {
		list, err := ask(0)
		if err != nil || len(list.Kept) != 1 || list.Next != 0 || list.Kept[0].Leaf != leaf {
			t.Fatalf("%s: got %+v, %v", name, list, err)
		}
		if got, err := c.Content(t.Context(), list.Kept[0]); err != nil || !bytes.Equal(got, raw) {
			t.Errorf("%s: got %d bytes, %v", name, len(got), err)
		}
		if list, err := ask(1); err != nil || len(list.Kept) != 0 {
			t.Errorf("%s: got %+v, %v", name, list, err)
		}
	}
	// Damaged content is not served.
	if err := os.WriteFile(a.object(sumOf(raw)), []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	do(500, "GET", "/sha256:"+sumOf(raw), "read", nil)
	do(201, "POST", "", "push", raw) // repairs it
	do(200, "GET", "/sha256:"+sumOf(raw), "read", nil)
}

// TestBusy: only so many bundles are received at the same time.
func TestBusy(t *testing.T) {
	s := &server{open(t, t.TempDir()), nil, make(chan struct{}, 1)}
	s.adding <- struct{}{}
	w := httptest.NewRecorder()
	err := s.add(w, httptest.NewRequest("POST", api.PathArchive, nil))
	if e, ok := errors.AsType[*refused](err); !ok || e.status != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("got %v, want 503 and Retry-After", err)
	}
}

// TestPages: a long list comes in parts.
func TestPages(t *testing.T) {
	a := open(t, t.TempDir())
	about := "sha256:" + strings.Repeat("f", 64)
	const n = api.MaxKept + 20
	for i := range n {
		if _, err := a.keep(t.Context(), api.FormBundle, []byte(fmt.Sprint(i)), nil, about); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"", about} {
		var numbers []int64
		for after := int64(0); ; {
			list, err := a.index.list(key, after)
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range list.Kept {
				numbers = append(numbers, k.Number)
			}
			if after = list.Next; after == 0 {
				break
			}
		}
		if len(numbers) != n || !slices.IsSorted(numbers) {
			t.Errorf("%q: got %d pieces, want %d", key, len(numbers), n)
		}
	}
}

// TestScrub finds what is damaged and what is missing.
func TestScrub(t *testing.T) {
	dir := t.TempDir()
	a := open(t, dir)
	for _, text := range []string{"one", "two", "three"} {
		if _, err := a.keep(t.Context(), api.FormBundle, []byte(text), nil, ""); err != nil {
			t.Fatal(err)
		}
	}
	scrub := func(words ...string) {
		t.Helper()
		var found []string
		r := intact.Report{Tell: func(f intact.Finding) { found = append(found, f.String()) }}
		if err := Scrub(context.Background(), &r, dir); err != nil {
			t.Fatal(err)
		}
		if len(found) != len(words) {
			t.Errorf("found %q, want %q", found, words)
		}
		for i, w := range words {
			if i < len(found) && !strings.Contains(found[i], w) {
				t.Errorf("found %q, want %q", found[i], w)
			}
		}
	}
	scrub()
	os.Remove(a.object(sumOf([]byte("one"))))
	os.WriteFile(a.object(sumOf([]byte("two"))), []byte("2"), 0o600)
	scrub("does not have the SHA-256", "it is missing; record 1 has it")
	a.Close()
	path := filepath.Join(dir, journalFile)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	os.WriteFile(path, []byte(lines[0]+lines[2]), 0o600)
	scrub("does not have the SHA-256", "it is missing", "line 2: it has number 3")
	os.WriteFile(path, []byte(strings.Replace(string(text), "bundle", "bandle", 1)), 0o600)
	scrub("does not have the SHA-256", "line 1: the line is damaged")
}
