package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/registry"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/prooftest"
)

// BenchmarkCommand measures the command as a user runs it, without a platform: on a
// layout of 16 MB, and on a registry with many images.
func BenchmarkCommand(b *testing.B) {
	if os.Getenv("COLOPHON_BENCH") == "" {
		b.Skip("SKIPPED: make bench sets COLOPHON_BENCH")
	}
	p := prooftest.New(b)
	env := append(os.Environ(), "COLOPHON_TRUST="+filepath.Join(b.TempDir(), "trust"), "DOCKER_CONFIG="+b.TempDir())
	document := filepath.Join(b.TempDir(), "trust.json")
	if err := os.WriteFile(document, p.Document(), 0o600); err != nil {
		b.Fatal(err)
	}
	colophon := func(args ...string) *exec.Cmd {
		cmd := exec.Command(harness.Bin(b, "colophon"), args...)
		cmd.Env = env
		return cmd
	}
	row("colophon version, whole process", times(100, func() { run(b, colophon("version")) }), "aim 10 ms")
	run(b, colophon("trust", "add", document, "--yes"))
	row("colophon completes a trust root, whole process", times(100, func() {
		if out := run(b, colophon("__complete", "trust", "remove", "")); !bytes.HasPrefix(out, []byte(prooftest.URL)) {
			b.Fatalf("no trust root is offered: %s", out)
		}
	}), "aim 30 ms")
	oneLayout(b, p, colophon)
	manyImages(b, p, colophon)
}

func oneLayout(b *testing.B, p *prooftest.Platform, colophon func(...string) *exec.Cmd) {
	store := prooftest.NewStore(b)
	store.Tar = make([]byte, 16<<20)
	if _, err := rand.Read(store.Tar); err != nil {
		b.Fatal(err)
	}
	r := p.Release(store)
	dir := filepath.Join(b.TempDir(), "layout")
	layout, err := oci.CreateLayout(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer layout.Close()
	publish(b, p, store, r, layout)
	var all, busy []time.Duration
	most := 0.0
	for range 21 {
		cmd := colophon("verify", dir, "--source", prooftest.Source, "--skip-source")
		all = append(all, times(1, func() { run(b, cmd) }))
		busy = append(busy, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
		most = max(most, peak(cmd))
	}
	row("colophon verify of a layout of 16 MB, whole process", median(all), fmt.Sprintf("aim 25 ms; processor time %.1f ms", us(median(busy))/1000))
	fmt.Printf("%-58s %8.0f MiB  aim 80\n", "  resident at most", most)
}

// peak returns the maximum memory of a finished process, in MiB.
func peak(cmd *exec.Cmd) float64 {
	u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0
	}
	return float64(u.Maxrss) / 1024
}

// many is the number of images in the registry.
const many = 1000

func manyImages(b *testing.B, p *prooftest.Platform, colophon func(...string) *exec.Cmd) {
	dir, err := os.MkdirTemp("/dev/shm", "bench") // in memory, so that the disk of the registry does not count
	if err != nil {
		dir = b.TempDir()
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	r, err := registry.New(registry.Config{URL: "http://" + l.Addr().String(), Dir: dir, AnonymousPull: true, Authorize: func(string) (string, registry.Role) { return "bench", registry.Push }})
	if err != nil {
		b.Fatal(err)
	}
	var requests, connections atomic.Int64
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { requests.Add(1); r.ServeHTTP(w, req) }),
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateNew {
				connections.Add(1)
			}
		},
	}
	go srv.Serve(l)
	b.Cleanup(func() { srv.Close() })
	names := pushMany(b, p, l.Addr().String())
	list := filepath.Join(b.TempDir(), "images.txt")
	if err := os.WriteFile(list, []byte(strings.Join(names, "\n")), 0o600); err != nil {
		b.Fatal(err)
	}
	var one []time.Duration
	for range 21 {
		cmd := colophon("verify", names[0], "--source", prooftest.Source, "--skip-source")
		one = append(one, times(1, func() { run(b, cmd) }))
	}
	row("colophon verify of an image in a registry, whole process", median(one), "aim 25 ms")
	testMany(b, colophon, list, l.Addr().String())
	for _, runs := range []string{"every image once", "once more"} {
		requests.Store(0)
		connections.Store(0)
		cmd := colophon("verify", "-f", list, "--source", prooftest.Source, "--skip-source", "--parallel", strconv.Itoa(4*runtime.NumCPU()))
		var out bytes.Buffer
		cmd.Stderr = &out
		start := time.Now()
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		curve := make(chan []string)
		ctx, cancel := context.WithCancel(b.Context())
		go func() { curve <- resident(ctx, cmd.Process.Pid) }()
		err := cmd.Wait()
		took := time.Since(start)
		cancel()
		if err != nil {
			b.Fatalf("%v\n%s", err, out.String())
		}
		busy := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		row(fmt.Sprintf("%d images in a registry, %s: %.0f/s", many, runs, many/took.Seconds()), took, fmt.Sprintf("aim 600/s; the command's processor time is %.1f s", busy.Seconds()))
		fmt.Printf("%-58s %8.1f      over %d connections\n", "  requests an image", float64(requests.Load())/many, connections.Load())
		fmt.Printf("%-58s %8.0f MiB  in quarters of the run: %s\n", "  resident at most", peak(cmd), strings.Join(<-curve, ", "))
	}
}

// testMany compares policy test of all images with verify of them. They take turns.
func testMany(b *testing.B, colophon func(...string) *exec.Cmd, list, addr string) {
	file := filepath.Join(b.TempDir(), "policy.yaml")
	text := fmt.Sprintf("apiVersion: colophon.build/v1\nkind: ImagePolicy\nmetadata: {name: bench}\nspec:\n  unmatched: deny\n  rules:\n    - name: all\n      images: [{glob: %q}]\n      accept: [{built: {source: %s}}]\n", addr+"/**", prooftest.Source)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	parallel := strconv.Itoa(4 * runtime.NumCPU())
	var took, busy [2][]time.Duration
	for range 3 {
		for i, cmd := range []*exec.Cmd{
			colophon("verify", "-f", list, "--source", prooftest.Source, "--skip-source", "--parallel", parallel), colophon("policy", "test", file, "-f", list, "--parallel", parallel),
		} {
			took[i] = append(took[i], times(1, func() { run(b, cmd) }))
			busy[i] = append(busy[i], cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
		}
	}
	row(fmt.Sprintf("colophon policy test of %d images", many), median(took[1]), spread(took[1]))
	ratio("  over colophon verify of them", median(took[1]), median(took[0]), "aim 1")
	ratio("  the same in processor time of the command", median(busy[1]), median(busy[0]), "aim 1")
}

// pushMany pushes released images, each to its own repository, and returns their names.
func pushMany(b *testing.B, p *prooftest.Platform, addr string) []string {
	var names []string
	for i := range many {
		store := prooftest.NewStore(b)
		store.Tar = fmt.Appendf(nil, "image %d", i)
		r := p.Release(store)
		repo := fmt.Sprintf("%s/team/app%d", addr, i)
		dst, err := oci.OpenRegistry(repo, oci.RegistryOptions{Token: "t"})
		if err != nil {
			b.Fatal(err)
		}
		publish(b, p, store, r, dst)
		names = append(names, repo+":v1.2.0")
	}
	return names
}

// publish pushes an image and attaches its proofs as the platform does.
func publish(b *testing.B, p *prooftest.Platform, store *prooftest.Store, r *prooftest.Release, dst oci.Target) {
	store.Push(b.Context(), dst)
	session := p.Session(r.Signer())
	for _, kind := range prooftest.Kinds {
		if _, err := oci.AttachBundle(b.Context(), dst, r.Image, session.Sign(r.Statement(kind)), kind, p.Now); err != nil {
			b.Fatal(err)
		}
	}
}

// resident samples the memory of a process, and returns it at the quarters of the run.
func resident(ctx context.Context, pid int) []string {
	var samples []int
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		select {
		case <-tick.C:
			raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
			f := strings.Fields(string(raw))
			if err != nil || len(f) < 2 {
				continue
			}
			if pages, err := strconv.Atoi(f[1]); err == nil && pages > 0 {
				samples = append(samples, pages*os.Getpagesize()>>20)
			}
		case <-ctx.Done():
			var quarters []string
			for q := 1; q <= 4 && len(samples) > 0; q++ {
				quarters = append(quarters, strconv.Itoa(samples[(len(samples)-1)*q/4]))
			}
			return quarters
		}
	}
}
