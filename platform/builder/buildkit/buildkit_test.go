package buildkit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/gateway"
	"github.com/colophon-build/colophon/platform/builder/sandbox"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/needs"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	os.Exit(m.Run())
}

const (
	repo   = "../../.."
	mirror = repo + "/out/base-images"
)

// realBuilder is one over the daemon and the base images that the Makefile
// makes. Where they cannot be had the test is skipped loudly, or fails if the
// environment says that they must be there.
func realBuilder(t *testing.T) *halves {
	t.Helper()
	return realBuilderWith(t, "")
}

func realBuilderWith(t *testing.T, runtime string) *halves {
	t.Helper()
	return builderOf(t, RoomsConfig{Runtime: runtime})
}

// builderOf is one with the given settings of rooms, or else with those of realBuilder.
func builderOf(t *testing.T, cfg RoomsConfig) *halves {
	t.Helper()
	if testing.Short() {
		t.Skip("NOT ASKED FOR: -short builds no images")
	}
	cfg.Buildkitd = cmp.Or(cfg.Buildkitd, repo+"/out/bin/buildkitd")
	cfg.StateDir, cfg.Network = t.TempDir(), gateway.Settings{Mirror: mirror}
	r, err := NewRooms(cfg)
	if err != nil {
		needs.Missing(t, "%v", err)
	}
	return &halves{New(Config{Rooms: r, WallTime: 5 * time.Minute}), r}
}

// halves are both halves of the builder, in one process.
type halves struct {
	*Builder
	rooms *Rooms
}

type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) add(e builder.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(&l.text, "%s %s | %s\n", time.Now().Format("05.000"), e.Step, e.Line)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

var epoch = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// tree makes a source of one Dockerfile.
func tree(t *testing.T, dockerfile string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func run(t *testing.T, b *halves, req builder.Request) (*builder.Result, string, error) {
	t.Helper()
	var log lines
	if req.Epoch.IsZero() {
		req.Epoch = epoch
	}
	if req.Layout == "" {
		req.Layout = t.TempDir()
	}
	req.Log = log.add
	var err error
	if req.Session, err = b.rooms.Begin(t.Context(), builder.Session{}); err != nil {
		t.Fatal(err)
	}
	r, err := b.Build(t.Context(), req)
	b.Wait()
	rooms, _ := os.ReadDir(b.rooms.cfg.StateDir)
	if len(rooms) > 0 {
		t.Errorf("the build left %v", rooms)
	}
	record, rerr := b.rooms.End(t.Context(), req.Session)
	if err == nil && rerr != nil {
		t.Errorf("the room's record: %v", rerr)
	} else if err == nil {
		r.Tools, r.Config = record.Tools, record.Config
	}
	return r, log.String(), err
}

func TestHelloTwiceGivesTheSameImage(t *testing.T) {
	needs.Long(t)
	b := realBuilder(t)
	first, log, err := run(t, b, builder.Request{Tree: repo + "/examples/hello"})
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	layout := t.TempDir()
	second, _, err := run(t, b, builder.Request{Tree: repo + "/examples/hello", Layout: layout})
	if err != nil {
		t.Fatal(err)
	}
	if first.Digest != second.Digest {
		t.Errorf("two builds of one tree: %s and %s", first.Digest, second.Digest)
	}
	if !reflect.DeepEqual(first.Dependencies, second.Dependencies) {
		t.Errorf("two builds of one tree depend on %v and %v", first.Dependencies, second.Dependencies)
	}
	var uris []string
	for _, d := range first.Dependencies {
		if len(d.Digest["sha256"]) != 64 {
			t.Errorf("%s has no sha256: %v", d.URI, d.Digest)
		}
		uris = append(uris, d.URI)
	}
	all := strings.Join(uris, "\n")
	for _, want := range []string{"golang@1.26", "static-debian12@nonroot", "github.com/google/uuid/@v/v1.6.0.zip"} {
		if !strings.Contains(all, want) {
			t.Errorf("no dependency on %s in\n%s", want, all)
		}
	}
	if v := fmt.Sprint(first.Tools[0].Annotations["version"]); !strings.HasPrefix(v, "github.com/moby/buildkit v0.") {
		t.Errorf("version of buildkitd: got %q", v)
	}
	if !strings.Contains(log, "go build") {
		t.Errorf("the log does not show the steps:\n%s", log)
	}
	raw, err := os.ReadFile(filepath.Join(layout, "index.json"))
	if err != nil || !strings.Contains(string(raw), second.Digest) || strings.Contains(string(raw), "attestation") {
		t.Errorf("index.json: %s, %v", raw, err)
	}
	t.Logf("%s\n%s\n%v\n%v took %s", first.Digest, all, first.Config, first.Tools, first.Finished.Sub(first.Started))
}

// The runtime is a matter of taste: the image does not show it, the record does.
func TestAnotherRuntimeGivesTheSameImage(t *testing.T) {
	realBuilder(t) // or skip
	runc, err := exec.LookPath("runc")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(runc)
	if err != nil {
		t.Fatal(err)
	}
	another := filepath.Join(t.TempDir(), "another")
	if err := os.WriteFile(another, program, 0o755); err != nil {
		t.Fatal(err)
	}
	source := tree(t, "FROM busybox:1.35\nRUN id > /id && mkdir /dir && chown 1:1 /dir && grep -q '^Seccomp:.2' /proc/self/status\n")
	var digests []string
	for _, runtime := range []string{"runc", another} {
		r, log, err := run(t, realBuilderWith(t, runtime), builder.Request{Tree: source})
		if err != nil {
			t.Fatalf("%s: %v\n%s", runtime, err, log)
		}
		if got := r.Tools[1].Name; got != filepath.Base(runtime) || r.Config["seccomp"] == "" || r.Config["limits.disk"] == "" {
			t.Errorf("the record: got %v %v, want %s", r.Tools, r.Config, runtime)
		}
		digests = append(digests, r.Digest)
	}
	if digests[0] != digests[1] {
		t.Errorf("runc gives %s, another gives %s", digests[0], digests[1])
	}
	for _, unfit := range []string{"/bin/true", "no-such-runtime"} {
		if _, err := NewRooms(RoomsConfig{Buildkitd: repo + "/out/bin/buildkitd", Runtime: unfit, StateDir: t.TempDir()}); !errors.Is(err, sandbox.ErrUnsupported) || !strings.Contains(err.Error(), unfit) {
			t.Errorf("%s as a runtime: got %v", unfit, err)
		}
	}
	for hint, cfg := range map[string]RoomsConfig{
		"apt-get install runc":            {Buildkitd: repo + "/out/bin/buildkitd", Runtime: "no-such-runtime", StateDir: t.TempDir()},
		"make builder":                    {StateDir: t.TempDir()},
		"apt-get install ca-certificates": {Buildkitd: repo + "/out/bin/buildkitd", StateDir: t.TempDir(), Network: gateway.Settings{Roots: "no-such-file"}},
	} {
		if _, err := NewRooms(cfg); err == nil || !strings.Contains(builder.LackOf(err).Hint, hint) {
			t.Errorf("got %v, want an error with the hint %q", err, hint)
		}
	}
}

func TestFailingStepIsTheRecipesError(t *testing.T) {
	b := realBuilder(t)
	_, log, err := run(t, b, builder.Request{Tree: tree(t, "FROM busybox:1.35\nRUN echo before && false\n")})
	if be, ok := errors.AsType[*builder.Error](err); !ok || !strings.Contains(be.Step, "RUN echo before") || !strings.Contains(be.Error(), "exit code: 1") {
		t.Fatalf("got %v, want a builder.Error at the step", err)
	}
	if !strings.Contains(log, "| before") {
		t.Errorf("the output of the step is not in the log:\n%s", log)
	}
}

func TestRecipesThatAreRefused(t *testing.T) {
	b := realBuilder(t)
	ok := "FROM busybox:1.35\n"
	for name, c := range map[string]struct {
		dockerfile string
		recipe     attest.Recipe
		want       string
	}{
		"no Dockerfile":        {ok, attest.Recipe{Dockerfile: "other"}, "no such file"},
		"outside the tree":     {ok, attest.Recipe{Dockerfile: "../Dockerfile"}, "inside the tree"},
		"foreign frontend":     {"# syntax=evil/frontend\n" + ok, attest.Recipe{}, "evil/frontend"},
		"frontend by argument": {ok, attest.Recipe{BuildArgs: map[string]string{"BUILDKIT_SYNTAX": "evil/frontend"}}, "may not set it"},
		"unknown base image":   {"FROM localhost:1/nowhere\n", attest.Recipe{}, "mirror"},
		"another epoch":        {ok, attest.Recipe{BuildArgs: map[string]string{"SOURCE_DATE_EPOCH": "0"}}, "may not set it"},
		"platform":             {ok, attest.Recipe{Platforms: []string{"windows/amd64"}}, "platform"},
		"insecure step":        {ok + "RUN --security=insecure true\n", attest.Recipe{}, "security.insecure"},
		"host network":         {ok + "RUN --network=host true\n", attest.Recipe{}, "network.host"},
		"secret":               {ok + "RUN --mount=type=secret,id=x,required=true true\n", attest.Recipe{}, "RUN --mount=type=secret,id=x: builds get no secrets"},
		"ssh":                  {ok + "RUN --mount=type=ssh,required=true true\n", attest.Recipe{}, "RUN --mount=type=ssh,id=default: builds get no secrets"},
		"no layers":            {"FROM scratch\nCMD [\"/x\"]\n", attest.Recipe{}, "no layers"},
		"syntax error":         {"FROM\n", attest.Recipe{}, "FROM"},
	} {
		_, log, err := run(t, b, builder.Request{Tree: tree(t, c.dockerfile), Recipe: c.recipe})
		if _, ok := errors.AsType[*builder.Error](err); !ok || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want a builder.Error about %q\n%s", name, err, c.want, log)
		}
	}
}

// What a hostile step tries; each line prints what it must not.
func TestStepSeesNothingOfTheHost(t *testing.T) {
	b := realBuilder(t)
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Errorf("a step connected to the host from %s", c.RemoteAddr())
			c.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("hunter2"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("COLOPHON_TEST_SECRET", "hunter2")
	var s strings.Builder
	s.WriteString("FROM golang:1.26\nRUN --mount=type=secret,id=x --mount=type=ssh set +e; test -e /run/secrets/x && echo REACHED a secret; test -S \"$SSH_AUTH_SOCK\" && echo REACHED an agent; env; cat " + secret + "; cat /proc/1/environ | tr '\\0' '\\n'; ls /data /run/docker.sock /state;")
	targets := []string{"127.0.0.1", "169.254.169.254", "10.0.0.1"}
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if n := a.(*net.IPNet); n.IP.To4() != nil && !n.IP.IsLoopback() {
			targets = append(targets, n.IP.String())
		}
	}
	for _, h := range targets {
		// Past the proxy, and through it.
		fmt.Fprintf(&s, " timeout 3 bash -c 'exec 3<>/dev/tcp/%s/%s && echo REACHED direct %s';", h, port, h)
		fmt.Fprintf(&s, " NO_PROXY= no_proxy= timeout 5 git -c http.lowSpeedLimit=1 ls-remote http://%s:%s/x && echo REACHED proxy %s;", h, port, h)
	}
	s.WriteString(" ps ax 2>/dev/null; ls /proc | grep -c '^[0-9]'; mount -t tmpfs x /mnt && echo MOUNTED; mknod /tmp/sda b 8 0 && echo MKNOD; true\n")
	_, log, err := run(t, b, builder.Request{Tree: tree(t, s.String())})
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	for line := range strings.Lines(log) {
		_, out, _ := strings.Cut(line, " | ")
		for _, bad := range []string{"hunter2", "REACHED", "MOUNTED", "MKNOD"} {
			if strings.HasPrefix(out, bad) || strings.Contains(out, "=hunter2") {
				t.Errorf("a step got out: %s", line)
			}
		}
	}
	if !strings.Contains(log, "HTTP_PROXY=") {
		t.Errorf("the attack did not run:\n%s", log)
	}
}

func TestLimitsEndABuild(t *testing.T) {
	b := realBuilder(t)
	for name, c := range map[string]struct {
		step   string
		limits builder.Limits
		want   string
	}{
		"memory":    {`RUN dd if=/dev/zero of=/dev/null bs=512M count=1`, builder.Limits{Memory: 256 << 20}, "268435456"},
		"processes": {`RUN for i in $(seq 400); do sleep 20 & done; wait`, builder.Limits{PIDs: 100}, "100"},
		// The step itself goes on; the image it leaves is not the one the commit describes.
		"disk": {`RUN head -c 2048m /dev/zero > /big || true`, builder.Limits{Disk: 1 << 30}, "disk full: the limit is 1073741824 bytes"},
		"time": {`RUN sleep 600`, builder.Limits{WallTime: 6 * time.Second}, "6s"},
	} {
		start := time.Now()
		_, log, err := run(t, b, builder.Request{Tree: tree(t, "FROM busybox:1.35\n"+c.step+"\n"), Limits: c.limits})
		if _, ok := errors.AsType[*builder.Error](err); !ok || !strings.Contains(err.Error(), c.want) || time.Since(start) > await.Patience {
			t.Errorf("%s: got %v after %s, want a builder.Error that names the limit\n%s", name, err, time.Since(start), log)
		}
	}
}

func TestCancelErasesTheRoom(t *testing.T) {
	b := realBuilder(t)
	ctx, cancel := context.WithCancel(t.Context())
	var once sync.Once
	session, err := b.rooms.Begin(ctx, builder.Session{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Build(ctx, builder.Request{Tree: tree(t, "FROM busybox:1.35\nRUN echo running; sleep 60\n"), Epoch: epoch, Layout: t.TempDir(), Session: session,
		Log: func(e builder.Event) {
			if e.Line == "running" {
				once.Do(cancel)
			}
		}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if rooms, _ := os.ReadDir(b.rooms.cfg.StateDir); len(rooms) > 0 {
		t.Errorf("left: %v", rooms)
	}
}

func TestPlatformsGiveAnIndex(t *testing.T) {
	b := realBuilder(t)
	dockerfile := "FROM --platform=$BUILDPLATFORM busybox:1.35 AS b\nARG TARGETARCH\nRUN echo $TARGETARCH > /arch\nFROM gcr.io/distroless/static-debian12\nCOPY --from=b /arch /arch\n"
	req := builder.Request{Tree: tree(t, dockerfile), Recipe: attest.Recipe{Platforms: []string{"linux/amd64", "linux/arm64"}}, Layout: t.TempDir()}
	r, log, err := run(t, b, req)
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	raw, err := os.ReadFile(filepath.Join(req.Layout, "blobs", "sha256", strings.TrimPrefix(r.Digest, "sha256:")))
	if err != nil || strings.Count(string(raw), `"architecture"`) != 2 || strings.Contains(string(raw), "unknown") {
		t.Errorf("index: %s, %v", raw, err)
	}
	// The stand-in for Debian has this machine's platform alone.
	_, log, err = run(t, b, builder.Request{Tree: tree(t, "FROM busybox:1.35\nCOPY Dockerfile /\n"), Recipe: attest.Recipe{Platforms: []string{otherPlatform()}}})
	if err == nil || !strings.Contains(err.Error(), "Base image busybox:1.35 was pulled with platform") {
		t.Errorf("a base image for another platform: got %v, want an error about it\n%s", err, log)
	}
	_, log, err = run(t, b, builder.Request{Tree: tree(t, "# check=skip=InvalidBaseImagePlatform\nFROM busybox:1.35\nCOPY Dockerfile /\n"), Recipe: attest.Recipe{Platforms: []string{otherPlatform()}}})
	if err != nil {
		t.Errorf("a Dockerfile that disables the check: %v\n%s", err, log)
	}
	// A step for a processor that this machine does not have fails, and says so.
	src := tree(t, "FROM gcr.io/distroless/static-debian12\nCOPY x /x\nRUN [\"/x\"]\n")
	if err := os.WriteFile(filepath.Join(src, "x"), []byte("\x7fELF of another machine"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, log, err = run(t, b, builder.Request{Tree: src, Recipe: attest.Recipe{Platforms: []string{otherPlatform()}}})
	if err == nil || !strings.Contains(err.Error(), "BUILDPLATFORM") {
		t.Errorf("a foreign step: got %v, want an error with a hint\n%s", err, log)
	}
}

func otherPlatform() string {
	if hostPlatform() == "linux/arm64" {
		return "linux/amd64"
	}
	return "linux/arm64"
}

// A session is for one room; what its id can do is over when it is ended.
func TestSessions(t *testing.T) {
	b := realBuilder(t)
	open := func(id string) error {
		m, err := b.rooms.Open(t.Context(), id, builder.Limits{})
		if err == nil {
			t.Cleanup(func() { m.Close() })
		}
		return err
	}
	id, err := b.rooms.Begin(t.Context(), builder.Session{})
	if err != nil {
		t.Fatal(err)
	}
	if open("") == nil || open("0123") == nil {
		t.Error("a room without a session was opened")
	}
	if err := open(id); err != nil {
		t.Fatal(err)
	}
	if open(id) == nil {
		t.Error("a second room was opened in one session")
	}
	if r, err := b.rooms.End(t.Context(), id); err != nil || len(r.Tools) != 2 {
		t.Errorf("record: %v, %v", r, err)
	}
	if open(id) == nil {
		t.Error("a room was opened in an ended session")
	}
	if _, err := b.rooms.End(t.Context(), id); err == nil {
		t.Error("a session was ended twice")
	}
	if id, err = b.rooms.Begin(t.Context(), builder.Session{}); err != nil {
		t.Fatal(err)
	}
	if r, err := b.rooms.End(t.Context(), id); err == nil {
		t.Errorf("a session without a room has the record %v", r)
	}
}
