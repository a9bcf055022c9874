// Package tlog implements the reader's side of a transparency log: C2SP
// tlog-checkpoint and signed-note, the tiles of C2SP tlog-tiles, and RFC 6962
// inclusion and consistency proofs made from them. Nothing that a log serves is
// believed: every hash is checked against the root of a checkpoint, and every
// checkpoint against the key of its log.
package tlog

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
	merkle "golang.org/x/mod/sumdb/tlog"
)

// MaxCheckpoint is the largest signed checkpoint that is read, in bytes. It
// leaves room for the signatures of many witnesses.
const MaxCheckpoint = 64 << 10

// Hash is an RFC 6962 SHA-256 hash of a leaf, a node or a tree.
type Hash = merkle.Hash

// LeafHash is the hash of an entry: SHA-256(0x00 ‖ entry).
func LeafHash(entry []byte) Hash { return merkle.RecordHash(entry) }

// Checkpoint is a log's commitment to its first Size entries.
// Spec: c2sp.org/tlog-checkpoint.
type Checkpoint struct {
	Origin     string   // the log's name, which is also its key's
	Size       int64    // entries
	Root       Hash     // of the tree of these entries
	Extensions []string // further lines, opaque, not empty
}

// String is the text that is signed.
func (c Checkpoint) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%d\n%s\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
	for _, line := range c.Extensions {
		b.WriteString(line + "\n")
	}
	return b.String()
}

// The text of a checkpoint, every line ended by a newline:
//
//	origin                 not empty
//	size                   decimal, no leading zero, no sign
//	root                   base64 of 32 bytes, with padding
//	extension ...          any number, none empty

// ParseCheckpoint reads a checkpoint's text, without signatures. It takes
// exactly what String writes: ParseCheckpoint(s).String() == s.
func ParseCheckpoint(text string) (Checkpoint, error) {
	if len(text) > MaxCheckpoint {
		return Checkpoint{}, fmt.Errorf("checkpoint of %d bytes, at most %d are taken", len(text), MaxCheckpoint)
	}
	if !utf8.ValidString(text) {
		return Checkpoint{}, fmt.Errorf("checkpoint is not UTF-8")
	}
	if i := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && (r < 0x20 || r == 0x7f) }); i >= 0 {
		return Checkpoint{}, fmt.Errorf("checkpoint holds the control character %q", text[i])
	}
	body, ended := strings.CutSuffix(text, "\n")
	lines := strings.Split(body, "\n")
	if !ended || len(lines) < 3 {
		return Checkpoint{}, fmt.Errorf("checkpoint has %d whole lines, want 3 or more", strings.Count(text, "\n"))
	}
	for i, line := range lines {
		if line == "" {
			return Checkpoint{}, fmt.Errorf("checkpoint line %d is empty", i+1)
		}
	}
	c := Checkpoint{Origin: lines[0]}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || strconv.FormatInt(size, 10) != lines[1] || size < 0 {
		return Checkpoint{}, fmt.Errorf("checkpoint size %q is not a decimal number of entries", lines[1])
	}
	c.Size = size
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != len(c.Root) {
		return Checkpoint{}, fmt.Errorf("checkpoint root %q is not the base64 of %d bytes", lines[2], len(c.Root))
	}
	c.Root = Hash(root)
	if len(lines) > 3 {
		c.Extensions = lines[3:]
	}
	if c.Size == 0 && c.Root != emptyRoot {
		return Checkpoint{}, fmt.Errorf("checkpoint of an empty log has root %v, want %v", c.Root, emptyRoot)
	}
	return c, nil
}

// OpenCheckpoint reads a signed checkpoint. It fails unless log has signed it
// and its origin is log's name. Signatures by others are ignored.
func OpenCheckpoint(signed []byte, log note.Verifier) (Checkpoint, error) {
	if len(signed) > MaxCheckpoint {
		return Checkpoint{}, fmt.Errorf("checkpoint of %d bytes, at most %d are taken", len(signed), MaxCheckpoint)
	}
	n, err := note.Open(signed, note.VerifierList(log))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint of %s: %w", log.Name(), err)
	}
	c, err := ParseCheckpoint(n.Text)
	if err != nil {
		return Checkpoint{}, err
	}
	if c.Origin != log.Name() {
		return Checkpoint{}, fmt.Errorf("checkpoint origin: got %q, want %q", c.Origin, log.Name())
	}
	return c, nil
}
