package interop

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/needs"
)

// softHSM is a token of SoftHSM with the keys "release" (P-256), "p384", "rsa", and "k1", which has a curve that nobody here signs with.
type softHSM struct{ module, conf string }

func newSoftHSM(t *testing.T) *softHSM {
	t.Helper()
	h := &softHSM{module: "/usr/lib/softhsm/libsofthsm2.so"}
	if _, err := os.Stat(h.module); err != nil {
		needs.Missing(t, "there is no SoftHSM (the Debian package softhsm2): %v", err)
	}
	dir := t.TempDir()
	harness.Write(t, dir, map[string]string{"softhsm2.conf": "directories.tokendir = " + dir + "/tokens\nobjectstore.backend = file\nlog.level = ERROR\n", "pin": "123456\n"})
	if err := os.Mkdir(filepath.Join(dir, "tokens"), 0o700); err != nil {
		t.Fatal(err)
	}
	h.conf = filepath.Join(dir, "softhsm2.conf")
	t.Setenv("SOFTHSM2_CONF", h.conf)
	run := func(program string, args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
		}
	}
	run("softhsm2-util", "--init-token", "--free", "--label", "ours", "--so-pin", "654321", "--pin", "123456")
	for i, key := range [][]string{{"release", "EC", "ec_paramgen_curve:P-256"}, {"p384", "EC", "ec_paramgen_curve:P-384"}, {"rsa", "RSA", "rsa_keygen_bits:2048"}, {"k1", "EC", "ec_paramgen_curve:secp256k1"}} {
		file := filepath.Join(dir, key[0]+".pem")
		run("openssl", "genpkey", "-algorithm", key[1], "-pkeyopt", key[2], "-out", file)
		run("softhsm2-util", "--import", file, "--token", "ours", "--label", key[0], "--id", fmt.Sprintf("0%d", i+1), "--pin", "123456")
	}
	return h
}

func (h *softHSM) pin() string { return filepath.Join(filepath.Dir(h.conf), "pin") }

func (h *softHSM) uri(attributes string) string {
	return "pkcs11:" + attributes + "?module-path=" + h.module
}

// TestPKCS11 signs with a key that never leaves its token, and lets stock cosign verify it.
func TestPKCS11(t *testing.T) {
	harness.Bin(t, "colophon-keys") // which colophon finds beside itself
	h := newSoftHSM(t)
	p := startPieces(t)
	const name = "team/by-token:v1"
	p.push(t, name)
	image := p.Addr + "/" + name
	dir := t.TempDir()
	harness.Write(t, dir, map[string]string{"app.tar.gz": "content", "own.json": `{"reviewed":true}`, "wrong": "000000"})
	file, public := filepath.Join(dir, "app.tar.gz"), filepath.Join(dir, "release.pub")
	key := h.uri("token=ours;object=release")
	with := func(args ...string) []string { return append(args, "--key", key, "--password-file", h.pin()) }

	pem, err := p.Colophon(t.Context(), with("sign", "--public-key")...).Output()
	if err != nil {
		t.Fatalf("%v: %s", err, err.(*exec.ExitError).Stderr)
	}
	harness.Write(t, dir, map[string]string{"release.pub": string(pem)})
	byKey := []string{"--key", public, "--trusted-root", p.root}

	p.colophon(t, with("sign", image)...)
	p.run(t, "cosign", append([]string{"verify", image}, byKey...)...)
	p.colophon(t, with("attest", image, "--type", "https://example.com/review/v1", "--predicate", filepath.Join(dir, "own.json"))...)
	p.run(t, "cosign", append([]string{"verify-attestation", "--type", "https://example.com/review/v1", image}, byKey...)...)
	if got := p.colophon(t, "sign", file, "--key", h.uri("token=ours;id=%01")+"&pin-source=file:"+h.pin()); got[0].Already {
		t.Errorf("got %+v", got[0])
	}
	p.run(t, "cosign", append([]string{"verify-blob", "--bundle", file + ".sigstore.json", file}, byKey...)...)
	if got := p.colophon(t, with("sign", file)...); !got[0].Already {
		t.Error("signed twice")
	}

	for _, object := range []string{"p384", "rsa"} {
		p.signsWith(t, "team/by-"+object+":v1", h.uri("token=ours;object="+object), "--password-file", h.pin())
	}

	refused := func(want, attributes string, more ...string) {
		t.Helper()
		p.refused(t, want, append([]string{"sign", image, "--key", h.uri(attributes)}, more...)...)
	}
	pin := []string{"--password-file", h.pin()}
	refused("no terminal to ask for the PIN", "token=ours;object=release")
	refused("0 tokens match the URI, want one; the module has the tokens: \"ours\"", "token=theirs;object=release", pin...)
	refused("has 0 private EC or RSA keys for object \"nothing\"", "token=ours;object=nothing", pin...)
	refused("private EC or RSA keys for any private key, want one", "token=ours", pin...)
	refused("another curve than P-256", "token=ours;object=k1", pin...)
	refused("attribute objekt", "token=ours;objekt=release", pin...)
	p.refused(t, "want module-path=/PATH", append([]string{"sign", image, "--key", "pkcs11:token=ours;object=release"}, pin...)...)
	p.refused(t, "module-path: ", append([]string{"sign", image, "--key", "pkcs11:token=ours?module-path=/nonexistent.so"}, pin...)...)
	if libs, _ := filepath.Glob("/lib/*/libm.so.6"); len(libs) > 0 {
		p.refused(t, "is no PKCS #11 library", append([]string{"sign", image, "--key", "pkcs11:token=ours?module-path=" + libs[0]}, pin...)...)
	}
	p.refused(t, "colophon-keys: wrong PIN", "sign", image, "--key", key, "--password-file", filepath.Join(dir, "wrong"))
	p.refused(t, "the URI contains a PIN", "sign", image, "--key", key+"&pin-value=123456")
}

// signsWith signs an image, a predicate and a file with a key, and lets stock cosign and verify
// check all three.
func (p *pieces) signsWith(t *testing.T, name, key string, more ...string) {
	t.Helper()
	p.push(t, name)
	image, dir := p.Addr+"/"+name, t.TempDir()
	harness.Write(t, dir, map[string]string{"app.txt": name, "own.json": `{"reviewed":true}`})
	file, public := filepath.Join(dir, "app.txt"), filepath.Join(dir, "key.pub")
	with := func(args ...string) []string { return append(append(args, "--key", key), more...) }
	pem, err := p.Colophon(t.Context(), with("sign", "--public-key")...).Output()
	if err != nil {
		t.Fatal(err)
	}
	harness.Write(t, dir, map[string]string{"key.pub": string(pem)})
	byKey := []string{"--key", public, "--trusted-root", p.root}
	for kind, hash := range map[string]string{"p384": "sha384", "p521": "sha512"} { // cosign takes every key for one that signs SHA-256
		if strings.Contains(name, kind) {
			byKey = append(byKey, "--signature-digest-algorithm", hash)
		}
	}
	p.colophon(t, with("sign", image)...)
	p.run(t, "cosign", append([]string{"verify", image}, byKey...)...)
	p.colophon(t, with("attest", image, "--type", "https://example.com/review/v1", "--predicate", filepath.Join(dir, "own.json"))...)
	p.run(t, "cosign", append([]string{"verify-attestation", "--type", "https://example.com/review/v1", image}, byKey...)...)
	p.colophon(t, with("sign", file)...)
	p.run(t, "cosign", append([]string{"verify-blob", "--bundle", file + ".sigstore.json", file}, byKey...)...)
	for _, what := range []string{image, file} {
		if got := p.colophon(t, with("sign", what)...); !got[0].Already {
			t.Errorf("%s: signed twice", what)
		}
		args := []string{"verify", what, "--key", public}
		if what == file {
			args = append(args, "--bundle", file+".sigstore.json")
		}
		if out := p.ours(t, 0, args...); !strings.Contains(out, "accepted") {
			t.Errorf("verify %s: %s", what, out)
		}
	}
}

// TestKeyKinds signs with a key of each kind, in files by openssl.
func TestKeyKinds(t *testing.T) {
	p := startPieces(t)
	dir := t.TempDir()
	make := func(t *testing.T, name string, args ...string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if out, err := exec.CommandContext(t.Context(), "openssl", append(append([]string{"genpkey"}, args...), "-out", file)...).CombinedOutput(); err != nil {
			t.Fatalf("openssl: %v\n%s", err, out)
		}
		return file
	}
	ec := func(curve string) []string {
		return []string{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:" + curve}
	}
	bits := func(n string) []string { return []string{"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:" + n} }
	for name, args := range map[string][]string{
		"p256": ec("P-256"), "p384": ec("P-384"), "p521": ec("P-521"), "rsa2048": bits("2048"), "rsa3072": bits("3072"), "rsa4096": bits("4096"),
	} {
		t.Run(name, func(t *testing.T) { p.signsWith(t, "team/"+name+":v1", make(t, name, args...)) })
	}
	t.Run("cosign signs with no Ed25519 key", p.cosignHasNoEd25519)
	const name = "team/refused:v1"
	p.push(t, name)
	for want, key := range map[string]string{
		"cosign verifies no Ed25519":     make(t, "ed25519", "-algorithm", "ED25519"),
		"got RSA of 1024 bits":           make(t, "rsa1024", bits("1024")...),
		"got ECDSA with the curve P-224": make(t, "p224", ec("P-224")...),
	} {
		p.refused(t, want, "sign", p.Addr+"/"+name, "--key", key)
	}
}

// cosignHasNoEd25519: stock cosign logs an Ed25519ph signature, which it then does not verify, and
// has no algorithm for RSA-PSS. If it ever has, docs/sign.md must say something else.
func (p *pieces) cosignHasNoEd25519(t *testing.T) {
	dir := t.TempDir()
	harness.Write(t, dir, map[string]string{"file": "content"})
	key := filepath.Join(dir, "plain.key")
	if out, err := exec.CommandContext(t.Context(), "openssl", "genpkey", "-algorithm", "ED25519", "-out", key).CombinedOutput(); err != nil {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
	p.run(t, "cosign", "import-key-pair", "--yes", "--key", key, "--output-key-prefix", filepath.Join(dir, "cosign"))
	out := p.fail(t, "cosign", "sign-blob", "--yes", "--key", filepath.Join(dir, "cosign.key"), "--signing-config", p.config, "--trusted-root", p.root, "--bundle", filepath.Join(dir, "bundle"), filepath.Join(dir, "file"))
	if !strings.Contains(out, "failed to verify signature") {
		t.Errorf("got %s", out)
	}
	help := p.run(t, "cosign", "sign-blob", "--help")
	if !strings.Contains(help, "rsa-sign-pkcs1-2048-sha256") || strings.Contains(help, "pss") || strings.Contains(help, "ed25519") {
		t.Errorf("cosign signs with other algorithms: %s", help)
	}
}
