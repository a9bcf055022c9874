// Package bench compares Colophon with its peers in one run, by medians and ratios. It
// never fails because of a slow result: a busy machine is not a bug. make bench runs
// it, and prints the results on standard output.
package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/test/harness"
)

// BenchmarkPlatform runs all benchmarks that need a platform, on one platform.
func BenchmarkPlatform(b *testing.B) {
	if os.Getenv("COLOPHON_BENCH") == "" {
		b.Skip("SKIPPED: make bench sets COLOPHON_BENCH")
	}
	started := time.Now()
	p := harness.Start(b, "--mirror", harness.BaseImages(b))
	row("colophond, start to ready", time.Since(started), "")
	p.Trust()
	time.Sleep(10 * time.Second)
	pss, rss := p.Resident()
	fmt.Printf("%-58s %8.0f MiB  aim 150\n", "colophond idle, all processes, shared pages counted once", pss)
	fmt.Printf("%-58s %8.0f MiB\n", "  shared pages counted in each process", rss)

	signing(b, p)
	image, builder := releases(b, p)
	verifying(b, p, image, builder)
	atOnce(b, p)
}

// releases compares a release with a bare buildctl build of the same commit, and with
// the peers' commands for a finished image.
func releases(b *testing.B, p *harness.Platform) (image, builder string) {
	repo := filepath.Join(harness.Root(b), "out", "hello")
	tree := b.TempDir()
	// Remove the syntax line, which names an image that a closed network does not have.
	run(b, exec.Command("sh", "-c", "git -C '"+repo+"' archive v0.1.0 | tar -x -C '"+tree+"' && sed -i '/^# syntax=/d' '"+tree+"/Dockerfile'"))
	d := startBuildkitd(b, p)
	var bare, whole, overhead, proof []time.Duration
	var last api.Release
	for i := range 5 {
		bare = append(bare, d.build(b, tree))
		cmd := p.Colophon(b.Context(), "release", repo, "--ref", "v0.1.0", "--image", p.Addr+"/bench/run"+strconv.Itoa(i), "--json")
		start := time.Now()
		out := run(b, cmd)
		whole = append(whole, time.Since(start))
		overhead = append(overhead, whole[i]-bare[i])
		if err := json.Unmarshal(out, &last); err != nil {
			b.Fatal(err)
		}
		proof = append(proof, whole[i]-building(b, p, last))
	}
	row("buildctl build, fresh buildkitd already up, no proof", median(bare), spread(bare))
	row("colophon release of the same commit", median(whole), spread(whole))
	row("  overhead, median of pairs", median(overhead), "aim 1.5 s")
	row("  of the release, all that is not the builder's", median(proof), "")
	image = last.Image + "@" + last.Digest
	peers := peerSequence(b, p, image)
	row("syft, cosign sign, 2 cosign attest; rekor-tiles, fastest", peers, "")
	ratio("  release's overhead over the peers' sequence", median(overhead), peers, "aim 0.33")
	ratio("  what is not the builder's over the peers' sequence", median(proof), peers, "")
	return last.Image + ":" + last.Tags[0], last.Builder
}

// building returns how long the build took, according to the provenance.
func building(b *testing.B, p *harness.Platform, r api.Release) time.Duration {
	var prov attest.Provenance
	if err := json.Unmarshal(run(b, p.Colophon(b.Context(), "inspect", r.Image+"@"+r.Digest, "--provenance")), &prov); err != nil {
		b.Fatal(err)
	}
	m := prov.RunDetails.Metadata
	return m.FinishedOn.Sub(*m.StartedOn)
}

// verifying compares colophon verify with the three cosign commands that it replaces.
func verifying(b *testing.B, p *harness.Platform, image, builder string) {
	root := filepath.Join(b.TempDir(), "trusted_root.json")
	if err := os.WriteFile(root, p.Get("/trusted_root.json"), 0o600); err != nil {
		b.Fatal(err)
	}
	repo := "file://" + filepath.Join(harness.Root(b), "out", "hello")
	identity := []string{"--trusted-root", root, "--certificate-identity", builder, "--certificate-oidc-issuer", p.URL}
	var ours, theirs []time.Duration
	for range 10 {
		ours = append(ours, times(1, func() { run(b, p.Colophon(b.Context(), "verify", image, "--source", repo)) }))
		theirs = append(theirs, times(1, func() {
			for _, args := range [][]string{
				{"verify"}, {"verify-attestation", "--type", "slsaprovenance1"}, {"verify-attestation", "--type", "spdxjson"},
			} {
				cmd := exec.Command(harness.Bin(b, "cosign"), append(append(args, identity...), image)...)
				cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+b.TempDir())
				run(b, cmd)
			}
		}))
	}
	skip := times(10, func() { run(b, p.Colophon(b.Context(), "verify", image, "--source", repo, "--skip-source")) })
	row("colophon verify, whole process, asking the repository", median(ours), "aim 40 ms")
	row("colophon verify --skip-source", skip, "")
	row("cosign verify + 2 verify-attestation", median(theirs), "")
	ratio("  colophon verify over cosign", median(ours), median(theirs), "aim 0.33")
	ratio("  colophon verify --skip-source over cosign", skip, median(theirs), "aim 0.33")

	// Compare the same image from a directory with the tools that check as much: cosign
	// for the signatures, and crane for every byte.
	layout := filepath.Join(b.TempDir(), "layout")
	run(b, p.Colophon(b.Context(), "copy", image, layout))
	local := times(20, func() { run(b, p.Colophon(b.Context(), "verify", layout, "--source", repo, "--skip-source")) })
	crane := times(10, func() { run(b, exec.Command(harness.Bin(b, "crane"), "validate", "--remote", image)) })
	row("colophon verify of the image as a saved layout", local, "aim 25 ms")
	row("crane validate --remote", crane, "")
	ratio("  colophon over cosign and crane", local, median(theirs)+crane, "aim 0.20")
}

// buildkitd is a bare buildkitd that runs as root, without a room.
type buildkitd struct{ addr string }

func startBuildkitd(b *testing.B, p *harness.Platform) *buildkitd {
	dir := b.TempDir()
	m := startMirror(b)
	conf := filepath.Join(dir, "buildkitd.toml")
	d := &buildkitd{addr: "unix://" + filepath.Join(dir, "s")}
	text := fmt.Sprintf("root = %q\nproxyNetwork = true\n[grpc]\n  address = [%q]\n[worker.oci]\n  snapshotter = \"overlayfs\"\n  gc = false\n", filepath.Join(dir, "root"), d.addr)
	for _, host := range []string{"docker.io", "gcr.io"} {
		text += fmt.Sprintf("[registry.%q]\n  mirrors = [%q]\n", host, m)
	}
	text += fmt.Sprintf("[registry.%q]\n  http = true\n", m)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(harness.Bin(b, "buildkitd"), "--config", conf)
	log := &harness.Log{}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
		if b.Failed() {
			b.Logf("buildkitd: %s", log)
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if exec.Command(harness.Bin(b, "buildctl"), "--addr", d.addr, "debug", "workers").Run() == nil {
			return d
		}
		if time.Now().After(deadline) {
			b.Fatalf("buildkitd does not answer: %s", log)
		}
	}
}

// build runs one build with an empty cache.
func (d *buildkitd) build(b *testing.B, tree string) time.Duration {
	run(b, exec.Command(harness.Bin(b, "buildctl"), "--addr", d.addr, "prune", "--all"))
	return times(1, func() {
		run(b, exec.Command(harness.Bin(b, "buildctl"), "--addr", d.addr, "build", "--progress", "quiet", "--frontend", "dockerfile.v0",
			"--local", "context="+tree, "--local", "dockerfile="+tree, "--opt", "build-arg:SOURCE_DATE_EPOCH=1",
			"--output", "type=oci,rewrite-timestamp=true,dest="+filepath.Join(b.TempDir(), "out.tar")))
	})
}

func run(b testing.TB, cmd *exec.Cmd) []byte {
	b.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, stderr.String())
	}
	return out
}

// times returns the median duration of n runs of f.
func times(n int, f func()) time.Duration {
	var all []time.Duration
	for range n {
		start := time.Now()
		f()
		all = append(all, time.Since(start))
	}
	return median(all)
}

func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}

// spread reports how much the durations differ.
func spread(d []time.Duration) string {
	return fmt.Sprintf("from %.1f to %.1f s", slices.Min(d).Seconds(), slices.Max(d).Seconds())
}

func row(what string, d time.Duration, note string) {
	fmt.Printf("%-58s %8.1f ms   %s\n", what, float64(d.Microseconds())/1000, note)
}

func ratio(what string, a, b time.Duration, note string) {
	fmt.Printf("%-58s %8.2f      %s\n", what, float64(a)/float64(b), note)
}
