package golang

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// nonroot is the uid and gid that images run as. They are numbers, so that a cluster
// can check them without reading /etc/passwd.
const nonroot = "65532:65532"

const bundlePath = "/etc/ssl/certs/ca-certificates.crt"

// newBase creates the index of base images for the job's platforms. All have the same
// single layer and differ only in their configuration.
func newBase(j *job) (v1.ImageIndex, error) {
	layer, err := baseLayer(j.Goroot, time.Unix(j.Epoch, 0).UTC())
	if err != nil {
		return nil, fmt.Errorf("built-in base: %w", err)
	}
	var index v1.ImageIndex = mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, s := range j.Platforms {
		p, err := v1.ParsePlatform(s)
		if err != nil {
			return nil, err
		}
		image, err := baseImage(layer, p, time.Unix(j.Epoch, 0).UTC())
		if err != nil {
			return nil, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        image,
			Descriptor: v1.Descriptor{MediaType: types.OCIManifestSchema1, Platform: p},
		})
	}
	return index, nil
}

func baseImage(layer v1.Layer, p *v1.Platform, created time.Time) (v1.Image, error) {
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.ConfigFile(image, &v1.ConfigFile{
		OS: p.OS, Architecture: p.Architecture, Variant: p.Variant,
		Created: v1.Time{Time: created},
		RootFS:  v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{}},
		Config: v1.Config{
			User:       nonroot,
			WorkingDir: "/home/nonroot",
			Env: []string{
				"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
				"SSL_CERT_FILE=" + bundlePath,
			},
		},
	})
	if err != nil {
		return nil, err
	}
	return mutate.Append(image, mutate.Addendum{
		Layer:   layer,
		History: v1.History{Created: v1.Time{Time: created}, CreatedBy: "colophon", Comment: "static nonroot base"},
	})
}

// baseLayer creates the layer with the files that a static Go binary reads: users,
// certificate roots and time zones. All files have the time of the commit.
func baseLayer(goroot string, at time.Time) (v1.Layer, error) {
	var buf bytes.Buffer
	t := tarWriter{tw: tar.NewWriter(&buf), at: at, made: map[string]bool{}}
	t.dir("tmp", 0o1777, 0)
	t.dir("root", 0o700, 0)
	t.dir("home/nonroot", 0o700, 65532)
	t.file("etc/passwd", []byte("root:x:0:0:root:/root:/sbin/nologin\n"+
		"nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n"+
		"nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"))
	t.file("etc/group", []byte("root:x:0:\nnobody:x:65534:\nnonroot:x:65532:\n"))
	t.file("etc/nsswitch.conf", []byte("hosts: files dns\n"))
	t.file(strings.TrimPrefix(bundlePath, "/"), roots())
	t.zoneinfo(filepath.Join(goroot, "lib", "time", "zoneinfo.zip"))
	if t.err == nil {
		t.err = t.tw.Close()
	}
	if t.err != nil {
		return nil, t.err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(buf.Bytes())), nil
	}, tarball.WithCompressedCaching, tarball.WithMediaType(types.OCILayer))
}

// roots returns Mozilla's trust store as PEM, sorted by certificate. It leaves out
// roots that are trusted only under a condition, which PEM cannot express.
func roots() []byte {
	var ders [][]byte
	for r := range bundle.Roots() {
		if r.Constraint == nil {
			ders = append(ders, r.Certificate)
		}
	}
	slices.SortFunc(ders, bytes.Compare)
	var out bytes.Buffer
	for _, der := range ders {
		pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: der}) // a Buffer does not fail
	}
	return out.Bytes()
}

// tarWriter writes files and, once each, their parent directories. It keeps the first
// error and then writes nothing more.
type tarWriter struct {
	tw   *tar.Writer
	at   time.Time
	made map[string]bool
	err  error
}

func (t *tarWriter) dir(name string, mode int64, owner int) {
	if t.err != nil || name == "." || t.made[name] {
		return
	}
	t.made[name] = true
	t.dir(path.Dir(name), 0o755, 0)
	if t.err == nil {
		t.err = t.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode,
			Uid: owner, Gid: owner, ModTime: t.at})
	}
}

func (t *tarWriter) file(name string, data []byte) {
	t.dir(path.Dir(name), 0o755, 0)
	if t.err != nil {
		return
	}
	if t.err = t.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644,
		Size: int64(len(data)), ModTime: t.at}); t.err == nil {
		_, t.err = t.tw.Write(data)
	}
}

// zoneinfo adds the toolchain's time zones. It takes them from the toolchain, not from
// the host, because the provenance names the toolchain by digest.
func (t *tarWriter) zoneinfo(file string) {
	if t.err != nil {
		return
	}
	z, err := zip.OpenReader(file)
	if err != nil {
		t.err = fmt.Errorf("time zones of the toolchain: %w", err)
		return
	}
	defer z.Close()
	files := slices.SortedFunc(slices.Values(z.File), func(a, b *zip.File) int { return strings.Compare(a.Name, b.Name) })
	for _, f := range files {
		if f.FileInfo().IsDir() {
			continue
		}
		if !filepath.IsLocal(f.Name) || f.UncompressedSize64 > 1<<20 {
			t.err = fmt.Errorf("time zones of the toolchain: got entry %q of %d bytes, want a local path and at most 1 MiB", f.Name, f.UncompressedSize64)
			return
		}
		r, err := f.Open()
		if err != nil {
			t.err = err
			return
		}
		data, err := io.ReadAll(io.LimitReader(r, 1<<20))
		if err != nil {
			t.err = err
			return
		}
		t.file("usr/share/zoneinfo/"+f.Name, data)
	}
}
