package buildkit

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/sandbox"
)

// CachesConfig says whether and how the cache mounts of builds are kept for later builds.
type CachesConfig struct {
	Dir   string        `json:"dir"`   // one file a scope; all of it may be removed at any time
	Size  int64         `json:"size"`  // most bytes of one scope; 0: none are kept
	Total int64         `json:"total"` // most bytes of all scopes
	Age   time.Duration `json:"age"`   // how long after its first build a scope begins anew, empty
}

// caches keeps the cache mounts of builds. Their content is hostile: a file of it is
// written by one room and read by another one of the same scope, and nothing outside of
// rooms looks into it.
//
// A file is a line of JSON, a cacheHead, and what sandbox.Room.Pack wrote. Its name is the
// digest of the scope, its time of modification is Began. Files whose names begin with
// newPrefix belong to builds that have not succeeded yet.
type caches struct {
	CachesConfig
	mu sync.Mutex // held while files get and lose their names
}

// cacheHead says what a cache is for. BuildKit reads what it wrote itself, so a cache is
// for the same programs only.
type cacheHead struct {
	Scope builder.CacheScope `json:"scope"`
	Tools []string           `json:"tools"` // digests of buildkitd and runtime
	Began time.Time          `json:"began"` // when its first build began, with empty cache mounts
}

const (
	newPrefix = "new-"
	// cachedDir is the directory in a room's state that a cache is made of: that of buildkitd.
	cachedDir = "buildkit"
	packTime  = 10 * time.Minute // most time for packing one cache
)

// openCaches removes what a crash left and what is too old.
func openCaches(cfg CachesConfig) (*caches, error) {
	c := &caches{CachesConfig: cfg}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	stale, err := filepath.Glob(filepath.Join(cfg.Dir, newPrefix+"*"))
	for _, f := range stale {
		err = errors.Join(err, os.Remove(f))
	}
	return c, errors.Join(err, c.sweep())
}

// loan is the cache of one room, from before its build until the build has succeeded.
type loan struct {
	caches *caches
	head   cacheHead
	file   *os.File  // the kept cache; nil: there is none, and the cache mounts begin empty
	state  io.Reader // the packed state in file; sum has what was read of it
	sum    hash.Hash

	mu     sync.Mutex
	packed string // path of the file with what the build left; empty: it left nothing
	after  string // hex sha256 of it
}

// lend returns the cache for a build of scope with the given tools.
func (c *caches) lend(scope builder.CacheScope, tools []attest.ResourceDescriptor) (*loan, error) {
	if err := c.sweep(); err != nil {
		return nil, err
	}
	l := &loan{caches: c, head: cacheHead{Scope: scope, Began: time.Now().UTC()}, sum: sha256.New()}
	for _, t := range tools {
		l.head.Tools = append(l.head.Tools, t.Digest["sha256"])
	}
	f, err := os.OpenFile(c.path(l.head), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return l, nil
	} else if err != nil {
		return nil, err
	}
	in := bufio.NewReaderSize(f, limits.Request)
	line, err := in.ReadSlice('\n')
	var head cacheHead
	if err == nil {
		err = strict.UnmarshalKnown(line, limits.Request, &head)
	}
	// The name says all this too, but a file may be copied or renamed.
	if err != nil || head.digest() != l.head.digest() || c.old(head.Began) {
		return l, errors.Join(f.Close(), removed(f.Name()))
	}
	l.head.Began, l.file, l.state = head.Began, f, io.TeeReader(in, l.sum)
	return l, nil
}

// digest returns the hex digest that names the scope: all of the head but its time.
func (h cacheHead) digest() string {
	h.Began = time.Time{}
	raw, err := json.Marshal(h)
	if err != nil {
		panic(err) // strings only
	}
	return hexSum(raw)
}

func (c *caches) path(h cacheHead) string { return filepath.Join(c.Dir, h.digest()) }

func (c *caches) old(began time.Time) bool {
	age := time.Since(began)
	return age > c.Age || age < -time.Minute // the machine's time was wrong
}

// removed removes a kept cache, which another build may have removed already.
func removed(name string) error {
	if err := os.Remove(name); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// empty gives up the kept cache, which no room could unpack.
func (l *loan) empty() error {
	err := errors.Join(l.file.Close(), removed(l.file.Name()))
	l.file, l.state, l.head.Began = nil, nil, time.Now().UTC()
	l.sum.Reset()
	return err
}

// pack ends the room's program, and stores what it left until keep or drop.
func (l *loan) pack(ctx context.Context, room *sandbox.Room) (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.packed != "" {
		return errors.New("the room's cache mounts were packed already")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, packTime, fmt.Errorf("packing took longer than %s", packTime))
	defer cancel()
	if spare, err := sandbox.Spare(l.caches.Dir); err != nil || spare < l.caches.Size {
		return errors.Join(fmt.Errorf("the platform's disk has %d bytes to spare, want %d for them", max(0, spare), l.caches.Size), err)
	}
	f, err := os.CreateTemp(l.caches.Dir, newPrefix)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			l.packed, l.after = "", ""
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	head, err := json.Marshal(l.head)
	if err != nil {
		return err
	}
	if _, err := f.Write(append(head, '\n')); err != nil {
		return err
	}
	sum := sha256.New()
	if err := room.Pack(ctx, cachedDir, io.MultiWriter(&bounded{f, l.caches.Size, l.caches.Size}, sum)); err != nil {
		return err
	}
	if err := errors.Join(os.Chtimes(f.Name(), time.Time{}, l.head.Began), f.Sync()); err != nil {
		return err
	}
	l.packed, l.after = f.Name(), hex.EncodeToString(sum.Sum(nil))
	return nil
}

// bounded writes at most size bytes.
type bounded struct {
	w          io.Writer
	left, size int64
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= int64(len(p)); b.left < 0 {
		return 0, fmt.Errorf("they have more than %d bytes", b.size)
	}
	return b.w.Write(p)
}

// keep makes what the build left the cache of its scope, at once and as a whole.
func (l *loan) keep() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.packed == "" {
		return nil
	}
	l.caches.mu.Lock()
	err := errors.Join(os.Rename(l.packed, l.caches.path(l.head)), durable.SyncDir(l.caches.Dir))
	l.caches.mu.Unlock()
	l.packed = ""
	return errors.Join(err, l.caches.sweep())
}

// drop removes what the build left.
func (l *loan) drop() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.packed == "" {
		return nil
	}
	err := os.Remove(l.packed)
	l.packed = ""
	return err
}

// describe adds what the provenance says about the room's cache mounts.
func (l *loan) describe(m map[string]string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m["cacheMounts.scope"] = "sha256:" + l.head.digest()
	if l.file != nil {
		m["cacheMounts.before"] = "sha256:" + hex.EncodeToString(l.sum.Sum(nil))
	}
	if l.after != "" {
		m["cacheMounts.after"] = "sha256:" + l.after
	}
}

// sweep removes caches that are too old, and then the oldest until all fit Total.
func (c *caches) sweep() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	entries, err := os.ReadDir(c.Dir)
	if err != nil {
		return err
	}
	var kept []os.FileInfo
	var total int64
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, os.ErrNotExist) || strings.HasPrefix(e.Name(), newPrefix) {
			continue
		} else if err != nil {
			return err
		}
		kept, total = append(kept, info), total+info.Size()
	}
	slices.SortFunc(kept, func(a, b os.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, info := range kept {
		if total <= c.Total && !c.old(info.ModTime()) {
			continue
		}
		if err := os.Remove(filepath.Join(c.Dir, info.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		total -= info.Size()
	}
	return nil
}
