package builder

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/colophon-build/colophon/internal/credential"
	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
)

// LockVersion is the only version of the lock format that this package reads and writes.
const LockVersion = 1

// Lock pins a build's downloads: it lists each request and the sha256 of its
// answer. If a request has several entries, they are its answers in order, and
// the last one answers every later repetition. Spec: spec/lock/v1.
type Lock struct {
	Version int        `json:"version"`
	Fetches []Exchange `json:"fetches"` // sorted by request
	// Git lists the git repositories that the Dockerfile adds, sorted by address and ref. The
	// attest zone fetches them; a gateway takes no notice of them.
	Git []LockedGit `json:"git,omitempty"`
}

// LockOf makes a lock from the exchanges of a session. It leaves out requests
// that the gateway denied, answers that broke off, and temporary failures such as
// status 503. A replay fails if the build depends on one of these.
func LockOf(exchanges []Exchange) (*Lock, error) {
	var all []Exchange
	for _, e := range exchanges {
		if e.Denied == "" && e.SHA256 != "" && lasting(e.Status) {
			e.Header, e.Stored = maps.Clone(e.Header), false
			all = append(all, e)
		}
	}
	slices.SortStableFunc(all, compareRequests)
	// Drop repetitions of a request's last answer: a replay repeats it anyway.
	l := &Lock{Version: LockVersion, Fetches: []Exchange{}}
	for i, e := range all {
		l.Fetches = append(l.Fetches, e)
		for n := len(l.Fetches); n > 1 && lastOfRequest(all, i) && sameAnswer(&l.Fetches[n-2], &l.Fetches[n-1]); n = len(l.Fetches) {
			l.Fetches = l.Fetches[:n-1]
		}
	}
	return l, l.Check()
}

// lasting reports whether a lock may contain an answer with this status: it is
// neither a temporary failure nor dependent on what the client has cached.
func lasting(status int) bool {
	switch status {
	case http.StatusNotModified, http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return status >= 200 && status < 500
}

// Marshal returns the canonical form of a lock: indented JSON with a newline at
// the end. Equal locks have equal bytes.
func (l *Lock) Marshal() ([]byte, error) {
	if err := l.Check(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // URLs are full of &
	enc.SetIndent("", "  ")
	if err := enc.Encode(l); err != nil {
		return nil, err
	}
	if b.Len() > limits.Lock {
		return nil, fmt.Errorf("size: got %d bytes, want at most %d", b.Len(), limits.Lock)
	}
	return b.Bytes(), nil
}

// ParseLock reads a lock. It refuses every form but the canonical one, because a
// lock is named by the sha256 of its bytes and equal locks must have equal names.
func ParseLock(data []byte) (*Lock, error) {
	var l Lock
	if err := strict.UnmarshalKnown(data, limits.Lock, &l); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	canonical, err := l.Marshal()
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if !bytes.Equal(canonical, data) {
		return nil, fmt.Errorf("lock: not in canonical form (line %d): use the file exactly as a release wrote it", firstDifference(canonical, data))
	}
	return &l, nil
}

// Check returns an error if the lock is not valid by spec/lock/v1.
func (l *Lock) Check() error {
	if err := checkGit(l.Git); err != nil {
		return err
	}
	if l.Version != LockVersion {
		return fmt.Errorf("version: got %d, want %d", l.Version, LockVersion)
	}
	if l.Fetches == nil {
		return fmt.Errorf("fetches: the list is missing")
	}
	if len(l.Fetches) > limits.LockFetches {
		return fmt.Errorf("fetches: got %d, want at most %d", len(l.Fetches), limits.LockFetches)
	}
	for i := range l.Fetches {
		e := &l.Fetches[i]
		if err := checkFetch(e); err != nil {
			return fmt.Errorf("fetch %d, %.40q %.300q: %w", i+1, e.Method, credential.URL(e.URL), err)
		}
		if i == 0 {
			continue
		}
		before := &l.Fetches[i-1]
		switch {
		case compareRequests(*before, *e) > 0:
			return fmt.Errorf("fetch %d, %s %s, is out of order", i+1, e.Method, e.URL)
		case lastOfRequest(l.Fetches, i) && sameAnswer(before, e):
			return fmt.Errorf("fetch %d, %s %s, repeats the previous fetch", i+1, e.Method, e.URL)
		}
	}
	return nil
}

var (
	method = lazyregexp.New(`^[A-Z]{1,32}$`)
	sum    = lazyregexp.New(`^[0-9a-f]{64}$`)
	empty  = hex.EncodeToString(sha256.New().Sum(nil))
)

func checkFetch(e *Exchange) error {
	u, err := url.Parse(e.URL)
	switch {
	case !method.MatchString(e.Method):
		return fmt.Errorf("method: got %.40q, want 1 to 32 capital letters, such as GET", e.Method)
	case err != nil:
		return fmt.Errorf("url: %w", err)
	case len(e.URL) > limits.FetchURL || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Contains(e.URL, "#") || !printable.IsASCII(e.URL):
		return fmt.Errorf("url: want http or https without credentials or fragment, at most %d bytes", limits.FetchURL)
	case u.Host != authority(u) || !strings.HasPrefix(u.Path, "/") || u.String() != e.URL:
		return fmt.Errorf("url: want the host in lower case, no default port, and a path that begins with /")
	case credential.URL(e.URL) != e.URL:
		return fmt.Errorf("url: got a credential in the query, want it redacted")
	case credential.URL(e.Header["Location"]) != e.Header["Location"]:
		return fmt.Errorf("header Location: got a credential, want it redacted")
	case len(e.Accept) > limits.FetchHeader || !printable.IsASCII(e.Accept):
		return fmt.Errorf("accept: got %.100q, want a header of at most %d bytes", e.Accept, limits.FetchHeader)
	case len(e.Range) > limits.FetchHeader || !printable.IsASCII(e.Range):
		return fmt.Errorf("range: got %.100q, want a header of at most %d bytes", e.Range, limits.FetchHeader)
	case e.Request != "" && !sum.MatchString(e.Request):
		return fmt.Errorf("request: got %.100q, want 64 hex digits", e.Request)
	case !lasting(e.Status):
		return fmt.Errorf("status: got %d, want a lasting answer (2xx to 4xx, but not 304, 408, 425 or 429)", e.Status)
	case e.Denied != "":
		return fmt.Errorf("denied: got %.100q, want none", e.Denied)
	case e.Failed != "":
		return fmt.Errorf("failed: got %.100q, want none", e.Failed)
	case e.Stored:
		return fmt.Errorf("stored: got true, want no such member")
	case !sum.MatchString(e.SHA256):
		return fmt.Errorf("sha256: got %.100q, want 64 hex digits", e.SHA256)
	case e.Size < 0 || (e.Size == 0) != (e.SHA256 == empty):
		return fmt.Errorf("size: got %d for sha256 %s", e.Size, e.SHA256)
	case e.Size > 0 && (e.Method == http.MethodHead || Bodiless(e.Status)):
		return fmt.Errorf("size: got %d for %s with status %d, whose body is left out", e.Size, e.Method, e.Status)
	case e.Header != nil && len(e.Header) == 0:
		return fmt.Errorf("header: got none, want no header member")
	}
	for k, v := range e.Header {
		if !slices.Contains(Headers, k) && (k != "Content-Length" || e.Method != http.MethodHead) {
			return fmt.Errorf("header: got name %.100q, want one that builds get", k)
		}
		if len(v) > limits.FetchHeader || !printable.IsField(v) {
			return fmt.Errorf("header %s: got %.100q, want text of at most %d bytes", k, v, limits.FetchHeader)
		}
	}
	return nil
}

// Headers lists the headers of an answer that clients act on. A build gets no others, and
// a lock has no others, except for Content-Length of the answer to HEAD.
var Headers = []string{
	"Accept-Ranges", "Content-Disposition", "Content-Encoding", "Content-Range", "Content-Type", "Docker-Content-Digest",
	"Docker-Distribution-Api-Version", "Etag", "Last-Modified", "Link", "Location", "Retry-After", "Www-Authenticate",
	// Hugging Face's client takes a file's digest and commit from these.
	"X-Linked-Etag", "X-Linked-Size", "X-Repo-Commit",
}

// Bodiless reports whether builds get no body with this status. Clients do not use these
// bodies, and they often differ each time (a request's id).
func Bodiless(status int) bool {
	return status >= 300 && status < 400 || status == http.StatusUnauthorized || status == http.StatusNoContent
}

// authority returns the host and port of u in the one form that the gateway records.
func authority(u *url.URL) string {
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if a, err := netip.ParseAddr(host); err == nil {
		host = a.Unmap().String()
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil || port == 80 && u.Scheme == "http" || port == 443 && u.Scheme == "https" {
		return host
	}
	return fmt.Sprintf("%s:%d", host, port)
}

// compareRequests orders exchanges by their requests and ignores their answers.
func compareRequests(a, b Exchange) int {
	if c := cmp.Or(strings.Compare(a.URL, b.URL), strings.Compare(a.Method, b.Method), strings.Compare(a.Accept, b.Accept),
		strings.Compare(a.Range, b.Range), strings.Compare(a.Request, b.Request)); c != 0 || a.Authorized == b.Authorized {
		return c
	}
	if b.Authorized {
		return -1
	}
	return 1
}

// lastOfRequest reports whether all[i] is the last answer to its request.
func lastOfRequest(all []Exchange, i int) bool {
	return i == len(all)-1 || compareRequests(all[i], all[i+1]) != 0
}

// sameAnswer reports whether two exchanges have the same request and the same answer.
func sameAnswer(a, b *Exchange) bool {
	return compareRequests(*a, *b) == 0 && a.Status == b.Status && a.Size == b.Size && a.SHA256 == b.SHA256 && maps.Equal(a.Header, b.Header)
}

// firstDifference returns the number of the first line, counted from 1, where a and b differ.
func firstDifference(a, b []byte) int {
	line := 1
	for i := 0; i < min(len(a), len(b)) && a[i] == b[i]; i++ {
		if a[i] == '\n' {
			line++
		}
	}
	return line
}
