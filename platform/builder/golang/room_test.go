package golang

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/needs"
)

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
			_, _, _, err := do(t, newBuilder(t, Config{StdCache: sharedStd}), tree, c.recipe, builder.Limits{})
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
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
	_, _, log, err := do(t, newBuilder(t, Config{StdCache: sharedStd}), tree, attest.Recipe{}, builder.Limits{})
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
			var err error
			await.Quick(t, "a build that may take a second", 8*time.Second, func() {
				_, _, _, err = do(t, b, tree, attest.Recipe{}, builder.Limits{WallTime: time.Second})
				if _, ok := errors.AsType[*builder.Error](err); !ok || !strings.Contains(err.Error(), "time limit of 1s") {
					t.Errorf("got %v, want a *builder.Error about the limit", err)
				}
			})
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
	if _, ok := errors.AsType[*builder.Error](err); !ok || !strings.Contains(err.Error(), "memory") {
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
