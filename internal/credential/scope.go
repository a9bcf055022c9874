package credential

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/loopback"
)

// Scope is the part of a server that a credential is for: an origin and a path.
//
//	scope = ( "https" / "ssh" ) "://" [ user "@" ] host [ ":" port ] [ "/" path ]
//	      / "file:///" path
//
// Only ssh has a user. Plain http is for loopback. The path is that of a repository, a file
// or a directory: it covers itself and everything below it.
type Scope struct {
	scheme, user, host string
	path               string // empty, or "/a/b": no segment needs percent-encoding
}

var (
	scopeHost = lazyregexp.New(`^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$`)
	scopeUser = lazyregexp.New(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)
	scopePath = lazyregexp.New(`^(/[A-Za-z0-9._~@+-]+)*$`)
	schemes   = map[string]string{"https": "443", "ssh": "22", "http": "80", "file": "none"} // with their ports
)

// ParseScope parses a scope. The error does not contain text, which could be a secret.
func ParseScope(text string) (s Scope, err error) {
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(text, "#") || schemes[u.Scheme] == "" {
		return s, errors.New("expected https://HOST/PATH or ssh://USER@HOST/PATH, without a query or a fragment")
	}
	if s.host, err = hostOf(u); err != nil {
		return s, err
	}
	if u.User != nil {
		_, password := u.User.Password()
		if s.user = u.User.Username(); password || u.Scheme != "ssh" || !scopeUser.MatchString(s.user) {
			return s, errors.New("expected an address without a user and password; only ssh has a user")
		}
	}
	if u.Scheme == "http" && !loopback.Is(u.Hostname()) {
		return s, errors.New("plain http is for loopback only; use https")
	}
	s.scheme, s.path = u.Scheme, strings.TrimSuffix(u.EscapedPath(), "/")
	if !scopePath.MatchString(s.path) || !plain(s.path) || s.scheme == "file" && s.path == "" {
		return s, errors.New(`expected a path of letters, digits and "._~@+-", without empty segments, "." and ".."`)
	}
	return s, nil
}

// hostOf returns the host of u in lower case, with the port if it is not the scheme's own.
func hostOf(u *url.URL) (string, error) {
	host := strings.ToLower(u.Hostname())
	if u.Scheme == "file" {
		if u.Host != "" {
			return "", errors.New("a file address has no host: file:///PATH")
		}
		return "", nil
	}
	if a, err := netip.ParseAddr(host); err == nil && a.Zone() == "" {
		if host = a.String(); a.Is6() {
			host = "[" + host + "]"
		}
	} else if !scopeHost.MatchString(host) || strings.Contains(host, "..") {
		return "", fmt.Errorf("host: expected a name or an address, found %q", host)
	}
	if u.Port() == "" || u.Port() == schemes[u.Scheme] {
		return host, nil
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil || port == 0 {
		return "", fmt.Errorf("port: expected 1 to 65535, found %q", u.Port())
	}
	return fmt.Sprintf("%s:%d", host, port), nil
}

// Host returns host[:port], without the scheme's own port.
func (s Scope) Host() string { return s.host }

// Scheme returns https, ssh or http.
func (s Scope) Scheme() string { return s.scheme }

// Path returns the path, without a slash at its end: empty, or "/a/b".
func (s Scope) Path() string { return s.path }

// Contains reports whether other is in the scope as a whole.
func (s Scope) Contains(other Scope) bool {
	u, err := url.Parse(other.String())
	return err == nil && s.Covers(u)
}

func (s Scope) String() string {
	at := ""
	if s.user != "" {
		at = s.user + "@"
	}
	return s.scheme + "://" + at + s.host + s.path
}

// Covers reports whether u is in the scope. Servers read paths differently: some decode
// twice, take "\" for "/", or cut ";…" off. So a path that leaves the scope in any of these
// readings is not in it. The path's last segment may have ".git", which git servers ignore.
func (s Scope) Covers(u *url.URL) bool {
	user := ""
	if u.User != nil {
		if _, password := u.User.Password(); password || s.scheme != "ssh" {
			return false
		}
		user = u.User.Username()
	}
	host, err := hostOf(u)
	path := u.EscapedPath()
	if err != nil || u.Opaque != "" || u.Scheme != s.scheme || host != s.host || user != s.user {
		return false
	}
	trimmed := strings.TrimSuffix(s.path, ".git")
	for _, prefix := range []string{trimmed, trimmed + ".git"} {
		if rest, ok := strings.CutPrefix(path, prefix); ok && (rest == "" || rest[0] == '/') {
			return plain(prefix + withoutDots(rest))
		}
	}
	return false
}

// withoutDots takes the segments "." out of what is below a scope's path: apt writes one
// for an archive whose suite is "./".
func withoutDots(rest string) string {
	for strings.Contains(rest, "/./") {
		rest = strings.ReplaceAll(rest, "/./", "/")
	}
	return rest
}

// plain reports whether a path, percent-encoded, has no empty segment but the last, and
// none that means another directory, however often it is decoded.
func plain(path string) bool {
	for range 4 {
		for seg := range strings.SplitSeq(strings.TrimSuffix(strings.TrimPrefix(path, "/"), "/"), "/") {
			seg, _, _ = strings.Cut(seg, ";")
			if seg == "" && path != "" && path != "/" || seg == "." || seg == ".." {
				return false
			}
		}
		for _, c := range path {
			if c < ' ' || c == 0x7f {
				return false
			}
		}
		next, err := url.PathUnescape(path)
		if err != nil {
			return false
		}
		if next = strings.ReplaceAll(next, `\`, "/"); next == path {
			return true
		}
		path = next
	}
	return false
}
