package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// ownRegistry is the platform's own registry, from which rooms may pull. It usually listens on
// an address of this host, which no room reaches. So the room addresses its pulls to the
// gateway, as to a mirror, and the gateway makes a request of its own for each: GET or HEAD
// of one manifest or blob, without anything of the room's request but Accept. It has no
// token: a room may pull what strangers may pull.
type ownRegistry struct {
	origin *url.URL
	trans  http.RoundTripper // ignores the policy; it gets requests for origin alone
}

// newOwnRegistry returns the registry at origin, SCHEME://HOST[:PORT]; nil if origin is empty.
func newOwnRegistry(origin string, roots *x509.CertPool) (*ownRegistry, error) {
	if origin == "" {
		return nil, nil
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.String() != u.Scheme+"://"+u.Host {
		return nil, fmt.Errorf("origin of the registry: got %q, want an origin such as https://colophon.example.com", origin)
	}
	return &ownRegistry{u, &http.Transport{
		Proxy:                  nil, // ignore the proxy in the platform's environment
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
		TLSHandshakeTimeout:    30 * time.Second,
		ResponseHeaderTimeout:  2 * time.Minute,
		IdleConnTimeout:        30 * time.Second,
		MaxIdleConnsPerHost:    16,
	}}, nil
}

// named reports whether a request to the gateway's own registry names the platform's as the
// registry of the image.
func (s *ownRegistry) named(u *url.URL) bool {
	return s != nil && u.Query().Get("ns") == s.origin.Host
}

// admit returns an error if the policy's lists of hosts exclude the registry.
func (s *ownRegistry) admit(p *policy) error {
	e, err := parseEndpoint(s.origin.Host, 443)
	if err != nil {
		return err
	}
	return p.listed(e)
}

// answer returns the registry's answer to the room's request r, or an error if r is no pull.
func (s *ownRegistry) answer(ctx context.Context, r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return &http.Response{StatusCode: http.StatusMethodNotAllowed, Header: http.Header{}, Body: http.NoBody}, nil
	}
	none := &http.Response{StatusCode: http.StatusNotFound, Header: http.Header{}, Body: http.NoBody}
	p := pull.FindStringSubmatch(r.URL.Path)
	if p == nil || strings.Contains(p[1], "..") || p[2] == "blobs" && !digest.MatchString(p[3]) || len(r.URL.Query()) > 1 {
		return none, nil
	}
	out, err := http.NewRequestWithContext(ctx, r.Method, s.origin.JoinPath("v2", p[1], p[2], p[3]).String(), nil)
	if err != nil {
		return nil, err
	}
	out.Header = http.Header{"User-Agent": {""}, "Accept": r.Header.Values("Accept")}
	resp, err := s.trans.RoundTrip(out)
	if err != nil {
		return nil, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		header := http.Header{}
		for _, k := range []string{"Content-Type", "Docker-Content-Digest"} {
			header.Set(k, resp.Header.Get(k))
		}
		resp.Header = header
		return resp, nil
	case http.StatusNotFound:
		resp.Body.Close()
		return none, nil
	case http.StatusUnauthorized, http.StatusForbidden:
		resp.Body.Close()
		return nil, &DeniedError{s.origin.Host, "the platform's registry lets nobody pull without a token, and builds have none"}
	}
	resp.Body.Close()
	return nil, fmt.Errorf("the platform's registry: got status %d, want 200", resp.StatusCode)
}
