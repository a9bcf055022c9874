package interop

import (
	"archive/tar"
	"bytes"
	"cmp"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/harness"
)

// pieces is a platform whose certificate authority takes tokens of staff, with an image that
// no release made.
type pieces struct {
	*bench
	staff *people
}

func startPieces(t *testing.T) *pieces {
	t.Helper()
	staff := newPeople(t)
	p := harness.Start(t, "--config", harness.Config(t, staff.ForPeople()))
	p.Trust()
	b := &bench{Platform: p, t: t, home: t.TempDir(), docker: p.DockerConfig()}
	b.root, b.config = filepath.Join(b.home, "trusted_root.json"), filepath.Join(b.home, "signing_config.json")
	for path, file := range map[string]string{"/trusted_root.json": b.root, "/signing_config.json": b.config} {
		if err := os.WriteFile(file, p.Get(path), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &pieces{b, staff}
}

// push pushes an image that crane makes, and returns its digest.
func (p *pieces) push(t *testing.T, name string) (digest string) {
	t.Helper()
	tarball := filepath.Join(t.TempDir(), "layer.tar")
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := cmp.Or(w.WriteHeader(&tar.Header{Name: "hello", Mode: 0o644, Size: int64(len(name))}), func() error { _, err := w.Write([]byte(name)); return err }(), w.Close()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tarball, layer.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	p.run(t, "crane", "append", "--oci-empty-base", "-f", tarball, "-t", p.Addr+"/"+name)
	return strings.TrimSpace(p.run(t, "crane", "digest", p.Addr+"/"+name))
}

// answer is one element of what sign and attest print.
type answer struct {
	Subject, Digest, Bundle, Identity, Issuer, Key string
	LogIndex                                       int64
	Already                                        bool
}

func (p *pieces) colophon(t *testing.T, args ...string) (all []answer) {
	t.Helper()
	cmd := p.Colophon(t.Context(), append(args, "--json")...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("colophon %s: %v\n%s%s", strings.Join(args, " "), err, out, &stderr)
	}
	if err := json.Unmarshal(out, &all); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return all
}

func (p *pieces) refused(t *testing.T, want string, args ...string) {
	t.Helper()
	if out, err := p.Colophon(t.Context(), args...).CombinedOutput(); err == nil || !strings.Contains(string(out), want) {
		t.Errorf("colophon %s: %v, want %q in it:\n%s", strings.Join(args, " "), err, want, out)
	}
}

// TestPieces signs and attests images and files that Colophon did not build, and lets stock
// cosign verify all of it.
func TestPieces(t *testing.T) {
	p := startPieces(t)
	const name = "team/elsewhere:v1"
	digest := p.push(t, name)
	image := p.Addr + "/" + name
	ada := []string{"--trusted-root", p.root, "--certificate-identity", "ada@example.com", "--certificate-oidc-issuer", p.staff.URL}
	token := func() string { return p.staff.token(t, nil) }

	t.Run("sign an image with a token", func(t *testing.T) {
		got := p.colophon(t, "sign", image, "--identity-token-file", token())
		if got[0].Already || got[0].Digest != digest || got[0].Identity != "ada@example.com" || got[0].Issuer != p.staff.URL {
			t.Errorf("got %+v", got[0])
		}
		p.run(t, "cosign", append([]string{"verify", image}, ada...)...)
		again := p.colophon(t, "sign", image, "--identity-token-file", token())
		if !again[0].Already || again[0].LogIndex != got[0].LogIndex || again[0].Bundle != got[0].Bundle {
			t.Errorf("signed twice: %+v, then %+v", got[0], again[0])
		}
		if n := p.Referrers("team/elsewhere", digest); len(n) != 1 {
			t.Errorf("attached: %v", n)
		}
		bob := p.colophon(t, "sign", image, "--identity-token-file", p.staff.token(t, map[string]any{"email": "bob@example.com"}))
		if bob[0].Already {
			t.Error("the signature of ada counts as that of bob")
		}
	})
	t.Run("attest an image", func(t *testing.T) {
		dir := t.TempDir()
		harness.Write(t, dir, map[string]string{
			"scan.json": `{"invocation":{"uri":"","event_id":"","builder.id":""},"scanner":{"uri":"pkg:github/anchore/grype@v0.99.0","version":"","db":{"uri":"","version":"","lastUpdate":""},"result":{}},"metadata":{"scanStartedOn":"2026-01-02T03:04:05Z","scanFinishedOn":"2026-01-02T03:04:06Z"}}`,
			"vex.json":  `{"@context":"https://openvex.dev/ns/v0.2.0","@id":"https://example.com/1","author":"ada","timestamp":"2026-01-02T03:04:05Z","version":1,"statements":[]}`,
			"own.json":  `{"reviewed":true}`,
		})
		for kind, file := range map[string]string{"vuln": "scan.json", "openvex": "vex.json", "https://example.com/review/v1": "own.json"} {
			args := []string{"attest", image, "--type", kind, "--predicate", filepath.Join(dir, file), "--identity-token-file", token()}
			if got := p.colophon(t, args...); got[0].Already {
				t.Errorf("%s: got %+v", kind, got[0])
			}
			if got := p.colophon(t, args...); !got[0].Already {
				t.Errorf("%s: attested twice", kind)
			}
			p.run(t, "cosign", append([]string{"verify-attestation", "--type", kind, image}, ada...)...)
		}
	})
	key, password, public := p.keys(t)
	withKey := func(args ...string) []string { return append(args, "--key", key, "--password-file", password) }
	byKey := []string{"--key", public, "--trusted-root", p.root}
	t.Run("sign and attest a file with a key", func(t *testing.T) {
		dir := t.TempDir()
		file := filepath.Join(dir, "app.tar.gz")
		harness.Write(t, dir, map[string]string{"app.tar.gz": "content", "own.json": `{"reviewed":true}`})
		if got := p.colophon(t, withKey("sign", file)...); got[0].Bundle != file+".sigstore.json" || got[0].Already {
			t.Errorf("got %+v", got[0])
		}
		if got := p.colophon(t, withKey("sign", file)...); !got[0].Already {
			t.Error("signed twice")
		}
		p.run(t, "cosign", append([]string{"verify-blob", "--bundle", file + ".sigstore.json", file}, byKey...)...)
		p.colophon(t, withKey("attest", file, "--type", "https://example.com/review/v1", "--predicate", filepath.Join(dir, "own.json"))...)
		p.run(t, "cosign", append([]string{"verify-blob-attestation", "--type", "https://example.com/review/v1", "--bundle", file + ".intoto.jsonl", file}, byKey...)...)
		harness.Write(t, dir, map[string]string{"app.tar.gz": "other content"})
		p.refused(t, "a signature of something or somebody else", withKey("sign", file)...)
	})
	t.Run("sign a directory of release files", func(t *testing.T) {
		dir := t.TempDir()
		harness.Write(t, dir, map[string]string{"app.tar.gz": "1", "doc/app.1": "2"})
		got := p.colophon(t, withKey("sign", dir)...)
		if list := filepath.Join(dir, "SHA256SUMS"); got[0].Subject != list || got[0].Bundle != list+".sigstore.json" {
			t.Errorf("got %+v", got[0])
		}
		verify := []string{"verify", dir, "--key", public}
		if out, err := p.Colophon(t.Context(), verify...).CombinedOutput(); err != nil {
			t.Errorf("verify: %v\n%s", err, out)
		}
		if got := p.colophon(t, withKey("sign", dir)...); !got[0].Already {
			t.Error("signed twice")
		}
		p.run(t, "cosign", append([]string{"verify-blob", "--bundle", filepath.Join(dir, "SHA256SUMS.sigstore.json"), filepath.Join(dir, "SHA256SUMS")}, byKey...)...)
		harness.Write(t, dir, map[string]string{"app.zip": "3"})
		p.refused(t, "app.zip is not in the list", withKey("sign", dir)...)
		p.refused(t, "app.zip is not in the list", verify...)
	})
	t.Run("attest release files with a key", func(t *testing.T) {
		dir := t.TempDir()
		harness.Write(t, dir, map[string]string{"app": "1", "doc/app.1": "2"})
		if got := p.colophon(t, withKey("attest", "--files", dir)...); len(got) != 3 {
			t.Errorf("got %+v", got)
		}
		for _, a := range p.colophon(t, withKey("attest", "--files", dir)...) {
			if !a.Already {
				t.Errorf("signed twice: %+v", a)
			}
			file := strings.TrimSuffix(a.Bundle, ".sigstore.json")
			p.run(t, "cosign", append([]string{"verify-blob", "--bundle", a.Bundle, file}, byKey...)...)
			if out, err := p.Colophon(t.Context(), "verify", file, "--key", public).CombinedOutput(); err != nil {
				t.Errorf("verify: %v\n%s", err, out)
			}
		}
		p.refused(t, "with a signature of something or somebody else", "attest", "--files", dir, "--identity-token-file", token())
	})
	t.Run("sign an image with a key", func(t *testing.T) {
		p.colophon(t, withKey("sign", image)...)
		p.run(t, "cosign", append([]string{"verify", image}, byKey...)...)
	})
	t.Run("refused", func(t *testing.T) {
		dir := t.TempDir()
		harness.Write(t, dir, map[string]string{"twice.json": `{"a":1,"a":2}`, "list.json": `[]`, "scan.json": `{"scanner":{}}`, "file": "x", "no-token": "hunter2"})
		p.refused(t, "no JWT", "sign", image, "--identity-token-file", filepath.Join(dir, "no-token"))
		p.refused(t, `no member "metadata"`, "attest", image, "--key", key, "--type", "vuln", "--predicate", filepath.Join(dir, "scan.json"))
		p.refused(t, "duplicate", "attest", image, "--key", key, "--type", "https://example.com/x", "--predicate", filepath.Join(dir, "twice.json"))
		p.refused(t, "expected a URI or one of", "attest", image, "--key", key, "--type", "vulnerability", "--predicate", filepath.Join(dir, "scan.json"))
		p.refused(t, "named twice", "sign", image, p.Addr+"/team/elsewhere@"+digest, "--key", key)
		p.refused(t, "audience", "sign", image, "--identity-token-file", p.staff.token(t, map[string]any{"aud": "elsewhere"}))
		p.refused(t, "no terminal to ask", "sign", image, "--key", key)
		p.refused(t, "it is not said who signs", "sign", image)
		if err := os.Symlink("file", filepath.Join(dir, "file.sigstore.json")); err != nil {
			t.Fatal(err)
		}
		p.refused(t, "not a regular file", "sign", filepath.Join(dir, "file"), "--key", key)
	})
}

// keys makes a key with cosign, which encrypts it, and returns its file, that of its
// password and that of its public key.
func (p *pieces) keys(t *testing.T) (private, password, public string) {
	t.Helper()
	dir := t.TempDir()
	cmd := p.command(t, "cosign", "generate-key-pair")
	cmd.Dir, cmd.Env = dir, append(cmd.Env, "COSIGN_PASSWORD=hunter2")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("generate-key-pair: %v\n%s", err, out)
	}
	harness.Write(t, dir, map[string]string{"password": "hunter2\n"})
	return filepath.Join(dir, "cosign.key"), filepath.Join(dir, "password"), filepath.Join(dir, "cosign.pub")
}
