package tuf

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
)

// repo is a TUF repository in memory, with one key for everything.
type repo struct {
	t       *testing.T
	mu      sync.Mutex
	files   map[string][]byte
	key     ed25519.PrivateKey
	version int64
	root    int64 // versions of the root so far
	URL     string
}

func newRepo(t *testing.T) *repo {
	r := &repo{t: t, files: map[string][]byte{}, key: newKey(t)}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		data, ok := r.files[strings.TrimPrefix(req.URL.Path, "/tuf/")]
		r.mu.Unlock()
		if !ok {
			http.NotFound(w, req)
			return
		}
		w.Write(data)
	}))
	t.Cleanup(srv.Close)
	r.URL = srv.URL + "/tuf"
	r.rotate(r.key)
	return r
}

func newKey(t *testing.T) ed25519.PrivateKey {
	_, key, err := ed25519.GenerateKey(nil)
	must(t, err)
	return key
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type sealable interface {
	Sign(signature.Signer) (*metadata.Signature, error)
	ToBytes(pretty bool) ([]byte, error)
}

func (r *repo) put(name string, m sealable, keys ...ed25519.PrivateKey) []byte {
	r.t.Helper()
	for _, k := range keys {
		s, err := signature.LoadSigner(k, crypto.Hash(0))
		must(r.t, err)
		_, err = m.Sign(s)
		must(r.t, err)
	}
	data, err := m.ToBytes(false)
	must(r.t, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.files[name] = data
	return data
}

var soon = 24 * time.Hour

// rotate publishes the next root, which gives every role to key.
func (r *repo) rotate(key ed25519.PrivateKey) []byte {
	r.t.Helper()
	root := metadata.Root(time.Now().UTC().Add(10 * soon))
	r.root++
	root.Signed.Version = r.root
	k, err := metadata.KeyFromPublicKey(key.Public())
	must(r.t, err)
	for _, role := range metadata.TOP_LEVEL_ROLE_NAMES {
		must(r.t, root.Signed.AddKey(k, role))
	}
	old := r.key
	r.key = key
	return r.put(fmt.Sprintf("%d.root.json", r.root), root, slices.CompactFunc([]ed25519.PrivateKey{old, key}, func(a, b ed25519.PrivateKey) bool { return a.Equal(b) })...)
}

// publish offers targets until a time.
func (r *repo) publish(until time.Time, targets map[string][]byte) {
	r.t.Helper()
	r.publishHashed(until, targets, "sha256")
}

func (r *repo) publishHashed(until time.Time, targets map[string][]byte, hashes ...string) {
	r.t.Helper()
	r.version++
	t := metadata.Targets(until)
	t.Signed.Version = r.version
	for name, data := range targets {
		info, err := metadata.TargetFile().FromBytes(name, data, hashes...)
		must(r.t, err)
		t.Signed.Targets[name] = info
		r.files[fmt.Sprintf("targets/%x.%s", sha256.Sum256(data), name)] = data
	}
	r.put(fmt.Sprintf("%d.targets.json", r.version), t, r.key)
	s := metadata.Snapshot(until)
	s.Signed.Version = r.version
	s.Signed.Meta["targets.json"] = metadata.MetaFile(r.version)
	r.put(fmt.Sprintf("%d.snapshot.json", r.version), s, r.key)
	ts := metadata.Timestamp(until)
	ts.Signed.Version = r.version
	ts.Signed.Meta["snapshot.json"] = metadata.MetaFile(r.version)
	r.put("timestamp.json", ts, r.key)
}

func (r *repo) good(p *prooftest.Platform) map[string][]byte {
	return map[string][]byte{"colophon.json": r.document(p)}
}

// document is a platform's trust document, with this repository's origin.
func (r *repo) document(p *prooftest.Platform) []byte {
	at := *p
	at.URL = strings.TrimSuffix(r.URL, "/tuf")
	return at.Document()
}

func (r *repo) pinned() []byte { return r.files["1.root.json"] }

// Add a repository, keep the trust root in a store, and refresh it after the
// repository changed its keys and its trust root.
func TestAddAndRefresh(t *testing.T) {
	p := prooftest.New(t)
	r := newRepo(t)
	until := time.Now().UTC().Truncate(time.Second).Add(soon)
	r.publish(until, map[string][]byte{"trusted_root.json": p.TrustedRoot(), "colophon.json": r.document(p)})
	got, err := Add(t.Context(), r.URL+"/", r.pinned())
	must(t, err)
	if got.URL+"/tuf" != r.URL || got.Repository.Target != "colophon.json" || !got.Expires.Equal(until) || got.Stale(until) || !got.Stale(until.Add(time.Second)) {
		t.Errorf("got %s of %s until %s", got.Repository.Target, got.URL, got.Expires)
	}
	pin := got.Pin()
	if sum := fmt.Sprintf("sha256:%x", sha256.Sum256(r.pinned())); pin != sum {
		t.Errorf("pin: got %s, want %s", pin, sum)
	}

	// On disk, and back: it proves itself without the repository.
	store := trust.Store{Dir: t.TempDir() + "/trust"}
	if old, err := store.Replaces(got); err != nil || old != nil {
		t.Errorf("an empty store: replaces %v, %v", old, err)
	}
	must(t, store.Add(got))
	must(t, store.Add(got)) // the same version again
	loaded, err := store.Load()
	must(t, err)
	if len(loaded) != 1 || loaded[0].Pin() != pin || !loaded[0].Expires.Equal(until) {
		t.Fatalf("got %d roots", len(loaded))
	}
	// The name of the file says that the TUF root is pinned, and not the file.
	if raw, err := os.ReadFile(filepath.Join(store.Dir, strings.TrimPrefix(pin, "sha256:")+".tuf.json")); err != nil || !bytes.Equal(raw, got.Raw) {
		t.Errorf("on disk: got %d bytes, %v", len(raw), err)
	}
	for name, want := range map[string]bool{r.URL: true, pin: true, got.URL: true, got.Fingerprint: false, r.URL + "/": false, "": false} {
		if got.Named(name) != want {
			t.Errorf("named %q: got %v, want %v", name, !want, want)
		}
	}

	// New keys, twice, and a new trust root.
	r.rotate(newKey(t))
	r.rotate(newKey(t))
	next := prooftest.New(t)
	r.publish(until.Add(soon), map[string][]byte{"colophon.json": r.document(next)})
	again, err := Refresh(t.Context(), loaded[0])
	must(t, err)
	if again.Pin() != pin || again.URL != got.URL || len(again.Repository.Roots) != 3 || again.Fingerprint == got.Fingerprint || !again.Expires.Equal(until.Add(soon)) {
		t.Errorf("got %s of %s until %s by %d roots", again.Pin(), again.URL, again.Expires, len(again.Repository.Roots))
	}
	if old, err := store.Replaces(again); err != nil || old == nil || old.Fingerprint != got.Fingerprint {
		t.Errorf("replaces %v, %v, want the one that was refreshed", old, err)
	}
	must(t, store.Add(again))
	if err := store.Add(got); err == nil || !strings.Contains(err.Error(), "already has version") {
		t.Errorf("an older one, from a stick: got %v", err)
	}
	if loaded, err = store.Load(); err != nil || len(loaded) != 1 || loaded[0].Fingerprint != again.Fingerprint {
		t.Errorf("got %d roots, %v, want the new one in the place of the old", len(loaded), err)
	}
}

// TestStolenTimestampKey: whoever had the keys used up the versions of the timestamp. New keys count from the
// beginning, and the old ones, with the root metadata of their time, are not taken back.
func TestStolenTimestampKey(t *testing.T) {
	p, r := prooftest.New(t), newRepo(t)
	until := time.Now().UTC().Truncate(time.Second).Add(soon)
	r.publish(until, r.good(p))
	before, err := Add(t.Context(), r.URL, r.pinned())
	must(t, err)
	store := trust.Store{Dir: t.TempDir()}
	r.version = 1<<60 - 1
	r.publish(until, r.good(p))
	stolen, err := Refresh(t.Context(), before)
	must(t, err)
	must(t, store.Add(stolen))
	if err := store.Add(before); err == nil {
		t.Error("a lower version with the same keys was taken")
	}

	r.rotate(newKey(t))
	r.version = 0
	r.publish(until, r.good(p))
	mended, err := Refresh(t.Context(), stolen)
	must(t, err)
	must(t, store.Add(mended))
	if err := store.Add(stolen); err == nil || !strings.Contains(err.Error(), "the store already has version 1 with 2") {
		t.Errorf("what the stolen keys signed: got %v", err)
	}
}

func TestHostileRepositories(t *testing.T) {
	p := prooftest.New(t)
	until := time.Now().Add(soon)
	for _, tc := range []struct {
		name string
		bend func(r *repo)
		says string
	}{
		{"another root", func(r *repo) { r.files["1.root.json"] = newRepo(t).pinned() }, ""},
		{"a root that the old one does not vouch for", func(r *repo) {
			r.key = newKey(t)
			r.rotate(r.key)
		}, "root"},
		{"expired timestamp", func(r *repo) { r.publish(time.Now().Add(-time.Hour), r.good(p)) }, "expired"},
		{"older than was seen", func(r *repo) { r.version = 0; r.publish(until, r.good(p)) }, "version"},
		{"a plain root in the place of a platform", func(r *repo) { r.publish(until, map[string][]byte{"trusted_root.json": p.TrustedRoot()}) }, `platform ""`},
		{"another platform", func(r *repo) { r.publish(until, map[string][]byte{"colophon.json": p.Document()}) }, "of another platform"},
		{"another target", func(r *repo) {
			for name := range r.files {
				if strings.HasPrefix(name, "targets/") {
					r.files[name] = bytes.Replace(r.files[name], []byte("127.0.0.1"), []byte("127.0.0.2"), 1)
				}
			}
		}, "hash"},
		{"no target", func(r *repo) { r.publish(until, map[string][]byte{"x.json": []byte("{}")}) }, "none of the targets"},
		{"a target that is no trust root", func(r *repo) { r.publish(until, map[string][]byte{"colophon.json": []byte("{}")}) }, "neither"},
		{"a repository in a repository", func(r *repo) {
			r.publish(until, map[string][]byte{"colophon.json": []byte(`{"roots":[""],"url":"http://127.0.0.1"}`)})
		}, "neither"},
		{"metadata without end", func(r *repo) { r.files["timestamp.json"] = bytes.Repeat([]byte(" "), 1<<20) }, "more than"},
		{"gone", func(r *repo) { clear(r.files) }, "404"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRepo(t)
			r.publish(until, r.good(p))
			r.publish(until, r.good(p))
			root := r.pinned()
			seen, err := Add(t.Context(), r.URL, root)
			must(t, err)
			tc.bend(r)
			if tc.name == "another root" {
				root = r.files["1.root.json"]
				seen.Repository.Roots = [][]byte{root}
			}
			got, err := Refresh(t.Context(), seen)
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got a root: %v, error %v, want one that says %q", got != nil, err, tc.says)
			}
		})
	}
	t.Run("redirect", func(t *testing.T) {
		r := newRepo(t)
		srv := httptest.NewServer(http.RedirectHandler(r.URL+"/timestamp.json", http.StatusFound))
		t.Cleanup(srv.Close)
		if _, err := Add(t.Context(), srv.URL, r.pinned()); err == nil || !strings.Contains(err.Error(), "redirects") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("plain http elsewhere", func(t *testing.T) {
		if _, err := Add(t.Context(), "http://tuf.example.com", newRepo(t).pinned()); err == nil || !strings.Contains(err.Error(), "loopback") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		r := newRepo(t)
		if _, err := Add(ctx, r.URL, r.pinned()); err == nil {
			t.Error("it answered")
		}
	})
}

// TestSigningConfig: the signing config of a repository comes with its trust root, is verified
// by the same metadata, and is replaced by a refresh. The one with Rekor v2 comes first.
func TestSigningConfig(t *testing.T) {
	p, r := prooftest.New(t), newRepo(t)
	names := trust.SigningConfigs()
	offer := func(configs map[string][]byte) {
		all := r.good(p)
		maps.Copy(all, configs)
		r.publish(time.Now().Add(soon), all)
	}
	var got *trust.Root
	for _, tt := range []struct {
		configs    map[string][]byte
		name, want string
	}{
		{nil, "", ""},
		{map[string][]byte{names[1]: []byte("one")}, names[1], "one"},
		{map[string][]byte{names[0]: []byte("two"), names[1]: []byte("one")}, names[0], "two"},
		{map[string][]byte{names[0]: []byte("three")}, names[0], "three"},
		{map[string][]byte{"signing_config.json": []byte("zero")}, "", ""},
	} {
		offer(tt.configs)
		var err error
		if got == nil {
			got, err = Add(t.Context(), r.URL, r.pinned())
		} else {
			got, err = Refresh(t.Context(), got)
		}
		must(t, err)
		if at := got.Repository; at.SigningConfigTarget != tt.name || string(at.SigningConfig) != tt.want {
			t.Errorf("got %q of %q, want %q of %q", at.SigningConfig, at.SigningConfigTarget, tt.want, tt.name)
		}
	}
	offer(map[string][]byte{names[0]: make([]byte, limits.TrustRoot+1)})
	if _, err := Refresh(t.Context(), got); err == nil || !strings.Contains(err.Error(), "want at most") {
		t.Errorf("more than 4 MiB: got %v", err)
	}
	offer(map[string][]byte{names[0]: []byte("honest")})
	for name := range r.files {
		if strings.HasSuffix(name, names[0]) {
			r.files[name] = []byte("forged")
		}
	}
	if _, err := Refresh(t.Context(), got); err == nil || !strings.Contains(err.Error(), "length and hash") {
		t.Errorf("another content: got %v", err)
	}
}

// TestRefreshNeedsAPerson: without a person, a refresh takes other keys and trusts for
// less; for anything more, the old trust root stays.
func TestRefreshNeedsAPerson(t *testing.T) {
	until := time.Now().Add(soon)
	builders := func(d *trust.Document, levels ...int) {
		d.Builders = nil
		for i, level := range levels {
			d.Builders = append(d.Builders, trust.Builder{ID: fmt.Sprintf("%s/builders/b%d", d.Issuer, i), Level: level})
		}
	}
	for name, tt := range map[string]struct {
		change func(d *trust.Document)
		says   string // empty: taken
	}{
		"nothing":              {func(*trust.Document) {}, ""},
		"new keys":             {func(d *trust.Document) { d.TrustedRoot = prooftest.New(t).TrustedRoot() }, ""},
		"a builder less":       {func(d *trust.Document) { builders(d, 2) }, ""},
		"a lower level":        {func(d *trust.Document) { builders(d, 2, 0) }, ""},
		"an issuer less":       {func(d *trust.Document) { d.Issuers = nil }, ""},
		"a higher level":       {func(d *trust.Document) { builders(d, 2, 2) }, "b1: Build L2, was L1"},
		"a new builder":        {func(d *trust.Document) { builders(d, 2, 1, 0) }, "new builder"},
		"one for another":      {func(d *trust.Document) { builders(d, 2); d.Builders[0].ID += "x" }, "new builder"},
		"a new issuer":         {func(d *trust.Document) { d.Issuers = append(d.Issuers, trust.GitHubIssuer) }, "vouches for issuer " + trust.GitHubIssuer},
		"a pattern of issuers": {func(d *trust.Document) { d.Issuers = []string{"https://*.example.com"} }, "vouches for issuer https://*.example.com"},
		"another own issuer": {func(d *trust.Document) {
			d.Issuer += "/other"
			builders(d, 2, 1)
		}, "own issuer is"},
	} {
		p := prooftest.New(t)
		r := newRepo(t)
		origin := strings.TrimSuffix(r.URL, "/tuf")
		doc := trust.Document{URL: origin, Issuer: origin, Issuers: []string{"https://idp.example.com"}, TrustedRoot: p.TrustedRoot()}
		builders(&doc, 2, 1)
		publish := func() {
			raw, err := json.Marshal(doc)
			must(t, err)
			r.publish(until, map[string][]byte{"colophon.json": raw})
		}
		publish()
		seen, err := Add(t.Context(), r.URL, r.pinned())
		must(t, err)
		tt.change(&doc)
		publish()
		got, err := Refresh(t.Context(), seen)
		switch _, wider := errors.AsType[*WiderError](err); {
		case tt.says == "":
			if err != nil || got.Repository.Target == "" {
				t.Errorf("%s: got %v, want it taken", name, err)
			}
		case !wider || !strings.Contains(err.Error(), tt.says):
			t.Errorf("%s: got %v, want an error that says %q", name, err, tt.says)
		default:
			// A person may add it again.
			if _, err := Add(t.Context(), r.URL, r.pinned()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestRefreshKeepsTheIssuers: the issuers that a person named for a plain trusted root
// stay with it, and it may not lose the logs that verification then no longer demands.
func TestRefreshKeepsTheIssuers(t *testing.T) {
	const people = "https://accounts.example.com"
	until := time.Now().Add(soon)
	r := newRepo(t)
	publish := func(drop string) {
		var root map[string]json.RawMessage
		must(t, json.Unmarshal(prooftest.New(t).TrustedRoot(), &root))
		delete(root, drop)
		raw, err := json.Marshal(root)
		must(t, err)
		r.publish(until, map[string][]byte{"trusted_root.json": raw})
	}
	publish("")
	added, err := Add(t.Context(), r.URL, r.pinned())
	must(t, err)
	if len(added.Issuers()) != 0 {
		t.Errorf("nobody named an issuer: got %q", added.Issuers())
	}
	for _, bad := range [][]string{nil, {"http://idp.example.com"}, {people, people}} {
		if got, err := added.ForIssuers(bad); err == nil || !strings.Contains(err.Error(), "issuers: got") {
			t.Errorf("issuers %q: got %v, %v, want a refusal", bad, got, err)
		}
	}
	scoped, err := added.ForIssuers([]string{people})
	must(t, err)
	store := trust.Store{Dir: t.TempDir()}
	must(t, store.Add(scoped))
	loaded, err := store.Load()
	must(t, err)
	publish("")
	next, err := Refresh(t.Context(), loaded[0])
	must(t, err)
	if got := next.Issuers(); len(got) != 1 || got[0] != people || next.Pin() != added.Pin() {
		t.Errorf("got %q, want %q", got, people)
	}
	for member, says := range map[string]string{"tlogs": "no transparency log", "ctlogs": "no certificate transparency log"} {
		publish(member)
		if _, err := Refresh(t.Context(), next); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v, want %q in it", member, err, says)
		}
	}
	// A document says for itself whom it vouches for, so that the list named would lie.
	doc, err := json.Marshal(trust.Document{Issuers: []string{trust.GitHubIssuer}, TrustedRoot: prooftest.New(t).TrustedRoot()})
	must(t, err)
	r.publish(until, map[string][]byte{"colophon.json": doc})
	if _, err := Refresh(t.Context(), next); err == nil || !strings.Contains(err.Error(), "says itself") {
		t.Errorf("a document: got %v", err)
	}
}

// A file of the store that was changed in any way is refused.
func TestTamperedStore(t *testing.T) {
	r := newRepo(t)
	r.publish(time.Now().Add(soon), r.good(prooftest.New(t)))
	r.rotate(newKey(t))
	served := r.good(prooftest.New(t))
	served["signing_config.v0.2.json"] = []byte("config")
	r.publish(time.Now().Add(soon), served)
	good, err := Add(t.Context(), r.URL, r.pinned())
	must(t, err)
	other := newRepo(t)
	other.publish(time.Now().Add(soon), other.good(prooftest.New(t)))
	theirs, err := Add(t.Context(), other.URL, other.pinned())
	must(t, err)
	from := *theirs.Repository
	for name, tt := range map[string]struct {
		change func(*trust.Repository)
		says   string
	}{
		"roots left out":      {func(r *trust.Repository) { r.Roots = r.Roots[:1] }, "timestamp metadata"},
		"no roots":            {func(r *trust.Repository) { r.Roots = nil }, "root metadata is missing"},
		"an empty root":       {func(r *trust.Repository) { r.Roots = [][]byte{nil} }, "root metadata"},
		"another's first":     {func(r *trust.Repository) { r.Roots = append(from.Roots, r.Roots[1:]...) }, "root metadata"},
		"another's second":    {func(r *trust.Repository) { r.Roots = append(r.Roots[:1:1], from.Roots...) }, "root metadata"},
		"another's timestamp": {func(r *trust.Repository) { r.Timestamp = from.Timestamp }, "timestamp metadata"},
		"another's snapshot":  {func(r *trust.Repository) { r.Snapshot = from.Snapshot }, "snapshot metadata"},
		"another's targets":   {func(r *trust.Repository) { r.Targets = from.Targets }, "targets metadata"},
		"another's content":   {func(r *trust.Repository) { r.Content = from.Content }, `target "colophon.json"`},
		"another name":        {func(r *trust.Repository) { r.Target = "trusted_root.json" }, `target "trusted_root.json" is missing`},
		"no content":          {func(r *trust.Repository) { r.Content = nil }, `target "colophon.json"`},
		"another config":      {func(r *trust.Repository) { r.SigningConfig = []byte("another") }, `target "signing_config.v0.2.json"`},
		"config of a name":    {func(r *trust.Repository) { r.SigningConfigTarget = "colophon.json" }, "want one of the signing configs"},
		"config of no name":   {func(r *trust.Repository) { r.SigningConfigTarget = "" }, "want one of the signing configs"},
		"config not listed":   {func(r *trust.Repository) { r.SigningConfigTarget = trust.SigningConfigs()[0] }, "is missing"},
		"no config":           {func(r *trust.Repository) { r.SigningConfig = nil }, `target "signing_config.v0.2.json"`},
	} {
		bent := *good.Repository
		tt.change(&bent)
		raw, err := json.Marshal(bent)
		must(t, err)
		if _, err := trust.Parse(raw); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, want a refusal that says %q", name, err, tt.says)
		}
	}
	if _, err := trust.Parse(bytes.Replace(good.Raw, []byte(`{"url":`), []byte(`{"extra":1,"url":`), 1)); err == nil || !strings.Contains(err.Error(), "extra") {
		t.Errorf("an unknown member: got %v", err)
	}
	// Whole, but not what was pinned.
	store := trust.Store{Dir: t.TempDir()}
	must(t, store.Add(good))
	must(t, os.WriteFile(filepath.Join(store.Dir, strings.TrimPrefix(good.Pin(), "sha256:")+".tuf.json"), theirs.Raw, 0o600))
	if got, err := store.Load(); err == nil || !strings.Contains(err.Error(), "not what was pinned") {
		t.Errorf("got %d roots, %v", len(got), err)
	}
}

func TestKnown(t *testing.T) {
	for url, known := range map[string]bool{"https://tuf-repo-cdn.sigstore.dev": true, "https://tuf-repo-cdn.sigstore.dev/": true, "https://tuf-repo-cdn.sigstore.dev.example.com": false, "": false} {
		root := Known(url)
		if (root != nil) != known {
			t.Errorf("%q: got %d bytes", url, len(root))
		}
		if known {
			m, err := metadata.Root().FromBytes(root)
			if err != nil || m.VerifyDelegate(metadata.ROOT, m) != nil || len(slices.Collect(maps.Keys(m.Signed.Keys))) == 0 {
				t.Errorf("%q: got %+v, %v", url, m, err)
			}
		}
	}
}

// saved returns the copy of what the repository serves, made without the checks of Add.
func (r *repo) saved(target string, content []byte) *trust.Repository {
	return &trust.Repository{URL: r.URL, Roots: [][]byte{r.pinned()}, Timestamp: r.files["timestamp.json"], Snapshot: r.files[fmt.Sprintf("%d.snapshot.json", r.version)],
		Targets: r.files[fmt.Sprintf("%d.targets.json", r.version)], Target: target, Content: content}
}

// TestExpiredOnDisk: a machine that was offline for long can still read its trust root.
// It knows that it is stale: verify's policy decides what that means.
func TestExpiredOnDisk(t *testing.T) {
	r := newRepo(t)
	doc := r.document(prooftest.New(t))
	ended := time.Now().UTC().Truncate(time.Second).Add(-soon)
	r.publish(ended, map[string][]byte{"colophon.json": doc})
	raw, err := r.saved("colophon.json", doc).Encode()
	must(t, err)
	got, err := trust.Parse(raw)
	must(t, err)
	if !got.Expires.Equal(ended) || !got.Stale(time.Now()) || got.Stale(ended) {
		t.Errorf("got a root until %s, want %s", got.Expires, ended)
	}
}

// TestTargets: what metadata must say about a trust root, and what the trust root must be.
func TestTargets(t *testing.T) {
	r := newRepo(t)
	doc := r.document(prooftest.New(t))
	for name, tt := range map[string]struct {
		content []byte
		hashes  []string
		says    string
	}{
		"sha256":                {doc, []string{"sha256"}, ""},
		"sha256 and sha512":     {doc, []string{"sha256", "sha512"}, ""},
		"another hash alone":    {doc, []string{"sha512"}, "the metadata has no sha256 of it"},
		"a target that is text": {[]byte("trust us"), []string{"sha256"}, "it is not JSON here"},
	} {
		r.publishHashed(time.Now().Add(soon), map[string][]byte{"colophon.json": tt.content}, tt.hashes...)
		raw, err := r.saved("colophon.json", tt.content).Encode()
		must(t, err)
		if _, err := trust.Parse(raw); (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, want %q", name, err, tt.says)
		}
	}
}

// TestEncodeLimit: what Encode returns is not too large for Parse.
func TestEncodeLimit(t *testing.T) {
	empty, err := new(trust.Repository).Encode()
	must(t, err)
	most := limits.TrustRepository - len(empty)
	if raw, err := (&trust.Repository{URL: strings.Repeat("a", most)}).Encode(); err != nil || len(raw) != limits.TrustRepository {
		t.Errorf("the largest: got %d bytes, %v", len(raw), err)
	}
	large := trust.Repository{URL: strings.Repeat("a", most+1)}
	if _, err := large.Encode(); err == nil || !strings.Contains(err.Error(), "want at most") {
		t.Errorf("one byte more: got %v", err)
	}
	// Nor does a list of issuers make it so.
	r := newRepo(t)
	r.publish(time.Now().Add(soon), map[string][]byte{"trusted_root.json": prooftest.New(t).TrustedRoot()})
	root, err := Add(t.Context(), r.URL, r.pinned())
	must(t, err)
	if _, err := root.ForIssuers([]string{"https://idp.example.com/" + large.URL}); err == nil || !strings.Contains(err.Error(), "want at most") {
		t.Errorf("a large issuer: got %v", err)
	}
}
