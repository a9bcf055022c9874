package follow

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/internal/reach"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/tlog"
)

// Kind is a kind of alarm. The kinds need different people: Unreachable the network's,
// KeySuspect whoever keeps the key of the log, Misbehaves everybody who trusts the log.
type Kind string

const (
	// Unreachable: nothing new could be learned. The log does not answer, answers without
	// a checkpoint, or has not grown for longer than Config.Stalled.
	Unreachable Kind = "unreachable"
	// KeySuspect: the log shows a checkpoint that its pinned key did not sign, or that key
	// signed something that is no checkpoint of this log.
	KeySuspect Kind = "key-suspect"
	// Misbehaves: the log signed something that it does not keep to.
	Misbehaves Kind = "misbehaves"
)

// Reasons of a Failure.
const (
	NoAnswer     = "no-answer"     // Unreachable: the log does not answer
	NoCheckpoint = "no-checkpoint" // Unreachable: the answer is no signed note
	Stalled      = "stalled"       // Unreachable: the log has not grown for too long
	Signature    = "signature"     // KeySuspect: the pinned key did not sign the checkpoint
	SignedOther  = "signed-other"  // KeySuspect: the pinned key signed something else than a checkpoint of this log
	Fork         = "fork"          // Misbehaves: two signed checkpoints contradict each other
	Rollback     = "rollback"      // Misbehaves: the log shows fewer entries than before
	WrongTile    = "wrong-tile"    // Misbehaves: a tile does not belong to the signed checkpoint
	Withheld     = "withheld"      // Misbehaves: the log does not have a tile of the signed checkpoint
)

// Failure says why a log cannot be followed, or not further.
type Failure struct {
	Kind     Kind
	Reason   string   // one of the constants above
	Log      string   // origin of the log
	Evidence []string // files with what the log said, such as two signed checkpoints
	Err      error
}

func (f *Failure) Error() string { return fmt.Sprintf("log %s %s: %v", f.Log, f.Kind.verb(), f.Err) }

func (f *Failure) Unwrap() error { return f.Err }

func (k Kind) verb() string {
	switch k {
	case KeySuspect:
		return "has a suspect key"
	case Misbehaves:
		return "misbehaves"
	}
	return "could not be read"
}

// unanswered is a request that the source answered with an error.
type unanswered struct{ err error }

func (u *unanswered) Error() string { return u.err.Error() }
func (u *unanswered) Unwrap() error { return u.err }

// mayPass reports whether a request is worth repeating: also one for a tile that does not
// exist, because copies of a log may get a checkpoint earlier than the tiles.
func mayPass(err error) bool {
	status, ok := errors.AsType[*tlog.StatusError](err)
	if !ok || errors.Is(err, fs.ErrNotExist) {
		return true
	}
	return status.Status == http.StatusTooManyRequests || status.Status >= 500
}

func retryAfter(err error) string {
	if status, ok := errors.AsType[*tlog.StatusError](err); ok {
		return status.RetryAfter
	}
	return ""
}

// tileFailure tells apart why tiles of cp could not be read and verified.
func (f *Follower) tileFailure(ctx context.Context, err error, evidence ...[]byte) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if _, isFailure := errors.AsType[*Failure](err); isFailure {
		return err
	}
	_, tooLarge := errors.AsType[strict.TooLarge](err)
	_, noAnswer := errors.AsType[*unanswered](err)
	switch {
	case noAnswer && errors.Is(err, fs.ErrNotExist):
		return f.fail(Misbehaves, Withheld, fmt.Errorf("it does not have what its checkpoint covers: %w", err), evidence...)
	case noAnswer && !tooLarge:
		return f.fail(Unreachable, NoAnswer, reach.Explain(err))
	}
	return f.fail(Misbehaves, WrongTile, err, evidence...)
}

// open verifies a checkpoint that the log shows.
func (f *Follower) open(signed []byte) (tlog.Checkpoint, error) {
	n, err := note.Open(signed, note.VerifierList(f.cfg.Key))
	if err != nil {
		if unverified, ok := errors.AsType[*note.UnverifiedNoteError](err); ok {
			var names string
			for _, s := range unverified.Note.UnverifiedSigs {
				names += fmt.Sprintf(" %q (%08x)", s.Name, s.Hash)
			}
			return tlog.Checkpoint{}, f.fail(KeySuspect, Signature, fmt.Errorf("checkpoint: expected a signature by %q (%08x), found only%s", f.cfg.Key.Name(), f.cfg.Key.KeyHash(), names), signed)
		}
		if _, ok := errors.AsType[*note.InvalidSignatureError](err); ok {
			return tlog.Checkpoint{}, f.fail(KeySuspect, Signature, fmt.Errorf("checkpoint: %w", tlog.NoteError(err)), signed)
		}
		return tlog.Checkpoint{}, f.fail(Unreachable, NoCheckpoint, fmt.Errorf("its answer is not a checkpoint: %w", tlog.NoteError(err)), signed)
	}
	cp, err := tlog.ParseCheckpoint(n.Text)
	if err == nil && cp.Origin != f.cfg.Key.Name() {
		err = fmt.Errorf("checkpoint origin: expected %q, found %q", f.cfg.Key.Name(), cp.Origin)
	}
	if err != nil {
		return tlog.Checkpoint{}, f.fail(KeySuspect, SignedOther, fmt.Errorf("its key signed something else: %w", err), signed)
	}
	return cp, nil
}
