package source

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/colophon-build/colophon/internal/loopback"
)

// remote is a repository address that was taken apart and found harmless.
type remote struct {
	scheme string // https, ssh, file or http
	user   string // ssh only
	host   string // with port, where it is not the scheme's; empty for file
	path   string // absolute, percent-encoded as given
	secret bool   // the address carried credentials, which are gone now
}

var (
	hostRE   = regexp.MustCompile(`^[a-z0-9_]([a-z0-9._-]*[a-z0-9])?$`)
	userRE   = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)
	scpRE    = regexp.MustCompile(`^([^@/:]+)@(\[[0-9A-Fa-f:.]+\]|[^@/:\[\]]+):(.+)$`)
	bareRE   = regexp.MustCompile(`^[A-Za-z0-9_.-]+\.[A-Za-z0-9_-]+(:[0-9]+)?/.+$`)
	ports    = map[string]string{"https": "443", "ssh": "22", "http": "80"}
	errCreds = errors.New("the repository address carries credentials, which would end up in logs and in the provenance; remove them and use an ssh key or a public address")
)

// Canonical returns the one spelling of a repository address that provenance
// carries and policies compare:
//
//	https://host[:port]/path    ssh://host[:port]/path
//	file:///path                http://loopback[:port]/path
//
// Scheme and host are lower case; credentials, the scheme's default port, and
// a trailing "/" or ".git" are gone. user@host:path is read as ssh and
// host/path as https. Anything else is an error, which never repeats the
// address, as that may hold a secret.
func Canonical(uri string) (string, error) {
	r, err := parseRemote(uri)
	if err != nil {
		return "", err
	}
	return r.canonical(), nil
}

func (r remote) canonical() string { return r.scheme + "://" + r.host + r.bare() }

// bare is the path without what servers do not care about.
func (r remote) bare() string {
	p := r.path
	for trimmed := strings.TrimRight(p, "/"); ; trimmed = strings.TrimRight(p, "/") {
		trimmed = strings.TrimSuffix(trimmed, ".git")
		if trimmed == p {
			break
		}
		p = trimmed
	}
	return p
}

// localPath is where a file address leads.
func (r remote) localPath() string {
	p, err := url.PathUnescape(r.path)
	if err != nil {
		return r.path
	}
	return p
}

// fetch is the address that git is given.
func (r remote) fetch() string {
	user := r.user
	if user != "" {
		user += "@"
	}
	return r.scheme + "://" + user + r.host + r.path
}

// FileURI is the address of a local repository, given its absolute path.
func FileURI(dir string) string {
	return "file://" + (&url.URL{Path: path.Clean(dir)}).EscapedPath()
}

func parseRemote(uri string) (remote, error) {
	if uri == "" {
		return remote{}, errors.New("the repository address is empty")
	}
	if len(uri) > 2048 {
		return remote{}, fmt.Errorf("the repository address has %d bytes, at most 2048 are taken", len(uri))
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
			return remote{}, errors.New("the repository address is none of https://host/path, ssh://host/path, user@host:path, file:///path")
		}
	}
	u, err := url.Parse(uri)
	if err != nil {
		// url.Error repeats the address.
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
	if r.bare() == "" {
		return remote{}, errors.New("the repository address has no path")
	}
	if r.scheme == "file" {
		if u.Host != "" || u.User != nil {
			return remote{}, fmt.Errorf("a file address has no host, got %q", u.Host)
		}
		return r, nil
	}
	return r, r.takeHost(u)
}

// redactURL drops a parse error's quotation, which may be of a password.
func redactURL(err error) error {
	msg, _, _ := strings.Cut(err.Error(), `"`)
	return errors.New(strings.TrimSpace(msg))
}

func (r *remote) takeHost(u *url.URL) error {
	port, known := ports[r.scheme]
	if !known {
		return fmt.Errorf("got protocol %q, want https, ssh or file", r.scheme)
	}
	host := strings.ToLower(u.Hostname())
	addr, notIP := netip.ParseAddr(host)
	switch {
	case notIP == nil && addr.Zone() == "":
		host = addr.String()
	case !hostRE.MatchString(host) || strings.Contains(host, ".."):
		return fmt.Errorf("got host %q, want a name or an address", host)
	}
	if r.scheme == "http" && !loopback.Is(host) {
		return fmt.Errorf("plain http is for loopback only, got host %q; use https", host)
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return fmt.Errorf("got port %q, want 1 to 65535", p)
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
		return errors.New("the ssh user of the repository address has unusual characters")
	}
	return nil
}

// cleanPath refuses what two readers could take for different paths: dot
// segments, empty segments, and both of them in percent-encoding. Only in a
// file address are they resolved, as the kernel would.
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

// join resolves a submodule's address against its parent's as git does: "./"
// and "../" are relative to the parent repository's path, anything else stands
// for itself. What stands for itself may not lead from a network repository
// into this machine: file and loopback http need a parent of the same kind.
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
			return remote{}, fmt.Errorf("a repository reached over %s may not name a submodule over %s", r.scheme, sub.scheme)
		}
		return sub, nil
	}
	base := strings.TrimRight(r.path, "/")
	for {
		if rest, ok := strings.CutPrefix(ref, "../"); ok {
			if base == "" {
				return remote{}, errors.New("the submodule's relative address leads above the host")
			}
			base, ref = base[:strings.LastIndexByte(base, '/')], rest
		} else if rest, ok := strings.CutPrefix(ref, "./"); ok {
			ref = rest
		} else {
			break
		}
	}
	r.path = base + "/" + ref
	return parseRemote(r.fetch())
}
