package search

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/tlog/prefix"
)

const (
	// MaxAnswer is the limit of an answer, in bytes.
	MaxAnswer = 16 << 20
	// MaxPage is the limit of the entries of one answer.
	MaxPage = 100
)

// Question asks for the entries with a key, from one index on.
type Question struct {
	Key
	From int64 // index of an entry of the log
}

// Answer is what a platform answers: the entries from Question.From on and before To that have
// the key, and the proof that there are no others. It proves nothing before Verify.
type Answer struct {
	To      *int64   `json:"to,omitempty"` // index at which the next page starts; missing: this is the last one
	Entries []Entry  `json:"entries"`      // in order
	Proof   []byte   `json:"proof"`        // of the prefix tree: see tlog/prefix
	Index   int64    `json:"index"`        // of Leaf, in the index log; the last one
	Leaf    []byte   `json:"leaf"`         // entry of the index log
	InIndex [][]byte `json:"inIndex"`      // inclusion proof of Leaf

	IndexCheckpoint string   `json:"indexCheckpoint"` // of the index log, signed
	Checkpoint      string   `json:"checkpoint"`      // of the log, signed; the newest one
	Extends         [][]byte `json:"extends"`         // consistency proof from the checkpoint in Leaf to Checkpoint
}

// Entry is an entry of the log.
type Entry struct {
	Index int64    `json:"index"`
	Body  []byte   `json:"body"`
	InLog [][]byte `json:"inLog"` // inclusion proof under the checkpoint in Answer.Leaf
}

// Verified is what an answer proves: the log has these entries with the key, and no others from
// Question.From on and before To.
type Verified struct {
	Entries []Entry
	To      *int64 // nil: before Indexed.Size
	Total   int64  // entries with the key before Indexed.Size
	Root    tlog.Hash
	Index   tlog.Checkpoint // of the index log
	Indexed tlog.Checkpoint // of the log: the index has the entries under it
	Newest  tlog.Checkpoint // of the log: entries from Indexed.Size on are not in the index yet
}

// ParseAnswer reads an answer.
func ParseAnswer(data []byte) (*Answer, error) {
	var a Answer
	if err := strict.UnmarshalKnown(data, MaxAnswer, &a); err != nil {
		return nil, fmt.Errorf("answer: %w", err)
	}
	return &a, nil
}

// Verify fails unless the answer proves which entries have the key. log verifies checkpoints of
// the log, index those of its index log: see IndexOrigin.
func (a *Answer) Verify(q Question, log, index note.Verifier) (*Verified, error) {
	if q.From < 0 {
		return nil, fmt.Errorf("question: from: got %d, want 0 or more", q.From)
	}
	v, leaf, err := a.verifyLogs(log, index)
	if err != nil {
		return nil, err
	}
	if v.Total, err = a.verifyEntries(q, leaf, v.Indexed); err != nil {
		return nil, err
	}
	v.Entries, v.To = a.Entries, a.To
	return v, nil
}

// verifyLogs verifies everything but the entries: it returns the last entry of the index log, and
// the checkpoints.
func (a *Answer) verifyLogs(log, index note.Verifier) (*Verified, Leaf, error) {
	var v Verified
	var leaf Leaf
	var err error
	if v.Index, err = tlog.OpenCheckpoint([]byte(a.IndexCheckpoint), index); err != nil {
		return nil, leaf, fmt.Errorf("index log: %w", err)
	}
	// An older entry of the index log would show an older state of the log.
	if a.Index != v.Index.Size-1 {
		return nil, leaf, fmt.Errorf("index log: got entry %d, want the last of %d", a.Index, v.Index.Size)
	}
	inIndex, err := hashes(a.InIndex)
	if err != nil {
		return nil, leaf, err
	}
	if err := tlog.VerifyInclusion(v.Index, a.Index, tlog.LeafHash(a.Leaf), inIndex); err != nil {
		return nil, leaf, fmt.Errorf("index log: %w", err)
	}
	if leaf, v.Indexed, err = ParseLeaf(a.Leaf, log); err != nil {
		return nil, leaf, err
	}
	v.Root = leaf.Root
	if v.Newest, err = tlog.OpenCheckpoint([]byte(a.Checkpoint), log); err != nil {
		return nil, leaf, err
	}
	extends, err := hashes(a.Extends)
	if err != nil {
		return nil, leaf, err
	}
	return &v, leaf, tlog.VerifyConsistency(v.Indexed, v.Newest, extends)
}

// verifyEntries fails unless the entries are those that the prefix tree has for the question. It
// returns how many entries have the key, on all pages.
func (a *Answer) verifyEntries(q Question, leaf Leaf, indexed tlog.Checkpoint) (total int64, err error) {
	r := prefix.Range{Prefix: q.Prefix(), From: binary.BigEndian.AppendUint64(nil, uint64(q.From))}
	if a.To != nil {
		if *a.To <= q.From || *a.To >= indexed.Size {
			return 0, fmt.Errorf("the next page: got entry %d, want one after %d and before %d", *a.To, q.From, indexed.Size)
		}
		r.To = binary.BigEndian.AppendUint64(nil, uint64(*a.To))
	}
	result, err := prefix.Verify(leaf.Root, r, a.Proof)
	if err != nil {
		return 0, err
	}
	if len(result.Keys) != len(a.Entries) {
		return 0, fmt.Errorf("got %d entries, and the proof shows %d", len(a.Entries), len(result.Keys))
	}
	return result.Total, inParts(len(a.Entries), func(from, to int) (err error) {
		for i := from; i < to && err == nil; i++ {
			err = a.Entries[i].verify(q, result.Keys[i], indexed)
		}
		return err
	})
}

// verify fails unless the log has the entry, and the entry the key at which the prefix tree has it.
func (e Entry) verify(q Question, key []byte, indexed tlog.Checkpoint) error {
	if e.Index < 0 || !bytes.Equal(key, q.At(e.Index)) {
		return fmt.Errorf("got entry %d, and the proof shows another one", e.Index)
	}
	inLog, err := hashes(e.InLog)
	if err != nil {
		return err
	}
	if err := tlog.VerifyInclusion(indexed, e.Index, tlog.LeafHash(e.Body), inLog); err != nil {
		return err
	}
	if !slices.ContainsFunc(KeysOf(e.Body), func(k Key) bool { return bytes.Equal(k.Prefix(), q.Prefix()) }) {
		return fmt.Errorf("entry %d does not have the key that the index gives it", e.Index)
	}
	return nil
}

var errHash = errors.New("a hash of a proof does not have 32 bytes")

func hashes(list [][]byte) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(list))
	for i, h := range list {
		if len(h) != len(out[i]) {
			return nil, errHash
		}
		out[i] = tlog.Hash(h)
	}
	return out, nil
}
