package source

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/loopback"
)

// remote is a parsed and checked repository address.
type remote struct {
	scheme string // https, ssh, file or http
	user   string // only of ssh
	host   string // with the port, if it is not the scheme's default; empty for file
	path   string // absolute, percent-encoded as in the address
	secret bool   // the address had credentials, which were removed
}

var (
	hostRE   = lazyregexp.New(`^[a-z0-9_]([a-z0-9._-]*[a-z0-9])?$`)
	userRE   = lazyregexp.New(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)
	scpRE    = lazyregexp.New(`^([^@/:]+)@(\[[0-9A-Fa-f:.]+\]|[^@/:\[\]]+):(.+)$`)
	bareRE   = lazyregexp.New(`^[A-Za-z0-9_.-]+\.[A-Za-z0-9_-]+(:[0-9]+)?/.+$`)
	ports    = map[string]string{"https": "443", "ssh": "22", "http": "80"}
	errCreds = errors.New("the repository address carries credentials, which logs and provenance would publish; remove them and use an ssh key or a public address")
)

// Canonical returns the canonical form of a repository address. Provenance contains
// this form, and policies compare it:
//
//	https://host[:port]/path    ssh://[user@]host[:port]/path
//	file:///path                http://loopback[:port]/path
//
// Two addresses have one canonical form only if they lead to the same repository.
// Scheme and host become lower case. Credentials, the scheme's default port, and a
// trailing "/" are removed; of http and https also ".git", which servers map. Over ssh
// and in files, ".git" is part of a directory's name, and the user of ssh may decide
// which directory a path is. user@host:path means ssh, and host/path https. Any other
// address is an error. The error does not contain the address, which could
// contain a secret.
func Canonical(uri string) (string, error) {
	r, err := parseRemote(uri)
	if err != nil {
		return "", err
	}
	return r.canonical(), nil
}

func (r remote) canonical() string { return r.scheme + "://" + r.at() + r.trimmedPath() }

// at returns host and, before it, the user if there is one.
func (r remote) at() string {
	if r.user == "" {
		return r.host
	}
	return r.user + "@" + r.host
}

// trimmedPath returns the path without trailing "/" and, of http and https, ".git".
func (r remote) trimmedPath() string {
	p := r.path
	if r.scheme != "http" && r.scheme != "https" {
		return strings.TrimRight(p, "/")
	}
	for trimmed := strings.TrimRight(p, "/"); ; trimmed = strings.TrimRight(p, "/") {
		trimmed = strings.TrimSuffix(trimmed, ".git")
		if trimmed == p {
			break
		}
		p = trimmed
	}
	return p
}

// localPath returns the path in the file system of a file address.
func (r remote) localPath() string {
	p, err := url.PathUnescape(r.path)
	if err != nil {
		return r.path
	}
	return p
}

// address returns the address to pass to git.
func (r remote) address() string { return r.scheme + "://" + r.at() + r.path }

// FileURI returns the address file:///PATH of the local repository in dir, an absolute
// path.
func FileURI(dir string) string {
	return "file://" + (&url.URL{Path: path.Clean(dir)}).EscapedPath()
}

func parseRemote(uri string) (remote, error) {
	if uri == "" {
		return remote{}, errors.New("the repository address is empty")
	}
	if len(uri) > 2048 {
		return remote{}, fmt.Errorf("repository address: got %d bytes, want at most 2048", len(uri))
	}
	for _, c := range uri {
		if c <= ' ' || c >= 0x7f || c == '\\' {
			return remote{}, fmt.Errorf("the repository address contains %q", c)
		}
	}
	if !strings.Contains(uri, "://") {
		switch m := scpRE.FindStringSubmatch(uri); {
		case m != nil && !strings.HasPrefix(m[3], ":"):
			uri = "ssh://" + m[1] + "@" + m[2] + "/" + strings.TrimPrefix(m[3], "/")
		case bareRE.MatchString(uri):
			uri = "https://" + uri
		case strings.HasPrefix(uri, "/"):
			return remote{}, errors.New("the repository address is a path; write file:///path for a local repository")
		default:
			return remote{}, errors.New("the repository address must have the form https://host/path, ssh://host/path, user@host:path or file:///path")
		}
	}
	u, err := url.Parse(uri)
	if err != nil {
		// url.Error contains the address.
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err
		}
		return remote{}, fmt.Errorf("the repository address is not a URL: %w", redactURL(err))
	}
	if u.Opaque != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(uri, "#") {
		return remote{}, errors.New("the repository address has a query or a fragment")
	}
	r := remote{scheme: strings.ToLower(u.Scheme)}
	if r.path, err = cleanPath(u, r.scheme); err != nil {
		return remote{}, err
	}
	if r.trimmedPath() == "" {
		return remote{}, errors.New("the repository address has no path")
	}
	if r.scheme == "file" {
		if u.Host != "" || u.User != nil {
			return remote{}, fmt.Errorf("host of a file address: got %q, want none", u.Host)
		}
		return r, nil
	}
	if err := r.parseHost(u); err != nil {
		return remote{}, err
	}
	if r.scheme == "ssh" && r.user == "" && strings.HasPrefix(u.Path, "/~") {
		return remote{}, errors.New("the path of the repository address begins with \"~\", and the address names no user; write ssh://USER@host/~/path")
	}
	return r, nil
}

// redactURL removes what a parse error quotes, because that could be a password.
func redactURL(err error) error {
	msg, _, _ := strings.Cut(err.Error(), `"`)
	return errors.New(strings.TrimSpace(msg))
}

// parseHost sets host, user and secret of r.
func (r *remote) parseHost(u *url.URL) error {
	port, known := ports[r.scheme]
	if !known {
		return fmt.Errorf("protocol: got %q, want https, ssh or file", r.scheme)
	}
	host := strings.ToLower(u.Hostname())
	addr, notIP := netip.ParseAddr(host)
	switch {
	case notIP == nil && addr.Zone() == "":
		host = addr.String()
	case !hostRE.MatchString(host) || strings.Contains(host, ".."):
		return fmt.Errorf("host: got %q, want a name or an address", host)
	}
	if r.scheme == "http" && !loopback.Is(host) {
		return fmt.Errorf("host: got %q, but http is allowed only on loopback; use https", host)
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return fmt.Errorf("port: got %q, want 1 to 65535", p)
		}
		if p = strconv.FormatUint(n, 10); p != port {
			host += ":" + p
		}
	}
	r.host = host
	if u.User == nil {
		return nil
	}
	_, password := u.User.Password()
	if r.scheme != "ssh" || password {
		r.secret = true
		return nil
	}
	if r.user = u.User.Username(); !userRE.MatchString(r.user) {
		return errors.New("the ssh user of the repository address has characters other than letters, digits, \".\", \"_\" and \"-\"")
	}
	return nil
}

// cleanPath returns the path of an address. It refuses paths that two programs could
// resolve differently: those with "." and "..", empty segments, and their percent
// encodings. In a file address it resolves them like the kernel.
func cleanPath(u *url.URL, scheme string) (string, error) {
	if !strings.HasPrefix(u.Path, "/") || strings.Trim(u.Path, "/") == "" {
		return "", errors.New("the repository address has no path")
	}
	for _, c := range u.Path {
		if c < ' ' || c == 0x7f {
			return "", fmt.Errorf("the path of the repository address contains %q", c)
		}
	}
	if scheme == "file" {
		return (&url.URL{Path: path.Clean(u.Path)}).EscapedPath(), nil
	}
	p := u.EscapedPath()
	if strings.Contains(strings.ToLower(p), "%2f") {
		return "", errors.New("the path of the repository address has an encoded slash")
	}
	for seg := range strings.SplitSeq(strings.TrimRight(u.Path, "/")[1:], "/") {
		if seg == "" || seg == "." || seg == ".." {
			return "", fmt.Errorf("the path of the repository address has the segment %q", seg)
		}
	}
	return p, nil
}

// join resolves a submodule's address like git: "./" and "../" are relative to the
// path of the parent repository r, any other address is absolute. An absolute address
// of a network repository may not point into this machine: file and loopback http need
// a parent of the same scheme, or a file address as parent, and https and ssh to loopback a
// parent that is on this machine.
func (r remote) join(ref string) (remote, error) {
	if !strings.HasPrefix(ref, "./") && !strings.HasPrefix(ref, "../") {
		sub, err := parseRemote(ref)
		if err != nil {
			return remote{}, err
		}
		if sub.secret {
			return remote{}, errCreds
		}
		if (sub.scheme == "file" || sub.scheme == "http") && sub.scheme != r.scheme && r.scheme != "file" {
			return remote{}, fmt.Errorf("a repository with an %s address may not name one with a %s address", r.scheme, sub.scheme)
		}
		if loopback.Possible(sub.host) && r.scheme != "file" && !loopback.Possible(r.host) {
			return remote{}, fmt.Errorf("a repository at %s may not name one at %s, which is this machine", r.host, sub.host)
		}
		return sub, nil
	}
	base := strings.TrimRight(r.path, "/")
	for {
		if rest, ok := strings.CutPrefix(ref, "../"); ok {
			if base == "" {
				return remote{}, errors.New("the submodule's relative address has more \"../\" than the parent's path has segments")
			}
			base, ref = base[:strings.LastIndexByte(base, '/')], rest
		} else if rest, ok := strings.CutPrefix(ref, "./"); ok {
			ref = rest
		} else {
			break
		}
	}
	r.path = base + "/" + ref
	return parseRemote(r.address())
}
