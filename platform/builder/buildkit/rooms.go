package buildkit

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/gateway"
	"github.com/colophon-build/colophon/platform/builder/sandbox"
)

// RoomsConfig of Rooms. Buildkitd and StateDir are required.
type RoomsConfig struct {
	Buildkitd string         // path of buildkitd; linked statically
	Runtime   string         // OCI runtime of the steps: a name that is searched in PATH, such as crun, or a path; default runc
	StateDir  string         // rooms of builds in flight; swept by NewRooms. Needs the space of the largest build, and overlayfs
	UIDBase   uint32         // first of the uids that rooms take; default 100000
	Limits    builder.Limits // most that one build may use; zero fields are the default: 3/4 of the memory, 8192 processes, 1 h, and what sandbox.Config says

	// Network is what every gateway gets, but for its session. Roots is
	// SSL_CERT_FILE where it is empty, and else Debian's.
	Network gateway.Settings

	// Setup is what the platform knows of itself, for the record.
	Setup map[string]string
	// Gateway starts the way out of one room; nil starts it in this process.
	Gateway func(l net.Listener, s gateway.Settings) (Gateway, error) `json:"-"`
}

// Gateway is the way out of one room, and what went through it.
type Gateway interface {
	// CA is the certificate, in PEM, that the room is to believe.
	CA() []byte
	// End lets nothing more through and returns what passed; an error where that is not known in full.
	End() ([]builder.Exchange, error)
}

// Rooms is the trusted half of this builder: it opens rooms with a buildkitd in
// them for sessions that the attest zone began, and tells that zone alone what
// the room was made of and what passed its gateway. Safe for concurrent use.
type Rooms struct {
	cfg    RoomsConfig
	tools  []attest.ResourceDescriptor
	binds  []sandbox.Bind
	ca     []byte
	mirror *gateway.Mirror
	digest string // of the mirror's index

	mu       sync.Mutex
	sessions map[string]*session
}

// session is one session and its room, once that is opened.
type session struct {
	builder.Session
	began  time.Time
	limits builder.Limits
	room   *room
}

// Sessions that nobody ended are dropped after a day; more at a time are refused.
const (
	maxSessions = 1024
	sessionLife = 24 * time.Hour
)

// NewRooms checks what rooms need and sweeps those that a crash left. The error
// matches sandbox.ErrUnsupported where this machine cannot open rooms.
func NewRooms(cfg RoomsConfig) (*Rooms, error) {
	if err := sandbox.Supported(); err != nil {
		return nil, err
	}
	if cfg.Buildkitd == "" || cfg.StateDir == "" {
		return nil, fmt.Errorf("%w: no path of buildkitd or no directory for rooms is set (build it with: make build)", sandbox.ErrUnsupported)
	}
	r := &Rooms{cfg: cfg, sessions: map[string]*session{}}
	var err error
	for _, p := range []*string{&r.cfg.StateDir, &r.cfg.Buildkitd, &r.cfg.Network.Mirror} {
		if *p != "" {
			if *p, err = filepath.Abs(*p); err != nil {
				return nil, err
			}
		}
	}
	if cfg.Runtime == "" {
		r.cfg.Runtime = "runc"
	}
	if r.cfg.Runtime, err = exec.LookPath(r.cfg.Runtime); err != nil {
		return nil, fmt.Errorf("%w: the OCI runtime: %w (apt-get install runc, or use the golang builder)", sandbox.ErrUnsupported, err)
	}
	if err := keeps(r.cfg.Runtime); err != nil {
		return nil, fmt.Errorf("%w: %w", sandbox.ErrUnsupported, err)
	}
	for _, t := range []struct{ name, source, target string }{
		{"buildkitd", r.cfg.Buildkitd, "/bin/buildkitd"},
		{filepath.Base(r.cfg.Runtime), r.cfg.Runtime, r.runtime()},
	} {
		d, err := describe(t.name, t.source)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", sandbox.ErrUnsupported, t.name, err)
		}
		r.tools = append(r.tools, d)
		binds, err := sandbox.Program(t.source, t.target)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", sandbox.ErrUnsupported, err)
		}
		r.binds = append(r.binds, binds...)
	}
	if r.cfg.Network.Roots == "" {
		r.cfg.Network.Roots = "/etc/ssl/certs/ca-certificates.crt"
		if f := os.Getenv("SSL_CERT_FILE"); f != "" {
			r.cfg.Network.Roots = f
		}
	}
	if r.ca, err = os.ReadFile(r.cfg.Network.Roots); err != nil {
		return nil, fmt.Errorf("the CA bundle of builds: %w", err)
	}
	if cfg.Network.Mirror != "" {
		if r.mirror, err = gateway.OpenMirror(r.cfg.Network.Mirror); err != nil {
			return nil, fmt.Errorf("mirror: %w", err)
		}
		if r.digest, err = builder.FileDigest(filepath.Join(r.cfg.Network.Mirror, "index.json")); err != nil {
			return nil, err
		}
	}
	if r.cfg.Limits, err = withDefaults(cfg.Limits); err != nil {
		return nil, err
	}
	return r, sandbox.Sweep(r.cfg.StateDir)
}

func withDefaults(l builder.Limits) (builder.Limits, error) {
	if l.Memory == 0 {
		var info unix.Sysinfo_t
		if err := unix.Sysinfo(&info); err != nil {
			return l, err
		}
		l.Memory = int64(info.Totalram) * int64(info.Unit) / 4 * 3 / 4096 * 4096
	}
	if l.PIDs == 0 {
		l.PIDs = 8192
	}
	l.WallTime = wallTime(l.WallTime)
	return l, nil
}

func wallTime(d time.Duration) time.Duration {
	if d == 0 {
		return time.Hour
	}
	return d
}

// within is what a request asks for, at most what the builder allows.
func within(ask, most builder.Limits) builder.Limits {
	return builder.Limits{
		CPUs:     lower(ask.CPUs, most.CPUs),
		Memory:   lower(ask.Memory, most.Memory),
		PIDs:     lower(ask.PIDs, most.PIDs),
		Disk:     lower(ask.Disk, most.Disk),
		IO:       lower(ask.IO, most.IO),
		WallTime: lower(ask.WallTime, most.WallTime),
	}
}

// lower is the smaller of two bounds, where zero is none.
func lower[T int64 | float64 | time.Duration](a, b T) T {
	if a <= 0 || b > 0 && b < a {
		return b
	}
	return a
}

// runtime is where the room has its OCI runtime.
func (r *Rooms) runtime() string { return "/bin/" + filepath.Base(r.cfg.Runtime) }

// Begin makes a session and returns its id, which is all that the builder gets
// to know of it.
func (r *Rooms) Begin(_ context.Context, s builder.Session) (id string, err error) {
	id = rand.Text()
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.sessions, func(_ string, s *session) bool {
		return time.Since(s.began) > sessionLife && (s.room == nil || s.room.ended())
	})
	if len(r.sessions) >= maxSessions {
		return "", fmt.Errorf("more than %d sessions have not been ended", maxSessions)
	}
	r.sessions[id] = &session{Session: s, began: time.Now()}
	return id, nil
}

// End ends a session, with its room if that still runs, and returns what is
// known of it. A session that never had a room has no record: that is an error.
func (r *Rooms) End(_ context.Context, id string) (*builder.Record, error) {
	r.mu.Lock()
	s := r.sessions[id]
	delete(r.sessions, id)
	r.mu.Unlock()
	if s == nil {
		return nil, errNoSession
	}
	if s.room == nil {
		return nil, errors.New("no room was opened in the session")
	}
	exchanges, err := s.room.end()
	if err != nil {
		return nil, fmt.Errorf("the gateway's record: %w", err)
	}
	return &builder.Record{Tools: r.tools, Config: r.describe(s), Exchanges: exchanges}, nil
}

var errNoSession = errors.New("no such session")

// Open implements Opener. A session has one room.
func (r *Rooms) Open(_ context.Context, id string, ask builder.Limits) (Room, error) {
	limits := within(ask, r.cfg.Limits)
	r.mu.Lock()
	s := r.sessions[id]
	switch {
	case s == nil:
		r.mu.Unlock()
		return nil, errNoSession
	case s.room != nil:
		r.mu.Unlock()
		return nil, errors.New("the session has had its room")
	}
	room := &room{opened: make(chan struct{})}
	s.room, s.limits = room, limits
	r.mu.Unlock()
	if err := room.open(r, s.Session, limits); err != nil {
		room.end()
		return nil, err
	}
	return room, nil
}

// room is one build's buildkitd with its namespaces and its gateway.
type room struct {
	opened  chan struct{} // closed when opening has succeeded or failed
	sandbox *sandbox.Room // nil where it failed
	gateway Gateway       // nil where it was never started
	out     *tail
	timer   *time.Timer

	once      sync.Once
	exchanges []builder.Exchange
	err       error
}

func (m *room) open(r *Rooms, s builder.Session, limits builder.Limits) (err error) {
	defer close(m.opened)
	out, w, err := os.Pipe()
	if err != nil {
		return err
	}
	m.out = follow(out)
	proxy := "http://" + sandbox.GatewayAddress
	m.sandbox, err = sandbox.Open(sandbox.Config{
		Dir: r.cfg.StateDir, UIDBase: r.cfg.UIDBase, Limits: limits, Binds: r.binds, Stderr: w,
		Files: map[string][]byte{
			"/etc/buildkitd.toml": []byte(r.daemonConfig()),
			"/etc/passwd":         []byte("root:x:0:0:root:/root:/sbin/nologin\n"),
			"/etc/group":          []byte("root:x:0:\n"),
			"/etc/hosts":          []byte("127.0.0.1 localhost\n"),
			// Names are resolved by the gateway; nothing in here may wait for an answer.
			"/etc/resolv.conf": []byte("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"),
		},
		Network: func(l net.Listener) (map[string][]byte, error) {
			if m.gateway, err = r.startGateway(l, s); err != nil {
				return nil, err
			}
			return map[string][]byte{"/etc/ca.pem": m.gateway.CA()}, nil
		},
		Argv: []string{"/bin/buildkitd", "--config", "/etc/buildkitd.toml", "--rootless"},
		Env: []string{
			"PATH=/bin", "HOME=/root", "USER=root", "XDG_RUNTIME_DIR=/run", "TMPDIR=" + sandbox.StateTarget + "/tmp",
			"SSL_CERT_FILE=/etc/ca.pem", "HTTP_PROXY=" + proxy, "HTTPS_PROXY=" + proxy, "NO_PROXY=",
		},
	})
	w.Close()
	if err != nil {
		return err
	}
	// The builder ends a build that takes too long, and says so. This is for a builder that does not.
	m.timer = time.AfterFunc(limits.WallTime+time.Minute, m.sandbox.Kill)
	return nil
}

// Dial implements Room.
func (m *room) Dial(ctx context.Context) (net.Conn, error) { return m.sandbox.Dial(ctx) }

// Done implements Room.
func (m *room) Done() <-chan struct{} { return m.sandbox.Done() }

// State implements Room.
func (m *room) State(context.Context) State {
	st := State{Said: m.out.text()}
	select {
	case <-m.sandbox.Done():
		st.Ended = true
	default:
	}
	if err := m.sandbox.Exceeded(); err != nil {
		st.Exceeded = err.Error()
	}
	return st
}

// Close implements Room.
func (m *room) Close() error {
	m.timer.Stop()
	_, err := m.end()
	return errors.Join(err, m.sandbox.Close())
}

func (m *room) ended() bool {
	select {
	case <-m.opened:
		return m.sandbox == nil || m.State(context.Background()).Ended
	default:
		return false
	}
}

// end stops whatever runs and returns what passed the gateway.
func (m *room) end() ([]builder.Exchange, error) {
	<-m.opened
	m.once.Do(func() {
		if m.sandbox != nil {
			m.sandbox.Kill()
		}
		if m.gateway != nil {
			m.exchanges, m.err = m.gateway.End()
		}
		if m.sandbox == nil {
			m.err = errors.New("the room was never opened")
		}
	})
	return m.exchanges, m.err
}

// daemonConfig is buildkitd.toml (BuildKit docs/buildkitd.toml.md).
func (r *Rooms) daemonConfig() string {
	var s strings.Builder
	s.WriteString(`root = "` + sandbox.StateTarget + `/buildkit"
insecure-entitlements = []
proxyNetwork = true
[grpc]
  address = [ "fd://" ]
[otel]
  socketPath = "/run/otel.sock"
[cdi]
  disabled = true
[history]
  maxEntries = 1
[worker.containerd]
  enabled = false
[worker.oci]
  enabled = true
  rootless = true
  snapshotter = "overlayfs"
  gc = false
`)
	fmt.Fprintf(&s, "  binary = %q\n", r.runtime())
	if r.mirror != nil {
		for _, name := range slices.Sorted(slices.Values(r.mirror.Registries())) {
			fmt.Fprintf(&s, "[registry.%q]\n  mirrors = [ %q ]\n", name, sandbox.GatewayAddress)
		}
		fmt.Fprintf(&s, "[registry.%q]\n  http = true\n", sandbox.GatewayAddress)
	}
	return s.String()
}

// describe is the room and the daemon as they were set up.
func (r *Rooms) describe(s *session) map[string]string {
	m := s.room.sandbox.Describe()
	m["network"] = "gateway"
	m["daemonConfig"] = "sha256:" + hexSum([]byte(r.daemonConfig()))
	m["caBundle"] = "sha256:" + hexSum(r.ca)
	m["limits.wallTime"] = s.limits.WallTime.String()
	if r.digest != "" {
		m["mirror"] = "sha256:" + r.digest
	}
	policy := r.cfg.Network
	policy.Session, policy.Mirror, policy.Store, policy.Roots = builder.Session{}, "", "", ""
	if raw, err := json.Marshal(policy); err == nil {
		m["network.policy"] = string(raw)
	}
	maps.Copy(m, r.cfg.Setup)
	return m
}

// startGateway starts the gateway of one room.
func (r *Rooms) startGateway(l net.Listener, s builder.Session) (Gateway, error) {
	settings := r.cfg.Network
	settings.Session = s
	if r.cfg.Gateway != nil {
		return r.cfg.Gateway(l, settings)
	}
	g, err := gateway.New(settings)
	if err != nil {
		return nil, err
	}
	go g.Serve(l)
	return g, nil
}

// tail keeps the last bytes that buildkitd printed, for when it fails.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func follow(r io.ReadCloser) *tail {
	t := &tail{}
	go func() {
		defer r.Close()
		buf := make([]byte, 8192)
		for {
			n, err := r.Read(buf)
			t.mu.Lock()
			t.buf = append(t.buf, buf[:n]...)
			if extra := len(t.buf) - 4096; extra > 0 {
				t.buf = append(t.buf[:0], t.buf[extra:]...)
			}
			t.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return t
}

func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.buf))
}

// describe names a program by what it is, not by where it lies.
func describe(name, path string) (attest.ResourceDescriptor, error) {
	digest, err := builder.FileDigest(path)
	if err != nil {
		return attest.ResourceDescriptor{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return attest.ResourceDescriptor{}, fmt.Errorf("%s --version: %w", path, err)
	}
	line, _, _ := bytes.Cut(out, []byte("\n"))
	version := string(line)
	// A Go program that was built as a module knows better than a version that
	// the linker was to set.
	if info, err := buildinfo.ReadFile(path); err == nil && info.Main.Version != "" && strings.HasSuffix(info.Path, "/cmd/"+name) {
		version = info.Main.Path + " " + info.Main.Version
	}
	return attest.ResourceDescriptor{
		Name:        name,
		Digest:      map[string]string{"sha256": digest},
		Annotations: map[string]any{"version": version},
	}, nil
}

// keeps checks that a runtime leaves a container in place when its program has
// ended, as BuildKit has it do; older ones fail at the first step.
func keeps(runtime string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	// How it ends says nothing: some have no help without a container.
	out, _ := exec.CommandContext(ctx, runtime, "run", "--help").CombinedOutput()
	if !bytes.Contains(out, []byte("-keep")) {
		return fmt.Errorf("the OCI runtime %s has no run --keep, which BuildKit needs: take a newer one", runtime)
	}
	return nil
}

func hexSum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}
