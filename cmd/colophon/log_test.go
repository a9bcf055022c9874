package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/archive"
	"github.com/colophon-build/colophon/platform/authority/log"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/trust/tuf"
)

// logStage is a real log, served over HTTP, and an empty trust store. A test can change
// what the log serves.
type logStage struct {
	*stage
	url   string
	keyID string
	log   *log.Server
	mux   *http.ServeMux // what is served
	p     *prooftest.Platform

	archive *archive.Archive
	// bend, if set, replaces the body of an answer; nil means 404.
	bend func(path string, body []byte) []byte
}

func newLogStage(t *testing.T) *logStage {
	t.Setenv("COLOPHON_TRUST", filepath.Join(t.TempDir(), "trust"))
	t.Setenv("COLOPHON_PLATFORM", "")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	dir := t.TempDir()
	l, err := log.New(log.Config{Dir: filepath.Join(dir, "log"), KeyFile: filepath.Join(dir, "trust", "log.pem"), Origin: "127.0.0.1", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(context.Background()) })
	s := &logStage{stage: &stage{t: t}, log: l, keyID: fmt.Sprintf("%x", l.KeyID()), p: prooftest.New(t)}
	mux := http.NewServeMux()
	s.mux = mux
	l.Register(mux)
	if s.archive, err = archive.Open(archive.Config{Dir: filepath.Join(dir, "archive"), Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.archive.Close() })
	s.archive.Register(mux, func(token string) (bool, bool) { return token != "wrong", false })
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.bend == nil {
			mux.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		mux.ServeHTTP(rec, r)
		if body := s.bend(strings.TrimPrefix(r.URL.Path, "/api/v2/"), rec.Body.Bytes()); body == nil {
			http.NotFound(w, r)
		} else {
			w.WriteHeader(rec.Code)
			w.Write(body)
		}
	}))
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

// document returns the trust document of a platform whose log has the key of l.
func (s *logStage) document(l *log.Server) []byte {
	s.t.Helper()
	at := *s.p
	at.URL = s.url
	var doc trust.Document
	var trusted map[string]any
	if err := json.Unmarshal(at.Document(), &doc); err != nil {
		s.t.Fatal(err)
	}
	if err := json.Unmarshal(doc.TrustedRoot, &trusted); err != nil {
		s.t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(l.PublicKey())
	if err != nil {
		s.t.Fatal(err)
	}
	trusted["tlogs"] = []any{map[string]any{
		"baseUrl": s.url, "hashAlgorithm": "SHA2_256", "logId": map[string]any{"keyId": l.KeyID()},
		"publicKey": map[string]any{"rawBytes": spki, "keyDetails": "PKIX_ED25519", "validFor": map[string]any{"start": "2020-01-01T00:00:00Z"}},
	}}
	if doc.TrustedRoot, err = json.Marshal(trusted); err != nil {
		s.t.Fatal(err)
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		s.t.Fatal(err)
	}
	return raw
}

// add logs a signature of the text by a new key, and returns its bundle.
func (s *logStage) add(text string) []byte {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	digest := sha256.Sum256([]byte(text))
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		s.t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		s.t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	resp, err := http.Post(s.url+"/api/v2/log/entries", "application/json", strings.NewReader(fmt.Sprintf(
		`{"hashedRekordRequestV002":{"digest":%q,"signature":{"content":%q,"verifier":{"publicKey":{"rawBytes":%q},"keyDetails":"PKIX_ECDSA_P256_SHA_256"}}}}`, b64(digest[:]), b64(sig), b64(spki))))
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	entry, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusCreated {
		s.t.Fatalf("%s %s %v", resp.Status, entry, err)
	}
	return fmt.Appendf(nil, `{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey":{"hint":"h"},"tlogEntries":[%s]},`+
		`"messageSignature":{"messageDigest":{"algorithm":"SHA2_256","digest":%q},"signature":%q}}`, entry, b64(digest[:]), b64(sig))
}

// trustIt adds the trust root of the stage.
func (s *logStage) trustIt() {
	s.t.Helper()
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.document(s.log)), "--yes"}, "trusted")
}

// TestLogChoice: the log comes from the trust roots of this machine and from nowhere else.
func TestLogChoice(t *testing.T) {
	s := newLogStage(t)
	s.run(exitFailure, []string{"log", "checkpoint"}, "no trust root yet", "trust add")
	s.run(exitFailure, []string{"log", "checkpoint", "--log", s.url}, "no trust root yet")
	s.trustIt()
	for _, name := range [][]string{nil, {"--log", s.url}, {"--log", s.url + "/"}, {"--log", s.url + "/api/v2"}, {"--log", "127.0.0.1"}, {"--log", s.keyID}} {
		s.run(exitOK, append([]string{"log", "checkpoint"}, name...), "entries    0", "origin     127.0.0.1")
	}
	s.run(exitUsage, []string{"log", "checkpoint", "--log", "https://log.example.com"}, "no trust root on this machine has the log", s.url)

	// The platform of the login is asked, also if there are other logs.
	other := *s.p
	other.URL = "http://127.0.0.1:1"
	s.run(exitOK, []string{"trust", "add", s.file("other.json", other.Document()), "--yes"}, "trusted")
	s.run(exitUsage, []string{"log", "checkpoint"}, "names 2 logs", s.url, prooftest.URL)
	t.Setenv("COLOPHON_PLATFORM", s.file("client.json", fmt.Appendf(nil, `{"url":%q,"token":"t","fingerprint":""}`, s.url)))
	s.run(exitOK, []string{"log", "checkpoint"}, s.url)
	t.Setenv("COLOPHON_PLATFORM", s.file("client.json", []byte(`{"url":"https://colophon.example.com","token":"t","fingerprint":""}`)))
	s.run(exitFailure, []string{"log", "checkpoint"}, "no trust root on this machine has the log of your platform", "trust add https://colophon.example.com")
	if names, _ := completeLogs(nil, nil, "http://127"); !slices.Equal(names, slices.Sorted(slices.Values([]string{s.url, prooftest.URL}))) {
		t.Errorf("completion offers %q", names)
	}
}

// TestLogPublic: of the public Sigstore instance, the logs that serve tiles can be chosen.
func TestLogPublic(t *testing.T) {
	s := newLogStage(t)
	p, _ := tuf.Named("sigstore")
	r, err := p.Copy()
	if err != nil {
		t.Fatal(err)
	}
	tiles := 0
	for id, l := range r.Material.RekorLogs() {
		got, ok := logOf(r, id, l)
		if want := l.BaseURL != rekor1; ok != want {
			t.Errorf("%s: got %v, want %v", l.BaseURL, ok, want)
		} else if ok {
			tiles++
			if got.HTTP.URL != l.BaseURL+"/api/v2" {
				t.Errorf("%s: tiles at %s", l.BaseURL, got.HTTP.URL)
			}
		}
	}
	if tiles == 0 {
		t.Error("the public instance has no log of tiles")
	}
	for name, l := range map[string]*root.TransparencyLog{
		"no URL": {PublicKey: s.log.PublicKey()}, "no key": {BaseURL: s.url}, "another ID": {BaseURL: s.url, PublicKey: s.log.PublicKey()},
	} {
		if _, ok := logOf(r, "00", l); ok {
			t.Errorf("%s: it is a log", name)
		}
	}
}

// TestLogProve proves entries, and is told lies.
func TestLogProve(t *testing.T) {
	s := newLogStage(t)
	s.trustIt()
	first, second := s.add("first"), s.add("second")
	b := s.file("second.sigstore.json", second)
	s.run(exitOK, []string{"log", "prove", "0"}, "entry      0 of 2", "hashedrekord", "the entry is in the log")
	s.run(exitOK, []string{"log", "prove", b}, "entry      1 of 2", "extends    the checkpoint of 2 entries in the bundle")
	old := s.run(exitOK, []string{"log", "checkpoint", "--raw"}, "127.0.0.1\n2\n")
	older := s.file("checkpoint.txt", []byte(old))
	s.add("third")
	s.run(exitOK, []string{"log", "checkpoint", "--extends", older}, "entries    3", "extends    the checkpoint of 2 entries")

	var p struct {
		Index, Size int64
		Entry       struct{ CanonicalizedBody []byte }
	}
	out := s.run(exitOK, []string{"log", "prove", b, "--json"})
	if err := json.Unmarshal([]byte(out), &p); err != nil || p.Index != 1 || p.Size != 3 || len(p.Entry.CanonicalizedBody) == 0 {
		t.Errorf("got %s, %v", out, err)
	}
	var cp loggedCheckpoint
	out = s.run(exitOK, []string{"log", "checkpoint", "--json"})
	if err := json.Unmarshal([]byte(out), &cp); err != nil || cp.Size != 3 || cp.KeyID != s.keyID || cp.Others == nil {
		t.Errorf("got %s, %v", out, err)
	}
	s.run(exitRejected, []string{"log", "prove", "3"}, "has no entry 3", "3 entries")
	s.run(exitUsage, []string{"log", "prove", "03"}, "index of an entry or a file")
	s.run(exitUsage, []string{"log", "prove", "-1"})

	// The entry of another signature proves nothing about this one.
	swapped := strings.Replace(string(first), `"messageSignature":`+between(t, first, `"messageSignature":`), `"messageSignature":`+between(t, second, `"messageSignature":`), 1)
	s.run(exitRejected, []string{"log", "prove", s.file("swapped.sigstore.json", []byte(swapped))}, "not the entry of this signature")

	outer := t
	for name, lie := range map[string]struct {
		bend func(path string, body []byte) []byte
		code int
		args []string
		word string
	}{
		"another entry":         {flip("tile/entries/"), exitRejected, []string{"log", "prove", "2"}, "do not lead to the root"},
		"another leaf":          {flip("tile/0/"), exitRejected, []string{"log", "prove", "0"}, "downloaded inconsistent tile"},
		"another checkpoint":    {flip("checkpoint"), exitRejected, []string{"log", "checkpoint"}, "checkpoint"},
		"rolled back":           {rollback(old), exitRejected, []string{"log", "checkpoint", "--extends", s.file("cp3.txt", []byte(cp.Checkpoint))}, "has shrunk"},
		"no tiles":              {gone("tile/"), exitUndecided, []string{"log", "prove", "0"}, "404"},
		"no checkpoint":         {gone("checkpoint"), exitUndecided, []string{"log", "checkpoint"}, "404"},
		"no tiles, of a bundle": {gone("tile/"), exitUndecided, []string{"log", "prove", b}, "404"},
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

// TestLogForged: a log that has another key than the trust root says is refused, however
// consistent it is.
func TestLogForged(t *testing.T) {
	s, forger := newLogStage(t), newLogStage(t)
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.document(forger.log)), "--yes"}, "trusted")
	s.add("first")
	s.run(exitRejected, []string{"log", "checkpoint"}, "checkpoint")
	s.run(exitRejected, []string{"log", "prove", "0"}, "checkpoint")
}

// TestLogGet gets what was signed, and is told lies by the archive.
func TestLogGet(t *testing.T) {
	s := newLogStage(t)
	s.trustIt()
	bundles := [][]byte{s.add("first"), s.add("second")}
	lost := s.add("lost")
	for _, b := range bundles {
		if _, err := s.archive.Keep(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	digest := func(text string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(text))) }
	s.run(exitOK, []string{"log", "get", "1"}, "entry      1 of 3", "signed by  a key", "about      "+digest("second"))
	if out := s.run(exitOK, []string{"log", "get", "1", "--raw"}); out != string(bundles[1]) {
		t.Errorf("--raw: got %s", out)
	}
	s.run(exitFailure, []string{"log", "get", "1", "--statement"}, "without a statement")
	var all []gotten
	if out := s.run(exitOK, []string{"log", "get", digest("first"), "--json"}); json.Unmarshal([]byte(out), &all) != nil || len(all) != 1 || all[0].Index != 0 || all[0].Digest != digest(string(bundles[0])) {
		t.Errorf("--json: got %s", out)
	}
	s.run(exitUndecided, []string{"log", "get", "2"}, "has nothing for 2 yet")
	s.run(exitUndecided, []string{"log", "get", digest("lost")}, "has nothing for "+digest("lost")+" yet")
	s.run(exitOK, []string{"log", "get", digest("first")}, "more may come", "entry      0 of 3")
	if err := s.archive.Fill(t.Context(), func(context.Context) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if out := s.run(exitOK, []string{"log", "get", digest("first")}); strings.Contains(out, "more may come") {
		t.Errorf("the archive is filled: got %s", out)
	}
	s.run(exitFailure, []string{"log", "get", "2"}, "entry 2 is in the log", "what was signed never reached that platform")
	s.run(exitFailure, []string{"log", "get", digest("lost")}, "has nothing")
	s.run(exitRejected, []string{"log", "get", "3"}, "has no entry 3")
	s.run(exitUsage, []string{"log", "get", "latest"}, "index of an entry or ALGORITHM:HEX")

	// A bundle whose entry another log has is counted only.
	foreign := bytes.ReplaceAll(lost, []byte(base64.StdEncoding.EncodeToString(s.log.KeyID())), []byte(base64.StdEncoding.EncodeToString(make([]byte, 32))))
	if _, err := s.archive.Keep(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	s.run(exitFailure, []string{"log", "get", digest("lost")}, "keeps 1 more about it", "has nothing")
	// So is one that names the place of another entry, or none. It hides nothing else.
	for _, index := range []string{"1", "1000"} {
		moved := bytes.ReplaceAll(bundles[0], []byte(`"logIndex":"0"`), []byte(`"logIndex":"`+index+`"`))
		if _, err := s.archive.Keep(t.Context(), moved); err != nil {
			t.Fatal(err)
		}
	}
	s.run(exitOK, []string{"log", "get", digest("first")}, "keeps 2 more about it", "entry      0 of 3")

	list := func(of []byte) []byte {
		raw, _ := json.Marshal(api.KeptList{Kept: []api.Kept{{Number: 1, Form: api.FormBundle, Digest: digest(string(of)), Size: int64(len(of))}}})
		return raw
	}
	path := strings.TrimPrefix(api.PathArchive, "/api/v2/")
	for name, lie := range map[string]struct {
		bend func(p string, body []byte) []byte
		code int
		args []string
		word string
	}{
		"another bundle for the entry": {func(p string, body []byte) []byte {
			switch {
			case p == path:
				return list(bundles[0])
			case strings.HasPrefix(p, path):
				return bundles[0]
			}
			return body
		}, exitRejected, []string{"log", "get", "1"}, "whose entry is not 1"},
		"another bundle about the digest": {func(p string, body []byte) []byte {
			switch {
			case p == path:
				return list(bundles[1])
			case strings.HasPrefix(p, path):
				return bundles[1]
			}
			return body
		}, exitFailure, []string{"log", "get", digest("first")}, "has nothing for"},
		"other bytes": {flip(path + "/"), exitUndecided, []string{"log", "get", "1"}, "got content with the digest"},
		"no content":  {gone(path + "/"), exitUndecided, []string{"log", "get", "1"}, "404"},
		"no archive":  {gone(path), exitUndecided, []string{"log", "get", "1"}, "404"},
		"no JSON": {func(p string, body []byte) []byte {
			if p == path {
				return []byte(`{"kept":[],"kept":[]}`)
			}
			return body
		}, exitUndecided, []string{"log", "get", "1"}, "archive"},
		"a list without end": {func(p string, body []byte) []byte {
			if p == path {
				return []byte(`{"kept":[],"next":1}`)
			}
			return body
		}, exitUndecided, []string{"log", "get", digest("first")}, "does not end"},
		"another entry": {flip("tile/"), exitRejected, []string{"log", "get", "1"}, "inconsistent"},
	} {
		t.Run(name, func(t *testing.T) {
			s.bend, s.t = lie.bend, t
			s.run(lie.code, lie.args, lie.word)
		})
	}
}

func between(t *testing.T, bundle []byte, from string) string {
	t.Helper()
	_, rest, ok := strings.Cut(string(bundle), from)
	if !ok {
		t.Fatalf("%q is not in %s", from, bundle)
	}
	return rest
}

// flip changes the last letter or byte of an answer below path.
func flip(path string) func(string, []byte) []byte {
	return func(p string, body []byte) []byte {
		if strings.HasPrefix(p, path) && len(body) > 5 {
			body = append([]byte(nil), body...)
			body[len(body)-5] ^= 1
		}
		return body
	}
}

func gone(path string) func(string, []byte) []byte {
	return func(p string, body []byte) []byte {
		if strings.HasPrefix(p, path) {
			return nil
		}
		return body
	}
}

// rollback serves an older checkpoint.
func rollback(older string) func(string, []byte) []byte {
	return func(p string, body []byte) []byte {
		if p == "checkpoint" {
			return []byte(older)
		}
		return body
	}
}
