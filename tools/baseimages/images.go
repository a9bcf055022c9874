package main

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	suite    = "bookworm"
	nonroot  = 65532
	refName  = "org.opencontainers.image.ref.name"
	pathBase = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// rootfs describes a root file system that mmdebstrap makes. The variant "extract"
// contains only the named packages; "minbase" is a small Debian.
type rootfs struct {
	name, variant, include string
	omit                   []string // path prefixes to omit
}

var (
	slim = rootfs{name: "slim", variant: "minbase", omit: []string{"usr/share/doc/", "usr/share/man/", "usr/share/locale/", "usr/share/info/", "var/cache/", "var/lib/apt/lists/", "var/log/"}}
	// The golang image is the slim image with what `go` needs. It omits Perl, because
	// builds use none of the git commands that need it (send-email, svn, add -i).
	golang = rootfs{name: "golang", variant: "minbase", include: "ca-certificates,git", omit: append([]string{"usr/share/perl/", "usr/lib/x86_64-linux-gnu/perl/", "usr/lib/aarch64-linux-gnu/perl/", "usr/share/zoneinfo/", "usr/share/bash-completion/"}, slim.omit...)}
	static = rootfs{name: "static", variant: "extract", include: "base-files,netbase,tzdata"}
	base   = rootfs{name: "base", variant: "extract", include: "base-files,netbase,tzdata,libc6,libssl3,libgcc-s1"}
	// For tests that need a shell and no Debian, which takes seconds to unpack.
	busybox = rootfs{name: "busybox", variant: "extract", include: "busybox-static", omit: []string{"etc/", "usr/", "var/"}}
)

func recipe(goVersion string, ca []byte) string {
	return fmt.Sprintf("format 5\n%s %s\n%s\nca %x\n%v %v %v %v %v\n", goVersion, runtime.GOARCH, suite, sha256.Sum256(ca), slim, golang, static, base, busybox)
}

type maker struct {
	work              string
	goroot, goVersion string
	ca                []byte
}

// set is images that are made together.
type set struct {
	names []string // as in the layout's index
	add   func(*maker, layout.Path, []string) error
}

var sets = []set{
	{[]string{"docker.io/library/debian:bookworm-slim"}, (*maker).addDebian},
	{[]string{"docker.io/library/golang:1.25", "docker.io/library/golang:1.26"}, (*maker).addGolang},
	{[]string{"gcr.io/distroless/static-debian12:latest", "gcr.io/distroless/static-debian12:nonroot"}, (*maker).addStatic},
	{[]string{"gcr.io/distroless/base-debian12:latest", "gcr.io/distroless/base-debian12:nonroot"}, (*maker).addBase},
	{[]string{"docker.io/library/busybox:1.35"}, (*maker).addBusybox},
}

// missing returns the sets with the wanted images that the layout does not have. Without wanted
// names, all images are wanted.
func missing(wanted []string, have map[string]v1.Descriptor) ([]set, error) {
	known := map[string]bool{}
	var out []set
	for _, s := range sets {
		for _, name := range s.names {
			known[name] = true
		}
		if slices.ContainsFunc(s.names, func(name string) bool {
			_, ok := have[name]
			return !ok && (len(wanted) == 0 || slices.Contains(wanted, name))
		}) {
			out = append(out, s)
		}
	}
	for _, name := range wanted {
		if !known[name] {
			return nil, fmt.Errorf("image: found %q, expected one of %s", name, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
	}
	return out, nil
}

func (m *maker) addDebian(path layout.Path, names []string) error {
	debian, err := m.debian(slim)
	if err != nil {
		return err
	}
	return m.add(path, m.image(runtime.GOARCH, config(""), debian...), names...)
}

func (m *maker) addGolang(path layout.Path, names []string) error {
	deb, err := m.debian(golang)
	if err != nil {
		return err
	}
	toolchain, err := m.toolchain()
	if err != nil {
		return err
	}
	cfg := config("")
	cfg.Env = []string{"PATH=/go/bin:/usr/local/go/bin:" + pathBase, "GOPATH=/go", "GOTOOLCHAIN=local", "GOLANG_VERSION=" + strings.TrimPrefix(m.goVersion, "go")}
	cfg.WorkingDir = "/go"
	cfg.Labels = map[string]string{"build.colophon.base.go": m.goVersion + ", the toolchain of the machine that made this image"}
	return m.add(path, m.image(runtime.GOARCH, cfg, append(deb, toolchain)...), names...)
}

// addStatic adds images for several architectures, because static contains no machine code.
func (m *maker) addStatic(path layout.Path, names []string) error {
	st, err := m.distroless(static)
	if err != nil {
		return err
	}
	for _, name := range names {
		idx := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
		for _, arch := range []string{"amd64", "arm64"} {
			idx = mutate.AppendManifests(idx, mutate.IndexAddendum{
				Add:        m.image(arch, config(tagOf(name)), st...),
				Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
			})
		}
		if err := path.AppendIndex(idx, layout.WithAnnotations(map[string]string{refName: name})); err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "made", name)
	}
	return nil
}

func (m *maker) addBase(path layout.Path, names []string) error {
	ba, err := m.distroless(base)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := m.add(path, m.image(runtime.GOARCH, config(tagOf(name)), ba...), name); err != nil {
			return err
		}
	}
	return nil
}

func (m *maker) addBusybox(path layout.Path, names []string) error {
	l, err := m.rootLayer(busybox, m.applets)
	if err != nil {
		return err
	}
	cfg := config("")
	cfg.Cmd = []string{"sh"}
	return m.add(path, m.image(runtime.GOARCH, cfg, l), names...)
}

func tagOf(name string) string { return name[strings.LastIndex(name, ":")+1:] }

func (m *maker) add(path layout.Path, img v1.Image, refs ...string) error {
	for _, ref := range refs {
		if err := path.AppendImage(img, layout.WithAnnotations(map[string]string{refName: ref})); err != nil {
			return fmt.Errorf("%s: %w", ref, err)
		}
		fmt.Fprintln(os.Stderr, "made", ref)
	}
	return nil
}

func config(tag string) v1.Config {
	cfg := v1.Config{Env: []string{"PATH=" + pathBase}}
	if tag == "" {
		cfg.Cmd = []string{"bash"}
		return cfg
	}
	cfg.Env = append(cfg.Env, "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt")
	cfg.WorkingDir = "/"
	cfg.User = "0"
	if tag == "nonroot" {
		cfg.User, cfg.WorkingDir = fmt.Sprint(nonroot), "/home/nonroot"
	}
	return cfg
}

// image returns an image. Errors of mutate appear when the image is written.
func (m *maker) image(arch string, cfg v1.Config, layers ...v1.Layer) v1.Image {
	if cfg.Labels == nil {
		cfg.Labels = map[string]string{}
	}
	cfg.Labels["build.colophon.base"] = "stand-in made from Debian " + suite + " packages; not the image of that name in its registry"
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	file := &v1.ConfigFile{OS: "linux", Architecture: arch, Created: v1.Time{Time: epoch}, Config: cfg}
	file.RootFS.Type = "layers"
	img, err := mutate.ConfigFile(img, file)
	if err != nil {
		return failed{empty.Image, err}
	}
	var add []mutate.Addendum
	for _, l := range layers {
		add = append(add, mutate.Addendum{Layer: l, History: v1.History{Created: v1.Time{Time: epoch}, CreatedBy: "colophon base image"}})
	}
	if img, err = mutate.Append(img, add...); err != nil {
		return failed{empty.Image, err}
	}
	return img
}

// failed is an image that could not be made. Writing it returns the reason.
type failed struct {
	v1.Image
	err error
}

func (f failed) Layers() ([]v1.Layer, error)  { return nil, f.err }
func (f failed) RawManifest() ([]byte, error) { return nil, f.err }
func (f failed) Digest() (v1.Hash, error)     { return v1.Hash{}, f.err }

// bootstrap runs mmdebstrap and returns the path of the tar file.
func (m *maker) bootstrap(r rootfs) (string, error) {
	out := filepath.Join(m.work, r.name+".tar")
	args := []string{"--quiet", "--variant=" + r.variant}
	if r.include != "" {
		args = append(args, "--include="+r.include)
	}
	cmd := exec.Command("mmdebstrap", append(args, suite, out)...)
	cmd.Env = append(os.Environ(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", epoch.Unix()))
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("mmdebstrap %s: %w", r.name, err)
	}
	return out, nil
}
