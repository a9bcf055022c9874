package buildkit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/buildkit/client"

	"github.com/colophon-build/colophon/build"
	"github.com/colophon-build/colophon/build/gateway"
	"github.com/colophon-build/colophon/build/sandbox"
)

// daemon is one build's buildkitd with its room and its gateway.
type daemon struct {
	room    *sandbox.Room
	gateway *gateway.Gateway
	client  *client.Client
	out     *tail
}

// daemonConfig is buildkitd.toml (BuildKit docs/buildkitd.toml.md).
func (b *Builder) daemonConfig() string {
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
  binary = "/bin/runc"
  gc = false
`)
	if b.mirror != nil {
		for _, r := range slices.Sorted(slices.Values(b.mirror.Registries())) {
			fmt.Fprintf(&s, "[registry.%q]\n  mirrors = [ %q ]\n", r, sandbox.GatewayAddress)
		}
		fmt.Fprintf(&s, "[registry.%q]\n  http = true\n", sandbox.GatewayAddress)
	}
	return s.String()
}

// start opens a room with a buildkitd that answers.
func (b *Builder) start(ctx context.Context, limits build.Limits) (_ *daemon, err error) {
	d := &daemon{gateway: gateway.New(gateway.Config{Mirror: b.mirror, Allow: b.cfg.Allow})}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	d.out = follow(r)
	proxy := "http://" + sandbox.GatewayAddress
	d.room, err = sandbox.Open(sandbox.Config{
		Dir: b.cfg.StateDir, UIDBase: b.cfg.UIDBase, Limits: limits, Binds: b.binds, Stderr: w,
		Files: map[string][]byte{
			"/etc/buildkitd.toml": []byte(b.daemonConfig()),
			"/etc/ca.pem":         b.ca,
			"/etc/passwd":         []byte("root:x:0:0:root:/root:/sbin/nologin\n"),
			"/etc/group":          []byte("root:x:0:\n"),
			"/etc/hosts":          []byte("127.0.0.1 localhost\n"),
			// Names are resolved by the gateway; nothing in here may wait for an answer.
			"/etc/resolv.conf": []byte("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"),
		},
		Argv: []string{"/bin/buildkitd", "--config", "/etc/buildkitd.toml", "--rootless"},
		Env: []string{
			"PATH=/bin", "HOME=/root", "USER=root", "XDG_RUNTIME_DIR=/run", "TMPDIR=" + sandbox.StateTarget + "/tmp",
			"SSL_CERT_FILE=/etc/ca.pem", "HTTP_PROXY=" + proxy, "HTTPS_PROXY=" + proxy, "NO_PROXY=",
		},
	})
	w.Close()
	if err != nil {
		return nil, err
	}
	go d.gateway.Serve(d.room.Gateway)
	d.client, err = client.New(ctx, "", client.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return d.room.Dial(ctx)
	}))
	if err != nil {
		return nil, err
	}
	return d, d.ready(ctx)
}

// ready waits until buildkitd answers, or ends.
func (d *daemon) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		call, done := context.WithTimeout(ctx, 2*time.Second)
		_, err := d.client.ListWorkers(call)
		done()
		if err == nil {
			return nil
		}
		select {
		case <-d.room.Done():
			return fmt.Errorf("buildkitd ended at start: %s", d.out.text())
		case <-ctx.Done():
			return fmt.Errorf("buildkitd does not answer: %w: %s", err, d.out.text())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// explain turns a failed solve into what the caller can act on: a cancelled
// context, a limit or a failed step (both the recipe's), or a broken builder.
func (d *daemon) explain(ctx context.Context, tooLong error, p *progress, err error) error {
	step, cause := p.failure()
	switch {
	case ctx.Err() != nil && context.Cause(ctx) == tooLong:
		return &build.Error{Step: p.last(), Err: tooLong}
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	if limit := d.room.Exceeded(); limit != nil {
		return &build.Error{Step: step, Err: limit}
	}
	select {
	case <-d.room.Done():
		return fmt.Errorf("buildkitd ended during the build: %w: %s", err, d.out.text())
	default:
	}
	if strings.HasPrefix(step, "[internal] load metadata for ") {
		// BuildKit says "not found" of the mirror where the registry itself cannot be reached.
		cause += " (neither the platform's mirror nor the registry gave this base image)"
	}
	if cause != "" {
		return &build.Error{Step: step, Err: errors.New(cause)}
	}
	var local *build.LayoutError
	if errors.As(err, &local) {
		return err
	}
	return &build.Error{Err: err}
}

// close ends the daemon; nothing of it is left after.
func (d *daemon) close() error {
	if d.client != nil {
		d.client.Close()
	}
	var err error
	if d.room != nil {
		err = d.room.Close()
	}
	return errors.Join(err, d.gateway.Close())
}

// tail keeps the last bytes that buildkitd printed, for when it fails.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func follow(r *os.File) *tail {
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
