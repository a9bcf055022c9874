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

// errMissing means that the repository does not have an object.
var errMissing = errors.New("missing")

// objects reads git objects from a process "git cat-file --batch". It checks that the
// content of each object has the requested id. It is not safe for concurrent use.
type objects struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	err *tail

	requested []string // ids that were sent to git and not read yet, in order
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
	o.cmd.Cancel() // after an incomplete read, the process would wait forever
	o.cmd.Wait()
	return nil
}

// request sends the ids of the objects that will be read next, in this order. Git then
// reads ahead, instead of waiting for each id.
func (o *objects) request(ids []string) {
	if len(ids) == 0 {
		return
	}
	o.requested = append(o.requested, ids...)
	lines := strings.Join(ids, "\n") + "\n"
	go io.WriteString(o.in, lines) // if this fails, reading the answer fails
}

// read returns the content of an object, at most max bytes.
func (o *objects) read(id, kind string, max int64) ([]byte, error) {
	var buf bytes.Buffer
	_, err := o.copy(&buf, id, kind, max)
	return buf.Bytes(), err
}

// copy writes the content of an object to w. Do not use what was written if copy returns
// an error: the content may not have the id.
func (o *objects) copy(w io.Writer, id, kind string, max int64) (int64, error) {
	if !isID(id) {
		return 0, fmt.Errorf("object id: got %q, want 40 or 64 hex digits", id)
	}
	fail := func(err error) (int64, error) { return 0, fmt.Errorf("%s %s: %w", kind, id, err) }
	if len(o.requested) > 0 {
		if o.requested[0] != id {
			return fail(fmt.Errorf("got a read of %s, want the requested %s", id, o.requested[0]))
		}
		o.requested = o.requested[1:]
	} else if _, err := io.WriteString(o.in, id+"\n"); err != nil {
		return fail(o.ended(err))
	}
	line, err := o.out.ReadString('\n')
	if err != nil {
		return fail(o.ended(err))
	}
	f := strings.Fields(line)
	if len(f) == 2 && f[0] == id && f[1] == "missing" {
		return fail(errMissing)
	}
	if len(f) != 3 || f[0] != id {
		return fail(errors.New(strings.TrimSpace(strings.TrimPrefix(line, id))))
	}
	if f[1] != kind {
		return fail(fmt.Errorf("got a %s, want a %s", f[1], kind))
	}
	size, err := strconv.ParseInt(f[2], 10, 64)
	if err != nil || size < 0 {
		return fail(fmt.Errorf("size: got %q, want a number", f[2]))
	}
	if size > max {
		return fail(fmt.Errorf("got %d bytes, want at most %d", size, max))
	}
	h := hasher(id)
	fmt.Fprintf(h, "%s %d\x00", kind, size)
	if n, err := io.CopyN(io.MultiWriter(w, h), o.out, size); err != nil {
		return n, fmt.Errorf("%s %s: %w", kind, id, o.ended(err))
	}
	if b, err := o.out.ReadByte(); err != nil || b != '\n' {
		return fail(errors.New("the answer of git cat-file has no newline at its end"))
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != id {
		return fail(fmt.Errorf("id of the content: got %s, want %s", got, id))
	}
	return size, nil
}

// ended returns why the process ended: its standard error if there is any, otherwise err.
func (o *objects) ended(err error) error {
	if s := o.err.String(); s != "" {
		return errors.New(s)
	}
	return err
}

// hasher returns the hash function of the object format that id belongs to. Most
// repositories use SHA-1. Git checks for known collision attacks when it receives
// objects.
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
// signature and payload are those of the object's own signature: see signature.go.
type object struct {
	id        string
	kind      string
	headers   map[string]string // the first of each name
	parents   []string          // of a commit: their ids
	time      time.Time         // committer or tagger
	signature []byte
	payload   []byte
	malformed bool // it has a header or signature twice, which no signer writes
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
			return fmt.Errorf("header: got %q, want NAME VALUE", line)
		}
		if name == "parent" {
			obj.parents = append(obj.parents, value)
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
			return fmt.Errorf("tree: got %q, want an object id", obj.headers["tree"])
		}
		obj.splitCommit(raw)
		obj.time, err = parseTime(obj.headers["committer"])
	case "tag":
		if !isID(obj.headers["object"]) || len(obj.headers["object"]) != len(obj.id) {
			return fmt.Errorf("object: got %q, want an object id", obj.headers["object"])
		}
		obj.splitTag(raw)
		if obj.headers["tagger"] != "" { // tags from 2005 have none
			obj.time, err = parseTime(obj.headers["tagger"])
		}
	}
	return err
}

// parseTime reads the time in "Name <mail> 1763650800 +0100". It ignores the time zone
// and returns UTC.
func parseTime(ident string) (time.Time, error) {
	f := strings.Fields(ident[strings.LastIndexByte(ident, '>')+1:])
	if len(f) != 2 {
		return time.Time{}, fmt.Errorf("time: got %q, want SECONDS ZONE at its end", ident)
	}
	sec, err := strconv.ParseInt(f[0], 10, 64)
	// The limit is the end of the year 9999: RFC 3339 has no later times.
	if err != nil || sec < 0 || sec > 253402300799 {
		return time.Time{}, fmt.Errorf("time: got %q, want seconds since 1970", f[0])
	}
	return time.Unix(sec, 0).UTC(), nil
}

// entry is an entry of a tree.
type entry struct {
	mode string // "100644", "100755", "120000", "40000", "160000"
	name string
	id   string
	old  bool // the tree has the mode 100664, which git wrote in 2005; mode is 100644
}

func (o *objects) tree(id string) ([]entry, error) {
	raw, err := o.read(id, "tree", limits.GitObject)
	if err != nil {
		return nil, err
	}
	return parseTree(raw, id)
}

// parseTree reads a tree object. It refuses names that could escape the directory that
// they are written to, and the names of git's own files.
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
			return nil, fmt.Errorf("tree %s: it ends in the middle of entry %d", id, len(entries))
		}
		e := entry{mode: mode, name: name, id: hex.EncodeToString(rest[:n])}
		raw = rest[n:]
		if mode == "100664" {
			e.mode, e.old = "100644", true
		}
		switch e.mode {
		case "100644", "100755", "120000", "40000", "160000":
		default:
			return nil, fmt.Errorf("tree %s: entry %q has the mode %q: %w", id, name, mode, errUnsafe)
		}
		if why := badName(name); why != "" {
			return nil, fmt.Errorf("tree %s: entry %q %s: %w", id, name, why, errUnsafe)
		}
		if seen[name] {
			return nil, fmt.Errorf("tree %s: entry %q occurs twice: %w", id, name, errUnsafe)
		}
		seen[name] = true
		entries = append(entries, e)
	}
	return entries, nil
}

// badName returns why a tree entry's name is refused, or "". Git itself refuses, when it
// fetches, the names that only HFS+ and NTFS treat like .git.
func badName(name string) string {
	switch {
	case name == "" || name == "." || name == "..":
		return "has no valid name"
	case strings.ContainsAny(name, "/\x00"):
		return "contains a slash or NUL"
	case len(name) > 255:
		return "is longer than 255 bytes"
	case strings.EqualFold(strings.TrimRight(name, ". "), ".git"), strings.EqualFold(name, "git~1"):
		return "has the name of a git directory"
	}
	return ""
}

// CommitObject is what stands in a commit. Whoever made the commit wrote it: nothing proves the
// names and times.
type CommitObject struct {
	ID        string    `json:"id"`
	Tree      string    `json:"tree"`
	Parents   []string  `json:"parents,omitempty"`
	Author    string    `json:"author"` // Name <mail>
	Authored  time.Time `json:"authored"`
	Committer string    `json:"committer"`
	Committed time.Time `json:"committed"`
	Title     string    `json:"title"`  // first line of the message
	Signed    bool      `json:"signed"` // it has a signature, which was not verified
}

// ReadCommit parses the content of a commit. It fails unless the content has the id.
func ReadCommit(id, content string) (CommitObject, error) {
	if !isID(id) {
		return CommitObject{}, fmt.Errorf("commit: got %q, want 40 or 64 hex digits", id)
	}
	h := hasher(id)
	fmt.Fprintf(h, "commit %d\x00%s", len(content), content)
	if got := hex.EncodeToString(h.Sum(nil)); got != id {
		return CommitObject{}, fmt.Errorf("commit %s: its content has the id %s", id, got)
	}
	obj := &object{id: id, kind: "commit", headers: map[string]string{}}
	if err := obj.parse([]byte(content)); err != nil {
		return CommitObject{}, fmt.Errorf("commit %s: %w", id, err)
	}
	authored, err := parseTime(obj.headers["author"])
	if err != nil {
		return CommitObject{}, fmt.Errorf("commit %s: author: %w", id, err)
	}
	_, message, _ := strings.Cut(content, "\n\n")
	title, _, _ := strings.Cut(strings.TrimLeft(message, "\n"), "\n")
	return CommitObject{
		ID: id, Tree: obj.headers["tree"], Parents: obj.parents, Title: title, Signed: len(obj.signature) > 0,
		Author: person(obj.headers["author"]), Authored: authored, Committer: person(obj.headers["committer"]), Committed: obj.time,
	}, nil
}

// person returns an identity of a commit without its time.
func person(ident string) string { return ident[:strings.LastIndexByte(ident, '>')+1] }
