package operation

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/needs"
)

// plainUser is an account of this host with subordinate ids.
type plainUser struct {
	id   int
	home string
	sub  int // the first of its subordinate ids
}

// newPlainUser adds an account as an administrator would.
func newPlainUser(t *testing.T) plainUser {
	t.Helper()
	home, err := os.MkdirTemp("", "colophon-user-")
	if err != nil {
		t.Fatal(err)
	}
	id := 30000 + os.Getpid()%20000
	u, name := plainUser{id: id, home: home}, fmt.Sprintf("colophon%d", id)
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("userdel", name).CombinedOutput(); err != nil {
			t.Errorf("userdel: %v: %s", err, out)
		}
		os.RemoveAll(home)
	})
	run("useradd", "--uid", strconv.Itoa(id), "--user-group", "--home-dir", home, name)
	run("groupmod", "--gid", strconv.Itoa(id), name)
	if err := errors.Join(os.Chown(home, id, id), os.Chmod(home, 0o755)); err != nil {
		t.Fatal(err)
	}
	subuid, err := os.ReadFile("/etc/subuid")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^` + name + `:(\d+):65536$`).FindSubmatch(subuid)
	if found == nil {
		t.Fatalf("useradd gave %s no subordinate ids: %s", name, subuid)
	}
	u.sub, _ = strconv.Atoi(string(found[1]))
	return u
}

// write writes a file of the user's, readable for nobody else.
func (u plainUser) write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(u.home, name)
	for dir := filepath.Dir(path); dir != u.home; dir = filepath.Dir(dir) {
		defer os.Chown(dir, u.id, u.id)
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o600), os.Chown(path, u.id, u.id)); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPlainUser: a plain user with subordinate ids gets a whole platform, whose rooms keep a
// Dockerfile from everything of his, and whose proofs claim no more than it earns.
func TestPlainUser(t *testing.T) {
	needs.Root(t, "adding an account")
	if _, err := exec.LookPath("newuidmap"); err != nil {
		needs.Missing(t, "a user namespace with subordinate ids needs newuidmap (apt-get install uidmap)")
	}
	u := newPlainUser(t)
	p := harness.Reserve(t)
	p.Data, p.User, p.Home = filepath.Join(u.home, "data"), u.id, u.home
	p.Program = filepath.Join(u.home, "colophond")
	for _, name := range []string{"colophond", "colophon-scan", "buildkitd"} {
		if out, err := exec.Command("cp", harness.Bin(t, name), u.home).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	mirror := filepath.Join(u.home, "mirror") // the user may be unable to reach the original
	if out, err := exec.Command("cp", "-rL", harness.BaseImages(t), mirror).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const processes = 300
	p.Args = []string{"--mirror", mirror, "--config", u.write(t, "config.json", fmt.Sprintf(`{"build": {"pids": %d}}`, processes))}
	const secret = "the-plain-users-secret"
	key := u.write(t, ".ssh/id_ed25519", secret)
	p.Up()

	repo := filepath.Join(u.home, "repo")
	harness.Write(t, repo, map[string]string{"Dockerfile": hostileDockerfile(key, p.Addr)})
	harness.Commit(t, repo, "v1.0.0")
	if out, err := exec.Command("chown", "-R", strconv.Itoa(u.id), repo).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	wait := begin(t, p, repo, "app", "RUN sleep 5.125")
	roomUser(t, u)
	output, code := wait()
	if code != 0 {
		t.Fatalf("release: exit code %d\n%s", code, output)
	}
	checkBuild(t, output, secret, processes)
	p.Trust()
	out, err := p.Colophon(t.Context(), "verify", p.Addr+"/app:v1.0.0", "--source", "file://"+repo, "-o", "json").Output()
	var verdict struct {
		Level int `json:"level"`
	}
	builder := p.URL + "/builders/buildkit/plain-user/v1"
	if jerr := json.Unmarshal(out, &verdict); err != nil || jerr != nil || verdict.Level != 2 || !strings.Contains(string(out), builder) {
		t.Errorf("verify: got %v, %v, level %d and %s, want level 2 and %s", err, jerr, verdict.Level, out, builder)
	}
	plainRoles(t, p, u)
}

// TestPlainUserCheck: what a plain user's platform would refuse in its user namespace, check refuses before it. So does
// serve at SIGHUP, which reads the configuration outside first.
func TestPlainUserCheck(t *testing.T) {
	needs.Root(t, "adding an account")
	if _, err := exec.LookPath("newuidmap"); err != nil {
		needs.Missing(t, "a user namespace with subordinate ids needs newuidmap (apt-get install uidmap)")
	}
	u := newPlainUser(t)
	for _, name := range []string{"colophond", "colophon-scan"} {
		if out, err := exec.Command("cp", harness.Bin(t, name), u.home).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	for content, want := range map[string]string{
		`{"build": {"pids": 300}}`:          "each role has its own in a user namespace",
		`{"build": {"memory": 1000000000}}`: "build.memory: a platform in a user namespace cannot limit it",
		`{"roles": {"uidBase": 70000}}`:     "the users of the roles must be below 65534",
	} {
		cmd := exec.Command(filepath.Join(u.home, "colophond"), "check", "--config", u.write(t, "config.json", content))
		cmd.Env = append(os.Environ(), "HOME="+u.home)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(u.id), Gid: uint32(u.id)}}
		if out, _ := cmd.CombinedOutput(); !strings.Contains(string(out), want) {
			t.Errorf("%s: got\n%s\nwant %q", content, out, want)
		}
	}
}

// hostileDockerfile tries what a build may not do, and says what came of it.
func hostileDockerfile(key, platform string) string {
	host, port, _ := net.SplitHostPort(platform)
	return `FROM debian:bookworm-slim
RUN sleep 5.125
RUN exec 2>&1; cat ` + key + ` /proc/*/root` + key + ` /proc/1/cwd/../..` + key + `; ls -d ` + filepath.Dir(filepath.Dir(key)) + ` && echo "sees the home" || echo "no home"
RUN ["bash", "-c", "(exec 3<>/dev/tcp/` + host + `/` + port + `) && echo 'reached the platform' || echo 'no platform'"]
RUN ["bash", "-c", "(exec 3<>/dev/tcp/1.1.1.1/53) && echo 'reached the network' || echo 'no network'"]
RUN mkdir /mine && chown 10001:65534 /mine && mkdir -m 1777 /sticky && touch /sticky/x && chown 10001 /sticky/x
RUN perl -e 'for (1..1000) { my $p = fork; last unless defined $p; if (!$p) { $> = $< = 1000 + $_; sleep 2; exit } $n++ } print "forked $n\n"'
USER 65532
RUN id -u
`
}

// checkBuild checks what hostileDockerfile obtained.
func checkBuild(t *testing.T, output, secret string, processes int) {
	t.Helper()
	for _, bad := range []string{secret, "│   sees the home", "│   reached the platform", "│   reached the network"} {
		if strings.Contains(output, bad) {
			t.Errorf("a build of a plain user: got %q in\n%s", bad, output)
		}
	}
	for _, want := range []string{"│   no home", "│   no platform", "│   no network", "│   65532"} {
		if !strings.Contains(output, want) {
			t.Errorf("a build of a plain user: want %q in\n%s", want, output)
		}
	}
	forked := regexp.MustCompile(`forked (\d+)`).FindAllStringSubmatch(output, -1)
	if len(forked) == 0 {
		t.Fatalf("the build did not say how many processes it started:\n%s", output)
	}
	n, _ := strconv.Atoi(forked[len(forked)-1][1])
	if n == 0 || n >= processes {
		t.Errorf("a build started %d processes of 1000, the limit is %d", n, processes)
	}
}

// roomUser checks that the processes of a build are neither the user nor a role.
func roomUser(t *testing.T, u plainUser) {
	t.Helper()
	pid := 0
	eventually(t, "the build sleeps", func() bool {
		out, err := exec.Command("pgrep", "-u", strconv.Itoa(u.sub), "-f", "^sleep 5.125$").Output()
		if err != nil {
			return false
		}
		pid, err = strconv.Atoi(strings.Fields(string(out))[0])
		return err == nil
	})
	if got := strings.Fields(status(t, pid, "Uid"))[0]; got != strconv.Itoa(u.sub) {
		t.Errorf("root of a room is user %s of the host, want %d", got, u.sub)
	}
}

// plainRoles checks users and files of the platform's roles, and that none outlives serve.
func plainRoles(t *testing.T, p *harness.Platform, u plainUser) {
	t.Helper()
	owners := map[uint32]string{}
	for _, dir := range []string{"trust", "attestor", "builder", "registry"} {
		info, err := os.Stat(filepath.Join(p.Data, dir))
		if err != nil {
			t.Fatal(err)
		}
		owner := info.Sys().(*syscall.Stat_t).Uid
		if other, taken := owners[owner]; taken || int(owner) == u.id || int(owner) < u.sub || int(owner) >= u.sub+65536 {
			t.Errorf("%s belongs to user %d (%s), want a subordinate id of its own", dir, owner, other)
		}
		owners[owner] = dir
		if out, err := as(u.id, "ls", filepath.Join(p.Data, dir)); err == nil {
			t.Errorf("the user's own programs read %s: %s", dir, out)
		}
	}
	text, err := os.ReadFile(filepath.Join(p.Data, "run", api.PIDFile))
	if err != nil {
		t.Fatal(err)
	}
	inside, err := strconv.Atoi(string(text))
	if err != nil {
		t.Fatal(err)
	}
	if groups := status(t, inside, "Groups"); groups != "" {
		t.Errorf("serve keeps the groups %s of the user", groups)
	}
	eventually(t, "no room is left", func() bool {
		left, err := os.ReadDir(filepath.Join(p.Data, "rooms"))
		return err == nil && len(left) == 0
	})
	p.Kill()
	eventually(t, "everything of the platform has ended", func() bool {
		out, _ := exec.Command("pgrep", "-f", "^colophond.* "+p.Data).Output()
		return len(out) == 0 && syscall.Kill(inside, 0) != nil
	})
}
