package golang

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/colophon-build/colophon/platform/builder"
)

const (
	roomPrefix = "golang-"
	roomArg0   = "colophon-golang-room" // argv[0] of the process inside the room
)

// goFlags and goLDFlags are all flags of `go build`; the rest is in its environment.
var goFlags = []string{"-trimpath", "-buildvcs=false"}

const goLDFlags = "-buildid="

// order is the parent's message to the process inside the room, on its standard input.
type order struct {
	Root  string   `json:"root,omitempty"` // directory that becomes /; empty: keep the host's root
	Binds []bind   `json:"binds,omitempty"`
	Cache *overlay `json:"cache,omitempty"` // mounted over the empty build cache
	Job   job      `json:"job"`
}

type bind struct {
	From  string `json:"from"`
	To    string `json:"to"`
	Write bool   `json:"write,omitempty"`
}

// message is one line on the standard output of the process inside the room.
type message struct {
	Event *builder.Event `json:"event,omitempty"`
	Done  bool           `json:"done,omitempty"`
	Error string         `json:"error,omitempty"` // the builder failed
	Fail  string         `json:"fail,omitempty"`  // the recipe failed, at Step
	Step  string         `json:"step,omitempty"`
}

// room is one build's directory and process.
type room struct {
	dir   string
	env   []string
	order order
}

// open creates the room's directory and prepares its order. The toolchain sees only
// fixed paths. The build cache starts from the directories in std, if any.
func (b *Builder) open(r builder.Request, j *job, l builder.Limits, std []string) (_ *room, err error) {
	dir, err := os.MkdirTemp(b.cfg.Dir, roomPrefix)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	work, modules := filepath.Join(dir, "work"), b.cfg.ModuleCache
	if modules == "" {
		modules = filepath.Join(dir, "modules")
	}
	for _, d := range []string{"work", "work/tmp", "work/cache", "work/cache-own", "work/overlay", "work/ko", "work/gopath", "modules", "root"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			return nil, err
		}
	}
	paths := map[string]string{"tree": filepath.Join(r.Tree, j.Context), "layout": r.Layout}
	for name, p := range paths {
		if paths[name], err = filepath.Abs(p); err != nil {
			return nil, err
		}
	}
	ro := &room{dir: dir, order: order{Job: *j}}
	in := &ro.order.Job
	in.Tree, in.Layout, in.Goroot, in.Memory = paths["tree"], paths["layout"], b.goroot, l.Memory
	bundle := b.cfg.CABundle
	if !b.unconfined {
		ro.order.Root = filepath.Join(dir, "root")
		ro.order.Binds = []bind{
			{From: in.Tree, To: "/src"},
			{From: in.Goroot, To: "/usr/local/go"},
			{From: in.Layout, To: "/layout", Write: true},
			{From: work, To: "/build", Write: true},
			{From: modules, To: "/modules", Write: true},
			{From: "/dev/null", To: "/dev/null", Write: true},
			{From: "/dev/urandom", To: "/dev/urandom"},
		}
		for _, f := range []string{"/etc/resolv.conf", "/etc/hosts"} {
			if real, err := filepath.EvalSymlinks(f); err == nil {
				ro.order.Binds = append(ro.order.Binds, bind{From: real, To: f})
			}
		}
		if real, err := filepath.EvalSymlinks(bundle); bundle != "" && err == nil {
			bundle = "/etc/ssl/certs/ca-certificates.crt"
			ro.order.Binds = append(ro.order.Binds, bind{From: real, To: bundle})
		}
		if len(std) > 0 {
			ro.order.Cache = &overlay{Lower: std, Upper: filepath.Join(work, "cache-own"), Work: filepath.Join(work, "overlay"), To: "/build/cache"}
		}
		in.Tree, in.Layout, in.Goroot = "/src", "/layout", "/usr/local/go"
		work, modules = "/build", "/modules"
	}
	in.Binaries = filepath.Join(work, "ko", "bin")
	ro.env = environment(in, work, modules, bundle, b.cfg.Proxy, cpus(l))
	return ro, nil
}

// environment returns the whole environment of the toolchain. It inherits nothing, and
// makes the toolchain ignore the settings of the user and of the tree.
func environment(j *job, work, modules, bundle, proxy string, cpus int) []string {
	env := []string{
		"PATH=" + filepath.Join(j.Goroot, "bin"),
		"HOME=" + work,
		"TMPDIR=" + filepath.Join(work, "tmp"),
		"TZ=UTC",
		"LC_ALL=C",
		"SOURCE_DATE_EPOCH=" + strconv.FormatInt(j.Epoch, 10),
		"CGO_ENABLED=0",
		"GO111MODULE=on",
		"GOCACHE=" + filepath.Join(work, "cache"),
		"GOENV=off",
		"GOFLAGS=-modcacherw", // makes a module cache in the room erasable; overrides the toolchain's go.env
		"GOMAXPROCS=" + strconv.Itoa(cpus),
		"GOMODCACHE=" + modules,
		"GOPACKAGESDRIVER=off",
		"GOPROXY=" + proxy,
		"GOPATH=" + filepath.Join(work, "gopath"),
		"GOROOT=" + j.Goroot,
		"GOTELEMETRY=off",
		"GOTOOLCHAIN=local",
		"GOVCS=*:off",
		"GOWORK=" + goWork(j),
		"KOCACHE=" + filepath.Join(work, "ko"), // ko leaves the binaries there, for dependencies
		"KO_GO_PATH=" + filepath.Join(j.Goroot, "bin", "go"),
	}
	if bundle != "" {
		env = append(env, "SSL_CERT_FILE="+bundle)
	}
	return env
}

// goWork returns GOWORK: the workspace of the package, whose path in the room is fixed.
func goWork(j *job) string {
	if j.Work == "" {
		return "off"
	}
	return filepath.Join(j.Tree, j.Work)
}

// binaries returns the directory where ko keeps the binaries that it compiled.
func (r *room) binaries() string { return filepath.Join(r.dir, "work", "ko", "bin") }

// run starts the process inside the room and returns when it and all its children have
// ended.
func (r *room) run(ctx context.Context, logf func(builder.Event)) error {
	input, err := json.Marshal(r.order)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{roomArg0}
	cmd.Env = r.env
	cmd.Stdin = bytes.NewReader(input)
	stderr := &tail{max: 16 << 10}
	cmd.Stderr = stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if r.order.Root != "" {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID |
			syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}

	// The kernel sends Pdeathsig when the thread that forked ends, so keep the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		if r.order.Root != "" {
			return fmt.Errorf("opening a room of user namespaces: %w (this host must allow them to users)", err)
		}
		return err
	}
	last, readErr := readMessages(out, logf)
	// Kill processes of the group that are still running after their leader.
	killErr := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	if errors.Is(killErr, syscall.ESRCH) {
		killErr = nil
	}
	waitErr := cmd.Wait()
	switch {
	case last.Fail != "":
		return &builder.Error{Step: last.Step, Err: errors.New(last.Fail)}
	case last.Error != "":
		return errors.New(last.Error)
	case last.Done:
		return errors.Join(readErr, killErr)
	}
	return fmt.Errorf("the room ended without a result: %w: %s", errors.Join(waitErr, readErr), strings.TrimSpace(stderr.String()))
}

// readMessages passes events to logf. It returns the first message that is not an
// event; the zero message if there is none.
func readMessages(r io.Reader, logf func(builder.Event)) (last message, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var m message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return message{}, fmt.Errorf("message from the room: %w", err)
		}
		if m.Event != nil {
			if logf != nil {
				logf(*m.Event)
			}
			continue
		}
		return m, nil
	}
	return message{}, lines.Err()
}

// tail keeps the last max bytes written.
type tail struct {
	bytes.Buffer
	max int
}

func (t *tail) Write(p []byte) (int, error) {
	t.Buffer.Write(p)
	if over := t.Len() - t.max; over > 0 {
		t.Next(over)
	}
	return len(p), nil
}

// systemBundle returns the path of this system's CA bundle; "" if it is not found.
func systemBundle() string {
	for _, f := range []string{
		os.Getenv("SSL_CERT_FILE"),
		"/etc/ssl/certs/ca-certificates.crt",
		"/etc/pki/tls/certs/ca-bundle.crt",
		"/etc/ssl/ca-bundle.pem",
		"/etc/ssl/cert.pem",
	} {
		if f != "" {
			if _, err := os.Stat(f); err == nil {
				return f
			}
		}
	}
	return ""
}
