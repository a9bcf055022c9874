package operation

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/needs"
)

// status returns a field of /proc/PID/status.
func status(t *testing.T, pid int, field string) string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(rest)
		}
	}
	t.Fatalf("/proc/%[2]d/status has no field %[1]s", field, pid)
	return ""
}

// as runs a command as another user, with this process's view of the disk.
func as(uid int, args ...string) (string, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// killedBy returns the process's oom_score_adj: the kernel kills the highest first.
func killedBy(t *testing.T, pid int) (score int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
	if err == nil {
		_, err = fmt.Sscan(string(text), &score)
	}
	if err != nil {
		t.Fatal(err)
	}
	return score
}

// TestZonesAreApart reads the users, namespaces and capabilities of a running platform
// of root from the kernel.
func TestZonesAreApart(t *testing.T) {
	needs.Root(t, "running roles as separate users")
	p := harness.Start(t, "--mirror", harness.BaseImages(t))
	users := map[string]int{}
	killed := map[string]int{}
	for role, dirs := range map[string][]string{
		"trust": {"trust", "log", "ct", "index", "archivelog", "archiveindex", "distrust"}, "search": {"search"}, "ledger": {"audit"}, "attestor": {"attestor"}, "builder": {"builder"}, "registry": {"registry"}, "api": nil, "rooms": {"rooms"},
	} {
		pid := p.Role(role)
		if pid == 0 {
			t.Fatalf("%s is not running", role)
		}
		var uid int
		fmt.Sscan(status(t, pid, "Uid"), &uid)
		users[role] = uid
		killed[role] = killedBy(t, pid)
		limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
		if err != nil || strings.Contains(string(limits), "Max data size             unlimited ") {
			t.Errorf("%s has no limit of memory: %v", role, err)
		}
		for _, d := range dirs {
			info, err := os.Stat(filepath.Join(p.Data, d))
			if err != nil {
				t.Fatal(err)
			}
			if st := info.Sys().(*syscall.Stat_t); int(st.Uid) != uid || info.Mode().Perm() != 0o700 {
				t.Errorf("%s: directory %s is of user %d with mode %o, want %d and 700", role, d, st.Uid, info.Mode().Perm(), uid)
			}
		}
		for field, want := range map[string]string{"NoNewPrivs": "1", "Seccomp": "2"} {
			if got := status(t, pid, field); got != want {
				t.Errorf("%s: %s is %s, want %s", role, field, got, want)
			}
		}
		if role == "rooms" {
			continue // needs some of root's capabilities; docs/threats.md lists them
		}
		for _, set := range []string{"CapPrm", "CapEff", "CapAmb", "CapBnd"} {
			if got := status(t, pid, set); strings.Trim(got, "0") != "" {
				t.Errorf("%s: %s is %s, want none", role, set, got)
			}
		}
		if env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err != nil || bytes.Contains(env, []byte("colophon_")) {
			t.Errorf("%s: its environment is %q, %v", role, env, err)
		}
	}
	seen := map[int]string{}
	for role, uid := range users {
		if other := seen[uid]; other != "" || uid == 0 && role != "rooms" {
			t.Errorf("%s and %q are user %d", role, other, uid)
		}
		seen[uid] = role
	}

	// When memory runs out, those who hold keys die last.
	for first, last := range map[string]string{"api": "attestor", "registry": "attestor", "builder": "attestor", "rooms": "attestor", "attestor": "trust"} {
		if killed[first] <= killed[last] {
			t.Errorf("the kernel kills %s (%d) no earlier than %s (%d)", first, killed[first], last, killed[last])
		}
	}

	// Other roles and rooms must not have these rights.
	for _, path := range []string{"trust/issuer.key", "client.json", "admin.json", "run/trust.sock"} {
		path = filepath.Join(p.Data, path)
		if _, err := os.Stat(path); err != nil {
			t.Fatal(err)
		}
		for _, role := range []string{"builder", "api", "registry", "attestor"} {
			if out, err := as(users[role], "cat", path); err == nil {
				t.Errorf("%s can read %s: %s", role, path, out)
			}
		}
	}
	for _, role := range []string{"builder", "api"} {
		if out, err := as(users[role], "kill", "-0", fmt.Sprint(p.Role("trust"))); err == nil {
			t.Errorf("%s can signal the trust services: %s", role, out)
		}
		if out, err := as(users[role], "cat", fmt.Sprintf("/proc/%d/environ", p.Role("trust"))); err == nil {
			t.Errorf("%s can look into the trust services: %s", role, out)
		}
	}
}

// TestBuildsAreApart: the process that talks to a room's BuildKit, which an attacker may
// control, cannot reach concurrent builds.
func TestBuildsAreApart(t *testing.T) {
	needs.Root(t, "opening rooms")
	p := harness.Start(t, "--mirror", harness.BaseImages(t))
	var ends []func() (string, int)
	var drivers []string
	for i := range 2 {
		ends = append(ends, begin(t, p, sleepy(t), fmt.Sprint("app", i), "asleep"))
	}
	// The role rooms starts the drivers: the builder has no part in these builds.
	out, err := exec.Command("pgrep", "-f", "-P", fmt.Sprint(p.Role("rooms")), "^colophond driver$").Output()
	if err != nil {
		t.Fatal(err)
	}
	if drivers = strings.Fields(string(out)); len(drivers) != 2 {
		t.Fatalf("%d processes drive two builds", len(drivers))
	}
	others := map[string]string{} // roles by user
	for _, role := range []string{"trust", "attestor", "builder", "registry", "api", "rooms"} {
		others[strings.Fields(status(t, p.Role(role), "Uid"))[0]] = role
	}
	for _, ns := range []string{"mnt", "pid", "net", "ipc", "uts"} {
		seen := map[string]bool{}
		for _, pid := range append(drivers, fmt.Sprint(p.Role("rooms")), fmt.Sprint(p.Role("builder"))) {
			if (ns == "pid" || ns == "net" || ns == "ipc" || ns == "uts") && pid == fmt.Sprint(p.Role("builder")) {
				continue // shares those of the host with rooms
			}
			name, err := os.Readlink("/proc/" + pid + "/ns/" + ns)
			if err != nil || seen[name] {
				t.Errorf("%s shares its %s namespace: %s, %v", pid, ns, name, err)
			}
			seen[name] = true
		}
	}
	for _, name := range drivers {
		var pid int
		fmt.Sscan(name, &pid)
		for field, want := range map[string]string{"NoNewPrivs": "1", "Seccomp": "2", "CapEff": "0000000000000000", "CapPrm": "0000000000000000", "CapBnd": "0000000000000000"} {
			if got := status(t, pid, field); got != want {
				t.Errorf("%s: %s is %s, want %s", name, field, got, want)
			}
		}
		if role := others[strings.Fields(status(t, pid, "Uid"))[0]]; role != "" {
			t.Errorf("driver %s runs as the user of %s", name, role)
		}
		root := fmt.Sprintf("/proc/%d/root", pid)
		for dir, want := range map[string]string{"/run/colophon-zone": "build ca.pem passwd run", "/proc": "", "/tmp": "", "/run/colophon-zone/build": "layout tree", "/run/colophon-zone/build/tree": "Dockerfile"} {
			var has []string
			entries, err := os.ReadDir(root + dir)
			for _, e := range entries {
				has = append(has, e.Name())
			}
			if got := strings.Join(has, " "); err != nil || got != want {
				t.Errorf("%s has %q in %s (%v), want %q", name, got, dir, err, want)
			}
		}
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, end := range ends {
		end()
	}
	quiet(t, p)
}

// TestSocketsKnowTheirRoles: the kernel identifies the caller, and only the attestor gets
// tokens, not even root.
func TestSocketsKnowTheirRoles(t *testing.T) {
	needs.Root(t, "running roles as separate users")
	p := harness.Start(t)
	ask := func(socket, method, path string) int {
		c := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			return net.Dial("unix", filepath.Join(p.Data, "run", socket+".sock"))
		}}}
		r, err := http.NewRequest(method, "http://x"+path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for _, test := range []struct{ socket, method, path string }{
		{"trust", "POST", "/token"}, {"builder", "POST", "/build"}, {"rooms", "POST", "/sessions"}, {"rooms", "POST", "/sessions/x/room"},
		{"rooms", "POST", "/upload-pack?path=/"}, {"attestor", "POST", "/api/colophon/v1/releases"}, {"registry", "GET", "/v2/"},
	} {
		// The test runs as root, like serve, which is not a role that may call.
		if got := ask(test.socket, test.method, test.path); got != http.StatusForbidden {
			t.Errorf("%s %s at %s.sock: got %d, want 403", test.method, test.path, test.socket, got)
		}
	}
	// The public address offers no tokens either.
	resp, err := http.Post(p.URL+"/token", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound && resp.StatusCode != http.StatusForbidden {
		t.Errorf("POST /token at the public address: got %d", resp.StatusCode)
	}
}

// TestRolesComeBack: every role may die. The platform restarts it, and keeps all that was acknowledged.
func TestRolesComeBack(t *testing.T) {
	needs.Long(t)
	p := harness.Start(t)
	repo := harness.GoRepo(t)
	release(t, p, repo, "before")
	roles := []string{"trust", "registry", "builder", "attestor", "api"}
	if os.Getuid() == 0 {
		roles = append(roles, "rooms")
	}
	for _, role := range roles {
		before := p.Role(role)
		if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, role+" runs again", func() bool { now := p.Role(role); return now != 0 && now != before && ready(p) })
		release(t, p, repo, "after-"+role)
	}
	p.Trust()
	if out, err := p.Colophon(t.Context(), "verify", p.Addr+"/before:v1.0.0", "--any-source").CombinedOutput(); err != nil {
		t.Errorf("verify of the earlier release: %v\n%s", err, out)
	}
}

// strangersAreNoRole: the port passes requests on as the role api alone, also where all roles have its user.
func strangersAreNoRole(t *testing.T, p *harness.Platform) {
	t.Helper()
	for path, method := range map[string]string{
		"/index/of": "GET", "/archive/log/checkpoint": "GET", "/archive/index/checkpoint": "GET",
		"/index/entries": "POST", "/archive/log/entries?from=0": "POST", "/archive/index/entries": "POST",
	} {
		for _, claimed := range []string{"", "search"} {
			r, err := http.NewRequest(method, p.URL+path, strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			if claimed != "" {
				r.Header.Set("Colophon-Role", claimed)
				r.Header.Set("Connection", "Colophon-Role")
			}
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			answer, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusForbidden {
				t.Errorf("a stranger's %s %s, as role %q: got status %d, want 403: %.200s", method, path, claimed, resp.StatusCode, answer)
			}
		}
	}
}

// TestWithoutRoot: without root the platform works, and reports which guarantees it lacks.
func TestWithoutRoot(t *testing.T) {
	needs.Root(t, "becoming a plain user")
	const nobody = 65534
	dir, err := os.MkdirTemp("", "colophon-nobody-") // so that another user can enter it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := harness.Reserve(t)
	p.Data, p.User = filepath.Join(dir, "data"), nobody
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	p.Program = filepath.Join(dir, "colophond")
	if out, err := exec.Command("cp", harness.Bin(t, "colophond"), harness.Bin(t, "colophon-scan"), dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	shareStd(t, p, dir)
	p.Up()
	if !strings.Contains(p.Log.String(), "all roles run as one user") {
		t.Errorf("the log does not say that the roles are not separate:\n%s", p.Log)
	}
	document := string(p.Get("/.well-known/colophon.json"))
	for _, want := range []string{p.URL + "/builders/golang/one-user/v1", p.URL + "/builders/buildkit/one-user/v1"} {
		if !strings.Contains(document, want) {
			t.Errorf("no builder %s in %s", want, document)
		}
	}
	if strings.Contains(document, `"level":3`) || strings.Contains(document, `"level": 3`) {
		t.Errorf("a platform without zones claims L3: %s", document)
	}
	if got := string(p.Get("/readyz")); !strings.Contains(got, "no buildkit builder") || !strings.Contains(got, "sudo colophond serve") {
		t.Errorf("/readyz: %s", got)
	}
	strangersAreNoRole(t, p)
	// Who releases a Dockerfile gets the reason, and what to do about it.
	repo := filepath.Join(dir, "repo")
	if err := os.Mkdir(repo, 0o755); err != nil {
		t.Fatal(err)
	}
	harness.Write(t, repo, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})
	harness.Commit(t, repo, "v1.0.0")
	if out, err := exec.Command("chown", "-R", strconv.Itoa(nobody), repo).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	output, code := begin(t, p, repo, "app", "source")()
	for _, want := range []string{"this platform cannot build with buildkit", "the platform runs as uid 65534, and /etc/sub", "gives user nobody no 65536 ids", "hint: give the user a range", "or start a platform as root", "colophon login"} {
		if code != 1 || !strings.Contains(output, want) {
			t.Errorf("release of a Dockerfile without root: got exit code %d and\n%s\nwant 1 and %q", code, output, want)
		}
	}
	if strings.Contains(output, "--builder golang") {
		t.Errorf("the hint names the golang builder, but the source is no Go module:\n%s", output)
	}
	levelOfLaptop(t, p, dir)
}

// shareStd gives a platform of another user a copy of the compiled standard library that all tests
// share. With COLOPHON_LONG=1, the platform compiles it by itself.
func shareStd(t *testing.T, p *harness.Platform, dir string) {
	t.Helper()
	if needs.AskedForLong() {
		return
	}
	own, config := filepath.Join(dir, "std"), filepath.Join(dir, "config.json")
	copyAll := `mkdir -m 0700 "$2" && { [ ! -d "$1" ] || find "$1" -maxdepth 1 -name 'std-*' -exec cp -rp -t "$2" {} +; } && chown -R "$3" "$2"`
	if out, err := exec.Command("sh", "-c", copyAll, "sh", harness.StdCache(t), own, strconv.Itoa(p.User)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.WriteFile(config, fmt.Appendf(nil, `{"build": {"stdCache": %q}}`, own), 0o644); err != nil {
		t.Fatal(err)
	}
	p.Args = append(p.Args, "--config", config)
}

// levelOfLaptop releases a Go program on a platform without root: level says no more than its
// trust document gives it, with the reasons, and so does the badge.
func levelOfLaptop(t *testing.T, p *harness.Platform, dir string) {
	t.Helper()
	repo := filepath.Join(dir, "go")
	harness.CopyTree(t, harness.GoRepo(t), repo)
	if out, err := exec.Command("chown", "-R", strconv.Itoa(p.User), repo).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if output, code := begin(t, p, repo, "laptop", "source")(); code != 0 {
		t.Fatalf("release: exit code %d\n%s", code, output)
	}
	p.Trust()
	badge := filepath.Join(t.TempDir(), "level.svg")
	image := p.Addr + "/laptop:v1.0.0"
	out, err := p.Colophon(t.Context(), "level", image, "--report", "badge="+badge).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "SLSA Build L1\n") || !strings.Contains(string(out), "✗ L2  build hosted") {
		t.Errorf("level: got %v and\n%s\nwant Build L1, since the build is not hosted", err, out)
	}
	if svg, err := os.ReadFile(badge); err != nil || !strings.Contains(string(svg), "Build L1<") {
		t.Errorf("the badge: got %s, %v", svg, err)
	}
	if out, err := p.Colophon(t.Context(), "level", image, "--min-build-level", "2").CombinedOutput(); err == nil {
		t.Errorf("level accepts less than was demanded:\n%s", out)
	}
}
