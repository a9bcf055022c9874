// Package archive keeps signed evidence: each bundle, signature and attestation that
// arrives, for as long as the log lives that has its hash. Content is stored once, by its
// SHA-256, and is found by the leaf hash of its log entry and by the digests that it is
// about. Both are computed from the content: what a client claims is not used.
//
// Once Keep or Manifest has returned nil, the content is on disk, fsynced, and found.
// Nothing is ever removed.
package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/internal/dirlock"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/intact"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/api"
)

// Limits of what the archive keeps. What is past them is no evidence: verifiers refuse it.
const (
	maxAnnotations = 512 << 10 // bytes of a layer's annotations, as JSON; the parts that verifiers read have at most 128 KiB each
	maxSubjects    = 20_000    // digests that one piece is found by
)

// maxHeld is how many pieces of content are in memory at the same time, of all pushes together.
const maxHeld = 8

// Config of an Archive.
type Config struct {
	// Dir is the directory of the archive: objects/ (content, by SHA-256), journal (what
	// arrived, in order), filled (see Fill) and index.db (a cache). Created at first start. One process at a
	// time uses it.
	Dir string

	// Metrics registers the archive's collectors; nil: they are not registered.
	Metrics prometheus.Registerer

	// Log gets messages for the operator; nil: slog.Default().
	Log *slog.Logger
}

// Archive is an open archive. Safe for concurrent use.
type Archive struct {
	dir     string
	log     *slog.Logger
	metrics *metrics
	lock    *dirlock.Lock
	holding chan struct{} // one element for each piece of content that is in memory
	filled  atomic.Bool   // see Fill

	mu      sync.Mutex // for what follows
	journal *journal
	index   *index
	read    place // where Records was last
}

// Open opens the archive in cfg.Dir, and creates it at the first start. It fails if the
// journal lacks what the index has: acknowledged evidence is missing then.
func Open(cfg Config) (_ *Archive, err error) {
	a := &Archive{dir: cfg.Dir, log: cfg.Log, holding: make(chan struct{}, maxHeld)}
	if a.log == nil {
		a.log = slog.Default()
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("archive %s: %w", cfg.Dir, err), a.Close())
		}
	}()
	if err := durable.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	if a.lock, err = dirlock.Take(cfg.Dir); err != nil {
		return nil, err
	}
	if err := a.makeObjects(); err != nil {
		return nil, err
	}
	if a.metrics, err = newMetrics(cfg.Metrics); err != nil {
		return nil, err
	}
	if a.journal, err = openJournal(filepath.Join(cfg.Dir, journalFile)); err != nil {
		return nil, err
	}
	path := filepath.Join(cfg.Dir, "index.db")
	if a.index, err = openIndex(path, a.log); err != nil {
		return nil, fmt.Errorf("index %s: %w", path, err)
	}
	cut, at, err := a.journal.cutTorn(a.index.offset)
	if err != nil {
		return nil, err
	}
	if len(cut) > 0 {
		a.log.Warn("cut a line of the archive's journal that a power cut left torn; its evidence was not acknowledged, and whoever pushed it has to push it again",
			"path", filepath.Join(cfg.Dir, journalFile), "at", at, "bytes", len(cut))
	}
	if err := a.index.follow(a.journal); err != nil {
		return nil, err
	}
	if err := a.readFilled(); err != nil {
		return nil, err
	}
	a.metrics.kept.Set(float64(a.index.number))
	return a, durable.SyncDir(cfg.Dir)
}

// Close releases the directory. Call it after all calls of other methods have returned.
func (a *Archive) Close() error {
	var errs []error
	if a.index != nil {
		errs = append(errs, a.index.close())
	}
	if a.journal != nil {
		errs = append(errs, a.journal.close())
	}
	if a.metrics != nil {
		a.metrics.Unregister()
	}
	if a.lock != nil {
		errs = append(errs, a.lock.Release())
	}
	return errors.Join(errs...)
}

// layer has the members of a manifest that the archive reads.
type layer struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations"`
}

// Manifest keeps the evidence that a manifest attaches to its subject, or to the image that
// the evidence names; a manifest without evidence is ignored. open opens a blob by the
// digest in the manifest; if it returns nil, the blob is left out. If one fails, Manifest
// keeps the others. The caller acknowledges the manifest only after Manifest has returned
// nil.
func (a *Archive) Manifest(ctx context.Context, manifest []byte, open func(digest string) (io.ReadCloser, error)) error {
	var m struct {
		Layers  []layer `json:"layers"`
		Subject *layer  `json:"subject"`
	}
	if err := strict.Unmarshal(manifest, limits.Manifest, &m); err != nil {
		return err
	}
	about := ""
	if m.Subject != nil {
		about = m.Subject.Digest
	}
	var errs []error
	for _, l := range m.Layers {
		form := formOf(l.MediaType, l.Annotations)
		if form == "" {
			continue
		}
		if l.Size > api.MaxContent {
			a.leftOut(l.Digest, "it is too large")
			continue
		}
		if !annotated(form) {
			l.Annotations = nil
		} else if size, err := json.Marshal(l.Annotations); err != nil || len(size) > maxAnnotations {
			a.leftOut(l.Digest, "its annotations are too large")
			continue
		}
		if err := a.keepLayer(ctx, form, l, open, about); err != nil {
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// keepLayer reads and keeps a layer, when fewer than maxHeld pieces are in memory.
func (a *Archive) keepLayer(ctx context.Context, form api.Form, l layer, open func(string) (io.ReadCloser, error), about string) error {
	select {
	case a.holding <- struct{}{}:
		defer func() { <-a.holding }()
	case <-ctx.Done():
		return ctx.Err()
	}
	raw, err := readBlob(l, open)
	if errors.Is(err, errLeftOut) {
		return nil
	} else if err != nil {
		return err
	}
	_, err = a.keep(ctx, form, raw, l.Annotations, about)
	return err
}

func readBlob(l layer, open func(string) (io.ReadCloser, error)) ([]byte, error) {
	f, err := open(l.Digest)
	if err != nil {
		return nil, err
	}
	if f == nil {
		return nil, errLeftOut
	}
	defer f.Close()
	return strict.Read(f, api.MaxContent)
}

var errLeftOut = errors.New("the blob is left out")

// leftOut says that a layer was not kept.
func (a *Archive) leftOut(digest, why string) {
	a.metrics.leftOut.Inc()
	a.log.Warn("evidence is not archived", "digest", digest, "reason", why)
}

// Keep keeps a Sigstore bundle. It fails for anything else, because nobody would find it.
func (a *Archive) Keep(ctx context.Context, raw []byte) (*api.Kept, error) {
	if s := read(api.FormBundle, raw, nil); s.leaf == "" && len(s.subjects) == 0 {
		return nil, errNoBundle
	}
	return a.keep(ctx, api.FormBundle, raw, nil, "")
}

var errNoBundle = errors.New("expected a Sigstore bundle with a certificate or a log entry")

// keep stores content and its place in the journal. about is the digest to which it is attached, or
// empty.
func (a *Archive) keep(ctx context.Context, form api.Form, raw []byte, annotations map[string]string, about string) (*api.Kept, error) {
	sum := sha256.Sum256(raw)
	s := read(form, raw, annotations)
	r := &record{
		Kept: api.Kept{
			Since: time.Now().UTC().Truncate(time.Second), Form: form, Digest: "sha256:" + hex.EncodeToString(sum[:]), Size: int64(len(raw)),
			Leaf: s.leaf, Annotations: annotations,
		},
		Subjects: slices.DeleteFunc(s.subjects, func(d string) bool { return !isSubject(d) }),
	}
	var attached []string
	if isSubject(about) {
		r.Attached, attached = about, []string{about}
	}
	r.Subjects = append(r.Subjects, attached...)
	slices.Sort(r.Subjects)
	r.Subjects = slices.Compact(r.Subjects)
	if len(r.Subjects) > maxSubjects {
		a.log.Warn("archived evidence is about too many digests; it is found by the digest that it is attached to", "digest", r.Digest, "subjects", len(r.Subjects))
		r.Subjects = attached
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := a.store(hex.EncodeToString(sum[:]), raw); err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	// An earlier call may have failed between the two.
	if err := a.index.follow(a.journal); err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	kept, missing, err := a.index.missing(r)
	if err == nil && (kept == nil || len(missing) > 0) {
		r.Number, r.Subjects = a.index.number+1, missing
		if kept != nil { // more subjects of what is kept already
			r.Of = kept.Number
		}
		if err = a.journal.append(r); err == nil {
			err = a.index.follow(a.journal)
		}
		if kept == nil {
			kept = &r.Kept
		}
		a.metrics.kept.Set(float64(a.index.number))
	}
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	return kept, nil
}

// isSubject reports whether d has the form ALGORITHM:HEX. Only such digests are found.
func isSubject(d string) bool { return len(d) <= maxDigest && subjectForm.MatchString(d) }

// object returns the path of the content with a SHA-256, in hex.
func (a *Archive) object(sum string) string { return filepath.Join(a.dir, objectsDir, sum[:2], sum) }

// makeObjects creates the directories of the content durably, and removes what a crash left in them.
func (a *Archive) makeObjects() error {
	root := filepath.Join(a.dir, objectsDir)
	if err := os.MkdirAll(root, 0o700); err != nil {
		return err
	}
	for i := range 256 {
		dir := filepath.Join(root, fmt.Sprintf("%02x", i))
		err := os.Mkdir(dir, 0o700)
		if errors.Is(err, os.ErrExist) {
			err = durable.Sweep(dir)
		}
		if err != nil {
			return err
		}
	}
	return durable.SyncDir(root)
}

// store stores content durably, unless it is there and intact.
func (a *Archive) store(sum string, raw []byte) error {
	path := a.object(sum)
	f, ok, err := intact.Open(path, sum)
	if ok {
		f.Close()
		return durable.SyncDir(filepath.Dir(path)) // a killed process may have left it unsynced
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return durable.WriteFile(path, raw, 0o600)
}

const (
	objectsDir  = "objects"
	journalFile = "journal"
)
