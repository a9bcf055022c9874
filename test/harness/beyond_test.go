package harness

import (
	"net"
	"net/netip"
	"testing"

	"github.com/colophon-build/colophon/test/needs"
)

func TestHostsBeyond(t *testing.T) {
	needs.Root(t, "network namespaces")
	seen := map[string]bool{}
	for range 3 {
		l, err := Beyond(netip.MustParsePrefix("10.213.100.10/24"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if at := l.Addr().String(); seen[at] {
			t.Errorf("two hosts have %s", at)
		} else {
			seen[at] = true
		}
		go func() {
			if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
				c.Close()
			}
		}()
		if c, err := l.Accept(); err != nil {
			t.Error(err)
		} else {
			c.Close()
		}
	}
}
