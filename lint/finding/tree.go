package finding

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/source"
)

// Tree is a read-only view of a repository's files. In a git working directory these are the
// files that git tracks, and those that it neither tracks nor ignores; elsewhere all. It has no
// file below a directory in Skipped. It never follows a symbolic link out of its directory.
// Its methods can be called at once.
type Tree struct {
	Dir string // as it was named
	// Git is what git knows about the files, or nil: the directory is not in a git repository, or
	// GitErr says why git could not be asked.
	Git    *source.WorkTree
	GitErr error
	// Cut means that the tree has more files than limits.LintFiles, and Files only some of them.
	Cut bool

	root    *os.Root
	files   []string
	has     map[string]bool
	tracked map[string]bool
	links   []string

	mu   sync.Mutex
	read map[string]*reading
	sum  atomic.Int64 // bytes read

	maxFiles        int
	maxFile, maxSum int64
}

type reading struct {
	once sync.Once
	file *File
	err  error
}

// Skipped are names of directories whose files are not the repository's own, or are made to be wrong.
func Skipped() []string { return []string{".git", "node_modules", "testdata", "vendor"} }

// ErrNotRead is what Read returns for a file that is there and was not read: the text says why.
var ErrNotRead = errors.New("not read")

// OpenTree opens the tree of a directory. Close it.
func OpenTree(ctx context.Context, dir string) (*Tree, error) {
	t := &Tree{Dir: dir, maxFiles: limits.LintFiles, maxFile: limits.LintFile, maxSum: limits.LintBytes}
	return t, t.open(ctx)
}

func (t *Tree) open(ctx context.Context) (err error) {
	if t.root, err = os.OpenRoot(t.Dir); err != nil {
		return err
	}
	t.read = map[string]*reading{}
	if inGit(t.Dir) {
		t.Git, t.GitErr = source.ListWorkTree(ctx, t.Dir)
		if t.Git != nil && len(t.Git.Tracked)+len(t.Git.Links)+len(t.Git.Untracked) == 0 {
			t.Git = nil // a directory that the repository ignores
		}
	}
	if t.Git != nil {
		t.tracked = make(map[string]bool, len(t.Git.Tracked))
		for _, name := range t.Git.Tracked {
			t.tracked[name] = true
			t.add(name)
		}
		for _, name := range t.Git.Untracked {
			if info, err := t.root.Lstat(name); err == nil && info.Mode().IsRegular() {
				t.add(name)
			} else if err == nil && info.Mode()&fs.ModeSymlink != 0 {
				t.links = append(t.links, name)
			}
		}
		t.links = append(t.links, t.Git.Links...)
	} else if err := t.walk(ctx); err != nil {
		t.root.Close()
		return err
	}
	slices.Sort(t.files)
	slices.Sort(t.links)
	t.has = make(map[string]bool, len(t.files))
	for _, name := range t.files {
		t.has[name] = true
	}
	return nil
}

// inGit reports whether a directory or one around it has a .git.
func inGit(dir string) bool {
	at, err := filepath.Abs(dir)
	if err != nil {
		return false
	}
	for {
		if _, err := os.Lstat(filepath.Join(at, ".git")); err == nil {
			return true
		}
		up := filepath.Dir(at)
		if up == at {
			return false
		}
		at = up
	}
}

func (t *Tree) add(name string) {
	for part := range strings.SplitSeq(path.Dir(name), "/") {
		if slices.Contains(Skipped(), part) {
			return
		}
	}
	if len(t.files) >= t.maxFiles {
		t.Cut = true
		return
	}
	t.files = append(t.files, name)
}

func (t *Tree) walk(ctx context.Context) error {
	seen := 0
	return fs.WalkDir(t.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			if name == "." {
				return err
			}
			return nil // it cannot be listed by us, and is not checked out of a commit
		}
		if seen++; seen > 4*t.maxFiles { // directories, devices and links count too
			t.Cut = true
			return fs.SkipAll
		}
		switch {
		case d.IsDir() && name != "." && slices.Contains(Skipped(), d.Name()):
			return fs.SkipDir
		case d.Type()&fs.ModeSymlink != 0:
			t.links = append(t.links, name)
		case d.Type().IsRegular():
			t.add(name)
		}
		if t.Cut {
			return fs.SkipAll
		}
		return nil
	})
}

// Close closes the directory.
func (t *Tree) Close() error { return t.root.Close() }

// Files returns the paths of all regular files, with slashes, sorted. Do not change the slice.
func (t *Tree) Files() []string { return t.files }

// Links returns the paths of the symbolic links, which are not followed.
func (t *Tree) Links() []string { return t.links }

// Has reports whether Files has a path.
func (t *Tree) Has(name string) bool { return t.has[name] }

// Tracked reports whether git tracks a file. Without Git, it is false.
func (t *Tree) Tracked(name string) bool { return t.tracked[name] }

// Read returns a file of the tree, which it reads once. The error matches fs.ErrNotExist if the tree
// does not have it, or ErrNotRead.
func (t *Tree) Read(name string) (*File, error) {
	if !t.has[name] {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	t.mu.Lock()
	r := t.read[name]
	if r == nil {
		r = &reading{}
		t.read[name] = r
	}
	t.mu.Unlock()
	r.once.Do(func() {
		var data []byte
		if data, r.err = t.load(name); r.err == nil {
			r.file = NewFile(name, data)
		}
	})
	return r.file, r.err
}

func (t *Tree) load(name string) ([]byte, error) {
	info, err := t.root.Lstat(name)
	if err != nil {
		return nil, notRead(err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: expected a regular file, found %s", ErrNotRead, info.Mode().Type())
	}
	if info.Size() > t.maxFile {
		return nil, fmt.Errorf("%w: it has %d bytes, more than %d", ErrNotRead, info.Size(), t.maxFile)
	}
	if t.sum.Add(info.Size()) > t.maxSum {
		return nil, fmt.Errorf("%w: the files before it have %d bytes together", ErrNotRead, t.maxSum)
	}
	f, err := t.root.Open(name)
	if err != nil {
		return nil, notRead(err)
	}
	defer f.Close()
	if now, err := f.Stat(); err != nil || !os.SameFile(info, now) {
		return nil, fmt.Errorf("%w: it changes", ErrNotRead)
	}
	data, err := io.ReadAll(io.LimitReader(f, info.Size()+1))
	if err == nil && int64(len(data)) != info.Size() {
		err = errors.New("its size changes")
	}
	if err != nil {
		return nil, notRead(err)
	}
	return data, nil
}

// notRead keeps fs.ErrNotExist: git lists files that were deleted since.
func notRead(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrNotRead, err)
}

// Root returns the directory, for writers of files that Files has.
func (t *Tree) Root() *os.Root { return t.root }
