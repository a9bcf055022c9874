package worker

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/buildkit"
	"github.com/colophon-build/colophon/platform/builder/sandbox"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/gittest"
	"github.com/colophon-build/colophon/test/needs"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	if len(os.Args) == 3 && os.Args[0] == childArg0 {
		child(os.Args[1], os.Args[2])
	}
	os.Exit(m.Run())
}

const childArg0 = "worker-child"

// child is a build's own process, that does as it is told or worse.
func child(how, dir string) {
	b := builderFunc(func(ctx context.Context, r builder.Request) (*builder.Result, error) {
		r.Log(builder.Event{Line: fmt.Sprint("by ", os.Getppid())})
		switch how {
		case "recipe":
			return nil, &builder.Error{Step: "RUN", Err: errors.New("exit code 1")}
		case "die":
			os.Exit(3)
		case "hang":
			time.Sleep(time.Hour)
		}
		return &builder.Result{Digest: "sha256:made"}, errors.Join(os.MkdirAll(filepath.Join(r.Layout, "blobs", "sha256"), 0o700),
			os.WriteFile(filepath.Join(r.Layout, "oci-layout"), []byte("{}"), 0o600), os.WriteFile(filepath.Join(r.Layout, "index.json"), []byte("{}"), 0o600))
	})
	switch how {
	case "silent":
	case "cut":
		os.Stdout.Write([]byte{'E', 0, 0, 1, 0, 'x'})
	case "flood":
		os.Stdout.Write([]byte{'E', 0xff, 0xff, 0xff, 0xff})
		time.Sleep(time.Hour)
	default:
		if err := Child(context.Background(), b, dir, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(0)
}

// A build that is a process of its own answers as one that is not; one that is
// in other hands can end its build, and nothing else.
func TestApart(t *testing.T) {
	var how string
	c, _ := serve(t, Config{Apart: map[string]Apart{"own": func(ctx context.Context, dir string) (*exec.Cmd, error) {
		cmd := exec.CommandContext(ctx, "/proc/self/exe", how, dir)
		cmd.Args[0] = childArg0
		return cmd, nil
	}}})
	req := builder.Request{Recipe: attest.Recipe{Builder: "own"}, Tree: t.TempDir(), Source: none, Epoch: time.Unix(1, 0)}
	for _, test := range []struct{ how, want string }{
		{"build", ""}, {"recipe", "exit code 1"}, {"die", "ended without a result"}, {"silent", "ended without a result"}, {"cut", "ended without a result"},
		{"flood", "at most 1048576"}, {"build", ""},
	} {
		how = test.how
		var said []string
		req.Layout, req.Log = t.TempDir(), func(e builder.Event) { said = append(said, e.Line) }
		res, err := c.Build(t.Context(), req)
		if test.want == "" {
			if err != nil || res.Digest != "sha256:made" || len(said) != 1 || said[0] != fmt.Sprint("by ", os.Getpid()) {
				t.Errorf("%s: got %+v, %v, %q", how, res, err, said)
			}
			if _, err := os.Stat(filepath.Join(req.Layout, "oci-layout")); err != nil {
				t.Errorf("%s: %v", how, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", how, err, test.want)
		}
		if _, ok := errors.AsType[*builder.Error](err); ok != (how == "recipe") {
			t.Errorf("%s: got %T", how, err)
		}
	}
	how = "hang"
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	req.Layout = t.TempDir()
	if _, err := c.Build(ctx, req); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("cancelled: %v", err)
	}
	// The end of serve looks for what is left.
}

// A real build through the socket, with nothing to pull.
func TestRealBuild(t *testing.T) {
	rooms, err := buildkit.NewRooms(buildkit.RoomsConfig{Buildkitd: "../../../out/bin/buildkitd", StateDir: t.TempDir()})
	if err != nil {
		needs.Missing(t, "%v", err)
	}
	session, err := rooms.Begin(t.Context(), builder.Session{})
	if err != nil {
		t.Fatal(err)
	}
	b := buildkit.New(buildkit.Config{Rooms: rooms})
	defer b.Wait()
	c, _ := serve(t, Config{Builders: map[string]builder.Builder{"buildkit": b}})
	src, layout := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(src, "Dockerfile"), []byte("FROM scratch\nCOPY Dockerfile /\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	events := 0
	res, err := c.Build(t.Context(), builder.Request{Recipe: attest.Recipe{Builder: "buildkit"}, Tree: src, Source: committed(t, src), Layout: layout, Epoch: time.Unix(1700000000, 0), Session: session,
		Log: func(builder.Event) { events++ }})
	if err != nil {
		t.Fatal(err)
	}
	index, err := os.ReadFile(filepath.Join(layout, "index.json"))
	if err != nil || !strings.Contains(string(index), res.Digest) || events == 0 {
		t.Errorf("%d events, digest %s, index %s, %v", events, res.Digest, index, err)
	}
}

// builderFunc is a builder of the test's own: what is tested is the boundary.
type builderFunc func(context.Context, builder.Request) (*builder.Result, error)

func (f builderFunc) Build(ctx context.Context, r builder.Request) (*builder.Result, error) {
	return f(ctx, r)
}

// committed is the tree that the stock git makes of a directory.
func committed(t *testing.T, dir string) source.Tree {
	t.Helper()
	repo := filepath.Join(t.TempDir(), "repo")
	git := func(args ...string) string {
		t.Helper()
		return gittest.Git(t, dir, append([]string{"--git-dir=" + repo, "--work-tree=" + dir}, args...)...)
	}
	git("init", "-q")
	git("add", "-A")
	return source.Tree{ID: git("write-tree")}
}

// none is the tree without files, as every git knows it.
var none = source.Tree{ID: "4b825dc642cb6eb9a060e54bf8d69288fbee4904"}

func serve(t *testing.T, cfg Config) (Client, func()) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := peer.Listen(socket, -1)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	w, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	w.Register(mux)
	end := await.Background(t, func(ctx context.Context) error {
		defer w.Close()
		return peer.Serve(ctx, l, peer.Users{"attestor": os.Getuid()}, mux)
	})
	stop := func() {
		if err := end(); err != nil {
			t.Error(err)
		}
		if left, _ := filepath.Glob(filepath.Join(cfg.Dir, jobPrefix+"*")); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
	t.Cleanup(stop)
	return Client{peer.At(socket)}, stop
}

// What this platform cannot do it says, before and when it is asked to.
func TestMissingBuilder(t *testing.T) {
	lacks := map[string]builder.Lack{"buildkit": {Reason: "no runc", Hint: "install runc"}}
	c, _ := serve(t, Config{Missing: lacks})
	if missing, err := c.Missing(t.Context()); err != nil || !reflect.DeepEqual(missing, lacks) {
		t.Errorf("got %v, %v", missing, err)
	}
	_, err := c.Build(t.Context(), builder.Request{Recipe: attest.Recipe{Builder: "buildkit"}, Tree: t.TempDir(), Source: none, Layout: t.TempDir(), Epoch: time.Unix(1, 0)})
	if away, ok := errors.AsType[*builder.UnavailableError](err); !ok || away.Builder != "buildkit" || away.Lack != lacks["buildkit"] {
		t.Errorf("got %v, want that buildkit is missing, with the reason and the hint", err)
	}
	all, _ := serve(t, Config{})
	if missing, err := all.Missing(t.Context()); err != nil || len(missing) > 0 {
		t.Errorf("got %v, %v, want none", missing, err)
	}
}

func writeLayout(dir string) error {
	blob := []byte("blob")
	name := fmt.Sprintf("%x", sha256.Sum256(blob))
	return errors.Join(
		os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755),
		os.WriteFile(filepath.Join(dir, "oci-layout"), []byte("{}"), 0o644),
		os.WriteFile(filepath.Join(dir, "index.json"), []byte("{}"), 0o644),
		os.WriteFile(filepath.Join(dir, "blobs", "sha256", name), blob, 0o644))
}

func TestBuildOverTheSocket(t *testing.T) {
	src := t.TempDir()
	os.MkdirAll(filepath.Join(src, "a", "b"), 0o755)
	os.WriteFile(filepath.Join(src, "a", "b", "run.sh"), []byte("#!/bin/sh"), 0o700)
	os.WriteFile(filepath.Join(src, "plain"), bytes.Repeat([]byte("x"), 100000), 0o600)
	os.Symlink("/etc/passwd", filepath.Join(src, "link"))
	want := &builder.Result{
		Digest:       "sha256:abc",
		Dependencies: []attest.ResourceDescriptor{{URI: "https://example.com/x", Digest: map[string]string{"sha256": "12"}}},
		Config:       map[string]string{"k": "v"}, Started: time.Unix(1, 0).UTC(), Finished: time.Unix(2, 0).UTC(),
	}
	libraries := []string{t.TempDir(), t.TempDir()}
	for i, dir := range libraries {
		os.WriteFile(filepath.Join(dir, "library"), bytes.Repeat([]byte{'0' + byte(i)}, 1000*(i+1)), 0o600)
	}
	epoch := time.Unix(1700000000, 0).UTC()
	c, _ := serve(t, Config{Builders: map[string]builder.Builder{"x": builderFunc(func(_ context.Context, r builder.Request) (*builder.Result, error) {
		if info, err := os.Stat(filepath.Join(r.Tree, "a/b/run.sh")); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("run.sh: %v, %v", info, err)
		}
		if info, err := os.Stat(filepath.Join(r.Tree, "plain")); err != nil || info.Mode().Perm() != 0o644 || info.Size() != 100000 {
			t.Errorf("plain: %v, %v", info, err)
		}
		if to, err := os.Readlink(filepath.Join(r.Tree, "link")); err != nil || to != "/etc/passwd" {
			t.Errorf("link: %q, %v", to, err)
		}
		for i, a := range r.Added {
			if text, err := os.ReadFile(filepath.Join(a.Tree, "library")); err != nil || !bytes.Equal(text, bytes.Repeat([]byte{'0' + byte(i)}, 1000*(i+1))) {
				t.Errorf("%s: got %d bytes, %v", a.Name, len(text), err)
			}
		}
		if len(r.Added) != 2 || r.Added[0].Name != "git://a#v1:d" || r.Added[0].Dir != "d" || r.Added[1].Remote != "https://b" {
			t.Errorf("added: %+v", r.Added)
		}
		if !r.Epoch.Equal(epoch) || r.Recipe.Target != "t" || r.Limits.Memory != 5 {
			t.Errorf("request: %+v", r)
		}
		r.Log(builder.Event{Step: "s"})
		r.Log(builder.Event{Step: "s", Line: "l"})
		return want, writeLayout(r.Layout)
	})}})
	var events []builder.Event
	layout := t.TempDir()
	got, err := c.Build(t.Context(), builder.Request{Recipe: attest.Recipe{Builder: "x", Target: "t"}, Tree: src, Source: committed(t, src), Layout: layout, Epoch: epoch,
		Added: []builder.Added{
			{Name: "git://a#v1:d", Remote: "https://a", Dir: "d", Tree: libraries[0], Source: committed(t, libraries[0])},
			{Name: "git://b", Remote: "https://b", Tree: libraries[1], Source: committed(t, libraries[1])},
		},
		Limits: builder.Limits{Memory: 5}, Log: func(e builder.Event) { events = append(events, e) }})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if !reflect.DeepEqual(events, []builder.Event{{Step: "s"}, {Step: "s", Line: "l"}}) {
		t.Errorf("events: %v", events)
	}
	if _, err := os.Stat(filepath.Join(layout, "index.json")); err != nil {
		t.Error(err)
	}
}

// Files that are not those of the commit any more are handed to nobody.
func TestSwappedTree(t *testing.T) {
	built := 0
	c, _ := serve(t, Config{Builders: map[string]builder.Builder{"x": builderFunc(func(_ context.Context, r builder.Request) (*builder.Result, error) {
		built++
		return &builder.Result{}, writeLayout(r.Layout)
	})}})
	src := t.TempDir()
	os.WriteFile(filepath.Join(src, "run.sh"), []byte("echo right"), 0o644)
	tree := committed(t, src)
	for _, step := range []struct {
		what   string
		change func() error
		built  int
	}{
		{"as committed", func() error { return nil }, 1},
		{"other content", func() error { return os.WriteFile(filepath.Join(src, "run.sh"), []byte("echo wrong"), 0o644) }, 1},
		{"as committed again", func() error { return os.WriteFile(filepath.Join(src, "run.sh"), []byte("echo right"), 0o644) }, 2},
		{"an executable bit", func() error { return os.Chmod(filepath.Join(src, "run.sh"), 0o755) }, 2},
	} {
		if err := step.change(); err != nil {
			t.Fatal(err)
		}
		before := built
		_, err := c.Build(t.Context(), builder.Request{Recipe: attest.Recipe{Builder: "x"}, Tree: src, Source: tree, Layout: t.TempDir()})
		if (err == nil) != (built > before) || err != nil && !errors.Is(err, source.ErrNotTheTree) {
			t.Errorf("%s: got %v, after %d builds", step.what, err, built)
		}
		if built != step.built {
			t.Errorf("%s: %d builds, want %d", step.what, built, step.built)
		}
	}
	added := builder.Added{Tree: t.TempDir(), Source: tree}
	if _, err := c.Build(t.Context(), builder.Request{Recipe: attest.Recipe{Builder: "x"}, Tree: src, Source: committed(t, src), Added: []builder.Added{added}, Layout: t.TempDir()}); !errors.Is(err, source.ErrNotTheTree) {
		t.Errorf("an added repository that is not its commit: got %v", err)
	}
	if _, err := c.Build(t.Context(), builder.Request{Recipe: attest.Recipe{Builder: "x"}, Tree: t.TempDir(), Layout: t.TempDir()}); !errors.Is(err, source.ErrNotTheTree) {
		t.Errorf("no tree to compare with: got %v", err)
	}
}

// A builder in other hands answers without the tree that it was to build.
func TestAnswerWithoutTheTree(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := peer.Listen(socket, -1)
	if err != nil {
		t.Fatal(err)
	}
	var layout bytes.Buffer
	dir := t.TempDir()
	if err := errors.Join(writeLayout(dir), builder.PackLayout(&layout, dir)); err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		out := &frames{w: w, flush: http.NewResponseController(w).Flush}
		if err := errors.Join(out.write('T', layout.Bytes()), out.json('R', builder.Result{})); err != nil {
			t.Error(err)
		}
	})}}
	server.Start()
	defer server.Close()
	src := t.TempDir()
	os.WriteFile(filepath.Join(src, "large"), make([]byte, 32<<20), 0o644)
	res, err := Client{peer.At(socket)}.Build(t.Context(), builder.Request{Tree: src, Source: committed(t, src), Layout: filepath.Join(t.TempDir(), "l")})
	if err == nil {
		t.Errorf("got %+v of a tree that was not read", res)
	}
}

func TestErrorsCrossTheSocket(t *testing.T) {
	fail := func(err error) builder.Builder {
		return builderFunc(func(context.Context, builder.Request) (*builder.Result, error) { return nil, err })
	}
	c, _ := serve(t, Config{Builders: map[string]builder.Builder{
		"recipe": fail(&builder.Error{Step: "[1/2] RUN x", Err: errors.New("exit code: 1")}), "broken": fail(errors.New("no disk"))}})
	req := func(b string) builder.Request {
		return builder.Request{Recipe: attest.Recipe{Builder: b}, Tree: t.TempDir(), Source: none, Layout: t.TempDir()}
	}
	_, err := c.Build(t.Context(), req("recipe"))
	if be, ok := errors.AsType[*builder.Error](err); !ok || be.Step != "[1/2] RUN x" || be.Err.Error() != "exit code: 1" {
		t.Errorf("got %v", err)
	}
	_, err = c.Build(t.Context(), req("broken"))
	if _, ok := errors.AsType[*builder.Error](err); err == nil || ok || !strings.Contains(err.Error(), "no disk") {
		t.Errorf("got %v", err)
	}
	if _, err := c.Build(t.Context(), req("other")); err == nil || !strings.Contains(err.Error(), `"other"`) {
		t.Errorf("got %v", err)
	}
	if _, err := (Client{peer.At("/nonexistent")}).Build(t.Context(), req("recipe")); err == nil {
		t.Error("no worker, and no error")
	}
}

func TestCancelAndTurns(t *testing.T) {
	started, ended := make(chan struct{}, 8), make(chan struct{}, 8)
	var now, most atomic.Int64
	c, stop := serve(t, Config{Builders: map[string]builder.Builder{"x": builderFunc(func(ctx context.Context, r builder.Request) (*builder.Result, error) {
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer now.Add(-1)
		started <- struct{}{}
		<-ctx.Done()
		ended <- struct{}{}
		return nil, ctx.Err()
	})}})
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error, 4)
	for range 4 {
		go func() {
			_, err := c.Build(ctx, builder.Request{Recipe: attest.Recipe{Builder: "x"}, Tree: t.TempDir(), Source: none, Layout: t.TempDir()})
			errs <- err
		}()
	}
	<-started
	<-started
	cancel()
	for range 4 {
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
	}
	<-ended
	<-ended
	if most.Load() != 2 {
		t.Errorf("%d builds at one time, want 2", most.Load())
	}
	stop()
}

func TestHostileAnswers(t *testing.T) {
	frame := func(kind byte, s string) string { return string(frameHead(kind, len(s))) + s }
	var evil bytes.Buffer
	w := tar.NewWriter(&evil)
	w.WriteHeader(&tar.Header{Name: "../escape", Typeflag: tar.TypeReg, Size: 1})
	w.Write([]byte("x"))
	w.Close()
	for name, stream := range map[string]string{
		"nothing":          "",
		"cut frame":        frame('E', "{}")[:6],
		"huge frame":       string(frameHead('T', maxFrame+1)),
		"huge result":      string(frameHead('R', maxResult+1)),
		"unknown frame":    frame('X', ""),
		"no layout":        frame('R', "{}"),
		"half a layout":    frame('T', "abc") + frame('R', "{}"),
		"escaping layout":  frame('T', evil.String()) + frame('R', "{}"),
		"no end":           frame('E', "{}"),
		"unknown member":   frame('E', `{"run":"x"}`),
		"duplicate member": frame('F', `{"message":"a","message":"b","recipe":false}`),
	} {
		dir := t.TempDir()
		res, err := receive(strings.NewReader(stream), builder.Request{Layout: filepath.Join(dir, "layout")})
		if err == nil {
			t.Errorf("%s: got %+v, want an error", name, res)
		} else if strings.HasPrefix(name, "huge") && !strings.Contains(err.Error(), "want at most") {
			t.Errorf("%s: got %v, want it refused for its size", name, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "escape")); err == nil {
			t.Errorf("%s: a file outside of the layout", name)
		}
	}
}

func TestHostileTrees(t *testing.T) {
	outside := t.TempDir()
	for name, hs := range map[string][]tar.Header{
		"parent":            {{Name: "../x", Typeflag: tar.TypeReg}},
		"absolute":          {{Name: "/tmp/x", Typeflag: tar.TypeReg}},
		"not clean":         {{Name: "a//b", Typeflag: tar.TypeReg}},
		"itself":            {{Name: "./", Typeflag: tar.TypeDir}},
		"device":            {{Name: "d", Typeflag: tar.TypeChar}},
		"fifo":              {{Name: "d", Typeflag: tar.TypeFifo}},
		"hard link":         {{Name: "d", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}},
		"twice":             {{Name: "d", Typeflag: tar.TypeReg}, {Name: "d", Typeflag: tar.TypeReg}},
		"through a link":    {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: outside}, {Name: "l/x", Typeflag: tar.TypeReg}},
		"link over a file":  {{Name: "l", Typeflag: tar.TypeReg}, {Name: "l", Typeflag: tar.TypeSymlink, Linkname: outside}},
		"link over a link":  {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: outside}, {Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/"}},
		"too deep":          {{Name: strings.Repeat("d/", limits.TreeDepth+1) + "x", Typeflag: tar.TypeReg}},
		"too long":          {{Name: strings.Repeat("d", limits.TreePath+1), Typeflag: tar.TypeReg}},
		"too large":         {{Name: "x", Typeflag: tar.TypeReg, Size: limits.TreeBytes + 1}},
		"link through link": {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: outside}, {Name: "l/m", Typeflag: tar.TypeSymlink, Linkname: "/"}},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range hs {
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
		}
		w.Close()
		if err := unpackTree(&b, t.TempDir()); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if left, _ := os.ReadDir(outside); len(left) > 0 {
		t.Errorf("written outside: %v", left)
	}
}

func TestStartErasesWhatWasLeft(t *testing.T) {
	dir := t.TempDir()
	os.MkdirAll(filepath.Join(dir, jobPrefix+"1", "tree"), 0o700)
	c, _ := serve(t, Config{Dir: dir, Builders: map[string]builder.Builder{}})
	if _, err := c.Missing(t.Context()); err != nil { // it has started
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, jobPrefix+"1")); err == nil {
		t.Error("a killed worker's job is left")
	}
	if _, err := New(Config{Dir: dir}); err == nil {
		t.Error("two workers share one directory")
	}
}

// A build of another user cannot protect its files from removal, though root lacks
// CAP_FOWNER in the role rooms.
func TestProtectedFilesAreErased(t *testing.T) {
	needs.Root(t, "making files of another user")
	dir := filepath.Join(t.TempDir(), "job")
	for _, d := range []string{dir, filepath.Join(dir, "a"), filepath.Join(dir, "a", "b")} {
		if err := errors.Join(os.Mkdir(d, 0o700), os.Chmod(d, 0o700|os.ModeSticky), os.Chown(d, 65534, 65534)); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error)
	go func() {
		// Never unlock the thread: it ends with this goroutine and its capabilities.
		runtime.LockOSThread()
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		data := [2]unix.CapUserData{}
		for _, c := range []int{unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE} {
			data[0].Effective |= 1 << c
			data[0].Permitted |= 1 << c
		}
		if err := unix.Capset(&hdr, &data[0]); err != nil {
			done <- err
			return
		}
		done <- erase(dir)
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A build for which there is no place in the queue is refused at once.
func TestFullQueue(t *testing.T) {
	started, release := make(chan struct{}, 8), make(chan struct{})
	c, stop := serve(t, Config{Concurrent: 1, Queue: 2, Builders: map[string]builder.Builder{"x": builderFunc(func(context.Context, builder.Request) (*builder.Result, error) {
		started <- struct{}{}
		<-release
		return nil, errors.New("built")
	})}})
	defer stop()
	errs := make(chan error, 4)
	for range 4 { // one that runs, two that wait, and one too many
		go func() {
			_, err := c.Build(t.Context(), builder.Request{Recipe: attest.Recipe{Builder: "x"}, Tree: t.TempDir(), Source: none, Layout: t.TempDir()})
			errs <- err
		}()
	}
	<-started
	if err := <-errs; err == nil || !strings.Contains(err.Error(), "more than 2 builds are waiting") {
		t.Errorf("got %v, want the fourth build refused", err)
	}
	close(release)
	for range 3 {
		if err := <-errs; err == nil || !strings.Contains(err.Error(), "built") {
			t.Errorf("got %v, want the others built", err)
		}
	}
	w, err := New(Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if w.cfg.Queue != 64 {
		t.Errorf("without a setting %d builds wait, want 64", w.cfg.Queue)
	}
}
