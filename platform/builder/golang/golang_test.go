package golang

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/test/needs"
)

func TestMain(m *testing.M) {
	Init()
	os.Exit(m.Run())
}

var epoch = time.Date(2026, 11, 20, 11, 31, 15, 0, time.UTC)

// sharedStd is kept between runs: nothing but a toolchain's standard library is in it.
const sharedStd = "../../../out/cache/gostd"

// dep is a module of this repository's own graph, small and without imports.
const dep = "golang.org/x/mod"

const helloMain = `package main

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/mod/semver"
)

func main() {
	_, err := time.LoadLocation("Europe/Vienna")
	data, _ := os.ReadFile(os.Getenv("KO_DATA_PATH") + "/greeting")
	fmt.Println("hello", semver.Major("v3.2.1"), err, string(data))
}
`

// helloTree is a main package at cmd/hello with one dependency and kodata.
func helloTree(t *testing.T) map[string]string {
	version, sums := ownSums(t, dep)
	return map[string]string{
		"go.mod":                    "module example.com/hello\n\ngo 1.26.0\n\nrequire " + dep + " " + version + "\n",
		"go.sum":                    sums,
		"cmd/hello/main.go":         helloMain,
		"cmd/hello/kodata/greeting": "from the commit\n",
	}
}

// ownSums reads a module's version and sums from this repository's go.mod and go.sum.
func ownSums(t *testing.T, module string) (version, sums string) {
	t.Helper()
	mod, err := os.ReadFile("../../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^\s+` + regexp.QuoteMeta(module) + ` (v\S+)`).FindSubmatch(mod)
	if m == nil {
		t.Fatalf("%s is not in go.mod", module)
	}
	version = string(m[1])
	sum, err := os.ReadFile("../../../go.sum")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(sum)) {
		if strings.HasPrefix(line, module+" "+version) {
			sums += line
		}
	}
	if strings.Count(sums, "\n") != 2 {
		t.Fatalf("sums of %s %s: got %q, want two lines", module, version, sums)
	}
	return version, sums
}

// moduleProxy serves this machine's module downloads on loopback. change may
// replace an answer.
func moduleProxy(t *testing.T, change func(path string, w http.ResponseWriter) bool) string {
	t.Helper()
	if out, err := exec.Command("go", "mod", "download", dep).CombinedOutput(); err != nil {
		t.Fatalf("go mod download %s: %v: %s", dep, err, out)
	}
	out, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	files := http.FileServer(http.Dir(filepath.Join(strings.TrimSpace(string(out)), "cache", "download")))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if change == nil || !change(r.URL.Path, w) {
			files.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func writeTree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		p := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(data), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func newBuilder(t *testing.T, c Config) *Builder {
	t.Helper()
	if testing.Short() {
		t.Skip("NOT ASKED FOR: -short builds no images")
	}
	c.Dir = t.TempDir()
	b, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if left, _ := os.ReadDir(c.Dir); len(left) != 0 {
			t.Errorf("got %d rooms left in %s, want none", len(left), c.Dir)
		}
	})
	return b
}

// do builds tree and returns its events as text.
func do(t *testing.T, b *Builder, tree string, recipe attest.Recipe, limits builder.Limits) (*builder.Result, string, string, error) {
	t.Helper()
	var mu sync.Mutex
	var log strings.Builder
	recipe.Builder = "golang"
	r := builder.Request{Recipe: recipe, Tree: tree, Epoch: epoch, Layout: t.TempDir(), Limits: limits,
		Log: func(e builder.Event) {
			mu.Lock()
			defer mu.Unlock()
			fmt.Fprintf(&log, "%s: %s\n", e.Step, e.Line)
		}}
	res, err := b.Build(t.Context(), r)
	mu.Lock()
	defer mu.Unlock()
	return res, r.Layout, log.String(), err
}

// The same commit gives the same digest, wherever and by whomever it is built,
// and whatever the surroundings say about how Go should build.
func TestSameTreeSameDigest(t *testing.T) {
	needs.Long(t)
	proxy := moduleProxy(t, nil)
	recipe := attest.Recipe{Package: "./cmd/hello", Platforms: []string{"linux/amd64", "linux/arm64"}}
	first, layoutDir, log, err := do(t, newBuilder(t, Config{Proxy: proxy}), writeTree(t, helloTree(t)), recipe, builder.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("cold build of two platforms: %v", first.Finished.Sub(first.Started))
	if want := "go build example.com/hello/cmd/hello for linux/arm64"; !strings.Contains(log, want) {
		t.Errorf("log: got %q, want a step %q", log, want)
	}
	version, _ := ownSums(t, dep)
	if len(first.Dependencies) != 1 || first.Dependencies[0].URI != "pkg:golang/"+dep+"@"+version ||
		len(first.Dependencies[0].Digest["dirHash"]) != 64 {
		t.Errorf("dependencies: got %+v, want %s %s alone with its dirHash", first.Dependencies, dep, version)
	}
	if len(first.Tools) != 4 || len(first.Tools[0].Digest["sha256"]) != 64 {
		t.Errorf("tools: got %+v, want go, asm, compile and link with sha256", first.Tools)
	}
	checkImages(t, layoutDir, first.Digest)

	hostile := helloTree(t)
	hostile["go.work"] = "go 1.26.0\nuse ./elsewhere\n"
	hostile["go.env"] = "GOFLAGS=-toolexec=/bin/false\n"
	hostile[".config/go/env"] = "GOFLAGS=-toolexec=/bin/false\n"
	hostile[".git/config"] = "[core]\n\tfsmonitor = /bin/false\n\trepositoryformatversion = 99\n"
	hostile["cmd/hello/generate.go"] = "package main\n\n//go:generate /bin/false\n"
	hostile["cmd/hello/cgo.go"] = "package main\n\n// #cgo CFLAGS: -fplugin=/tmp/evil.so\nimport \"C\"\n"
	tree := writeTree(t, hostile)
	t.Setenv("GOFLAGS", "-toolexec=/bin/false -race")
	t.Setenv("GOWORK", filepath.Join(tree, "go.work"))
	t.Setenv("GOENV", filepath.Join(tree, "go.env"))
	t.Setenv("KO_GO_PATH", "/bin/false")
	t.Setenv("GOAMD64", "v3")
	second, _, _, err := do(t, newBuilder(t, Config{Proxy: proxy, ModuleCache: t.TempDir(), StdCache: sharedStd}), tree, recipe, builder.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if first.Digest != second.Digest {
		t.Errorf("digest of the second build: got %s, want %s", second.Digest, first.Digest)
	}
}

// checkImages looks at the index as a runtime would, and runs what it can.
func checkImages(t *testing.T, dir, digest string) {
	t.Helper()
	top, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	h, err := v1.NewHash(digest)
	if err != nil {
		t.Fatal(err)
	}
	index, err := top.ImageIndex(h)
	if err != nil {
		t.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Manifests) != 2 {
		t.Fatalf("index: got %d manifests, want 2", len(m.Manifests))
	}
	for _, d := range m.Manifests {
		image, err := index.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if cfg.Config.User != nonroot || !cfg.Created.Time.Equal(epoch) || cfg.Architecture != d.Platform.Architecture ||
			!slices.Equal(cfg.Config.Entrypoint, []string{"/ko-app/hello"}) {
			t.Errorf("config of %s: %+v", d.Platform, cfg)
		}
		for _, h := range cfg.History {
			if !h.Created.Time.Equal(epoch) {
				t.Errorf("history %q: got created %v, want %v", h.Comment, h.Created, epoch)
			}
		}
		if d.Platform.Architecture == "amd64" {
			runRootfs(t, image)
		}
	}
}

// runRootfs unpacks an image and runs its entrypoint in it as nonroot, by chroot
// where this process may, so that the base's own files are what it finds.
func runRootfs(t *testing.T, image v1.Image) {
	t.Helper()
	root := t.TempDir()
	modes := map[string]int64{}
	r := mutate.Extract(image)
	defer r.Close()
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		p := filepath.Join(root, filepath.Clean("/"+h.Name))
		modes[filepath.Clean("/"+h.Name)] = h.Mode
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(p, 0o755)
		} else {
			data, rerr := io.ReadAll(tr)
			err = errors.Join(rerr, os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, data, 0o755))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]int64{"/tmp": 0o1777, "/etc/passwd": 0o644, "/home/nonroot": 0o700, bundlePath: 0o644} {
		if modes[name] != mode {
			t.Errorf("%s: got mode %o, want %o", name, modes[name], mode)
		}
	}
	pem, err := os.ReadFile(filepath.Join(root, bundlePath))
	if n := strings.Count(string(pem), "BEGIN CERTIFICATE"); err != nil || n < 50 {
		t.Errorf("roots: got %d certificates (%v), want at least 50", n, err)
	}
	needs.Root(t, "running the image")
	cmd := exec.Command("/ko-app/hello")
	cmd.Dir, cmd.Env = "/", []string{"KO_DATA_PATH=/var/run/ko"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.CombinedOutput()
	if want := "hello v3 <nil> from the commit\n\n"; err != nil || string(out) != want {
		t.Errorf("running the image: got %q, %v, want %q", out, err, want)
	}
}

func TestSourceThatDoesNotCompile(t *testing.T) {
	tree := writeTree(t, map[string]string{"go.mod": "module example.com/x\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() { undefined() }\n"})
	_, _, log, err := do(t, newBuilder(t, Config{StdCache: sharedStd}), tree, attest.Recipe{}, builder.Limits{})
	if failed, ok := errors.AsType[*builder.Error](err); !ok || !strings.HasPrefix(failed.Step, "go build example.com/x for linux/") {
		t.Fatalf("got %v, want a *builder.Error of the step go build", err)
	}
	if !strings.Contains(log, "main.go:3:15: undefined: undefined") {
		t.Errorf("log: got %q, want the compiler's line", log)
	}
}

// A proxy that hands out another module under a pinned version is found out.
func TestTamperedModule(t *testing.T) {
	_, sums := ownSums(t, dep)
	other := strings.Replace(sums, "h1:", "h1:AAAA", 1)
	h1 := regexp.MustCompile(`h1:AAAA(\S{40})\S{4}`)
	files := helloTree(t)
	files["go.sum"] = h1.ReplaceAllString(other, "h1:AAAA$1")
	if strings.Contains(files["go.sum"], sums) {
		t.Fatal("the sums were not changed")
	}
	_, _, log, err := do(t, newBuilder(t, Config{Proxy: moduleProxy(t, nil)}), writeTree(t, files),
		attest.Recipe{Package: "cmd/hello"}, builder.Limits{})
	if _, ok := errors.AsType[*builder.Error](err); !ok || !strings.Contains(err.Error()+log, "checksum mismatch") {
		t.Errorf("got %v, want a *builder.Error with a checksum mismatch; log %s", err, log)
	}
}

// What a build does not read does not stop it: links that lead out, and files that the
// commit only refers to, which nobody may read.
func TestUnreadFilesDoNotStop(t *testing.T) {
	needs.Long(t)
	files := map[string]string{
		"go.mod": "module example.com/x\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() {}\n",
		"docs/picture.png": "pointer", "kodata/file": "x", "embedded/main.go": "package main\n\nimport _ \"embed\"\n\n//go:embed all\nvar x string\n\nfunc main() { println(x) }\n", "embedded/all": "pointer",
	}
	spoil := func(tree string) string {
		err := errors.Join(os.Symlink("/etc/hosts", filepath.Join(tree, "docs/hosts")), os.Symlink("../../..", filepath.Join(tree, "up")), os.Symlink("../elsewhere.go", filepath.Join(tree, "docs/x.go")),
			os.Mkdir(filepath.Join(tree, "module"), 0), os.Chmod(filepath.Join(tree, "docs/picture.png"), 0), os.Chmod(filepath.Join(tree, "embedded/all"), 0))
		if err != nil {
			t.Fatal(err)
		}
		return tree
	}
	b := newBuilder(t, Config{StdCache: sharedStd})
	if _, _, _, err := do(t, b, spoil(writeTree(t, files)), attest.Recipe{}, builder.Limits{}); err != nil {
		t.Error(err)
	}
	if _, _, _, err := do(t, b, spoil(writeTree(t, files)), attest.Recipe{Package: "./embedded"}, builder.Limits{}); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("a pointer that the build embeds: got %v", err)
	}
}

// A go.mod may not make the platform ask hosts of its choice.
func TestWithoutDirect(t *testing.T) {
	for list, want := range map[string]string{
		"http://a,direct":          "http://a",
		"http://a|direct|http://b": "http://a|http://b",
		"direct":                   "off",
		"direct,direct":            "off",
		"http://direct,http://b":   "http://direct,http://b",
		"off":                      "off",
	} {
		if got := withoutDirect(list); got != want {
			t.Errorf("withoutDirect(%q): got %q, want %q", list, got, want)
		}
	}
}

var plainTree = map[string]string{"go.mod": "module example.com/x\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() {}\n"}

func TestNewErasesWhatACrashLeft(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"golang-1/work", "other"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := New(Config{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	left, _ := os.ReadDir(dir)
	if len(left) != 1 || left[0].Name() != "other" {
		t.Errorf("got %v left, want other alone", left)
	}
}

// The parent trusts nothing in the room's output but its form.
func TestMessagesAreBounded(t *testing.T) {
	for name, in := range map[string]string{
		"not JSON": "hello\n",
		"too long": `{"event":{"line":"` + strings.Repeat("x", 5<<20) + `"}}` + "\n",
	} {
		if _, err := readMessages(strings.NewReader(in), nil); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
	line, _ := json.Marshal(message{Done: true})
	if m, err := readMessages(strings.NewReader(string(line)+"\n"), nil); err != nil || !m.Done {
		t.Errorf("got %+v, %v, want done", m, err)
	}
}

// A link leads nowhere if it leads out of the tree in any way: by itself, through other
// links, or through more links than os.Root follows. The others stay.
func TestLinksOutLeadNowhere(t *testing.T) {
	tree := writeTree(t, map[string]string{"top/file": "", "a/file": ""})
	links := map[string]string{
		"kodata": "/etc", "shadow": "/etc/shadow", "up": "../../x", "a/up": "../../x", "a/b": "../top", "through": "a/b/../../etc/hosts", "same": "../" + filepath.Base(tree) + "/top",
		"in": "top/file", "a/in": "../top", "dangling": "top/none", "loop": "loop", "not/a/dir": "../../top/file/x",
	}
	stay := []string{"a/b", "in", "a/in", "dangling", "not/a/dir"}
	for i := range 12 {
		links[fmt.Sprintf("chain%d", i)] = fmt.Sprintf("chain%d", i+1)
	}
	links["chain12"] = "/etc/passwd"
	for name, to := range links {
		if err := errors.Join(os.MkdirAll(filepath.Join(tree, filepath.Dir(name)), 0o755), os.Symlink(to, filepath.Join(tree, name))); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(tree)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	var log strings.Builder
	if err := checkTree(root, func(e builder.Event) { log.WriteString(e.Line + "\n") }); err != nil {
		t.Fatal(err)
	}
	for name, to := range links {
		got, err := os.Readlink(filepath.Join(tree, name))
		if slices.Contains(stay, name) {
			if got != to || err != nil {
				t.Errorf("%s: got a link to %q, %v, want %q", name, got, err, to)
			}
			continue
		}
		real, err := filepath.EvalSymlinks(filepath.Join(tree, name))
		if err == nil && !strings.HasPrefix(real, tree+"/") {
			t.Errorf("%s still leads to %s", name, real)
		}
		if got == nowhere != strings.Contains(log.String(), fmt.Sprintf("link %q leads out", name)) {
			t.Errorf("%s: got a link to %q, and the log %q", name, got, log.String())
		}
	}
	for _, name := range []string{"kodata", "shadow", "up", "a/up", "through", "same", "chain12"} {
		if got, _ := os.Readlink(filepath.Join(tree, name)); got != nowhere {
			t.Errorf("%s: got a link to %q, want %q", name, got, nowhere)
		}
	}
}

// A module below the top builds by its own go.mod. What the toolchain passes over in
// silence is said: a workspace, and files that import "C".
func TestWhatIsLeftOutIsSaid(t *testing.T) {
	needs.Long(t)
	files := map[string]string{
		"go.work": "go 1.26\n\nuse .\n", "go.mod": "module example.com/top\n\ngo 1.26\n",
		"sub/go.mod": "module example.com/sub\n\ngo 1.26\n", "sub/cmd/main.go": "package main\n\nimport \"example.com/sub/native\"\n\nfunc main() { println(native.Name) }\n",
		"sub/native/native_cgo.go":   "package native\n\nimport \"C\"\n\nfunc init() { Name = \"native\" }\n",
		"sub/native/native_other.go": "package native\n\nvar Name = \"portable\"\n",
		"sub/native/x_windows.go":    "package native\n\nimport \"C\"\n",
		"sub/only/main.go":           "package main\n\nimport \"C\"\n\nfunc main() {}\n",
	}
	b := newBuilder(t, Config{StdCache: sharedStd})
	_, _, log, err := do(t, b, writeTree(t, files), attest.Recipe{Package: "./sub/cmd"}, builder.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"go.work does not use this module: the modules are those of sub/go.mod", "package example.com/sub/native is built without cgo (CGO_ENABLED=0), so without native_cgo.go"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log does not say %q:\n%s", want, log)
		}
	}
	if strings.Contains(log, "x_windows.go") || strings.Contains(log, "runtime/cgo") {
		t.Errorf("the log names files that no build here has:\n%s", log)
	}
	if _, _, _, err := do(t, b, writeTree(t, files), attest.Recipe{Package: "./sub/only"}, builder.Limits{}); err == nil || !strings.Contains(err.Error(), "package example.com/sub/only is built without cgo") || !strings.Contains(err.Error(), "Use a Dockerfile") {
		t.Errorf("a program that needs cgo: got %v", err)
	}
}
