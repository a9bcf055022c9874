package root

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/every"
	"github.com/colophon-build/colophon/internal/keys"
)

// How long the metadata of each TUF role is valid. A running platform signs it again when
// a third of that time is left, so a platform can be stopped for that long before its
// metadata expires.
const (
	rootLife      = 3 * 365 * 24 * time.Hour
	targetsLife   = 365 * 24 * time.Hour
	snapshotLife  = 90 * 24 * time.Hour
	timestampLife = 30 * 24 * time.Hour

	refreshEvery = time.Hour
)

// repository is a TUF repository with consistent snapshots. Its directory has the layout
// that clients see:
//
//	timestamp.json                the only file that is replaced
//	N.root.json, N.targets.json, N.snapshot.json
//	targets/<SHA-256, hex>.<name>
//	N.timestamp.json              not served: records which versions are used
//
// publish writes targets first and timestamp.json last, so a crash leaves the old state
// intact, plus at most some files that no metadata names. The next version is one above
// the highest version of any file, so no version is used twice.
type repository struct {
	keyDir  string
	dir     string
	offline *keys.Key
	online  *keys.Key
	targets map[string][]byte
	now     func() time.Time // time.Now
	log     *slog.Logger

	mu     sync.Mutex                        // one publication at a time
	served atomic.Pointer[map[string][]byte] // what clients get, by path; each file was verified
}

func openRepository(keyDir, dir string, targets map[string][]byte, log *slog.Logger) (*repository, error) {
	if err := os.MkdirAll(filepath.Join(dir, "targets"), 0o755); err != nil {
		return nil, err
	}
	if err := checkRootKey(keyDir, dir); err != nil {
		return nil, err
	}
	r := &repository{keyDir: keyDir, dir: dir, targets: targets, now: time.Now, log: log}
	var err error
	if r.offline, err = keys.Open(keyDir, "tuf-root"); err != nil {
		return nil, err
	}
	if r.online, err = keys.Open(keyDir, "tuf-online"); err != nil {
		return nil, err
	}
	return r, r.publish()
}

// checkRootKey returns an error if a published repository has lost its root key. With a
// new key, clients that pinned the old root could not update.
func checkRootKey(keyDir, dir string) error {
	published, err := readRecord(keyDir)
	if err != nil {
		return err
	}
	_, rootErr := os.Lstat(filepath.Join(dir, "1.root.json"))
	path := filepath.Join(keyDir, "tuf-root.key")
	_, keyErr := os.Lstat(path)
	if (rootErr == nil || len(published.Roots) > 0) && errors.Is(keyErr, fs.ErrNotExist) {
		return fmt.Errorf("%s is missing, but clients have pinned the root that it signed; restore it from a backup", path)
	}
	return nil
}

// Run signs the TUF repository's metadata again well before it expires, until ctx is
// done.
func (s *Service) Run(ctx context.Context) {
	for range every.Period(ctx, refreshEvery) {
		if err := s.tuf.publish(); err != nil {
			s.log.Error("TUF metadata was not refreshed", "err", err)
		}
	}
}

// publish writes the metadata and targets that are missing, outdated or about to expire.
func (r *repository) publish() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	root, err := r.publishRoot()
	if err != nil {
		return err
	}
	state, err := r.load(root)
	if err != nil {
		return err
	}
	if err := r.publishTargets(state); err != nil {
		return err
	}
	if err := r.publishSnapshot(state); err != nil {
		return err
	}
	if err := r.publishTimestamp(state); err != nil {
		return err
	}
	served, err := readServed(r.dir, root, func(path string, err error) {
		r.log.Error("a file of the TUF repository is damaged, so it is not served", "path", path, "error", err)
	})
	if err == nil {
		r.served.Store(&served)
	}
	return err
}

// state is the metadata that timestamp.json leads to. A nil member does not exist yet or
// must be replaced.
type state struct {
	targets   *metadata.Metadata[metadata.TargetsType]
	snapshot  *metadata.Metadata[metadata.SnapshotType]
	timestamp *metadata.Metadata[metadata.TimestampType]
}

// load reads and verifies the published state as a client does.
func (r *repository) load(root *metadata.Metadata[metadata.RootType]) (*state, error) {
	s := &state{}
	data, err := os.ReadFile(filepath.Join(r.dir, "timestamp.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	} else if err != nil {
		return nil, err
	}
	if s.timestamp, err = metadata.Timestamp().FromBytes(data); err != nil {
		return nil, fmt.Errorf("timestamp.json: %w", err)
	}
	if err := root.VerifyDelegate(metadata.TIMESTAMP, s.timestamp); err != nil {
		return nil, fmt.Errorf("timestamp.json: %w", err)
	}
	snapshot, ok := s.timestamp.Signed.Meta["snapshot.json"]
	if !ok {
		return nil, errors.New("timestamp.json names no snapshot")
	}
	name := fmt.Sprintf("%d.snapshot.json", snapshot.Version)
	if s.snapshot, err = metadata.Snapshot().FromFile(filepath.Join(r.dir, name)); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := root.VerifyDelegate(metadata.SNAPSHOT, s.snapshot); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	targets, ok := s.snapshot.Signed.Meta["targets.json"]
	if !ok {
		return nil, fmt.Errorf("%s names no targets", name)
	}
	name = fmt.Sprintf("%d.targets.json", targets.Version)
	if s.targets, err = metadata.Targets().FromFile(filepath.Join(r.dir, name)); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := root.VerifyDelegate(metadata.TARGETS, s.targets); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

func (r *repository) publishRoot() (*metadata.Metadata[metadata.RootType], error) {
	root, sums, err := readRoots(r.keyDir, r.dir)
	if err != nil {
		return nil, err
	}
	version := len(sums)
	next := metadata.Root(r.expiry(rootLife))
	next.Signed.Version = int64(version) + 1
	for role, key := range map[string]*keys.Key{
		metadata.ROOT: r.offline, metadata.TARGETS: r.offline, metadata.SNAPSHOT: r.online, metadata.TIMESTAMP: r.online,
	} {
		k, err := metadata.KeyFromPublicKey(key.Public())
		if err != nil {
			return nil, err
		}
		id, err := k.ID()
		if err != nil {
			return nil, err
		}
		if version > 0 && !slices.Contains(root.Signed.Roles[role].KeyIDs, id) {
			return nil, fmt.Errorf("%d.root.json does not list our key for the role %s; restore repository and keys from the same backup", version, role)
		}
		if err := next.Signed.AddKey(k, role); err != nil {
			return nil, err
		}
	}
	if version > 0 && !r.stale(root.Signed.Expires, rootLife) {
		return root, recordRoots(r.keyDir, sums)
	}
	data, err := seal(next, r.offline)
	if err != nil {
		return nil, err
	}
	if version > 0 {
		// Clients update from root to root: the old root must verify the new one.
		if err := root.VerifyDelegate(metadata.ROOT, next); err != nil {
			return nil, fmt.Errorf("%d.root.json does not accept its successor: %w", version, err)
		}
	}
	if err := durable.CreateFile(filepath.Join(r.dir, fmt.Sprintf("%d.root.json", version+1)), data, 0o644); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	return next, recordRoots(r.keyDir, append(sums, hex.EncodeToString(sum[:])))
}

func (r *repository) publishTargets(s *state) error {
	for name, data := range r.targets {
		path := filepath.Join(r.dir, "targets", fmt.Sprintf("%x.%s", sha256.Sum256(data), name))
		// A target file that was lost or damaged is written again.
		if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, data) {
			continue
		}
		if err := durable.WriteFile(path, data, 0o644); err != nil {
			return err
		}
	}
	if s.targets != nil && r.listed(s.targets.Signed.Targets) && !r.stale(s.targets.Signed.Expires, targetsLife) {
		return nil
	}
	next := metadata.Targets(r.expiry(targetsLife))
	for name, data := range r.targets {
		info, err := metadata.TargetFile().FromBytes(name, data, "sha256")
		if err != nil {
			return err
		}
		next.Signed.Targets[name] = info
	}
	version, err := r.highest(metadata.TARGETS)
	if err != nil {
		return err
	}
	next.Signed.Version = version + 1
	s.targets, s.snapshot, s.timestamp = next, nil, nil
	return r.write(fmt.Sprintf("%d.targets.json", version+1), next, r.offline)
}

// listed reports whether the metadata names exactly our targets.
func (r *repository) listed(have map[string]*metadata.TargetFiles) bool {
	if len(have) != len(r.targets) {
		return false
	}
	for name, data := range r.targets {
		if have[name] == nil || have[name].VerifyLengthHashes(data) != nil {
			return false
		}
	}
	return true
}

func (r *repository) publishSnapshot(s *state) error {
	if s.snapshot != nil && !r.stale(s.snapshot.Signed.Expires, snapshotLife) {
		return nil
	}
	version, err := r.highest(metadata.SNAPSHOT)
	if err != nil {
		return err
	}
	next := metadata.Snapshot(r.expiry(snapshotLife))
	next.Signed.Version = version + 1
	next.Signed.Meta["targets.json"] = metadata.MetaFile(s.targets.Signed.Version)
	s.snapshot, s.timestamp = next, nil
	return r.write(fmt.Sprintf("%d.snapshot.json", version+1), next, r.online)
}

func (r *repository) publishTimestamp(s *state) error {
	if s.timestamp != nil && !r.stale(s.timestamp.Signed.Expires, timestampLife) {
		return nil
	}
	version, err := r.highest(metadata.TIMESTAMP)
	if err != nil {
		return err
	}
	next := metadata.Timestamp(r.expiry(timestampLife))
	next.Signed.Version = version + 1
	next.Signed.Meta["snapshot.json"] = metadata.MetaFile(s.snapshot.Signed.Version)
	data, err := seal(next, r.online)
	if err != nil {
		return err
	}
	if err := durable.CreateFile(filepath.Join(r.dir, fmt.Sprintf("%d.timestamp.json", version+1)), data, 0o644); err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(r.dir, "timestamp.json"), data, 0o644)
}

type sealable interface {
	Sign(signature.Signer) (*metadata.Signature, error)
	ToBytes(pretty bool) ([]byte, error)
}

func seal(m sealable, key *keys.Key) ([]byte, error) {
	signer, err := signature.LoadECDSASigner(key.PrivateKey, crypto.SHA256)
	if err != nil {
		return nil, err
	}
	if _, err := m.Sign(signer); err != nil {
		return nil, err
	}
	return m.ToBytes(true)
}

func (r *repository) write(name string, m sealable, key *keys.Key) error {
	data, err := seal(m, key)
	if err != nil {
		return err
	}
	return durable.CreateFile(filepath.Join(r.dir, name), data, 0o644)
}

// highest returns the highest version of a role's files, or 0 if there are none.
func (r *repository) highest(role string) (int64, error) {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return 0, err
	}
	top := int64(0)
	for _, e := range entries {
		number, ok := strings.CutSuffix(e.Name(), "."+role+".json")
		if !ok {
			continue
		}
		if v, err := strconv.ParseInt(number, 10, 64); err == nil && v > top {
			top = v
		}
	}
	return top, nil
}

func (r *repository) expiry(life time.Duration) time.Time {
	return r.now().UTC().Truncate(time.Second).Add(life)
}

// stale reports whether metadata has to be signed again: before it expires, and if the clock was ahead when it was
// signed, so that it would be good for too long.
func (r *repository) stale(expires time.Time, life time.Duration) bool {
	left := expires.Sub(r.now())
	return left < life/3 || left > life+refreshEvery
}

func (r *repository) serve(w http.ResponseWriter, req *http.Request) {
	path := req.PathValue("path")
	data, ok := (*r.served.Load())[path]
	if !ok {
		http.NotFound(w, req)
		return
	}
	cache := "public, max-age=604800, immutable"
	if path == "timestamp.json" {
		cache = "no-cache"
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", cache)
	http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(data))
}
