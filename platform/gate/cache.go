package gate

import (
	"container/list"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/internal/dirlock"
	"github.com/colophon-build/colophon/oci"
)

// Cache keeps blobs in a directory, by their sha256, up to a size. The one that nobody asked for
// longest goes first. It decides nothing: whoever gets a blob was allowed to before. A blob is kept
// once its digest is verified, and verified again while it is served.
type Cache struct {
	dir  string
	most int64 // bytes
	lock *dirlock.Lock
	log  *slog.Logger

	mu     sync.Mutex
	blobs  map[string]*list.Element // of kept, by hex
	order  list.List                // the last one that was asked for in front
	bytes  int64                    // of blobs, and of those that are being written
	number int                      // of the next one that is written
}

type kept struct {
	hex  string
	size int64
}

const unfinished = "new-" // begins the names of files that are being written

// OpenCache opens the cache in dir, which it creates, for this process alone. most is its size in
// bytes.
func OpenCache(dir string, most int64, log *slog.Logger) (*Cache, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := dirlock.Take(dir)
	if err != nil {
		return nil, fmt.Errorf("cache %s: %w", dir, err)
	}
	c := &Cache{dir: dir, most: most, lock: lock, log: log, blobs: map[string]*list.Element{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, errors.Join(err, lock.Release())
	}
	type found struct {
		kept
		at time.Time
	}
	var all []found
	for _, e := range entries {
		info, err := e.Info()
		_, noHash := v1.NewHash("sha256:" + e.Name())
		switch {
		case strings.HasPrefix(e.Name(), unfinished):
			_ = os.Remove(filepath.Join(dir, e.Name())) // of a process that was killed
		case err == nil && noHash == nil && info.Mode().IsRegular():
			all = append(all, found{kept{e.Name(), info.Size()}, info.ModTime()})
		}
	}
	slices.SortFunc(all, func(a, b found) int { return a.at.Compare(b.at) })
	for _, f := range all {
		c.blobs[f.hex] = c.order.PushFront(f.kept)
		c.bytes += f.size
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shrink(0)
	return c, nil
}

// Close lets another process use the directory.
func (c *Cache) Close() error { return c.lock.Release() }

// shrink makes room for more bytes. It reports whether there is.
func (c *Cache) shrink(more int64) bool {
	for c.bytes+more > c.most && c.order.Len() > 0 {
		c.remove(c.order.Back().Value.(kept).hex)
	}
	return c.bytes+more <= c.most
}

func (c *Cache) remove(hex string) {
	at, ok := c.blobs[hex]
	if !ok {
		return
	}
	c.order.Remove(at)
	delete(c.blobs, hex)
	c.bytes -= at.Value.(kept).size
	if err := os.Remove(filepath.Join(c.dir, hex)); err != nil {
		c.log.Warn("cannot remove a blob from the cache", "error", err)
	}
}

// open returns a blob, whose last Read fails if it is damaged, or nil.
func (c *Cache) open(d v1.Descriptor) io.ReadCloser {
	if c == nil || d.Digest.Algorithm != "sha256" {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.blobs[d.Digest.Hex]
	if !ok {
		return nil
	}
	path := filepath.Join(c.dir, d.Digest.Hex)
	f, err := os.Open(path)
	if info, statErr := os.Lstat(path); err != nil || statErr != nil || info.Size() != d.Size || !info.Mode().IsRegular() {
		if err == nil {
			f.Close()
		}
		c.remove(d.Digest.Hex)
		return nil
	}
	c.order.MoveToFront(at)
	now := time.Now()
	_ = os.Chtimes(path, now, now) // the order after a restart
	return &verified{f, d, sha256.New(), c}
}

// verified is a file of the cache that is compared with its digest while it is read.
type verified struct {
	*os.File
	d     v1.Descriptor
	sum   hash.Hash
	cache *Cache
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.File.Read(p)
	v.sum.Write(p[:n])
	if errors.Is(err, io.EOF) && hex.EncodeToString(v.sum.Sum(nil)) != v.d.Digest.Hex {
		v.cache.log.Error("a blob in the cache is damaged; it is removed", "digest", v.d.Digest.String())
		v.cache.mu.Lock()
		v.cache.remove(v.d.Digest.Hex)
		v.cache.mu.Unlock()
		return 0, fmt.Errorf("blob %s in the cache: %w", v.d.Digest, oci.ErrMismatch)
	}
	return n, err
}

// writing is a blob that is being written to the cache. It never fails: what cannot be written is
// not kept.
type writing struct {
	cache *Cache
	d     v1.Descriptor
	file  *os.File // nil: it is not kept
	size  int64
}

// create begins to keep a blob. One that takes more than a quarter of the cache is not kept.
func (c *Cache) create(d v1.Descriptor) *writing {
	w := &writing{cache: c, d: d}
	if c == nil || d.Digest.Algorithm != "sha256" || d.Size < 0 || d.Size > c.most/4 {
		return w
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.blobs[d.Digest.Hex]; ok || !c.shrink(d.Size) {
		return w
	}
	c.number++
	f, err := os.OpenFile(filepath.Join(c.dir, fmt.Sprint(unfinished, c.number)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		c.log.Warn("cannot write to the cache", "error", err)
		return w
	}
	c.bytes += d.Size
	w.file = f
	return w
}

// Write implements io.Writer.
func (w *writing) Write(p []byte) (int, error) {
	if w.file != nil {
		w.size += int64(len(p))
		if w.size > w.d.Size {
			w.end(false)
		} else if _, err := w.file.Write(p); err != nil {
			w.cache.log.Warn("cannot write to the cache", "error", err)
			w.end(false)
		}
	}
	return len(p), nil
}

// end keeps the blob, if it was verified and written completely.
func (w *writing) end(ok bool) {
	if w.file == nil {
		return
	}
	name, err := w.file.Name(), w.file.Close()
	w.file = nil
	c := w.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	_, again := c.blobs[w.d.Digest.Hex]
	if ok && err == nil && !again && w.size == w.d.Size {
		if err = os.Rename(name, filepath.Join(c.dir, w.d.Digest.Hex)); err == nil {
			c.blobs[w.d.Digest.Hex] = c.order.PushFront(kept{w.d.Digest.Hex, w.size})
			return
		}
	}
	c.bytes -= w.d.Size
	_ = os.Remove(name)
}
