package source

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/limits"
)

// objects reads git objects through one "git cat-file --batch", and checks of
// each that its content has the id it was asked for by. Not for concurrent use.
type objects struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	err *tail

	asked []string // ids that were sent already, in the order of the answers to come
}

func (g *git) objects(ctx context.Context) (*objects, error) {
	o := &objects{cmd: g.command(ctx, "", "cat-file", "--batch"), err: &tail{max: 4096}}
	o.cmd.Stderr = o.err
	var err error
	if o.in, err = o.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := o.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	o.out = bufio.NewReaderSize(out, 256<<10)
	return o, o.cmd.Start()
}

// Close ends the process.
func (o *objects) Close() error {
	o.in.Close()
	o.cmd.Cancel() // after a read that stopped half way it would wait for us
	o.cmd.Wait()
	return nil
}

// ask sends for objects that will be read next, in this order, so that git does
// not wait for us, nor we for it, at each of them.
func (o *objects) ask(ids []string) {
	if len(ids) == 0 {
		return
	}
	o.asked = append(o.asked, ids...)
	lines := strings.Join(ids, "\n") + "\n"
	go io.WriteString(o.in, lines) // a failure shows as a missing answer
}

// read returns a whole object of at most max bytes.
func (o *objects) read(id, kind string, max int64) ([]byte, error) {
	var buf bytes.Buffer
	_, err := o.copy(&buf, id, kind, max)
	return buf.Bytes(), err
}

// copy streams an object. Only when it returns nil may what was written be believed.
func (o *objects) copy(w io.Writer, id, kind string, max int64) (int64, error) {
	if !isID(id) {
		return 0, fmt.Errorf("got object id %q", id)
	}
	fail := func(err error) (int64, error) { return 0, fmt.Errorf("%s %s: %w", kind, id, err) }
	if len(o.asked) > 0 {
		if o.asked[0] != id {
			return fail(fmt.Errorf("asked for %s first", o.asked[0]))
		}
		o.asked = o.asked[1:]
	} else if _, err := io.WriteString(o.in, id+"\n"); err != nil {
		return fail(o.ended(err))
	}
	line, err := o.out.ReadString('\n')
	if err != nil {
		return fail(o.ended(err))
	}
	f := strings.Fields(line)
	if len(f) != 3 || f[0] != id {
		return fail(errors.New(strings.TrimSpace(strings.TrimPrefix(line, id))))
	}
	if f[1] != kind {
		return fail(fmt.Errorf("got a %s, want a %s", f[1], kind))
	}
	size, err := strconv.ParseInt(f[2], 10, 64)
	if err != nil || size < 0 {
		return fail(fmt.Errorf("got size %q", f[2]))
	}
	if size > max {
		return fail(fmt.Errorf("has %d bytes, at most %d are taken", size, max))
	}
	h := hasher(id)
	fmt.Fprintf(h, "%s %d\x00", kind, size)
	if n, err := io.CopyN(io.MultiWriter(w, h), o.out, size); err != nil {
		return n, fmt.Errorf("%s %s: %w", kind, id, o.ended(err))
	}
	if b, err := o.out.ReadByte(); err != nil || b != '\n' {
		return fail(errors.New("git cat-file ended its answer wrongly"))
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != id {
		return fail(fmt.Errorf("its content has the id %s", got))
	}
	return size, nil
}

func (o *objects) ended(err error) error {
	if s := o.err.String(); s != "" {
		return errors.New(s)
	}
	return err
}

// hasher is the hash of the object format that id belongs to. SHA-1 is what
// most repositories have; git itself checks for known collision attacks as it
// receives objects.
func hasher(id string) hash.Hash {
	if len(id) == 2*sha256.Size {
		return sha256.New()
	}
	return sha1.New()
}

func isID(s string) bool {
	if len(s) != 2*sha1.Size && len(s) != 2*sha256.Size {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// object is a parsed commit or tag.
//
//	header = name SP value LF *( SP continuation LF )
//	object = 1*header LF message
//
// Signature and payload are of the object's own signature, see signature.go.
type object struct {
	id        string
	kind      string
	headers   map[string]string // the first of each name
	time      time.Time         // committer or tagger
	signature []byte
	payload   []byte
	malformed bool // it has a signature, in a place or number that no signer makes
}

func (o *objects) object(id, kind string) (*object, error) {
	raw, err := o.read(id, kind, limits.GitObject)
	if err != nil {
		return nil, err
	}
	obj := &object{id: id, kind: kind, headers: map[string]string{}}
	if err := obj.parse(raw); err != nil {
		return nil, fmt.Errorf("%s %s: %w", kind, id, err)
	}
	return obj, nil
}

func (obj *object) parse(raw []byte) error {
	head, _, ok := bytes.Cut(raw, []byte("\n\n"))
	if !ok {
		head = bytes.TrimSuffix(raw, []byte("\n"))
	}
	if bytes.IndexByte(head, 0) >= 0 {
		return errors.New("its header contains a NUL")
	}
	for line := range strings.SplitSeq(string(head), "\n") {
		if strings.HasPrefix(line, " ") {
			continue
		}
		name, value, ok := strings.Cut(line, " ")
		if !ok || name == "" {
			return fmt.Errorf("got header %q", line)
		}
		if _, twice := obj.headers[name]; !twice {
			obj.headers[name] = value
		} else if name != "parent" && name != "mergetag" {
			obj.malformed = true
		}
	}
	var err error
	switch obj.kind {
	case "commit":
		if !isID(obj.headers["tree"]) || len(obj.headers["tree"]) != len(obj.id) {
			return fmt.Errorf("got tree %q", obj.headers["tree"])
		}
		obj.splitCommit(raw)
		obj.time, err = when(obj.headers["committer"])
	case "tag":
		if !isID(obj.headers["object"]) || len(obj.headers["object"]) != len(obj.id) {
			return fmt.Errorf("got object %q", obj.headers["object"])
		}
		obj.splitTag(raw)
		if obj.headers["tagger"] != "" { // tags of 2005 have none
			obj.time, err = when(obj.headers["tagger"])
		}
	}
	return err
}

// when reads "Name <mail> 1763650800 +0100". The zone is left out: times are UTC.
func when(ident string) (time.Time, error) {
	f := strings.Fields(ident[strings.LastIndexByte(ident, '>')+1:])
	if len(f) != 2 {
		return time.Time{}, fmt.Errorf("got no time in %q", ident)
	}
	sec, err := strconv.ParseInt(f[0], 10, 64)
	// The end of year 9999, after which RFC 3339 has no spelling.
	if err != nil || sec < 0 || sec > 253402300799 {
		return time.Time{}, fmt.Errorf("got time %q, want seconds since 1970", f[0])
	}
	return time.Unix(sec, 0).UTC(), nil
}

// entry of a tree.
type entry struct {
	mode string // "100644", "100755", "120000", "40000", "160000"
	name string
	id   string
	old  bool // 100664 in the tree, which is what git wrote in its first months; mode says 100644
}

func (o *objects) tree(id string) ([]entry, error) {
	raw, err := o.read(id, "tree", limits.GitObject)
	if err != nil {
		return nil, err
	}
	return parseTree(raw, id)
}

// parseTree reads a tree object and refuses names that could leave the directory
// they are written to, or that git itself would treat as its own.
//
//	tree  = *entry
//	entry = mode SP name NUL raw-id
func parseTree(raw []byte, id string) ([]entry, error) {
	var entries []entry
	seen := map[string]bool{}
	for n := len(id) / 2; len(raw) > 0; {
		head, rest, ok := bytes.Cut(raw, []byte{0})
		mode, name, ok2 := strings.Cut(string(head), " ")
		if !ok || !ok2 || len(rest) < n {
			return nil, fmt.Errorf("tree %s: cut off after %d entries", id, len(entries))
		}
		e := entry{mode: mode, name: name, id: hex.EncodeToString(rest[:n])}
		raw = rest[n:]
		if mode == "100664" {
			e.mode, e.old = "100644", true
		}
		switch e.mode {
		case "100644", "100755", "120000", "40000", "160000":
		default:
			return nil, fmt.Errorf("tree %s: %q has mode %q: %w", id, name, mode, ErrUnsafe)
		}
		if why := badName(name); why != "" {
			return nil, fmt.Errorf("tree %s: entry %q %s: %w", id, name, why, ErrUnsafe)
		}
		if seen[name] {
			return nil, fmt.Errorf("tree %s: entry %q is there twice: %w", id, name, ErrUnsafe)
		}
		seen[name] = true
		entries = append(entries, e)
	}
	return entries, nil
}

// badName says why a tree entry's name is refused. Variants of .git that only
// HFS+ and NTFS fold are refused by git's own check of what it fetches.
func badName(name string) string {
	switch {
	case name == "" || name == "." || name == "..":
		return "is not a name"
	case strings.ContainsAny(name, "/\x00"):
		return "contains a separator"
	case len(name) > 255:
		return "is longer than 255 bytes"
	case strings.EqualFold(strings.TrimRight(name, ". "), ".git"), strings.EqualFold(name, "git~1"):
		return "belongs to git"
	}
	return ""
}
