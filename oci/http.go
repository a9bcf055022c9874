package oci

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/colophon-build/colophon/internal/loopback"
	"github.com/colophon-build/colophon/internal/reach"
	"github.com/colophon-build/colophon/internal/strict"
)

const (
	requestTimeout = 60 * time.Second // a request whose body is small
	stallTimeout   = 60 * time.Second // a transfer of a blob that does not move
	maxErrorBody   = 64 << 10
)

// defaultTransport is shared, so that connections are reused between the
// repositories of one process. Compression is off, because digests are about the
// bytes as stored.
var defaultTransport = sync.OnceValue(func() http.RoundTripper {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  requestTimeout,
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConnsPerHost:    32,
		IdleConnTimeout:        90 * time.Second,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
	}
})

// plainGuard is the lowest transport: nothing leaves the machine without TLS, also
// if a redirect, an upload location or a token realm of a registry says http. A registry
// that has TLS leads to no plain HTTP on loopback either: services there trust this machine.
type plainGuard struct {
	inner  http.RoundTripper
	tls    bool // the registry has TLS
	spoken *spoken
}

func (g plainGuard) RoundTrip(req *http.Request) (*http.Response, error) {
	if !loopback.OrTLS(req.URL) || g.tls && req.URL.Scheme != "https" {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, fmt.Errorf("%s: plain HTTP is allowed only on loopback, for a registry there", shown(req.URL))
	}
	g.spoken.add(req)
	return g.inner.RoundTrip(req)
}

// authTransport sends a request without credentials first, and logs in when the
// registry asks, so that an open registry costs no extra round trip. If it has a
// token, it sends the token with the first request.
type authTransport struct {
	inner http.RoundTripper
	repo  name.Repository
	token string

	spoken *spoken

	keychain authn.Keychain // nil: docker's or podman's configuration

	mu sync.Mutex
	up http.RoundTripper // set once it has logged in

	// asking has a place for the request whose answer says whether writing needs a login. Others
	// that write wait for it: the registry would refuse them, too.
	asking chan struct{}
	open   bool // it does not; guarded by asking
}

func (a *authTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method == http.MethodGet || req.Method == http.MethodHead || a.token != "" || req.URL.Host != a.repo.RegistryStr() || a.handshaken() != nil {
		return a.send(req)
	}
	select {
	case a.asking <- struct{}{}:
	case <-req.Context().Done():
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, req.Context().Err()
	}
	if a.open || a.handshaken() != nil {
		<-a.asking
		return a.send(req)
	}
	defer func() { <-a.asking }()
	resp, err := a.send(req)
	a.open = err == nil && resp.StatusCode != http.StatusUnauthorized
	return resp, err
}

func (a *authTransport) send(req *http.Request) (*http.Response, error) {
	if up := a.handshaken(); up != nil {
		return up.RoundTrip(sentOnce(req.Clone(req.Context())))
	}
	home := req.URL.Host == a.repo.RegistryStr()
	first := req.Clone(req.Context())
	if a.token != "" && home {
		first.SetBasicAuth("colophon", a.token)
	}
	resp, err := a.inner.RoundTrip(first)
	if err != nil || resp.StatusCode != http.StatusUnauthorized || !home {
		return resp, err
	}
	if req.Body != nil && req.Body != http.NoBody && req.GetBody == nil {
		return resp, nil // cannot be sent twice
	}
	if a.token != "" && !strings.HasPrefix(strings.ToLower(resp.Header.Get("WWW-Authenticate")), "bearer") {
		return resp, nil // the token was sent, and refused
	}
	drain(resp)
	up, err := a.handshake(req)
	if err != nil {
		return nil, &loginError{a.repo.RegistryStr(), err, a.spoken}
	}
	second := req.Clone(req.Context())
	if req.GetBody != nil {
		if second.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
	return up.RoundTrip(sentOnce(second))
}

// sentBody notes that a body was sent. The login of ggcr sends a request again when its token has ended, and
// would send the rest of the body, which is nothing.
type sentBody struct {
	io.ReadCloser
	sent bool
}

// sentOnce lets rewinding know when it gets req again.
func sentOnce(req *http.Request) *http.Request {
	if req.Body != nil && req.Body != http.NoBody && req.GetBody != nil {
		req.Body = &sentBody{ReadCloser: req.Body}
	}
	return req
}

// rewinding sends the body of a request that it gets again from its beginning.
type rewinding struct{ inner http.RoundTripper }

func (r rewinding) RoundTrip(req *http.Request) (*http.Response, error) {
	if body, ok := req.Body.(*sentBody); ok && !body.sent {
		body.sent = true
	} else if ok {
		fresh, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		req = req.Clone(req.Context())
		req.Body = fresh
	}
	return r.inner.RoundTrip(req)
}

func (a *authTransport) handshaken() http.RoundTripper {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.up
}

func (a *authTransport) handshake(req *http.Request) (http.RoundTripper, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.up != nil {
		return a.up, nil // a concurrent request has logged in
	}
	auth := authn.FromConfig(authn.AuthConfig{Username: "colophon", Password: a.token})
	if a.token == "" {
		var err error
		if auth, err = authn.Resolve(req.Context(), cmp.Or(a.keychain, authn.Keychain(authn.DefaultKeychain)), a.repo); err != nil {
			return nil, err
		}
	}
	scope := transport.PullScope
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		scope = transport.PushScope
	}
	up, err := transport.NewWithContext(req.Context(), a.repo.Registry, auth, rewinding{a.inner}, []string{a.repo.Scope(scope)})
	if err == nil {
		a.up = up
	}
	return up, err
}

// unreached returns, in words for people, the error of a request that got no answer.
func (r *Registry) unreached(err error) error {
	if login, ok := errors.AsType[*loginError](err); ok {
		return login
	}
	if refused, ok := errors.AsType[*transport.Error](err); ok { // of a token that had to be renewed
		host := ""
		if refused.Request != nil {
			host = refused.Request.URL.Host
		}
		return &loginError{host, err, r.spoken}
	}
	return reach.Explain(err)
}

// loginError means that the registry asked for credentials and nobody could log in. It
// is never ErrNotFound, whatever the status of the token server's answer.
type loginError struct {
	server string
	err    error
	spoken *spoken
}

func (e *loginError) Error() string {
	s := "logging in to " + e.server
	refused, ok := errors.AsType[*transport.Error](e.err)
	if !ok {
		return s + ": " + reach.Explain(e.err).Error()
	}
	s += fmt.Sprintf(": the token server answered %d %s", refused.StatusCode, http.StatusText(refused.StatusCode))
	if len(refused.Errors) > 0 {
		s += ": " + e.spoken.said(string(refused.Errors[0].Code)+": "+refused.Errors[0].Message)
	}
	return s
}

func (e *loginError) Unwrap() error { return e.err }

func (e *loginError) Is(target error) bool {
	refused, ok := errors.AsType[*transport.Error](e.err)
	return target == ErrDenied && ok && denies(refused.StatusCode)
}

// redirectError means that a redirect is not followed.
type redirectError struct{ err error }

func (e *redirectError) Error() string { return e.err.Error() }
func (e *redirectError) Unwrap() error { return e.err }

func (*redirectError) Is(target error) bool { return target == ErrFailing }

func (s *spoken) checkRedirect(req *http.Request, via []*http.Request) error {
	if s.in(req.URL) {
		return &redirectError{fmt.Errorf("redirect from %s: its address has the credential of the request", shown(via[0].URL))}
	}
	if len(via) >= 5 {
		return &redirectError{fmt.Errorf("%s leads to another address, and so on: stopped after 5 redirects", shown(via[0].URL))}
	}
	if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
		return &redirectError{fmt.Errorf("redirect from %s to %s: want https", shown(via[0].URL), shown(req.URL))}
	}
	return nil
}

// shown returns a URL for errors: without user and query. Registries lead to object stores with
// credentials in the query, and errors end in logs.
func shown(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}

// statusError is an answer with an unexpected status. The server's text is made safe
// for a terminal.
type statusError struct {
	request    string
	status     int
	detail     string
	retryAfter string // header
}

func (e *statusError) Error() string {
	s := fmt.Sprintf("%s: %d %s", e.request, e.status, http.StatusText(e.status))
	if e.detail != "" {
		s += ": " + e.detail
	}
	return s
}

// Is reports that a 404, and no other status, is ErrNotFound, and which are ErrDenied. All else is ErrFailing.
func (e *statusError) Is(target error) bool {
	switch {
	case e.status == http.StatusNotFound:
		return target == ErrNotFound
	case denies(e.status):
		return target == ErrDenied
	}
	return target == ErrFailing
}

func denies(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden
}

func hasStatus(err error, status ...int) bool {
	se, ok := errors.AsType[*statusError](err)
	return ok && slices.Contains(status, se.status)
}

// statusError reads the error document of the distribution spec, if any.
func (r *Registry) statusError(resp *http.Response) error {
	e := &statusError{request: resp.Request.Method + " " + shown(resp.Request.URL), status: resp.StatusCode, retryAfter: resp.Header.Get("Retry-After")}
	var doc struct {
		Errors []struct{ Code, Message string }
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if json.Unmarshal(body, &doc) == nil && len(doc.Errors) > 0 {
		e.detail = r.spoken.said(doc.Errors[0].Code + ": " + doc.Errors[0].Message)
	}
	return e
}

func drain(resp *http.Response) {
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxErrorBody))
	resp.Body.Close()
}

// answer is a response with its whole body.
type answer struct {
	body   []byte
	header http.Header
	status int
	url    *url.URL
	spoken *spoken
}

// small sends a request whose answer has at most max bytes, again if the failure may be
// temporary. A status that is not in ok gives a *statusError.
func (r *Registry) small(ctx context.Context, method string, u *url.URL, header http.Header, body []byte, max int, ok ...int) (*answer, error) {
	var a *answer
	err := again.Do(ctx, func() (err error) {
		a, err = r.once(ctx, method, u, header, body, max, ok)
		return err
	})
	return a, err
}

func (r *Registry) once(ctx context.Context, method string, u *url.URL, header http.Header, body []byte, max int, ok []int) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), reader)
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, header)
	resp, err := r.http.Do(req)
	if err != nil {
		return nil, r.unreached(err)
	}
	defer drain(resp)
	for _, s := range ok {
		if resp.StatusCode != s {
			continue
		}
		a := &answer{header: resp.Header, status: s, url: resp.Request.URL, spoken: r.spoken}
		a.body, err = strict.ReadSized(resp.Body, resp.ContentLength, max)
		if _, large := errors.AsType[strict.TooLarge](err); large {
			return nil, refuse("%s %s: %w", method, shown(u), err)
		} else if err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, shown(u), broken(err))
		}
		return a, nil
	}
	return nil, r.statusError(resp)
}

// brokenError means that the connection ended in the middle of an answer.
type brokenError struct{ err error }

func (*brokenError) Error() string   { return "the connection broke before the end of the answer" }
func (e *brokenError) Unwrap() error { return e.err }

func (*brokenError) Is(target error) bool { return target == ErrFailing }

// broken returns a *brokenError for the failure of a connection, and other errors as they are.
func broken(err error) error {
	if _, op := errors.AsType[*net.OpError](err); op || errors.Is(err, io.ErrUnexpectedEOF) {
		return &brokenError{err}
	}
	return err
}

// stalledError means that a transfer did not move for stallTimeout.
type stalledError struct{}

func (stalledError) Error() string { return "nothing was transferred for " + stallTimeout.String() }

func (stalledError) Is(target error) bool { return target == ErrFailing }

// stallGuard cancels a transfer that does not move for stallTimeout. When receiving,
// that is a Read that does not return; when sending, the time between two Reads.
type stallGuard struct {
	inner   io.ReadCloser
	sending bool
	timer   *time.Timer
	closed  func()
}

func guardReceiving(body io.ReadCloser, stop context.CancelCauseFunc) io.ReadCloser {
	return &stallGuard{body, false, time.AfterFunc(stallTimeout, func() { stop(stalledError{}) }), func() { stop(nil) }}
}

// guardSending does not cancel the request when the body is closed, because the
// answer comes later.
func guardSending(body io.ReadCloser, stop context.CancelCauseFunc) io.ReadCloser {
	return &stallGuard{body, true, time.AfterFunc(stallTimeout, func() { stop(stalledError{}) }), func() {}}
}

func (s *stallGuard) Read(p []byte) (int, error) {
	during, after := s.timer.Reset, func(time.Duration) bool { return s.timer.Stop() }
	if s.sending {
		during, after = after, during
	}
	during(stallTimeout)
	n, err := s.inner.Read(p)
	after(stallTimeout)
	if !s.sending {
		err = broken(err)
	}
	return n, err
}

func (s *stallGuard) Close() error {
	s.timer.Stop()
	err := s.inner.Close()
	s.closed()
	return err
}
