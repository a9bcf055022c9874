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
// the same: SBOM, signature, and the attestations of the SBOM and of a scan. It also compares
// copy, which takes all of that with it, with crane's copy of the image alone.
func BenchmarkPieces(b *testing.B) {
	if os.Getenv("COLOPHON_BENCH") == "" {
		b.Skip("SKIPPED: make bench sets COLOPHON_BENCH")
	}
	p, to := harness.Start(b), harness.Start(b)
	p.Trust()
	dir, docker := b.TempDir(), p.DockerConfig()
	run(b, loginTo(b, to, docker))
	env := append(p.Env(), "DOCKER_CONFIG="+docker, "COSIGN_PASSWORD=", "HOME="+dir, "SYFT_CHECK_FOR_APP_UPDATE=false")
	stock := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(harness.Bin(b, name), args...)
		cmd.Env, cmd.Dir = env, dir
		return cmd
	}
	run(b, stock("cosign", "generate-key-pair"))
	run(b, exec.Command("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", filepath.Join(dir, "key.pem")))
	harness.Write(b, dir, map[string]string{
		"trusted_root.json": string(p.Get("/trusted_root.json")), "signing_config.json": string(p.Get("/signing_config.json")),
		"scan.json": `{"scanner":{"uri":"pkg:github/anchore/grype@v0.99.0","result":{}},"metadata":{"scanStartedOn":"2026-01-02T03:04:05Z","scanFinishedOn":"2026-01-02T03:04:06Z"}}`,
	})
	var ours, theirs, copies, bare []time.Duration
	for i := range 7 {
		image := pushLarge(b, p, dir, stock, i)
		key := []string{"--key", "key.pem"}
		ours = append(ours, times(1, func() {
			run(b, stock("colophon", "sbom", image, "--output", "ours.json"))
			run(b, stock("colophon", append([]string{"sign", image}, key...)...))
			run(b, stock("colophon", append([]string{"attest", image, "--type", "spdx", "--predicate", "ours.json"}, key...)...))
			run(b, stock("colophon", append([]string{"attest", image, "--type", "vuln", "--predicate", "scan.json"}, key...)...))
		}))
		key = []string{"--yes", "--key", "cosign.key", "--signing-config", "signing_config.json", "--trusted-root", "trusted_root.json"}
		theirs = append(theirs, times(1, func() {
			run(b, stock("syft", "registry:"+image, "-o", "spdx-json=theirs.json"))
			run(b, stock("cosign", append([]string{"sign", image}, key...)...))
			run(b, stock("cosign", append([]string{"attest", image, "--type", "spdxjson", "--predicate", "theirs.json"}, key...)...))
			run(b, stock("cosign", append([]string{"attest", image, "--type", "vuln", "--predicate", "scan.json"}, key...)...))
		}))
		// Who copies second does not get the first one's blobs: each has a repository of its own.
		timed := func(into *[]time.Duration, program, name string) {
			cmd := stock(program, "copy", image, fmt.Sprintf("%s/bench/%s%d:v1", to.Addr, name, i))
			*into = append(*into, times(1, func() { run(b, cmd) }))
		}
		if i%2 == 0 {
			timed(&copies, "colophon", "ours")
			timed(&bare, "crane", "theirs")
		} else {
			timed(&bare, "crane", "theirs")
			timed(&copies, "colophon", "ours")
		}
	}
	row("sbom, sign and two attest, whole processes", median(ours), "")
	row("syft, cosign sign and two cosign attest", median(theirs), "")
	ratio("  ours over theirs", median(ours), median(theirs), "aim 0.25")
	row(fmt.Sprintf("colophon copy of %d MiB with six proofs: %.0f MiB/s", largeMiB, largeMiB/median(copies).Seconds()), median(copies), "")
	row(fmt.Sprintf("crane copy of the same, without them: %.0f MiB/s", largeMiB/median(bare).Seconds()), median(bare), "")
	ratio("  ours over crane's", median(copies), median(bare), "aim 1")
}

// loginTo stores the token of a platform in a docker config.json.
func loginTo(b *testing.B, p *harness.Platform, docker string) *exec.Cmd {
	cmd := exec.Command(harness.Bin(b, "crane"), "auth", "login", p.Addr, "-u", "any", "-p", p.Token("client.json"))
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+docker)
	return cmd
}

const largeMiB = 64 // of each image that is copied, which do not compress

// pushLarge pushes an image of its own with a Go program and four layers of random bytes, and
// returns its name with the digest.
func pushLarge(b *testing.B, p *harness.Platform, dir string, stock func(string, ...string) *exec.Cmd, i int) string {
	b.Helper()
	args := []string{"append", "--oci-empty-base", "-t", fmt.Sprintf("%s/bench/large:v%d", p.Addr, i)}
	for n := range 4 {
		file := filepath.Join(dir, fmt.Sprintf("layer%d.tar", n))
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
	run(b, stock("crane", args...))
	digest := run(b, stock("crane", "digest", args[3]))
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
