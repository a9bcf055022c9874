package gateway

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"net/url"
	"os"
	"regexp"
	"strings"

	"golang.org/x/mod/sumdb/dirhash"

	"github.com/colophon-build/colophon/platform/builder"
)

// demands are the downloads that the files of a commit pin, by URL or end of a path.
type demands map[string]string

func newDemands(list []builder.Demand) demands {
	d := demands{}
	for _, e := range list {
		if was, twice := d[e.URL]; twice && was != e.Digest {
			e.Digest = "" // the commit contradicts itself
		}
		d[e.URL] = e.Digest
	}
	return d
}

// inPath matches paths that are made of a digest: pulls by digest (OCI distribution 1.1),
// and indexes of Debian archives by hash (Acquire-By-Hash).
var inPath = regexp.MustCompile(`^/v2/[a-z0-9][a-z0-9._/-]{0,254}/(?:manifests|blobs)/sha256:([0-9a-f]{64})$|/by-hash/SHA256/([0-9a-f]{64})$`)

// of returns the digest that the answer to GET u must have; "" if nobody says it.
func (d demands) of(u *url.URL) string {
	if m := inPath.FindStringSubmatch(u.Path); m != nil {
		return "sha256:" + m[1] + m[2]
	}
	if digest := d[u.String()]; digest != "" {
		return digest
	}
	if u.RawQuery != "" || !strings.Contains(u.Path, "/@v/") {
		return ""
	}
	for path := u.Path; ; {
		if digest := d[path]; digest != "" {
			return digest
		}
		i := strings.IndexByte(path[1:], '/')
		if i < 0 {
			return ""
		}
		path = path[1+i:]
	}
}

const (
	maxModule   = 64 << 20  // bytes of a module's zip that is taken from the store
	maxEntries  = 100_000   // files in it
	maxUnpacked = 500 << 20 // bytes of these, as in golang.org/x/mod/zip
	maxCompared = 16 << 30  // bytes of the files of all modules that one session takes from the store
)

// meets reports whether the content of f, of a known size, has the digest. path tells
// what is hashed: a go.mod or the files in a zip.
func (g *Gateway) meets(digest, path string, f *os.File, size int64) (bool, error) {
	kind, want, _ := strings.Cut(digest, ":")
	if sri, ok := strings.CutPrefix(digest, "sha512-"); ok {
		kind, want = "sha512", sri
	}
	content := io.NewSectionReader(f, 0, size)
	switch {
	case kind == "sha256":
		sum, err := hashAll(sha256.New(), content)
		return hex.EncodeToString(sum) == want, err
	case kind == "sha512":
		sum, err := hashAll(sha512.New(), content)
		return base64.StdEncoding.EncodeToString(sum) == want, err
	case kind == "h1" && strings.HasSuffix(path, ".mod"):
		sum, err := dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) { return io.NopCloser(content), nil })
		return sum == digest, err
	case kind == "h1" && strings.HasSuffix(path, ".zip"):
		sum, err := g.hashModule(content)
		return sum == digest, err
	}
	return false, nil
}

func hashAll(h hash.Hash, r io.Reader) ([]byte, error) {
	buf := buffers.Get()
	defer buffers.Put(buf)
	_, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{r}, buf)
	return h.Sum(nil), err
}

// hashModule returns the h1 digest of a module's zip. It unpacks no more than a module
// may have, because anybody may have made the zip.
func (g *Gateway) hashModule(content *io.SectionReader) (string, error) {
	if content.Size() > maxModule {
		return "", fmt.Errorf("module: got %d bytes, want at most %d", content.Size(), maxModule)
	}
	if n, err := countEntries(content); err != nil {
		return "", err
	} else if n > maxEntries {
		return "", fmt.Errorf("module: got more than %d files", maxEntries)
	}
	z, err := zip.NewReader(content, content.Size())
	if err != nil {
		return "", err
	}
	files, byName, total := []string{}, map[string]*zip.File{}, int64(0)
	for _, f := range z.File {
		if f.UncompressedSize64 > maxUnpacked || byName[f.Name] != nil {
			return "", fmt.Errorf("module: file %.100q is too large or there twice", f.Name)
		}
		total += int64(f.UncompressedSize64)
		files, byName[f.Name] = append(files, f.Name), f
	}
	if total > maxUnpacked || g.compared.Add(total) > maxCompared {
		return "", fmt.Errorf("module: got %d bytes unpacked, want at most %d, and %d in all modules", total, maxUnpacked, int64(maxCompared))
	}
	// zip.File.Open gives no more bytes than UncompressedSize64.
	return dirhash.Hash1(files, func(name string) (io.ReadCloser, error) {
		f, err := byName[name].Open()
		return pooled{f}, err
	})
}

// pooled is copied with a buffer of the pool. A module has thousands of files.
type pooled struct{ io.ReadCloser }

func (p pooled) WriteTo(w io.Writer) (int64, error) {
	buf := buffers.Get()
	defer buffers.Put(buf)
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{p.ReadCloser}, buf)
}

// countEntries returns the most files that a zip can list: how often the signature of an
// entry of its directory is in it. zip.NewReader allocates memory for each entry, whatever
// number the zip states.
func countEntries(content *io.SectionReader) (n int, err error) {
	signature := []byte("PK\x01\x02")
	buf := buffers.Get()
	defer buffers.Put(buf)
	for at := int64(0); ; at += int64(len(buf) - len(signature) + 1) {
		got, err := content.ReadAt(buf, at)
		if n += bytes.Count(buf[:got], signature); err == io.EOF || err == nil && n > maxEntries {
			return n, nil
		} else if err != nil {
			return n, err
		}
	}
}
