package buildkit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/gateway"
	"github.com/colophon-build/colophon/platform/builder/sandbox"
)

// room is one build's buildkitd with its namespaces and its gateway.
type room struct {
	opened  chan struct{} // closed when opening has succeeded or failed
	tools   []attest.ResourceDescriptor
	binds   []sandbox.Bind // of the tools
	sandbox *sandbox.Room  // nil if opening failed
	gateway Gateway        // nil if it was never started
	out     *tail
	timer   *time.Timer
	loan    *loan // nil if the session keeps no cache mounts

	once      sync.Once
	exchanges []builder.Exchange
	err       error
}

func (m *room) open(r *Rooms, s builder.Session, limits builder.Limits) (err error) {
	defer close(m.opened)
	defer func() {
		if err == nil || m.sandbox == nil {
			return
		}
		m.timer.Stop()
		err = errors.Join(err, m.sandbox.Close())
		m.sandbox = nil // nothing may be recorded of a room that did not open
	}()
	if m.tools, m.binds, err = r.measure(); err != nil {
		return err
	}
	if err := m.startWith(r, s, limits); err != nil {
		return err
	}
	now, _, err := r.measure()
	if err == nil && reflect.DeepEqual(now, m.tools) {
		return nil
	}
	return errors.Join(errors.New("buildkitd or the OCI runtime changed while the room opened"), err)
}

// startWith starts the room's program, on the cache mounts that the session keeps.
func (m *room) startWith(r *Rooms, s builder.Session, limits builder.Limits) (err error) {
	if s.CacheMounts == nil {
		return m.start(r, s, limits, nil)
	}
	if m.loan, err = r.caches.lend(*s.CacheMounts, m.tools); err != nil {
		return fmt.Errorf("kept cache mounts: %w", err)
	}
	if m.loan.file == nil {
		return m.start(r, s, limits, nil)
	}
	defer m.loan.file.Close()
	if err := m.start(r, s, limits, m.loan.state); err == nil {
		return nil
	}
	// What a build left may not fit the next room. That must not end all builds of the scope.
	if m.gateway != nil {
		m.gateway.End()
		m.gateway = nil
	}
	if err := m.start(r, s, limits, nil); err != nil {
		return err
	}
	return m.loan.empty()
}

// start starts the room's program, on what an earlier room left if state is not nil.
func (m *room) start(r *Rooms, s builder.Session, limits builder.Limits, state io.Reader) error {
	out, w, err := os.Pipe()
	if err != nil {
		return err
	}
	m.out = follow(out)
	proxy := "http://" + sandbox.GatewayAddress
	m.sandbox, err = sandbox.Open(sandbox.Config{
		Dir: r.cfg.StateDir, UIDBase: r.cfg.UIDBase, Limits: limits, Binds: m.binds, Stderr: w, State: state,
		Files: map[string][]byte{
			"/etc/buildkitd.toml": []byte(r.daemonConfig()),
			"/etc/passwd":         []byte("root:x:0:0:root:/root:/sbin/nologin\n"),
			"/etc/group":          []byte("root:x:0:\n"),
			"/etc/hosts":          []byte("127.0.0.1 localhost\n"),
			// The gateway resolves names. Programs in the room that try it themselves must
			// fail fast.
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
	// The builder ends a build that takes too long and reports it. This timer ends the
	// room if the builder does not.
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

// Pack implements Room.
func (m *room) Pack(ctx context.Context) error {
	if m.loan == nil {
		return errors.New("the session keeps no cache mounts")
	}
	return m.loan.pack(ctx, m.sandbox)
}

// drop removes what the room packed.
func (m *room) drop() error {
	if m == nil || m.loan == nil {
		return nil
	}
	return m.loan.drop()
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

// end stops the room's processes and its gateway, and returns the gateway's record.
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

// daemonConfig returns buildkitd.toml (BuildKit docs/buildkitd.toml.md).
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
	var served []string // registries whose images the gateway serves
	if r.mirror != nil {
		served = r.mirror.Registries()
	}
	if u, err := url.Parse(r.cfg.Network.Registry); err == nil && u.Host != "" {
		served = append(served, u.Host)
	}
	slices.Sort(served)
	for _, name := range slices.Compact(served) {
		fmt.Fprintf(&s, "[registry.%q]\n  mirrors = [ %q ]\n", name, sandbox.GatewayAddress)
	}
	if len(served) > 0 {
		fmt.Fprintf(&s, "[registry.%q]\n  http = true\n", sandbox.GatewayAddress)
	}
	return s.String()
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

// tail keeps the last bytes of buildkitd's output for error texts.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

// follow reads r to its end in the background.
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
