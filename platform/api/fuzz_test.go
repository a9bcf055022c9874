package api

import (
	"net/url"
	"testing"

	"github.com/colophon-build/colophon/internal/loopback"
)

// FuzzParseConfig: a token is sent over TLS or loopback alone, and to a host
// that the configuration names.
func FuzzParseConfig(f *testing.F) {
	good := []byte(`{"url":"https://platform.example","token":"t","fingerprint":"sha256:00"}`)
	f.Add(good)
	f.Add([]byte(`{"url":"http://127.0.0.1:8080","token":"t"}`))
	f.Add([]byte(`{"url":"http://127.0.0.1.example","token":"t"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := ParseConfig(raw)
		if err != nil {
			return
		}
		u, err := url.Parse(c.URL)
		if err != nil || c.Token == "" || u.Host == "" || u.User != nil || !loopback.OrTLS(u) {
			t.Errorf("taken: %+v, %v", c, err)
		}
	})
}
