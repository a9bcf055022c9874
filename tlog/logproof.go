package tlog

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Limits on a LogProof.
const (
	maxProofHashes = 63      // of a log of MaxSize entries there are less
	maxProofExtra  = 4 << 10 // bytes
	// MaxLogProof is the size limit of the text of a LogProof, in bytes.
	MaxLogProof = MaxCheckpoint + 8<<10 + maxProofExtra/3*4
)

// LogProof proves, without a network, that an entry is in a log, and that witnesses saw the log
// (c2sp.org/tlog-proof).
type LogProof struct {
	Index      int64  // of the entry, from 0
	Hashes     []Hash // inclusion proof
	Checkpoint []byte // signed, perhaps with cosignatures
	Extra      []byte // nothing authenticates it; at most 4 KiB; nil if there is none
}

const logProofHeader = "c2sp.org/tlog-proof@v1"

// The text of a proof; every line ends with a newline:
//
//	"c2sp.org/tlog-proof@v1"
//	"extra" base64            this line may be missing
//	"index" decimal
//	base64 ...                at most 63 hashes of 32 bytes
//	                          an empty line
//	checkpoint

// Marshal returns the text of the proof.
func (p LogProof) Marshal() []byte {
	var b strings.Builder
	b.WriteString(logProofHeader + "\n")
	if p.Extra != nil {
		b.WriteString("extra " + base64.StdEncoding.EncodeToString(p.Extra) + "\n")
	}
	fmt.Fprintf(&b, "index %d\n", p.Index)
	for _, h := range p.Hashes {
		b.WriteString(h.String() + "\n")
	}
	b.WriteString("\n")
	b.Write(p.Checkpoint)
	return []byte(b.String())
}

// ParseLogProof reads the text of a proof. It accepts exactly what Marshal writes. It verifies
// nothing: see Verify.
func ParseLogProof(text []byte) (p LogProof, err error) {
	if len(text) > MaxLogProof {
		return p, fmt.Errorf("log proof: got %d bytes, want at most %d", len(text), MaxLogProof)
	}
	head, checkpoint, ok := strings.Cut(string(text), "\n\n")
	lines := strings.Split(head, "\n")
	if !ok || len(lines) < 2 || lines[0] != logProofHeader {
		return p, fmt.Errorf("log proof: want the line %q, an index, an empty line and a checkpoint", logProofHeader)
	}
	p.Checkpoint, lines = []byte(checkpoint), lines[1:]
	if extra, ok := strings.CutPrefix(lines[0], "extra "); ok {
		if p.Extra, err = base64.StdEncoding.Strict().DecodeString(extra); err != nil || len(p.Extra) > maxProofExtra || len(lines) < 2 {
			return p, fmt.Errorf("log proof: extra: want the base64 of at most %d bytes, and an index after it", maxProofExtra)
		}
		lines = lines[1:]
	}
	index, ok := strings.CutPrefix(lines[0], "index ")
	p.Index, err = strconv.ParseInt(index, 10, 64)
	if !ok || err != nil || p.Index < 0 || strconv.FormatInt(p.Index, 10) != index {
		return p, fmt.Errorf("log proof: got %q, want an index", lines[0])
	}
	p.Hashes, err = ParseHashes(lines[1:])
	if err != nil {
		return p, fmt.Errorf("log proof: %w", err)
	}
	if string(p.Marshal()) != string(text) {
		return p, errors.New("log proof: the text is not the only one for this proof")
	}
	return p, nil
}

// ParseHashes reads the hashes of a proof, each the base64 of 32 bytes. There are at most 63.
func ParseHashes(lines []string) ([]Hash, error) {
	if len(lines) > maxProofHashes {
		return nil, fmt.Errorf("proof: got %d hashes, want at most %d", len(lines), maxProofHashes)
	}
	var hashes []Hash
	for _, line := range lines {
		raw, err := base64.StdEncoding.Strict().DecodeString(line)
		if err != nil || len(raw) != len(Hash{}) || Hash(raw).String() != line {
			return nil, fmt.Errorf("proof: got %q, want the base64 of %d bytes", line, len(Hash{}))
		}
		hashes = append(hashes, Hash(raw))
	}
	return hashes, nil
}

// Verify verifies that the log signed the checkpoint, and that the entry with this leaf hash is
// in its tree. For the witnesses, see Cosignatures of the proof's Checkpoint.
func (p LogProof) Verify(leaf Hash, log note.Verifier) (Checkpoint, error) {
	cp, err := OpenCheckpoint(p.Checkpoint, log)
	if err != nil {
		return Checkpoint{}, err
	}
	return cp, VerifyInclusion(cp, p.Index, leaf, p.Hashes)
}
