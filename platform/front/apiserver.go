// Package front serves the release API (docs/api.md) to clients. It checks the token
// and the shape of a request and forwards the request to the attestor. It holds no key.
package front

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/loopback"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/source"
)

// Config of a Service.
type Config struct {
	Attestor     http.Handler            // gets the requests that were accepted
	MayRelease   func(token string) bool // reports whether a token may release; must compare in constant time
	Version      string                  // of the program
	LocalSources bool                    // accept file:// sources from clients on loopback; only for a platform that listens on loopback
}

// Service serves the API. Safe for concurrent use.
type Service struct{ cfg Config }

// New returns a Service.
func New(cfg Config) *Service { return &Service{cfg} }

// Register adds the API's paths to mux.
func (s *Service) Register(mux *http.ServeMux) {
	mux.HandleFunc("POST "+api.PathReleases, s.authorized(s.release))
	mux.HandleFunc("POST "+api.PathDeclared, s.authorized(s.release))
	for _, read := range []string{api.PathReleases, api.PathReleases + "/{id}/log", api.PathLogs + "/{digest}"} {
		mux.HandleFunc("GET "+read, s.authorized(s.cfg.Attestor.ServeHTTP))
	}
	release := s.authorized(s.cfg.Attestor.ServeHTTP)
	mux.HandleFunc("GET "+api.PathReleases+"/{id}", func(w http.ResponseWriter, r *http.Request) {
		// An invocationId is this URL, and a person may open it in a browser.
		if strings.Contains(r.Header.Get("Accept"), "text/html") && r.Header.Get("Authorization") == "" {
			http.Redirect(w, r, "/releases/"+url.PathEscape(r.PathValue("id")), http.StatusSeeOther)
			return
		}
		release(w, r)
	})
	mux.HandleFunc("POST "+api.PathReleases+"/{id}/cancel", s.authorized(s.cfg.Attestor.ServeHTTP))
	mux.HandleFunc("GET "+api.PathVersion, s.version)
}

func (s *Service) authorized(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || !s.cfg.MayRelease(token) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="colophon"`)
			http.Error(w, "the request has no valid token of this platform; run colophon login", http.StatusUnauthorized)
			return
		}
		r = r.Clone(r.Context())
		r.Header.Del("Authorization") // the attestor does not need the token
		next(w, r)
	}
}

// Administering returns a handler that lets requests of accounts pass that may administer the platform. account
// returns the name of a token's account, or "" if it may not; it must compare in constant time. The name is in the
// request's header, in place of whatever the client wrote there.
func Administering(account func(token string) string, header string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		name := ""
		if ok {
			name = account(token)
		}
		if name == "" {
			w.Header().Set("WWW-Authenticate", `Bearer realm="colophon"`)
			http.Error(w, "the request has no token that may administer this platform; run colophon login with its admin.json", http.StatusUnauthorized)
			return
		}
		r = r.Clone(r.Context())
		r.Header.Del("Authorization")
		r.Header.Set(header, name)
		next.ServeHTTP(w, r)
	})
}

// version answers everybody: the pages say it too.
func (s *Service) version(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(api.Version{Version: s.cfg.Version}) // the client is gone
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
	// source.Canonical accepts plain HTTP on loopback only, so http:// is this host too.
	if !strings.HasPrefix(uri, "https://") && !strings.HasPrefix(uri, "ssh://") && !s.mayReadLocal(r) {
		http.Error(w, "only a client on the platform's own host can release a local directory; push it to a repository and give its URL", http.StatusForbidden)
		return
	}
	out := r.Clone(r.Context())
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	s.cfg.Attestor.ServeHTTP(w, out)
}

// proxyHeaders are the headers, in the form of http.Header, of which proxies add at least one.
var proxyHeaders = []string{"Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip"}

// mayReadLocal reports whether the client may release a directory of this host: the
// release reads and publishes its files. Behind a proxy every client seems local, so
// the headers that proxies set exclude it, whatever is in them: some proxies append theirs
// to a header that the client sent, and that one may be empty.
func (s *Service) mayReadLocal(r *http.Request) bool {
	if !s.cfg.LocalSources || slices.ContainsFunc(proxyHeaders, func(name string) bool { return r.Header[name] != nil }) {
		return false
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && loopback.Addr(from.Addr())
}
