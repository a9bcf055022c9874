// Package buildkit builds Dockerfiles: a fresh buildkitd in a sealed room for
// each build, driven through BuildKit's Go client, with BuildKit's proxy network
// on so that every URL a step fetches is recorded. It implements build.Builder;
// the build type is defined in spec/buildkit/v1.
//
// The layout that comes out holds the image manifest for one platform and an
// image index for more than one, as BuildKit gives it without attestations. The
// same commit gives the same digest: timestamps are rewritten to
// SOURCE_DATE_EPOCH, files of the tree get that time and one of two modes, and
// nothing is kept from build to build.
//
// The frontend is the one inside buildkitd, whose digest is in the record: a
// "# syntax=docker/dockerfile:…" line does not make another one be fetched, and
// any other syntax is an error. Steps get no entitlement, secret or ssh agent.
package buildkit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/build"
	"github.com/colophon-build/colophon/build/gateway"
	"github.com/colophon-build/colophon/build/sandbox"
)

// Config of a Builder. Buildkitd and StateDir are required.
type Config struct {
	Buildkitd string         // path of buildkitd; linked statically
	Runc      string         // path of runc; empty: searched in PATH
	StateDir  string         // rooms of builds in flight; swept by New. Needs the space of the largest build, and overlayfs
	Mirror    string         // OCI layout that answers pulls of the names in it; empty: none
	CABundle  string         // PEM file of the CAs that builds believe; empty: SSL_CERT_FILE, else Debian's
	UIDBase   uint32         // first of the uids that rooms take; default 100000
	Limits    build.Limits   // most that one build may use; zero fields are the default: 3/4 of the memory, 8192 processes, 1 h
	Allow     []netip.Prefix // private ranges that builds may reach; default none
}

// Builder builds Dockerfiles. Safe for concurrent use; each build has a room.
type Builder struct {
	cfg    Config
	tools  []attest.ResourceDescriptor
	binds  []sandbox.Bind
	ca     []byte
	mirror *gateway.Mirror
	digest string // of the mirror's index

	erasing sync.WaitGroup // rooms of finished builds
}

// New checks what builds need and sweeps rooms that a crash left. The error
// matches sandbox.ErrUnsupported where this machine cannot open rooms.
func New(cfg Config) (*Builder, error) {
	if err := sandbox.Supported(); err != nil {
		return nil, err
	}
	if cfg.Buildkitd == "" || cfg.StateDir == "" {
		return nil, fmt.Errorf("%w: no path of buildkitd or no directory for rooms is set (build it with: make build)", sandbox.ErrUnsupported)
	}
	b := &Builder{cfg: cfg}
	var err error
	for _, p := range []*string{&b.cfg.StateDir, &b.cfg.Buildkitd, &b.cfg.Mirror} {
		if *p != "" {
			if *p, err = filepath.Abs(*p); err != nil {
				return nil, err
			}
		}
	}
	if cfg.Runc == "" {
		path, err := exec.LookPath("runc")
		if err != nil {
			return nil, fmt.Errorf("%w: runc is not in PATH (apt-get install runc, or use the golang builder)", sandbox.ErrUnsupported)
		}
		b.cfg.Runc = path
	}
	for _, t := range []struct{ name, source, target string }{
		{"buildkitd", b.cfg.Buildkitd, "/bin/buildkitd"},
		{"runc", b.cfg.Runc, "/bin/runc"},
	} {
		d, err := describe(t.name, t.source)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", sandbox.ErrUnsupported, t.name, err)
		}
		b.tools = append(b.tools, d)
		binds, err := sandbox.Program(t.source, t.target)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", sandbox.ErrUnsupported, err)
		}
		b.binds = append(b.binds, binds...)
	}
	if b.cfg.CABundle == "" {
		b.cfg.CABundle = "/etc/ssl/certs/ca-certificates.crt"
		if f := os.Getenv("SSL_CERT_FILE"); f != "" {
			b.cfg.CABundle = f
		}
	}
	if b.ca, err = os.ReadFile(b.cfg.CABundle); err != nil {
		return nil, fmt.Errorf("the CA bundle of builds: %w", err)
	}
	if cfg.Mirror != "" {
		if b.mirror, err = gateway.OpenMirror(b.cfg.Mirror); err != nil {
			return nil, fmt.Errorf("mirror: %w", err)
		}
		if b.digest, err = build.FileDigest(filepath.Join(b.cfg.Mirror, "index.json")); err != nil {
			return nil, err
		}
	}
	if b.cfg.Limits, err = withDefaults(cfg.Limits); err != nil {
		return nil, err
	}
	return b, sandbox.Sweep(b.cfg.StateDir)
}

func withDefaults(l build.Limits) (build.Limits, error) {
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
	if l.WallTime == 0 {
		l.WallTime = time.Hour
	}
	return l, nil
}

// within is what a request asks for, at most what the builder allows.
func within(ask, most build.Limits) build.Limits {
	return build.Limits{
		CPUs:     lower(ask.CPUs, most.CPUs),
		Memory:   lower(ask.Memory, most.Memory),
		PIDs:     lower(ask.PIDs, most.PIDs),
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

// Wait returns when the rooms of all finished builds are erased.
func (b *Builder) Wait() { b.erasing.Wait() }

// Build implements build.Builder. When it returns nothing runs in the room any
// more; the files of a build that succeeded may still be being erased (see Wait).
func (b *Builder) Build(ctx context.Context, req build.Request) (_ *build.Result, err error) {
	started := time.Now().UTC()
	opt, err := b.options(req)
	if err != nil {
		return nil, err
	}
	limits := within(req.Limits, b.cfg.Limits)
	tooLong := fmt.Errorf("took longer than the limit of %s", limits.WallTime)
	ctx, cancel := context.WithTimeoutCause(ctx, limits.WallTime, tooLong)
	defer cancel()

	d, err := b.start(ctx, limits)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
			return
		}
		// Erasing the thousands of files of base images takes as long as all the
		// rest that comes after the build; nothing runs in the room any more.
		d.room.Kill()
		b.erasing.Go(func() {
			if err := d.close(); err != nil {
				slog.Error("a room could not be erased; the next start tries again", "error", err)
			}
		})
	}()

	p := &progress{log: req.Log}
	if err := d.solve(ctx, opt, req.Layout, p); err != nil {
		return nil, d.explain(ctx, tooLong, p, err)
	}
	// A step may go on where a process of its was killed or could not start;
	// an image that depends on that is not the one the commit describes.
	if limit := d.room.Exceeded(); limit != nil {
		return nil, &build.Error{Err: limit}
	}
	if foreign := p.foreignBase(); foreign != "" {
		return nil, &build.Error{Err: errors.New(foreign + "; FROM --platform=$BUILDPLATFORM is for stages that only compile")}
	}
	digest, prov, err := finish(req.Layout)
	if errors.Is(err, errNoLayers) {
		return nil, &build.Error{Err: err}
	} else if err != nil {
		return nil, fmt.Errorf("what buildkitd exported: %w", err)
	}
	deps, incomplete, err := dependencies(prov)
	if err != nil {
		return nil, fmt.Errorf("what buildkitd recorded: %w", err)
	}
	config := b.describe(req, limits)
	if len(incomplete) > 0 {
		raw, err := json.Marshal(incomplete)
		if err != nil {
			return nil, err
		}
		config["network.incomplete"] = string(raw)
	}
	config["gateway.hosts"] = strings.Join(hosts(d.gateway.Exchanges()), " ")
	return &build.Result{
		Digest: digest, Dependencies: deps, Tools: b.tools, Config: config,
		Started: started, Finished: time.Now().UTC(),
	}, nil
}

// describe is the room and the daemon as they were set up.
func (b *Builder) describe(req build.Request, l build.Limits) map[string]string {
	m := map[string]string{
		"namespaces":        "user mount pid ipc uts cgroup network",
		"network":           "proxy; gateway to public addresses on ports 80 and 443",
		"daemonConfig":      "sha256:" + hexSum([]byte(b.daemonConfig())),
		"caBundle":          "sha256:" + hexSum(b.ca),
		"sourceDateEpoch":   strconv.FormatInt(req.Epoch.Unix(), 10),
		"limits.memory":     strconv.FormatInt(l.Memory, 10),
		"limits.processes":  strconv.FormatInt(l.PIDs, 10),
		"limits.wallTime":   l.WallTime.String(),
		"rewriteTimestamps": "true",
	}
	if l.CPUs > 0 {
		m["limits.cpus"] = strconv.FormatFloat(l.CPUs, 'g', -1, 64)
	}
	if b.digest != "" {
		m["mirror"] = "sha256:" + b.digest
	}
	for _, p := range b.cfg.Allow {
		m["network"] += ", and " + p.String()
	}
	return m
}

// describe names a program by what it is, not by where it lies.
func describe(name, path string) (attest.ResourceDescriptor, error) {
	digest, err := build.FileDigest(path)
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

func hexSum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// hostPlatform is what is built where the recipe names no platform.
func hostPlatform() string { return "linux/" + runtime.GOARCH }
