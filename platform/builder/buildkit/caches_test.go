package buildkit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/gateway"
	"github.com/colophon-build/colophon/test/needs"
)

func cacheScope() builder.CacheScope {
	return builder.CacheScope{
		Account: "team", Source: "https://git.example.com/team/app", Ref: "refs/heads/main", Image: "registry.example.com/team/app",
		Recipe: attest.Recipe{Builder: "buildkit", Platforms: []string{"linux/amd64"}, Dockerfile: "Dockerfile"},
	}
}

// otherScopes are scopes that each differ from cacheScope in one thing.
func otherScopes() map[string]builder.CacheScope {
	with := func(change func(*builder.CacheScope)) builder.CacheScope {
		s := cacheScope()
		change(&s)
		return s
	}
	return map[string]builder.CacheScope{
		"branch":         with(func(s *builder.CacheScope) { s.Ref = "refs/heads/feature" }),
		"tag":            with(func(s *builder.CacheScope) { s.Ref = "refs/tags/main" }),
		"tenant":         with(func(s *builder.CacheScope) { s.Account = "others" }),
		"host":           with(func(s *builder.CacheScope) { s.Source = "https://git.example.net/team/app" }),
		"repository":     with(func(s *builder.CacheScope) { s.Source += "2" }),
		"image":          with(func(s *builder.CacheScope) { s.Image += "2" }),
		"dockerfile":     with(func(s *builder.CacheScope) { s.Recipe.Dockerfile = "evil/Dockerfile" }),
		"target":         with(func(s *builder.CacheScope) { s.Recipe.Target = "evil" }),
		"context":        with(func(s *builder.CacheScope) { s.Recipe.Context = "evil" }),
		"build argument": with(func(s *builder.CacheScope) { s.Recipe.BuildArgs = map[string]string{"PROXY": "evil"} }),
		"platform":       with(func(s *builder.CacheScope) { s.Recipe.Platforms = []string{"linux/arm64"} }),
		"moved colon":    with(func(s *builder.CacheScope) { s.Account, s.Source = "team\",\"source\":\"https://git", "" }),
	}
}

var someTools = []attest.ResourceDescriptor{{Digest: map[string]string{"sha256": "aa"}}, {Digest: map[string]string{"sha256": "bb"}}}

func testCaches(t *testing.T) *caches {
	t.Helper()
	c, err := openCaches(CachesConfig{Dir: t.TempDir(), Size: 1 << 20, Total: 3 << 20, Age: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// leave stores text as what a build left, and keeps it.
func leave(t *testing.T, l *loan, text string) {
	t.Helper()
	head := fmt.Sprintf(`{"scope":%s,"tools":["aa","bb"],"began":%q}`, jsonOf(t, l.head.Scope), l.head.Began.Format(time.RFC3339Nano))
	l.packed = filepath.Join(l.caches.Dir, newPrefix+"1")
	if err := os.WriteFile(l.packed, []byte(head+"\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(l.packed, time.Time{}, l.head.Began); err != nil {
		t.Fatal(err)
	}
	if err := l.keep(); err != nil {
		t.Fatal(err)
	}
}

// found returns what a build of scope gets.
func found(t *testing.T, c *caches, scope builder.CacheScope, tools []attest.ResourceDescriptor) string {
	t.Helper()
	l, err := c.lend(scope, tools)
	if err != nil {
		t.Fatal(err)
	}
	if l.file == nil {
		return ""
	}
	defer l.file.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(l.state); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// What one scope leaves reaches that scope and no other one, whatever the file is called.
func TestCacheReachesItsScopeOnly(t *testing.T) {
	c := testCaches(t)
	l, err := c.lend(cacheScope(), someTools)
	if err != nil || l.file != nil {
		t.Fatalf("the first build found %v, %v", l.file, err)
	}
	leave(t, l, "poison")
	if got := found(t, c, cacheScope(), someTools); got != "poison" {
		t.Errorf("the scope itself: got %q", got)
	}
	for name, other := range otherScopes() {
		if got := found(t, c, other, someTools); got != "" {
			t.Errorf("other %s: it gets %q", name, got)
		}
		// A file that somebody copied by hand.
		data, err := os.ReadFile(c.path(l.head))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(c.path(cacheHead{Scope: other, Tools: []string{"aa", "bb"}}), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := found(t, c, other, someTools); got != "" {
			t.Errorf("other %s, by a copied file: it gets %q", name, got)
		}
	}
	if got := found(t, c, cacheScope(), someTools[:1]); got != "" {
		t.Errorf("another runtime gets %q", got)
	}
	if got := found(t, c, cacheScope(), someTools); got != "poison" {
		t.Errorf("the scope itself, afterwards: got %q", got)
	}
}

// Builds of one scope at once each begin with what was kept before, and the last one to be
// kept counts. One that fails, or is killed, leaves what was there.
func TestCacheIsReplacedAtOnce(t *testing.T) {
	c := testCaches(t)
	lend := func() *loan {
		l, err := c.lend(cacheScope(), someTools)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	leave(t, lend(), "old")
	reader, one, two := lend(), lend(), lend()
	leave(t, one, "one")
	leave(t, two, "two")
	var b bytes.Buffer
	if _, err := b.ReadFrom(reader.state); err != nil || b.String() != "old" {
		t.Errorf("a build that began before: got %q, %v", &b, err)
	}
	failed := lend()
	failed.packed = filepath.Join(c.Dir, newPrefix+"2")
	if err := os.WriteFile(failed.packed, []byte("bad"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := failed.drop(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.Dir, newPrefix+"3"), []byte("half"), 0o600); err != nil { // of a killed one
		t.Fatal(err)
	}
	again, err := openCaches(c.CachesConfig)
	if err != nil {
		t.Fatal(err)
	}
	if got := found(t, again, cacheScope(), someTools); got != "two" {
		t.Errorf("after a restart: got %q", got)
	}
	if left, _ := os.ReadDir(c.Dir); len(left) != 1 {
		t.Errorf("files: %v", left)
	}
}

// A scope begins anew when its first build is too long ago, however often it was used
// since: a poisoned cache does not live forever. The oldest go first if there are too many.
func TestCachesEnd(t *testing.T) {
	c := testCaches(t)
	l, err := c.lend(cacheScope(), someTools)
	if err != nil {
		t.Fatal(err)
	}
	l.head.Began = time.Now().Add(-50 * time.Minute)
	leave(t, l, "old")
	if l, err = c.lend(cacheScope(), someTools); err != nil || l.file == nil || time.Since(l.head.Began) < 49*time.Minute {
		t.Fatalf("the second build: began %v, %v", l.head.Began, err)
	}
	c.Age = 45 * time.Minute
	leave(t, l, "newer")
	if got := found(t, c, cacheScope(), someTools); got != "" {
		t.Errorf("a cache that is too old: got %q", got)
	}
	for i := range 5 {
		s := cacheScope()
		s.Image += fmt.Sprint(i)
		if l, err = c.lend(s, someTools); err != nil {
			t.Fatal(err)
		}
		l.head.Began = l.head.Began.Add(time.Duration(i-10) * time.Minute)
		leave(t, l, strings.Repeat("x", 1<<20-1000))
	}
	left, err := os.ReadDir(c.Dir)
	if err != nil || len(left) != 3 {
		t.Errorf("%d files, %v; want 3 of 1 MiB", len(left), err)
	}
	for i, want := range []bool{false, false, true, true, true} {
		s := cacheScope()
		s.Image += fmt.Sprint(i)
		if got := found(t, c, s, someTools) != ""; got != want {
			t.Errorf("cache %d: there %t, want %t", i, got, want)
		}
	}
}

// cachingBuilder is realBuilder with kept cache mounts.
func cachingBuilder(t *testing.T, size int64) *halves {
	t.Helper()
	return builderOf(t, RoomsConfig{Caches: CachesConfig{Dir: t.TempDir(), Size: size, Total: 10 * size, Age: time.Hour}})
}

// buildCaching runs one build, and then keeps its cache mounts if it may.
func buildCaching(t *testing.T, b *halves, scope *builder.CacheScope, keep bool, steps string) (*builder.Result, map[string]string, string, error) {
	t.Helper()
	var log lines
	req := builder.Request{Tree: tree(t, "FROM busybox:1.35\n"+steps), Epoch: epoch, Layout: t.TempDir(), Log: log.add, KeepCaches: scope != nil}
	var err error
	if req.Session, err = b.rooms.Begin(t.Context(), builder.Session{CacheMounts: scope}); err != nil {
		t.Fatal(err)
	}
	r, err := b.Build(t.Context(), req)
	b.Wait()
	record, rerr := b.rooms.End(t.Context(), req.Session)
	if rerr != nil {
		t.Fatal(rerr)
	}
	if scope != nil {
		if kerr := b.rooms.Keep(t.Context(), req.Session, keep && err == nil); kerr != nil {
			t.Fatal(kerr)
		}
	}
	if kerr := b.rooms.Keep(t.Context(), req.Session, true); kerr == nil {
		t.Error("the cache mounts of one session were kept twice")
	}
	return r, record.Config, log.String(), err
}

// What a build leaves in its cache mounts, its next release finds, with all steps run anew
// and all base images fetched anew. The record says so, and no other build finds it.
func TestKeptCacheMounts(t *testing.T) {
	needs.Long(t)
	b := cachingBuilder(t, 64<<20)
	scope := cacheScope()
	const mount = "RUN --mount=type=cache,target=/c "
	_, first, log, err := buildCaching(t, b, &scope, true, mount+"ls /c; echo from-first > /c/x && ln -s /etc/passwd /c/link && mkfifo /c/fifo && chown 1000:1000 /c/x && cat /c/x\n")
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if first["cacheMounts"] != attest.KeptCacheMounts || first["cacheMounts.before"] != "" || len(first["cacheMounts.after"]) != 71 || len(first["cacheMounts.scope"]) != 71 {
		t.Errorf("the first build: %v\n%s", first, log)
	}
	_, failed, _, err := buildCaching(t, b, &scope, true, mount+"echo from-failed > /c/x && false\n")
	if err == nil || failed["cacheMounts.after"] != "" {
		t.Errorf("a failing build: %v, %v", failed, err)
	}
	if _, _, log, err := buildCaching(t, b, &scope, false, mount+"echo from-refused > /c/x\n"); err != nil {
		t.Errorf("a build whose image is refused: %v\n%s", err, log)
	}
	r, second, log, err := buildCaching(t, b, &scope, true, mount+"stat -c '%n %u %g' /c/* && readlink /c/link; cat /c/x\n")
	if err != nil || !strings.Contains(log, "| from-first") || !strings.Contains(log, "/c/x 1000 1000") || !strings.Contains(log, "| /etc/passwd") || strings.Contains(log, "fifo") {
		t.Errorf("the second build: %v\n%s", err, log)
	}
	if second["cacheMounts.before"] != first["cacheMounts.after"] || second["cacheMounts.scope"] != first["cacheMounts.scope"] {
		t.Errorf("the second build: %v, after %v", second, first)
	}
	if len(r.Dependencies) != 1 || !strings.Contains(r.Dependencies[0].URI, "busybox@1.35") {
		t.Errorf("dependencies of the second build: %v", r.Dependencies)
	}
	// The same steps run again: nothing but the mounts is kept.
	random := mount + "cat /proc/sys/kernel/random/uuid\n"
	_, _, one, err1 := buildCaching(t, b, &scope, true, random)
	_, _, two, err2 := buildCaching(t, b, &scope, true, random)
	if err1 != nil || err2 != nil || !strings.Contains(two, "-") || lastOutput(one) == lastOutput(two) {
		t.Errorf("the same step: %v, %v\n%s\n%s", err1, err2, one, two)
	}
	other := cacheScope()
	other.Ref = "refs/heads/feature"
	for name, s := range map[string]*builder.CacheScope{"another branch": &other, "a build without kept cache mounts": nil} {
		_, config, log, err := buildCaching(t, b, s, true, mount+"ls /c; cat /c/x || echo nothing\n")
		if err != nil || strings.Contains(log, "from-") || !strings.Contains(log, "| nothing") {
			t.Errorf("%s: %v\n%s", name, err, log)
		}
		if s == nil && config["cacheMounts"] != attest.EmptyCacheMounts {
			t.Errorf("%s: %v", name, config)
		}
	}
}

func lastOutput(log string) string {
	all := strings.Split(strings.TrimSpace(log), "\n")
	for i := len(all) - 1; i >= 0; i-- {
		if _, line, ok := strings.Cut(all[i], " | "); ok && strings.Count(line, "-") == 4 {
			return line
		}
	}
	return "none"
}

// Cache mounts that are too large, or begin with files of the build, are not kept; those
// that no room can read are given up. The build succeeds all the same.
func TestCacheMountsThatAreNotKept(t *testing.T) {
	needs.Long(t)
	b := cachingBuilder(t, 4<<20)
	scope := cacheScope()
	for name, c := range map[string]struct{ steps, want string }{
		"too large":      {"RUN --mount=type=cache,target=/c head -c 8388608 /dev/zero > /c/x\n", "more than 4194304 bytes"},
		"too many files": {"RUN --mount=type=cache,target=/c cd /c && for i in $(seq 9000); do : > $i; done\n", "more than 4194304 bytes"},
		"a hole":         {"RUN --mount=type=cache,target=/c truncate -s 1024G /c/x\n", "more than 4194304 bytes"},
		"from a stage":   {"RUN --mount=type=cache,target=/c,from=busybox:1.35,source=/etc cat /c/hostname; touch /c/x\n", "from="},
	} {
		_, config, log, err := buildCaching(t, b, &scope, true, c.steps)
		if err != nil || !strings.Contains(log, "they are not kept: ") || !strings.Contains(log, c.want) || config["cacheMounts.after"] != "" {
			t.Errorf("%s: %v, %v\n%s", name, config, err, log)
		}
		if left, _ := os.ReadDir(b.rooms.cfg.Caches.Dir); len(left) > 0 {
			t.Errorf("%s: it left %v", name, left)
		}
	}
	tools, _, err := b.rooms.measure()
	if err != nil {
		t.Fatal(err)
	}
	l, err := b.rooms.caches.lend(scope, tools)
	if err != nil {
		t.Fatal(err)
	}
	head := cacheHead{Scope: scope, Tools: l.head.Tools, Began: l.head.Began}
	if err := os.WriteFile(b.rooms.caches.path(head), []byte(jsonOf(t, head)+"\nno tar, but long enough"+strings.Repeat(" ", 1024)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, config, log, err := buildCaching(t, b, &scope, true, "RUN --mount=type=cache,target=/c echo ok > /c/x\n")
	if err != nil || config["cacheMounts"] != attest.KeptCacheMounts || config["cacheMounts.before"] != "" || config["cacheMounts.after"] == "" {
		t.Errorf("what no room can read: %v, %v\n%s", config, err, log)
	}
}

// A platform that does not allow it keeps none.
func TestCacheMountsAreAnOption(t *testing.T) {
	b := realBuilder(t)
	scope := cacheScope()
	if _, err := b.rooms.Begin(t.Context(), builder.Session{CacheMounts: &scope}); err == nil {
		t.Error("a session that keeps cache mounts began")
	}
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// A kept cache that no room can unpack and that gives way to others meanwhile refuses no build, and nothing
// is left of a room that did not open.
func TestCacheGoesWhileARoomOpens(t *testing.T) {
	b := cachingBuilder(t, 4<<20)
	r := b.rooms
	scope := cacheScope()
	tools, _, err := r.measure()
	if err != nil {
		t.Fatal(err)
	}
	l, err := r.caches.lend(scope, tools)
	if err != nil {
		t.Fatal(err)
	}
	head := cacheHead{Scope: scope, Tools: l.head.Tools, Began: l.head.Began}
	if err := os.WriteFile(r.caches.path(head), []byte(jsonOf(t, head)+"\nno tar, but long enough"+strings.Repeat(" ", 1024)), 0o600); err != nil {
		t.Fatal(err)
	}
	r.cfg.Gateway = func(l net.Listener, s gateway.Settings) (Gateway, error) {
		age := r.caches.Age // another build's lend or keep sweeps while this room opens
		r.caches.Age = 0
		time.Sleep(time.Millisecond)
		r.caches.sweep()
		r.caches.Age = age
		g, err := gateway.New(s)
		if err == nil {
			go g.Serve(l)
		}
		return g, err
	}
	id, err := r.Begin(t.Context(), builder.Session{CacheMounts: &scope})
	if err != nil {
		t.Fatal(err)
	}
	room, err := r.Open(t.Context(), id, builder.Limits{})
	if err != nil {
		t.Errorf("the build is refused: %v", err)
	} else {
		room.Close()
	}
	if _, err := r.End(t.Context(), id); err != nil {
		t.Error(err)
	}
	if err := r.Keep(t.Context(), id, false); err != nil {
		t.Error(err)
	}
	left, _ := os.ReadDir(r.cfg.StateDir)
	for _, e := range left {
		t.Errorf("left of the room: %s", e.Name())
	}
}
