package verdicts

import (
	"bytes"
	"compress/gzip"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/verify"
)

// What outlives the process are acceptances alone, each for as long as it would count anyway (keptFor), and
// only for the same program, the same policies about the image, the same trust roots and the same readers.
// Whoever can write what Restore reads can have any image accepted: it belongs where only this role writes.
// Images of which evidence is kept, as for rules with conditions, are not saved.

// Limits on what is restored.
const (
	maxSaved       = 32 << 20 // bytes, unpacked
	maxSavedImages = 50_000
	readerRounds   = 20_000 // of PBKDF2, for credentials that somebody may guess: about 5 ms each
	maxReaderKeys  = 4096   // credentials whose keys are kept
)

// saved is the document.
type saved struct {
	Program string        `json:"program"` // SHA-256 of the program that wrote it, hex: another one may judge otherwise
	Salt    []byte        `json:"salt"`    // of the keys of readers
	Images  []*savedImage `json:"images"`
}

// savedImage is an entry.
type savedImage struct {
	Repository string               `json:"repository"`
	Digest     string               `json:"digest"`
	Asked      string               `json:"asked"` // hash of the policies about it and of the trust roots, hex
	Read       time.Time            `json:"read"`
	Until      time.Time            `json:"until,omitzero"`
	Readers    map[string]time.Time `json:"readers"` // when each showed that it may read the image; "": anonymously
	Verdicts   []savedVerdict       `json:"verdicts"`
}

// savedVerdict is of a verdict what decides, and what records show.
type savedVerdict struct {
	Outcome verify.Outcome `json:"outcome"`
	Digest  string         `json:"digest,omitempty"`
	Index   string         `json:"index,omitempty"`
	Level   int            `json:"level,omitempty"`
	Link    string         `json:"link,omitempty"` // that does not hold
	Reason  string         `json:"reason,omitempty"`
	Source  string         `json:"source,omitempty"`
	Commit  string         `json:"commit,omitempty"`
	Builder string         `json:"builder,omitempty"`
}

func saveVerdict(v *verify.Verdict) (s savedVerdict) {
	s = savedVerdict{Outcome: v.Outcome, Digest: v.Digest, Index: v.Index, Level: v.Level}
	if l, ok := v.Fault(); ok {
		s.Link, s.Reason = l.Name, l.Reason
	}
	if v.Facts != nil && v.Facts.Build != nil {
		s.Source, s.Commit, s.Builder = v.Facts.Build.Source, v.Facts.Build.Commit, v.Facts.Build.Builder
	}
	return s
}

func (s savedVerdict) verdict() *verify.Verdict {
	v := &verify.Verdict{Outcome: s.Outcome, Digest: s.Digest, Index: s.Index, Level: s.Level}
	if s.Link != "" {
		v.Links = []verify.Link{{Name: s.Link, Status: verify.Unknown, Reason: s.Reason}}
		if s.Outcome == verify.Rejected {
			v.Links[0].Status = verify.Broken
		}
	}
	if s.Source != "" || s.Builder != "" {
		v.Facts = &verify.Facts{Build: &provenance.Facts{Source: s.Source, Commit: s.Commit, Builder: s.Builder}}
	}
	return v
}

// memoir is what outlives the process.
type memoir struct {
	mu      sync.Mutex
	program string
	salt    []byte
	keys    map[ReaderID]string                  // keys of readers
	images  map[[2]string]map[string]*savedImage // restored, by repository and digest, and Asked
	left    atomic.Int64                         // len(images)
}

// Program is the SHA-256 of this process's program, hex.
var Program = sync.OnceValues(func() (string, error) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
})

// newMemoir returns one that remembers nothing yet. program is empty if nothing is saved.
func newMemoir(program string) *memoir {
	m := &memoir{program: program, salt: make([]byte, 32), keys: map[ReaderID]string{}, images: map[[2]string]map[string]*savedImage{}}
	_, _ = rand.Read(m.salt) // never fails
	return m
}

// keyOf returns what stands for a reader in what is saved. It takes time, so that whoever reads that
// cannot guess many passwords.
func (m *memoir) keyOf(id ReaderID, logins []authn.AuthConfig) (string, error) {
	if id == (ReaderID{}) {
		return "", nil
	}
	m.mu.Lock()
	key, ok := m.keys[id]
	salt := m.salt
	m.mu.Unlock()
	if ok {
		return key, nil
	}
	raw, err := json.Marshal(logins)
	if err != nil {
		return "", err
	}
	sum, err := pbkdf2.Key(sha256.New, string(raw), salt, readerRounds, 16)
	if err != nil {
		return "", err
	}
	key = hex.EncodeToString(sum)
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.keys) >= maxReaderKeys {
		clear(m.keys)
	}
	m.keys[id] = key
	return key, nil
}

// hash stands for all that an answer depends on besides the image, in this process and in others.
func (a *ask) hash(g *generation) string {
	raw, err := json.Marshal(fields(verify.Ask{Policies: a.Policies, Predicates: a.Predicates, Packages: a.Packages, Distrust: a.Distrust, Inputs: a.Inputs}))
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%x %x %x", sha256.Sum256(raw), a.key, g.trustKey))
	return hex.EncodeToString(sum[:])
}

// Save returns the acceptances that count now, for Restore, in at most that many bytes. Those that were
// asked for last are kept if there are too many.
func (s *Store) Save(most int) ([]byte, error) {
	g := s.current.Load()
	if g == nil || s.memoir.program == "" {
		return nil, nil
	}
	doc := saved{Program: s.memoir.program, Salt: s.memoir.salt, Images: []*savedImage{}}
	now := s.config.Now()
	for _, k := range s.kept.all() {
		if i := s.save(k, g, now); i != nil && len(doc.Images) < maxSavedImages {
			doc.Images = append(doc.Images, i)
		}
	}
	doc.Images = s.memoir.add(doc.Images, now)
	for {
		raw, err := json.Marshal(doc)
		if err != nil {
			return nil, err
		}
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		_, _ = w.Write(raw) // to memory
		if err := w.Close(); err != nil {
			return nil, err
		}
		if n := len(doc.Images); packed.Len() <= most && len(raw) <= maxSaved || n == 0 {
			return packed.Bytes(), nil
		}
		over := max(float64(packed.Len())/float64(most), float64(len(raw))/maxSaved)
		doc.Images = doc.Images[:min(len(doc.Images)-1, int(float64(len(doc.Images))/over*0.95))]
	}
}

// add adds what outlived another process, and nobody has asked for yet.
func (m *memoir) add(images []*savedImage, now time.Time) []*savedImage {
	m.mu.Lock()
	defer m.mu.Unlock()
	have := map[[3]string]*savedImage{}
	for _, i := range images {
		have[[3]string{i.Repository, i.Digest, i.Asked}] = i
	}
	for _, all := range m.images {
		for _, i := range all {
			if now.Sub(i.Read) >= keptFor || len(i.Readers) == 0 {
				continue
			}
			if own := have[[3]string{i.Repository, i.Digest, i.Asked}]; own != nil {
				for key, at := range i.Readers {
					if _, ok := own.Readers[key]; !ok && len(own.Readers) < maxReaders {
						own.Readers[key] = at
					}
				}
				continue
			}
			if len(images) < maxSavedImages {
				copied := *i
				copied.Readers = maps.Clone(i.Readers)
				images = append(images, &copied)
			}
		}
	}
	return images
}

// save returns what outlives the process of one entry, or nil.
func (s *Store) save(k *kept, g *generation, now time.Time) *savedImage {
	e := k.entry
	if e.evidence != nil || e.others != nil || !e.counts(now) || e.partly || e.aging || k.key.trust != g.trustKey || e.asked == nil {
		return nil
	}
	sets := g.in(e.namespace)
	if g.ask(&s.asks, e.namespace, sets, e.image, len(s.distrust()) > 0).id != k.key.ask {
		return nil // other policies are about it now
	}
	i := &savedImage{Repository: k.key.repository, Digest: k.key.digest, Asked: e.asked.hash(g), Read: e.read.UTC(), Until: e.until, Readers: map[string]time.Time{}}
	short := make([]*verify.Verdict, len(e.verdicts))
	for n, v := range e.verdicts {
		one := saveVerdict(v)
		i.Verdicts, short[n] = append(i.Verdicts, one), one.verdict()
	}
	whole := verify.Decide(sets, e.image, now, e.verdict(e.asked))
	again := verify.Decide(sets, e.image, now, (&entry{verdicts: short}).verdict(e.asked))
	if whole.Outcome != verify.Accepted || again.Outcome != verify.Accepted || !slices.Equal(whole.Warnings, again.Warnings) {
		return nil
	}
	e.mu.Lock()
	readers := maps.Clone(e.readers)
	e.mu.Unlock()
	s.memoir.mu.Lock()
	defer s.memoir.mu.Unlock()
	for id, at := range readers {
		key, known := s.memoir.keys[id]
		if id == (ReaderID{}) || known {
			i.Readers[key] = at.UTC()
		}
	}
	if len(i.Readers) == 0 || i.Asked == "" {
		return nil
	}
	return i
}

// Restore takes what Save returned, of this process or another one. It fails if that is damaged, and takes
// nothing that another program wrote. Call it before the first question.
func (s *Store) Restore(raw []byte) (images int, err error) {
	if s.memoir.program == "" {
		return 0, nil
	}
	r, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return 0, err
	}
	text, err := io.ReadAll(io.LimitReader(r, maxSaved+1))
	if err != nil {
		return 0, err
	}
	var doc saved
	if err := strict.UnmarshalKnown(text, maxSaved, &doc); err != nil {
		return 0, err
	}
	if doc.Program != s.memoir.program {
		return 0, nil
	}
	if len(doc.Salt) != 32 || len(doc.Images) > maxSavedImages {
		return 0, fmt.Errorf("expected a salt of 32 bytes and at most %d images, found %d and %d", maxSavedImages, len(doc.Salt), len(doc.Images))
	}
	m := s.memoir
	m.mu.Lock()
	defer m.mu.Unlock()
	m.salt = doc.Salt
	clear(m.keys)
	clear(m.images)
	for _, i := range doc.Images {
		if i == nil || len(i.Verdicts) == 0 || len(i.Readers) > maxReaders {
			continue
		}
		at := [2]string{i.Repository, i.Digest}
		if m.images[at] == nil {
			m.images[at] = map[string]*savedImage{}
		}
		m.images[at][i.Asked] = i
	}
	m.left.Store(int64(len(m.images)))
	return len(doc.Images), nil
}

// restored lets an entry count that outlived another process, for one reader, once: after that, only what
// this process finds out does.
func (s *Store) restored(of reading, q Question, g *generation, asked *ask) {
	m := s.memoir
	if m.left.Load() == 0 {
		return
	}
	at := [2]string{q.Repository, q.Image.Digest}
	m.mu.Lock()
	some := len(m.images[at]) > 0
	m.mu.Unlock()
	if !some {
		return
	}
	key, err := m.keyOf(of.reader, q.Logins)
	hash := asked.hash(g)
	m.mu.Lock()
	defer m.mu.Unlock() // until it counts: many may ask at once
	i := m.images[at][hash]
	if err != nil || hash == "" || i == nil || len(i.Verdicts) != len(asked.Policies) {
		return
	}
	shown, ok := i.Readers[key]
	if !ok {
		return
	}
	delete(i.Readers, key)
	e := s.kept.get(of.entryKey, q.Ahead)
	if e == nil {
		e = &entry{read: i.Read, looked: i.Read, until: i.Until, readers: map[ReaderID]time.Time{}, trustAge: g.trustAge, asked: asked, image: q.Image, namespace: q.Namespace, weight: 2 << 10}
		for _, v := range i.Verdicts {
			e.verdicts = append(e.verdicts, v.verdict())
		}
		e.bound(q, g.roots, s.config.Now())
		s.kept.put(of.entryKey, e, q.Ahead)
	}
	e.allow(of.reader, shown)
}

// forget drops what outlived another process about an image that was read again.
func (m *memoir) forget(repository, digest string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := [2]string{repository, digest}
	if m.images[at] != nil {
		delete(m.images, at)
		m.left.Add(-1)
	}
}
