// Package powercut makes what a power cut can leave of a directory. It records the system calls with
// which a process changes the directory (strace), and loses any of those that were not synced:
//
//   - a file has the content of its last fsync (or, with O_SYNC, of its last write), and any of the writes and truncations since then,
//     in their order; a write can be torn between two sectors, and either part be lost;
//   - a directory has the entries of its last fsync, and any of the changes since then. A rename in
//     one directory is one change, which happens or does not.
//
// This is more than a file system of today loses: ext4 loses no entry of a directory while it keeps a
// later one. Content that is written through memory maps is lost.
package powercut

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/needs"
)

// Trace is what a process did.
type Trace struct {
	calls []call
}

// call is a system call that succeeded.
type call struct {
	thread, name string
	args         []string // as strace prints them; strings are decoded
	ret          string
}

// Record runs a command, which may change files in dir, until it ends. dir must be empty. Each line
// that it writes to its standard output is something that it acknowledges.
func Record(t testing.TB, dir string, cmd *exec.Cmd) *Trace {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		needs.Missing(t, "strace, of the Debian package of this name")
	}
	out := filepath.Join(t.TempDir(), "strace")
	args := []string{"-f", "-y", "-xx", "-s", "16777216", "-o", out, "-e",
		"trace=openat,write,pwrite64,ftruncate,fallocate,rename,renameat,renameat2,link,linkat,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,fsync,fdatasync,fchmod,chmod,fchmodat,newfstatat,getdents64"}
	cmd.Args = append(append([]string{strace}, args...), append([]string{cmd.Path}, cmd.Args[1:]...)...)
	cmd.Path = strace
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	if stdout, err := cmd.Output(); err != nil {
		t.Fatalf("%v\n%s%s", err, stdout, &complaints)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	tr := parse(string(text), dir)
	if len(tr.calls) == 0 {
		t.Fatal("the process changed nothing")
	}
	return tr
}

// parse reads the output of strace. A call that another thread interrupted stands on two lines, and
// took effect somewhere between them:
//
//   - a sync counts where it begins: what other threads write meanwhile is not synced by it;
//   - an acknowledgement too: somebody can have read it since then;
//   - a change of names counts where a call of another thread shows it, so that its program may rely on
//     it and sync it, and without such a call where it ends;
//   - all else counts where it ends.
func parse(text, dir string) *Trace {
	tr := &Trace{}
	begun := map[string]start{} // by thread
	for line := range strings.Lines(text) {
		thread, rest, ok := strings.Cut(strings.TrimSpace(line), " ")
		rest = strings.TrimSpace(rest)
		if !ok {
			continue
		}
		if head, cut := strings.CutSuffix(rest, "<unfinished ...>"); cut {
			begun[thread] = start{head, len(tr.calls)}
			if isSync(head) {
				tr.add(len(tr.calls), thread, "begin_"+head+") = 0", dir)
			}
			continue
		}
		place := len(tr.calls)
		if strings.HasPrefix(rest, "<... ") {
			_, tail, _ := strings.Cut(rest, " resumed>")
			from := begun[thread]
			if rest = from.head + tail; isSync(rest) {
				rest = "end_" + rest
			} else {
				place = tr.effect(from.place, rest)
				for other, s := range begun { // they began after what is put before them
					if s.place > place {
						begun[other] = start{s.head, s.place + 1}
					}
				}
			}
		}
		tr.add(place, thread, rest, dir)
	}
	tr.calls = slices.DeleteFunc(tr.calls, call.looks)
	return tr
}

// start is the first line of a call that another thread interrupted, and how many calls are before it.
type start struct {
	head  string
	place int
}

func isSync(text string) bool {
	return strings.HasPrefix(text, "fsync(") || strings.HasPrefix(text, "fdatasync(")
}

// effect returns where a call counts that began at a place, and ends now.
func (tr *Trace) effect(began int, text string) int {
	c, ok := read(text)
	switch {
	case ok && c.acknowledges():
		return began
	case ok:
		for _, name := range c.names() {
			for i, other := range tr.calls[began:] {
				if other.shows(name) {
					return began + i
				}
			}
		}
	}
	return len(tr.calls)
}

// acknowledges reports whether the call writes to the standard output.
func (c call) acknowledges() bool { return c.name == "write" && strings.HasPrefix(c.args[0], "1<") }

// names returns the names that the call makes.
func (c call) names() []string {
	switch {
	case c.name == "openat" && strings.Contains(c.args[2], "O_CREAT"), c.name == "mkdirat":
		return []string{at(c.args[0], c.args[1])}
	case c.name == "mkdir":
		return []string{path.Clean(c.args[0])}
	case c.name == "rename", c.name == "link":
		return []string{path.Clean(c.args[1])}
	case c.name == "renameat", c.name == "renameat2", c.name == "linkat":
		return []string{at(c.args[2], c.args[3])}
	}
	return nil
}

// looks reports whether the call changes nothing, but can show what others changed.
func (c call) looks() bool { return c.name == "newfstatat" || c.name == "getdents64" }

// shows reports whether the call, which succeeded, shows that there is a file of this name: it looked at
// it, opened it, or listed its directory.
func (c call) shows(name string) bool {
	switch c.name {
	case "openat", "newfstatat":
		return at(c.args[0], c.args[1]) == name
	case "getdents64":
		return fdPath(c.args[0]) == path.Dir(name)
	}
	return false
}

// read reads a call, and reports whether it succeeded.
func read(text string) (c call, ok bool) {
	open, end := strings.IndexByte(text, '('), strings.LastIndex(text, ") ")
	if open < 0 || end < open {
		return c, false
	}
	c = call{name: text[:open]}
	_, c.ret, _ = strings.Cut(text[end:], "= ")
	if c.ret == "" || strings.HasPrefix(c.ret, "-") || strings.HasPrefix(c.ret, "?") {
		return c, false
	}
	for arg := range strings.SplitSeq(text[open+1:end], ", ") {
		c.args = append(c.args, decode(strings.TrimSpace(arg)))
	}
	return c, true
}

// add inserts a call if it succeeded, and is about dir or acknowledges something.
func (tr *Trace) add(place int, thread, text, dir string) {
	c, ok := read(text)
	if !ok {
		return
	}
	c.thread = thread
	about := c.acknowledges()
	for _, arg := range c.args {
		about = about || strings.Contains(arg, dir)
	}
	if about {
		tr.calls = slices.Insert(tr.calls, place, c)
	}
}

// decode decodes "\x.." and the path in 3<\x..>.
func decode(arg string) string {
	before, after := "", ""
	if i := strings.IndexByte(arg, '<'); i >= 0 && !strings.HasPrefix(arg, `"`) {
		before, arg, after = arg[:i+1], strings.TrimSuffix(arg[i+1:], ">"), ">"
	} else if strings.HasPrefix(arg, `"`) {
		arg = strings.Trim(arg, `"`)
	}
	if !strings.Contains(arg, `\x`) {
		return before + arg + after
	}
	var b strings.Builder
	for len(arg) > 0 {
		if n, err := strconv.ParseUint(arg[min(2, len(arg)):min(4, len(arg))], 16, 8); strings.HasPrefix(arg, `\x`) && err == nil {
			b.WriteByte(byte(n))
			arg = arg[4:]
		} else {
			b.WriteByte(arg[0])
			arg = arg[1:]
		}
	}
	return before + b.String() + after
}

// Len returns the number of moments at which the power can be cut: 0 to Len.
func (tr *Trace) Len() int { return len(tr.calls) }

// Acknowledged returns the lines that were written before a moment.
func (tr *Trace) Acknowledged(moment int) (lines []string) {
	var all strings.Builder
	for _, c := range tr.calls[:moment] {
		if c.acknowledges() {
			all.WriteString(c.args[1])
		}
	}
	for line := range strings.Lines(all.String()) {
		if strings.HasSuffix(line, "\n") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// Loss says which changes are lost that were not synced.
type Loss func() (lost bool)

// All, None and Some lose every change, no change, and any.
func All() bool  { return true }
func None() bool { return false }
func Some(r *rand.Rand) Loss {
	most := r.IntN(9) + 1
	return func() bool { return r.IntN(10) < most }
}

// Cut writes what is on disk if the power is cut at a moment into a directory, which must be missing.
func (tr *Trace) Cut(t testing.TB, from string, moment int, lost Loss, into string) {
	t.Helper()
	d := newDisk(from)
	for _, c := range tr.calls[:moment] {
		d.apply(t, c)
	}
	if err := d.root.write(into, lost); err != nil {
		t.Fatal(err)
	}
}

// Cuts cuts the power so many times, each at a moment and with a loss that r chooses, and calls check with
// what is left and what had been acknowledged. With COLOPHON_LONG=1, it does so thirty times as often.
func (tr *Trace) Cuts(t *testing.T, from string, times int, r *rand.Rand, check func(left string, acknowledged []string) error) {
	t.Helper()
	if needs.AskedForLong() {
		times *= 30
	}
	for i := range times {
		moment := r.IntN(tr.Len() + 1)
		left := filepath.Join(t.TempDir(), "disk")
		tr.Cut(t, from, moment, []Loss{All, None, Some(r)}[i%3], left)
		acknowledged := tr.Acknowledged(moment)
		if err := check(left, acknowledged); err != nil || t.Failed() {
			t.Fatalf("cut %d, at %d of %d calls, after %q: %v", i, moment, tr.Len(), acknowledged[max(0, len(acknowledged)-1):], err)
		}
	}
}

// node is a file or a directory, as it is in memory and on disk.
type node struct {
	dir  bool
	mode os.FileMode
	made int // changes so far

	data, synced []byte // of a file
	direct       bool   // it was created with O_SYNC or O_DSYNC: a write that returned is synced
	writes       []write

	entries, kept map[string]*node // of a directory
	changes       []*change
}

// write is a write or, if data is nil, a truncation.
type write struct {
	at   int64
	data []byte
}

// change is a change of the entries of one directory: nil removes one.
type change struct {
	names []string
	nodes []*node
	group *fate // of a rename between two directories
}

// fate is what happened to a change that stands in two directories.
type fate struct{ decided, lost bool }

func newDir() *node {
	return &node{dir: true, mode: 0o755, entries: map[string]*node{}, kept: map[string]*node{}}
}

func (w write) on(data []byte) []byte {
	if w.data == nil {
		if w.at <= int64(len(data)) {
			return data[:w.at:w.at]
		}
		return append(slices.Clip(data), make([]byte, w.at-int64(len(data)))...)
	}
	if end := w.at + int64(len(w.data)); end > int64(len(data)) {
		data = append(slices.Clip(data), make([]byte, end-int64(len(data)))...)
	} else {
		data = bytes.Clone(data)
	}
	copy(data[w.at:], w.data)
	return data
}

func (n *node) change(w write) {
	n.made++
	n.data = w.on(n.data)
	n.writes = append(n.writes, w)
	if n.direct {
		n.syncTo(n.now())
	}
}

func (n *node) set(names []string, nodes ...*node) {
	n.changeEntries(&change{names: names, nodes: nodes})
}

func (n *node) changeEntries(c *change) {
	for i, name := range c.names {
		if c.nodes[i] == nil {
			delete(n.entries, name)
		} else {
			n.entries[name] = c.nodes[i]
		}
	}
	n.made++
	n.changes = append(n.changes, c)
}

// moment is the state of a node at the begin of a sync.
type moment struct {
	made    int // changes until then
	data    []byte
	entries map[string]*node
}

func (n *node) now() moment { return moment{n.made, n.data, maps.Clone(n.entries)} }

// syncTo makes everything durable that had been made then.
func (n *node) syncTo(then moment) {
	since := n.made - then.made
	if n.dir && len(n.changes) >= since {
		for _, c := range n.changes[:len(n.changes)-since] {
			if c.group != nil {
				*c.group = fate{decided: true}
			}
		}
		n.kept, n.changes = then.entries, n.changes[len(n.changes)-since:]
	} else if !n.dir && len(n.writes) >= since {
		n.synced, n.writes = then.data, n.writes[len(n.writes)-since:]
	}
}

// write writes what is on disk.
func (n *node) write(to string, lost Loss) error {
	if !n.dir {
		data := n.synced
		for _, w := range n.writes {
			switch {
			case lost():
			case len(w.data) > sector && lost():
				half := max(sector, len(w.data)/2/sector*sector)
				if lost() { // the disk wrote the end first
					w.at, w.data = w.at+int64(half), w.data[half:]
				} else {
					w.data = w.data[:half]
				}
				data = w.on(data)
			default:
				data = w.on(data)
			}
		}
		if err := os.WriteFile(to, data, 0o600); err != nil {
			return err
		}
		return os.Chmod(to, n.mode)
	}
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	entries := maps.Clone(n.kept)
	for _, c := range n.changes {
		isLost := false
		switch {
		case c.group == nil:
			isLost = lost()
		case c.group.decided:
			isLost = c.group.lost
		default:
			isLost = lost()
			*c.group = fate{true, isLost}
		}
		if isLost {
			continue
		}
		for i, name := range c.names {
			if c.nodes[i] == nil {
				delete(entries, name)
			} else {
				entries[name] = c.nodes[i]
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		if err := entries[name].write(filepath.Join(to, name), lost); err != nil {
			return err
		}
	}
	return os.Chmod(to, n.mode)
}

const sector = 512 // bytes
