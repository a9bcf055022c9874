package search

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/platform/authority/indexlog"
	"github.com/colophon-build/colophon/platform/authority/log"
	"github.com/colophon-build/colophon/platform/authority/tiles"
	"github.com/colophon-build/colophon/search"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/tlog/prefix"
)

var signer = sync.OnceValue(func() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
})

// keyName is the value of the kind key of all entries that add logs.
func keyName() string {
	spki, err := x509.MarshalPKIXPublicKey(signer().Public())
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256(spki))
}

// rig is the log and the index log of a platform.
type rig struct {
	dir   string
	log   *log.Server
	index *indexlog.Server
	mux   *http.ServeMux
}

func newRig(t testing.TB, dir string) *rig {
	t.Helper()
	r, err := openRig(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.close() })
	return r
}

func openRig(dir string) (r *rig, err error) {
	r = &rig{dir: dir, mux: http.NewServeMux()}
	if r.log, err = log.New(log.Config{Dir: filepath.Join(dir, "log"), KeyFile: filepath.Join(dir, "log.pem"), Origin: "log.example"}); err != nil {
		return nil, err
	}
	cfg := indexlog.Config{LogConfig: tiles.LogConfig{Dir: filepath.Join(dir, "index"), Record: filepath.Join(dir, "index.vkey")}, Of: r.log.Source(), OfVerifier: r.log.Verifier()}
	if cfg.Signer, cfg.PublicKey, err = r.log.Signer(search.IndexOrigin("log.example")); err != nil {
		return nil, err
	}
	if r.index, err = indexlog.New(cfg); err != nil {
		return nil, errors.Join(err, r.log.Close(context.Background()))
	}
	r.log.Register(r.mux)
	r.index.Register(r.mux)
	return r, nil
}

func (r *rig) indexKey() note.Verifier {
	v, err := tlog.NewVerifier(search.IndexOrigin("log.example"), r.log.PublicKey())
	if err != nil {
		panic(err)
	}
	return v
}

func (r *rig) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), await.Patience)
	defer cancel()
	return errors.Join(r.index.Close(ctx), r.log.Close(ctx))
}

// add logs an entry about content.
func (r *rig) add(t testing.TB, content string) {
	t.Helper()
	if err := addTo(r.mux, content); err != nil {
		t.Fatal(err)
	}
}

func addTo(h http.Handler, content string) error {
	digest := sha256.Sum256([]byte(content))
	sig, err := ecdsa.SignASN1(rand.Reader, signer(), digest[:])
	if err != nil {
		return err
	}
	spki, err := x509.MarshalPKIXPublicKey(signer().Public())
	if err != nil {
		return err
	}
	b64 := base64.StdEncoding.EncodeToString
	body := fmt.Sprintf(`{"hashedRekordRequestV002":{"digest":%q,"signature":{"content":%q,"verifier":{"keyDetails":"PKIX_ECDSA_P256_SHA_256","publicKey":{"rawBytes":%q}}}}}`, b64(digest[:]), b64(sig), b64(spki))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/v2/log/entries", strings.NewReader(body)))
	if w.Code != http.StatusCreated {
		return fmt.Errorf("got %d: %s", w.Code, w.Body)
	}
	return nil
}

// local is what a handler serves, as a log.
type local struct {
	tlog.HTTP
}

func through(mux http.Handler, prefix string) tlog.Source {
	return local{tlog.HTTP{URL: "http://role" + prefix, Client: &http.Client{Transport: direct{mux}}}}
}

type direct struct{ http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w.Result(), nil
}

// config returns the configuration of a service of the rig.
func (r *rig) config() Config {
	dir := filepath.Join(r.dir, "search")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		panic(err)
	}
	return Config{
		Dir: dir, Log: through(r.mux, "/api/v2"), LogKey: r.log.Verifier(), Index: through(r.mux, "/index"), IndexKey: r.indexKey(),
		Append: func(ctx context.Context, entry []byte) error {
			_, err := r.index.Append(ctx, entry)
			return err
		},
	}
}

// run makes steps until the service has indexed size entries.
func run(t testing.TB, s *Service, size int64) {
	t.Helper()
	await.True(t, fmt.Sprint(size, " entries are indexed"), func() bool {
		if err := s.step(t.Context()); err != nil {
			t.Fatal(err)
		}
		state := s.state.Load()
		return state != nil && state.Indexed.Size >= size
	})
}

// ask asks the service over HTTP and verifies the answer.
func ask(s *Service, kind search.Kind, value string) ([]int64, *search.Verified, error) {
	mux := http.NewServeMux()
	s.Register(mux)
	q := search.Question{Key: search.Key{Kind: kind, Value: value}}
	var found []int64
	for {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, Path+"?"+url.Values{"kind": {string(kind)}, "value": {value}, "from": {fmt.Sprint(q.From)}, "limit": {"7"}}.Encode(), nil))
		if w.Code != http.StatusOK {
			return nil, nil, fmt.Errorf("got %d: %s", w.Code, w.Body)
		}
		a, err := search.ParseAnswer(w.Body.Bytes())
		if err != nil {
			return nil, nil, err
		}
		v, err := a.Verify(q, s.cfg.LogKey, s.cfg.IndexKey)
		if err != nil {
			return nil, nil, err
		}
		for _, e := range v.Entries {
			found = append(found, e.Index)
		}
		if v.To == nil {
			return found, v, nil
		}
		q.From = *v.To
	}
}

func (r *rig) audit(t testing.TB) (*search.Audited, error) {
	return search.Audit(t.Context(), through(r.mux, "/api/v2"), r.log.Verifier(), through(r.mux, "/index"), r.indexKey(), nil)
}

// Entries can be found when they are indexed, after a restart, and after the map was lost.
func TestSearch(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, dir)
	s := New(r.config())
	if _, _, err := ask(s, search.KeyHash, keyName()); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("before the map is open: got %v", err)
	}
	run(t, s, 0)
	if found, v, err := ask(s, search.KeyHash, keyName()); err != nil || len(found) > 0 || v.Indexed.Size != 0 {
		t.Errorf("an empty log: got %v, %v", found, err)
	}
	for i := range 20 {
		r.add(t, fmt.Sprint(i))
		if i%6 == 0 {
			run(t, s, int64(i+1))
		}
	}
	run(t, s, 20)
	check := func(s *Service) {
		t.Helper()
		found, v, err := ask(s, search.KeyHash, keyName())
		if err != nil || len(found) != 20 || v.Total != 20 {
			t.Errorf("got %v, %v, want all entries", found, err)
		}
		found, _, err = ask(s, search.Digest, fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("13"))))
		if err != nil || len(found) != 1 {
			t.Errorf("got %v, %v, want one entry", found, err)
		}
		if found, _, err = ask(s, search.Identity, "https://nobody.example"); err != nil || len(found) != 0 {
			t.Errorf("got %v, %v, want none", found, err)
		}
	}
	check(s)
	if err := s.save(); err != nil {
		t.Fatal(err)
	}
	check(s)
	path := filepath.Join(r.config().Dir, mapFile)
	unfinished := filepath.Join(r.config().Dir, ".map.tmp-1") // of a save that was killed
	size := s.state.Load().Index.Size
	for name, damage := range map[string]func() error{
		"restart":         func() error { return os.WriteFile(unfinished, []byte("colophon"), 0o600) },
		"lost map":        func() error { return os.Remove(path) },
		"damaged map":     func() error { return replace(path, []byte("garbage")) },
		"damaged keys":    func() error { return flip(path, 40) },
		"map of no entry": func() error { return s.state.Load().Map.Write(path, []byte("x")) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		again := New(r.config())
		run(t, again, 20)
		if again.state.Load().Map.Root() != s.state.Load().Map.Root() || again.state.Load().Index.Size != size {
			t.Errorf("%s: got another map, or an entry of the index log more", name)
		}
		if _, err := os.Lstat(unfinished); !os.IsNotExist(err) {
			t.Errorf("%s: an unfinished file is still there: %v", name, err)
		}
		if name == "damaged keys" { // found when they are read, and then the map is made again
			_, _, err1 := ask(again, search.KeyHash, keyName())
			_, _, err2 := ask(again, search.Digest, fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("13"))))
			if err1 == nil && err2 == nil {
				t.Errorf("%s: nothing was damaged", name)
			}
			run(t, again, 20)
			if m, _, err := prefix.Open(path); err != nil || !readable(m) {
				t.Errorf("%s: the file still has them: %v", name, err)
			}
		}
		check(again)
		if err := s.state.Load().Map.Write(path, s.state.Load().Leaf); err != nil {
			t.Fatal(err)
		}
	}
	if a, err := r.audit(t); err != nil || a.Indexed.Size != 20 {
		t.Errorf("audit: got %+v, %v", a, err)
	}
}

func readable(m prefix.Map) bool {
	n, err := m.Count(nil)
	return err == nil && n == m.Len()
}

func flip(path string, at int64) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	data[at] ^= 0xff
	return replace(path, data)
}

// replace makes path another file: who has the old one open still reads that.
func replace(path string, data []byte) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// The operator, or somebody who can write to its disks, is us: each is refused or found.
func TestLyingOperator(t *testing.T) {
	t.Run("a builder that leaves out an entry", entryLeftOut)
	t.Run("two roots for one state", twoRoots)
	t.Run("a rolled back index log", indexRolledBack)
	t.Run("a log that shrinks", logShrinks)
}

func entryLeftOut(t *testing.T) {
	r := newRig(t, t.TempDir())
	s := New(r.config())
	for i := range 5 {
		r.add(t, fmt.Sprint(i))
	}
	run(t, s, 5)
	r.add(t, "hidden")
	// The next leaf has the old map.
	signed, err := s.cfg.Log.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	state := s.state.Load()
	if _, err := r.index.Append(t.Context(), search.Leaf{Root: state.Map.Root(), Keys: state.Map.Len(), Checkpoint: string(signed)}.Bytes()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.audit(t); !errors.Is(err, search.ErrContradiction) {
		t.Errorf("audit: got %v", err)
	}
	honest := New(r.config())
	if err := honest.Run(t.Context()); !errors.Is(err, errContradiction) {
		t.Errorf("an honest service: got %v", err)
	}
	if _, _, err := ask(honest, search.KeyHash, keyName()); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("it answers: %v", err)
	}
}

func twoRoots(t *testing.T) {
	r := newRig(t, t.TempDir())
	s := New(r.config())
	r.add(t, "a")
	run(t, s, 1)
	leaf, _, err := search.ParseLeaf(s.state.Load().Leaf, s.cfg.LogKey)
	if err != nil {
		t.Fatal(err)
	}
	leaf.Root[0] ^= 1
	if at, err := r.index.Append(t.Context(), leaf.Bytes()); !errors.Is(err, tiles.ErrConflict) {
		t.Errorf("got entry %d, %v, want a conflict", at, err)
	}
	if at, err := r.index.Append(t.Context(), s.state.Load().Leaf); err != nil || at != s.state.Load().Index.Size-1 {
		t.Errorf("the last entry again: got %d, %v", at, err)
	}
	for _, bad := range []string{"", "x", strings.Replace(string(leaf.Bytes()), "log.example", "other.example", 1)} {
		if at, err := r.index.Append(t.Context(), []byte(bad)); err == nil {
			t.Errorf("%q became entry %d", bad, at)
		}
	}
}

func indexRolledBack(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, dir)
	s := New(r.config())
	r.add(t, "a")
	run(t, s, 1)
	r.close()
	backup := t.TempDir()
	if err := os.CopyFS(filepath.Join(backup, "index"), os.DirFS(filepath.Join(dir, "index"))); err != nil {
		t.Fatal(err)
	}
	r = newRig(t, dir)
	s = New(r.config())
	r.add(t, "b")
	run(t, s, 2)
	if err := s.save(); err != nil {
		t.Fatal(err)
	}
	r.close()
	if err := os.RemoveAll(filepath.Join(dir, "index")); err != nil {
		t.Fatal(err)
	}
	if _, err := openRig(dir); err == nil || !strings.Contains(err.Error(), "backup") {
		t.Errorf("without the index log: got %v", err)
	}
	if err := os.CopyFS(filepath.Join(dir, "index"), os.DirFS(filepath.Join(backup, "index"))); err != nil {
		t.Fatal(err)
	}
	r = newRig(t, dir)
	if err := New(r.config()).Run(t.Context()); !errors.Is(err, errContradiction) {
		t.Errorf("an old index log: got %v", err)
	}
}

func logShrinks(t *testing.T) {
	r := newRig(t, t.TempDir())
	r.add(t, "a")
	old, err := through(r.mux, "/api/v2").Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.add(t, "b")
	s := New(r.config())
	run(t, s, 2)
	s.cfg.Log = older{s.cfg.Log, old}
	if err := s.Run(t.Context()); !errors.Is(err, errContradiction) {
		t.Errorf("got %v", err)
	}
	fresh := New(r.config())
	fresh.cfg.Log = older{fresh.cfg.Log, old}
	if err := fresh.Run(t.Context()); !errors.Is(err, errContradiction) {
		t.Errorf("at the start: got %v", err)
	}
}

type older struct {
	tlog.Source
	checkpoint []byte
}

func (o older) Checkpoint(context.Context) ([]byte, error) { return o.checkpoint, nil }

// A step that fails anywhere is repeated, and leads to the same map: the index log fails before
// or after it has added the entry, and the disk of the map is full.
func TestStepsThatFail(t *testing.T) {
	r := newRig(t, t.TempDir())
	cfg := r.config()
	before, after := true, true
	add := cfg.Append
	cfg.Append = func(ctx context.Context, entry []byte) error {
		if before {
			before = false
			return errors.New("no answer")
		}
		err := add(ctx, entry)
		if after {
			after = false
			return errors.Join(err, errors.New("the answer was lost"))
		}
		return err
	}
	s := New(cfg)
	r.add(t, "a")
	for _, want := range []string{"no answer", "the answer was lost", ""} {
		if err := s.step(t.Context()); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Fatalf("got %v, want %q", err, want)
		}
	}
	if state := s.state.Load(); state == nil || state.Index.Size != 1 {
		t.Fatalf("got %+v, want one entry of the index log", state)
	}
	// Between two attempts the log grows.
	before, after = false, true
	r.add(t, "b")
	if err := s.step(t.Context()); err == nil {
		t.Fatal("got no error")
	}
	r.add(t, "c")
	run(t, s, 3)
	if a, err := r.audit(t); err != nil || a.Index.Size != 3 {
		t.Errorf("audit: got %+v, %v", a, err)
	}
	// No space for the map.
	if err := os.RemoveAll(cfg.Dir); err != nil {
		t.Fatal(err)
	}
	if err := s.save(); err == nil {
		t.Error("the map was saved nowhere")
	}
	r.add(t, "d")
	run(t, s, 4)
	if found, _, err := ask(s, search.KeyHash, keyName()); err != nil || len(found) != 4 {
		t.Errorf("got %v, %v", found, err)
	}
}

func TestQuestionsRefused(t *testing.T) {
	r := newRig(t, t.TempDir())
	s := New(r.config())
	r.add(t, "a")
	run(t, s, 1)
	mux := http.NewServeMux()
	s.Register(mux)
	for _, bad := range []string{"", "kind=digest", "kind=image&value=x", "kind=unparsed&value=x", "kind=digest&value=a&value=b", "kind=digest&value=a&from=-1", "kind=digest&value=a&from=x", "kind=digest&value=a&limit=0", "kind=digest&value=a&limit=101", "kind=digest&value=a&offset=1"} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, Path+"?"+bad, nil))
		if w.Code != http.StatusBadRequest {
			t.Errorf("%q: got %d: %s", bad, w.Code, w.Body)
		}
	}
	for range cap(s.slots) {
		s.slots <- struct{}{}
	}
	if _, _, err := ask(s, search.KeyHash, keyName()); err == nil || !strings.Contains(err.Error(), "busy") {
		t.Errorf("too many questions: got %v", err)
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, Path+"?kind=unparsed", nil))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || cap(s.slots) != 16 {
		t.Errorf("the %dth question: got %d, %v", cap(s.slots)+1, w.Code, w.Header())
	}
}

// The tiles that are kept are bounded, and one that is wrong is forgotten.
func TestCache(t *testing.T) {
	c := newCache(bytesOf{})
	for i := range int64(200) {
		if _, err := c.Tile(t.Context(), tlog.Tile{Index: i, Width: 256}); err != nil {
			t.Fatal(err)
		}
		if c.size > maxCached || c.size != len(c.tiles)<<20 {
			t.Fatalf("after %d tiles: got %d bytes in %d", i, c.size, len(c.tiles))
		}
	}
	c.forget()
	if c.size != 0 || len(c.tiles) != 0 {
		t.Errorf("got %d bytes", c.size)
	}
}

type bytesOf struct{ tlog.Source }

func (bytesOf) Tile(context.Context, tlog.Tile) ([]byte, error) { return make([]byte, 1<<20), nil }
