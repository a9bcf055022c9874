package search

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/tlog"
)

// leafHead is the first line of an entry of an index log, with its version.
const leafHead = "colophon search index v1"

// Leaf is an entry of an index log: the root of the prefix tree of a log's first entries.
type Leaf struct {
	Root       tlog.Hash // of the prefix tree
	Keys       int64     // keys that it has
	Checkpoint string    // of the log: the tree has the keys of the entries under it. A signed note
}

// A leaf. Each line ends with a newline:
//
//	colophon search index v1
//	root                        base64 of 32 bytes, with padding
//	keys                        decimal, no leading zero
//	                            an empty line
//	checkpoint ...              the signed note, as the log published it

// Bytes returns the entry of the index log.
func (l Leaf) Bytes() []byte {
	return fmt.Appendf(nil, "%s\n%s\n%d\n\n%s", leafHead, base64.StdEncoding.EncodeToString(l.Root[:]), l.Keys, l.Checkpoint)
}

// ParseLeaf reads an entry of an index log, and the checkpoint in it, which the log's key must
// have signed. It accepts exactly what Bytes writes.
func ParseLeaf(entry []byte, log note.Verifier) (Leaf, tlog.Checkpoint, error) {
	var l Leaf
	bad := func(format string, args ...any) (Leaf, tlog.Checkpoint, error) {
		return Leaf{}, tlog.Checkpoint{}, fmt.Errorf("entry of the index log: "+format, args...)
	}
	head, checkpoint, _ := strings.Cut(string(entry), "\n\n")
	lines := strings.Split(head, "\n")
	if len(lines) != 3 || lines[0] != leafHead {
		return bad("got %q, want version 1, which starts with %q", lines[0], leafHead)
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[1])
	if err != nil || len(root) != len(l.Root) {
		return bad("root: got %q, want the base64 of %d bytes", lines[1], len(l.Root))
	}
	keys, err := strconv.ParseInt(lines[2], 10, 64)
	if err != nil || keys < 0 {
		return bad("keys: got %q, want a decimal number", lines[2])
	}
	l = Leaf{tlog.Hash(root), keys, checkpoint}
	if string(l.Bytes()) != string(entry) {
		return bad("it is not in the form that version 1 has")
	}
	cp, err := tlog.OpenCheckpoint([]byte(checkpoint), log)
	if err != nil {
		return bad("%w", err)
	}
	return l, cp, nil
}

// IndexOrigin returns the origin of the index log of the log with this origin. The log's key
// signs its checkpoints, under this name.
func IndexOrigin(log string) string { return log + "/index" }
