package registry

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/colophon-build/colophon/internal/dirlock"
	"github.com/colophon-build/colophon/internal/durable"
)

// store keeps the registry's content in this tree. The registry uses a name from a request
// in a path only after the name has passed its grammar; "_" cannot be a component of a
// repository's name.
//
//	lock                                       locked by the process that serves
//	tmp/                                       uploads and files being written; emptied at start
//	blobs/ALG/HEX                              every blob once
//	repositories/NAME/_/blobs/ALG/HEX          hard link to the blob: this repository has it
//	repositories/NAME/_/manifests/ALG/HEX      a manifest, the bytes received
//	repositories/NAME/_/manifests/ALG/HEX.json its descriptor as referrers lists show it, and the SHA-256 of that; may be missing or broken
//	repositories/NAME/_/tags/TAG               the digest that the tag points at
//	repositories/NAME/_/referrers/ALG/HEX/ALG-HEX  empty; the manifest ALG-HEX has ALG/HEX as its subject
//
// A manifest exists if its own file does: the files derived from it are written before it
// and removed after it. A repository is complete without blobs/, which saves space and
// finds a blob if its repository is not known. A file there with one link is in no
// repository.
type store struct {
	dir  string
	lock *dirlock.Lock // nil in a scrub

	checked *checks
	lists   *lists

	catalog *lists // components of names, for the catalog: whoever reads it drops no list of tags

	mkdir  sync.Mutex
	synced map[string]bool // directories whose whole path is durable; guarded by mkdir

	// repos serialise the changes of one repository's manifests and tags, and the
	// deletion of its blobs. Readers lock nothing.
	repos [64]sync.Mutex
	seed  maphash.Seed
}

func openStore(dir string) (_ *store, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := dirlock.Take(dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			lock.Release()
		}
	}()
	s := newStore(dir)
	s.lock = lock
	if err := os.RemoveAll(s.path("tmp")); err != nil {
		return nil, err
	}
	for _, d := range []string{"tmp", "blobs/sha256", "blobs/sha512", "repositories"} {
		if err := s.mkdirs(s.path(d)); err != nil {
			return nil, err
		}
	}
	return s, durable.SyncDir(filepath.Dir(dir))
}

func newStore(dir string) *store {
	return &store{dir: dir, checked: newChecks(), lists: newLists(), catalog: newLists(), seed: maphash.MakeSeed(), synced: map[string]bool{}}
}

func (s *store) close() error { return s.lock.Release() }

func (s *store) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

func (s *store) repo(name string, parts ...string) string {
	return filepath.Join(append([]string{s.dir, "repositories", name, "_"}, parts...)...)
}

// pool returns the path of blob d, whichever repositories have it.
func (s *store) pool(d digest) string { return s.path("blobs", d.alg, d.hex) }

func (s *store) blob(name string, d digest) string {
	return s.repo(name, "blobs", d.alg, d.hex)
}

func (s *store) manifest(name string, d digest) string {
	return s.repo(name, "manifests", d.alg, d.hex)
}

func (s *store) tag(name, tag string) string { return s.repo(name, "tags", tag) }

func (s *store) referrer(name string, subject, d digest) string {
	return s.repo(name, "referrers", subject.alg, subject.hex, d.alg+"-"+d.hex)
}

// lockRepo serialises the changes of a repository's manifests and tags, and the deletion of
// its blobs.
func (s *store) lockRepo(name string) (unlock func()) {
	mu := &s.repos[maphash.String(s.seed, name)%uint64(len(s.repos))]
	mu.Lock()
	return mu.Unlock
}

// mkdirs creates dir and its parents durably. An existing directory may come from a process
// that was killed before it synced, so the first call for a directory always syncs it. The
// mutex makes a second caller wait until the first has synced.
func (s *store) mkdirs(dir string) error {
	s.mkdir.Lock()
	defer s.mkdir.Unlock()
	var todo []string
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); err == nil {
			break
		} else if !missing(err) {
			return err
		}
		todo = append(todo, d)
	}
	if len(todo) == 0 && s.synced[dir] {
		return nil
	}
	for i := len(todo) - 1; i >= 0; i-- {
		if err := os.Mkdir(todo[i], 0o700); err != nil {
			return err
		}
		s.catalog.changed(todo[i], true)
	}
	var done []string
	for d := dir; d != s.dir && !s.synced[d]; d = filepath.Dir(d) {
		if err := durable.SyncDir(filepath.Dir(d)); err != nil {
			return err
		}
		done = append(done, d)
	}
	if len(s.synced) >= maxSynced {
		clear(s.synced)
	}
	for _, d := range done {
		s.synced[d] = true
	}
	return nil
}

const maxSynced = 4096 // limit of the directories in store.synced

// write writes data to path atomically and durably.
func (s *store) write(path string, data []byte) error {
	if err := s.place(path, data, (*os.File).Sync); err != nil {
		return err
	}
	s.lists.changed(path, true)
	return syncParent(path)
}

// place writes data to path atomically. It is durable only if sync syncs the file and the
// caller syncs the directory. The temporary file is in tmp/, not beside path, so that a
// crash leaves nothing in a directory that is listed.
func (s *store) place(path string, data []byte, sync func(*os.File) error) error {
	if err := s.mkdirs(filepath.Dir(path)); err != nil {
		return err
	}
	f, err := os.CreateTemp(s.path("tmp"), "file-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, sync(f), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

// mark creates an empty file durably.
func (s *store) mark(path string) error {
	if err := s.mkdirs(filepath.Dir(path)); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	s.lists.changed(path, true)
	return errors.Join(f.Close(), syncParent(path))
}

// remove removes the file at path durably. It returns false if there was none.
func (s *store) remove(path string) (bool, error) {
	if err := os.Remove(path); missing(err) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	s.lists.changed(path, false)
	return true, syncParent(path)
}

func syncParent(path string) error { return durable.SyncDir(filepath.Dir(path)) }

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if missing(err) {
		return false, nil
	}
	return err == nil, err
}

// addBlob moves the file tmp, which the caller has checked and synced, into a repository as
// blob d. A file that is there already is compared with tmp, and replaced if it is damaged;
// repaired then has its path.
func (s *store) addBlob(name string, d digest, tmp string) (repaired []string, err error) {
	pool, link := s.pool(d), s.blob(name, d)
	if err := s.mkdirs(filepath.Dir(link)); err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		err := s.linkOrReplace(tmp, tmp, pool, &repaired)
		if err == nil {
			err = s.linkOrReplace(tmp, pool, link, &repaired)
		}
		if missing(err) && try < 10 {
			continue // another request has just deleted it from its last repository
		}
		if err != nil {
			return repaired, err
		}
		// Remove tmp before answering, so that a later deletion counts the links correctly.
		if err := os.Remove(tmp); err != nil {
			return repaired, err
		}
		return repaired, errors.Join(syncParent(pool), syncParent(link))
	}
}

// linkOrReplace makes dst a link to src. If dst exists, it is replaced only if its bytes are
// not those of tmp, which the caller has checked.
func (s *store) linkOrReplace(tmp, src, dst string, repaired *[]string) error {
	err := os.Link(src, dst)
	if errors.Is(err, syscall.EMLINK) {
		err = os.Link(tmp, dst) // the inode has its maximum of links: this repository gets a copy
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	same, err := sameContent(tmp, dst)
	if err != nil || same {
		return err
	}
	if err := s.replace(src, dst); err != nil {
		return err
	}
	*repaired = append(*repaired, dst)
	return nil
}

// mountBlob links blob d of repository from into repository name; if from is empty, from any
// repository. It returns false if there is no such blob, or none that is intact.
func (s *store) mountBlob(ctx context.Context, name, from string, d digest) (bool, error) {
	src, open := s.pool(d), func() (*os.File, error) { return s.openIntact(ctx, s.pool(d), d) }
	if from != "" {
		src, open = s.blob(from, d), func() (*os.File, error) { return s.openBlob(ctx, from, d) }
	}
	f, err := open()
	if missing(err) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	fi, err := f.Stat()
	f.Close()
	if err != nil {
		return false, err
	}
	// A blob with one link was deleted from every repository. A client that knows its
	// digest must not be able to bring it back.
	if st, ok := fi.Sys().(*syscall.Stat_t); from == "" && (!ok || st.Nlink < 2) {
		return false, nil
	}
	link := s.blob(name, d)
	if err := s.mkdirs(filepath.Dir(link)); err != nil {
		return false, err
	}
	if err := os.Link(src, link); missing(err) || errors.Is(err, syscall.EMLINK) {
		return false, nil
	} else if err != nil && !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	return true, syncParent(link)
}

// deleteBlob removes blob d from a repository, and from the disk if no other repository has
// it. It returns false if the repository does not have it.
func (s *store) deleteBlob(name string, d digest) (bool, error) {
	defer s.lockRepo(name)()
	ok, err := s.remove(s.blob(name, d))
	if !ok || err != nil {
		return ok, err
	}
	pool := s.pool(d)
	fi, err := os.Lstat(pool)
	if missing(err) {
		return true, nil
	} else if err != nil {
		return true, err
	}
	// A push may link it between these lines. Then that repository keeps the blob, but no
	// longer shares it.
	if st, isUnix := fi.Sys().(*syscall.Stat_t); isUnix && st.Nlink == 1 {
		_, err = s.remove(pool)
	}
	return true, err
}

// readTag returns the digest that a tag points at. If there is no such tag, the error matches
// fs.ErrNotExist.
func (s *store) readTag(name, tag string) (digest, error) {
	data, err := os.ReadFile(s.tag(name, tag))
	if err != nil {
		return digest{}, err
	}
	d, err := parseDigest(strings.TrimSpace(string(data)))
	if err != nil {
		return digest{}, fmt.Errorf("tag file %s: got %q, want a digest", s.tag(name, tag), data)
	}
	return d, nil
}

// dangles reports whether a tag points at manifest d, which is missing. Without the lock a tag could
// look so while the manifest is deleted with it and both are pushed again.
func (s *store) dangles(name, tag string, d digest) (bool, error) {
	defer s.lockRepo(name)()
	now, err := s.readTag(name, tag)
	if missing(err) || err == nil && now != d {
		return false, nil
	} else if err != nil {
		return false, err
	}
	there, err := exists(s.manifest(name, d))
	return !there, err
}
