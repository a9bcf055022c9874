package reach

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestExplain: real requests that get no answer are explained without a word of the
// libraries.
func TestExplain(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	hang := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	cut := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, _, _ := w.(http.Hijacker).Hijack()
		c.Close()
	}))
	for _, s := range []*httptest.Server{plain, secure, hang, cut} {
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		t.Cleanup(s.Close)
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	known := secure.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	stop := errors.New("redirects are not followed")
	mine := errors.New("not finished within --timeout 1s")
	for what, c := range map[string]struct {
		url    string
		client http.Client
		cause  error
		want   []string
	}{
		"refused":         {url: "http://" + closed.Addr().String(), want: []string{closed.Addr().String(), string(Refused)}},
		"no address":      {url: "https://no-such-host.invalid", want: []string{"no-such-host.invalid cannot be reached", "its name"}},
		"not TLS":         {url: strings.Replace(plain.URL, "http:", "https:", 1), want: []string{string(NotTLS)}},
		"unknown":         {url: secure.URL, want: []string{string(NotTrusted)}},
		"another name":    {url: secure.URL, client: http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: known, ServerName: "other.test"}}}, want: []string{string(OtherName), "example.com"}},
		"expired":         {url: secure.URL, client: http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: known, Time: func() time.Time { return time.Now().AddDate(200, 0, 0) }}}}, want: []string{string(NotValid), "it is valid from"}},
		"cut off":         {url: cut.URL, want: []string{string(Closed)}},
		"client's time":   {url: hang.URL, client: http.Client{Transport: &http.Transport{ResponseHeaderTimeout: 50 * time.Millisecond}}},
		"caller's reason": {url: hang.URL, cause: mine, want: []string{mine.Error()}},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		if c.cause != nil {
			ctx, cancel = context.WithTimeoutCause(t.Context(), 50*time.Millisecond, c.cause)
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.client.Do(req)
		cancel()
		got := Explain(err)
		if got == nil {
			t.Fatalf("%s: got no error", what)
		}
		if c.want == nil {
			c.want = []string{string(Late)}
		}
		for _, w := range c.want {
			if !strings.Contains(got.Error(), w) {
				t.Errorf("%s: got %q, want %q in it", what, got, w)
			}
		}
		for _, library := range []string{"Get \"", "dial tcp", "x509:", "tls:", "http:", "lookup", "context", "EOF"} {
			if strings.Contains(got.Error(), library) {
				t.Errorf("%s: got %q, want no text of a library", what, got)
			}
		}
		if !errors.Is(got, err) && !errors.Is(err, errors.Unwrap(got)) {
			t.Errorf("%s: the cause is lost", what)
		}
		if again := Explain(got); again != got {
			t.Errorf("%s: explained twice: %q", what, again)
		}
	}
	if got := Explain(stop); got != stop {
		t.Errorf("another error: got %q, want it unchanged", got)
	}
	if Explain(nil) != nil {
		t.Error("nil: got an error")
	}
}
