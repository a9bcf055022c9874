package bench

import (
	"archive/tar"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/harness"
)

// BenchmarkPieces compares what a pipeline does after its build with the peers' commands for
// the same: SBOM, signature, and the attestations of the SBOM and of a scan.
func BenchmarkPieces(b *testing.B) {
	if os.Getenv("COLOPHON_BENCH") == "" {
		b.Skip("SKIPPED: make bench sets COLOPHON_BENCH")
	}
	p := startPieces(b)
	var ours, theirs []time.Duration
	for i := range 7 {
		image := p.pushLarge(b, i)
		ours = append(ours, times(1, func() { p.ours(b, image) }))
		theirs = append(theirs, times(1, func() { p.theirs(b, image) }))
	}
	row("sbom, sign and two attest, whole processes", median(ours), "")
	row("syft, cosign sign and two cosign attest", median(theirs), "")
	ratio("  ours over theirs", median(ours), median(theirs), "aim 0.25")
}

// pieces are two platforms, and a directory with all that signing images of the first one needs.
type pieces struct {
	*harness.Platform
	to     *harness.Platform
	dir    string
	docker string // directory of the docker config.json
	env    []string
}

func startPieces(b *testing.B) *pieces {
	p := &pieces{Platform: harness.Start(b), to: harness.Start(b), dir: b.TempDir()}
	p.Trust()
	p.docker = p.DockerConfig()
	run(b, loginTo(b, p.to, p.to.Addr, p.docker))
	p.env = append(p.Env(), "DOCKER_CONFIG="+p.docker, "COSIGN_PASSWORD=", "HOME="+p.dir, "SYFT_CHECK_FOR_APP_UPDATE=false")
	run(b, p.program(b, "cosign", "generate-key-pair"))
	run(b, exec.Command("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", filepath.Join(p.dir, "key.pem")))
	harness.Write(b, p.dir, map[string]string{
		"trusted_root.json": string(p.Get("/trusted_root.json")), "signing_config.json": string(p.Get("/signing_config.json")),
		"scan.json": `{"scanner":{"uri":"pkg:github/anchore/grype@v0.99.0","result":{}},"metadata":{"scanStartedOn":"2026-01-02T03:04:05Z","scanFinishedOn":"2026-01-02T03:04:06Z"}}`,
	})
	return p
}

func (p *pieces) program(b *testing.B, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(harness.Bin(b, name), args...)
	cmd.Env, cmd.Dir = p.env, p.dir
	return cmd
}

// ours attaches three proofs to an image.
func (p *pieces) ours(b *testing.B, image string) {
	key := []string{"--key", "key.pem"}
	run(b, p.program(b, "colophon", "sbom", image, "--output", "ours.json"))
	run(b, p.program(b, "colophon", append([]string{"sign", image}, key...)...))
	run(b, p.program(b, "colophon", append([]string{"attest", image, "--type", "spdx", "--predicate", "ours.json"}, key...)...))
	run(b, p.program(b, "colophon", append([]string{"attest", image, "--type", "vuln", "--predicate", "scan.json"}, key...)...))
}

// theirs attaches three more with the peers' programs.
func (p *pieces) theirs(b *testing.B, image string) {
	key := []string{"--yes", "--key", "cosign.key", "--signing-config", "signing_config.json", "--trusted-root", "trusted_root.json"}
	run(b, p.program(b, "syft", "registry:"+image, "-o", "spdx-json=theirs.json"))
	run(b, p.program(b, "cosign", append([]string{"sign", image}, key...)...))
	run(b, p.program(b, "cosign", append([]string{"attest", image, "--type", "spdxjson", "--predicate", "theirs.json"}, key...)...))
	run(b, p.program(b, "cosign", append([]string{"attest", image, "--type", "vuln", "--predicate", "scan.json"}, key...)...))
}

// loginTo stores the token of a platform, which is at addr, in a docker config.json.
func loginTo(b *testing.B, p *harness.Platform, addr, docker string) *exec.Cmd {
	cmd := exec.Command(harness.Bin(b, "crane"), "auth", "login", addr, "-u", "any", "-p", p.Token("client.json"))
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+docker)
	return cmd
}

const largeMiB = 64 // of each image that is copied, which do not compress

// pushLarge pushes an image of its own with a Go program and four layers of random bytes, and
// returns its name with the digest.
func (p *pieces) pushLarge(b *testing.B, i int) string {
	b.Helper()
	args := []string{"append", "--oci-empty-base", "-t", fmt.Sprintf("%s/bench/large:v%d", p.Addr, i)}
	for n := range 4 {
		file := filepath.Join(p.dir, fmt.Sprintf("layer%d.tar", n))
		f, err := os.Create(file)
		if err != nil {
			b.Fatal(err)
		}
		w := tar.NewWriter(f)
		err = w.WriteHeader(&tar.Header{Name: fmt.Sprintf("data%d", n), Mode: 0o644, Size: largeMiB << 20 / 4})
		if err == nil {
			_, err = io.CopyN(w, rand.Reader, largeMiB<<20/4)
		}
		if err == nil && n == 0 {
			err = addProgram(w, harness.Bin(b, "crane"))
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			b.Fatal(err)
		}
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
		args = append(args, "-f", file)
	}
	run(b, p.program(b, "crane", args...))
	digest := run(b, p.program(b, "crane", "digest", args[3]))
	return fmt.Sprintf("%s/bench/large@%.71s", p.Addr, digest)
}

func addProgram(w *tar.Writer, file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Name: "bin/program", Mode: 0o755, Size: int64(len(raw))}); err != nil {
		return err
	}
	_, err = w.Write(raw)
	return err
}
