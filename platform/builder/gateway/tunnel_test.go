package gateway

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/await"
)

// TestTunnelsOfTheRecord: the record says why a tunnel was refused, and nothing of one
// whose client left.
func TestTunnelsOfTheRecord(t *testing.T) {
	long, longer := strings.Repeat("a", 296)+":443", strings.Repeat("a", 297)+":443"
	const target = "named.example:443"
	for name, test := range map[string]struct {
		target  string
		inside  func(c net.Conn)
		url     string
		denied  string
		refused bool // the CONNECT itself
	}{
		"another name": {target, func(c net.Conn) {
			tls.Client(c, &tls.Config{ServerName: "other.example", InsecureSkipVerify: true}).Handshake()
		}, "https://named.example/", `got "other.example", want named.example`, false},
		"another protocol": {target, func(c net.Conn) { io.WriteString(c, "SSH-2.0-OpenSSH_9\r\n"); io.Copy(io.Discard, c) }, "https://named.example/", "another protocol than TLS", false},
		"no trust":         {target, func(c net.Conn) { tls.Client(c, &tls.Config{ServerName: "named.example"}).Handshake() }, "https://named.example/", "the client must trust the room's CA bundle", false},
		"left":             {target, func(c net.Conn) { c.Close() }, "", "", false},
		"port":             {"named.example:22", nil, "https://named.example:22/", "port: got 22", true},
		"longest host":     {long, nil, "https://" + long + "/", "want a name or an address", true},
		"longer host":      {longer, nil, "https://" + MirrorHost + "/", "want a name or an address", true},
	} {
		room := start(t, Settings{})
		c, err := net.Dial("tcp", room.addr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", test.target, test.target)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || (resp.StatusCode == http.StatusForbidden) != test.refused {
			t.Fatalf("%s: got %v, %v, want the CONNECT refused: %v", name, resp, err, test.refused)
		}
		if test.inside != nil {
			test.inside(c)
		}
		c.Close()
		if test.url != "" {
			await.True(t, name+" is recorded", func() bool { return room.g.recorded() > 0 })
		} else {
			time.Sleep(500 * time.Millisecond) // nothing is recorded
		}
		record := room.end()
		switch {
		case test.url == "" && len(record) == 0:
		case len(record) != 1 || record[0].Method != "CONNECT" || record[0].URL != test.url || record[0].Status != 403 || !strings.Contains(record[0].Denied, test.denied) || strings.Contains(record[0].Denied, "must trust") != (name == "no trust"):
			t.Errorf("%s: got %+v, want %s and %q", name, record, test.url, test.denied)
		}
	}
}
