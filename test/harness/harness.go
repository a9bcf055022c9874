// Package harness starts real platforms for the tests below test/.
package harness

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/freeport"
	"github.com/colophon-build/colophon/test/gittest"
)

// Bin returns the path of a program that the Makefile builds in out/bin. It fails the
// test if the program is missing.
func Bin(t testing.TB, name string) string {
	t.Helper()
	dir := filepath.Join(Root(t), "out/bin")
	// Programs run others. What a test has listed, Go's test cache compares before it skips the test.
	if _, err := os.ReadDir(dir); err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(dir, name)
	if _, err := os.Stat(p); err != nil {
		t.Fatalf("%s is missing: run make build tools", name)
	}
	return p
}

// Root returns the root directory of the repository.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	t.Fatal("no go.mod above the working directory")
	return ""
}

// Platform is a colophond that a test starts.
type Platform struct {
	T    testing.TB
	Data string // --data
	Addr string // 127.0.0.1:PORT
	URL  string
	Args []string // more flags of serve
	// Program is the path of colophond; empty means the one that the Makefile builds.
	Program string
	User    int    // user id to run as; 0 means the test's own
	Home    string // home directory of User; empty means "/"

	cmd  *exec.Cmd
	Log  *Log
	done chan error
}

// Start runs a platform on a free loopback port and waits until it is ready.
func Start(t testing.TB, args ...string) *Platform {
	t.Helper()
	p := Reserve(t)
	if p.Args = args; !slices.Contains(args, "--config") {
		p.Args = append(args, "--config", Config(t, nil))
	}
	p.Up()
	return p
}

// Reserve returns a platform with an address. It does not run until Up.
func Reserve(t testing.TB) *Platform {
	t.Helper()
	if testing.Short() {
		t.Skip("NOT TESTED: -short starts no platform")
	}
	addr := freeport.Address(t)
	p := &Platform{T: t, Data: filepath.Join(t.TempDir(), "data"), Addr: addr, URL: "http://" + addr, Log: &Log{}}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("log of the platform:\n%s", p.Log)
		}
	})
	return p
}

// StdCache returns the directory in which platforms keep Go's compiled standard
// library. Platforms of root give it to their builder's user, so they cannot share the
// directory of tests that build without a platform.
func StdCache(t testing.TB) string {
	name := "gostd"
	if os.Getuid() == 0 {
		name = "gostd-roles"
	}
	return filepath.Join(Root(t), "out", "cache", name)
}

// Config writes a configuration for "colophond serve" with the given members. It adds
// the compiled standard library that all tests share, which saves each platform a
// minute at its first Go build. Config returns the path of the file.
func Config(t testing.TB, members map[string]any) string {
	t.Helper()
	c := map[string]any{"build": map[string]any{"stdCache": StdCache(t)}}
	maps.Copy(c, members)
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Up starts the platform on its data directory, and waits until it is ready.
func (p *Platform) Up() {
	p.T.Helper()
	if err := p.TryUp(await.Patience); err != nil {
		p.T.Fatalf("platform did not start: %v\n%s", err, p.Log)
	}
}

// TryUp is like Up, and returns an error if the platform does not start. The caller
// must call Kill in any case.
func (p *Platform) TryUp(within time.Duration) error {
	p.T.Helper()
	args := append([]string{"serve", "--data", p.Data, "--listen", p.Addr}, p.Args...)
	program := p.Program
	if program == "" {
		program = Bin(p.T, "colophond")
	}
	cmd := exec.Command(program, args...)
	cmd.Stderr = p.Log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if p.User != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(p.User), Gid: uint32(p.User)}
		cmd.Env = append(os.Environ(), "HOME="+cmp.Or(p.Home, "/"))
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	done, started, ready := make(chan error, 1), make(chan error, 1), make(chan string, 1)
	go func() {
		// The parent death signal comes when the forking thread ends, so keep this
		// thread for as long as the platform runs.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		line, _ := bufio.NewReader(out).ReadString('\n')
		ready <- line
		done <- cmd.Wait()
	}()
	if err := <-started; err != nil {
		return err
	}
	p.cmd, p.done = cmd, done
	select {
	case line := <-ready:
		if !strings.Contains(line, p.URL) {
			return fmt.Errorf("ready line %q", line)
		}
		return nil
	case <-time.After(within):
		return fmt.Errorf("not ready within %s", within)
	}
}

// Signal sends a signal to serve.
func (p *Platform) Signal(s os.Signal) {
	p.T.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.T.Fatal(err)
	}
}

// Kill sends SIGKILL and waits for the end of the process.
func (p *Platform) Kill() {
	if p.cmd == nil {
		return
	}
	p.cmd.Process.Kill()
	<-p.done
	p.cmd = nil
}

// Role returns the process id of a role ("attestor", "builder", …), or 0 if the role is
// not running.
func (p *Platform) Role(name string) (pid int) {
	p.T.Helper()
	out, err := exec.Command("ps", "-o", "pid=,args=", "--ppid", strconv.Itoa(p.cmd.Process.Pid)).Output()
	if err != nil {
		return 0 // no children
	}
	for line := range strings.SplitSeq(string(out), "\n") {
		if f := strings.Fields(line); len(f) == 3 && f[2] == name {
			pid, _ = strconv.Atoi(f[0])
		}
	}
	return pid
}

// These are the users of roles, minus that of the attestor, that run only while a build does.
const (
	gatewayUser = 6 - 2
	driverUser  = 8 - 2
)

// UserOf returns the user of a role.
func (p *Platform) UserOf(role string) int {
	p.T.Helper()
	switch role {
	case "gateway":
		return p.UserOf("attestor") + gatewayUser
	case "driver":
		return p.UserOf("attestor") + driverUser
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Role(role)))
	if err != nil {
		p.T.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "Uid:")
	uid, err := strconv.Atoi(strings.Fields(rest)[1])
	if err != nil {
		p.T.Fatal(err)
	}
	return uid
}

// As returns a client of one of the platform's sockets that connects as the user of a
// role. It needs root.
func (p *Platform) As(role, socket string) *http.Client {
	p.T.Helper()
	uid := p.UserOf(role)
	return &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return p.DialAs(uid, socket) }}}
}

// DialAs connects to one of the platform's sockets as a user. It needs root.
func (p *Platform) DialAs(uid int, socket string) (c net.Conn, err error) {
	dir, err := os.Open(filepath.Join(p.Data, "run"))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	info, err := dir.Stat()
	if err != nil {
		return nil, err
	}
	path, gid := fmt.Sprintf("/proc/self/fd/%d/%s.sock", dir.Fd(), socket), info.Sys().(*syscall.Stat_t).Gid
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlock the thread: it ends with its changed user
		const same = ^uintptr(0)
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESGID, same, uintptr(gid), same); errno != 0 {
			err = errno
			return
		}
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, same, uintptr(uid), same); errno != 0 {
			err = errno
			return
		}
		var fd int
		if fd, err = syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0); err != nil {
			return
		}
		f := os.NewFile(uintptr(fd), path)
		defer f.Close()
		if err = syscall.Connect(fd, &syscall.SockaddrUnix{Name: path}); err == nil {
			c, err = net.FileConn(f)
		}
	}()
	<-done
	return c, err
}

// Stop sends SIGTERM and waits for the end of the process.
func (p *Platform) Stop() error {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-p.done:
		p.cmd = nil
		return err
	case <-time.After(await.Patience):
		return fmt.Errorf("the platform did not stop within %s", await.Patience)
	}
}

// Wait waits for the end of the process, and returns how it ended.
func (p *Platform) Wait() error {
	select {
	case err := <-p.done:
		p.cmd = nil
		return err
	case <-time.After(await.Patience):
		return fmt.Errorf("the platform did not end within %s", await.Patience)
	}
}

// Env returns the environment for the CLI: it uses this platform, and a trust store of
// this test.
func (p *Platform) Env() []string {
	return append(os.Environ(),
		"COLOPHON_PLATFORM="+filepath.Join(p.Data, "client.json"),
		"COLOPHON_TRUST="+filepath.Join(p.Data, "..", "trust"),
		"NO_COLOR=1")
}

// Colophon prepares the CLI with the platform's environment.
func (p *Platform) Colophon(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, Bin(p.T, "colophon"), args...)
	cmd.Env = p.Env()
	return cmd
}

// Trust makes the CLI trust the platform.
func (p *Platform) Trust() {
	p.T.Helper()
	if out, err := p.Colophon(context.Background(), "trust", "add", p.URL, "--yes").CombinedOutput(); err != nil {
		p.T.Fatalf("trust add: %v\n%s", err, out)
	}
}

// Token returns the token in client.json (push) or admin.json.
func (p *Platform) Token(file string) string {
	p.T.Helper()
	data, err := os.ReadFile(filepath.Join(p.Data, file))
	if err != nil {
		p.T.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), `"token": "`)
	token, _, _ := strings.Cut(rest, `"`)
	return token
}

// Get fetches a path of the platform. It fails the test unless the status is 200.
func (p *Platform) Get(path string) []byte {
	p.T.Helper()
	resp, err := http.Get(p.URL + path)
	if err != nil {
		p.T.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		p.T.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		p.T.Fatalf("GET %s: %s: %s", path, resp.Status, b.String())
	}
	return b.Bytes()
}

// DockerConfig writes a docker config.json with the platform's token and
// returns its directory, for DOCKER_CONFIG of stock clients.
func (p *Platform) DockerConfig() string {
	p.T.Helper()
	dir := p.T.TempDir()
	cmd := exec.Command(Bin(p.T, "crane"), "auth", "login", p.Addr, "-u", "colophon", "--password-stdin")
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+dir)
	cmd.Stdin = strings.NewReader(p.Token("client.json"))
	if out, err := cmd.CombinedOutput(); err != nil {
		p.T.Fatalf("crane auth login: %v\n%s", err, out)
	}
	return dir
}

// GoRepo makes a git repository with a small Go main package and the annotated tag
// v1.0.0, and returns its directory.
func GoRepo(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "app")
	Write(t, dir, map[string]string{
		"go.mod":  "module example.com/app\n\ngo 1.26\n",
		"main.go": "package main\n\nfunc main() { println(\"hello\") }\n",
	})
	Commit(t, dir, "v1.0.0")
	return dir
}

// Commit makes dir a git repository with one commit of all its files, on the branch
// main and under an annotated tag.
func Commit(t testing.TB, dir, tag string) {
	t.Helper()
	gittest.Git(t, dir, "init", "-q", "-b", "main")
	gittest.Git(t, dir, "add", ".")
	gittest.Git(t, dir, "commit", "-q", "-m", "first")
	gittest.Git(t, dir, "tag", "-a", "-m", tag, tag)
}

// Write writes files below dir, by their slash-separated names.
func Write(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Log collects the output of a process. It is safe for concurrent use.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// BaseImages returns the OCI layout that "make base-images" builds.
func BaseImages(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(Root(t), "out", "base-images")
	if _, err := os.Stat(filepath.Join(dir, "index.json")); err != nil {
		t.Fatalf("no base images: run make base-images (%v)", err)
	}
	return dir
}

// CopyTree copies the directory from to the directory to.
func CopyTree(t testing.TB, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// Resident returns the memory of the platform's processes in MiB (smaps_rollup,
// proc(5)): pss counts shared pages once, and rss counts them in each process.
func (p *Platform) Resident() (pss, rss float64) {
	p.T.Helper()
	out, err := exec.Command("pgrep", "-P", strconv.Itoa(p.cmd.Process.Pid)).Output()
	if err != nil {
		p.T.Fatal(err)
	}
	for _, pid := range append(strings.Fields(string(out)), strconv.Itoa(p.cmd.Process.Pid)) {
		data, err := os.ReadFile("/proc/" + pid + "/smaps_rollup")
		if err != nil {
			p.T.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			f := strings.Fields(line)
			kib, err := strconv.ParseFloat(f[1], 64)
			switch {
			case err != nil:
			case f[0] == "Pss:":
				pss += kib / 1024
			case f[0] == "Rss:":
				rss += kib / 1024
			}
		}
	}
	return pss, rss
}
