// Package apiserver is the platform's front door for releases: it checks the
// token and hands the request to the attestor's socket. It holds no key and
// looks into nothing.
package apiserver

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"strings"

	"github.com/colophon-build/colophon/internal/api"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/source"
)

// Config of a Service.
type Config struct {
	AttestorSocket string                  // where releases are run
	MayRelease     func(token string) bool // compares in constant time
	LocalSources   bool                    // file:// sources from clients on loopback; for platforms that are on loopback themselves
	Log            *slog.Logger
}

// Service is the API.
type Service struct {
	cfg   Config
	proxy *httputil.ReverseProxy
}

// New makes a Service. The attestor need not be up yet: requests get 503 until it is.
func New(cfg Config) *Service {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", cfg.AttestorSocket)
	}
	return &Service{cfg: cfg, proxy: &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", "attestor"
			r.Out.Header.Del("Authorization") // the attestor has no use for it
		},
		Transport:     &http.Transport{DialContext: dial, DisableCompression: true},
		FlushInterval: -1, // events as they come
		ErrorLog:      slog.NewLogLogger(cfg.Log.Handler(), slog.LevelWarn),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil {
				cfg.Log.Error("attestor does not answer", "error", err)
			}
			http.Error(w, "the attestor does not answer; it may be restarting", http.StatusServiceUnavailable)
		},
	}}
}

// Register adds the API's paths to mux.
func (s *Service) Register(mux *http.ServeMux) {
	mux.HandleFunc("POST "+api.PathReleases, s.authorized(s.release))
	mux.HandleFunc("GET "+api.PathReleases+"/{id}", s.authorized(s.proxy.ServeHTTP))
	mux.HandleFunc("GET "+api.PathLogs+"/{digest}", s.authorized(s.proxy.ServeHTTP))
}

func (s *Service) authorized(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || !s.cfg.MayRelease(token) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="colophon"`)
			http.Error(w, "this needs the platform's token; see colophon login", http.StatusUnauthorized)
			return
		}
		next(w, r)
	}
}

func (s *Service) release(w http.ResponseWriter, r *http.Request) {
	body, err := strict.Read(r.Body, limits.Request)
	if err != nil {
		http.Error(w, fmt.Sprintf("request: %v", err), http.StatusRequestEntityTooLarge)
		return
	}
	var req api.ReleaseRequest
	if err := strict.UnmarshalKnown(body, limits.Request, &req); err != nil {
		http.Error(w, fmt.Sprintf("request: %v", err), http.StatusBadRequest)
		return
	}
	uri, err := source.Canonical(req.Source)
	if err != nil {
		http.Error(w, fmt.Sprintf("request: source: %v", err), http.StatusBadRequest)
		return
	}
	// Plain HTTP is for loopback only, so it is this host's too.
	if !strings.HasPrefix(uri, "https://") && !strings.HasPrefix(uri, "ssh://") && !s.mayReadLocal(r) {
		http.Error(w, "a local directory can only be released by a client on the platform's own host; push it to a repository and give its URL", http.StatusForbidden)
		return
	}
	out := r.Clone(r.Context())
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	s.proxy.ServeHTTP(w, out)
}

// mayReadLocal keeps a client of another host from having this host's files
// read and published. A proxy in front makes everyone look local, and says so.
func (s *Service) mayReadLocal(r *http.Request) bool {
	if !s.cfg.LocalSources || r.Header.Get("X-Forwarded-For") != "" || r.Header.Get("Forwarded") != "" {
		return false
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && from.Addr().Unmap().IsLoopback()
}
