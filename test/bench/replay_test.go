package bench

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/needs"
)

// proxyHost is where the separate host is that serves this machine's module cache to rooms,
// which can reach no address of this machine, if no other process has one there.
var proxyHost = netip.MustParsePrefix("10.213.7.10/24")

// BenchmarkReplay builds this repository's command, which has real dependencies, with a
// local module proxy, and again from its lock.
func BenchmarkReplay(b *testing.B) {
	switch {
	case os.Getenv("COLOPHON_BENCH") == "":
		b.Skip("SKIPPED: make bench sets COLOPHON_BENCH")
	}
	needs.Root(b, "the network namespace of a module proxy")
	proxy := serveModules(b)
	p := harness.Start(b, "--mirror", harness.BaseImages(b), "--config", harness.Config(b, map[string]any{
		"build": map[string]any{"network": map[string]any{"allow": []string{proxy.network().String()}}},
	}))
	repo := ownCommand(b, proxy, "golang:1.26", "")
	var plain, locked, once, again, held []time.Duration // durations of releases and builds
	var most gatewaySize
	for i := range 3 {
		_, whole, builds := releaseTimed(b, p, repo, "plain"+strconv.Itoa(i), nil)
		plain, once = append(plain, whole), append(once, builds[0])

		watch := watchGateways(b, p)
		r, _, builds := releaseTimed(b, p, repo, "hermetic"+strconv.Itoa(i), func(r *api.ReleaseRequest) { r.Hermetic = true })
		again = append(again, builds[1])
		if sizes := watch(); len(sizes) == 2 {
			most.add(sizes[1])
		}

		c := client(b, p)
		lock, err := c.File(b.Context(), r.Lock, limits.Lock)
		if err != nil {
			b.Fatal(err)
		}
		_, whole, builds = releaseTimed(b, p, repo, "locked"+strconv.Itoa(i), func(r *api.ReleaseRequest) { r.Lock = string(lock) })
		locked, held = append(locked, whole), append(held, builds[0])
		if i == 0 {
			fmt.Printf("%-58s %8d\n", "fetches of one build", strings.Count(string(lock), `"url"`))
		}
	}
	row("one build with a warm module proxy on this machine", median(once), spread(once))
	row("  hermetic: the second build, from the lock", median(again), spread(again))
	ratio("  over the build with the proxy", median(again), median(once), "aim 1.2")
	row("  --locked: the one build, from the lock", median(held), spread(held))
	ratio("  over the build with the proxy", median(held), median(once), "aim 1.2")
	row("the whole release, with the proxy", median(plain), spread(plain))
	row("  --locked", median(locked), spread(locked))
	fmt.Printf("%-58s %8.0f MiB  aim 64; %.0f MiB private, the rest pages of the program file; %.0f MiB at its start\n", "gateway of the second build, resident at most", most.resident, most.private, most.start)
}

// serveModules serves the go command's download cache as a module proxy
// (go.dev/ref/mod#goproxy-protocol), whose paths are those of the files. There is one for
// all benchmarks.
func serveModules(b *testing.B) *link {
	l, err := modules()
	if err != nil {
		b.Fatal(err)
	}
	return l
}

var modules = sync.OnceValues(func() (*link, error) {
	cache, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		return nil, err
	}
	l, err := harness.Beyond(proxyHost)
	if err != nil {
		return nil, err
	}
	way := &link{host: l.Addr().(*net.TCPAddr).AddrPort().Addr(), files: http.FileServer(http.Dir(filepath.Join(strings.TrimSpace(string(cache)), "cache", "download")))}
	go (&http.Server{Handler: way}).Serve(l)
	return way, nil
})

// ownCommand makes a repository with the files of this one and a Dockerfile that compiles with the image
// base, and has the lines of prepare before that.
func ownCommand(b *testing.B, proxy *link, base, prepare string) string {
	dir := filepath.Join(b.TempDir(), "app")
	if err := os.Mkdir(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	run(b, exec.Command("sh", "-c", "git -C '"+harness.Root(b)+"' archive HEAD | tar -x -C '"+dir+"'"))
	harness.Write(b, dir, map[string]string{"Dockerfile": `FROM ` + base + ` AS builder
WORKDIR /src
ENV GOPROXY=http://` + proxy.host.String() + ` GOSUMDB=off GOFLAGS=-mod=readonly GOTOOLCHAIN=local CGO_ENABLED=0
COPY . .
` + prepare + `RUN --mount=type=cache,target=/root/.cache/go-build go build -trimpath -ldflags="-s -w" -o /out/colophon ./cmd/colophon
FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=builder /out/colophon /colophon
ENTRYPOINT ["/colophon"]
`})
	harness.Commit(b, dir, "v1.0.0")
	return dir
}

func client(b *testing.B, p *harness.Platform) *api.ClientConfig {
	c, err := api.ReadConfig(filepath.Join(p.Data, "client.json"))
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// releaseTimed makes a release. It returns its duration, and that of each build from
// the opening of the room to the last byte of the layout.
func releaseTimed(b *testing.B, p *harness.Platform, repo, image string, change func(*api.ReleaseRequest)) (r *api.Release, whole time.Duration, builds []time.Duration) {
	req := api.ReleaseRequest{Source: "file://" + repo, Ref: "v1.0.0", Image: p.Addr + "/" + image}
	if change != nil {
		change(&req)
	}
	var log strings.Builder
	var began time.Time
	start := time.Now()
	r, err := client(b, p).Release(b.Context(), req, func(e api.Event) {
		fmt.Fprintln(&log, e.Step, e.Line)
		switch {
		case e.Phase == "build" && began.IsZero():
			began = e.Time
		case e.Phase == "measure" && !began.IsZero():
			builds, began = append(builds, e.Time.Sub(began)), time.Time{}
		}
	})
	if err != nil {
		b.Fatalf("release of %s: %v\n%s", image, err, log.String())
	}
	return r, time.Since(start), builds
}

// gatewaySize is the maximum memory of a gateway in MiB (proc(5)): resident memory
// (VmRSS), its private part (RssAnon), and the peak, which includes the start (VmHWM).
type gatewaySize struct{ resident, private, start float64 }

func (s *gatewaySize) add(o gatewaySize) {
	s.resident, s.private, s.start = max(s.resident, o.resident), max(s.private, o.private), max(s.start, o.start)
}

// watchGateways samples the gateways of a platform until the returned function is
// called. That function returns the sizes in the order of the rooms.
func watchGateways(b *testing.B, p *harness.Platform) (stop func() []gatewaySize) {
	rooms := p.Role("rooms")
	ctx, cancel := context.WithCancel(b.Context())
	result := make(chan []gatewaySize)
	go func() {
		var sizes []gatewaySize
		var pids []string
		for ctx.Err() == nil {
			for _, pid := range gatewaysOf(rooms) {
				i := slices.Index(pids, pid)
				if i < 0 {
					i, pids, sizes = len(pids), append(pids, pid), append(sizes, gatewaySize{})
				}
				sizes[i].add(sizeOf(pid))
			}
			time.Sleep(250 * time.Millisecond)
		}
		result <- sizes
	}()
	return func() []gatewaySize { cancel(); return <-result }
}

// gatewaysOf returns the gateway processes that the role rooms has started.
func gatewaysOf(rooms int) (pids []string) {
	out, _ := exec.Command("ps", "-o", "pid=,args=", "--ppid", strconv.Itoa(rooms)).Output() // fails if there are none
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 1 && f[len(f)-1] == "gateway" {
			pids = append(pids, f[0])
		}
	}
	return pids
}

func sizeOf(pid string) (s gatewaySize) {
	status, _ := os.ReadFile("/proc/" + pid + "/status")
	for line := range strings.Lines(string(status)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kib, _ := strconv.ParseFloat(f[1], 64)
		switch f[0] {
		case "VmRSS:":
			s.resident = kib / 1024
		case "VmHWM:":
			s.start = kib / 1024
		case "RssAnon:":
			s.private = kib / 1024
		}
	}
	return s
}
