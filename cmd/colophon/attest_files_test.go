//go:build unix

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/internal/dirlock"
	"github.com/colophon-build/colophon/sign"
)

// dist returns a directory with these files.
func dist(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// signedSet returns the pieces of a set as if each were signed.
func signedSet(t *testing.T, s *fileSet) []*piece {
	t.Helper()
	pieces, err := s.pieces(&predicate{uri: "https://example.com/provenance", raw: []byte(`{}`)})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pieces {
		have, err := p.subject.bundles(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(have) == 0 {
			p.raw = []byte(realBundle(t))
		}
	}
	return pieces
}

func noSBOM(string) ([]byte, error) { return nil, nil }

func realBundle(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("testdata/github-attestation/MODULE.bazel.intoto.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(raw))
}

func filesIn(t *testing.T, dir string) []string {
	t.Helper()
	names, err := releaseFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestFileSet signs release files, named one by one or by their directory, from the state that
// a crash after each step leaves. In the end, the same files are there.
func TestFileSet(t *testing.T) {
	want := []string{"SHA256SUMS", "SHA256SUMS.intoto.jsonl", "SHA256SUMS.sigstore.json", "app", "app.intoto.jsonl", "app.sigstore.json", "z.tar.gz", "z.tar.gz.intoto.jsonl", "z.tar.gz.sigstore.json"}
	for steps := range 8 {
		dir := dist(t, "app", "z.tar.gz")
		for _, args := range [][]string{{dir}, nil, {dir}} {
			if args == nil { // dist/*
				args, _ = filepath.Glob(filepath.Join(dir, "*"))
			}
			s, err := openFileSet(t.Context(), args, noSBOM)
			if err != nil {
				t.Fatalf("after %d steps: %v: %v", steps, args, err)
			}
			if len(s.files) != 2 || s.list != listName {
				t.Fatalf("after %d steps: got %+v", steps, s)
			}
			pieces := signedSet(t, s)
			if steps < len(pieces) && !slices.Contains(filesIn(t, dir), "SHA256SUMS") {
				for _, p := range pieces[steps:] {
					p.raw = nil // the command crashes here, in the middle of a file
				}
				if err := os.WriteFile(filepath.Join(dir, ".app.sigstore.json.tmp-123"), []byte("{"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.publish(t.Context(), pieces); err != nil {
				t.Fatalf("after %d steps: %v", steps, err)
			}
			s.lock.Release()
		}
		if got := filesIn(t, dir); !slices.Equal(got, want) {
			t.Errorf("after %d steps: got %q, want %q", steps, got, want)
		}
	}
}

// TestHostileFileSet: what cannot be signed as release files is refused, and nothing is
// written.
func TestHostileFileSet(t *testing.T) {
	for name, tt := range map[string]struct {
		put  func(dir string) error
		args string
		want string
	}{
		"a link":                   {func(dir string) error { return os.Symlink("app", filepath.Join(dir, "b")) }, "app b", "b is not a regular file"},
		"a link in the directory":  {func(dir string) error { return os.Symlink("app", filepath.Join(dir, "b")) }, "", "b is not a regular file"},
		"a link as the list":       {func(dir string) error { return os.Symlink("app", filepath.Join(dir, listName)) }, "app", "SHA256SUMS is not a regular file"},
		"a link as the bundle":     {func(dir string) error { return os.Symlink("app", filepath.Join(dir, "app.sigstore.json")) }, "app", "app.sigstore.json is not a regular file"},
		"a directory among files":  {func(dir string) error { return os.Mkdir(filepath.Join(dir, "d"), 0o700) }, "app d", "d is a directory: expected files, or one directory"},
		"a fifo":                   {func(dir string) error { return unix.Mkfifo(filepath.Join(dir, "b"), 0o600) }, "app b", "b is not a regular file"},
		"a fifo in the directory":  {func(dir string) error { return unix.Mkfifo(filepath.Join(dir, "b"), 0o600) }, "", "b is not a regular file"},
		"a line break in a name":   {func(dir string) error { return os.WriteFile(filepath.Join(dir, "b\nc"), nil, 0o600) }, "", "cannot stand in a list|want a SHA-256 digest and a name"},
		"a carriage return":        {func(dir string) error { return os.WriteFile(filepath.Join(dir, "b\r"), nil, 0o600) }, "", "cannot stand in a list"},
		"a name twice":             {nil, "app ./app", "named twice"},
		"no such file":             {nil, "app b", "no such file"},
		"files of two directories": {func(dir string) error { return os.MkdirAll(filepath.Join(dir, "d/e"), 0o700) }, "app d/../../app", "no such file"},
		"a list of other files": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, listName), []byte(strings.Repeat("0", 64)+"  app\n"), 0o600)
		}, "", "is not the list of what is in"},
		"a file too many": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, listName), []byte("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  b\n"), 0o600)
		}, "app", "is not the list of what is in"},
		"no file": {func(dir string) error { return os.Remove(filepath.Join(dir, "app")) }, "", "no files to sign"},
	} {
		dir := dist(t, "app")
		if tt.put != nil {
			if err := tt.put(dir); err != nil {
				t.Fatal(err)
			}
		}
		before, _ := os.ReadDir(dir)
		args := []string{dir}
		if tt.args != "" {
			args = nil
			for a := range strings.FieldsSeq(tt.args) {
				args = append(args, dir+"/"+a)
			}
		}
		s, err := openFileSet(t.Context(), args, noSBOM)
		if err == nil {
			_, err = s.pieces(nil)
			s.lock.Release()
		}
		if err == nil || !slices.ContainsFunc(strings.Split(tt.want, "|"), func(w string) bool { return strings.Contains(err.Error(), w) }) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
		if after, _ := os.ReadDir(dir); len(after) != len(before) {
			t.Errorf("%s: something was written", name)
		}
	}
}

// TestFileSetChanges: a file that changes after it was read leaves nothing signed.
func TestFileSetChanges(t *testing.T) {
	dir := dist(t, "app", "b", "z")
	s, err := openFileSet(t.Context(), []string{dir}, noSBOM)
	if err != nil {
		t.Fatal(err)
	}
	defer s.lock.Release()
	pieces := signedSet(t, s)
	if err := os.WriteFile(filepath.Join(dir, "z"), []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.publish(t.Context(), pieces); err == nil || !strings.Contains(err.Error(), "z was changed while this ran: nothing is signed") {
		t.Errorf("got %v", err)
	}
	if got := filesIn(t, dir); !slices.Equal(got, []string{"app", "b", "z"}) {
		t.Errorf("got %q", got)
	}
}

// TestFileSetsAtOnce: a second command waits for the first one, and then finds all done.
func TestFileSetsAtOnce(t *testing.T) {
	dir := dist(t, "app", "b")
	first, err := openFileSet(t.Context(), []string{dir}, noSBOM)
	if err != nil {
		t.Fatal(err)
	}
	missing := make(chan int)
	go func() {
		second, err := openFileSet(t.Context(), []string{filepath.Join(dir, "app"), filepath.Join(dir, "b")}, noSBOM)
		if err != nil {
			t.Error(err)
			missing <- -1
			return
		}
		defer second.lock.Release()
		n := 0
		for _, p := range signedSet(t, second) {
			if p.raw != nil {
				n++
			}
		}
		missing <- n
	}()
	select {
	case <-missing:
		t.Fatal("it did not wait")
	case <-time.After(50 * time.Millisecond):
	}
	if err := first.publish(t.Context(), signedSet(t, first)); err != nil {
		t.Fatal(err)
	}
	first.lock.Release()
	if n := <-missing; n != 0 {
		t.Errorf("the second command has %d bundles to make, want 0", n)
	}
}

// TestTemporaryFilesInUse: the temporary file of a command that runs stays, and what one that
// ended has left is removed.
func TestTemporaryFilesInUse(t *testing.T) {
	for name, open := range map[string]func(ctx context.Context, dir string) error{
		"attest --files": func(ctx context.Context, dir string) error {
			s, err := openFileSet(ctx, []string{dir}, noSBOM)
			if err == nil {
				s.lock.Release()
			}
			return err
		},
		"sign": func(ctx context.Context, dir string) error {
			_, err := listFiles(ctx, dir)
			return err
		},
	} {
		for _, temporary := range []string{".z.sigstore.json.tmp-1", ".app.intoto.jsonl.tmp-1", ".SHA256SUMS.tmp-1", ".z.spdx.json.tmp-1"} {
			dir := dist(t, "app", "z", temporary)
			other := "z"
			if strings.HasPrefix(temporary, ".app") {
				other = "app"
			}
			running, err := dirlock.WaitBeside(t.Context(), filepath.Join(dir, other))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			if err := open(ctx, dir); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %s: got %v, want that it waits until its time is over", name, temporary, err)
			}
			cancel()
			if got := filesIn(t, dir); !slices.Contains(got, temporary) {
				t.Errorf("%s: %s of a command that runs was removed: got %q", name, temporary, got)
			}
			running.Release()
			if err := open(t.Context(), dir); err != nil {
				t.Errorf("%s: %s: %v", name, temporary, err)
			}
			if got := filesIn(t, dir); slices.Contains(got, temporary) {
				t.Errorf("%s: %s was left: got %q", name, temporary, got)
			}
		}
	}
}

// TestSBOMsOfArchives: an archive gets an SBOM, which is a release file as any other. One that
// is there is kept if it is about the same bytes.
func TestSBOMsOfArchives(t *testing.T) {
	dir := dist(t, "app", "app.tar.gz")
	archive := filepath.Join(dir, "app.tar.gz")
	scans := 0
	describe := func(path string) ([]byte, error) {
		f, err := openFile(path)
		scans++
		return fmt.Appendf(nil, `{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT","name":"app","documentNamespace":"https://example.com/1","creationInfo":{"created":"2026-01-02T03:04:05Z","creators":["Tool: x"]},
			"documentDescribes":["SPDXRef-app"],"packages":[{"SPDXID":"SPDXRef-app","name":"app","downloadLocation":"NOASSERTION","checksums":[{"algorithm":"SHA256","checksumValue":"%s"}]}],
			"relationships":[{"spdxElementId":"SPDXRef-DOCUMENT","relationshipType":"DESCRIBES","relatedSpdxElement":"SPDXRef-app"}]}`, f.Digest.Hex), err
	}
	for range 2 {
		s, err := openFileSet(t.Context(), []string{archive}, describe)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.publish(t.Context(), signedSet(t, s)); err != nil {
			t.Fatal(err)
		}
		s.lock.Release()
	}
	want := []string{"SHA256SUMS", "SHA256SUMS.intoto.jsonl", "SHA256SUMS.sigstore.json", "app", "app.tar.gz", "app.tar.gz.intoto.jsonl", "app.tar.gz.sigstore.json",
		"app.tar.gz.spdx.json", "app.tar.gz.spdx.json.intoto.jsonl", "app.tar.gz.spdx.json.sigstore.json"}
	if got := filesIn(t, dir); !slices.Equal(got, want) || scans != 1 {
		t.Errorf("got %q, %d scans", got, scans)
	}
	// The archive is built anew, and nothing of the old one is there but its SBOM.
	for _, name := range want {
		if name != "app.tar.gz.spdx.json" {
			os.Remove(filepath.Join(dir, name))
		}
	}
	if err := os.WriteFile(archive, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openFileSet(t.Context(), []string{archive}, describe); err == nil || !strings.Contains(err.Error(), "app.tar.gz.spdx.json: it is the SBOM of sha256:") {
		t.Errorf("SBOM of another archive: got %v", err)
	}
	if err := os.Remove(archive + sbomEnding); err != nil {
		t.Fatal(err)
	}
	failed := errors.New("the scanner failed")
	if _, err := openFileSet(t.Context(), []string{archive}, func(string) ([]byte, error) { return nil, failed }); !errors.Is(err, failed) {
		t.Errorf("scanner that fails: got %v", err)
	}
}

// spdxOf is an SBOM of the bytes with a SHA-256 digest.
const spdxOf = `{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT","name":"app","documentNamespace":"https://example.com/1","creationInfo":{"created":"2026-01-02T03:04:05Z","creators":["Tool: x"]},
	"documentDescribes":["SPDXRef-app"],"packages":[{"SPDXID":"SPDXRef-app","name":"app","downloadLocation":"NOASSERTION","checksums":[{"algorithm":"SHA256","checksumValue":"%s"}]}],
	"relationships":[{"spdxElementId":"SPDXRef-DOCUMENT","relationshipType":"DESCRIBES","relatedSpdxElement":"SPDXRef-app"}]}`

// TestSBOMsThatLie: an SBOM of other bytes is never listed, whether it was there or is new, and
// also where no SBOM can be made of another archive.
func TestSBOMsThatLie(t *testing.T) {
	dir := dist(t, "a.tar.gz", "b.tar.gz")
	other := func(string) ([]byte, error) { return fmt.Appendf(nil, spdxOf, fmt.Sprintf("%064d", 1)), nil }
	if _, err := openFileSet(t.Context(), []string{dir}, other); err == nil || !strings.Contains(err.Error(), "it is the SBOM of sha256:0") {
		t.Errorf("a new one: got %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "b.tar.gz.spdx.json"), fmt.Appendf(nil, spdxOf, fmt.Sprintf("%064d", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openFileSet(t.Context(), []string{dir}, noSBOM); err == nil || !strings.Contains(err.Error(), "b.tar.gz.spdx.json: it is the SBOM of sha256:0") {
		t.Errorf("an old one: got %v", err)
	}
}

// TestSignedBeforeWritten: the list and the new SBOMs are signed before they are on the disk, from
// the bytes that are written later. A timestamp authority is asked once something is signed.
func TestSignedBeforeWritten(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	defer srv.Close()
	service := func(version int) string {
		return fmt.Sprintf(`[{"url":%q,"majorApiVersion":%d,"validFor":{"start":"2020-01-01T00:00:00Z"},"operator":"test"}]`, srv.URL, version)
	}
	config, err := root.NewSigningConfigFromJSON(fmt.Appendf(nil, `{"mediaType":"application/vnd.dev.sigstore.signingconfig.v0.2+json",
		"rekorTlogUrls":%s,"rekorTlogConfig":{"selector":"ANY"},"tsaUrls":%s,"tsaConfig":{"selector":"ANY"}}`, service(2), service(1)))
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	trusted := &root.BaseTrustedMaterial{}
	session, err := sign.OpenKey(config, trusted, key)
	if err != nil {
		t.Fatal(err)
	}
	s, err := openFileSet(t.Context(), []string{dist(t, "app.tar.gz")}, func(path string) ([]byte, error) {
		raw, err := os.ReadFile(path)
		return fmt.Appendf(nil, spdxOf, fmt.Sprintf("%x", sha256.Sum256(raw))), err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.lock.Release()
	pieces, err := s.pieces(nil)
	if err != nil || len(pieces) != 3 {
		t.Fatalf("got %d pieces, %v; want those of the archive, its SBOM and the list", len(pieces), err)
	}
	p := &signing{services: &services{config, trusted}, session: session}
	for _, w := range pieces {
		if err := p.makeAll(t.Context(), []*piece{w}); err == nil || !strings.Contains(err.Error(), "timestamp: "+srv.URL+": got status 418") {
			t.Errorf("%s: got %v, want that it is signed and the timestamp fails", w.subject.path, err)
		}
		if w.subject.held == nil {
			continue
		}
		if f, err := w.subject.content(); err != nil {
			t.Error(err)
		} else if sum, _, err := v1.SHA256(f); err != nil || sum != w.subject.hash {
			t.Errorf("%s: got %s, %v, want %s", w.subject.path, sum, err, w.subject.hash)
		}
	}
}

// TestTimeoutOfFiles: a large release has more time than one file, unless the user says how much.
func TestTimeoutOfFiles(t *testing.T) {
	for args, want := range map[string]time.Duration{
		"":                     5 * time.Minute,
		"--files":              timeoutFiles,
		"--files --timeout 5m": 5 * time.Minute,
		"--timeout 1s":         time.Second,
	} {
		cmd := newAttestCommand()
		if err := cmd.ParseFlags(strings.Fields(args)); err != nil {
			t.Fatal(err)
		}
		if got := attestTimeout(cmd.Flags()); got != want {
			t.Errorf("%q: got %v, want %v", args, got, want)
		}
	}
}

// TestTooManyFilesToSign: more files than one certificate may sign are refused.
func TestTooManyFilesToSign(t *testing.T) {
	dir := t.TempDir()
	for i := range maxSignedFiles + 1 {
		if err := os.WriteFile(filepath.Join(dir, "f"+strings.Repeat("x", i%200)+string(rune('a'+i/200))), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := openFileSet(t.Context(), []string{dir}, noSBOM); err == nil || !strings.Contains(err.Error(), "expected at most 1000") {
		t.Errorf("got %v", err)
	}
}

// TestVerifyBesideFile: a file is verified with the bundles beside it, unless its name is
// spelled as that of an image.
func TestVerifyBesideFile(t *testing.T) {
	s := trustSigstore(t)
	source := []string{"--source", "github.com/aspect-build/rules_lint", "--skip-source"}
	s.run(exitOK, append([]string{"verify", attested + ".bazel"}, source...), "✓ file", "accepted")
	s.run(exitRejected, append([]string{"verify", attested + "-wrong-signer.bazel"}, source...), "malicious_attestation", "rejected")
	content, err := os.ReadFile(attested + ".bazel")
	if err != nil {
		t.Fatal(err)
	}
	bundle := []byte(realBundle(t))
	t.Chdir(t.TempDir())
	const image = "127.0.0.1:1/team/app"
	if err := errors.Join(os.MkdirAll("127.0.0.1:1/team", 0o700), os.WriteFile(image, content, 0o600), os.WriteFile(image+".intoto.jsonl", bundle, 0o600)); err != nil {
		t.Fatal(err)
	}
	s.run(exitUndecided, append([]string{"verify", image}, source...), "? image", "undecided")
	s.run(exitOK, append([]string{"verify", "./" + image}, source...), "✓ file", "accepted")
}
