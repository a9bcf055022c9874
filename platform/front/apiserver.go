// Package apiserver is the platform's front door for releases: it checks the
// token and hands the request to the attestor's socket. It holds no key and
// looks into nothing.
package front

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"

	"github.com/colophon-build/colophon/internal/loopback"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/source"
)

// Config of a Service.
type Config struct {
	Attestor     http.Handler            // where releases are run
	MayRelease   func(token string) bool // compares in constant time
	LocalSources bool                    // file:// sources from clients on loopback; for platforms that are on loopback themselves
}

// Service is the API.
type Service struct{ cfg Config }

// New makes a Service.
func New(cfg Config) *Service { return &Service{cfg} }

// Register adds the API's paths to mux.
func (s *Service) Register(mux *http.ServeMux) {
	mux.HandleFunc("POST "+api.PathReleases, s.authorized(s.release))
	mux.HandleFunc("GET "+api.PathReleases+"/{id}", s.authorized(s.cfg.Attestor.ServeHTTP))
	mux.HandleFunc("GET "+api.PathLogs+"/{digest}", s.authorized(s.cfg.Attestor.ServeHTTP))
}

func (s *Service) authorized(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || !s.cfg.MayRelease(token) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="colophon"`)
			http.Error(w, "this needs the platform's token; see colophon login", http.StatusUnauthorized)
			return
		}
		r = r.Clone(r.Context())
		r.Header.Del("Authorization") // the attestor has no use for it
		next(w, r)
	}
}

func (s *Service) release(w http.ResponseWriter, r *http.Request) {
	req, body, err := api.ReadReleaseRequest(r.Body)
	if err != nil {
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
	s.cfg.Attestor.ServeHTTP(w, out)
}

// mayReadLocal keeps a client of another host from having this host's files
// read and published. A proxy in front makes everyone look local, and says so.
func (s *Service) mayReadLocal(r *http.Request) bool {
	if !s.cfg.LocalSources || r.Header.Get("X-Forwarded-For") != "" || r.Header.Get("Forwarded") != "" {
		return false
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && loopback.Addr(from.Addr())
}
