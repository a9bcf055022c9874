package audit

import (
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/tlog"
)

// Limits of an answer.
const (
	MaxPage   = 1000     // records
	MaxAnswer = 96 << 20 // bytes of its JSON
)

// Answer is what a ledger answers to a question. Each record of it is proven. Nothing proves that the
// ledger left none out: who must know reads all entries (package audit/files).
type Answer struct {
	Checkpoint string  `json:"checkpoint"` // signed note: the proofs are under it
	Records    []Found `json:"records"`    // newest first
	More       bool    `json:"more"`       // there are older ones: ask again, before the last one
}

// Found is one record of an answer.
type Found struct {
	Index    int64       `json:"index"` // of the entry, from 0
	Leaf     []byte      `json:"leaf"`  // see ParseLeaf
	Openings []Opening   `json:"openings,omitempty"`
	Proof    []tlog.Hash `json:"proof"` // that the tree has the entry at the index; base64
}

// Proven is a record of which it was verified that a ledger has it.
type Proven struct {
	Index  int64
	Leaf   Leaf
	Record *Record // with the values that the openings show
}

// Verify returns the records of an answer to the filter. It fails unless the ledger's key signed the
// checkpoint, the tree under it has each record, each is one that the filter asks for, and they are
// in order. It does not verify the signatures of the records: the ledger did.
func (a *Answer) Verify(f Filter, ledger note.Verifier) (proven []Proven, cp tlog.Checkpoint, err error) {
	if cp, err = tlog.OpenCheckpoint([]byte(a.Checkpoint), ledger); err != nil {
		return nil, cp, err
	}
	if len(a.Records) > MaxPage {
		return nil, cp, fmt.Errorf("audit answer: expected at most %d records, found %d", MaxPage, len(a.Records))
	}
	for i, found := range a.Records {
		p, err := found.verify(cp)
		if err == nil && !f.Match(p.Record) {
			err = errors.New("it answers another question")
		}
		if err == nil && i > 0 && found.Index >= a.Records[i-1].Index {
			err = fmt.Errorf("it comes after entry %d", a.Records[i-1].Index)
		}
		if err != nil {
			return nil, cp, fmt.Errorf("audit answer: entry %d: %w", found.Index, err)
		}
		proven = append(proven, *p)
	}
	return proven, cp, nil
}

func (found *Found) verify(cp tlog.Checkpoint) (*Proven, error) {
	leaf, _, r, err := ParseLeaf(found.Leaf)
	if err != nil {
		return nil, err
	}
	if err := tlog.VerifyInclusion(cp, found.Index, tlog.LeafHash(found.Leaf), found.Proof); err != nil {
		return nil, err
	}
	if r, err = r.Open(found.Openings); err != nil {
		return nil, err
	}
	return &Proven{found.Index, leaf, r}, nil
}
