package release

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/test/gittest"
	"github.com/colophon-build/colophon/trust"
)

// rooms is the trusted side of rooms that nobody opens: what their gateways saw
// is made up.
type rooms struct {
	mu       sync.Mutex
	sessions []builder.Session
	ended    []string
	saw      [][]builder.Exchange // by session
	end      error
	kept     map[string]bool // what became of the cache mounts of a session
}

func (r *rooms) Keep(ctx context.Context, id string, keep bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.kept == nil {
		r.kept = map[string]bool{}
	}
	r.kept[id] = keep
	return ctx.Err()
}

func (r *rooms) Begin(_ context.Context, s builder.Session) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sessions = append(r.sessions, s)
	return fmt.Sprint("session-", len(r.sessions)), nil
}

func (r *rooms) End(ctx context.Context, id string) (*builder.Record, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = append(r.ended, id)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	rec := &builder.Record{Config: map[string]string{"namespaces": "all"}, Tools: []attest.ResourceDescriptor{{Name: "buildkitd", Digest: map[string]string{"sha256": hex64("d")}}}}
	if n := len(r.ended); n <= len(r.saw) {
		rec.Exchanges = r.saw[n-1]
	}
	return rec, r.end
}

func hex64(c string) string { return strings.Repeat(c, 64) }

// builds is a builder whose builds are scripted: the image of each, by seed, on
// top of a base, and what it says.
type builds struct {
	seeds []int64
	base  v1.Image
	says  builder.Result
	fails error
	lies  bool // about the digest

	mu   sync.Mutex
	reqs []builder.Request
}

func (b *builds) Build(ctx context.Context, req builder.Request) (*builder.Result, error) {
	b.mu.Lock()
	n := len(b.reqs)
	b.reqs = append(b.reqs, req)
	b.mu.Unlock()
	if b.fails != nil {
		return nil, b.fails
	}
	img := b.base
	if img == nil {
		img = platformed(empty.Image)
	}
	layer, err := random.Layer(1000, types.OCILayer, random.WithSource(rand.NewSource(b.seeds[min(n, len(b.seeds)-1)])))
	if err != nil {
		return nil, err
	}
	if img, err = mutate.AppendLayers(img, layer); err != nil {
		return nil, err
	}
	res := b.says
	if res.Digest, err = handOver(req.Layout, img); err != nil {
		return nil, err
	}
	if b.lies {
		res.Digest = "sha256:" + hex64("0")
	}
	return &res, nil
}

func platformed(img v1.Image) v1.Image {
	img = mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), types.OCIConfigJSON)
	cf, err := img.ConfigFile()
	if err != nil {
		panic(err)
	}
	cf = cf.DeepCopy()
	cf.OS, cf.Architecture, cf.RootFS.Type = "linux", runtime.GOARCH, "layers"
	if img, err = mutate.ConfigFile(img, cf); err != nil {
		panic(err)
	}
	return img
}

func seen(url, sum string) builder.Exchange {
	return builder.Exchange{Method: http.MethodGet, URL: url, Status: 200, Size: 1, SHA256: hex64(sum)}
}

func fetched(url, sum string) attest.ResourceDescriptor {
	return attest.ResourceDescriptor{URI: url, Digest: map[string]string{"sha256": hex64(sum)}}
}

// dockerStage is a stage whose source is a Dockerfile.
func dockerStage(t *testing.T, b *builds, r *rooms, dockerfile string) *stage {
	t.Helper()
	s := newStage(t, b, http.NotFound)
	s.Builders = append(s.Builders, BuilderInfo{Name: "buildkit", Builder: trust.Builder{ID: "http://127.0.0.1:1/builders/buildkit/v1", Level: 2}, BuildType: "x"})
	if r != nil {
		s.Rooms = r
	}
	dir := strings.TrimPrefix(s.req.Source, "file://")
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o600); err != nil {
		t.Fatal(err)
	}
	gittest.Git(t, dir, "add", ".")
	gittest.Git(t, dir, "commit", "-q", "-m", "Dockerfile")
	gittest.Git(t, dir, "tag", "-f", "v1.0.0")
	return s
}

func (s *stage) run(t *testing.T) (string, []api.Event) {
	t.Helper()
	var events []api.Event
	_, err := s.Run(t.Context(), s.req, func(e api.Event) { events = append(events, e) })
	if err == nil {
		t.Fatal("released, in a test that cannot sign")
	}
	if n := s.pushed.Load(); n > 0 && !passed(err.Error()) {
		t.Errorf("%d requests changed the registry", n)
	}
	if left, _ := os.ReadDir(filepath.Join(s.Dir, "work")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	return err.Error(), events
}

// passed says that a release got as far as a test without a log can.
func passed(err string) bool {
	return strings.Contains(err, "no token in this test") || strings.Contains(err, "pushing") || strings.Contains(err, "earlier run")
}

// ends fails the test unless the error of a release says each of want. nil: the release passed.
func ends(t *testing.T, name, err string, want []string) {
	t.Helper()
	if passed(err) != (want == nil) {
		t.Errorf("%s: got %s", name, err)
	}
	for _, w := range want {
		if !strings.Contains(err, w) {
			t.Errorf("%s: got %s, want %q", name, err, w)
		}
	}
}

const zip = "https://proxy.example.com/x.zip"

func TestHermetic(t *testing.T) {
	r := &rooms{saw: [][]builder.Exchange{{seen(zip, "5")}, {seen(zip, "5")}}}
	b := &builds{seeds: []int64{1}, says: builder.Result{Dependencies: []attest.ResourceDescriptor{fetched(zip, "5")}}}
	s := dockerStage(t, b, r, "FROM scratch\nADD "+zip+" /\n")
	s.req.Hermetic = true
	if err, _ := s.run(t); !passed(err) {
		t.Fatalf("got %s", err)
	}
	if len(r.sessions) != 2 || !r.sessions[0].Record || r.sessions[0].Lock != nil || r.sessions[1].Record || !r.sessions[1].Sealed || r.sessions[1].Lock == nil {
		t.Fatalf("sessions: got %+v, want one that records and a sealed one from its lock", r.sessions)
	}
	if f := r.sessions[1].Lock.Fetches; len(f) != 1 || f[0].URL != zip || f[0].SHA256 != hex64("5") {
		t.Errorf("lock: got %+v", f)
	}
	if fmt.Sprint(r.ended) != "[session-1 session-2]" || b.reqs[0].Session != "session-1" || b.reqs[1].Session != "session-2" || b.reqs[0].Layout == b.reqs[1].Layout {
		t.Errorf("ended %v, built %+v", r.ended, b.reqs)
	}
	raw, err := r.sessions[1].Lock.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	kept, _ := filepath.Glob(filepath.Join(s.Dir, "logs", "*"))
	found := false
	for _, f := range kept {
		data, _ := os.ReadFile(f)
		found = found || bytes.Equal(data, raw)
	}
	if !found {
		t.Error("the lock was not kept")
	}
}

func TestHermeticRunsThatDiffer(t *testing.T) {
	r := &rooms{}
	s := dockerStage(t, &builds{seeds: []int64{1, 2}}, r, "FROM scratch\nCOPY go.mod /\n")
	s.req.Hermetic = true
	err, _ := s.run(t)
	if !strings.Contains(err, "differ") || strings.Count(err, "sha256:") < 2 || !strings.Contains(err, "layer 1, /") {
		t.Errorf("got %s, want both digests and the file that differs", err)
	}
}

func TestLocked(t *testing.T) {
	lock, err := builder.LockOf([]builder.Exchange{seen(zip, "5")})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := lock.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	outside := builder.Exchange{Method: "GET", URL: "https://evil.example.com/x", Status: 403, Denied: "not in the lock"}
	for name, test := range map[string]struct {
		saw  []builder.Exchange
		want string // empty: it passes
	}{
		"all that is in it":      {[]builder.Exchange{seen(zip, "5")}, ""},
		"more than is in it":     {[]builder.Exchange{seen(zip, "5"), outside}, outside.URL},
		"bytes that are another": {[]builder.Exchange{seen(zip, "6")}, hex64("6")},
	} {
		r := &rooms{saw: [][]builder.Exchange{test.saw}}
		s := dockerStage(t, &builds{seeds: []int64{1}, says: builder.Result{Dependencies: []attest.ResourceDescriptor{fetched(zip, "5")}}}, r, "FROM scratch\nADD "+zip+" /\n")
		s.req.Lock = string(raw)
		err, _ := s.run(t)
		if test.want == "" && !passed(err) || !strings.Contains(err, test.want) {
			t.Errorf("%s: got %s, want %q", name, err, test.want)
		}
		if len(r.sessions) != 1 || r.sessions[0].Lock == nil || r.sessions[0].Sealed || r.sessions[0].Record {
			t.Errorf("%s: sessions %+v, want one with the lock", name, r.sessions)
		}
	}
}

// What cannot be pinned is told before anything is built.
func TestPinningThatCannotBe(t *testing.T) {
	lock, _ := builder.LockOf(nil)
	raw, err := lock.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		req  api.ReleaseRequest
		rm   *rooms
		kind api.Kind
		want string
	}{
		"both":               {api.ReleaseRequest{Hermetic: true, Lock: string(raw)}, &rooms{}, api.Usage, "writes its own lock"},
		"no lock":            {api.ReleaseRequest{Lock: "{}"}, &rooms{}, api.Usage, "lock"},
		"a lock in disorder": {api.ReleaseRequest{Lock: " " + string(raw)}, &rooms{}, api.Usage, "canonical"},
		"golang":             {api.ReleaseRequest{Lock: string(raw), Recipe: attest.Recipe{Builder: "golang"}}, &rooms{}, api.Usage, "go.sum"},
		"no rooms":           {api.ReleaseRequest{Lock: string(raw)}, nil, api.Failure, "no gateway"},
		"no rooms, hermetic": {api.ReleaseRequest{Hermetic: true}, nil, api.Failure, "no gateway"},
	} {
		b := &builds{seeds: []int64{1}}
		s := dockerStage(t, b, test.rm, "FROM scratch\nCOPY go.mod /\n")
		req := s.req
		req.Hermetic, req.Lock, req.Recipe = test.req.Hermetic, test.req.Lock, test.req.Recipe
		_, err := s.Run(t.Context(), req, func(api.Event) {})
		if known, ok := errors.AsType[*api.Error](err); !ok || known.Kind != test.kind || !strings.Contains(known.Message, test.want) || len(b.reqs) > 0 {
			t.Errorf("%s: got %v after %d builds, want the kind %q and %q", name, err, len(b.reqs), test.kind, test.want)
		}
	}
}

// A golang build twice needs no room: it has to give the same.
func TestHermeticGo(t *testing.T) {
	for _, seeds := range [][]int64{{1}, {1, 2}} {
		b := &builds{seeds: seeds}
		s := newStage(t, b, http.NotFound)
		s.req.Hermetic = true
		err, _ := s.run(t)
		if same := len(seeds) == 1; passed(err) != same || !same && !strings.Contains(err, "differ") || len(b.reqs) != 2 {
			t.Errorf("%v: got %s after %d builds", seeds, err, len(b.reqs))
		}
	}
}

// What the room says and what its gateway saw must be one.
func TestRoomAndGatewayDisagree(t *testing.T) {
	for name, test := range map[string]struct {
		saw  []builder.Exchange
		says []attest.ResourceDescriptor
		want []string
	}{
		"they agree":           {[]builder.Exchange{seen(zip, "5")}, []attest.ResourceDescriptor{fetched(zip, "5")}, nil},
		"hidden from the list": {[]builder.Exchange{seen(zip, "5")}, nil, []string{zip, hex64("5")}},
		"never fetched":        {nil, []attest.ResourceDescriptor{fetched(zip, "5")}, []string{zip, hex64("5")}},
		"other bytes":          {[]builder.Exchange{seen(zip, "5")}, []attest.ResourceDescriptor{fetched(zip, "6")}, []string{zip, hex64("5"), hex64("6")}},
		"an image of nobody's": {nil, []attest.ResourceDescriptor{fetched("pkg:docker/x@1", "5")}, []string{"pkg:docker/x@1"}},
	} {
		r := &rooms{saw: [][]builder.Exchange{test.saw}}
		s := dockerStage(t, &builds{seeds: []int64{1}, says: builder.Result{Dependencies: test.says}}, r, "FROM scratch\nADD "+zip+" /\n")
		err, _ := s.run(t)
		ends(t, name, err, test.want)
	}
}

// A session ends whatever becomes of its build, and what its gateway refused is told.
func TestSessionsEnd(t *testing.T) {
	denied := builder.Exchange{Method: "GET", URL: "http://169.254.169.254/", Status: 403, Denied: "link-local"}
	r := &rooms{saw: [][]builder.Exchange{{denied}}}
	s := dockerStage(t, &builds{fails: &builder.Error{Step: "RUN curl", Err: errors.New("exit code: 22")}}, r, "FROM scratch\nCOPY go.mod /\n")
	err, _ := s.run(t)
	if !strings.Contains(err, "RUN curl") || !strings.Contains(err, "denied GET http://169.254.169.254/: link-local") || len(r.ended) != 1 {
		t.Errorf("got %s; ended %v", err, r.ended)
	}
	// A record that cannot be had is no record of nothing.
	r = &rooms{end: errors.New("the gateway was killed")}
	s = dockerStage(t, &builds{seeds: []int64{1}}, r, "FROM scratch\nCOPY go.mod /\n")
	if err, _ := s.run(t); !strings.Contains(err, "the gateway was killed") {
		t.Errorf("got %s", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r = &rooms{}
	s = dockerStage(t, &builds{fails: context.Canceled}, r, "FROM scratch\nCOPY go.mod /\n")
	s.Run(ctx, s.req, func(e api.Event) {
		if e.Phase == "build" {
			cancel()
		}
	})
	if len(r.ended) != len(r.sessions) {
		t.Errorf("began %d sessions, ended %d", len(r.sessions), len(r.ended))
	}
}

// The image must stand on the base that its Dockerfile names.
func TestBaseImage(t *testing.T) {
	img, err := random.Image(100, 2)
	if err != nil {
		t.Fatal(err)
	}
	base := platformed(img)
	other, err := random.Image(100, 2)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendImage(base, layout.WithAnnotations(map[string]string{oci.RefNameAnnotation: "docker.io/library/base:1"})); err != nil {
		t.Fatal(err)
	}
	top, err := base.Digest()
	if err != nil {
		t.Fatal(err)
	}
	claim := attest.ResourceDescriptor{URI: "pkg:docker/base@1?platform=linux%2F" + runtime.GOARCH, Digest: map[string]string{"sha256": top.Hex}}
	tag := builder.Exchange{Method: "HEAD", URL: "http://mirror.invalid/v2/library/base/manifests/1?ns=docker.io", Status: 200, Header: map[string]string{"Docker-Content-Digest": top.String()}}
	moved := tag
	moved.Header = map[string]string{"Docker-Content-Digest": "sha256:" + hex64("a")}
	for name, test := range map[string]struct {
		base v1.Image
		saw  builder.Exchange
		want []string
	}{
		"its base":                 {base, tag, nil},
		"another base":             {platformed(other), tag, []string{"diff ID of layer 1", "base image"}},
		"no base":                  {nil, tag, []string{"base image"}},
		"a tag that moved between": {base, moved, []string{"base:1", top.String(), hex64("a")}},
	} {
		r := &rooms{saw: [][]builder.Exchange{{test.saw}}}
		s := dockerStage(t, &builds{seeds: []int64{1}, base: test.base, says: builder.Result{Dependencies: []attest.ResourceDescriptor{claim}}}, r, "FROM base:1\nCOPY go.mod /\n")
		if s.mirror, err = oci.OpenLayout(dir); err != nil {
			t.Fatal(err)
		}
		err, _ := s.run(t)
		ends(t, name, err, test.want)
	}
}

func TestModulesMustBePinned(t *testing.T) {
	tree := t.TempDir()
	sum := map[string]string{"dirHash": hex64("0")}
	// The module is in a directory; the top has another one, which does not count.
	if err := os.MkdirAll(filepath.Join(tree, "sub/cmd"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"sub/go.sum": "example.com/A v1.0.0 h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\nexample.com/A v1.0.0/go.mod h1:BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
		"sub/go.mod": "", "go.mod": "", "go.sum": "example.com/A v1.0.1 h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
	} {
		if err := os.WriteFile(filepath.Join(tree, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := checkModules(tree, attest.Recipe{Package: "./sub/cmd"}, []attest.ResourceDescriptor{{Name: "example.com/A@v1.0.0", URI: "pkg:golang/lies", Digest: sum, Annotations: map[string]any{"a": "b"}}})
	if err != nil || len(got) != 1 || got[0].URI != "pkg:golang/example.com/a@v1.0.0" || got[0].Annotations != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	for name, d := range map[string]attest.ResourceDescriptor{
		"another sum":     {Name: "example.com/A@v1.0.0", Digest: map[string]string{"dirHash": hex64("1")}},
		"another version": {Name: "example.com/A@v1.0.1", Digest: sum},
		"its go.mod":      {Name: "example.com/A@v1.0.0/go.mod", Digest: sum},
		"two digests":     {Name: "example.com/A@v1.0.0", Digest: map[string]string{"dirHash": hex64("0"), "sha256": hex64("1")}},
		"no digest":       {Name: "example.com/B@v1.0.0", Digest: map[string]string{"dirHash": ""}},
	} {
		if _, err := checkModules(tree, attest.Recipe{Package: "./sub/cmd"}, []attest.ResourceDescriptor{d}); err == nil {
			t.Errorf("%s: it passed", name)
		}
	}
	if _, err := checkModules(t.TempDir(), attest.Recipe{Package: "."}, []attest.ResourceDescriptor{{Name: "x"}}); err == nil {
		t.Error("a module without a go.sum passed")
	}
	// In a workspace, the sums of all its modules count, and those of no other.
	claim := func(name string) []attest.ResourceDescriptor {
		return []attest.ResourceDescriptor{{Name: name, Digest: sum}}
	}
	add := func(name, text string) {
		t.Helper()
		file := filepath.Join(tree, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	const line = " v1.0.0 h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
	add("lib/go.mod", "module example.com/lib\n")
	add("lib/go.sum", "example.com/L"+line)
	add("other/go.mod", "module example.com/other\n")
	add("other/go.sum", "example.com/O"+line)
	add("go.work.sum", "example.com/W"+line)
	add("go.work", "go 1.26.0\n\nuse (\n\t./sub\n\t./lib\n)\n")
	for name, good := range map[string]bool{"example.com/A@v1.0.0": true, "example.com/L@v1.0.0": true, "example.com/W@v1.0.0": true, "example.com/O@v1.0.0": false, "example.com/A@v1.0.1": false} {
		if _, err := checkModules(tree, attest.Recipe{Package: "./sub/cmd"}, claim(name)); (err == nil) != good {
			t.Errorf("%s in the workspace: got %v, want it accepted: %v", name, err, good)
		}
	}
	if _, err := checkModules(tree, attest.Recipe{Package: "./sub/cmd", Context: "sub"}, claim("example.com/L@v1.0.0")); err == nil {
		t.Error("a workspace outside the context counts")
	}
	config := map[string]string{}
	if err := noteWorkspace(config, tree, attest.Recipe{Package: "./sub/cmd"}); err != nil || config["go.workspace"] != "go.work\nlib\nsub" {
		t.Errorf("got %q, %v", config, err)
	}
	add("lib/go.sum", "example.com/A v1.0.0 h1:BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n")
	if _, err := checkModules(tree, attest.Recipe{Package: "./sub/cmd"}, claim("example.com/A@v1.0.0")); err == nil || !strings.Contains(err.Error(), "another sum") {
		t.Errorf("two sums of one module: got %v", err)
	}
}
