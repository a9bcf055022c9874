package attack

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/needs"
)

// An attack is one attempt to break a rule of the platform.
type attack struct {
	name  string
	tries string // what the attacker tries
	guard string // the rule that stops it, and where it is
	cuts  []cut  // remove the guard from the source, so that the attack must succeed; never empty

	// From inside: from says where the intruder runs (a "step" of a Dockerfile, the
	// "room" in place of buildkitd, or a role), and probe what it does there.
	from  []string
	probe func(i *intruder)
	// look returns evidence on the host that an attack from inside succeeded. It is
	// nil if secrets in the report and reached canaries are the only evidence.
	look func(s *scene) string

	// From beside: the whole attack. It returns evidence of its success, or how it was
	// stopped. It fails s if it could not be tried.
	beside func(s *scene) (through, stopped string)

	// For attacks that need no platform, such as a race between two instructions: the
	// unit test that tries it, as "package: TestName".
	unit string
}

// attacks lists all attacks, in the order of their registration.
var attacks []*attack

func register(a attack) *attack {
	attacks = append(attacks, &a)
	return &a
}

func named(name string) *attack {
	i := slices.IndexFunc(attacks, func(a *attack) bool { return a.name == name })
	if i < 0 {
		panic("no attack " + name)
	}
	return attacks[i]
}

// outcome is one line of the scoreboard.
type outcome struct {
	attack  *attack
	where   string // step, room or beside
	through string // evidence of success; empty if stopped
	stopped string // how it was stopped
}

// A scene holds the platforms that the attacks target, all from one build of
// colophond, and everything around them.
type scene struct {
	*testing.T
	world   *world
	program string // colophond
	cli     string // colophon
	dir     string
	canary  string // file
	secrets map[string]string
	by      *exec.Cmd // the bystander

	suite     *testing.T // the platforms end with this test
	platforms map[string]*harness.Platform
	victims   map[string]victim
}

func newScene(t *testing.T, program, cli string) *scene {
	need(t)
	s := &scene{T: t, suite: t, world: needWorld(t), program: program, cli: cli, dir: t.TempDir(), secrets: map[string]string{}, platforms: map[string]*harness.Platform{}, victims: map[string]victim{}}
	if err := os.Chmod(filepath.Dir(s.dir), 0o755); err != nil { // everybody can reach the canary
		t.Fatal(err)
	}
	s.canary = filepath.Join(s.dir, "canary")
	s.secrets["the canary file"] = "canary-" + rand.Text()
	if err := os.WriteFile(s.canary, []byte(s.secrets["the canary file"]), 0o644); err != nil {
		t.Fatal(err)
	}
	s.startBystander()
	s.leaveOpen()
	s.shareMemory()
	s.keyring()
	s.world.asked("setuid-files", setuidFiles)
	s.world.asked("kernel-resources", kernelResources)
	return s
}

func (s *scene) startBystander() {
	secret := rand.Text()
	s.secrets["the bystander's memory"] = memoryMark + secret
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{bystanderName}
	cmd.Stdin = strings.NewReader(secret + "\n")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.Fatal(err)
	}
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		s.Fatalf("bystander: %q", line)
	}
	s.by = cmd
	s.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
}

// bystanderIsWell returns what happened to the bystander, or an empty string.
func (s *scene) bystanderIsWell() string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.by.Process.Pid))
	if err != nil || bytes.Contains(stat, []byte("State:\tZ")) {
		return "a process of the host was killed"
	}
	if !bytes.Contains(stat, []byte("TracerPid:\t0\n")) || bytes.Contains(stat, []byte("State:\tT")) || bytes.Contains(stat, []byte("State:\tt")) {
		return "a process of the host is being traced"
	}
	return ""
}

// leaveOpen makes all programs started from now on inherit a descriptor of the host's
// root directory, as if a person's shell had left it open.
func (s *scene) leaveOpen() {
	root, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		s.Fatal(err)
	}
	defer unix.Close(root)
	open, err := unix.FcntlInt(uintptr(root), unix.F_DUPFD, leftOpen)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { unix.Close(open) })
}

func (s *scene) shareMemory() {
	s.secrets["the host's shared memory"] = "shm-" + rand.Text()
	id, err := unix.SysvShmGet(shmKey, 4096, unix.IPC_CREAT|0o666)
	if err != nil {
		s.Fatal(err)
	}
	mem, err := unix.SysvShmAttach(id, 0, 0)
	if err != nil {
		s.Fatal(err)
	}
	copy(mem, s.secrets["the host's shared memory"])
	s.Cleanup(func() {
		unix.SysvShmDetach(mem)
		unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	})
}

// keyring puts a key into the session keyring, which the platforms share.
func (s *scene) keyring() {
	s.secrets["the platform's keyring"] = "key-" + rand.Text()
	if _, err := unix.AddKey("user", keyName, []byte(s.secrets["the platform's keyring"]), unix.KEY_SPEC_SESSION_KEYRING); err != nil {
		s.Fatal(err)
	}
}

// platform returns the platform of a kind, and starts it on first use. The kind "room"
// has an intruder in place of buildkitd, and "small" has tight limits. "step" and all
// other names are platforms with the default configuration. All allow kept cache mounts.
func (s *scene) platform(kind string, only ...string) *harness.Platform {
	s.Helper()
	if p := s.platforms[kind]; p != nil {
		return p
	}
	bin := filepath.Join(s.dir, kind)
	if err := os.Mkdir(bin, 0o755); err != nil {
		s.Fatal(err)
	}
	p := harness.Reserve(s.suite)
	p.Program = filepath.Join(bin, "colophond")
	if err := copyFile(p.Program, s.program); err != nil {
		s.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(filepath.Dir(s.program), "colophon-scan"), filepath.Join(bin, "colophon-scan")); err != nil {
		s.Fatal(err)
	}
	config := map[string]any{}
	build := map[string]any{"stdCache": harness.StdCache(s), "cacheMounts": map[string]any{"size": 16 << 20}}
	daemon := filepath.Join(bin, "buildkitd")
	switch kind {
	case "room":
		if err := equip(daemon, s.briefing(p, only)); err != nil {
			s.Fatal(err)
		}
	case "small":
		build["memory"], build["pids"], build["disk"], build["wallTime"] = 512<<20, 200, 512<<20, "15s"
		fallthrough
	default:
		if err := os.Symlink(harness.Bin(s, "buildkitd"), daemon); err != nil {
			s.Fatal(err)
		}
	}
	config["build"] = build
	p.Args = []string{"--config", harness.Config(s, config), "--mirror", harness.BaseImages(s)}
	p.Up()
	s.platforms[kind] = p
	s.noteSecrets(p)
	return p
}

// noteSecrets records every key and token of a platform in s.secrets.
func (s *scene) noteSecrets(p *harness.Platform) {
	for _, file := range []string{"pull.json", "client.json", "admin.json", "attestor.json"} {
		s.secrets["the token of "+file] = p.Token(file)
	}
	for _, path := range s.keyFiles(p) {
		data, err := os.ReadFile(path)
		if err != nil {
			s.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if line = strings.TrimSpace(line); len(line) >= 40 && !strings.HasPrefix(line, "-") {
				s.secrets["the key "+filepath.Base(path)] = line
				break
			}
		}
	}
}

// keyFiles returns the platform's files with private keys.
func (s *scene) keyFiles(p *harness.Platform) []string {
	var out []string
	filepath.WalkDir(filepath.Join(p.Data, "trust"), func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if data, err := os.ReadFile(path); err == nil && bytes.Contains(data, []byte("PRIVATE KEY")) {
				out = append(out, path)
			}
		}
		return nil
	})
	return out
}

func (s *scene) briefing(p *harness.Platform, only []string) briefing {
	var st unix.Stat_t
	if err := unix.Stat(s.dir, &st); err != nil {
		s.Fatal(err)
	}
	b := briefing{
		Only: only, Canary: s.canary, Platform: p.Addr, Bystander: s.by.Process.Pid, Device: st.Dev,
		Keys: []string{filepath.Join(p.Data, "client.json"), filepath.Join(p.Data, "admin.json"), filepath.Join(p.Data, "attestor.json"), filepath.Join(p.Data, "pull.json"), "/etc/shadow"},
	}
	for _, k := range []string{"issuer.key", "root.key", "intermediate.key", "clock.key", "ctlog.key", "tuf-root.key", "log.pem"} {
		b.Keys = append(b.Keys, filepath.Join(p.Data, "trust", k))
	}
	b.Data = p.Data
	for _, r := range []string{"trust", "attestor", "builder", "rooms", "registry"} {
		b.Sockets = append(b.Sockets, filepath.Join(p.Data, "run", r+".sock"))
	}
	b.Write = []string{p.Program, s.canary, filepath.Join(p.Data, "lock")}
	return b
}

func copyFile(to, from string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// repository commits files and tags the commit v1.0.0.
func (s *scene) repository(files map[string]string) string {
	s.Helper()
	dir := filepath.Join(s.TempDir(), "app")
	harness.Write(s, dir, files)
	return s.commit(dir)
}

func (s *scene) commit(dir string) string {
	s.Helper()
	harness.Commit(s, dir, "v1.0.0")
	return dir
}

// release releases the tag v1.0.0 of a repository, and returns the result and its log.
func (s *scene) release(p *harness.Platform, repo, image string, change ...func(*api.ReleaseRequest)) (*api.Release, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	return s.releaseWith(ctx, p, repo, image, change...)
}

func (s *scene) releaseWith(ctx context.Context, p *harness.Platform, repo, image string, change ...func(*api.ReleaseRequest)) (*api.Release, string, error) {
	s.Helper()
	c, err := api.ReadConfig(filepath.Join(p.Data, "client.json"))
	if err != nil {
		s.Fatal(err)
	}
	req := api.ReleaseRequest{Source: "file://" + repo, Ref: "v1.0.0", Image: p.Addr + "/" + image}
	for _, f := range change {
		f(&req)
	}
	var said strings.Builder
	r, err := c.Release(ctx, req, func(e api.Event) { fmt.Fprintf(&said, "%s\n", e.Line) })
	return r, said.String(), err
}

// mustRelease makes a release that an attack needs, and fails the test on error.
func (s *scene) mustRelease(p *harness.Platform, repo, image string) *api.Release {
	s.Helper()
	r, said, err := s.release(p, repo, image)
	if err != nil {
		s.Fatalf("release of %s: %v\n%s", image, err, said)
	}
	return r
}

// verify runs the CLI as a consumer, and returns its exit code and output.
func (s *scene) verify(p *harness.Platform, args ...string) (int, string) {
	s.Helper()
	p.Trust()
	cmd := exec.Command(s.cli, append([]string{"verify"}, args...)...)
	cmd.Env = p.Env()
	out, err := cmd.CombinedOutput()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		s.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// reports extracts the intruders' reports from a log.
func (s *scene) reports(said string) []report {
	s.Helper()
	out, err := reportsIn(said)
	if err != nil {
		s.Fatal(err)
	}
	return out
}

func reportsIn(said string) (out []report, err error) {
	for line := range strings.Lines(said) {
		raw, ok := strings.CutPrefix(strings.TrimSpace(line), reportMark)
		if !ok {
			continue
		}
		var r report
		if err := json.Unmarshal([]byte(raw), &r); err != nil {
			return nil, fmt.Errorf("intruder: %w: %s", err, raw)
		}
		out = append(out, r)
	}
	return out, nil
}

// fromStep runs the intruder in a build step.
func (s *scene) fromStep(only ...string) []report {
	s.Helper()
	p := s.platform("step")
	dir := filepath.Join(s.TempDir(), "app")
	harness.Write(s, dir, map[string]string{"Dockerfile": "FROM debian:bookworm-slim AS attack\nCOPY intruder /intruder\nRUN [\"/intruder\"]\nFROM scratch\nCOPY --from=attack /done /done\n"})
	if err := equip(filepath.Join(dir, "intruder"), s.briefing(p, only)); err != nil {
		s.Fatal(err)
	}
	_, said, err := s.release(p, s.commit(dir), "attacked")
	rs := s.reports(said)
	if len(rs) == 0 { // the platform may refuse the image
		s.Fatalf("the intruder in the step reported nothing: %v\n%s", err, said)
	}
	return rs
}

// fromRoom runs the intruder in place of buildkitd.
func (s *scene) fromRoom(only ...string) []report {
	s.Helper()
	p := s.platform("room", only...)
	repo := s.repository(map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})
	_, said, err := s.release(p, repo, "attacked")
	if err == nil {
		s.Fatal("an intruder in place of buildkitd made a release")
	}
	rs := s.reports(string(s.world.taken()))
	if len(rs) == 0 {
		s.Fatalf("the intruder in the room reported nothing: %v\n%s\n%s", err, said, p.Log)
	}
	return rs
}

// judge looks for evidence of success in the report and on the host.
func (s *scene) judge(a *attack, r report) outcome {
	o := outcome{attack: a, where: r.Where}
	all := strings.Join(append(slices.Clone(r.Got), r.Not...), "\n")
	for what, secret := range s.secrets {
		if strings.Contains(all, secret) {
			o.through = "it read " + what
		}
	}
	switch hit := s.world.hit(a.name); {
	case o.through != "":
	case hit != "":
		o.through = hit
	case len(r.Got) > 0:
		o.through = strings.Join(r.Got, "; ")
	case a.look != nil:
		o.through = a.look(s)
	}
	if o.through == "" {
		o.stopped = brief(r.Not)
	}
	if len(r.Got)+len(r.Not) == 0 {
		s.Errorf("%s/%s: the intruder reported nothing", r.Where, a.name)
	}
	return o
}

// brief returns the three most frequent reasons why an attack failed.
func brief(not []string) string {
	count := map[string]int{}
	for _, n := range not {
		n = hostPath.ReplaceAllString(n, "…")
		if i := strings.LastIndex(strings.TrimRight(n, " \n"), ": "); i >= 0 {
			n = n[i+2:]
		}
		if n = strings.TrimSpace(n); n != "" {
			count[n]++
		}
	}
	reasons := make([]string, 0, len(count))
	for r := range count {
		reasons = append(reasons, r)
	}
	slices.SortFunc(reasons, func(a, b string) int {
		if count[a] != count[b] {
			return count[b] - count[a]
		}
		return strings.Compare(a, b)
	})
	return strings.Join(reasons[:min(3, len(reasons))], ", ")
}

// hostPath matches temporary paths, which differ from run to run.
var hostPath = regexp.MustCompile(`/tmp/[^ :,"]+`)

// runInside runs the attacks from inside that start at where.
func (s *scene) runInside(where string, list []*attack, only ...string) []outcome {
	var rs []report
	switch where {
	case "step":
		rs = s.fromStep(only...)
	case "room":
		rs = s.fromRoom(only...)
	default:
		rs = s.fromRole(where, only...)
	}
	var out []outcome
	for _, a := range list {
		if a.probe == nil || !slices.Contains(a.from, where) {
			continue
		}
		i := slices.IndexFunc(rs, func(r report) bool { return r.Attack == a.name })
		if i < 0 {
			s.Errorf("%s/%s: not tried", where, a.name)
			continue
		}
		out = append(out, s.judge(a, rs[i]))
	}
	return out
}

// unitsVar makes TestAttacks run the unit tests among the attacks, too, for a whole
// scoreboard, as make attack does. All tests together run them in their packages anyway.
const unitsVar = "COLOPHON_ATTACK_UNITS"

// TestAttacks tries all attacks on platforms with all guards, and prints the scoreboard.
func TestAttacks(t *testing.T) {
	needs.Long(t)
	s := newScene(t, harness.Bin(t, "colophond"), harness.Bin(t, "colophon"))
	var out []outcome
	for _, where := range append([]string{"step", "room"}, tracers...) {
		out = append(out, s.runInside(where, attacks)...)
	}
	units := os.Getenv(unitsVar) != ""
	for _, a := range attacks {
		if a.unit != "" && units {
			out = append(out, a.runUnit(t, nil))
		}
		if a.beside == nil {
			continue
		}
		t.Run(a.name, func(t *testing.T) {
			through, stopped := a.beside(s.in(t))
			out = append(out, outcome{attack: a, where: "beside", through: through, stopped: stopped})
		})
	}
	fmt.Print(scoreboard(out))
	for _, o := range out {
		if o.through != "" {
			t.Errorf("%s/%s succeeded: %s", o.where, o.attack.name, o.through)
		}
	}
}

// in returns the scene for a subtest. What the subtest starts ends with it.
func (s *scene) in(t *testing.T) *scene {
	c := *s
	c.T = t
	return &c
}

func scoreboard(out []outcome) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ATTACK\tTRIED\tSTOPPED BY")
	stopped := 0
	for _, o := range out {
		how := o.attack.guard + " (" + clip(hostPath.ReplaceAllString(o.stopped, "…"), 120) + ")"
		if o.through != "" {
			how = "SUCCEEDED: " + clip(o.through, 200)
		} else {
			stopped++
		}
		fmt.Fprintf(w, "%s/%s\t%s\t%s\n", o.where, o.attack.name, o.attack.tries, how)
	}
	w.Flush()
	return fmt.Sprintf("%s%d attacks, %d stopped\n", b.String(), len(out), stopped)
}

func clip(s string, n int) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > n {
		return string(r[:n]) + "…"
	}
	return s
}
