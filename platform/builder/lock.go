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
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
)

// LockVersion is the version of the lock format that is written and read.
const LockVersion = 1

// Lock pins what a build may fetch: the requests, and for each the answer by
// sha256. Where one request has several answers they were given in this order,
// and the last one stands for all later ones. Spec: spec/lock/v1.
type Lock struct {
	Version int        `json:"version"`
	Fetches []Exchange `json:"fetches"` // sorted by request
}

// LockOf makes the lock of a session from its record. What the gateway refused,
// what broke off, and failures that another try may mend are no part of it: a
// build that depends on one is told so when it is replayed.
func LockOf(exchanges []Exchange) (*Lock, error) {
	var all []Exchange
	for _, e := range exchanges {
		if e.Denied == "" && e.SHA256 != "" && lasting(e.Status) {
			e.Header = maps.Clone(e.Header)
			all = append(all, e)
		}
	}
	slices.SortStableFunc(all, compareRequests)
	// The last answer stands for all later ones, so its repetitions say nothing.
	l := &Lock{Version: LockVersion, Fetches: []Exchange{}}
	for i, e := range all {
		l.Fetches = append(l.Fetches, e)
		for n := len(l.Fetches); n > 1 && lastOfRequest(all, i) && sameAnswer(&l.Fetches[n-2], &l.Fetches[n-1]); n = len(l.Fetches) {
			l.Fetches = l.Fetches[:n-1]
		}
	}
	return l, l.Check()
}

// lasting are the answers that a build may rely on to come again.
func lasting(status int) bool {
	switch status {
	case http.StatusNotModified, http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return status >= 200 && status < 500
}

// Marshal is the canonical form of a lock: indented JSON with a newline at the
// end. The same content has the same bytes.
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
		return nil, fmt.Errorf("a lock of %d bytes, at most %d are taken", b.Len(), limits.Lock)
	}
	return b.Bytes(), nil
}

// ParseLock reads a lock, in its canonical form only: a lock is named by the
// sha256 of its bytes, and one content must not have two names.
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
		return nil, fmt.Errorf("lock: not in canonical form (line %d): it must be the bytes that a release wrote", firstDifference(canonical, data))
	}
	return &l, nil
}

// Check says what is wrong with a lock, or nil.
func (l *Lock) Check() error {
	if l.Version != LockVersion {
		return fmt.Errorf("version: got %d, want %d", l.Version, LockVersion)
	}
	if l.Fetches == nil {
		return fmt.Errorf("there is no list of fetches")
	}
	if len(l.Fetches) > limits.LockFetches {
		return fmt.Errorf("%d fetches, at most %d are taken", len(l.Fetches), limits.LockFetches)
	}
	for i := range l.Fetches {
		e := &l.Fetches[i]
		if err := checkFetch(e); err != nil {
			return fmt.Errorf("fetch %d, %.40q %.300q: %w", i+1, e.Method, e.URL, err)
		}
		if i == 0 {
			continue
		}
		before := &l.Fetches[i-1]
		switch {
		case compareRequests(*before, *e) > 0:
			return fmt.Errorf("fetch %d, %s %s, is out of order", i+1, e.Method, e.URL)
		case lastOfRequest(l.Fetches, i) && sameAnswer(before, e):
			return fmt.Errorf("fetch %d, %s %s, repeats the one before", i+1, e.Method, e.URL)
		}
	}
	return nil
}

var (
	method = regexp.MustCompile(`^[A-Z]{1,32}$`)
	sum    = regexp.MustCompile(`^[0-9a-f]{64}$`)
	empty  = hex.EncodeToString(sha256.New().Sum(nil))
)

func checkFetch(e *Exchange) error {
	u, err := url.Parse(e.URL)
	switch {
	case !method.MatchString(e.Method):
		return fmt.Errorf("method: got %.40q, want one like GET", e.Method)
	case err != nil:
		return fmt.Errorf("url: %w", err)
	case len(e.URL) > limits.FetchURL || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Contains(e.URL, "#") || !printable.IsASCII(e.URL):
		return fmt.Errorf("url: want http or https, without credentials and fragment, at most %d bytes", limits.FetchURL)
	case len(e.Accept) > limits.FetchHeader || !printable.IsASCII(e.Accept):
		return fmt.Errorf("accept: got %.100q, want a header of at most %d bytes", e.Accept, limits.FetchHeader)
	case len(e.Range) > limits.FetchHeader || !printable.IsASCII(e.Range):
		return fmt.Errorf("range: got %.100q, want a header of at most %d bytes", e.Range, limits.FetchHeader)
	case e.Request != "" && !sum.MatchString(e.Request):
		return fmt.Errorf("request: got %.100q, want 64 hex digits", e.Request)
	case !lasting(e.Status):
		return fmt.Errorf("status: got %d, want one that a build may rely on", e.Status)
	case e.Denied != "":
		return fmt.Errorf("it was denied: %.100q", e.Denied)
	case !sum.MatchString(e.SHA256):
		return fmt.Errorf("sha256: got %.100q, want 64 hex digits", e.SHA256)
	case e.Size < 0 || (e.Size == 0) != (e.SHA256 == empty):
		return fmt.Errorf("size: got %d for sha256 %s", e.Size, e.SHA256)
	case e.Header != nil && len(e.Header) == 0 || len(e.Header) > 32:
		return fmt.Errorf("header: got %d, want 1 to 32 or none", len(e.Header))
	}
	for k, v := range e.Header {
		if http.CanonicalHeaderKey(k) != k || len(k) > 64 || !printable.IsASCII(k) || strings.Contains(k, " ") {
			return fmt.Errorf("header: got name %.100q, want it in canonical form", k)
		}
		if len(v) > limits.FetchHeader || !printable.IsField(v) {
			return fmt.Errorf("header %s: got %.100q, want text of at most %d bytes", k, v, limits.FetchHeader)
		}
	}
	return nil
}

// compareRequests orders exchanges by what was asked.
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

// lastOfRequest says whether all[i] is the last answer to its request.
func lastOfRequest(all []Exchange, i int) bool {
	return i == len(all)-1 || compareRequests(all[i], all[i+1]) != 0
}

// sameAnswer says whether two exchanges are one request with one answer.
func sameAnswer(a, b *Exchange) bool {
	return compareRequests(*a, *b) == 0 && a.Status == b.Status && a.Size == b.Size && a.SHA256 == b.SHA256 && maps.Equal(a.Header, b.Header)
}

// firstDifference is the line, counted from 1, where a and b part.
func firstDifference(a, b []byte) int {
	line := 1
	for i := 0; i < min(len(a), len(b)) && a[i] == b[i]; i++ {
		if a[i] == '\n' {
			line++
		}
	}
	return line
}
