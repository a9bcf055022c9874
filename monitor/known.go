package monitor

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/colophon-build/colophon/internal/strict"
)

const (
	maxKnown     = 256 << 20 // bytes of a file of known releases
	maxKnownLine = 64 << 10  // bytes of a line
)

// Release is one line of a file of known releases, such as one that is made from what a CI
// system ran. It explains a signature that has all of its members. One of the first four
// must be there.
type Release struct {
	Digest string `json:"digest,omitempty"` // ALGORITHM:hex of what was signed: of an image, or of the encoding (PAE) of a DSSE envelope
	Leaf   string `json:"leaf,omitempty"`   // base64: leaf hash of the entry
	Run    string `json:"run,omitempty"`    // URI of the run, as in the certificate
	Commit string `json:"commit,omitempty"` // full commit id, as in the certificate

	Identity string    `json:"identity,omitempty"` // subject alternative name
	Source   string    `json:"source,omitempty"`   // URI of the source repository, as in the certificate
	Ref      string    `json:"ref,omitempty"`      // full ref, as in the certificate
	From     time.Time `json:"from,omitzero"`      // the certificate was not made earlier
	Until    time.Time `json:"until,omitzero"`     // and not later
}

// key returns the member under which a release is looked up.
func (r *Release) key() string { return cmp.Or(r.Digest, r.Leaf, r.Run, r.Commit) }

// explains reports whether a signature has all members of r.
func (r *Release) explains(s Signature) bool {
	leaf := base64.StdEncoding.EncodeToString(s.Leaf[:])
	x := s.Signer.Extensions
	for _, m := range []struct {
		want string
		have []string
	}{
		{r.Digest, s.Entry.Digests}, {r.Leaf, []string{leaf}}, {r.Run, []string{x.RunInvocationURI}}, {r.Commit, []string{x.SourceRepositoryDigest}},
		{r.Identity, s.Signer.Names}, {r.Source, s.Signer.Sources}, {r.Ref, []string{x.SourceRepositoryRef}},
	} {
		if m.want != "" && !slices.Contains(m.have, m.want) {
			return false
		}
	}
	if r.From.IsZero() && r.Until.IsZero() {
		return true
	}
	at, ok := s.signed()
	return ok && (r.From.IsZero() || !at.Before(r.From)) && (r.Until.IsZero() || !at.After(r.Until))
}

// File are the known releases in a file: JSON lines, each a Release. The file is read
// again when it changes.
type File struct {
	path string

	mu       sync.Mutex
	info     os.FileInfo
	releases map[string][]Release // by key
}

// OpenFile reads a file of known releases.
func OpenFile(path string) (*File, error) {
	f := &File{path: path}
	_, err := f.read()
	return f, err
}

// Explain implements Known.
func (f *File) Explain(_ context.Context, s Signature) (bool, error) {
	releases, err := f.read()
	if err != nil {
		return false, err
	}
	x := s.Signer.Extensions
	keys := append([]string{base64.StdEncoding.EncodeToString(s.Leaf[:]), x.RunInvocationURI, x.SourceRepositoryDigest}, s.Entry.Digests...)
	for _, key := range keys {
		for _, r := range releases[key] {
			if r.explains(s) {
				return true, nil
			}
		}
	}
	return false, nil
}

func (f *File) read() (map[string][]Release, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if err != nil {
		return nil, err
	}
	if f.info != nil && os.SameFile(info, f.info) && info.ModTime().Equal(f.info.ModTime()) && info.Size() == f.info.Size() {
		return f.releases, nil
	}
	data, err := strict.ReadFile(f.path, maxKnown)
	if err != nil {
		return nil, err
	}
	releases := map[string][]Release{}
	n := 0
	for line := range bytes.Lines(data) {
		n++
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		var r Release
		if err := strict.UnmarshalKnown(line, maxKnownLine, &r); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", f.path, n, err)
		}
		if r.key() == "" {
			return nil, fmt.Errorf("%s:%d: expected a digest, leaf, run or commit, found none of them", f.path, n)
		}
		releases[r.key()] = append(releases[r.key()], r)
	}
	f.info, f.releases = info, releases
	return releases, nil
}
