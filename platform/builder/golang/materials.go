package golang

import (
	"cmp"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/attest"
)

// dependencies lists the modules that the linker recorded in the binaries below dir,
// with their h1 sums as in-toto's dirHash. It leaves out modules that are part of the
// commit (vendored, or replaced by a directory), because the commit's digest covers
// them.
func dependencies(dir string) ([]attest.ResourceDescriptor, error) {
	seen := map[string]attest.ResourceDescriptor{}
	binaries := 0
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "out" || !d.Type().IsRegular() {
			return err
		}
		binaries++
		info, err := buildinfo.ReadFile(p)
		if err != nil {
			return fmt.Errorf("build info of the binary: %w", err)
		}
		for _, m := range info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			if m.Sum == "" {
				continue
			}
			r, err := moduleResource(m)
			if err != nil {
				return err
			}
			seen[r.URI] = r
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if binaries == 0 {
		return nil, fmt.Errorf("ko's cache has no binary to read the modules from")
	}
	list := []attest.ResourceDescriptor{}
	for _, r := range seen {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b attest.ResourceDescriptor) int { return cmp.Compare(a.URI, b.URI) })
	return list, nil
}

// moduleResource describes a module by its package URL (purl-spec, type golang) and
// its sum (in-toto DigestSet v1.1: dirHash is the h1 sum in hex).
func moduleResource(m *debug.Module) (attest.ResourceDescriptor, error) {
	sum, ok := strings.CutPrefix(m.Sum, "h1:")
	raw, err := base64.StdEncoding.Strict().DecodeString(sum)
	if !ok || err != nil || len(raw) != sha256.Size {
		return attest.ResourceDescriptor{}, fmt.Errorf("module %s: sum: got %q, want h1: and a base64 sha256", m.Path, m.Sum)
	}
	return attest.ResourceDescriptor{
		Name:   m.Path + "@" + m.Version,
		URI:    "pkg:golang/" + strings.ToLower(m.Path) + "@" + url.QueryEscape(m.Version),
		Digest: map[string]string{"dirHash": hex.EncodeToString(raw)},
	}, nil
}

// settings are what the go command says about itself.
type settings struct{ GOROOT, GOVERSION, GOTOOLDIR, GOPROXY string }

func askGo(ctx context.Context, goCmd string) (s settings, err error) {
	cmd := exec.CommandContext(ctx, goCmd, "env", "-json", "GOROOT", "GOVERSION", "GOTOOLDIR", "GOPROXY")
	cmd.Env = []string{"GOENV=off", "GOTOOLCHAIN=local", "GOFLAGS=", "GOWORK=off", "HOME=/", "PATH=" + filepath.Dir(goCmd)}
	cmd.Dir = "/"
	out, err := cmd.Output()
	if err != nil {
		return s, fmt.Errorf("asking %s for its environment: %w", goCmd, err)
	}
	if err := json.Unmarshal(out, &s); err != nil {
		return s, fmt.Errorf("environment of %s: %w", goCmd, err)
	}
	return s, nil
}

// measure returns the toolchain's programs with their version. Each build measures them, and calls unchanged at
// its end: the host's packages may be upgraded while the platform runs.
func (b *Builder) measure(ctx context.Context) (tools []attest.ResourceDescriptor, err error) {
	env, err := askGo(ctx, b.cfg.Go)
	if err != nil {
		return nil, err
	}
	if env.GOROOT != b.goroot {
		return nil, fmt.Errorf("the toolchain of %s is in %s now, and was in %s: start the platform again", b.cfg.Go, env.GOROOT, b.goroot)
	}
	for _, name := range []string{"go", "asm", "compile", "link"} {
		file := filepath.Join(env.GOTOOLDIR, name)
		if name == "go" {
			file = filepath.Join(env.GOROOT, "bin", "go")
		}
		sum, err := b.programs.Digest(file)
		if err != nil {
			return nil, fmt.Errorf("toolchain of %s: %w", b.cfg.Go, err)
		}
		tools = append(tools, attest.ResourceDescriptor{
			Name:        name,
			Digest:      map[string]string{"sha256": sum},
			Annotations: map[string]any{"version": env.GOVERSION},
		})
	}
	return tools, nil
}

// unchanged returns an error if the toolchain is not the one that was measured before.
func (b *Builder) unchanged(ctx context.Context, tools []attest.ResourceDescriptor) error {
	now, err := b.measure(ctx)
	if err == nil && !reflect.DeepEqual(now, tools) {
		err = errors.New("the toolchain changed while it built")
	}
	return err
}
