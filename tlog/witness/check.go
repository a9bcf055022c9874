package witness

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/tlog"
)

// Refusal is the answer to a call add-checkpoint that changes nothing.
type Refusal struct {
	Status int
	Kind   string // media type; empty: text for people
	Text   string
}

func (r *Refusal) Error() string { return r.Text }

// Refuse returns a Refusal with a text for people.
func Refuse(status int, format string, args ...any) *Refusal {
	return &Refusal{Status: status, Text: fmt.Sprintf(format, args...)}
}

// Open returns the checkpoint of the request, and the signature lines by the keys of the log. Its error
// is a *Refusal.
func (r Request) Open(origin string, keys ...note.Verifier) (cp tlog.Checkpoint, lines []byte, err error) {
	if len(r.Checkpoint) > tlog.MaxCheckpoint/2 { // the cosignatures must fit, too
		return cp, nil, Refuse(http.StatusBadRequest, "checkpoint: got %d bytes, want at most %d", len(r.Checkpoint), tlog.MaxCheckpoint/2)
	}
	n, err := note.Open(r.Checkpoint, note.VerifierList(keys...))
	if err != nil {
		status := http.StatusBadRequest
		_, isWrong := errors.AsType[*note.InvalidSignatureError](err)
		_, unsigned := errors.AsType[*note.UnverifiedNoteError](err)
		if isWrong || unsigned {
			status = http.StatusForbidden
		}
		return cp, nil, Refuse(status, "checkpoint of %s: %v", origin, tlog.NoteError(err))
	}
	cp, err = tlog.ParseCheckpoint(n.Text)
	if errors.Is(err, tlog.ErrEmptyRoot) {
		return cp, nil, Refuse(http.StatusUnprocessableEntity, "%v", err)
	} else if err != nil {
		return cp, nil, Refuse(http.StatusBadRequest, "%v", err)
	}
	if r.Old > cp.Size {
		return cp, nil, Refuse(http.StatusBadRequest, "old size: got %d, want at most %d, the size of the checkpoint", r.Old, cp.Size)
	}
	for _, sig := range n.Sigs {
		lines = fmt.Appendf(lines, "— %s %s\n", sig.Name, sig.Base64)
	}
	return cp, lines, nil
}

// Extends fails with a *Refusal unless cp, the checkpoint of the request, extends the last one that was
// seen; zero: none was. forked says that the log signed two trees of one size.
func (r Request) Extends(last, cp tlog.Checkpoint) (forked bool, err error) {
	if r.Old != last.Size {
		return false, &Refusal{http.StatusConflict, SizeType, strconv.FormatInt(last.Size, 10) + "\n"}
	}
	if last.Origin == "" {
		last = tlog.Checkpoint{Origin: cp.Origin, Root: tlog.EmptyRoot()}
	}
	if last.Size == cp.Size && last.Root != cp.Root {
		return true, Refuse(http.StatusUnprocessableEntity, "another tree of %d entries was seen: the log has shown two histories", cp.Size)
	}
	if err := tlog.VerifyConsistency(last, cp, r.Proof); err != nil {
		return false, Refuse(http.StatusUnprocessableEntity, "%v", err)
	}
	return false, nil
}
