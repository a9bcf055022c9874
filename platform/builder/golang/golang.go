// Package golang builds a Go main package into an OCI layout without a
// Dockerfile, BuildKit, root or runc: ko runs the Go toolchain in a room of
// user namespaces and puts the binary on a static nonroot base that is built
// in. It implements builder.Builder; the build type is spec/golang/v1.
//
// Compiling Go runs no code of the source tree: cgo is off, `go generate` is not
// run, and flags, environment files, workspaces, version control and other
// toolchains have no say. The room is the second wall behind that.
package golang

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/builder"
)

// Config of the builder. The zero value of each field is a good default but for Dir.
type Config struct {
	// Dir receives one directory a build, "golang-…", erased when the build
	// ends. New erases what a crash left there, so it is for one Builder at a time.
	Dir string
	// Go is the go command; where empty, the first one in PATH. Its GOROOT is
	// the toolchain, its zoneinfo.zip the time zones of the base.
	Go string
	// ModuleCache is a directory that builds share downloaded modules in. The go
	// command checks each module against the go.sum of the commit before it uses
	// it, and nothing else can write there. Where empty, each build downloads anew.
	ModuleCache string
	// StdCache is a directory for the standard library, compiled by this builder
	// from the toolchain alone; every build starts from it and none can write to
	// it. Made when a platform is first built for, a minute's work; builders of
	// one user may share it. Where empty, each build compiles what it needs.
	StdCache string
	// Proxy is GOPROXY for the builds; where empty, the toolchain's default. Its
	// "direct" is dropped: a go.mod could name any host of the network otherwise.
	Proxy string
	// CABundle is the PEM file that TLS to the module proxy is checked with;
	// where empty, the system's.
	CABundle string
	// Unconfined runs the toolchain without namespaces, for hosts that forbid
	// them to users. A hostile tree can then make the compiler read any file that
	// this user can (an assembler #include), so use it for trees you trust.
	Unconfined bool
	// Limits are the defaults for what a request leaves zero. CPUs bounds the
	// toolchain's parallelism; Memory is data bytes a process (RLIMIT_DATA); PIDs
	// is not enforced. Zero: all cores, no memory limit, 30 minutes.
	Limits builder.Limits
}

// Builder implements builder.Builder. Safe for concurrent use.
type Builder struct {
	cfg    Config
	goroot string
	tools  []attest.ResourceDescriptor
}

// New finds the toolchain and measures it.
func New(cfg Config) (*Builder, error) {
	var err error
	if cfg.Go == "" {
		if cfg.Go, err = exec.LookPath("go"); err != nil {
			return nil, fmt.Errorf("builder golang needs the go command in PATH: %w", err)
		}
	}
	for _, dir := range []*string{&cfg.Dir, &cfg.ModuleCache, &cfg.StdCache} {
		if *dir == "" {
			continue
		}
		if *dir, err = filepath.Abs(*dir); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(*dir, 0o700); err != nil {
			return nil, err
		}
	}
	if cfg.Dir == "" {
		return nil, errors.New("builder golang: no directory for its rooms is set")
	}
	if !mountable(cfg.Dir) || !mountable(cfg.StdCache) {
		cfg.StdCache = ""
	}
	if err := sweep(cfg.Dir); err != nil {
		return nil, fmt.Errorf("erasing what earlier builds left: %w", err)
	}
	if cfg.CABundle == "" {
		cfg.CABundle = systemBundle()
	}
	if cfg.Limits.WallTime == 0 {
		cfg.Limits.WallTime = 30 * time.Minute
	}
	goroot, proxy, tools, err := measureToolchain(cfg.Go)
	if err != nil {
		return nil, err
	}
	if cfg.Proxy == "" {
		cfg.Proxy = proxy
	}
	cfg.Proxy = withoutDirect(cfg.Proxy)
	return &Builder{cfg: cfg, goroot: goroot, tools: tools}, nil
}

// sweep erases the rooms of builds whose process was killed.
func sweep(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, roomPrefix+"*"))
	for _, room := range left {
		err = errors.Join(err, os.RemoveAll(room))
	}
	return err
}

// Build implements builder.Builder. One platform gives an image manifest, several
// give an index, as ko does. What the compiler says goes to r.Log.
func (b *Builder) Build(ctx context.Context, r builder.Request) (*builder.Result, error) {
	started := time.Now().UTC()
	job, err := newJob(r)
	if err != nil {
		return nil, err
	}
	limits := withDefaults(r.Limits, b.cfg.Limits)
	timed, cancel := context.WithTimeout(ctx, limits.WallTime)
	defer cancel()
	// explain tells a cancelled and an overdue build from one that failed.
	explain := func(err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case timed.Err() != nil:
			return &builder.Error{Err: fmt.Errorf("took longer than %v, which is its limit", limits.WallTime)}
		}
		return err
	}
	std, err := b.stdFor(timed, job, limits, r.Log)
	if err != nil {
		return nil, explain(err)
	}
	room, err := b.open(r, job, limits, std)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(room.dir)

	if err := room.run(timed, r.Log); err != nil {
		return nil, explain(err)
	}

	digest, err := layoutDigest(r.Layout)
	if err != nil {
		return nil, err
	}
	deps, err := dependencies(room.binaries())
	if err != nil {
		return nil, err
	}
	return &builder.Result{
		Digest:       digest.String(),
		Dependencies: deps,
		Tools:        slices.Clone(b.tools),
		Config:       b.describe(job, limits),
		Started:      started,
		Finished:     time.Now().UTC(),
	}, nil
}

// describe says what shaped the build, for the provenance's internal parameters.
func (b *Builder) describe(j *job, l builder.Limits) map[string]string {
	isolation := attest.Isolation{Namespaces: "user mount pid ipc uts"}
	if b.cfg.Unconfined {
		isolation.Namespaces = attest.NoNamespaces
	}
	c := isolation.Parameters()
	maps.Copy(c, map[string]string{
		"noNewPrivileges": "true",
		"seccomp":         "sha256:" + toolchain.Filter().Digest(),
		"go.flags":        strings.Join(append(slices.Clone(goFlags), "-ldflags="+goLDFlags), " "),
		"go.modules":      "go.sum of the commit; the checksum database is not asked",
		"limits.cpus":     strconv.Itoa(cpus(l)),
		"limits.wallTime": l.WallTime.String(),
		"sourceDateEpoch": strconv.FormatInt(j.Epoch, 10),
	})
	if !b.cfg.Unconfined && b.cfg.StdCache != "" {
		c["go.stdlib"] = "compiled before, from the toolchain alone"
	}
	if j.Vendored {
		c["go.modules"] = "vendored in the commit"
	}
	if l.Memory > 0 {
		c["limits.memory"] = strconv.FormatInt(l.Memory, 10)
	}
	return c
}

// withoutDirect drops "direct" from a GOPROXY list ("a,b|direct").
func withoutDirect(list string) string {
	var kept strings.Builder
	for list != "" {
		end := strings.IndexAny(list, ",|") + 1
		if end == 0 {
			end = len(list)
		}
		if strings.TrimRight(list[:end], ",|") != "direct" {
			kept.WriteString(list[:end])
		}
		list = list[end:]
	}
	if k := strings.TrimRight(kept.String(), ",|"); k != "" {
		return k
	}
	return "off"
}

func withDefaults(l, d builder.Limits) builder.Limits {
	if l.CPUs == 0 {
		l.CPUs = d.CPUs
	}
	if l.Memory == 0 {
		l.Memory = d.Memory
	}
	if l.WallTime == 0 {
		l.WallTime = d.WallTime
	}
	return l
}

func cpus(l builder.Limits) int {
	if l.CPUs <= 0 {
		return runtime.NumCPU()
	}
	return max(1, int(l.CPUs))
}

// layoutDigest is the digest of the layout's one entry.
func layoutDigest(dir string) (v1.Hash, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return v1.Hash{}, err
	}
	m, err := index.IndexManifest()
	if err != nil {
		return v1.Hash{}, err
	}
	if len(m.Manifests) != 1 {
		return v1.Hash{}, fmt.Errorf("layout %s: got %d entries in index.json, want 1", dir, len(m.Manifests))
	}
	return m.Manifests[0].Digest, nil
}
