package buildkit

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/gateway"
	"github.com/colophon-build/colophon/platform/builder/sandbox"
)

// RoomsConfig describes Rooms. Buildkitd and StateDir are required.
type RoomsConfig struct {
	Buildkitd string         // path of buildkitd; linked statically
	Runtime   string         // OCI runtime of the steps: a path, or a name that is searched in PATH, such as crun; default runc
	StateDir  string         // directory of the rooms; NewRooms sweeps it. It needs overlayfs, and space for all running builds
	UIDBase   uint32         // first of the rooms' uids, as in sandbox.Config
	Limits    builder.Limits // maximum of one build; zero fields mean the default: 3/4 of the memory, 8192 processes, 1 h, and the defaults of sandbox.Config

	// Network is the setting of every gateway; its Session is ignored. An empty Roots
	// means the file that SSL_CERT_FILE names, or else Debian's CA bundle.
	Network gateway.Settings

	// Caches says whether sessions may keep their cache mounts.
	Caches CachesConfig

	// Setup describes the platform's own setup; it is added to the record.
	Setup map[string]string
	// Gateway starts the gateway of one room; nil starts it in this process.
	Gateway func(l net.Listener, s gateway.Settings) (Gateway, error) `json:"-"`
}

// Gateway is the running gateway of one room.
type Gateway interface {
	// CA returns the certificate, in PEM, of the CA that the room must trust.
	CA() []byte
	// End stops the gateway and returns the record of its traffic. It returns an error
	// if the record is incomplete.
	End() ([]builder.Exchange, error)
}

// Rooms is the trusted half of this builder. It opens rooms with a buildkitd for
// sessions that the attest zone began. Only the attest zone receives the record: the
// room's tools and settings, and the traffic of its gateway. Rooms is safe for
// concurrent use.
type Rooms struct {
	cfg    RoomsConfig
	ca     []byte
	mirror *gateway.Mirror
	digest string  // hex sha256 of the mirror's index
	caches *caches // nil if no cache mounts are kept

	programs builder.Programs
	versions sync.Map // digest of a program to its version, a string

	mu       sync.Mutex
	sessions map[string]*session
}

// session is one session; room is nil until it is opened.
type session struct {
	builder.Session
	began  time.Time
	limits builder.Limits
	room   *room
	ended  bool // it lives on until Keep, if its cache mounts may be kept
}

// Defaults of the limits of one build; docs/configuration.md lists them.
const (
	defaultPIDs     = 8192
	defaultWallTime = time.Hour
)

const (
	maxSessions = 1024           // sessions at a time; Begin refuses more
	sessionLife = 24 * time.Hour // sessions that nobody ended are dropped after this
)

// NewRooms checks the requirements of rooms and sweeps rooms that a crash left. The
// error matches sandbox.ErrUnsupported if this machine cannot open rooms.
func NewRooms(cfg RoomsConfig) (*Rooms, error) {
	if err := sandbox.Supported(); err != nil {
		return nil, err
	}
	if cfg.Buildkitd == "" || cfg.StateDir == "" {
		return nil, &builder.LackError{Err: fmt.Errorf("%w: there is no buildkitd", sandbox.ErrUnsupported), Hint: "put buildkitd beside colophond on the platform's host (make builder builds it), and start the platform again"}
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
	if r.cfg.Runtime, err = FindRuntime(cfg.Runtime); err != nil {
		return nil, err
	}
	if err := checkRuntime(r.cfg.Runtime); err != nil {
		return nil, fmt.Errorf("%w: %w", sandbox.ErrUnsupported, err)
	}
	if _, _, err := r.measure(); err != nil {
		return nil, err
	}
	if r.cfg.Network.Roots == "" {
		r.cfg.Network.Roots = "/etc/ssl/certs/ca-certificates.crt"
		if f := os.Getenv("SSL_CERT_FILE"); f != "" {
			r.cfg.Network.Roots = f
		}
	}
	if r.ca, err = os.ReadFile(r.cfg.Network.Roots); err != nil {
		return nil, &builder.LackError{Err: fmt.Errorf("reading the CA bundle of builds: %w", err), Hint: "install it on the platform's host (apt-get install ca-certificates), or name it with SSL_CERT_FILE, and start the platform again"}
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
	if cfg.Caches.Size > 0 {
		if r.caches, err = openCaches(cfg.Caches); err != nil {
			return nil, fmt.Errorf("kept cache mounts: %w", err)
		}
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
		l.PIDs = defaultPIDs
	}
	l.WallTime = wallTime(l.WallTime)
	return l, nil
}

func wallTime(d time.Duration) time.Duration {
	if d == 0 {
		return defaultWallTime
	}
	return d
}

// within returns the limits that a request asks for, reduced to those that are allowed.
func within(asked, allowed builder.Limits) builder.Limits {
	return builder.Limits{
		CPUs:     lower(asked.CPUs, allowed.CPUs),
		Memory:   lower(asked.Memory, allowed.Memory),
		PIDs:     lower(asked.PIDs, allowed.PIDs),
		Disk:     lower(asked.Disk, allowed.Disk),
		IO:       lower(asked.IO, allowed.IO),
		WallTime: lower(asked.WallTime, allowed.WallTime),
	}
}

// lower returns the smaller of two limits; zero means no limit.
func lower[T int64 | float64 | time.Duration](a, b T) T {
	if a <= 0 || b > 0 && b < a {
		return b
	}
	return a
}

// FindRuntime returns the path of the OCI runtime with this name; "": runc.
func FindRuntime(name string) (string, error) {
	path, err := exec.LookPath(cmp.Or(name, "runc"))
	if err != nil {
		return "", &builder.LackError{Err: fmt.Errorf("%w: the OCI runtime: %w", sandbox.ErrUnsupported, err), Hint: "install it on the platform's host (apt-get install runc), or name another one with build.runtime, and start the platform again"}
	}
	return path, nil
}

// runtime returns the path of the OCI runtime in the room.
func (r *Rooms) runtime() string { return "/bin/" + filepath.Base(r.cfg.Runtime) }

// Begin creates a session and returns its id. The builder learns only this id.
func (r *Rooms) Begin(_ context.Context, s builder.Session) (id string, err error) {
	if s.CacheMounts != nil && r.caches == nil {
		return "", errors.New("this platform keeps no cache mounts")
	}
	id = rand.Text()
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.sessions, func(_ string, s *session) bool {
		over := time.Since(s.began) > sessionLife && (s.room == nil || s.room.ended())
		if over {
			err = errors.Join(err, s.room.drop())
		}
		return over
	})
	if err != nil {
		return "", err
	}
	if len(r.sessions) >= maxSessions {
		return "", fmt.Errorf("the limit of %d open sessions is reached", maxSessions)
	}
	r.sessions[id] = &session{Session: s, began: time.Now()}
	return id, nil
}

// End ends a session, and its room if that still runs, and returns the session's
// record. It returns an error if the session never had a room.
func (r *Rooms) End(_ context.Context, id string) (*builder.Record, error) {
	r.mu.Lock()
	s := r.sessions[id]
	if s == nil || s.ended {
		r.mu.Unlock()
		return nil, errNoSession
	}
	s.ended = true
	if s.room == nil || s.CacheMounts == nil {
		delete(r.sessions, id)
	}
	r.mu.Unlock()
	if s.room == nil {
		return nil, errors.New("no room was opened in the session")
	}
	exchanges, err := s.room.end()
	if err != nil {
		r.mu.Lock()
		delete(r.sessions, id)
		r.mu.Unlock()
		return nil, errors.Join(fmt.Errorf("reading the gateway's record: %w", err), s.room.drop())
	}
	return &builder.Record{Tools: s.room.tools, Config: r.describe(s), Exchanges: exchanges}, nil
}

// Keep decides what becomes of the cache mounts of an ended session: if keep is set, the
// next session of the same scope gets them. A session without CacheScope has none.
func (r *Rooms) Keep(_ context.Context, id string, keep bool) error {
	r.mu.Lock()
	s := r.sessions[id]
	if s == nil || !s.ended {
		r.mu.Unlock()
		return errNoSession
	}
	delete(r.sessions, id)
	r.mu.Unlock()
	if keep {
		return s.room.loan.keep()
	}
	return s.room.drop()
}

var errNoSession = errors.New("no such session")

// Open implements Opener. It returns an error if the session already had a room.
func (r *Rooms) Open(_ context.Context, id string, asked builder.Limits) (Room, error) {
	limits := within(asked, r.cfg.Limits)
	r.mu.Lock()
	s := r.sessions[id]
	switch {
	case s == nil || s.ended:
		r.mu.Unlock()
		return nil, errNoSession
	case s.room != nil:
		r.mu.Unlock()
		return nil, errors.New("the session already had its room")
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

// describe returns the settings of the session's room and daemon.
func (r *Rooms) describe(s *session) map[string]string {
	m := s.room.sandbox.Describe()
	m["network"] = "gateway"
	isolation := attest.Isolation{Reach: r.cfg.Network.Reach(), CacheMounts: attest.EmptyCacheMounts}
	if s.room.loan != nil {
		isolation.CacheMounts = attest.KeptCacheMounts
		s.room.loan.describe(m)
	}
	maps.Copy(m, isolation.Parameters())
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

// measure returns the programs of a room, and what it must see to run them. Each room measures them before
// it opens: the host's packages may be upgraded while the platform runs.
func (r *Rooms) measure() (tools []attest.ResourceDescriptor, binds []sandbox.Bind, err error) {
	for _, t := range []struct{ name, source, target string }{
		{"buildkitd", r.cfg.Buildkitd, "/bin/buildkitd"},
		{filepath.Base(r.cfg.Runtime), r.cfg.Runtime, r.runtime()},
	} {
		needed, err := sandbox.Program(t.source, t.target)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", sandbox.ErrUnsupported, err)
		}
		binds = append(binds, needed...)
		d, err := r.describeProgram(t.name, t.source)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %s: %w", sandbox.ErrUnsupported, t.name, err)
		}
		tools = append(tools, d)
	}
	return tools, binds, nil
}

// describeProgram describes a program by its digest and version.
func (r *Rooms) describeProgram(name, path string) (attest.ResourceDescriptor, error) {
	digest, err := r.programs.Digest(path)
	if err != nil {
		return attest.ResourceDescriptor{}, err
	}
	version, known := r.versions.Load(digest)
	if !known {
		if version, err = versionOf(name, path); err != nil {
			return attest.ResourceDescriptor{}, err
		}
		r.versions.Store(digest, version)
	}
	return attest.ResourceDescriptor{
		Name:        name,
		Digest:      map[string]string{"sha256": digest},
		Annotations: map[string]any{"version": version},
	}, nil
}

// versionOf asks a program for its version.
func versionOf(name, path string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", path, err)
	}
	// The build info of a Go program is more reliable than the version that it prints,
	// which the linker may or may not have set.
	if info, err := buildinfo.ReadFile(path); err == nil && info.Main.Version != "" && strings.HasSuffix(info.Path, "/cmd/"+name) {
		return info.Main.Path + " " + info.Main.Version, nil
	}
	line, _, _ := bytes.Cut(out, []byte("\n"))
	return string(line), nil
}

// checkRuntime returns an error if an OCI runtime lacks run --keep, which leaves a
// container in place when its program has ended. BuildKit uses it; with an older
// runtime the first step would fail.
func checkRuntime(runtime string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	// Ignore the exit status: some runtimes print their help but exit with an error.
	out, _ := exec.CommandContext(ctx, runtime, "run", "--help").CombinedOutput()
	if !bytes.Contains(out, []byte("-keep")) {
		return fmt.Errorf("the OCI runtime %s has no run --keep, which BuildKit needs (install a newer version)", runtime)
	}
	return nil
}

func hexSum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}
