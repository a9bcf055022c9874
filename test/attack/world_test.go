package attack

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/test/harness"
)

// worldAddress is a host that the suite's platforms take for the internet: a network
// namespace behind a router. The gateway lets builds reach only public addresses, so it
// has one; nothing leads from the suite's own network namespace to the real one.
const worldAddress = "203.0.114.10"

// lanAddress is a private address that builds must not reach.
const lanAddress = "10.99.0.1"

// world simulates the surroundings of the platforms: the internet, and canaries on
// every address that a build must not reach.
type world struct {
	mu      sync.Mutex
	hits    []string // "ATTACK address" for each request to a canary
	reports []byte   // reports that intruders sent
	ask     map[string]func() string
	pages   map[string]http.HandlerFunc // of the internet's web server, by path
	turn    map[string]int              // next answer of the names whose address changes
}

// theWorld is shared: the suite has one network namespace.
var theWorld = sync.OnceValues(func() (*world, error) {
	w := &world{ask: map[string]func() string{}, pages: map[string]http.HandlerFunc{}, turn: map[string]int{}}
	return w, w.start()
})

func needWorld(t testing.TB) *world {
	t.Helper()
	w, err := theWorld()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) start() error {
	if err := harness.IP("link set lo up", "addr add "+lanAddress+"/24 dev lo", "addr add 169.254.169.254/32 dev lo", "addr add fd00:ec2::254/128 dev lo"); err != nil {
		return err
	}
	l, err := harness.Beyond(netip.MustParsePrefix(worldAddress + "/24"))
	if err != nil {
		return err
	}
	go http.Serve(l, http.HandlerFunc(w.internet))
	for _, port := range []string{":80", ":443"} {
		canary, err := net.Listen("tcp", port)
		if err != nil {
			return err
		}
		go http.Serve(canary, http.HandlerFunc(w.canary))
	}
	abstract, err := net.Listen("unix", "@"+abstractCanary)
	if err != nil {
		return err
	}
	go http.Serve(abstract, http.HandlerFunc(w.canary))
	names, err := net.ListenPacket("udp", "127.0.0.1:53")
	if err != nil {
		return err
	}
	go w.names(names)
	const resolv = "/etc/resolv.conf"
	f, err := os.CreateTemp("", "resolv-")
	if err != nil {
		return err
	}
	fmt.Fprintln(f, "nameserver 127.0.0.1")
	f.Close()
	os.Chmod(f.Name(), 0o644)
	return unix.Mount(f.Name(), resolv, "", unix.MS_BIND, "")
}

// internet is the web server that builds may reach. Intruders post their findings to
// /report, and ask the suite to look at the host with /ask/NAME.
func (w *world) internet(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	page, ask := w.pages[r.URL.Path], w.ask[strings.TrimPrefix(r.URL.Path, "/ask/")]
	w.mu.Unlock()
	switch {
	case r.URL.Path == "/report":
		data, _ := io.ReadAll(io.LimitReader(r.Body, 16<<20))
		w.mu.Lock()
		w.reports = append(append(w.reports, data...), '\n')
		w.mu.Unlock()
	case r.URL.Path == "/redirect":
		http.Redirect(rw, r, r.URL.Query().Get("to"), http.StatusFound)
	case page != nil:
		page(rw, r)
	case ask != nil:
		io.WriteString(rw, ask())
	default:
		io.WriteString(rw, "the world")
	}
}

func (w *world) canary(rw http.ResponseWriter, r *http.Request) {
	addr, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	w.mu.Lock()
	w.hits = append(w.hits, fmt.Sprintf("%s %s", r.URL.Query().Get("attack"), addr))
	w.mu.Unlock()
	io.WriteString(rw, "canary")
}

// asked makes the web server answer /ask/question with the result of f.
func (w *world) asked(question string, f func() string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ask[question] = f
}

// hit says which canary an attack reached. It is empty if it reached none.
func (w *world) hit(attack string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.hits {
		if addr, ok := strings.CutPrefix(h, attack+" "); ok {
			return "the canary at " + addr + " was reached"
		}
	}
	return ""
}

// taken returns the reports that arrived since the last call.
func (w *world) taken() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	data := w.reports
	w.reports = nil
	return data
}

// addresses are the answers of hostile name servers. A name with several lists gets
// the next list for each question.
var addresses = map[string][][]string{
	"world.test.":               {{worldAddress}},
	"loopback.test.":            {{"127.0.0.1"}},
	"lan.test.":                 {{lanAddress}},
	"both.test.":                {{worldAddress, "127.0.0.1"}, {"127.0.0.1", worldAddress}},
	"rebind.test.":              {{worldAddress}, {"127.0.0.1"}},
	"metadata.google.internal.": {{"169.254.169.254"}},
}

// names is a DNS server (RFC 1035) for only these names.
func (w *world) names(c net.PacketConn) {
	buf := make([]byte, 1500)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(buf[:n]); err != nil || len(m.Questions) != 1 {
			continue
		}
		q := m.Questions[0]
		m.Response, m.Authoritative, m.Additionals = true, true, nil
		lists := addresses[strings.ToLower(q.Name.String())]
		if len(lists) == 0 {
			m.RCode = dnsmessage.RCodeNameError
		} else if q.Type == dnsmessage.TypeA {
			w.mu.Lock()
			turn := w.turn[q.Name.String()]
			w.turn[q.Name.String()]++
			w.mu.Unlock()
			for _, a := range lists[turn%len(lists)] {
				m.Answers = append(m.Answers, dnsmessage.Resource{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET},
					Body:   &dnsmessage.AResource{A: netip.MustParseAddr(a).As4()},
				})
			}
		}
		if out, err := m.Pack(); err == nil {
			c.WriteTo(out, from)
		}
	}
}

// The names must resolve and the addresses answer; otherwise the suite proves nothing.
func TestWorldStands(t *testing.T) {
	need(t)
	w := needWorld(t)
	for _, url := range []string{"http://world.test/", "http://127.0.0.1/?attack=calm", "http://[::1]/?attack=calm", "http://lan.test:443/?attack=calm", "http://metadata.google.internal/?attack=calm"} {
		resp, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	if w.hit("calm") == "" {
		t.Error("the canary does not say that it was reached")
	}
	first, _ := net.DefaultResolver.LookupHost(context.Background(), "rebind.test")
	second, _ := net.DefaultResolver.LookupHost(context.Background(), "rebind.test")
	if fmt.Sprint(first) == fmt.Sprint(second) {
		t.Errorf("rebind.test resolves to %v twice", first)
	}
}

// page makes the internet's web server answer a path with h.
func (w *world) page(path string, h http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pages[path] = h
}
