package gateway

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/test/await"
)

// TestBodiesByStatus: which bodies the room receives, and which are kept for replays.
func TestBodiesByStatus(t *testing.T) {
	up, s := world(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Path[1:])
		w.WriteHeader(n)
		fmt.Fprintf(w, "body of %d", n)
	})
	s.Store, s.Session = t.TempDir(), builder.Session{Record: true}
	room := start(t, s)
	statuses := map[int]bool{200: true, 299: true, 300: false, 302: false, 399: false, 400: true, 401: false, 404: true, 499: true, 500: true, 503: true, 999: true} // true: with its body
	for n, whole := range statuses {
		want := ""
		if whole {
			want = fmt.Sprintf("body of %d", n)
		}
		if status, body := room.fetch("GET", fmt.Sprintf("%s/%d", up.URL, n)); status != n || body != want {
			t.Errorf("got %d %q, want %d %q", status, body, n, want)
		}
	}
	for _, e := range room.end() {
		text := ""
		if statuses[e.Status] {
			text = fmt.Sprintf("body of %d", e.Status)
		}
		if e.SHA256 != hexSum(text) || e.Size != int64(len(text)) {
			t.Errorf("%d: got %+v, want the digest of %q", e.Status, e, text)
		}
		_, err := os.Stat((&store{dir: s.Store}).path(e.SHA256))
		if stored := text != "" && e.Status < 500; (err == nil) != stored {
			t.Errorf("%d: got %v, want the body stored: %v", e.Status, err, stored)
		}
	}
}

// TestHeadersOfAnswers: what is too long for a record does not reach the room, and an
// empty answer says that it is empty.
func TestHeadersOfAnswers(t *testing.T) {
	up, s := world(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("n"))
		w.Header().Set("Etag", strings.Repeat("e", n))
		w.Header().Set("Content-Length", "0")
		if got := r.RequestURI; !strings.HasPrefix(got, "/a;b?") || !strings.HasSuffix(got, "&y=1;2") {
			t.Errorf("the server was asked for %s, and the room for another", got)
		}
	})
	room := start(t, s)
	for n, passes := range map[int]bool{limits.FetchHeader: true, limits.FetchHeader + 1: false} {
		resp, err := room.Head(fmt.Sprintf("%s/a;b?n=%d&y=1;2", up.URL, n))
		if err != nil || (len(resp.Header.Get("Etag")) == n) != passes || resp.ContentLength != 0 {
			t.Errorf("a header of %d bytes: got %v, %v, want it passed: %v", n, resp, err, passes)
		}
	}
	for _, e := range room.end() {
		if e.Header["Content-Length"] != "0" || e.SHA256 != emptySum {
			t.Errorf("got %+v, want the length 0", e)
		}
	}
}

// TestOddAnswers: an answer that HTTP does not allow here is none.
func TestOddAnswers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
			}
			c.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	n, _ := strconv.ParseUint(port, 10, 16)
	room := start(t, Settings{Network: Network{Ports: []uint16{uint16(n)}}})
	room.want(502, "status: got 101", "GET", "http://example.com:"+port+"/")
	if e := room.end(); len(e) != 1 || e[0].Status != 502 || e[0].Header != nil || e[0].SHA256 != "" || !strings.Contains(e[0].Failed, "status: got 101") {
		t.Errorf("got %+v, want a failure with its cause", e)
	}
}

// TestStoreThatFails: a body that cannot be stored does not look complete in the room,
// and has no digest in the record.
func TestStoreThatFails(t *testing.T) {
	text := strings.Repeat("x", 100)
	up, s := world(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, text); w.(http.Flusher).Flush() })
	for name, spoil := range map[string]func(g *Gateway) error{
		"no directory":        func(g *Gateway) error { return os.RemoveAll(g.store.dir) },
		"no room":             func(g *Gateway) error { g.store.max = 99; return nil },
		"a file in its place": func(g *Gateway) error { return os.WriteFile(filepath.Dir(g.store.path(hexSum(text))), nil, 0o600) },
	} {
		s.Store, s.Session = filepath.Join(t.TempDir(), "store"), builder.Session{Record: true}
		room := start(t, s)
		if err := spoil(room.g); err != nil {
			t.Fatal(err)
		}
		if status, body := room.fetch("GET", up.URL); status == 200 {
			t.Errorf("%s: got 200 %q, want no answer that looks whole", name, body)
		}
		if e := room.end(); len(e) != 1 || e[0].SHA256 != "" {
			t.Errorf("%s: got %+v, want no digest", name, e)
		}
		if left, _ := filepath.Glob(filepath.Join(s.Store, "tmp-*")); len(left) > 0 {
			t.Errorf("%s: %v is left", name, left)
		}
	}
}

// aBody is an answer's body in pieces; it counts its reads.
type aBody struct {
	pieces []string
	reads  int
}

func (b *aBody) Read(p []byte) (int, error) {
	b.reads++
	if len(b.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.pieces[0])
	b.pieces = b.pieces[1:]
	return n, nil
}

func (b *aBody) Close() error { return nil }

// TestLastByteIsStored: whoever has the last byte of a body can rely on the store, and
// nothing is read behind the end.
func TestLastByteIsStored(t *testing.T) {
	g := start(t, Settings{Store: t.TempDir(), Session: builder.Session{Record: true}}).g
	read := func(left int64, pieces ...string) (*body, *aBody) {
		from := &aBody{pieces: pieces}
		blob, err := g.store.create()
		if err != nil {
			t.Fatal(err)
		}
		return &body{ReadCloser: from, g: g, e: &exchange{}, left: left, sum: sha256.New(), blob: blob}, from
	}
	b, from := read(6, "abc", "def", "more")
	p := make([]byte, 10)
	for _, want := range []string{"abc", "def"} {
		if n, err := b.Read(p); string(p[:n]) != want || err != nil && err != io.EOF {
			t.Fatalf("got %q, %v, want %q", p[:n], err, want)
		}
	}
	if b.e.SHA256 != hexSum("abcdef") || b.e.Size != 6 {
		t.Errorf("got %+v, want the digest of all", b.e)
	}
	if _, err := g.store.open(hexSum("abcdef"), 6, nil); err != nil {
		t.Errorf("the room has all, the store: %v", err)
	}
	if n, err := b.Read(p); n != 0 || err != io.EOF || from.reads != 2 {
		t.Errorf("after the end: got %d bytes, %v in %d reads", n, err, from.reads)
	}
	if err := b.Close(); err != nil || from.reads != 2 {
		t.Errorf("close: got %v after %d reads", err, from.reads)
	}
	// A session that ends cuts off what is running.
	b, from = read(6, "abc", "def")
	g.cancel()
	if b.Close(); from.reads != 0 || b.e.SHA256 != "" {
		t.Errorf("after the session: %d reads, %+v", from.reads, b.e)
	}
	if left, _ := filepath.Glob(filepath.Join(g.store.dir, "tmp-*")); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

// TestLimitsOfASession: each limit itself is allowed, and one more is refused and
// recorded without what broke it.
func TestLimitsOfASession(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.URL.Path, r.ContentLength, r.TransferEncoding)
	}))
	defer up.Close()
	rename(up)
	s := Settings{Bytes: 40000, Network: Network{Ports: []uint16{port(t, up.URL)}}}
	room := start(t, s)
	pad := func(n int) string { return strings.Repeat("a", n-len(up.URL)-1) }
	accept := strings.Repeat("a", limits.FetchHeader)
	room.want(200, "", "GET", up.URL+"/"+pad(limits.FetchURL))
	room.want(403, "URL: got", "GET", up.URL+"/"+pad(limits.FetchURL+1))
	room.want(200, "", "GET", up.URL, "Accept", accept)
	room.want(403, "Accept and Range", "GET", up.URL, "Accept", accept+"a")
	room.want(200, "", "GET", up.URL, "Range", accept)
	room.want(403, "Accept and Range", "GET", up.URL, "Range", accept+"a")
	resp, err := room.Post(up.URL, "text/plain", io.LimitReader(strings.NewReader("chunked"), 7))
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(resp.Body); string(b) != "/7 []" {
		t.Errorf("a body of unknown length: the server got %s, want its length", b)
	}
	resp, err = room.Post(up.URL, "text/plain", io.LimitReader(strings.NewReader(""), 0))
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(resp.Body); string(b) != "/0 []" {
		t.Errorf("an empty body of unknown length: the server got %s, want none", b)
	}
	resp, err = room.Post(up.URL, "text/plain", strings.NewReader(strings.Repeat("q", 40001)))
	if err != nil || resp.StatusCode != 403 {
		t.Errorf("an upload that is too large: got %v, %v, want 403", resp, err)
	}
	address := strings.TrimPrefix(up.URL, "http://example.com")
	for line, want := range map[string]string{"GET http://EXAMPLE.com." + address + " HTTP/1.1": up.URL + "/", "GET http://u:secret@example.com" + address + "/#x HTTP/1.1": up.URL + "/%23x"} {
		room.raw(line + "\r\nHost: x\r\n\r\n")
		record := room.g.record[room.g.recorded()-1]
		if record.URL != want || strings.Contains(fmt.Sprint(record), "secret") {
			t.Errorf("%s: got %+v, want %s", line, record, want)
		}
	}
	for _, e := range room.end() {
		if e.Denied == "" {
			continue
		}
		if len(e.URL) > 100 || len(e.Accept) > 0 || len(e.Range) > 0 || e.Status != 403 {
			t.Errorf("got %d, a URL of %d bytes, Accept of %d, Range of %d, want none of what was too long", e.Status, len(e.URL), len(e.Accept), len(e.Range))
		}
		if strings.HasPrefix(e.Denied, "denied: mirror") || strings.Contains(e.Denied, "URL: got") && e.URL != "http://"+MirrorHost+"/" {
			t.Errorf("got %+v", e)
		}
	}
	g := start(t, Settings{Bytes: 10}).g
	if err := errors.Join(g.spend(4), g.spend(6)); err != nil {
		t.Errorf("the whole budget: %v", err)
	}
	if err := g.spend(1); err == nil || !strings.Contains(err.Error(), "more than 10 bytes") {
		t.Errorf("a byte more: got %v", err)
	}
	if got := clip(strings.Repeat("é", 500)); len(got) != 1000 {
		t.Errorf("a text of 1000 bytes: got %d", len(got))
	}
	if got := clip(strings.Repeat("é", 499) + "aé…"); got != strings.Repeat("é", 499)+"a?…" {
		t.Errorf("a text of 1002 bytes: got %d bytes, %q", len(got), got[990:])
	}
	if d := (&DeniedError{Reason: "r"}).Error(); d != "denied: r" {
		t.Errorf("got %q", d)
	}
}

// TestBrokenUploads: a body that does not arrive whole is sent nowhere.
func TestBrokenUploads(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { t.Error("half of a body was sent on") }))
	defer up.Close()
	rename(up)
	room := start(t, Settings{Network: Network{Ports: []uint16{port(t, up.URL)}}})
	c, err := net.Dial("tcp", room.addr)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "POST %s/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf", up.URL)
	c.(*net.TCPConn).CloseWrite()
	io.Copy(io.Discard, c)
	c.Close()
	await.True(t, "the exchange is recorded", func() bool { return room.g.recorded() > 0 })
	if e := room.end(); !strings.Contains(e[0].Denied, "request body: unexpected EOF") || e[0].Request != "" {
		t.Errorf("got %+v", e)
	}
	for n, inMemory := range map[int]bool{1: true, spill: true, spill + 1: false, 3 * spill: false} {
		b := &upload{}
		for range n / 256 {
			b.Write(make([]byte, 256))
		}
		b.Write(bytes.Repeat([]byte("z"), n%256))
		got, err := io.ReadAll(b.reader())
		if len(got) != n || err != nil || (b.file == nil) != inMemory || (len(b.mem) == n) != inMemory {
			t.Errorf("%d bytes: got %d, %v, with %d in memory, want them in memory: %v", n, len(got), err, len(b.mem), inMemory)
		}
		if b.file != nil {
			if _, err := os.Stat(b.file.Name()); !os.IsNotExist(err) {
				t.Errorf("the file is still there: %v", err)
			}
			if b.Close(); b.file.Sync() == nil {
				t.Error("the file is still open")
			}
		}
	}
	b := &upload{size: maxUpload - 1, mem: make([]byte, spill)}
	if b.file, err = os.Create(filepath.Join(t.TempDir(), "x")); err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := b.Write([]byte("a")); err != nil {
		t.Errorf("the largest body: %v", err)
	}
	if _, err := b.Write([]byte("a")); err == nil {
		t.Error("a larger body was taken")
	}
	t.Setenv("TMPDIR", "/nowhere")
	if _, err := new(upload).Write(make([]byte, spill+1)); err == nil {
		t.Error("a body that cannot be kept was taken")
	}
}

// TestNothingBeginsAfterTheEnd: a request that cannot be recorded is not answered.
func TestNothingBeginsAfterTheEnd(t *testing.T) {
	for want, spoil := range map[string]func(g *Gateway){
		"the session has ended":                  func(g *Gateway) { g.End() },
		"the record cannot be written":           func(g *Gateway) { g.broken = io.ErrShortWrite },
		"limit of 67108864 bytes for its record": func(g *Gateway) { g.written = maxRecord },
		"limit of 3 requests":                    func(g *Gateway) { g.begun = 3 },
	} {
		g := start(t, Settings{Requests: 3}).g
		g.written = maxRecord - 1
		g.begun = 1
		e, err := g.begin("GET", "http://a.test/")
		if err != nil {
			t.Fatal(err)
		}
		g.finish(e)
		g.written = 0
		spoil(g)
		_, err = g.begin("GET", "http://a.test/")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		g.broken = nil
	}
	// What counts for the record's size is no less than what is written.
	g := start(t, Settings{}).g
	e, err := g.begin("GET", "http://a.test/"+strings.Repeat("u", 3000))
	if err != nil {
		t.Fatal(err)
	}
	e.Header, e.Accept, e.Denied = map[string]string{"Etag": strings.Repeat("e", 5000)}, strings.Repeat("a", 2000), strings.Repeat("d", 900)
	if g.finish(e); g.written < 3000+5000+2000+900+len(hexSum("")) {
		t.Errorf("an exchange of more than 10,900 bytes counts as %d", g.written)
	}
	room := start(t, Settings{})
	room.end()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan error, 1)
	go func() { served <- room.g.Serve(l) }()
	if err := await.Value(t, "a gateway does not serve after its end", served); err != nil {
		t.Errorf("serving after the end: got %v, want nothing", err)
	}
}

// oddListener fails.
type oddListener struct {
	net.Listener
	accept, close error
}

func (l oddListener) Accept() (net.Conn, error) {
	if l.accept != nil {
		return nil, l.accept
	}
	return l.Listener.Accept()
}

func (l oddListener) Close() error { l.Listener.Close(); return l.close }

// TestListenersThatFail: a listener that fails ends the gateway with its error, and so
// has the record no end; one that was closed first is no error.
func TestListenersThatFail(t *testing.T) {
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	failed := errors.New("it failed")
	g, err := New(Settings{})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := g.run(t.Context(), oddListener{listen(), failed, nil}, &out); !errors.Is(err, failed) || strings.Contains(out.String(), `"end"`) {
		t.Errorf("got %v and the record %s, want the error and no end", err, out.String())
	}
	for _, closing := range []error{failed, net.ErrClosed, nil} {
		g, err := New(Settings{})
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		l := listen()
		go func() { served <- g.Serve(oddListener{l, nil, closing}) }()
		if _, err := http.Get("http://" + l.Addr().String() + "/v2/"); err != nil { // by then it serves
			t.Fatal(err)
		}
		if _, err := g.End(); (closing == failed) != errors.Is(err, failed) || closing != failed && err != nil {
			t.Errorf("a listener whose end says %v: got %v", closing, err)
		}
		if err := <-served; err != nil {
			t.Errorf("got %v, want nothing after an end", err)
		}
	}
	if err := Run(t.Context(), listen(), Settings{Session: builder.Session{Record: true}}, io.Discard); err == nil || !strings.Contains(err.Error(), "needs a store") {
		t.Errorf("a session without its store: got %v", err)
	}
	if err := Run(t.Context(), listen(), Settings{}, &full{lines: 1}); err == nil {
		t.Error("a gateway ran whose record cannot be written")
	}
}

// TestSettings: what is missing or malformed is named, and the defaults are as documented.
func TestSettings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, s := range map[string]Settings{
		"mirror: ":                 {Mirror: t.TempDir()},
		"needs a store":            {Session: builder.Session{Record: true}},
		"a lock needs a store":     {Session: builder.Session{Lock: &builder.Lock{}}},
		"store: ":                  {Session: builder.Session{Record: true}, Store: file},
		"sealed session needs":     {Session: builder.Session{Sealed: true}},
		"lock: ":                   {Session: builder.Session{Lock: &builder.Lock{}}, Store: t.TempDir()},
		"roots: open":              {Roots: filepath.Join(t.TempDir(), "none")},
		"contains no certificate":  {Roots: file},
		"such as https://colophon": {Platform: []string{"colophon.example"}},
		`got "ftp://a.test"`:       {Platform: []string{"ftp://a.test"}},
		`got "http://"`:            {Platform: []string{"http://"}},
		`got "http://a b"`:         {Platform: []string{"http://a b"}},
		"origin of the platform \"http://-a-\": host": {Platform: []string{"http://-a-"}},
	} {
		if _, err := New(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want %q", s, err, want)
		}
	}
	g, err := New(Settings{})
	if err != nil {
		t.Fatal(err)
	}
	for p, ok := range map[uint16]bool{80: true, 443: true, 8080: false} {
		if err := g.policy.admit(endpoint{"a.test", p}); (err == nil) != ok {
			t.Errorf("port %d: got %v, want it allowed: %v", p, err, ok)
		}
	}
	if got := (Network{}).Reach(); got != attest.PublicNetwork {
		t.Errorf("got reach %q, want %q", got, attest.PublicNetwork)
	}
	private := Network{Allow: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00::/8")}}
	if got := private.Reach(); got != "public 10.1.0.0/16 fd00::/8" {
		t.Errorf("got reach %q, want the ranges in it", got)
	}
}

// TestConnectionsEnd: the end of a session closes its connections to the network.
func TestConnectionsEnd(t *testing.T) {
	var open atomic.Int64
	up := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "x") }))
	up.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		}
	}
	up.Start()
	defer up.Close()
	rename(up)
	room := start(t, Settings{Network: Network{Ports: []uint16{port(t, up.URL)}}})
	room.want(200, "x", "GET", up.URL)
	if open.Load() != 1 {
		t.Errorf("%d connections are kept, want one for the next request", open.Load())
	}
	room.end()
	await.True(t, "no connection outlives its session", func() bool { return open.Load() == 0 })
}

// TestLeaves: a certificate is for its host alone, and their number is bounded.
func TestLeaves(t *testing.T) {
	a, err := newAuthority()
	if err != nil {
		t.Fatal(err)
	}
	hosts := []string{"a.test", "9.9.9.9", "2606:4700::1111"}
	for _, host := range hosts {
		c, err := a.leaf(host)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := a.leaf(host); err != nil || again != c {
			t.Errorf("%s: got another certificate, %v", host, err)
		}
		leaf, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, other := range hosts {
			if err := leaf.VerifyHostname(other); (err == nil) != (other == host) {
				t.Errorf("the certificate of %s for %s: got %v", host, other, err)
			}
		}
	}
	for i := len(a.leaves); i < maxLeaves-1; i++ {
		a.leaves[fmt.Sprint(i)] = nil
	}
	for _, want := range []int{maxLeaves, 1} {
		if _, err := a.leaf(fmt.Sprintf("h%d.test", want)); err != nil || len(a.leaves) != want {
			t.Errorf("got %d certificates, %v, want %d", len(a.leaves), err, want)
		}
	}
}

// TestNothingPastAFailure: the read that exceeds the session's budget, or that cannot be
// stored, hands no bytes to the room.
func TestNothingPastAFailure(t *testing.T) {
	s, err := openStore(t.TempDir(), 3)
	if err != nil {
		t.Fatal(err)
	}
	blob, err := s.create()
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*body{
		"budget": {g: &Gateway{set: Settings{Bytes: 3}}},
		"store":  {g: &Gateway{set: Settings{Bytes: 100}}, blob: blob, keep: true},
	} {
		b.ReadCloser, b.e, b.left, b.sum = io.NopCloser(strings.NewReader("four")), &exchange{}, -1, sha256.New()
		for range 2 {
			if n, err := b.Read(make([]byte, 10)); n != 0 || err == nil || errors.Is(err, io.EOF) {
				t.Errorf("%s: got %d bytes, %v, want none and an error", name, n, err)
			}
		}
		if b.e.SHA256 != "" {
			t.Errorf("%s: the record has a digest", name)
		}
	}
}
