package front

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/await"
)

// impatient serves h with little patience, and returns its address.
func impatient(t *testing.T, h http.Handler) string {
	t.Helper()
	srv := httptest.NewServer(patience{h, 300 * time.Millisecond, 1 << 20})
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

// dial opens a connection and sends the head of a request.
func dial(t *testing.T, address, head string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(await.Patience))
	if _, err := io.WriteString(c, head); err != nil {
		t.Fatal(err)
	}
	return c
}

// A client that sends its body byte by byte is cut off, whatever the handler does, and never
// reaches a role behind Buffered.
func TestSlowBody(t *testing.T) {
	var reached atomic.Int32
	mux := http.NewServeMux()
	mux.Handle("/buffered", Buffered(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) })))
	mux.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	mux.HandleFunc("/refused", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", http.StatusForbidden) })
	address := impatient(t, mux)
	for _, path := range []string{"/buffered", "/stream", "/refused"} {
		for _, length := range []string{"Content-Length: 100000", "Transfer-Encoding: chunked"} {
			c := dial(t, address, "POST "+path+" HTTP/1.1\r\nHost: x\r\n"+length+"\r\n\r\n")
			began := time.Now()
			go func() {
				for {
					if _, err := io.WriteString(c, "1\r\nx\r\n"); err != nil {
						return
					}
					time.Sleep(20 * time.Millisecond)
				}
			}()
			io.Copy(io.Discard, c) // until the server ends the connection
			if took := time.Since(began); took > await.Patience/2 {
				t.Errorf("%s, %s: the connection was held for %v", path, length, took)
			}
		}
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("%d requests with half a body reached a role, want none", n)
	}
}

// A client that does not take its answer is cut off.
func TestSlowReader(t *testing.T) {
	ended := make(chan error, 1)
	address := impatient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				ended <- err
				return
			}
		}
	}))
	dial(t, address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	await.Value(t, "the end of the request of a client that reads nothing", ended)
}

// An honest client is not cut off: neither in a stream that is quiet for longer than the
// grace, nor by a slow handler, nor in a second request on its connection.
func TestPatience(t *testing.T) {
	if p := Patience(nil).(patience); p.grace != 30*time.Second || p.rate != 8<<10 {
		t.Errorf("got %s and %d bytes per second, want 30 s and 8 KiB", p.grace, p.rate)
	}
	const quiet = 500 * time.Millisecond
	mux := http.NewServeMux()
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		for i := range 3 {
			fmt.Fprintln(w, "event", i)
			http.NewResponseController(w).Flush()
			time.Sleep(quiet)
		}
	})
	mux.HandleFunc("/upload", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(quiet)
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, err)
	})
	mux.Handle("/buffered", Buffered(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		fmt.Fprint(w, len(body), r.ContentLength, err)
	})))
	url := "http://" + impatient(t, mux)
	post := func(path string, size int) string {
		resp, err := http.Post(url+path, "x/y", bytes.NewReader(make([]byte, size)))
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			return err.Error()
		}
		return string(text)
	}
	// On a busy machine, this client too may do nothing for 300 ms: then it tries again.
	for range 2 {
		await.True(t, "three events", func() bool { return strings.Count(post("/events", 10), "event") == 3 })
		await.True(t, "an upload", func() bool { return post("/upload", 1<<20) == "1048576 <nil>" })
		await.True(t, "a buffered body", func() bool {
			return post("/buffered", maxBuffered) == fmt.Sprintf("%d %d <nil>", maxBuffered, maxBuffered)
		})
	}
	await.True(t, "the refusal of a body that is too large", func() bool { return strings.Contains(post("/buffered", maxBuffered+1), "more than") })
}
