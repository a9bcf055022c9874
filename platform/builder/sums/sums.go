// Package sums remembers which digest in go.sum the zip of a module has, so that gateways
// can take modules from their store without unpacking them.
//
// The zips are strangers' bytes, and a room may have taken its gateway over. So three
// processes share the work. A gateway reads the sums that its session's commit demands, and
// writes none. The role rooms keeps them in a File, which no gateway sees. A process that no
// room reaches computes them (Serve), with no other input than the bytes of the zips. A sum
// is the same whoever asks for it, so builds of all tenants share it.
package sums

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/builder"
)

// Sum says which digest in go.sum the zip of a module has.
type Sum struct {
	SHA256 string `json:"sha256"` // hex, of the zip
	H1     string `json:"h1"`     // h1:BASE64 of the files in it
}

const (
	maxFile = 16 << 20 // bytes of a File; the older half is dropped when it is larger
	maxSame = 8        // zips with the same H1 that Find returns: those that were added last
)

// File is a file of sums. It has a line for each, in the order in which they were added:
//
//	line  = sha256 " " h1 " " check LF
//	check = the first 16 hex digits of the sha256 of what stands before it in the line
//
// A line that is not so, as a crash or a bad disk leaves it, counts for nothing. A lost sum
// costs a download and is computed again. A File is safe for concurrent use in one process.
type File struct {
	path string
	mu   sync.Mutex
}

// At returns the file at path, which need not exist.
func At(path string) *File { return &File{path: path} }

var (
	isSHA256 = lazyregexp.New(`^[0-9a-f]{64}$`)
	isH1     = lazyregexp.New(`^h1:[A-Za-z0-9+/]{43}=$`)
)

func (s Sum) valid() bool { return isSHA256.MatchString(s.SHA256) && isH1.MatchString(s.H1) }

func (s Sum) line() string {
	text := s.SHA256 + " " + s.H1 + " "
	return text + check(text) + "\n"
}

func check(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}

func parse(line string) (s Sum, ok bool) {
	f := strings.Split(line, " ")
	if len(f) != 3 {
		return s, false
	}
	s = Sum{SHA256: f[0], H1: f[1]}
	return s, s.valid() && s.line() == line+"\n"
}

// Find returns the sums that the demands for modules ask for.
func (f *File) Find(demands []builder.Demand) ([]Sum, error) {
	found := map[string][]Sum{}
	for _, d := range demands {
		if IsModule(d.URL) {
			found[d.Digest] = nil
		}
	}
	if len(found) == 0 {
		return nil, nil
	}
	f.mu.Lock()
	raw, err := f.read()
	f.mu.Unlock()
	for line := range strings.Lines(string(raw)) {
		s, ok := parse(strings.TrimSuffix(line, "\n"))
		if !ok {
			continue
		}
		if same, asked := found[s.H1]; asked {
			found[s.H1] = append(same[max(0, len(same)-maxSame+1):], s)
		}
	}
	var out []Sum
	for _, same := range found {
		out = append(out, same...)
	}
	return out, err
}

// IsModule reports whether the address of a download is that of a module's zip
// (go.dev/ref/mod#goproxy-protocol). A go.mod has an h1 too, which is
// also that of a zip with this file alone.
func IsModule(path string) bool {
	return strings.Contains(path, "/@v/") && strings.HasSuffix(path, ".zip")
}

func (f *File) read() ([]byte, error) {
	raw, err := strict.ReadFile(f.path, 2*maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return raw, err
}

// Add appends sums. They are durable when it returns.
func (f *File) Add(list []Sum) error {
	var lines strings.Builder
	for _, s := range list {
		if s.valid() {
			lines.WriteString(s.line())
		}
	}
	if lines.Len() == 0 {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	raw, err := f.read()
	if err != nil { // too large, or unreadable: start again
		raw = nil
	}
	text := lines.String()
	if len(raw) > 0 && raw[len(raw)-1] != '\n' { // a crash cut the last line off
		text = "\n" + text
	}
	if err != nil || len(raw)+len(text) > maxFile {
		raw = raw[len(raw)/2:]
		raw = raw[bytes.IndexByte(raw, '\n')+1:]
		return durable.WriteFile(f.path, append(raw, text...), 0o600)
	}
	out, err := os.OpenFile(f.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, text)
	return errors.Join(err, out.Sync(), out.Close())
}
