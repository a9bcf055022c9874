package builder

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/internal/limits"
)

func pack(t *testing.T, hs ...tar.Header) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range hs {
		body := []byte("x")
		if h.Typeflag == 0 {
			h.Typeflag, h.Size = tar.TypeReg, 1
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			w.Write(body)
		}
	}
	w.Close()
	return &b
}

func TestUnpackLayout(t *testing.T) {
	blob := fmt.Sprintf("blobs/sha256/%x", sha256.Sum256([]byte("x")))
	dir := t.TempDir()
	if err := UnpackLayout(pack(t, tar.Header{Name: "oci-layout"}, tar.Header{Name: "index.json"}, tar.Header{Name: blob}), dir); err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if err := PackLayout(&again, dir); err != nil {
		t.Fatal(err)
	}
	if err := UnpackLayout(&again, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	for name, hs := range map[string][]tar.Header{
		"parent":      {{Name: "../index.json"}},
		"large file":  {{Name: "index.json", Typeflag: tar.TypeReg, Size: limits.LayerPacked + 1}},
		"absolute":    {{Name: "/tmp/x"}},
		"parent blob": {{Name: "blobs/sha256/../../x"}},
		"other file":  {{Name: "manifest.json"}},
		"twice":       {{Name: "index.json"}, {Name: "index.json"}},
		"wrong blob":  {{Name: "blobs/sha256/" + strings.Repeat("0", 64)}},
		"symlink":     {{Name: "index.json", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}},
		"hard link":   {{Name: "index.json", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}},
		"directory":   {{Name: "blobs/sha512/", Typeflag: tar.TypeDir}},
		"device":      {{Name: "oci-layout", Typeflag: tar.TypeBlock}},
	} {
		out := filepath.Join(t.TempDir(), "out")
		err := UnpackLayout(pack(t, hs...), out)
		if _, ok := errors.AsType[*LayoutError](err); !ok {
			t.Errorf("%s: got %v, want a LayoutError", name, err)
		}
		if _, err := os.Lstat(filepath.Join(out, "..", "index.json")); err == nil {
			t.Errorf("%s: a file outside was written", name)
		}
	}
}
