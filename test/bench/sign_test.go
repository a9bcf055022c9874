package bench

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/harness"
)

// BenchmarkSign compares colophon sign and attest with cosign's, with the same key, on the same
// platform, each time on an image of its own.
func BenchmarkSign(b *testing.B) {
	if os.Getenv("COLOPHON_BENCH") == "" {
		b.Skip("SKIPPED: make bench sets COLOPHON_BENCH")
	}
	p := harness.Start(b)
	p.Trust()
	dir := b.TempDir()
	env := append(p.Env(), "DOCKER_CONFIG="+p.DockerConfig(), "COSIGN_PASSWORD=", "HOME="+dir)
	stock := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(harness.Bin(b, name), args...)
		cmd.Env, cmd.Dir = env, dir
		return cmd
	}
	run(b, stock("cosign", "generate-key-pair"))
	for path, file := range map[string]string{"/trusted_root.json": "trusted_root.json", "/signing_config.json": "signing_config.json"} {
		if err := os.WriteFile(filepath.Join(dir, file), p.Get(path), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	harness.Write(b, dir, map[string]string{"own.json": `{"reviewed":true}`, "password": ""})
	// cosign decrypts its key with scrypt each time. With a key in plain text, ours does not.
	plain := filepath.Join(dir, "key.pem")
	run(b, exec.Command("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", plain))
	var ours, encrypted, theirs, attest, theirAttest []time.Duration
	const attestType = "https://example.com/review/v1"
	for i := range 15 {
		image := pushOne(b, p, dir, stock, i)
		timed := func(into *[]time.Duration, cmd *exec.Cmd) { *into = append(*into, times(1, func() { run(b, cmd) })) }
		timed(&ours, stock("colophon", "sign", image, "--key", plain))
		timed(&encrypted, stock("colophon", "sign", image, "--key", "cosign.key", "--password-file", "password"))
		timed(&theirs, stock("cosign", "sign", "--yes", "--key", "cosign.key", "--signing-config", "signing_config.json", "--trusted-root", "trusted_root.json", image))
		timed(&attest, stock("colophon", "attest", image, "--key", plain, "--type", attestType, "--predicate", "own.json"))
		timed(&theirAttest, stock("cosign", "attest", "--yes", "--key", "cosign.key", "--signing-config", "signing_config.json", "--trusted-root", "trusted_root.json", "--type", attestType, "--predicate", "own.json", image))
	}
	row("colophon sign of an image, whole process", median(ours), "aim 60 ms")
	row("  with cosign's encrypted key", median(encrypted), "")
	row("cosign sign", median(theirs), "")
	ratio("  colophon sign over cosign sign", median(ours), median(theirs), "aim 0.33")
	ratio("  the same, with the same encrypted key", median(encrypted), median(theirs), "")
	row("colophon attest", median(attest), "")
	row("cosign attest", median(theirAttest), "")
	ratio("  colophon attest over cosign attest", median(attest), median(theirAttest), "")
}

// pushOne pushes a small image of its own, and returns its name with the digest.
func pushOne(b *testing.B, p *harness.Platform, dir string, stock func(string, ...string) *exec.Cmd, i int) string {
	b.Helper()
	content := fmt.Appendf(nil, "image %d", i)
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: int64(len(content))}); err != nil {
		b.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		b.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "layer.tar"), layer.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	name := fmt.Sprintf("%s/bench/sign:v%d", p.Addr, i)
	run(b, stock("crane", "append", "-f", "layer.tar", "-t", name))
	digest := strings.TrimSpace(string(run(b, stock("crane", "digest", name))))
	return p.Addr + "/bench/sign@" + digest
}
