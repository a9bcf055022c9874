package registry

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/internal/intact"
)

// recheck is how long the registry relies on a comparison of a file with its digest. After
// that it compares again: a disk can change a file without changing its times.
const recheck = 24 * time.Hour

// maxChecked is the limit of the files in checks.done.
const maxChecked = 1 << 16

// checks remembers which files were compared with their digests. Safe for concurrent use.
type checks struct {
	now   func() time.Time // time.Now
	slots chan struct{}    // one element for each file that is being hashed

	mu   sync.Mutex
	done map[fileState]check
}

// fileState identifies the content of a file for as long as the file is not written.
type fileState struct {
	dev, ino    uint64
	size, mtime int64
}

type check struct {
	digest digest // of the content
	at     time.Time
}

func newChecks() *checks {
	return &checks{now: time.Now, slots: make(chan struct{}, 4), done: map[fileState]check{}}
}

// damagedError means that a file does not have the content that its name promises.
type damagedError struct {
	path string
	want digest
	got  string // the digest, or the error of the disk
}

func (e *damagedError) Error() string {
	return fmt.Sprintf("damaged file %s: got %s, want %s", e.path, e.got, e.want)
}

func damaged(err error) bool {
	_, ok := errors.AsType[*damagedError](err)
	return ok
}

// openIntact opens the file at path if its content has the digest d. It hashes the file,
// unless it did so within the last day and the file was not written since. The error is a
// damagedError if the content is another one or the disk cannot read it.
func (s *store) openIntact(ctx context.Context, path string, d digest) (_ *os.File, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	got, err := s.checked.digest(ctx, f, d)
	if intact.Unreadable(err) {
		got, err = err.Error(), nil
	}
	if err != nil {
		return nil, err
	}
	if got != d.String() {
		return nil, &damagedError{path, d, got}
	}
	_, err = f.Seek(0, io.SeekStart)
	return f, err
}

// digest returns the digest of f, computed with the algorithm of like.
func (c *checks) digest(ctx context.Context, f *os.File, like digest) (string, error) {
	state, young, err := c.state(f)
	if err != nil {
		return "", err
	}
	if c.remembers(state, like) {
		return like.String(), nil
	}
	release, err := acquire(ctx, c.slots)
	if err != nil {
		return "", err
	}
	defer release()
	if c.remembers(state, like) { // another request has just hashed it
		return like.String(), nil
	}
	h := like.newHash()
	if _, err := io.Copy(h, contextReader{ctx, f}); err != nil {
		return "", err
	}
	got := digest{like.alg, hex.EncodeToString(h.Sum(nil))}
	if !young {
		c.remember(state, got)
	}
	return got.String(), nil
}

func (c *checks) remember(state fileState, d digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.done) >= maxChecked {
		clear(c.done)
	}
	c.done[state] = check{d, c.now()}
}

// written remembers the digest of a file that the registry has just written, and computed while
// it wrote. It sets the time of the file back, so that whoever writes to the file changes the
// time, even at this moment.
func (c *checks) written(f *os.File, d digest) error {
	before := c.now().Add(-time.Minute)
	if err := os.Chtimes(f.Name(), before, before); err != nil {
		return err
	}
	state, young, err := c.state(f)
	if err == nil && !young {
		c.remember(state, d)
	}
	return err
}

func (c *checks) remembers(state fileState, d digest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, ok := c.done[state]
	return ok && known.digest == d && c.now().Sub(known.at) < recheck
}

// state returns what identifies the content of f. young means that a write at this moment
// could leave the same state, because the clock of file times ticks every few milliseconds.
func (c *checks) state(f *os.File) (state fileState, young bool, err error) {
	info, err := f.Stat()
	if err != nil {
		return state, false, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() {
		return state, false, fmt.Errorf("%s is not a file", f.Name())
	}
	state = fileState{uint64(st.Dev), st.Ino, info.Size(), info.ModTime().UnixNano()}
	return state, c.now().Sub(info.ModTime()) < 100*time.Millisecond, nil
}

// contextReader reads until ctx is done.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// openBlob opens blob d of a repository. If the repository's file is damaged, but the pool
// has the right bytes, it repairs the repository first.
func (s *store) openBlob(ctx context.Context, name string, d digest) (*os.File, error) {
	f, err := s.openIntact(ctx, s.blob(name, d), d)
	if !damaged(err) {
		return f, err
	}
	right, poolErr := s.openIntact(ctx, s.pool(d), d)
	if poolErr != nil {
		return nil, err
	}
	if err := s.replace(s.pool(d), s.blob(name, d)); err != nil {
		right.Close()
		return nil, err
	}
	return right, nil
}

// replace makes dst, which must exist, a link to the file src. It never creates dst: another
// request or process may have deleted it.
func (s *store) replace(src, dst string) error {
	tmp, err := os.MkdirTemp(s.path("tmp"), "link-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	link := tmp + "/file"
	err = os.Link(src, link)
	if errors.Is(err, syscall.EMLINK) {
		err = copyFile(src, link)
	}
	if err != nil { // a copy that failed must not replace anything
		return err
	}
	if err := unix.Renameat2(unix.AT_FDCWD, link, unix.AT_FDCWD, dst, unix.RENAME_EXCHANGE); err != nil {
		return fmt.Errorf("replacing %s: %w", dst, err)
	}
	return syncParent(dst)
}

// copyFile copies src to the new file dst and syncs it.
func copyFile(src, dst string) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}

// sameContent reports whether two files have the same bytes. It does not rely on an earlier
// comparison: the bytes of a are here, so that a wrong b can be replaced.
func sameContent(a, b string) (bool, error) {
	fa, err := os.Open(a)
	if err != nil {
		return false, err
	}
	defer fa.Close()
	fb, err := os.Open(b)
	if err != nil {
		return false, err
	}
	defer fb.Close()
	bufA, bufB := copyBuffers.Get().(*[]byte), copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(bufA)
	defer copyBuffers.Put(bufB)
	for {
		n, errA := io.ReadFull(fa, *bufA)
		m, errB := io.ReadFull(fb, *bufB)
		endA, endB := ended(errA), ended(errB)
		switch {
		case errA != nil && !endA:
			return false, errA
		case intact.Unreadable(errB):
			return false, nil // the disk cannot read it
		case errB != nil && !endB:
			return false, errB
		case n != m || string((*bufA)[:n]) != string((*bufB)[:m]):
			return false, nil
		case endA: // and so does b: n is m
			return true, nil
		}
	}
}

func ended(err error) bool { return err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) }
