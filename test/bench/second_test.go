package bench

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/gateway"
	"github.com/colophon-build/colophon/platform/builder/sums"
	"github.com/colophon-build/colophon/test/gittest"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/needs"
)

// The link to the module proxy and the registry of BenchmarkSecondRelease.
const (
	linkDelay = 20 * time.Millisecond // of each request
	linkRate  = 12_500_000            // bytes per second: 100 Mbit/s
)

// BenchmarkSecondRelease releases a service with some 600 downloads from a module proxy and its base image
// from a registry, both behind one slow link, and then once more, with what the platform has stored. Both
// compile everything. Then it releases two commits of a branch that keeps its cache mounts: the
// second one compiles what the commit changed, at the price of a SLSA level.
func BenchmarkSecondRelease(b *testing.B) {
	if os.Getenv("COLOPHON_BENCH") == "" {
		b.Skip("SKIPPED: make bench sets COLOPHON_BENCH")
	}
	needs.Root(b, "the network namespace of a module proxy")
	proxy := serveModules(b)
	proxy.slow.Store(true)
	defer proxy.slow.Store(false)
	registry := serveBases(b, proxy)
	p := harness.Start(b, "--mirror", harness.BaseImages(b), "--config", harness.Config(b, map[string]any{
		"build": map[string]any{
			"network":     map[string]any{"allow": []string{proxy.network().String(), registry + "/32"}},
			"cacheMounts": map[string]any{"size": 4 << 30},
		},
	}))
	ofGateway(b, proxy)
	repo := ownCommand(b, proxy, registry+"/library/golang:1.26", "RUN go list -deps ./cmd/colophond >/dev/null\n") // downloads what go.sum pins, and an .info file of each module, which nothing pins
	var first, second, download, again []time.Duration
	forget := func() {
		run(b, exec.Command("find", filepath.Join(p.Data, "gateway"), "-mindepth", "1", "-delete"))
	}
	for i := range 3 {
		forget()
		for _, pass := range []struct {
			image           string
			whole, download *[]time.Duration
		}{{"first", &first, &download}, {"second", &second, &again}} {
			before := proxy.requests()
			whole, step := secondTimed(b, p, repo, api.ReleaseRequest{Ref: "v1.0.0", Image: pass.image + strconv.Itoa(i)})
			*pass.whole, *pass.download = append(*pass.whole, whole), append(*pass.download, step)
			if i == 0 {
				fmt.Printf("%-58s %8d\n", "requests at the module proxy, "+pass.image+" release", proxy.requests()-before)
			}
		}
	}
	link := fmt.Sprintf("at %d Mbit/s and %d ms", linkRate*8/1_000_000, linkDelay.Milliseconds())
	row("first release of a service, "+link, median(first), spread(first))
	row("second release", median(second), spread(second))
	ratio("  over the first", median(second), median(first), "aim 0.6")
	row("  its downloads, unpacked, the first time", median(download), spread(download))
	row("  the second time", median(again), spread(again))
	forget()
	kept := api.ReleaseRequest{Ref: "main", Image: "kept", Tag: "one", CacheMounts: true}
	before, _ := secondTimed(b, p, repo, kept)
	harness.Write(b, repo, map[string]string{"cmd/colophon/second.go": "package main\n"})
	gittest.Git(b, repo, "add", ".")
	gittest.Git(b, repo, "commit", "-q", "-m", "second")
	kept.Tag = "two"
	after, _ := secondTimed(b, p, repo, kept)
	row("first release of a branch that keeps its cache mounts", before, "")
	row("  the next commit", after, "")
	ratio("  over the first", after, before, "aim 0.6, at SLSA Build L2")
}

// ofGateway downloads 300 modules, which are 600 files, through gateways that share a store,
// as a go command does. It prints how long the network's part of a first and of a second
// build takes.
func ofGateway(b *testing.B, proxy *link) {
	demands := smallModules(b, 300)
	settings := gateway.Settings{
		Store: b.TempDir(), Network: gateway.Network{Allow: []netip.Prefix{proxy.network()}}, Session: builder.Session{Demands: demands},
	}
	var downloads []builder.Exchange
	build := func() (took time.Duration) {
		g, err := gateway.New(settings)
		if err != nil {
			b.Fatal(err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		go g.Serve(l)
		room := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: l.Addr().String()}), MaxIdleConnsPerHost: 10}}
		start := time.Now()
		var all errgroup.Group
		all.SetLimit(10)
		for _, d := range demands {
			all.Go(func() error {
				resp, err := room.Get("http://" + proxy.host.String() + d.URL)
				if err != nil {
					return err
				}
				defer resp.Body.Close()
				_, err = io.Copy(io.Discard, resp.Body)
				return err
			})
		}
		err = all.Wait()
		took = time.Since(start)
		record, ended := g.End()
		if err != nil || ended != nil {
			b.Fatal(err, ended)
		}
		downloads = record
		return took
	}
	first := build()
	start := time.Now()
	settings.Sums = hashed(b, settings.Store, sums.Wanted(demands, downloads, nil))
	row(fmt.Sprintf("hasher, %d modules, once", len(settings.Sums)), time.Since(start), "")
	const times = 5
	var second []time.Duration
	before := cpuTime(b)
	for range times {
		second = append(second, build())
	}
	cpu := (cpuTime(b) - before) / times
	row(fmt.Sprintf("gateway, %d pinned files, first build", len(demands)), first, "")
	row("  second build", median(second), "aim 1 s, "+spread(second))
	row("  its CPU time, with that of the client", cpu, "")
}

// hashed returns the sums of modules in a store, as the role hasher computes them.
func hashed(b *testing.B, store string, modules []string) []sums.Sum {
	in, to := io.Pipe()
	from, out := io.Pipe()
	go func() { out.CloseWithError(sums.Serve(in, out)) }()
	found, err := sums.Ask(to, from, store, modules)
	if err != nil || len(found) != len(modules) {
		b.Fatalf("got sums of %d modules, %v, want %d", len(found), err, len(modules))
	}
	return found
}

// cpuTime returns how long this process has used processors.
func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// smallModules returns what go.sum pins of n modules in this machine's cache, of at most 1 MB each.
func smallModules(b *testing.B, n int) (demands []builder.Demand) {
	cache := filepath.Join(strings.TrimSpace(string(run(b, exec.Command("go", "env", "GOMODCACHE")))), "cache", "download")
	sums, err := os.ReadFile(filepath.Join(harness.Root(b), "go.sum"))
	if err != nil {
		b.Fatal(err)
	}
	mods := map[string]string{}
	for line := range strings.Lines(string(sums)) {
		f := strings.Fields(line)
		version, isMod := strings.CutSuffix(f[1], "/go.mod")
		name, err := module.EscapePath(f[0])
		if err != nil {
			b.Fatal(err)
		}
		mods[name+"/@v/"+version+map[bool]string{true: ".mod", false: ".zip"}[isMod]] = f[2]
	}
	for _, zip := range slices.Sorted(maps.Keys(mods)) {
		mod := strings.TrimSuffix(zip, "zip") + "mod"
		info, err := os.Stat(filepath.Join(cache, zip))
		if !strings.HasSuffix(zip, ".zip") || mods[mod] == "" || err != nil || info.Size() > 1_000_000 || len(demands) == 2*n {
			continue
		}
		demands = append(demands, builder.Demand{URL: "/" + mod, Digest: mods[mod]}, builder.Demand{URL: "/" + zip, Digest: mods[zip]})
	}
	return demands
}

// secondTimed makes a release. It returns its duration, and that of the step that downloads.
func secondTimed(b *testing.B, p *harness.Platform, repo string, req api.ReleaseRequest) (whole, step time.Duration) {
	req.Source, req.Image = "file://"+repo, p.Addr+"/"+req.Image
	var log strings.Builder
	var began time.Time
	start := time.Now()
	_, err := client(b, p).Release(b.Context(), req, func(e api.Event) {
		fmt.Fprintln(&log, e.Step, e.Line)
		switch {
		case !strings.Contains(e.Step, "RUN go list"):
		case began.IsZero():
			began = e.Time
		case e.Done:
			step = e.Time.Sub(began)
		}
	})
	if err != nil || step == 0 {
		b.Fatalf("release of %s: %v\n%s", req.Image, err, log.String())
	}
	return time.Since(start), step
}

// link is the way to the module proxy, which may be slow.
type link struct {
	host  netip.Addr
	files http.Handler
	slow  atomic.Bool

	mu    sync.Mutex
	asked int       // requests
	free  time.Time // when the link has sent all that it was given
}

// network is that of the host.
func (l *link) network() netip.Prefix { return netip.PrefixFrom(l.host, proxyHost.Bits()).Masked() }

func (l *link) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	l.asked++
	l.mu.Unlock()
	l.carry(l.files, w, r)
}

// carry lets h answer over the link.
func (l *link) carry(h http.Handler, w http.ResponseWriter, r *http.Request) {
	if l.slow.Load() {
		time.Sleep(linkDelay)
		w = &slowWriter{w, l.send}
	}
	h.ServeHTTP(w, r)
}

// serveBases serves the base images of docker.io in a registry over the link, and returns its address.
func serveBases(b *testing.B, way *link) string {
	images, err := gateway.OpenMirror(harness.BaseImages(b))
	if err != nil {
		b.Fatal(err)
	}
	host := way.host.Next()
	all, err := harness.BeyondAt(443, netip.PrefixFrom(host, proxyHost.Bits()), 1)
	if err != nil {
		b.Fatal(err)
	}
	address := all[0].Addr().(*net.TCPAddr).IP
	cert, key := filepath.Join(b.TempDir(), "cert.pem"), filepath.Join(b.TempDir(), "key.pem")
	harness.WriteCertificate(b, cert, key, 1, address)
	b.Setenv("SSL_CERT_FILE", cert)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.URL.RawQuery = "ns=docker.io"
		way.carry(images, w, r)
	})}
	go srv.ServeTLS(all[0], cert, key)
	b.Cleanup(func() { srv.Close() })
	return address.String()
}

// send returns when the link has sent size more bytes.
func (l *link) send(size int) {
	l.mu.Lock()
	if now := time.Now(); l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(size) * time.Second / linkRate)
	wait := time.Until(l.free)
	l.mu.Unlock()
	time.Sleep(wait)
}

func (l *link) requests() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked
}

// slowWriter waits for the link after each write.
type slowWriter struct {
	http.ResponseWriter
	send func(size int)
}

func (w *slowWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		var m int
		m, err = w.ResponseWriter.Write(p[:min(len(p), 32<<10)])
		w.send(m)
		n, p = n+m, p[m:]
	}
	return n, err
}
