package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/test/prooftest"
)

// tarOf writes an archive of dir and returns its path.
func tarOf(t *testing.T, dir string) string {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(path, buf.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestVerifyArchive verifies layouts in tar files, with their proofs inside or in a
// separate file, and the older format of docker save.
func TestVerifyArchive(t *testing.T) {
	s := newStage(t)
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"}, "trusted")
	layout := func(kinds ...string) (dir, bundles string) {
		dir = t.TempDir()
		dst, err := oci.CreateLayout(dir)
		if err != nil {
			t.Fatal(err)
		}
		store := prooftest.NewStore(t)
		r := s.p.Release(store)
		r.Attach(kinds...)
		store.Push(context.Background(), dst)
		var lines []byte
		for _, kind := range prooftest.Kinds {
			lines = append(append(lines, s.p.Sign(r.Signer(), r.Statement(kind))...), '\n')
		}
		return dir, s.file("bundles.jsonl", lines)
	}
	demand := []string{"--source", "git.example.com/team/app", "--skip-source"}
	whole, _ := layout(prooftest.Kinds...)
	s.run(exitOK, append([]string{"verify", tarOf(t, whole)}, demand...), "the layout holds these bytes", "✓ sbom", "accepted")
	s.run(exitRejected, append([]string{"verify", tarOf(t, whole)}, "--source", "git.example.com/team/other", "--skip-source"), "✗ provenance")
	s.run(exitOK, []string{"inspect", tarOf(t, whole)}, "attached: 4")

	bare, bundles := layout()
	s.run(exitRejected, append([]string{"verify", tarOf(t, bare)}, demand...), "the image carries no provenance")
	s.run(exitOK, append([]string{"verify", "oci:" + tarOf(t, bare), "--bundle", bundles}, demand...), "accepted")
	s.run(exitOK, append([]string{"verify", "oci:" + bare, "--bundle", bundles}, demand...), "accepted")
	s.run(exitRejected, append([]string{"verify", "oci:" + bare, "--bundle", bundles}, "--any-source", "--commit", strings.Repeat("ab", 20)), "✗ provenance")
	// Without "oci:", the argument is the tar file itself, and the bundles are not about that.
	s.run(exitRejected, append([]string{"verify", tarOf(t, bare), "--bundle", bundles}, demand...), "✗ signature", "subject of the statement")

	img, err := random.Image(1000, 1)
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("example.com/team/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(t.TempDir(), "old.tar")
	if err := tarball.WriteToFile(old, tag, img); err != nil {
		t.Fatal(err)
	}
	id, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	s.run(exitUndecided, append([]string{"verify", old}, demand...), id.String(), "holds no manifest", "hint: verify the image in its registry", "undecided")
	s.run(exitUndecided, append([]string{"verify", s.file("packed.tar.gz", []byte{0x1f, 0x8b, 8})}, demand...), "unpacked first")
}

const (
	ada    = "https://accounts.example.com/ada"
	people = "https://accounts.example.com"
)

// attestedBy signs files as ada.
func attestedBy(t *testing.T, p *prooftest.Platform, files ...string) []byte {
	t.Helper()
	return p.Sign(prooftest.Identity{SAN: ada, Issuer: people}, aboutFiles(t, files...))
}

func aboutFiles(t *testing.T, files ...string) []byte {
	t.Helper()
	s := attest.Statement{Type: attest.StatementType, PredicateType: attest.PredicateSign, Predicate: json.RawMessage(`{}`)}
	for _, f := range files {
		s.Subject = append(s.Subject, attest.Subject{Name: filepath.Base(f), Digest: map[string]string{"sha256": sumOf(t, f)}})
	}
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func sumOf(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// TestVerifyDirectory verifies the files of a release, with and without a list of
// their digests.
func TestVerifyDirectory(t *testing.T) {
	t.Setenv("COLOPHON_TRUST", filepath.Join(t.TempDir(), "trust"))
	s := &stage{t: t, p: prooftest.New(t)}
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.TrustedRoot()), "--yes", "--issuer", "https://accounts.example.com"}, "trusted")
	write := func(dir, name, data string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	// A release has two files, a list of their digests, and a bundle for the list.
	release := func() string {
		dir := t.TempDir()
		a, b := write(dir, "app-linux", "for linux"), write(dir, "docs/manual.txt", "how to")
		list := write(dir, "SHA256SUMS", fmt.Sprintf("%s  app-linux\n%s *docs/manual.txt\n", sumOf(t, a), sumOf(t, b)))
		write(dir, "SHA256SUMS.sigstore.json", string(attestedBy(t, s.p, list)))
		return dir
	}
	verify := func(dir string, more ...string) []string {
		return append([]string{"verify", dir, "--identity", ada, "--issuer", people}, more...)
	}
	s.run(exitOK, verify(release()), "✓ file        2 files have the digests that SHA256SUMS lists", "✓ signature   "+ada, "accepted")
	s.run(exitRejected, []string{"verify", release(), "--identity", ada + "x", "--issuer", people}, "✗ signature")
	for name, tt := range map[string]struct {
		bend func(dir string)
		code int
		want string
	}{
		"changed":            {func(d string) { write(d, "app-linux", "for Linux") }, exitRejected, "app-linux: got sha256:"},
		"missing":            {func(d string) { os.Remove(filepath.Join(d, "app-linux")) }, exitRejected, "app-linux is missing"},
		"extra":              {func(d string) { write(d, "app-windows", "evil") }, exitRejected, "app-windows is not in the list"},
		"extra, in a folder": {func(d string) { write(d, "docs/app-linux", "for linux") }, exitRejected, "docs/app-linux is not in the list"},
		"extra, proved": {func(d string) {
			write(d, "app-windows.sigstore.json", string(attestedBy(t, s.p, write(d, "app-windows", "x"))))
		}, exitOK, "accepted"},
		"detached signature":     {func(d string) { write(d, "app-linux.asc", "PGP") }, exitRejected, "app-linux.asc is not in the list"},
		"unlisted certificate":   {func(d string) { write(d, "app-linux.pem", "-----BEGIN CERTIFICATE-----") }, exitRejected, "app-linux.pem is not in the list"},
		"unlisted authority":     {func(d string) { write(d, "app-linux.crt", "-----BEGIN CERTIFICATE-----") }, exitRejected, "app-linux.crt is not in the list"},
		"unlisted signature":     {func(d string) { write(d, "app-linux.sig", "aGVsbG8=") }, exitRejected, "app-linux.sig is not in the list"},
		"a script named bundle":  {func(d string) { write(d, "app-linux.bundle", `"reboot"`) }, exitRejected, "app-linux.bundle is not in the list"},
		"a bundle of nothing":    {func(d string) { write(d, "app-linux.bundle", `{}`) }, exitRejected, "app-linux.bundle is not in the list"},
		"a bundle that is empty": {func(d string) { write(d, "app-linux.bundle", "") }, exitRejected, "app-linux.bundle is not in the list"},
		"a bundle that is listed": {func(d string) {
			other := write(d, "app-linux.sigstore.json", string(attestedBy(t, s.p, filepath.Join(d, "app-linux"))))
			list := filepath.Join(d, "SHA256SUMS")
			write(d, "SHA256SUMS", string(read(t, list))+sumOf(t, other)+"  app-linux.sigstore.json\n")
			write(d, "SHA256SUMS.sigstore.json", string(attestedBy(t, s.p, list)))
		}, exitOK, "3 files"},
		"a listed bundle, changed": {func(d string) {
			list := filepath.Join(d, "SHA256SUMS")
			write(d, "app-linux.sigstore.json", string(attestedBy(t, s.p, filepath.Join(d, "app-linux"))))
			write(d, "SHA256SUMS", string(read(t, list))+strings.Repeat("ab", 32)+"  app-linux.sigstore.json\n")
			write(d, "SHA256SUMS.sigstore.json", string(attestedBy(t, s.p, list)))
		}, exitRejected, "app-linux.sigstore.json: got sha256:"},
		"the files of an image": {func(d string) {
			write(d, "app-linux", "evil")
			copyTree(t, newGenuine(t, s).dir, d)
		}, exitRejected, `unexpected file "SHA256SUMS"`},
		"list changed":              {func(d string) { write(d, "SHA256SUMS", sumOf(t, filepath.Join(d, "app-linux"))+"  app-linux\n") }, exitRejected, "subject of the statement"},
		"list is prose":             {func(d string) { write(d, "SHA256SUMS", "hello\n") }, exitRejected, "want a SHA-256 digest and a name"},
		"list leaves the directory": {func(d string) { write(d, "SHA256SUMS", strings.Repeat("ab", 32)+"  ../etc/passwd\n") }, exitRejected, "want a path within the directory"},
		"name twice":                {func(d string) { write(d, "SHA256SUMS", strings.Repeat(strings.Repeat("ab", 32)+"  app-linux\n", 2)) }, exitRejected, "twice"},
		"two lists":                 {func(d string) { write(d, "checksums.txt", "x") }, exitUsage, "two lists"},
		"a link":                    {func(d string) { os.Symlink("/etc/passwd", filepath.Join(d, "link")) }, exitFailure, "not a regular file"},
		"no bundle":                 {func(d string) { os.Remove(filepath.Join(d, "SHA256SUMS.sigstore.json")) }, exitRejected, "there is no signature"},
	} {
		dir := release()
		tt.bend(dir)
		t.Run(name, func(t *testing.T) { s.t = t; s.run(tt.code, verify(dir), tt.want) })
	}
	s.t = t
	// Without a list, one statement covers all files.
	dir := t.TempDir()
	a, b := write(dir, "a", "first"), write(dir, "b", "second")
	all := s.file("all.intoto.jsonl", attestedBy(t, s.p, a, b))
	s.run(exitOK, verify(dir, "--bundle", all), "2 files, each with a proof of its own", "accepted")
	write(dir, "c", "third")
	s.run(exitRejected, verify(dir, "--bundle", all), "c, 5 bytes", "✗ signature")
	s.run(exitRejected, verify(t.TempDir()), "the directory has no files")

	// A genuine image chooses no mode: its layout is no place for other files, and "oci:" says
	// that the directory must be a layout.
	s.run(exitOK, []string{"trust", "add", s.file("platform.json", s.p.Document()), "--yes"}, "trusted")
	demand := []string{"--source", "git.example.com/team/app", "--skip-source"}
	image := newGenuine(t, s)
	s.run(exitOK, append([]string{"verify", image.dir}, demand...), "accepted")
	dir = release()
	write(dir, "app-linux", "evil")
	copyTree(t, image.dir, dir)
	s.run(exitRejected, append([]string{"verify", dir}, demand...), "unexpected file", "holds images and nothing else")
	s.run(exitRejected, append([]string{"verify", "oci:" + dir}, demand...), "unexpected file")
	s.run(exitUndecided, []string{"verify", "oci:" + release(), "--identity", ada, "--issuer", people}, "is not an OCI layout")
}

// copyTree copies the files of a directory into another.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// TestVerifyEnvelopes verifies *.intoto.jsonl files of envelopes without log entries,
// which old generators wrote.
func TestVerifyEnvelopes(t *testing.T) {
	t.Setenv("COLOPHON_TRUST", filepath.Join(t.TempDir(), "trust"))
	s := &stage{t: t, p: prooftest.New(t)}
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.TrustedRoot()), "--yes"}, "trusted")
	a, b := s.file("a", []byte("first")), s.file("b", []byte("second"))
	h := s.p.KeyHolder()
	envelope, _ := h.Envelope(aboutFiles(t, a, b))
	key := s.file("key.pub", h.PublicKey())
	lines := s.file("multiple.intoto.jsonl", append(append(envelope, '\n'), envelope...))
	for _, file := range []string{a, b} {
		s.run(exitRejected, []string{"verify", file, "--bundle", lines, "--key", key}, "✗ log")
		s.run(exitOK, []string{"verify", file, "--bundle", lines, "--key", key, "--insecure-no-log"}, "· log         dangerous", "accepted")
	}
	other := s.file("c", []byte("third"))
	s.run(exitRejected, []string{"verify", other, "--bundle", lines, "--key", key, "--insecure-no-log"}, "subject of the statement")
	s.run(exitRejected, []string{"verify", a, "--bundle", lines, "--key", s.file("other.pub", s.p.KeyHolder().PublicKey()), "--insecure-no-log"}, "✗ signature")

	// A certificate stands beside the signature, but nothing proves the signing time.
	c := s.p.Certified(prooftest.Identity{SAN: ada, Issuer: people})
	envelope, annotations := c.Envelope(aboutFiles(t, a))
	certified := strings.Replace(string(envelope), `"keyid":""`, `"cert":`+quoted(t, annotations[attest.Cosign2Certificate])+`,"keyid":""`, 1)
	s.run(exitRejected, []string{"verify", a, "--bundle", s.file("old.intoto.jsonl", []byte(certified)), "--identity", ada, "--issuer", people}, "without its log entry")
}

func quoted(t *testing.T, s string) string {
	t.Helper()
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
