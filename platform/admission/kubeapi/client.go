// Package kubeapi is a client of the Kubernetes API for the little that admission needs: to read
// an object, to follow a list of them, to change one. It keeps the API's own JSON, knows no types
// of it, and bounds what it reads (Kubernetes API concepts: "Efficient detection of changes").
package kubeapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
)

const (
	maxAnswer = 64 << 20 // bytes of an object or a list
	maxToken  = 64 << 10
	timeout   = 10 * time.Second
)

// ErrNotFound means that the API server has no such object, ErrDenied that the client may not do
// that, ErrConflict that somebody else changed the object before, and ErrLater that it cannot be
// done now, as the eviction of a pod that a PodDisruptionBudget protects. ErrNoAnswer means that
// nobody knows whether the API server did what it was asked.
var (
	ErrNotFound = errors.New("not found")
	ErrDenied   = errors.New("not allowed")
	ErrConflict = errors.New("changed by somebody else")
	ErrLater    = errors.New("not now")
	ErrNoAnswer = errors.New("the API server does not answer")
)

// errLarge means that an answer has more than maxAnswer bytes.
var errLarge = fmt.Errorf("got more than %d bytes", maxAnswer)

// Client talks to one API server. It is safe for concurrent use.
type Client struct {
	base      *url.URL
	tokenFile string // read for each request: the kubelet renews it
	token     string
	http      *http.Client
	stream    *http.Client // without a limit of time once an answer has begun
}

// Where a pod has the credentials of its ServiceAccount.
const account = "/var/run/secrets/kubernetes.io/serviceaccount"

// InCluster returns the client of a pod, and the namespace that the pod is in.
func InCluster() (*Client, string, error) {
	host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return nil, "", errors.New("this is no pod of a cluster: KUBERNETES_SERVICE_HOST is not set")
	}
	ca, err := strict.ReadFile(filepath.Join(account, "ca.crt"), maxToken)
	if err != nil {
		return nil, "", err
	}
	namespace, err := strict.ReadFile(filepath.Join(account, "namespace"), maxToken)
	if err != nil {
		return nil, "", err
	}
	c, err := New(Settings{Server: "https://" + net.JoinHostPort(host, port), CA: ca, TokenFile: filepath.Join(account, "token")})
	return c, strings.TrimSpace(string(namespace)), err
}

// Settings say how to reach an API server.
type Settings struct {
	Server    string // https://HOST[:PORT]
	CA        []byte // certificates in PEM that may certify it; required
	TokenFile string // file with the bearer token, or
	Token     string // the token
	Cert, Key []byte // client certificate in PEM, in place of a token
}

// New returns a client.
func New(s Settings) (*Client, error) {
	base, err := url.Parse(s.Server)
	if err != nil || base.Scheme != "https" || base.Host == "" {
		return nil, fmt.Errorf("API server: expected https://HOST, found %q", s.Server)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(s.CA) {
		return nil, errors.New("API server: there is no certificate authority for it")
	}
	config := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	if len(s.Cert) > 0 {
		pair, err := tls.X509KeyPair(s.Cert, s.Key)
		if err != nil {
			return nil, fmt.Errorf("API server: client certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	transport := &http.Transport{
		TLSClientConfig: config, DialContext: (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout: 5 * time.Second, ResponseHeaderTimeout: timeout, MaxIdleConnsPerHost: 32, IdleConnTimeout: 90 * time.Second, ForceAttemptHTTP2: true,
	}
	refuse := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // with the token
	return &Client{base, s.TokenFile, s.Token, &http.Client{Transport: transport, Timeout: timeout, CheckRedirect: refuse}, &http.Client{Transport: transport, CheckRedirect: refuse}}, nil
}

// Types of a patch.
const (
	JSONPatch  = "application/json-patch+json"
	MergePatch = "application/merge-patch+json"
)

// Get reads what is at a path, such as /api/v1/namespaces/shop/secrets/pull, into v.
func (c *Client) Get(ctx context.Context, path string, v any) error {
	return c.do(ctx, http.MethodGet, path, "", nil, v)
}

// Create posts an object, and reads the answer into v.
func (c *Client) Create(ctx context.Context, path string, object, v any) error {
	return c.do(ctx, http.MethodPost, path, "application/json", object, v)
}

// Update replaces an object. If it names a resourceVersion that is not the present one, the error
// is ErrConflict.
func (c *Client) Update(ctx context.Context, path string, object any) error {
	return c.do(ctx, http.MethodPut, path, "application/json", object, nil)
}

// Patch changes an object. kind is JSONPatch or MergePatch.
func (c *Client) Patch(ctx context.Context, path, kind string, patch any) error {
	return c.do(ctx, http.MethodPatch, path, kind, patch, nil)
}

func (c *Client) do(ctx context.Context, method, path, contentType string, in, out any) error {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(raw)
	}
	resp, err := c.send(ctx, c.http, method, path, contentType, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(raw) > maxAnswer {
		err = errLarge
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

// send returns the response if it says that the request succeeded.
func (c *Client) send(ctx context.Context, with *http.Client, method, path, contentType string, body io.Reader) (*http.Response, error) {
	u, err := c.base.Parse(path)
	if err != nil || u.Host != c.base.Host {
		return nil, fmt.Errorf("path: found %q", path)
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, err
	}
	token := c.token
	if c.tokenFile != "" {
		raw, err := strict.ReadFile(c.tokenFile, maxToken)
		if err != nil {
			return nil, err
		}
		token = strings.TrimSpace(string(raw))
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Header.Set("Accept", "application/json")
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := with.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, failure(method, path, resp)
}

func failure(method, path string, resp *http.Response) error {
	var said struct {
		Message string `json:"message"`
	}
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, maxToken))
	_ = json.Unmarshal(raw, &said) // it says why, or nothing
	kind := fmt.Errorf("%d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	switch resp.StatusCode {
	case http.StatusNotFound:
		kind = ErrNotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		kind = ErrDenied
	case http.StatusConflict:
		kind = ErrConflict
	case http.StatusTooManyRequests:
		kind = ErrLater
	case http.StatusBadGateway, http.StatusGatewayTimeout: // the API server itself says the latter if it was too slow
		kind = fmt.Errorf("%w: %d", ErrNoAnswer, resp.StatusCode)
	}
	path, _, _ = strings.Cut(path, "?")
	return fmt.Errorf("%s %s: %w: %s", method, path, kind, printable.Cut(printable.Line(said.Message), 500))
}
