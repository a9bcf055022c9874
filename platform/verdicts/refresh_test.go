package verdicts

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/trust/tuf"
)

// repository is a TUF repository in memory, with one key for everything.
type repository struct {
	t       *testing.T
	mu      sync.Mutex
	files   map[string][]byte
	signer  signature.Signer
	version int64
	url     string
}

func newRepository(t *testing.T) *repository {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &repository{t: t, files: map[string][]byte{}}
	if r.signer, err = signature.LoadSigner(key, crypto.Hash(0)); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		data, ok := r.files[strings.TrimPrefix(req.URL.Path, "/tuf/")]
		r.mu.Unlock()
		if !ok {
			http.NotFound(w, req)
			return
		}
		_, _ = w.Write(data)
	}))
	t.Cleanup(srv.Close)
	r.url = srv.URL + "/tuf"
	root := metadata.Root(time.Now().UTC().Add(48 * time.Hour))
	k, err := metadata.KeyFromPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range metadata.TOP_LEVEL_ROLE_NAMES {
		if err := root.Signed.AddKey(k, role); err != nil {
			t.Fatal(err)
		}
	}
	r.put("1.root.json", root)
	return r
}

func (r *repository) put(name string, m interface {
	Sign(signature.Signer) (*metadata.Signature, error)
	ToBytes(bool) ([]byte, error)
}) {
	r.t.Helper()
	if _, err := m.Sign(r.signer); err != nil {
		r.t.Fatal(err)
	}
	raw, err := m.ToBytes(false)
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.files[name] = raw
}

// publish offers a platform's trust document.
func (r *repository) publish(p *prooftest.Platform, issuers ...string) {
	r.t.Helper()
	at := *p
	at.URL = strings.TrimSuffix(r.url, "/tuf")
	content := at.Document()
	if len(issuers) > 0 {
		content = bytes.Replace(content, []byte(`{`), []byte(`{"issuers":["`+strings.Join(issuers, `","`)+`"],`), 1)
	}
	until := time.Now().Add(time.Hour)
	r.version++
	t := metadata.Targets(until)
	t.Signed.Version = r.version
	info, err := metadata.TargetFile().FromBytes("colophon.json", content, "sha256")
	if err != nil {
		r.t.Fatal(err)
	}
	t.Signed.Targets["colophon.json"] = info
	r.mu.Lock()
	r.files[fmt.Sprintf("targets/%x.colophon.json", sha256.Sum256(content))] = content
	r.mu.Unlock()
	r.put(fmt.Sprintf("%d.targets.json", r.version), t)
	s := metadata.Snapshot(until)
	s.Signed.Version, s.Signed.Meta["targets.json"] = r.version, metadata.MetaFile(r.version)
	r.put(fmt.Sprintf("%d.snapshot.json", r.version), s)
	ts := metadata.Timestamp(until)
	ts.Signed.Version, ts.Signed.Meta["snapshot.json"] = r.version, metadata.MetaFile(r.version)
	r.put("timestamp.json", ts)
}

// TestRefresh: a trust root from a TUF repository is replaced by what the repository has now. What
// would be trusted for more, or cannot be downloaded, changes nothing; another document of a person
// counts in place of what was delivered for the one before.
func TestRefresh(t *testing.T) {
	repo := newRepository(t)
	before, after := prooftest.New(t), prooftest.New(t)
	repo.publish(before)
	pinned, err := tuf.Add(t.Context(), repo.url, repo.files["1.root.json"])
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	store := New(Config{})
	l := NewLoader(store, slog.New(slog.NewTextHandler(&out, nil)), nil)
	document := Document{Name: "TrustRoot platform", Raw: pinned.Raw}
	policies := []Document{{Name: "p", Raw: []byte(`{"apiVersion":"colophon.build/v1","kind":"ImagePolicy","metadata":{"name":"p"},"spec":{"unmatched":"deny","rules":[{"name":"r","images":[{"glob":"x.example.com/**"}],"accept":[{"built":{"source":"https://git.example.com/app"}}]}]}}`)}}
	l.Tell(PolicyDocuments, policies)
	l.Tell(TrustDocuments, []Document{document, {Name: "another", Raw: after.Document()}})
	one := func() *trust.Root {
		t.Helper()
		for _, r := range store.Roots() {
			if r.Repository != nil {
				return r
			}
		}
		t.Fatal("the root is gone")
		return nil
	}
	now := func(what string, want bool) *trust.Root {
		t.Helper()
		was := one()
		l.mu.Lock()
		l.delivered = map[[sha256.Size]byte]*refreshed{sha256.Sum256(document.Raw): {raw: l.latest(document)}} // it is due
		l.mu.Unlock()
		l.refreshDue(t.Context(), time.Hour, time.Hour)
		if got := one(); (got.Fingerprint != was.Fingerprint) != want {
			t.Errorf("%s: got the root %s, which was %s; log: %s", what, got.Fingerprint, was.Fingerprint, &out)
		}
		return one()
	}
	now("nothing new", false)
	repo.publish(after)
	if r := now("other keys", true); r.Pin() != pinned.Pin() || !bytes.Equal(l.roots[0].Raw, pinned.Raw) {
		t.Error("it does not follow from the document that was written")
	}
	repo.publish(after, "https://other.example.com")
	if now("another issuer", false); !strings.Contains(out.String(), "other.example.com") {
		t.Errorf("the log does not say what is wider: %s", &out)
	}
	repo.version = 0
	repo.publish(before)
	now("older metadata", false)
	repo.mu.Lock()
	clear(repo.files)
	repo.mu.Unlock()
	if now("nothing there", false); len(l.delivered) == 0 || l.delivered[sha256.Sum256(document.Raw)].said == "" {
		t.Error("a failure is not counted")
	}
	written := Document{Name: document.Name, Raw: append(bytes.TrimSpace(pinned.Raw), '\n')}
	l.Tell(TrustDocuments, []Document{written})
	if one().Fingerprint != pinned.Fingerprint || len(l.delivered) != 0 {
		t.Error("what was delivered for the document before counts for another one")
	}
}

// TestRefreshBringsNoRootBack: a refresh that ends while somebody takes a trust root away does not
// make that root count again.
func TestRefreshBringsNoRootBack(t *testing.T) {
	p := prooftest.New(t)
	root := Document{Name: "root", Raw: p.Root().Raw}
	l := NewLoader(New(Config{}), slog.New(slog.DiscardHandler), nil)
	for range 20_000 {
		l.Tell(TrustDocuments, []Document{root})
		var stop atomic.Bool
		var refresh sync.WaitGroup
		refresh.Go(func() {
			for !stop.Load() {
				l.again()
			}
		})
		runtime.Gosched()
		l.Tell(TrustDocuments, nil)
		stop.Store(true)
		refresh.Wait()
		if len(l.roots) != 0 {
			t.Fatal("a trust root that was taken away counts again")
		}
	}
	l.keep(root, []byte("late"), "", time.Now())
	if len(l.delivered) != 0 {
		t.Error("what was delivered for a document that is gone is kept")
	}
}
