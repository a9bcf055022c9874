package pins

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/strict"
)

// maxKnown caps a file of answers, in bytes.
const maxKnown = 64 << 20

// Fresh is how long answers in the cache of a user count.
const Fresh = time.Hour

// Known are answers of servers, as a file keeps them. A nil Known has none, and keeps none.
type Known struct {
	// Version of the format: 1.
	Version int `json:"version"`
	// Repositories has what was asked about git repositories, by address.
	Repositories map[string]*Repository `json:"repositories"`
	// Images has what was asked about images, by HOST/NAME:TAG.
	Images map[string]Image `json:"images"`

	mu      sync.Mutex
	changed bool
	fresh   time.Duration // 0: answers count whatever their age
	now     func() time.Time
}

// Repository is what a git repository answered.
type Repository struct {
	Asked  time.Time         `json:"asked"`
	Refs   map[string]string `json:"refs"`             // ids of commits, by full names of branches and tags
	Within map[string]string `json:"within,omitempty"` // by the id of a commit: a branch or tag whose history has it, or ""
	// Seen has the tags of exact versions, and since when they are what they are.
	Seen map[string]Seen `json:"seen,omitempty"`
}

// Seen says since when an answer is the same. The time is that of this machine: the time in a commit
// or an image is chosen by whoever made it.
type Seen struct {
	Commit string    `json:"commit"`           // to which the tag points
	Since  time.Time `json:"since"`            // when it was first seen to
	Before string    `json:"before,omitempty"` // to which the tag pointed before: it has moved
}

// see returns the tags of exact versions in refs, with what was seen of them before, and those that were there before.
func see(before map[string]Seen, refs map[string]string, now time.Time) map[string]Seen {
	seen := map[string]Seen{}
	for name, id := range refs {
		tag, ok := strings.CutPrefix(name, "refs/tags/")
		if !ok || !Exact(tag) {
			continue
		}
		switch was, known := before[tag]; {
		case known && was.Commit == id:
			seen[tag] = was
		case known:
			seen[tag] = Seen{Commit: id, Since: now, Before: was.Commit}
		default:
			seen[tag] = Seen{Commit: id, Since: now}
		}
	}
	// A tag that is gone may come back as another commit. Of too many, those that were seen first stay: who
	// deletes a tag can make others without end.
	var gone []string
	for tag := range before {
		if _, there := seen[tag]; !there {
			gone = append(gone, tag)
		}
	}
	slices.SortFunc(gone, func(a, b string) int { return cmp.Or(before[a].Since.Compare(before[b].Since), cmp.Compare(a, b)) })
	for _, tag := range gone[:min(len(gone), maxRefs)] {
		seen[tag] = before[tag]
	}
	return seen
}

// Image is what a registry answered.
type Image struct {
	Asked  time.Time `json:"asked"`
	Since  time.Time `json:"since,omitzero"` // when the digest was first seen
	Digest string    `json:"digest"`         // sha256:HEX
}

// New returns answers without any.
func New() *Known {
	return &Known{Version: 1, Repositories: map[string]*Repository{}, Images: map[string]Image{}, now: time.Now}
}

// ReadFile reads answers that somebody else got, for where no server can be asked. They count
// whatever their age.
func ReadFile(path string) (*Known, error) {
	raw, err := strict.ReadFile(path, maxKnown)
	if err != nil {
		return nil, err
	}
	k := New()
	if err := strict.UnmarshalKnown(raw, maxKnown, k); err != nil {
		return nil, strict.In(path, err)
	}
	return k, k.check(path)
}

func (k *Known) check(path string) error {
	if k.Version != 1 {
		return fmt.Errorf("%s: version: expected 1, found %d", path, k.Version)
	}
	if k.Repositories == nil || k.Images == nil {
		return fmt.Errorf("%s: expected repositories and images, found null", path)
	}
	for uri, r := range k.Repositories {
		if r == nil {
			return fmt.Errorf("%s: repositories: %s: expected refs, found none", path, uri)
		}
		for name, id := range r.Refs {
			if !IsCommit(id) {
				return fmt.Errorf("%s: repositories: %s: %s: expected the full id of a commit, found %q", path, uri, name, id)
			}
		}
		for tag, s := range r.Seen {
			if !IsCommit(s.Commit) || s.Before != "" && !IsCommit(s.Before) {
				return fmt.Errorf("%s: repositories: %s: seen: %s: expected full ids of commits, found %q and %q", path, uri, tag, s.Commit, s.Before)
			}
		}
	}
	for name, i := range k.Images {
		if !isDigest(i.Digest) {
			return fmt.Errorf("%s: images: %s: expected sha256:HEX, found %q", path, name, i.Digest)
		}
	}
	return nil
}

// CacheFile returns the path of the user's cache.
func CacheFile() (string, error) {
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "colophon", "resolutions.json"), err
}

// Cache reads the cache of a user, whose answers count for as long as they are Fresh. A cache that is
// missing or cannot be read is empty; then err says why it cannot be read.
func Cache(path string) (k *Known, err error) {
	if k, err = ReadFile(path); err != nil {
		k = New()
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	k.fresh = Fresh
	return k, err
}

// Save writes the answers to a file, if there are new ones. Only its owner can read it: it names
// the repositories that somebody works with.
func (k *Known) Save(path string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.changed {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	raw, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return err
	}
	if len(raw) >= maxKnown { // what cannot be read again would take all that was seen with it
		return fmt.Errorf("%s: got %d bytes, want at most %d", path, len(raw)+1, maxKnown)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(path, append(raw, '\n'), 0o600)
}

// counts reports whether an answer is not too old.
func (k *Known) counts(asked time.Time) bool {
	age := k.now().Sub(asked)
	return k.fresh == 0 || age >= 0 && age < k.fresh
}

func (k *Known) refs(uri string) (map[string]string, bool) {
	if k == nil {
		return nil, false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.Repositories[uri]
	if r == nil || r.Refs == nil || !k.counts(r.Asked) {
		return nil, false
	}
	return maps.Clone(r.Refs), true
}

// change locks k, whose file must be written again, and returns the time. The caller unlocks it.
func (k *Known) change() (now time.Time) {
	k.mu.Lock()
	k.changed = true
	return k.now().UTC().Truncate(time.Second)
}

func (k *Known) addRefs(uri string, refs map[string]string) {
	if k == nil {
		return
	}
	now := k.change()
	defer k.mu.Unlock()
	var before map[string]Seen
	if r := k.Repositories[uri]; r != nil {
		before = r.Seen
	}
	k.Repositories[uri] = &Repository{Asked: now, Refs: maps.Clone(refs), Seen: see(before, refs, now)}
}

func (k *Known) within(uri, id string) (string, bool) {
	if k == nil {
		return "", false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.Repositories[uri]
	if r == nil || !k.counts(r.Asked) {
		return "", false
	}
	within, ok := r.Within[id]
	return within, ok
}

func (k *Known) addWithin(uri, id, within string) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.Repositories[uri]
	if r == nil {
		return
	}
	if r.Within == nil {
		r.Within = map[string]string{}
	}
	r.Within[id] = within
	k.changed = true
}

func (k *Known) image(name string) (string, bool) {
	if k == nil {
		return "", false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	i, ok := k.Images[name]
	if !ok || !k.counts(i.Asked) {
		return "", false
	}
	return i.Digest, true
}

func (k *Known) addImage(name, digest string) {
	if k == nil {
		return
	}
	now := k.change()
	defer k.mu.Unlock()
	i := Image{Asked: now, Since: now, Digest: digest}
	if was, ok := k.Images[name]; ok && was.Digest == digest && !was.Since.IsZero() {
		i.Since = was.Since
	}
	k.Images[name] = i
}

// Seen returns since when a tag of an exact version of OWNER/REPO is what it is. ok is false if
// that is not known.
func (r *Resolver) Seen(repo, tag string) (s Seen, ok bool) {
	if r == nil || r.Known == nil {
		return s, false
	}
	uri, err := r.uri(repo)
	if err != nil {
		return s, false
	}
	r.Known.mu.Lock()
	defer r.Known.mu.Unlock()
	if repo := r.Known.Repositories[uri]; repo != nil {
		s, ok = repo.Seen[tag]
	}
	return s, ok
}

// SeenImage returns since when the name of an image has a digest. ok is false if that is not known.
func (r *Resolver) SeenImage(name, digest string) (since time.Time, ok bool) {
	ref, err := reference(name)
	if r == nil || r.Known == nil || err != nil {
		return since, false
	}
	r.Known.mu.Lock()
	defer r.Known.mu.Unlock()
	i := r.Known.Images[ref.String()]
	return i.Since, i.Digest == digest && !i.Since.IsZero()
}
