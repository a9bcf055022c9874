package search

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/archive"
	"github.com/colophon-build/colophon/platform/authority/archivelog"
	"github.com/colophon-build/colophon/platform/authority/indexlog"
	"github.com/colophon-build/colophon/platform/authority/tiles"
	"github.com/colophon-build/colophon/search"
	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/tlog/prefix"
)

// archiveRig is a platform's archive, its log and its index log, beside the transparency log.
type archiveRig struct {
	*rig
	archive *archive.Archive
	log     *archivelog.Server
	index   *indexlog.Server
	mux     *http.ServeMux
}

func newArchiveRig(t testing.TB, dir string) *archiveRig {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	r := &archiveRig{rig: newRig(t, dir), mux: http.NewServeMux()}
	quiet := slog.New(slog.DiscardHandler)
	origin := search.ArchiveOrigin("log.example")
	cfg := tiles.LogConfig{Dir: filepath.Join(dir, "archivelog"), Record: filepath.Join(dir, "archivelog.vkey"), Log: quiet}
	var err error
	cfg.Signer, cfg.PublicKey, err = r.rig.log.Signer(origin)
	must(err)
	r.log, err = archivelog.New(cfg)
	must(err)
	indexed := indexlog.Config{LogConfig: tiles.LogConfig{Dir: filepath.Join(dir, "archiveindex"), Record: filepath.Join(dir, "archiveindex.vkey"), Log: quiet}, Of: r.log.Source()}
	indexed.OfVerifier, err = tlog.NewVerifier(origin, cfg.PublicKey)
	must(err)
	indexed.Signer, indexed.PublicKey, err = r.rig.log.Signer(search.IndexOrigin(origin))
	must(err)
	r.index, err = indexlog.New(indexed)
	must(err)
	r.archive, err = archive.Open(archive.Config{Dir: filepath.Join(dir, "archive"), Log: quiet})
	must(err)
	t.Cleanup(func() { r.stop(t) })
	r.mux.Handle("GET "+archivelog.Path, r.log.Handler(archivelog.Path, r.log.Source()))
	r.mux.Handle("GET "+archivelog.PathIndex, r.index.Handler(archivelog.PathIndex, r.index.Source()))
	r.mux.Handle("/archive/records", r.archive.Inside())
	r.mux.Handle("/archive/content/", r.archive.Inside())
	return r
}

// stop closes all but the transparency log.
func (r *archiveRig) stop(t testing.TB) {
	if err := errors.Join(r.index.Close(context.Background()), r.log.Close(context.Background()), r.archive.Close()); err != nil && !strings.Contains(err.Error(), "closed") {
		t.Error(err)
	}
}

func (r *archiveRig) get(path string) ([]byte, error) {
	w := httptest.NewRecorder()
	r.mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	if w.Code != http.StatusOK {
		return nil, fmt.Errorf("%s: got %d: %s", path, w.Code, w.Body)
	}
	return w.Body.Bytes(), nil
}

func (r *archiveRig) content(_ context.Context, record search.Record) ([]byte, error) {
	return r.get(archive.PathContent + record.Digest)
}

func (r *archiveRig) verifiers() (cfg Config) {
	origin := search.ArchiveOrigin("log.example")
	var err, err2 error
	cfg.LogKey, err = tlog.NewVerifier(origin, r.rig.log.PublicKey())
	cfg.IndexKey, err2 = tlog.NewVerifier(search.IndexOrigin(origin), r.rig.log.PublicKey())
	if err := errors.Join(err, err2); err != nil {
		panic(err)
	}
	return cfg
}

func (r *archiveRig) config() ArchiveConfig {
	cfg := ArchiveConfig{Config: r.verifiers(), Content: r.content, MayRead: func(token string) bool { return token == "pull" }}
	cfg.Dir = filepath.Join(r.dir, "map")
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		panic(err)
	}
	cfg.Logger = slog.New(slog.DiscardHandler)
	cfg.Log, cfg.Index = through(r.mux, "/archive/log"), through(r.mux, "/archive/index")
	cfg.Append = func(ctx context.Context, entry []byte) error {
		_, err := r.index.Append(ctx, entry)
		return err
	}
	cfg.Records = func(_ context.Context, after int64) ([][]byte, error) {
		list, err := r.archive.Records(after)
		return list.Entries, err
	}
	cfg.Add = func(ctx context.Context, from int64, entries [][]byte) error {
		_, err := r.log.Append(ctx, from, entries)
		return err
	}
	return cfg
}

// push archives a statement as a manifest attaches it.
func (r *archiveRig) push(t testing.TB, attached string, statement []byte) {
	t.Helper()
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(statement))
	manifest := fmt.Sprintf(`{"schemaVersion":2,"layers":[{"mediaType":%q,"digest":%q,"size":%d}],"subject":{"digest":%q}}`, attest.PayloadType, digest, len(statement), attached)
	open := func(string) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(statement)), nil }
	if err := r.archive.Manifest(t.Context(), []byte(manifest), open); err != nil {
		t.Fatal(err)
	}
}

// runArchive copies and indexes until the map has size records.
func runArchive(t testing.TB, a *Archive, size int64) {
	t.Helper()
	for more := true; more; {
		var err error
		if more, err = a.copy(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	run(t, a.Service, size)
}

// askArchive asks over HTTP, verifies the answer and the content, and returns the matches.
func (r *archiveRig) ask(a *Archive, q search.ArchiveQuestion, limit int) (found []search.Match, v *search.ArchiveVerified, err error) {
	mux := http.NewServeMux()
	a.Register(mux)
	keys := r.verifiers()
	for {
		query := url.Values{"kind": {string(q.Kind)}, "value": {q.Value}, "limit": {fmt.Sprint(limit)}, "from": {base64.URLEncoding.EncodeToString(q.From)}}
		if q.Prefix {
			query.Set("prefix", "true")
		}
		req := httptest.NewRequest(http.MethodGet, api.PathArchiveSearch+"?"+query.Encode(), nil)
		req.Header.Set("Authorization", "Bearer pull")
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, req)
		if w.Code != http.StatusOK {
			return nil, nil, fmt.Errorf("got %d: %s", w.Code, w.Body)
		}
		answer, err := search.ParseArchiveAnswer(w.Body.Bytes())
		if err != nil {
			return nil, nil, err
		}
		if v, err = answer.Verify(q, keys.LogKey, keys.IndexKey); err != nil {
			return nil, nil, err
		}
		for _, m := range v.Matches {
			content, err := r.content(context.Background(), v.Records[m.Index])
			if err == nil {
				err = search.CheckContent(v.Records[m.Index], q.Kind, m.Value, content)
			}
			if err != nil {
				return nil, nil, err
			}
			found = append(found, m)
		}
		if q.From = v.Next; v.Next == nil {
			return found, v, nil
		}
	}
}

func (r *archiveRig) audit(t testing.TB) (*search.Audited, error) {
	t.Helper()
	cfg := r.config()
	m := &search.ArchiveMap{Content: r.content, Dir: t.TempDir()}
	return search.AuditArchive(t.Context(), cfg.Log, cfg.LogKey, cfg.Index, cfg.IndexKey, m, nil)
}

const (
	appDigest = "sha256:e87d5964324ac2f84136617fd7dca5e47c40b754543c01bd0b662b86ee2bf90f"
	other     = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
)

// provenanceOf is a provenance whose build used a base image and a download.
func provenanceOf(n int) []byte {
	return fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"registry.example/app","digest":{"sha256":"e87d5964324ac2f84136617fd7dca5e47c40b754543c01bd0b662b86ee2bf90f"}}],
"predicateType":"https://slsa.dev/provenance/v1","predicate":{"buildDefinition":{"buildType":"t","resolvedDependencies":[
{"uri":"git+https://git.example.com/team/app@refs/tags/v1.2.%[1]d","digest":{"gitCommit":"381e42a0c0ffee00c0ffee00c0ffee00c0ffee00"}},
{"uri":"pkg:docker/golang@1.26?platform=linux%%2Famd64","digest":{"sha256":"2222222222222222222222222222222222222222222222222222222222222222"}},
{"uri":"https://files.example/tool-%[1]d.tgz","digest":{"sha256":"3333333333333333333333333333333333333333333333333333333333333333"}}]},
"runDetails":{"builder":{"id":"https://platform.example/builders/buildkit/v1"},"metadata":{"invocationId":"https://platform.example/runs/%[1]d"}}}}`, n)
}

func sbomOf(packages int) []byte {
	var list []string
	for i := range packages {
		list = append(list, fmt.Sprintf(`{"name":"lib%d","versionInfo":"1.%d.0","externalRefs":[{"referenceType":"purl","referenceLocator":"pkg:deb/debian/lib%d@1.%d.0?arch=amd64"}]}`, i, i, i, i))
	}
	return fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"e87d5964324ac2f84136617fd7dca5e47c40b754543c01bd0b662b86ee2bf90f"}}],"predicateType":"https://spdx.dev/Document","predicate":{"spdxVersion":"SPDX-2.3","packages":[%s]}}`, strings.Join(list, ","))
}

func TestArchiveSearch(t *testing.T) {
	r := newArchiveRig(t, t.TempDir())
	a := NewArchive(r.config())
	runArchive(t, a, 0)
	if found, v, err := r.ask(a, search.ArchiveQuestion{Kind: search.Base, Value: "golang@1.26"}, 7); err != nil || len(found) != 0 || v.Indexed.Size != 0 {
		t.Errorf("an empty archive: got %v, %v", found, err)
	}
	for i := range 20 {
		r.push(t, appDigest, provenanceOf(i))
		if i%6 == 0 {
			runArchive(t, a, int64(i+1))
		}
	}
	r.push(t, appDigest, sbomOf(300))
	r.push(t, other, sbomOf(300)) // the same content, attached to another image
	r.push(t, other, []byte("not JSON"))
	runArchive(t, a, 23)
	check := func(a *Archive) {
		t.Helper()
		for _, c := range []struct {
			q    search.ArchiveQuestion
			want int
		}{
			{search.ArchiveQuestion{Kind: search.Base, Value: "golang@1.26"}, 20},
			{search.ArchiveQuestion{Kind: search.Base, Value: "golang@", Prefix: true}, 40},
			{search.ArchiveQuestion{Kind: search.Base, Value: "sha256:2222222222222222222222222222222222222222222222222222222222222222"}, 20},
			{search.ArchiveQuestion{Kind: search.Fetched, Value: "https://files.example/tool-7.tgz"}, 1},
			{search.ArchiveQuestion{Kind: search.Fetched, Value: "https://files.example/", Prefix: true}, 20},
			{search.ArchiveQuestion{Kind: search.Package, Value: "lib7@1.7.0"}, 1},
			{search.ArchiveQuestion{Kind: search.Package, Value: "lib7@", Prefix: true}, 1},
			{search.ArchiveQuestion{Kind: search.Package, Value: "pkg:deb/debian/lib7@1.7.0"}, 1},
			{search.ArchiveQuestion{Kind: search.Package, Value: "lib7", Prefix: true}, 1 + 10},
			{search.ArchiveQuestion{Kind: search.Package, Value: "log4j@", Prefix: true}, 0},
			{search.ArchiveQuestion{Kind: search.Source, Value: "https://git.example.com/team/app"}, 20},
			{search.ArchiveQuestion{Kind: search.Commit, Value: "381e42a0c0ffee00c0ffee00c0ffee00c0ffee00"}, 20},
			{search.ArchiveQuestion{Kind: search.Builder, Value: "https://platform.example/builders/buildkit/v1"}, 20},
			{search.ArchiveQuestion{Kind: search.Digest, Value: other}, 2},
			{search.ArchiveQuestion{Kind: search.Digest, Value: appDigest}, 21},
			{search.ArchiveQuestion{Kind: search.Unparsed}, 1},
		} {
			found, v, err := r.ask(a, c.q, 7)
			if err != nil || len(found) != c.want || v.Total != int64(c.want) {
				t.Errorf("%s %q: got %d matches, %v, want %d", c.q.Kind, c.q.Value, len(found), err, c.want)
			}
		}
	}
	check(a)
	if err := a.save(); err != nil {
		t.Fatal(err)
	}
	check(a)
	again := NewArchive(r.config())
	runArchive(t, again, 23)
	check(again)
	if err := os.Remove(filepath.Join(r.config().Dir, mapFile)); err != nil {
		t.Fatal(err)
	}
	again = NewArchive(r.config())
	runArchive(t, again, 23)
	check(again)
	if audited, err := r.audit(t); err != nil || audited.Indexed.Size != 23 || audited.Unparsed != 1 {
		t.Errorf("audit: got %+v, %v", audited, err)
	}
}

// Only who may read the archive may search it, and no shared cache keeps an answer.
func TestArchiveIsPrivate(t *testing.T) {
	r := newArchiveRig(t, t.TempDir())
	a := NewArchive(r.config())
	r.push(t, appDigest, provenanceOf(1))
	runArchive(t, a, 1)
	mux := http.NewServeMux()
	a.Register(mux)
	for _, path := range []string{api.PathArchiveSearch + "?kind=unparsed", api.PathArchiveLog + "checkpoint", api.PathArchiveLog + "tile/entries/000.p/1", api.PathArchiveIndex + "checkpoint", api.PathArchiveIndex + "tile/entries/000.p/1"} {
		for token, want := range map[string]int{"": 401, "Bearer x": 401, "Bearer pull": 200} {
			req := httptest.NewRequest(http.MethodGet, path, nil)
			req.Header.Set("Authorization", token)
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, req)
			if w.Code != want {
				t.Errorf("%s with %q: got %d, want %d", path, token, w.Code, want)
			}
			if want == 200 && w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("%s: a shared cache may keep it: %q", path, w.Header().Get("Cache-Control"))
			}
		}
	}
}

// The operator is us: what an archive leaves out of its log, changes or loses is found.
func TestLyingArchive(t *testing.T) {
	start := func(t *testing.T) (*archiveRig, *Archive) {
		r := newArchiveRig(t, t.TempDir())
		a := NewArchive(r.config())
		for i := range 5 {
			r.push(t, appDigest, provenanceOf(i))
		}
		runArchive(t, a, 5)
		return r, a
	}
	t.Run("a map that leaves out a record", func(t *testing.T) {
		r, a := start(t)
		r.push(t, appDigest, provenanceOf(6))
		if _, err := a.copy(t.Context()); err != nil {
			t.Fatal(err)
		}
		signed, err := a.Service.cfg.Log.Checkpoint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		state := a.state.Load()
		if _, err := r.index.Append(t.Context(), search.Leaf{Root: state.Map.Root(), Keys: state.Map.Len(), Checkpoint: string(signed)}.Bytes()); err != nil {
			t.Fatal(err)
		}
		if _, err := r.audit(t); !errors.Is(err, search.ErrContradiction) {
			t.Errorf("audit: got %v", err)
		}
	})
	t.Run("content that was changed", func(t *testing.T) {
		r, _ := start(t)
		changed := r.config()
		m := &search.ArchiveMap{Dir: t.TempDir(), Content: func(ctx context.Context, record search.Record) ([]byte, error) { return provenanceOf(99), nil }}
		if _, err := search.AuditArchive(t.Context(), changed.Log, changed.LogKey, changed.Index, changed.IndexKey, m, nil); err == nil || !strings.Contains(err.Error(), "digest") {
			t.Errorf("audit: got %v", err)
		}
	})
	t.Run("an archive that was rolled back", func(t *testing.T) {
		r, a := start(t)
		old, err := archive.Open(archive.Config{Dir: filepath.Join(t.TempDir(), "old")})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { old.Close() })
		whole := r.archive
		r.archive = old
		for i := range 7 { // fewer, as many and more records: other ones
			if _, err := NewArchive(r.config()).copy(t.Context()); err == nil || !strings.Contains(err.Error(), "lost records") && !strings.Contains(err.Error(), "rolled back") {
				t.Errorf("got %v, want that it was rolled back", err)
			}
			r.push(t, other, fmt.Appendf(nil, "%d", i))
		}
		r.archive = whole
		if _, err := a.copy(t.Context()); err != nil {
			t.Errorf("the right archive again: %v", err)
		}
	})
	t.Run("a search role that adds what the archive does not have", func(t *testing.T) {
		r, a := start(t)
		record := search.Record{Number: 7, Form: "statement", Digest: other}
		if _, err := r.log.Append(t.Context(), 5, [][]byte{record.Bytes()}); err == nil {
			t.Error("a record that leaves out a number was accepted")
		}
		if record.Number = 6; true {
			if _, err := r.log.Append(t.Context(), 4, [][]byte{record.Bytes()}); err == nil {
				t.Error("a record was replaced")
			}
		}
		if _, err := r.log.Append(t.Context(), 5, [][]byte{record.Bytes()}); err != nil {
			t.Fatal(err)
		}
		a.size = 0
		if _, err := a.copy(t.Context()); err == nil {
			t.Error("the archive's log has another record than the archive, and nobody said so")
		}
	})
}

// TestArchiveQuestions: what is no question is refused.
func TestArchiveQuestions(t *testing.T) {
	for query, word := range map[string]string{
		"kind=x&value=y":                                             "kind",
		"kind=identity&value=y":                                      "kind",
		"kind=package":                                               "value",
		"kind=unparsed&value=y":                                      "value",
		"kind=package&value=y&prefix=1":                              "prefix",
		"kind=package&value=y&from=%25":                              "from",
		"kind=package&value=y&limit=0":                               "limit",
		"kind=package&value=y&limit=101":                             "limit",
		"kind=package&value=y&value=z":                               "expected one",
		"kind=package&value=y&other=z":                               "unknown parameter",
		"kind=package&value=" + strings.Repeat("a", maxArchiveQuery): "more than",
	} {
		if _, _, err := archiveQuestion(httptest.NewRequest(http.MethodGet, "/?"+query, nil)); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%.60s: got %v, want %q in it", query, err, word)
		}
	}
}

// TestArchiveAnswersThatLie: an answer that leaves out, adds or replaces a record proves nothing, and
// content that does not have what the map says is found.
func TestArchiveAnswersThatLie(t *testing.T) {
	r := newArchiveRig(t, t.TempDir())
	a := NewArchive(r.config())
	for i := range 5 {
		r.push(t, appDigest, provenanceOf(i))
	}
	runArchive(t, a, 5)
	ask := func(value string, prefix bool, limit int) (search.ArchiveQuestion, *search.ArchiveAnswer) {
		q := search.ArchiveQuestion{Kind: search.Fetched, Value: value, Prefix: prefix}
		answer, err := a.answerArchive(t.Context(), a.state.Load(), q, limit)
		if err != nil {
			t.Fatal(err)
		}
		return q, answer
	}
	keys := r.verifiers()
	_, other := ask("https://files.example/tool-4.tgz", false, 9)
	for name, lie := range map[string]func(*search.ArchiveAnswer){
		"a record is left out":       func(a *search.ArchiveAnswer) { a.Entries = a.Entries[1:] },
		"a record is added":          func(a *search.ArchiveAnswer) { a.Entries = append(a.Entries, other.Entries[0]) },
		"a record is there twice":    func(a *search.ArchiveAnswer) { a.Entries = append(a.Entries, a.Entries[0]) },
		"a record is another one":    func(a *search.ArchiveAnswer) { a.Entries[0].Body = other.Entries[0].Body },
		"a record has another place": func(a *search.ArchiveAnswer) { a.Entries[0].Index++ },
		"the page ends earlier":      func(a *search.ArchiveAnswer) { a.Next = []byte("2") },
		"there is no next page":      func(a *search.ArchiveAnswer) { a.Next = nil },
		"the next page is this one":  func(a *search.ArchiveAnswer) { a.Next = []byte{} },
		"an index for a place":       func(a *search.ArchiveAnswer) { a.To = new(int64) },
		"the proof of another":       func(a *search.ArchiveAnswer) { a.Proof = other.Proof },
		"another root":               func(a *search.ArchiveAnswer) { a.Leaf[len("colophon search index v1\n")] ^= 1 },
	} {
		q, answer := ask("https://files.example/", true, 3)
		if v, err := answer.Verify(q, keys.LogKey, keys.IndexKey); err != nil || len(v.Matches) != 3 {
			t.Fatalf("got %+v, %v", v, err)
		}
		answer.Leaf = bytes.Clone(answer.Leaf)
		if lie(answer); name == "the page ends earlier" && answer.Next == nil {
			t.Fatal("there is no next page")
		}
		if _, err := answer.Verify(q, keys.LogKey, keys.IndexKey); err == nil {
			t.Errorf("%s: it was accepted", name)
		}
	}
	// A page of nothing, after which the next one starts where it did: a client would ask for ever.
	q, answer := ask("https://files.example/", true, 3)
	q.From = []byte("tool-2")
	answer.Next, answer.Entries = q.From, nil
	span := prefix.Range{Prefix: []byte("fetched\x00https://files.example/"), From: q.From, To: q.From}
	var err error
	if answer.Proof, err = a.state.Load().Map.Prove(span); err != nil {
		t.Fatal(err)
	}
	if _, err := answer.Verify(q, keys.LogKey, keys.IndexKey); err == nil {
		t.Error("a page that leads to itself was accepted")
	}
	record, err := search.ParseRecord(other.Entries[0].Body)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		value   string
		content []byte
	}{
		"a value that it does not have": {"https://files.example/tool-3.tgz", provenanceOf(4)},
		"other content":                 {"https://files.example/tool-4.tgz", provenanceOf(3)},
	} {
		if err := search.CheckContent(record, search.Fetched, c.value, c.content); err == nil {
			t.Errorf("%s: it was accepted", name)
		}
	}
	if err := search.CheckContent(record, search.Fetched, "https://files.example/tool-4.tgz", provenanceOf(4)); err != nil {
		t.Error(err)
	}
}
