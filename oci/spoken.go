package oci

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/colophon-build/colophon/internal/credential"
	"github.com/colophon-build/colophon/internal/printable"
)

// spoken has the credentials that the last requests to a registry and its token server had. A server
// may repeat them in an answer, and texts of answers end in errors and logs.
type spoken struct {
	mu      sync.Mutex
	headers []string // values of Authorization
}

// maxSpoken caps the credentials of one registry that are kept: tokens are renewed every few minutes.
const maxSpoken = 16

func (s *spoken) add(req *http.Request) {
	header := req.Header.Get("Authorization")
	if header == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(s.headers, header) {
		return
	}
	if s.headers = append(s.headers, header); len(s.headers) > maxSpoken {
		s.headers = s.headers[1:]
	}
}

// minPassword is the length of the shortest password that is taken out of texts, in bytes.
const minPassword = 4

// forms returns the credentials as a server may repeat them, the longest first. Without passwords,
// these are only those that no other text has by chance.
func (s *spoken) forms(passwords bool) (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, header := range s.headers {
		_, value, _ := strings.Cut(header, " ")
		all := []string{value}
		if plain, err := base64.StdEncoding.DecodeString(value); err == nil && strings.HasPrefix(header, "Basic ") {
			all = append(all, string(plain))
			if _, password, _ := strings.Cut(string(plain), ":"); passwords && len(password) >= minPassword {
				all = append(all, password)
			}
		}
		for _, v := range all {
			out = append(out, v, url.QueryEscape(v), url.PathEscape(v))
		}
	}
	out = slices.DeleteFunc(out, func(v string) bool { return v == "" })
	slices.SortFunc(out, func(a, b string) int { return len(b) - len(a) })
	return out
}

// in reports whether an address has a credential: nobody else may get it.
func (s *spoken) in(u *url.URL) bool {
	query, err := url.QueryUnescape(u.RawQuery)
	if err != nil {
		query = ""
	}
	text := u.String() + "\n" + u.Path + "\n" + query
	return slices.ContainsFunc(s.forms(false), func(form string) bool { return strings.Contains(text, form) })
}

func (s *spoken) redact(text string) string {
	for _, form := range s.forms(true) {
		text = strings.ReplaceAll(text, form, credential.Redacted)
	}
	return text
}

// said returns text of a registry for an error message: one line without credentials.
func (s *spoken) said(text string) string { return printable.Cut(printable.Line(s.redact(text)), 500) }

// quoted is an error that quotes a registry.
type quoted struct {
	err  error
	text string
}

// quote returns an error whose text has no credentials.
func (s *spoken) quote(err error) error { return &quoted{err, s.redact(err.Error())} }

func (q *quoted) Error() string { return q.text }
func (q *quoted) Unwrap() error { return q.err }
