// Package witness speaks the protocol of witnesses of transparency logs
// (c2sp.org/tlog-witness): a log sends a checkpoint and the proof that it extends the last one
// that the witness has seen, and gets a cosignature.
//
// Client is the log's side, Request what both sides read and write.
package witness

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/colophon-build/colophon/tlog"
)

const (
	// PathAdd is the path of the call add-checkpoint, below a witness's submission prefix.
	PathAdd = "/add-checkpoint"
	// SizeType is the media type of the body of a 409: the size of the tree that the witness
	// has seen last, in decimal, and a newline.
	SizeType = "text/x.tlog.size"
	// MaxRequest is the size limit of a Request, in bytes.
	MaxRequest = tlog.MaxCheckpoint + 4<<10
)

// Request is the body of the call add-checkpoint.
type Request struct {
	Old        int64       // size of the tree that the witness has seen last, as the log knows it; 0: none
	Proof      []tlog.Hash // that the tree of Checkpoint extends that tree; at most 63 hashes
	Checkpoint []byte      // signed by the log
}

// The body of a request; every line ends with a newline:
//
//	"old" size       decimal
//	base64 ...       at most 63 hashes of 32 bytes
//	                 an empty line
//	checkpoint

// Marshal returns the body.
func (r Request) Marshal() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "old %d\n", r.Old)
	for _, h := range r.Proof {
		b.WriteString(h.String() + "\n")
	}
	b.WriteString("\n")
	b.Write(r.Checkpoint)
	return b.Bytes()
}

// ParseRequest reads the body. It accepts exactly what Marshal writes, and verifies nothing.
func ParseRequest(body []byte) (r Request, err error) {
	if len(body) > MaxRequest {
		return r, fmt.Errorf("request: got %d bytes, want at most %d", len(body), MaxRequest)
	}
	head, checkpoint, ok := strings.Cut(string(body), "\n\n")
	lines := strings.Split(head, "\n")
	old, isOld := strings.CutPrefix(lines[0], "old ")
	if !ok || !isOld {
		return r, errors.New("request: want a line \"old SIZE\", an empty line and a checkpoint")
	}
	r.Old, err = strconv.ParseInt(old, 10, 64)
	if err != nil || r.Old < 0 || strconv.FormatInt(r.Old, 10) != old {
		return r, fmt.Errorf("request: old size: got %q, want a decimal number", old)
	}
	if r.Proof, err = tlog.ParseHashes(lines[1:]); err != nil {
		return r, fmt.Errorf("request: %w", err)
	}
	r.Checkpoint = []byte(checkpoint)
	return r, nil
}
