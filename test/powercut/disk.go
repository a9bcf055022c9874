package powercut

import (
	"os"
	"path"
	"strconv"
	"strings"
	"testing"
)

// disk is the file system that the calls of a trace make.
type disk struct {
	prefix  string
	root    *node
	syncing map[string]moment // when the syncs began that other threads interrupted, by thread
}

func newDisk(prefix string) *disk {
	return &disk{prefix: prefix, root: newDir(), syncing: map[string]moment{}}
}

// fdPath returns the path in 3</path>.
func fdPath(arg string) string {
	_, p, _ := strings.Cut(arg, "<")
	return strings.TrimSuffix(p, ">")
}

// at returns a path that is relative to a directory.
func at(dir, name string) string {
	if path.IsAbs(name) {
		return path.Clean(name)
	}
	return path.Join(fdPath(dir), name)
}

// find returns what has a path now, or nil.
func (d *disk) find(p string) *node {
	rest, ok := strings.CutPrefix(p, d.prefix)
	if !ok {
		return nil
	}
	n := d.root
	for name := range strings.SplitSeq(strings.Trim(rest, "/"), "/") {
		if name == "" {
			continue
		}
		if n = n.entries[name]; n == nil {
			return nil
		}
	}
	return n
}

// place returns the directory of a path, and its name there.
func (d *disk) place(p string) (*node, string) {
	dir, name := path.Split(p)
	return d.find(path.Clean(dir)), name
}

func number(t testing.TB, text string, base int) int64 {
	t.Helper()
	text, _, _ = strings.Cut(text, " ")
	n, err := strconv.ParseInt(text, base, 64)
	if err != nil {
		t.Fatalf("strace: %v", err)
	}
	return n
}

// apply makes one change.
func (d *disk) apply(t testing.TB, c call) {
	t.Helper()
	switch c.name {
	case "openat":
		d.open(t, c)
	case "write": // Go appends to files that it opened so, or writes new ones from their begin
		if n := d.find(fdPath(c.args[0])); n != nil {
			n.change(write{int64(len(n.data)), []byte(c.args[1])[:number(t, c.ret, 10)]})
		}
	case "pwrite64":
		if n := d.find(fdPath(c.args[0])); n != nil {
			n.change(write{number(t, c.args[3], 10), []byte(c.args[1])[:number(t, c.ret, 10)]})
		}
	case "ftruncate":
		if n := d.find(fdPath(c.args[0])); n != nil {
			n.change(write{at: number(t, c.args[1], 10)})
		}
	case "rename", "renameat", "renameat2":
		if c.name == "rename" {
			d.rename(t, c.args[0], c.args[1])
		} else {
			d.rename(t, at(c.args[0], c.args[1]), at(c.args[2], c.args[3]))
		}
	case "link", "linkat":
		from, to := c.args[0], c.args[1]
		if c.name == "linkat" {
			from, to = at(c.args[0], c.args[1]), at(c.args[2], c.args[3])
		}
		if dir, name := d.place(to); dir != nil {
			dir.set([]string{name}, d.find(from))
		}
	case "unlink", "rmdir", "unlinkat":
		p := c.args[0]
		if c.name == "unlinkat" {
			p = at(c.args[0], c.args[1])
		}
		if dir, name := d.place(p); dir != nil {
			dir.set([]string{name}, nil)
		}
	case "mkdir", "mkdirat":
		p := c.args[0]
		if c.name == "mkdirat" {
			p = at(c.args[0], c.args[1])
		}
		if dir, name := d.place(p); dir != nil {
			dir.set([]string{name}, newDir())
		}
	case "fchmod":
		if n := d.find(fdPath(c.args[0])); n != nil {
			n.mode = os.FileMode(number(t, c.args[1], 8))
		}
	case "fsync", "fdatasync":
		if n := d.find(fdPath(c.args[0])); n != nil {
			n.syncTo(n.now())
		}
	case "begin_fsync", "begin_fdatasync":
		if n := d.find(fdPath(c.args[0])); n != nil {
			d.syncing[c.thread] = n.now()
		}
	case "end_fsync", "end_fdatasync":
		if n := d.find(fdPath(c.args[0])); n != nil {
			n.syncTo(d.syncing[c.thread])
		}
	default:
		t.Fatalf("the power cut does not know the call %s%q", c.name, c.args)
	}
}

func (d *disk) open(t testing.TB, c call) {
	t.Helper()
	flags, p := c.args[2], at(c.args[0], c.args[1])
	dir, name := d.place(p)
	if dir == nil {
		return
	}
	if n := dir.entries[name]; n == nil && strings.Contains(flags, "O_CREAT") {
		mode := os.FileMode(number(t, c.args[3], 8)) &^ 0o022
		dir.set([]string{name}, &node{mode: mode, direct: strings.Contains(flags, "SYNC")})
	} else if n != nil && strings.Contains(flags, "O_TRUNC") {
		n.change(write{})
	}
}

func (d *disk) rename(t testing.TB, from, to string) {
	t.Helper()
	a, old := d.place(from)
	b, name := d.place(to)
	if a == nil || b == nil {
		t.Fatalf("rename %s %s leads out of the directory", from, to)
	}
	n := a.entries[old]
	if a == b {
		a.set([]string{old, name}, nil, n)
		return
	}
	both := &fate{}
	b.changeEntries(&change{[]string{name}, []*node{n}, both})
	a.changeEntries(&change{[]string{old}, []*node{nil}, both})
}
