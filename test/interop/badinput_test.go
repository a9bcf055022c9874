package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/needs"
)

// bad is a command line of sign or attest that must fail, and what its error must say.
type bad struct {
	args []string
	want string
}

// TestBadInput gives sign and attest what a pipeline can give them by mistake or malice. Each time
// there is an error that names it, and neither log nor registry nor directory has anything new; the
// same command with what it should have got finishes, and then has nothing to do.
func TestBadInput(t *testing.T) {
	p := startPieces(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	harness.Write(t, dir, map[string]string{"good.json": `{"passed":true}`, "twice.json": `{"passed":true,"passed":false}`, "text.json": "passed", "null.json": "null",
		"schema.json": `{"type":"object","properties":{"passed":{"const":true}},"required":["passed"]}`, "other.json": `{"passed":false}`, "empty.json": "", "password": "hunter2", "wrong": "hunter3", "app": "content"})
	huge, err := os.Create(at("huge.json")) // 100 MB of spaces, and most of them are not on the disk
	if err == nil {
		err = huge.Truncate(100 << 20)
	}
	if err != nil {
		t.Fatal(err)
	}
	huge.Close()
	key, password, _ := p.keys(t)
	for name, args := range map[string]string{"ed25519.key": "genpkey -algorithm ed25519", "rsa1024.key": "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024", "k256.key": "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:secp256k1", "good.key": "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"} {
		if out, err := exec.CommandContext(t.Context(), "openssl", append(strings.Fields(args), "-out", at(name))...).CombinedOutput(); err != nil {
			t.Fatalf("openssl %s: %v\n%s", args, err, out)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "openssl", "pkey", "-in", at("good.key"), "-pubout", "-out", at("good.pub")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	now := time.Now()
	token := func(claims map[string]any) string { return p.staff.token(t, claims) }
	const image = "bad/app:v1"
	digest := p.push(t, image)
	sign := func(args ...string) []string { return append([]string{"sign", p.Addr + "/" + image}, args...) }
	attest := func(file string, args ...string) []string {
		return append([]string{"attest", p.Addr + "/" + image, "--type", "https://example.com/test/v1", "--schema", at("schema.json"), "--predicate", at(file), "--key", at("good.key")}, args...)
	}
	for name, b := range map[string]bad{
		"a token for another audience": {sign("--identity-token-file", token(map[string]any{"aud": "elsewhere"})), "elsewhere"},
		"a token that has ended":       {sign("--identity-token-file", token(map[string]any{"iat": now.Add(-time.Hour).Unix(), "nbf": now.Add(-time.Hour).Unix(), "exp": now.Add(-30 * time.Minute).Unix()})), "expires at"},
		"a token of the future":        {sign("--identity-token-file", token(map[string]any{"nbf": now.Add(2 * time.Hour).Unix(), "exp": now.Add(3 * time.Hour).Unix()})), "expires at"},
		"a token of another issuer":    {sign("--identity-token-file", token(map[string]any{"iss": "https://elsewhere.example.com"})), "https://elsewhere.example.com"},
		"a predicate of 100 MB":        {attest("huge.json"), "huge.json"},
		"duplicate members":            {attest("twice.json"), "duplicate"},
		"against its schema":           {attest("other.json"), "does not meet"},
		"no JSON":                      {attest("text.json"), "text.json"},
		"null":                         {attest("null.json"), "null.json"},
		"an empty document":            {attest("empty.json"), "empty.json"},
		"no document":                  {attest("none.json"), "none.json"},
		"a key for Ed25519":            {sign("--key", at("ed25519.key")), "Ed25519"},
		"a weak RSA key":               {sign("--key", at("rsa1024.key")), "1024"},
		"a key of another curve":       {sign("--key", at("k256.key")), "k256.key"},
		"a public key":                 {sign("--key", at("good.pub")), "good.pub"},
		"no key":                       {sign("--key", at("good.json")), "good.json"},
		"an encrypted key":             {sign("--key", key), "there is no terminal"},
		"a wrong password":             {sign("--key", key, "--password-file", at("wrong")), "password"},
	} {
		t.Run(name, func(t *testing.T) { p.nothing(t, image, digest, b) })
	}
	t.Run("a predicate without end", func(t *testing.T) {
		cmd := p.Colophon(t.Context(), attest("good.json", "--predicate", "-")...)
		zero, err := os.Open("/dev/zero")
		if err != nil {
			t.Fatal(err)
		}
		defer zero.Close()
		cmd.Stdin = zero
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "more than") {
			t.Errorf("got %v\n%s", err, out)
		}
	})
	t.Run("a token that is about to end", func(t *testing.T) {
		args := sign("--identity-token-file")
		for _, left := range []time.Duration{time.Second, 3 * time.Second, time.Minute} { // the first may be in time, or too late
			if out, err := p.Colophon(t.Context(), append(args, token(map[string]any{"exp": time.Now().Add(left).Unix()}))...).CombinedOutput(); err != nil && (left == time.Minute || !strings.Contains(string(out), "expire")) {
				t.Errorf("%s before its end: %v\n%s", left, err, out)
			}
		}
		p.once(t, append(args, token(nil)), image, digest, 1)
	})
	p.once(t, attest("good.json"), image, digest, 2)
	p.once(t, sign("--key", key, "--password-file", password), image, digest, 3)
	t.Run("devices among release files", func(t *testing.T) { p.devices(t, at("good.key")) })
}

// nothing runs a command that must fail, and leave nothing behind.
func (p *pieces) nothing(t *testing.T, image, digest string, b bad) {
	t.Helper()
	size, attached := p.Checkpoint().Size, p.attached(image, digest)
	p.refused(t, b.want, b.args...)
	if now := p.Checkpoint().Size; now != size {
		t.Errorf("the log has %d entries, and had %d", now, size)
	}
	if now := p.attached(image, digest); now != attached {
		t.Errorf("%d things are attached, and there were %d", now, attached)
	}
}

// attached counts what is attached to an image.
func (p *pieces) attached(image, digest string) (n int) {
	name, _, _ := strings.Cut(image, ":")
	for _, ofType := range p.Referrers(name, digest) {
		n += ofType
	}
	return n
}

// once runs a command that signs twice, and wants so many things attached, whether or not it had
// something to do.
func (p *pieces) once(t *testing.T, args []string, image, digest string, attached int) {
	t.Helper()
	p.colophon(t, args...)
	if again := p.colophon(t, args...); !again[0].Already {
		t.Errorf("%q signed twice: %+v", args, again)
	}
	if now := p.attached(image, digest); now != attached {
		t.Errorf("after %q: %d things are attached, want %d", args, now, attached)
	}
}

// devices puts a device and a socket among release files.
func (p *pieces) devices(t *testing.T, key string) {
	needs.Root(t, "a device")
	for name, put := range map[string]func(path string) error{
		"device": func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))) }, // without end
		"socket": func(path string) error { return unix.Mknod(path, unix.S_IFSOCK|0o600, 0) },
	} {
		dist := t.TempDir()
		harness.Write(t, dist, map[string]string{"app": "content"})
		if err := put(filepath.Join(dist, "b")); err != nil {
			t.Fatal(err)
		}
		p.refused(t, "neither a file nor a directory", "sign", filepath.Join(dist, "b"), "--key", key)
		for _, args := range [][]string{{"sign", dist}, {"attest", "--files", dist}, {"attest", "--files", filepath.Join(dist, "app"), filepath.Join(dist, "b")}} {
			p.refused(t, "not a regular file", append(args, "--key", key)...)
			if left, err := os.ReadDir(dist); err != nil || len(left) != 2 {
				t.Errorf("%s: %q left %v, %v", name, args, left, err)
			}
		}
		if err := os.Remove(filepath.Join(dist, "b")); err != nil {
			t.Fatal(err)
		}
		p.colophon(t, "attest", "--files", dist, "--key", key)
	}
}
