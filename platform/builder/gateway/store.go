package gateway

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/dirlock"
	"github.com/colophon-build/colophon/internal/lazyregexp"
)

// store is a directory of bodies, named by their sha256: DIR/ab/abcd…. Several
// gateways may use it at the same time. A file gets its name only after all of it is
// written; readers check the content against the name again. Beside the bodies are notes
// about downloads (see download).
type store struct {
	dir string
	max int64  // bytes
	sub string // directory in dir of the bodies of one scope; empty for those that all may have
}

// of returns the part of the store that has the bodies of one scope.
func (s *store) of(scope string) *store {
	return &store{s.dir, s.max, "of-" + sumOf([]byte(scope))}
}

// staleTemp is the age after which a temporary file counts as left by a crash.
const staleTemp = time.Hour

func openStore(dir string, max int64) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s := &store{dir: dir, max: max}
	if err := s.sweep(); err != nil {
		return nil, err
	}
	return s, s.account(0)
}

func (s *store) path(sum string) string { return filepath.Join(s.dir, s.sub, sum[:2], sum) }

// blob is a body on its way into the store.
type blob struct {
	s   *store
	f   *os.File
	sum hash.Hash
	n   int64
}

func (s *store) create() (*blob, error) {
	f, err := os.CreateTemp(s.dir, "tmp-")
	if err != nil {
		return nil, err
	}
	return &blob{s: s, f: f, sum: sha256.New()}, nil
}

func (b *blob) Write(p []byte) (int, error) {
	if b.n+int64(len(p)) > b.s.max {
		return 0, fmt.Errorf("this body is larger than the whole store of %d bytes", b.s.max)
	}
	n, err := b.f.Write(p)
	b.sum.Write(p[:n])
	b.n += int64(n)
	return n, err
}

func (b *blob) digest() string { return hex.EncodeToString(b.sum.Sum(nil)) }

// commit renames the body to its digest, after it made the body durable if asked to. If the
// store has it already, commit compares it, and replaces it if it is damaged.
func (b *blob) commit(durable bool) error {
	name := b.s.path(b.digest())
	have, err := openVerified(name, b.digest(), b.n, nil)
	if err == nil {
		b.discard()
		return errors.Join(have.Close(), touch(name))
	}
	defer b.discard()
	if _, bad := errors.AsType[*mismatchError](err); !bad && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := b.f.Chmod(0o400); err != nil {
		return err
	}
	if durable {
		if err := b.f.Sync(); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	if err := os.Rename(b.f.Name(), name); err != nil {
		return err
	}
	// The directory is not synced: if a power cut undoes the rename, the body is
	// downloaded again.
	return b.s.account(b.n)
}

func (b *blob) discard() {
	b.f.Close()
	os.Remove(b.f.Name()) // fails if commit has renamed it, which is fine
}

// open returns a body after checking every byte against its digest; if also is not nil, it
// hashes the same bytes. The error matches fs.ErrNotExist if the store lacks the body, or had a
// damaged one, which open removes: callers download it again.
func (s *store) open(sum string, size int64, also hash.Hash) (io.ReadCloser, error) {
	name := s.path(sum)
	body, err := openVerified(name, sum, size, also)
	if errors.Is(err, fs.ErrNotExist) && s.sub != "" {
		return (&store{dir: s.dir, max: s.max}).open(sum, size, also) // what all may have
	}
	if _, bad := errors.AsType[*mismatchError](err); bad {
		if err := ignoreMissing(os.Remove(name)); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("removed a damaged body from the store: %w: %w", err, fs.ErrNotExist)
	} else if err != nil {
		return nil, err
	}
	return body, touch(name)
}

// touch marks a body as recently used. It is no error if another gateway has just
// removed the body.
func touch(name string) error {
	now := time.Now()
	if err := os.Chtimes(name, now, now); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// sweep removes temporary files that crashes left.
func (s *store) sweep() error {
	stale, err := filepath.Glob(filepath.Join(s.dir, "tmp-*"))
	if err != nil {
		return err
	}
	for _, name := range stale {
		info, err := os.Stat(name)
		if err == nil && time.Since(info.ModTime()) > staleTemp {
			err = os.Remove(name)
		}
		if err := ignoreMissing(err); err != nil {
			return err
		}
	}
	return nil
}

// account adds n bytes to the store's size, and trims the store if it is too large.
// All gateways share the file that holds the size, and hold the store's lock while
// they change it. Summing up all bodies each time would take longer than most
// sessions.
func (s *store) account(n int64) error {
	lock, err := dirlock.Wait(s.dir)
	if err != nil {
		return err
	}
	defer lock.Release()
	f, err := os.OpenFile(filepath.Join(s.dir, "size"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return err
	}
	total, err := strconv.ParseInt(string(raw), 10, 64)
	if total += n; err != nil || total > s.max { // new, or damaged by a crash
		if total, err = s.trim(); err != nil {
			return err
		}
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteAt(strconv.AppendInt(nil, total, 10), 0)
	return err
}

// noteSuffix ends the names of notes about downloads.
const noteSuffix = ".json"

var (
	storedName = lazyregexp.New(`^[0-9a-f]{64}$`)
	storedFile = lazyregexp.New(`^[0-9a-f]{64}(\.json)?$`)
)

// noteCost is what a note takes of the store, in bytes: a block of the disk, so that the
// number of notes is limited too.
const noteCost = 4 << 10

// trim sums up the store's files. If they are too large together, it removes the
// least recently used ones until 90 % of the maximum is left. It returns the total.
func (s *store) trim() (total int64, err error) {
	type file struct {
		path string
		size int64
		used time.Time
	}
	var files []file
	err = filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !storedFile.MatchString(d.Name()) {
			return ignoreMissing(err)
		}
		info, err := d.Info()
		if err == nil {
			size := info.Size()
			if strings.HasSuffix(path, noteSuffix) {
				size = noteCost
			}
			files = append(files, file{path, size, info.ModTime()})
			total += size
		}
		return ignoreMissing(err)
	})
	if err != nil || total <= s.max {
		return total, err
	}
	slices.SortFunc(files, func(a, b file) int { return a.used.Compare(b.used) })
	for _, f := range files {
		if total <= s.max/10*9 {
			break
		}
		if err := ignoreMissing(os.Remove(f.path)); err != nil {
			return total, err
		}
		total -= f.size
	}
	return total, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// mismatchError means that a file's content differs from its digest or its size.
type mismatchError struct {
	path, want, got   string
	wantSize, gotSize int64
}

func (e *mismatchError) Error() string {
	return fmt.Sprintf("%s: got %d bytes with sha256 %s, want %d with %s", e.path, e.gotSize, e.got, e.wantSize, e.want)
}

// small is the size in bytes up to which a body is read into memory, where nobody can
// change it after it was verified.
const small = 256 << 10

// openVerified opens a file whose sha256 and size are known. It verifies the whole file
// before it returns. A file that is not small is verified again while it is read; if
// it changed in between, the reader fails before the last byte. If also is not nil, it is
// fed with the bytes that were verified: to read the file again for another digest would
// allow somebody to exchange it in between.
func openVerified(path, sum string, size int64, also hash.Hash) (_ io.ReadCloser, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	h := sha256.New()
	hashes := []io.Writer{h}
	if also != nil {
		hashes = append(hashes, also)
	}
	if size <= small {
		var buf bytes.Buffer
		n, err := io.Copy(io.MultiWriter(append(hashes, &buf)...), io.LimitReader(f, size+1))
		if err != nil {
			return nil, err
		}
		if got := hex.EncodeToString(h.Sum(nil)); got != sum || n != size {
			return nil, &mismatchError{path, sum, got, size, n}
		}
		f.Close()
		return io.NopCloser(&buf), nil
	}
	buf := buffers.Get()
	defer buffers.Put(buf)
	n, err := io.CopyBuffer(io.MultiWriter(hashes...), struct{ io.Reader }{io.LimitReader(f, size+1)}, buf)
	if err != nil {
		return nil, err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != sum || n != size {
		return nil, &mismatchError{path, sum, got, size, n}
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return &verified{f: f, path: path, sum: sum, left: size, hash: sha256.New()}, nil
}

// verified is a file that is hashed again while it is read.
type verified struct {
	f         *os.File
	path, sum string
	left      int64
	hash      hash.Hash
}

func (v *verified) Read(p []byte) (int, error) {
	if v.left == 0 {
		return 0, io.EOF
	}
	n, err := v.f.Read(p[:min(int64(len(p)), v.left)])
	v.hash.Write(p[:n])
	v.left -= int64(n)
	switch {
	case v.left == 0 && hex.EncodeToString(v.hash.Sum(nil)) != v.sum:
		return 0, fmt.Errorf("%s was changed while it was read", v.path)
	case v.left == 0:
		return n, nil
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (v *verified) Close() error { return v.f.Close() }
