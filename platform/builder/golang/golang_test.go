package golang

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
	_, _, log, err := do(t, newBuilder(t, Config{}), tree, attest.Recipe{}, builder.Limits{})
	var failed *builder.Error
	if !errors.As(err, &failed) || !strings.HasPrefix(failed.Step, "go build example.com/x for linux/") {
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
	var failed *builder.Error
	if !errors.As(err, &failed) || !strings.Contains(err.Error()+log, "checksum mismatch") {
		t.Errorf("got %v, want a *builder.Error with a checksum mismatch; log %s", err, log)
	}
}

// A tree may not bring in what was not committed.
func TestTreeKeepsToItself(t *testing.T) {
	outside := t.TempDir()
	for name, data := range map[string]string{"go.mod": "module example.com/evil\n", "evil.go": "package evil\n", "secret": "s3cr3t"} {
		if err := os.WriteFile(filepath.Join(outside, name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	plain := map[string]string{"go.mod": "module example.com/x\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() {}\n"}
	links := func(fromTo ...string) func(*testing.T, string) {
		return func(t *testing.T, tree string) {
			for i := 0; i < len(fromTo); i += 2 {
				name := filepath.Join(tree, fromTo[i])
				os.Remove(name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.Symlink(fromTo[i+1], name)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	replace := func(path string) func(*testing.T, string) {
		return func(t *testing.T, tree string) {
			mod := plain["go.mod"] + "\nreplace example.com/evil => " + path + "\n"
			if err := os.WriteFile(filepath.Join(tree, "go.mod"), []byte(mod), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		spoil  func(*testing.T, string)
		recipe attest.Recipe
		want   string
	}{
		"link in kodata":             {spoil: links("kodata/x", filepath.Join(outside, "secret")), want: "not a directory"},
		"source link to the room":    {spoil: links("x.go", "/usr/local/go/src/cmd/go/main.go"), want: "not a directory"},
		"go.mod outside":             {spoil: links("go.mod", filepath.Join(outside, "secret")), want: "escapes from parent"},
		"replace by the host":        {spoil: replace(outside), want: "outside the source"},
		"replace that climbs":        {spoil: replace("../evil"), want: "outside the source"},
		"replace that climbs inside": {spoil: replace("./a/../../evil"), want: "outside the source"},
		"fifo": {spoil: func(t *testing.T, tree string) {
			if err := syscall.Mkfifo(filepath.Join(tree, "x.go"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, want: "special file"},
		"no go.mod":            {spoil: func(t *testing.T, tree string) { os.Remove(filepath.Join(tree, "go.mod")) }, want: "no go.mod"},
		"package outside":      {recipe: attest.Recipe{Package: "../x"}, want: "below the root of the source"},
		"package from a proxy": {recipe: attest.Recipe{Package: "example.com/evil@latest"}, want: "below the root of the source"},
		"package pattern":      {recipe: attest.Recipe{Package: "./..."}, want: "below the root of the source"},
		"package flag":         {recipe: attest.Recipe{Package: "-toolexec=x"}, want: "no such directory"},
		"foreign platform":     {recipe: attest.Recipe{Platforms: []string{"windows/amd64"}}, want: "want linux/ARCH"},
		"dockerfile":           {recipe: attest.Recipe{Dockerfile: "Dockerfile"}, want: "does not support a dockerfile"},
	} {
		t.Run(name, func(t *testing.T) {
			tree := writeTree(t, plain)
			if c.spoil != nil {
				c.spoil(t, tree)
			}
			_, _, _, err := do(t, newBuilder(t, Config{}), tree, c.recipe, builder.Limits{})
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
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
	b := newBuilder(t, Config{})
	if _, _, _, err := do(t, b, spoil(writeTree(t, files)), attest.Recipe{}, builder.Limits{}); err != nil {
		t.Error(err)
	}
	if _, _, _, err := do(t, b, spoil(writeTree(t, files)), attest.Recipe{Package: "./embedded"}, builder.Limits{}); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("a pointer that the build embeds: got %v", err)
	}
}

// The assembler includes any file it can open, and complains about its content
// in the log. In the room there is nothing to open.
func TestRoomHidesTheHost(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("THESECRET 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tree := writeTree(t, map[string]string{
		"go.mod":        "module example.com/x\n\ngo 1.26\n",
		"main.go":       "package main\n\nfunc f()\n\nfunc main() { f() }\n",
		"steal_amd64.s": "#include \"" + secret + "\"\n",
		"steal_arm64.s": "#include \"" + secret + "\"\n",
	})
	_, _, log, err := do(t, newBuilder(t, Config{}), tree, attest.Recipe{}, builder.Limits{})
	if err == nil || strings.Contains(log+err.Error(), "THESECRET") || !strings.Contains(log, "no such file") {
		t.Errorf("in the room: got %v and %q, want a build that fails for want of the file", err, log)
	}
	// The attack works without the room; else this test would prove nothing.
	b := newBuilder(t, Config{})
	b.unconfined = true
	_, _, log, err = do(t, b, tree, attest.Recipe{}, builder.Limits{})
	if err == nil || !strings.Contains(log, "THESECRET") {
		t.Errorf("without the room: got %v and %q, want the secret in the log", err, log)
	}
}

// A build that is cancelled or takes too long ends with all its processes.
func TestLimitsEndTheBuild(t *testing.T) {
	for _, unconfined := range []bool{false, true} {
		t.Run(fmt.Sprintf("unconfined=%v", unconfined), func(t *testing.T) {
			b := newBuilder(t, Config{})
			b.unconfined = unconfined
			tree := writeTree(t, map[string]string{"go.mod": "module example.com/x\n\ngo 1.26\n",
				"main.go": "package main\n\nimport \"net/http\"\n\nfunc main() { http.ListenAndServe(\"\", nil) }\n"})
			begin := time.Now()
			_, _, _, err := do(t, b, tree, attest.Recipe{}, builder.Limits{WallTime: time.Second})
			var failed *builder.Error
			if !errors.As(err, &failed) || !strings.Contains(err.Error(), "time limit of 1s") {
				t.Errorf("got %v, want a *builder.Error about the limit", err)
			}
			if took := time.Since(begin); took > 8*time.Second {
				t.Errorf("ended after %v, want about a second", took)
			}
			// An unconfined toolchain has the room's path in its environment.
			environs, _ := filepath.Glob("/proc/[0-9]*/environ")
			for _, e := range environs {
				if data, err := os.ReadFile(e); err == nil && strings.Contains(string(data), b.cfg.Dir) {
					t.Errorf("%s: a process of the build is still there", e)
				}
			}

			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			_, err = b.Build(ctx, builder.Request{Tree: tree, Epoch: epoch, Layout: t.TempDir()})
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("cancelled: got %v, want %v", err, context.DeadlineExceeded)
			}
		})
	}
}

// Memory that the compiler may not have fails the build, and says so.
func TestMemoryLimit(t *testing.T) {
	_, _, _, err := do(t, newBuilder(t, Config{}), writeTree(t, plainTree), attest.Recipe{}, builder.Limits{Memory: 128 << 20})
	var failed *builder.Error
	if !errors.As(err, &failed) || !strings.Contains(err.Error(), "memory") {
		t.Errorf("got %v, want a *builder.Error about memory", err)
	}
}

// A module that the proxy lacks is not sought elsewhere: its path names a host, and a
// server there sees no connection.
func TestOnlyTheProxyIsAsked(t *testing.T) {
	const host = "127.7.7.7" // all of 127/8 is this host
	l, err := net.Listen("tcp", host+":443")
	if err != nil {
		needs.Missing(t, "a server on port 443: %v", err)
	}
	defer l.Close()
	var connections atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			c.Close()
		}
	}()
	var asked atomic.Int64
	proxy := moduleProxy(t, func(path string, w http.ResponseWriter) bool {
		if strings.HasPrefix(path, "/"+host) {
			asked.Add(1)
			http.Error(w, "no such module", http.StatusNotFound)
			return true
		}
		return false
	})
	const sum = "h1:uoHOdXIXEFKMT7ZFrV4lFVjbFGd8DpDDWYRzGBXVpyQ="
	tree := writeTree(t, map[string]string{
		"go.mod":  "module example.com/x\n\ngo 1.26\n\nrequire " + host + "/m v1.0.0\n",
		"go.sum":  host + "/m v1.0.0 " + sum + "\n" + host + "/m v1.0.0/go.mod " + sum + "\n",
		"main.go": "package main\n\nimport _ \"" + host + "/m\"\n\nfunc main() {}\n",
	})
	b := newBuilder(t, Config{Proxy: proxy + ",direct"})
	if _, _, log, err := do(t, b, tree, attest.Recipe{}, builder.Limits{}); err == nil || asked.Load() == 0 || connections.Load() > 0 {
		t.Errorf("got %v, the proxy was asked %d times, the host %d times\n%s", err, asked.Load(), connections.Load(), log)
	}
	// It would be, without the builder's change of the list; else this test would prove nothing.
	b.cfg.Proxy = proxy + ",direct"
	if _, _, log, err := do(t, b, tree, attest.Recipe{}, builder.Limits{}); err == nil || connections.Load() == 0 {
		t.Errorf("with direct: got %v, want a connection to the host\n%s", err, log)
	}
}

// The specification's table of the toolchain's environment has each variable that it gets,
// and no other. ko adds the variables of the platform.
func TestEnvironmentIsTheSpecifications(t *testing.T) {
	page, err := os.ReadFile("../../../spec/golang/v1/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(page), "| variable | value |\n")
	if !found {
		t.Fatal("spec/golang/v1 has no table of variables")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	want := map[string]string{}
	for _, row := range regexp.MustCompile(`(?m)^\| (.+) \| (.+) \|$`).FindAllStringSubmatch(table, -1) {
		for _, name := range regexp.MustCompile("`([A-Z0-9_]+)`").FindAllStringSubmatch(row[1], -1) {
			want[name[1]] = strings.Trim(row[2], "`")
		}
	}
	for _, platforms := range []string{"GOOS", "GOARCH", "GOARM", "GOAMD64"} {
		if _, ok := want[platforms]; !ok {
			t.Errorf("the table lacks %s, which ko sets", platforms)
		}
		delete(want, platforms)
	}
	t.Setenv("GOPROXY", "https://elsewhere.example,direct")
	t.Setenv("GOFLAGS", "-toolexec=/bin/false")
	b, err := New(Config{Dir: t.TempDir(), CABundle: "golang_test.go"})
	if err != nil {
		t.Fatal(err)
	}
	room, err := b.open(builder.Request{Tree: t.TempDir(), Layout: t.TempDir()}, &job{Epoch: 7}, builder.Limits{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(room.dir)
	for _, v := range room.env {
		name, value, _ := strings.Cut(v, "=")
		said, ok := want[name]
		if !ok {
			t.Errorf("the specification lacks %s", name)
		}
		// Words in the table say what a value depends on; a value without blanks is exact.
		if !strings.Contains(said, " ") && said != value {
			t.Errorf("%s: the specification has %q, the builder %q", name, said, value)
		}
		if name == "GOPROXY" && (strings.Contains(value, "elsewhere") || strings.Contains(value, "direct")) {
			t.Errorf("GOPROXY: got %q from the environment, want the toolchain's without direct", value)
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("the toolchain does not get %v", want)
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

// A plain user gets the same image as root.
func TestPlainUser(t *testing.T) {
	if os.Getenv("COLOPHON_TEST_PLAIN_USER") != "" {
		res, _, _, err := do(t, newBuilder(t, Config{}), writeTree(t, plainTree), attest.Recipe{}, builder.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("digest:", res.Digest)
		return
	}
	needs.Long(t)
	needs.Root(t, "comparing root with a plain user")
	want, _, _, err := do(t, newBuilder(t, Config{StdCache: sharedStd}), writeTree(t, plainTree), attest.Recipe{}, builder.Limits{})
	if err != nil {
		t.Fatal(err)
	}

	dir, err := os.MkdirTemp("", "colophon-user-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(dir, "test")
	if err := errors.Join(os.WriteFile(exe, self, 0o755), os.Chown(dir, 65534, 65534), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	goCmd, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestPlainUser$")
	cmd.Dir = dir
	cmd.Env = []string{"COLOPHON_TEST_PLAIN_USER=1", "TMPDIR=" + dir, "HOME=" + dir, "PATH=" + filepath.Dir(goCmd)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "digest: "+want.Digest+"\n") {
		t.Errorf("as a plain user: got %v and %s, want digest %s", err, out, want.Digest)
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

// The parent believes nothing of the room's output but its form.
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
	b := newBuilder(t, Config{})
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
