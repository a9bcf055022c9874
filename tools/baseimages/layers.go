package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// debian returns the layers of a rootfs and the machine's CA bundle.
func (m *maker) debian(r rootfs) ([]v1.Layer, error) {
	root, err := m.rootLayer(r, nil)
	if err != nil {
		return nil, err
	}
	if r.include == "" {
		return []v1.Layer{root}, nil
	}
	certs, err := m.layer(r.name+"-ca", true, func(w *tar.Writer) error { return m.certificates(w) })
	return []v1.Layer{root, certs}, err
}

// distroless returns the layers of a rootfs of a few packages, with the accounts, the
// CA bundle and the home directory of distroless images.
func (m *maker) distroless(r rootfs) ([]v1.Layer, error) {
	l, err := m.rootLayer(r, func(w *tar.Writer) error {
		files := []struct{ name, text string }{
			{"etc/passwd", "root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"},
			{"etc/group", "root:x:0:\nnobody:x:65534:\ntty:x:5:\nstaff:x:50:\nnonroot:x:65532:\n"},
			{"etc/nsswitch.conf", "hosts: files dns\n"},
		}
		for _, f := range files {
			if err := put(w, f.name, []byte(f.text)); err != nil {
				return err
			}
		}
		for _, d := range []tar.Header{
			{Name: "home/nonroot/", Mode: 0o700, Uid: nonroot, Gid: nonroot},
			{Name: "tmp/", Mode: 0o1777},
		} {
			d.Typeflag, d.ModTime, d.Format = tar.TypeDir, epoch, tar.FormatPAX
			if err := w.WriteHeader(&d); err != nil {
				return err
			}
		}
		return m.certificates(w)
	})
	return []v1.Layer{l}, err
}

// applets writes a link to busybox for each of its commands, and what a shell expects.
func (m *maker) applets(w *tar.Writer) error {
	cmd := exec.Command("tar", "-C", m.work, "-xf", filepath.Join(m.work, busybox.name+".tar"), "./bin/busybox")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("busybox: %w: %s", err, out)
	}
	list, err := exec.Command(filepath.Join(m.work, "bin", "busybox"), "--list").Output()
	if err != nil {
		return fmt.Errorf("busybox --list: %w", err)
	}
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}, {Typeflag: tar.TypeDir, Name: "root/", Mode: 0o700},
	} {
		h.ModTime, h.Format = epoch, tar.FormatPAX
		if err := w.WriteHeader(&h); err != nil {
			return err
		}
	}
	for _, name := range strings.Fields(string(list)) {
		if name == "busybox" {
			continue
		}
		h := tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox", Mode: 0o777, ModTime: epoch, Format: tar.FormatPAX}
		if err := w.WriteHeader(&h); err != nil {
			return err
		}
	}
	return errors.Join(put(w, "etc/passwd", []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n")),
		put(w, "etc/group", []byte("root:x:0:\nnobody:x:65534:\n")))
}

func (m *maker) certificates(w *tar.Writer) error {
	return put(w, "etc/ssl/certs/ca-certificates.crt", m.ca)
}

func put(w *tar.Writer, name string, data []byte) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data)), ModTime: epoch, Format: tar.FormatPAX}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

// rootLayer returns the output of mmdebstrap without device nodes, times, caches and
// logs, which differ from run to run. extra appends more files.
func (m *maker) rootLayer(r rootfs, extra func(*tar.Writer) error) (v1.Layer, error) {
	path, err := m.bootstrap(r)
	if err != nil {
		return nil, err
	}
	return m.layer(r.name, r.name != golang.name, func(w *tar.Writer) error {
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		defer in.Close()
		src := tar.NewReader(in)
		for {
			h, err := src.Next()
			if errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return err
			}
			h.Name = strings.TrimPrefix(h.Name, "./")
			if h.Name == "" || dropped(r, h) {
				continue
			}
			if extra != nil && (h.Name == "tmp/" || h.Name == "home/nonroot/") {
				continue
			}
			clean := tar.Header{Typeflag: h.Typeflag, Name: h.Name, Linkname: h.Linkname, Size: h.Size, Mode: h.Mode, Uid: h.Uid, Gid: h.Gid, ModTime: epoch}
			if h.Typeflag == tar.TypeLink {
				clean.Linkname = strings.TrimPrefix(h.Linkname, "./")
			}
			if err := w.WriteHeader(&clean); err != nil {
				return err
			}
			if _, err := io.Copy(w, src); err != nil {
				return err
			}
		}
		if extra != nil {
			return extra(w)
		}
		return nil
	})
}

func dropped(r rootfs, h *tar.Header) bool {
	if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock || h.Typeflag == tar.TypeFifo {
		return true
	}
	switch h.Name {
	case "etc/machine-id", "etc/hostname", "etc/resolv.conf", "var/cache/ldconfig/aux-cache", "etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-":
		return true
	}
	for _, p := range r.omit {
		// Keep the directory itself, which tools expect.
		if strings.HasPrefix(h.Name, p) && h.Name != p {
			return true
		}
	}
	return false
}

// toolchain returns a layer with the local Go at /usr/local/go, without tests and
// documentation.
func (m *maker) toolchain() (v1.Layer, error) {
	return m.layer("toolchain", false, func(w *tar.Writer) error {
		for _, d := range []string{"usr/local/go/", "go/", "go/src/", "go/bin/"} {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: d, Mode: 0o755, ModTime: epoch}); err != nil {
				return err
			}
		}
		return filepath.WalkDir(m.goroot, func(path string, d fs.DirEntry, err error) error {
			if err != nil || path == m.goroot {
				return err
			}
			rel, err := filepath.Rel(m.goroot, path)
			if err != nil {
				return err
			}
			switch {
			case rel == "test" || rel == "api" || rel == "doc" || rel == "misc" || rel == "pkg/obj" || rel == ".git":
				return fs.SkipDir
			case d.IsDir() && d.Name() == "testdata":
				return fs.SkipDir
			case strings.HasSuffix(rel, "_test.go"):
				return nil
			}
			return addFile(w, path, "usr/local/go/"+filepath.ToSlash(rel), d)
		})
	})
}

func addFile(w *tar.Writer, path, name string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	h := &tar.Header{Name: name, Mode: 0o644, ModTime: epoch}
	switch {
	case d.IsDir():
		h.Typeflag, h.Name, h.Mode = tar.TypeDir, name+"/", 0o755
		return w.WriteHeader(h)
	case info.Mode().Type() == fs.ModeSymlink:
		if h.Linkname, err = os.Readlink(path); err != nil {
			return err
		}
		h.Typeflag, h.Mode = tar.TypeSymlink, 0o777
		return w.WriteHeader(h)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a file, directory or link", path)
	}
	if info.Mode()&0o100 != 0 {
		h.Mode = 0o755
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	h.Typeflag, h.Size = tar.TypeReg, int64(len(data))
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(w, bytes.NewReader(data))
	return err
}

// layer writes a tar file with fill and returns it as a layer. The layers of the golang
// image stay uncompressed: every build pulls them over loopback, and decompressing
// 200 MB is slower than reading them.
func (m *maker) layer(name string, compress bool, fill func(*tar.Writer) error) (v1.Layer, error) {
	path := filepath.Join(m.work, name+".layer.tar")
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	w := tar.NewWriter(f)
	if err := errors.Join(fill(w), w.Close(), f.Close()); err != nil {
		return nil, fmt.Errorf("layer %s: %w", name, err)
	}
	if !compress {
		return plainLayer(path)
	}
	return tarball.LayerFromFile(path, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
}
