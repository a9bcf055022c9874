package localgit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/internal/userns"
)

// repository is the open directory that git reads of a repository: the one with refs and
// objects, which the working directories of a repository share.
type repository struct {
	dir      *os.File
	uid, gid int // the directory's owner
}

const (
	maxEntries = 1 << 20 // files of a repository
	maxPointer = 4096    // bytes of a .git file
)

// errNone covers every reason why there is no repository, so that a requester learns
// nothing about files that he may not see.
var errNone = errors.New("it does not exist, or is no git repository")

// open opens the repository at path, an absolute path, as git finds it, and checks it.
func open(path string) (_ *repository, err error) {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || strings.ContainsRune(path, 0) {
		return nil, fmt.Errorf("path of the repository: got %q, want an absolute path without \".\", \"..\" and repeated slashes", path)
	}
	named, dir := find(path)
	if dir == "" {
		return nil, errNone
	}
	f, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, errNone
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, errNone
	}
	st := info.Sys().(*syscall.Stat_t)
	r := &repository{f, int(st.Uid), int(st.Gid)}
	if r.uid == userns.Outside && !userns.Initial() { // several users may look like this one
		return nil, errors.New("the repository belongs to another user than the one who started the platform; push the commit to a server and release it from there")
	}
	if outer, err := os.Stat(named); err != nil || outer.Sys().(*syscall.Stat_t).Uid != st.Uid {
		return nil, errors.New("the directory and the git repository in it belong to different users")
	}
	return r, r.check()
}

// find returns the directory with the objects of the repository at path, and the
// directory that led there; both are empty if there is none.
func find(path string) (named, dir string) {
	for _, p := range []string{path, path + ".git"} { // gitrepository-layout(5), as git-upload-pack looks
		for _, d := range []string{filepath.Join(p, ".git"), p} {
			info, err := os.Lstat(d)
			if err != nil {
				continue
			}
			if info.Mode().IsRegular() { // a linked working directory or a submodule
				if d = pointer(d, "gitdir: "); d == "" {
					continue
				}
			}
			if common := pointer(filepath.Join(d, "commondir"), ""); common != "" {
				d = common
			}
			if isDir(filepath.Join(d, "objects")) && isDir(filepath.Join(d, "refs")) {
				return p, d
			}
		}
	}
	return "", ""
}

func isDir(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.IsDir()
}

// pointer returns the path in a small file, after prefix, or "" if there is none. A
// relative path starts at the file's directory.
func pointer(file, prefix string) string {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0) // does not wait for who writes a pipe
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	raw, err := strict.Read(f, maxPointer)
	if err != nil {
		return ""
	}
	to, ok := strings.CutPrefix(strings.TrimRight(string(raw), "\r\n"), prefix)
	if !ok || to == "" {
		return ""
	}
	if !filepath.IsAbs(to) {
		to = filepath.Join(filepath.Dir(file), to)
	}
	return filepath.Clean(to)
}

// tree is the files of a repository, whose owner may exchange them at any time.
type tree struct {
	fs.FS
	root *os.Root
}

// ReadDir implements fs.ReadDirFS. It opens nothing but a directory: a pipe would make it wait. It reads no more
// entries than a repository may have.
func (t tree) ReadDir(name string) ([]fs.DirEntry, error) {
	f, err := t.root.OpenFile(name, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(maxEntries + 1)
	if errors.Is(err, io.EOF) { // an empty one
		err = nil
	}
	return entries, err
}

// check returns an error unless one user owns everything that git reads, and nothing of
// it is a link or can be written by everybody. A repository of root must be root's to
// write alone. Hooks are not read.
func (r *repository) check() error {
	root, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", r.dir.Fd()))
	if err != nil {
		return errNone
	}
	defer root.Close()
	n := 0
	return fs.WalkDir(tree{root.FS(), root}, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("%s: cannot be read while it is checked", name)
		}
		if name == "hooks" {
			return fs.SkipDir
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // git renames files meanwhile
		} else if err != nil {
			return fmt.Errorf("%s: cannot be read while it is checked", name)
		}
		st, mode := info.Sys().(*syscall.Stat_t), info.Mode()
		switch n++; {
		case n > maxEntries:
			return fmt.Errorf("the repository has more than %d files (pack them with: git gc)", maxEntries)
		case name == "objects/info/alternates":
			return errors.New("the repository borrows objects of another one through objects/info/alternates (copy them with: git repack -a -d && rm .git/objects/info/alternates)")
		case !mode.IsRegular() && !mode.IsDir() && mode.Type() != fs.ModeSocket: // the file system monitor's socket
			return fmt.Errorf("%s: got a link or special file, want a regular file or directory", name)
		case int(st.Uid) != r.uid:
			return fmt.Errorf("%s belongs to user %d, and the repository to user %d; push the commit to a server and release it from there", name, st.Uid, r.uid)
		case mode.Perm()&0o002 != 0 || r.uid == 0 && mode.Perm()&0o020 != 0 && st.Gid != 0:
			return fmt.Errorf("%s: others can write it (mode %o); change it with: chmod -R go-w", name, mode.Perm())
		}
		return nil
	})
}
