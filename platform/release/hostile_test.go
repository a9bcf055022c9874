package release

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/match"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/gittest"
	"github.com/colophon-build/colophon/trust"
)

// hostile is the build zone as an attacker would have it: harm changes the
// layout and the result after an honest build.
type hostile struct {
	platform string
	harm     func(t *testing.T, dir string, res *builder.Result)
	t        *testing.T
}

func (b hostile) Build(_ context.Context, req builder.Request) (*builder.Result, error) {
	img, err := random.Image(1000, 2)
	if err != nil {
		return nil, err
	}
	img = mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), types.OCIConfigJSON)
	cf, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	cf = cf.DeepCopy()
	cf.OS, cf.Architecture, _ = strings.Cut(b.platform, "/")
	if img, err = mutate.ConfigFile(img, cf); err != nil {
		return nil, err
	}
	digest, err := handOver(req.Layout, img)
	if err != nil {
		return nil, err
	}
	res := &builder.Result{Digest: digest, Started: time.Now(), Finished: time.Now()}
	if b.harm != nil {
		b.harm(b.t, req.Layout, res)
	}
	return res, nil
}

// repository is a real one, with the tag v1.0.0.
func repository(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "."}, {"commit", "-q", "-m", "first"}, {"tag", "v1.0.0"}} {
		gittest.Git(t, dir, args...)
	}
	return "file://" + dir
}

func hostPlatform() string { return "linux/" + runtime.GOARCH }

// stage is a Releaser over one builder and one registry. Signing is out of
// reach: what is tested here ends before.
type stage struct {
	*Releaser
	req    api.ReleaseRequest
	pushed atomic.Int64 // requests that would change the registry
}

func newStage(t *testing.T, b builder.Builder, registry http.HandlerFunc) *stage {
	t.Helper()
	s := &stage{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			s.pushed.Add(1)
		}
		registry(w, r)
	}))
	t.Cleanup(srv.Close)
	r, err := New(Config{
		URL: "http://127.0.0.1:1", Dir: t.TempDir(), BinaryDigest: func() (string, error) { return "", nil }, Build: b, LoopbackTargets: true, Scanner: scanner(t),
		Builders: []BuilderInfo{{Name: "golang", Builder: trust.Builder{ID: "http://127.0.0.1:1/builders/golang/v1", Level: 1}, BuildType: "x"}},
		Token:    func(context.Context, Identity) (string, error) { return "", errors.New("no token in this test") },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Releaser = r
	s.req = api.ReleaseRequest{Source: repository(t), Ref: "v1.0.0", Image: strings.TrimPrefix(srv.URL, "http://") + "/team/app"}
	return s
}

func TestLyingBuilder(t *testing.T) {
	other := "sha256:" + strings.Repeat("ab", 32)
	blob := func(t *testing.T, dir string, nth int) string {
		names, err := filepath.Glob(filepath.Join(dir, "blobs", "sha256", "*"))
		if err != nil || len(names) <= nth {
			t.Fatalf("blobs: %v, %v", names, err)
		}
		return names[nth]
	}
	for name, test := range map[string]struct {
		builder hostile
		want    []string
	}{
		"another digest":   {hostile{harm: func(_ *testing.T, _ string, r *builder.Result) { r.Digest = other }}, []string{"refusing to sign", other, "its bytes are sha256:"}},
		"no digest":        {hostile{harm: func(_ *testing.T, _ string, r *builder.Result) { r.Digest = "" }}, []string{"refusing to sign"}},
		"another platform": {hostile{platform: "linux/s390x"}, []string{"refusing to sign", "linux/s390x", hostPlatform()}},
		"a changed blob": {hostile{harm: func(t *testing.T, dir string, _ *builder.Result) {
			f := blob(t, dir, 0)
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			data[len(data)/2] ^= 1
			if err := os.WriteFile(f, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}}, []string{"refusing to sign"}},
		"a missing blob": {hostile{harm: func(t *testing.T, dir string, _ *builder.Result) { os.Remove(blob(t, dir, 1)) }}, []string{"refusing to sign"}},
		"a blob too many": {hostile{harm: func(t *testing.T, dir string, _ *builder.Result) {
			os.WriteFile(filepath.Join(dir, "blobs", "sha256", strings.Repeat("a", 64)), nil, 0o600)
		}}, []string{"refusing to sign"}},
		"a blob that leads out": {hostile{harm: func(t *testing.T, dir string, _ *builder.Result) {
			f := blob(t, dir, 0)
			data, err := os.ReadFile(f)
			outside := filepath.Join(t.TempDir(), "same bytes")
			if err := errors.Join(err, os.WriteFile(outside, data, 0o600), os.Remove(f), os.Symlink(outside, f)); err != nil {
				t.Fatal(err)
			}
		}}, []string{"refusing to sign"}},
		"another source": {hostile{harm: func(_ *testing.T, _ string, r *builder.Result) {
			r.Dependencies = []attest.ResourceDescriptor{{Name: "source", URI: "git+https://git.example.com/other@refs/tags/v1", Digest: map[string]string{"gitCommit": strings.Repeat("a", 40)}}}
		}}, []string{"refusing to sign", "git.example.com/other", "file://"}},
		"a dependency without digest": {hostile{harm: func(_ *testing.T, _ string, r *builder.Result) {
			r.Dependencies = []attest.ResourceDescriptor{{URI: "https://example.com/x"}}
		}}, []string{"refusing to sign", "https://example.com/x", "no digest"}},
		"a digest that is none": {hostile{harm: func(_ *testing.T, _ string, r *builder.Result) {
			r.Tools = []attest.ResourceDescriptor{{Name: "go", Digest: map[string]string{"sha256": "see elsewhere"}}}
		}}, []string{"refusing to sign", "see elsewhere"}},
		"two images": {hostile{harm: func(t *testing.T, dir string, _ *builder.Result) {
			p, err := layout.FromPath(dir)
			if err != nil {
				t.Fatal(err)
			}
			img, _ := random.Image(10, 1)
			if err := p.AppendImage(img); err != nil {
				t.Fatal(err)
			}
		}}, []string{"refusing to sign"}},
		"attestations of its own": {hostile{harm: attestsItself}, []string{"refusing to sign"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := test.builder
			b.t = t
			if b.platform == "" {
				b.platform = hostPlatform()
			}
			refusesToSign(t, newStage(t, b, http.NotFound), test.want)
		})
	}
}

// attestsItself puts an attestation in BuildKit's form beside the image.
func attestsItself(t *testing.T, dir string, r *builder.Result) {
	p, err := layout.FromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	old, err := p.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := old.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	image, err := old.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	unknown := &v1.Platform{OS: "unknown", Architecture: "unknown"}
	claim, err := mutate.ConfigFile(mutate.MediaType(empty.Image, types.OCIManifestSchema1), &v1.ConfigFile{OS: "unknown", Architecture: "unknown", RootFS: v1.RootFS{Type: "layers"}})
	if err == nil {
		claim, err = mutate.Append(mutate.ConfigMediaType(claim, types.OCIConfigJSON), mutate.Addendum{Layer: static.NewLayer([]byte(`{"_type":"https://in-toto.io/Statement/v1"}`), attest.PayloadType)})
	}
	if err != nil {
		t.Fatal(err)
	}
	system, arch, _ := strings.Cut(hostPlatform(), "/")
	index := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex),
		mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: system, Architecture: arch}}},
		mutate.IndexAddendum{Add: claim, Descriptor: v1.Descriptor{Platform: unknown, Annotations: map[string]string{
			attest.DockerReferenceType: attest.DockerAttestation, attest.DockerReferenceDigest: manifest.Manifests[0].Digest.String(),
		}}})
	if err := p.ReplaceIndex(index, match.Digests(manifest.Manifests[0].Digest)); err != nil {
		t.Fatal(err)
	}
	digest, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	r.Digest = digest.String()
}

// refusesToSign runs the release of a stage, which must fail with the words of want
// and leave nothing behind.
func refusesToSign(t *testing.T, s *stage, want []string) {
	t.Helper()
	rel, err := s.Run(t.Context(), s.req, func(api.Event) {})
	known, ok := errors.AsType[*api.Error](err)
	if !ok {
		t.Fatalf("got %+v, %v; want a refusal", rel, err)
	}
	for _, w := range want {
		if !strings.Contains(known.Message, w) {
			t.Errorf("got %q, want it to say %q", known.Message, w)
		}
	}
	if n := s.pushed.Load(); n > 0 {
		t.Errorf("%d requests changed the registry", n)
	}
	if left, _ := os.ReadDir(filepath.Join(s.Dir, "work")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// A registry that fails the one request while another hangs: when Run returns,
// nothing of the release is still running, and no event comes after.
func TestNothingRunsOnAfterAFailure(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	var open atomic.Int64
	s := newStage(t, hostile{platform: hostPlatform()}, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.Contains(r.URL.Path, "/referrers/"):
			http.Error(w, "no", http.StatusForbidden)
		case strings.Contains(r.URL.Path, "/blobs/"): // a small blob is sent at once, and its failure could be the first
			open.Add(1)
			defer open.Add(-1)
			io.Copy(io.Discard, r.Body) // the server sees that the client is gone only after the body
			select {
			case <-r.Context().Done():
			case <-hang:
			}
		default:
			http.NotFound(w, r)
		}
	})
	var mu sync.Mutex
	ended := false
	_, err := s.Run(t.Context(), s.req, func(e api.Event) {
		mu.Lock()
		defer mu.Unlock()
		if ended {
			t.Errorf("an event after the end: %+v", e)
		}
	})
	mu.Lock()
	ended = true
	mu.Unlock()
	if err == nil || !strings.Contains(err.Error(), "earlier run") {
		t.Fatalf("got %v, want the failure to look for earlier attestations", err)
	}
	await.True(t, "no upload runs on after the release has ended", func() bool { return open.Load() == 0 })
}

func TestTargets(t *testing.T) {
	for _, test := range []struct {
		image, own string
		loopback   bool
		ok         bool
	}{
		{"registry.example.com/a", "127.0.0.1:8080", false, true},
		{"127.0.0.1:8080/a", "127.0.0.1:8080", false, true},
		{"127.0.0.1:2375/a", "127.0.0.1:8080", false, false},
		{"127.0.0.2:2375/a", "127.0.0.1:8080", false, false},
		{"[::1]:2375/a", "127.0.0.1:8080", false, false},
		{"localhost:2375/a", "127.0.0.1:8080", false, false},
		{"LOCALHOST:2375/a", "127.0.0.1:8080", false, false},
		{"docker.localhost:2375/a", "127.0.0.1:8080", false, false},
		{"0.0.0.0:2375/a", "127.0.0.1:8080", false, false},
		{"127.1:2375/a", "127.0.0.1:8080", false, false},
		{"127.0.0.1:2375/a", "127.0.0.1:8080", true, true},
		{"nothing-else", "127.0.0.1:8080", true, false},
	} {
		j := &run{Releaser: &Releaser{Config: Config{RegistryHost: test.own, LoopbackTargets: test.loopback}}, req: api.ReleaseRequest{Image: test.image}}
		if err := j.openTarget(); (err == nil) != test.ok {
			t.Errorf("%+v: got %v", test, err)
		}
	}
}

// A registry elsewhere that sends a request to a service on this host: for the image, and for the base of one.
func TestRegistryCannotLeadInside(t *testing.T) {
	var hits atomic.Int64
	service := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) })
	plain, secure := httptest.NewServer(service), httptest.NewTLSServer(service)
	defer plain.Close()
	defer secure.Close()
	var to string
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", to)
		w.WriteHeader(map[string]int{http.MethodHead: http.StatusNotFound, http.MethodPost: http.StatusAccepted, http.MethodGet: http.StatusTemporaryRedirect}[r.Method])
	}))
	defer elsewhere.Close()
	defer func(old *http.Transport) { outside = old }(outside)
	outside = elsewhere.Client().Transport.(*http.Transport).Clone()
	direct := &net.Dialer{}
	outside.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == "example.com:443" { // a name in the certificate
			address = elsewhere.Listener.Addr().String()
		}
		return direct.DialContext(ctx, network, address)
	}
	j := &run{Releaser: &Releaser{Config: Config{RegistryHost: "127.0.0.1:8080"}}, req: api.ReleaseRequest{Image: "example.com/team/app"}}
	if err := j.openTarget(); err != nil {
		t.Fatal(err)
	}
	based, err := j.openBase("example.com/team/base")
	if err != nil {
		t.Fatal(err)
	}
	digest, size, err := v1.SHA256(strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	blob := v1.Descriptor{Digest: digest, Size: size}
	for _, url := range []string{plain.URL, strings.Replace(plain.URL, "127.0.0.1", "localhost", 1), secure.URL} {
		to = url + "/containers/create"
		for what, ask := range map[string]func() error{
			"a push": func() error {
				return j.target.PushBlob(t.Context(), blob, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("x")), nil })
			},
			"a pull of a base": func() error { _, err := based.Blob(t.Context(), blob); return err },
		} {
			// Package oci refuses what leads to plain HTTP, whatever the host.
			if err := ask(); err == nil || url == secure.URL && !strings.Contains(err.Error(), "registry example.com leads to ") {
				t.Errorf("%s, %s: got %v, want a refusal", what, url, err)
			}
		}
	}
	if hits.Load() > 0 {
		t.Error("a request arrived")
	}
}

func TestBuildLogIsBounded(t *testing.T) {
	work, logs := t.TempDir(), t.TempDir()
	l, err := newBuildLog(work, logs)
	if err != nil {
		t.Fatal(err)
	}
	defer l.discard()
	l.left = 1000
	for range 1000 {
		l.write(builder.Event{Step: "s", Line: strings.Repeat("x", 50)})
	}
	sum, err := l.keep()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(logs, sum))
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > 1200 || !strings.Contains(string(data), "truncated here") {
		t.Errorf("kept %d bytes, which end in %q", len(data), data[len(data)-50:])
	}
	if left, _ := os.ReadDir(work); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestPlatformsHaveOneSpelling(t *testing.T) {
	for in, want := range map[string]string{
		"":                           hostPlatform(),
		"linux/arm64,linux/amd64":    "linux/amd64,linux/arm64",
		"linux/arm64/v8,linux/arm64": "linux/arm64",
		"linux/amd64,linux/amd64":    "linux/amd64",
		"linux/arm/v7":               "linux/arm/v7",
		"linux/arm,linux/armhf":      "linux/arm/v7",
		"linux/aarch64,linux/x86_64": "linux/amd64,linux/arm64",
		"linux/amd64/v1":             "linux/amd64",
		"windows/amd64":              "error",
		"linux":                      "error",
		"linux/amd64:10":             "error",
		"/":                          "error",
		"linux/amd64/v1/x":           "error",
	} {
		var names []string
		if in != "" {
			names = strings.Split(in, ",")
		}
		out, err := completePlatforms(attest.Recipe{Platforms: names})
		got := strings.Join(out, ",")
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// What no commit could make right is the requester's mistake, told before
// anything is fetched or built.
func TestRecipesThatNoCommitMakesRight(t *testing.T) {
	for want, recipe := range map[string]attest.Recipe{
		"windows/amd64":   {Platforms: []string{"windows/amd64"}},
		"../x":            {Dockerfile: "../x"},
		"no builder":      {Builder: "make"},
		"BUILDKIT_SYNTAX": {BuildArgs: map[string]string{"BUILDKIT_SYNTAX": "evil/frontend"}},
		"package":         {Builder: "golang", Package: "../x"},
	} {
		s := newStage(t, hostile{t: t, platform: hostPlatform()}, http.NotFound)
		s.req.Recipe = recipe
		var events []api.Event
		_, err := s.Run(t.Context(), s.req, func(e api.Event) { events = append(events, e) })
		if known, ok := errors.AsType[*api.Error](err); !ok || known.Kind != api.Usage || !strings.Contains(known.Message, want) || strings.Contains(known.Hint, "log") || len(events) > 0 {
			t.Errorf("%+v: got %+v after %d events, want exit code 2 and %q", recipe, err, len(events), want)
		}
	}
}

// absent is a builder that this host cannot have.
type absent struct{}

func (absent) Build(context.Context, builder.Request) (*builder.Result, error) {
	return nil, &builder.UnavailableError{Builder: "buildkit", Lack: builder.Lack{Reason: "runc is not in PATH", Hint: "install runc"}}
}

func TestBuilderThatThePlatformLacks(t *testing.T) {
	s := newStage(t, hostile{t: t, platform: hostPlatform()}, http.NotFound)
	s.Build = absent{}
	_, err := s.Run(t.Context(), s.req, func(api.Event) {})
	if known, ok := errors.AsType[*api.Error](err); !ok || known.Kind != api.Failure || !strings.Contains(known.Message, "runc is not in PATH") || !strings.Contains(known.Hint, "install runc") {
		t.Errorf("got %+v, want the reason and the hint", err)
	}
	// The golang builder is a way out for Go modules alone.
	for name, golang := range map[string]bool{"svc/go.mod": true, "go.mod": false, "svc/main.py": false} {
		j := &run{tree: writeTree(t, map[string]string{name: "module m\n"}), recipe: attest.Recipe{Builder: "buildkit", Context: "svc"}}
		hint := j.without(&builder.UnavailableError{Builder: "buildkit"})
		if strings.Contains(hint, "--builder golang") != golang || !strings.Contains(hint, "/readyz") {
			t.Errorf("%s: got hint %q, want golang in it: %v", name, hint, golang)
		}
	}
	if hint := (&run{tree: writeTree(t, map[string]string{"go.mod": ""})}).without(&builder.UnavailableError{Builder: "golang", Lack: builder.Lack{Hint: "install Go"}}); hint != "install Go" {
		t.Errorf("without the golang builder: got hint %q", hint)
	}
}

// The same repository under the same address, whatever the ref.
func TestSourceIsNotTheBuildersToName(t *testing.T) {
	j := &run{commit: source.Commit{URI: "https://git.example.com/a", Submodules: []source.Submodule{{URI: "https://git.example.com/sub"}}}}
	sum := map[string]string{"gitCommit": strings.Repeat("a", 40)}
	for uri, ok := range map[string]bool{
		attest.GitURI("https://git.example.com/a", "refs/tags/v1"): false,
		attest.GitURI("https://git.example.com/a", ""):             false,
		attest.GitURI("https://git.example.com/sub", ""):           false,
		attest.GitURI("https://git.example.com/b", "refs/tags/v1"): true,
		"pkg:docker/library/golang@1.26":                           true,
	} {
		err := j.checkClaims(&builder.Result{Dependencies: []attest.ResourceDescriptor{{URI: uri, Digest: sum}}})
		if (err == nil) != ok {
			t.Errorf("%s: got %v", uri, err)
		}
	}
}

// counting is a builder that knows how many builds ran side by side.
type counting struct{ now, most atomic.Int64 }

func (c *counting) Build(context.Context, builder.Request) (*builder.Result, error) {
	for n := c.now.Add(1); n > c.most.Load(); {
		c.most.Store(n)
	}
	time.Sleep(100 * time.Millisecond)
	c.now.Add(-1)
	return nil, errors.New("enough")
}

func TestReleasesWaitTheirTurn(t *testing.T) {
	c := &counting{}
	s := newStage(t, c, http.NotFound)
	if n := cap(s.turns); n != 8 {
		t.Errorf("got %d releases at once, want 8", n)
	}
	s.turns = make(chan struct{}, 2)
	var all sync.WaitGroup
	for i := range 6 {
		req := s.req
		req.Image += strings.Repeat("x", i)
		all.Go(func() {
			if _, err := s.Run(t.Context(), req, func(api.Event) {}); err == nil || !strings.Contains(err.Error(), "enough") {
				t.Errorf("got %v", err)
			}
		})
	}
	all.Wait()
	if got := c.most.Load(); got > 2 {
		t.Errorf("%d releases at once, want at most 2", got)
	}
}
