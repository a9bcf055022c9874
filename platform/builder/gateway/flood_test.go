package gateway

import (
	"fmt"
	"net"
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/await"
)

// A room that floods its gateway with connections, half requests and tunnels without TLS
// costs a bounded amount, hurts no other room, and loses nothing of the record.
func TestFlood(t *testing.T) {
	up, s := world(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "here") })
	flooded, other := start(t, s), start(t, s)
	flooded.want(200, "here", http.MethodGet, up.URL+"/before")
	before := runtime.NumGoroutine()

	to := up.Listener.Addr().String()
	begin := []string{"", "G", "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nX: ", "CONNECT " + to + " HTTP/1.1\r\nHost: " + to + "\r\n\r\n", "\x16\x03\x01\x02\x00"}
	var flood []net.Conn
	closeAll := func() {
		for _, c := range flood {
			c.Close()
		}
		flood = nil
	}
	defer closeAll()
	for n := range 3 * maxIn {
		c, err := net.DialTimeout("tcp", flooded.addr, 5*time.Second)
		if err != nil {
			break // the backlog is full
		}
		flood = append(flood, c)
		c.SetWriteDeadline(time.Now().Add(time.Second))
		c.Write([]byte(begin[n%len(begin)]))
	}
	if len(flood) <= maxIn {
		t.Fatalf("only %d connections were opened, want more than %d", len(flood), maxIn)
	}
	for range 5 { // the other room is served meanwhile
		other.want(200, "here", http.MethodGet, up.URL+"/other")
	}
	if now := runtime.NumGoroutine(); now > before+2*maxIn {
		t.Errorf("%d goroutines serve %d connections, %d were there before", now, len(flood), before)
	}
	closeAll()
	flooded.want(200, "here", http.MethodGet, up.URL+"/after")

	// A flood that does not stop does not delay the end.
	for range 2 * maxIn {
		c, err := net.DialTimeout("tcp", flooded.addr, 5*time.Second)
		if err != nil {
			break
		}
		flood = append(flood, c)
	}
	began := time.Now()
	record := flooded.end()
	if took := time.Since(began); took > await.Patience {
		t.Errorf("the end took %s", took)
	}
	seen := map[string]bool{}
	for _, e := range record {
		seen[e.URL] = true
	}
	for _, path := range []string{"/before", "/after"} {
		if !seen[up.URL+path] {
			t.Errorf("the record lacks %s: %v", path, seen)
		}
	}
}
