// Package tlog reads transparency logs: the checkpoints of C2SP tlog-checkpoint,
// which are C2SP signed notes, and the tiles of C2SP tlog-tiles. From the tiles it
// makes the inclusion and consistency proofs of RFC 6962, and it verifies them.
//
// OpenCheckpoint verifies a checkpoint with the key of the log. Inclusion proves
// that an entry is in the tree of a checkpoint, Extends proves that a log has only
// appended since an older checkpoint. Both read tiles from a Source, such as a log
// served over HTTP or kept in a Dir.
//
// The package trusts nothing that a log serves: it checks every hash against the
// root of a checkpoint.
package tlog

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
	merkle "golang.org/x/mod/sumdb/tlog"
)

// MaxCheckpoint is the size limit of a signed checkpoint, in bytes. It leaves room
// for the signatures of many witnesses.
const MaxCheckpoint = 64 << 10

// MaxSize is the limit of the entries of a log: the tiles of C2SP tlog-tiles have no
// room for more. The algorithms of RFC 6962 would not even end for a size near 2^63.
const MaxSize = 1<<(tileHeight*(maxLevel+1)) - 1

// Hash is the RFC 6962 SHA-256 hash of a leaf, a node or a tree.
type Hash = merkle.Hash

// LeafHash returns the leaf hash of an entry: SHA-256(0x00 ‖ entry) (RFC 6962, 2.1).
func LeafHash(entry []byte) Hash { return merkle.RecordHash(entry) }

// Checkpoint is a log's commitment to its first Size entries
// (c2sp.org/tlog-checkpoint).
type Checkpoint struct {
	Origin     string   // the log's name; its key has the same name
	Size       int64    // number of entries, at most MaxSize
	Root       Hash     // root hash of the tree of these entries
	Extensions []string // further lines, opaque; none is empty
}

// String returns the text that the log signs.
func (c Checkpoint) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%d\n%s\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
	for _, line := range c.Extensions {
		b.WriteString(line + "\n")
	}
	return b.String()
}

// The text of a checkpoint; every line ends with a newline:
//
//	origin                 not empty
//	size                   decimal, no leading zero, no sign; at most MaxSize
//	root                   base64 of 32 bytes, with padding
//	extension ...          any number, none empty

// ErrEmptyRoot means that a checkpoint of no entries has the root of a tree with entries. A
// witness answers it with a status of its own.
var ErrEmptyRoot = errors.New("checkpoint root of an empty log")

// ParseCheckpoint reads the text of a checkpoint, without signatures. It accepts
// exactly what String writes: ParseCheckpoint(s).String() == s.
func ParseCheckpoint(text string) (Checkpoint, error) {
	if len(text) > MaxCheckpoint {
		return Checkpoint{}, fmt.Errorf("checkpoint: got %d bytes, want at most %d", len(text), MaxCheckpoint)
	}
	if !utf8.ValidString(text) {
		return Checkpoint{}, fmt.Errorf("checkpoint is not UTF-8")
	}
	if i := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && (r < 0x20 || r == 0x7f) }); i >= 0 {
		return Checkpoint{}, fmt.Errorf("checkpoint contains the control character %q", text[i])
	}
	body, ended := strings.CutSuffix(text, "\n")
	lines := strings.Split(body, "\n")
	if !ended || len(lines) < 3 {
		return Checkpoint{}, fmt.Errorf("checkpoint: got %d complete lines, want at least 3", strings.Count(text, "\n"))
	}
	for i, line := range lines {
		if line == "" {
			return Checkpoint{}, fmt.Errorf("checkpoint line %d is empty", i+1)
		}
	}
	c := Checkpoint{Origin: lines[0]}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || strconv.FormatInt(size, 10) != lines[1] {
		return Checkpoint{}, fmt.Errorf("checkpoint size: got %q, want a decimal number", lines[1])
	}
	c.Size = size
	if err := c.checkSize(); err != nil {
		return Checkpoint{}, err
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != len(c.Root) {
		return Checkpoint{}, fmt.Errorf("checkpoint root: got %q, want the base64 of %d bytes", lines[2], len(c.Root))
	}
	c.Root = Hash(root)
	if len(lines) > 3 {
		c.Extensions = lines[3:]
	}
	if c.Size == 0 && c.Root != emptyRoot {
		return Checkpoint{}, fmt.Errorf("%w: got %v, want %v", ErrEmptyRoot, c.Root, emptyRoot)
	}
	return c, nil
}

// checkSize fails for sizes that no log can have.
func (c Checkpoint) checkSize() error {
	if c.Size < 0 || c.Size > MaxSize {
		return fmt.Errorf("checkpoint size: got %d, want 0 to %d", c.Size, int64(MaxSize))
	}
	return nil
}

// NoteError returns in words for people why note.Open did not open a signed note.
func NoteError(err error) error {
	wrong, isWrong := errors.AsType[*note.InvalidSignatureError](err)
	_, unsigned := errors.AsType[*note.UnverifiedNoteError](err)
	switch {
	case isWrong:
		return fmt.Errorf("the signature by %q is wrong", wrong.Name)
	case unsigned:
		return errors.New("no signature is by the key expected")
	}
	return errors.New("it is not a signed note")
}

// OpenCheckpoint reads a signed checkpoint. It fails unless the key of the
// verifier signed it, and its origin is the verifier's name. It ignores further
// signatures, such as those of witnesses.
func OpenCheckpoint(signed []byte, log note.Verifier) (Checkpoint, error) {
	if len(signed) > MaxCheckpoint {
		return Checkpoint{}, fmt.Errorf("checkpoint: got %d bytes, want at most %d", len(signed), MaxCheckpoint)
	}
	n, err := note.Open(signed, note.VerifierList(log))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint of %s: %w", log.Name(), NoteError(err))
	}
	for _, sig := range n.Sigs { // two spellings of one signature would be two files of one checkpoint
		if _, err := base64.StdEncoding.Strict().DecodeString(sig.Base64); err != nil {
			return Checkpoint{}, fmt.Errorf("checkpoint of %s: signature: %w", log.Name(), err)
		}
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
