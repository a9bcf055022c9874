// Package golang builds a Go main package into an OCI layout (spec/golang/v1). It
// implements builder.Builder and needs no Dockerfile, BuildKit, root or runc: ko runs
// the Go toolchain in a room of user namespaces and adds the binary to a built-in
// static base that runs as nonroot.
//
// Compiling Go runs no code of the source tree: cgo is off, `go generate` is not run,
// and the builder ignores the tree's flags, environment files, version
// control and toolchain choice. The room is a second line of defence.
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

// Config describes a Builder. Dir is required; the zero values of the other fields are
// good defaults.
type Config struct {
	// Dir receives one directory for each build, "golang-…", which is erased when the
	// build ends. New erases directories that a crash left, so only one Builder at a
	// time may use Dir.
	Dir string
	// Go is the path of the go command; default the first one in PATH. Its GOROOT is
	// the toolchain, and provides the time zones of the base.
	Go string
	// ModuleCache is a directory of downloaded modules that builds share. Only the go
	// command writes there, and it checks each module against the commit's go.sum
	// before it uses it. If empty, each build downloads its modules again.
	ModuleCache string
	// StdCache is a directory of the compiled standard library, which builds share but
	// cannot write. The builder compiles it from the toolchain alone, on the first build
	// for a platform; this takes about a minute. Builders of the same user may share it.
	// If empty, each build compiles the packages that it needs.
	StdCache string
	// Proxy is GOPROXY for the builds; default the toolchain's own (its go.env), whatever
	// the environment says. The builder removes "direct" from it, because a go.mod could
	// otherwise name any host of the network.
	Proxy string
	// CABundle is the PEM file of the CAs that are trusted for the module proxy;
	// default the system's.
	CABundle string
	// Limits replace zero fields of a request's limits. CPUs bounds the toolchain's
	// parallelism; Memory is the data size of each process (RLIMIT_DATA) in bytes; PIDs
	// is not enforced. Zero means all cores, no memory limit, and 30 minutes.
	Limits builder.Limits
}

const defaultWallTime = 30 * time.Minute // of one build

// Builder implements builder.Builder. It is safe for concurrent use.
type Builder struct {
	cfg      Config
	goroot   string
	programs builder.Programs
	// unconfined runs the toolchain without its room. Only tests set it, to show what the
	// room stops.
	unconfined bool
}

// New finds the toolchain, and erases directories that a crash left.
func New(cfg Config) (*Builder, error) {
	var err error
	if cfg.Go == "" {
		if cfg.Go, err = exec.LookPath("go"); err != nil {
			return nil, &builder.LackError{Err: fmt.Errorf("builder golang needs the go command in PATH: %w", err), Hint: "install Go on the platform's host, and start the platform again"}
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
		return nil, errors.New("builder golang: the directory of its rooms is not set")
	}
	if !mountable(cfg.Dir) || !mountable(cfg.StdCache) {
		cfg.StdCache = ""
	}
	if err := sweep(cfg.Dir); err != nil {
		return nil, fmt.Errorf("erasing the rooms of earlier builds: %w", err)
	}
	if cfg.CABundle == "" {
		cfg.CABundle = systemBundle()
	}
	if cfg.Limits.WallTime == 0 {
		cfg.Limits.WallTime = defaultWallTime
	}
	env, err := askGo(context.Background(), cfg.Go)
	if err != nil {
		return nil, err
	}
	if cfg.Proxy == "" {
		cfg.Proxy = env.GOPROXY
	}
	cfg.Proxy = withoutDirect(cfg.Proxy)
	return &Builder{cfg: cfg, goroot: env.GOROOT}, nil
}

// sweep erases the rooms of builds whose process was killed.
func sweep(dir string) error {
	stale, err := filepath.Glob(filepath.Join(dir, roomPrefix+"*"))
	for _, room := range stale {
		err = errors.Join(err, os.RemoveAll(room))
	}
	return err
}

// Build implements builder.Builder. The layout has an image manifest for one platform
// and an index for several, as with ko. The compiler's output goes to r.Log.
func (b *Builder) Build(ctx context.Context, r builder.Request) (*builder.Result, error) {
	started := time.Now().UTC()
	job, err := newJob(r)
	if err != nil {
		return nil, err
	}
	limits := withDefaults(r.Limits, b.cfg.Limits)
	timed, cancel := context.WithTimeout(ctx, limits.WallTime)
	defer cancel()
	// explain returns the context's error if the build was cancelled, and a
	// *builder.Error if it exceeded its time limit; else err.
	explain := func(err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case timed.Err() != nil:
			return &builder.Error{Err: fmt.Errorf("the build exceeded its time limit of %v", limits.WallTime)}
		}
		return err
	}
	tools, err := b.measure(timed)
	if err != nil {
		return nil, explain(err)
	}
	std, err := b.stdFor(timed, job, tools, limits, r.Log)
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

	if err := b.unchanged(timed, tools); err != nil {
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
		Tools:        tools,
		Config:       b.describe(job, limits),
		Started:      started,
		Finished:     time.Now().UTC(),
	}, nil
}

// describe returns the settings that shaped the build, for the provenance's internal
// parameters.
func (b *Builder) describe(j *job, l builder.Limits) map[string]string {
	c := attest.Isolation{Namespaces: "user mount pid ipc uts"}.Parameters()
	maps.Copy(c, map[string]string{
		"noNewPrivileges": "true",
		"seccomp":         "sha256:" + toolchain.Filter().Digest(),
		"go.flags":        strings.Join(append(slices.Clone(goFlags), "-ldflags="+goLDFlags), " "),
		"go.modules":      "go.sum of the commit; the checksum database is not asked",
		"limits.cpus":     strconv.Itoa(cpus(l)),
		"limits.wallTime": l.WallTime.String(),
		"sourceDateEpoch": strconv.FormatInt(j.Epoch, 10),
	})
	if b.cfg.StdCache != "" && len(j.Files) == 0 {
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

// withoutDirect removes "direct" from a GOPROXY list ("a,b|direct"). An empty list
// becomes "off".
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

// layoutDigest returns the digest of the layout's only entry.
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
