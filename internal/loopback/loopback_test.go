package loopback

import (
	"net/netip"
	"net/url"
	"testing"
)

// hosts is every way to write a host that somebody has tried to pass for
// loopback, or loopback for something else.
var hosts = []struct {
	host         string
	is, possible bool
}{
	// Loopback without doubt.
	{"localhost", true, true},
	{"127.0.0.1", true, true},
	{"127.0.0.2", true, true},
	{"127.0.0.0", true, true},
	{"127.255.255.255", true, true},
	{"::1", true, true},
	{"0:0:0:0:0:0:0:1", true, true},
	{"0000::0001", true, true},
	{"::ffff:127.0.0.1", true, true},
	{"::ffff:7f00:1", true, true},
	{"::FFFF:7F00:1", true, true},

	// It depends on who reads it.
	{"LOCALHOST", false, true},
	{"Localhost", false, true},
	{"localhost.", false, true},
	{"localhost..", false, true},
	{"a.localhost", false, true},
	{"a.b.LocalHost.", false, true},
	{".localhost", false, true},
	{"127.0.0.1.", false, true},
	{"::1%lo", false, true},
	{"::1%25lo", false, true},
	{"::ffff:127.0.0.1%lo", false, true},
	{"0.0.0.0", false, true},
	{"::", false, true},
	{"::ffff:0.0.0.0", false, true},
	{"0", false, true},
	{"127.1", false, true},
	{"127.0.1", false, true},
	{"127.000.000.001", false, true},
	{"0177.0.0.1", false, true},
	{"0x7f.0.0.1", false, true},
	{"0x7f.0.0.0x1", false, true},
	{"0x7f000001", false, true},
	{"0X7F000001", false, true},
	{"0x", false, true}, // 0 to some
	{"2130706433", false, true},
	{"017700000001", false, true},
	{"1.2.3", false, true},
	{"256.256.256.256", false, true},

	// With what belongs to a URL's host, but not to a host's name.
	{"localhost:8080", false, true},
	{"LOCALHOST:8080", false, true},
	{"localhost.:8080", false, true},
	{"127.0.0.1:8080", false, true},
	{"127.0.0.1:", false, true},
	{"[::1]", false, true},
	{"[::1]:8080", false, true},
	{"[::1%25lo]:8080", false, true},
	{"[::ffff:127.0.0.1]:8080", false, true},
	{"0.0.0.0:8080", false, true},
	{"[::]:8080", false, true},
	{"user@127.0.0.1:8080", false, true},
	{"example.com@localhost", false, true},
	{"127.0.0.1:80@::1", false, true},

	// Not loopback.
	{"", false, false},
	{".", false, false},
	{":8080", false, false},
	{"localhost@example.com", false, false},
	{"127.0.0.1@example.com:443", false, false},
	{"127.0.0.1:80@192.0.2.1", false, false},
	{"localhost.example.com", false, false},
	{"localhost.localdomain", false, false},
	{"notlocalhost", false, false},
	{"localhost1", false, false},
	{"127.0.0.1.example.com", false, false},
	{"127.0.0.1.nip.io", false, false},
	{"0x7f000001.example", false, false},
	{"0xyz", false, false},
	{"126.255.255.255", false, false},
	{"128.0.0.0", false, false},
	{"10.0.0.1", false, false},
	{"192.168.0.1:5000", false, false},
	{"169.254.169.254", false, false},
	{"::2", false, false},
	{"fe80::1", false, false},
	{"fe80::1%lo", false, false},
	{"[fe80::1%25lo]:8080", false, false},
	{"fd00::1", false, false},
	{"::ffff:10.0.0.1", false, false},
	{"2001:db8::127.0.0.1", false, false},
	{"registry.example.com", false, false},
	{"registry.example.com:5000", false, false},
	{"registry.example.com.", false, false},
}

func TestHosts(t *testing.T) {
	for _, h := range hosts {
		if got := Is(h.host); got != h.is {
			t.Errorf("Is(%q): got %v, want %v", h.host, got, h.is)
		}
		if got := Possible(h.host); got != h.possible {
			t.Errorf("Possible(%q): got %v, want %v", h.host, got, h.possible)
		}
	}
}

func TestAddr(t *testing.T) {
	for s, want := range map[string]bool{
		"127.0.0.1": true, "127.9.9.9": true, "::1": true, "::ffff:127.0.0.1": true,
		"::1%lo": false, "0.0.0.0": false, "::": false, "128.0.0.1": false, "::127.0.0.1": false, "64:ff9b::7f00:1": false,
	} {
		if got := Addr(netip.MustParseAddr(s)); got != want {
			t.Errorf("Addr(%s): got %v, want %v", s, got, want)
		}
	}
	if Addr(netip.Addr{}) {
		t.Error("Addr of no address: got true, want false")
	}
}

func TestOrTLS(t *testing.T) {
	for s, want := range map[string]bool{
		"https://example.com/":                  true,
		"https://127.0.0.1:8443/":               true,
		"HTTPS://example.com/":                  true, // url.Parse makes schemes lower case
		"http://localhost:8080/":                true,
		"http://127.0.0.1/":                     true,
		"http://[::1]:8080/":                    true,
		"http://[::ffff:127.0.0.1]/":            true,
		"http://user@127.0.0.1/":                true,
		"http://example.com/":                   false,
		"http://localhost@example.com/":         false,
		"http://127.0.0.1:80@example.com/":      false,
		"http://127.0.0.1.example.com/":         false,
		"http://localhost.:8080/":               false,
		"http://LOCALHOST:8080/":                false,
		"http://a.localhost:8080/":              false,
		"http://[::1%25lo]:8080/":               false,
		"http://0.0.0.0:8080/":                  false,
		"http://[::]:8080/":                     false,
		"http://2130706433/":                    false,
		"http:///path":                          false,
		"http:localhost":                        false,
		"ftp://localhost/":                      false,
		"ws://127.0.0.1/":                       false,
		"//127.0.0.1/":                          false,
		"/127.0.0.1":                            false,
		"http://example.com/?http://127.0.0.1/": false,
		"http://example.com#@localhost/":        false,
	} {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := OrTLS(u); got != want {
			t.Errorf("OrTLS(%q): got %v, want %v", s, got, want)
		}
	}
}

// FuzzPossible: what is permitted as loopback is never let through as something
// else, with a port or without.
func FuzzPossible(f *testing.F) {
	for _, h := range hosts {
		f.Add(h.host)
	}
	f.Fuzz(func(t *testing.T, host string) {
		if !Is(host) {
			return
		}
		for _, s := range []string{host, "[" + host + "]:80"} {
			if !Possible(s) {
				t.Errorf("Is(%q) but not Possible(%q)", host, s)
			}
		}
	})
}
