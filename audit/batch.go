package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/colophon-build/colophon/internal/strict"
)

// Limits of a batch.
const (
	MaxTogether = 128     // entries; a ledger lets twice as many of one writer wait
	MaxBatch    = 1 << 20 // bytes; many proxies take no more
)

// Batch returns the first of the entries, each as Entry.Marshal returns it, in the form in which they are sent to
// a ledger together, and the others. A batch is lines, in the order in which the ledger adds them:
//
//	entry LF    JSON of an Entry without line feeds, at most MaxRequest bytes
func Batch(entries [][]byte) (batch []byte, rest [][]byte) {
	n, size := 0, 0
	for n < min(len(entries), MaxTogether) && size+len(entries[n])+1 <= MaxBatch {
		size += len(entries[n]) + 1
		n++
	}
	batch = make([]byte, 0, size)
	for _, e := range entries[:n] {
		batch = append(append(batch, e...), '\n')
	}
	return batch, entries[n:]
}

// ReadBatch calls each with the lines of a batch, which it may change later. The error says that what r has is not a batch;
// each was called with the lines before it. It does not parse them: see ParseEntry.
func ReadBatch(r io.Reader, each func(entry []byte)) error {
	lines := bufio.NewReaderSize(io.LimitReader(r, MaxBatch+1), MaxRequest+1)
	for n, size := 0, 0; ; n++ {
		line, err := lines.ReadSlice('\n')
		switch size += len(line); {
		case size > MaxBatch:
			return strict.TooLarge(MaxBatch)
		case err == io.EOF && len(line) == 0 && n > 0:
			return nil
		case err == io.EOF:
			return fmt.Errorf("batch: expected lines that end with a line feed, found %d bytes after %d lines", len(line), n)
		case err == bufio.ErrBufferFull:
			return fmt.Errorf("batch: expected lines of at most %d bytes, found a longer one after %d lines", MaxRequest, n)
		case err != nil:
			return err
		case n == MaxTogether:
			return fmt.Errorf("batch: expected at most %d lines, found more", MaxTogether)
		}
		each(line[:len(line)-1])
	}
}

// Added says where a record is in a ledger.
type Added struct {
	Index int64  `json:"index"`           // of the entry, from 0
	ID    string `json:"id"`              // see ID
	Known bool   `json:"known,omitempty"` // it was there already
}

// Taken is what a ledger says about one entry of a batch: where it is, or why it is not there.
type Taken struct {
	Added
	Status int    `json:"status"`          // that the ledger gives to this entry sent alone: 200 if it has it
	Error  string `json:"error,omitempty"` // one line, at most MaxError bytes and an ellipsis
}

// MaxError is the size limit of the text of an error of a Taken, in bytes.
const MaxError = 1 << 10

// TakenLines returns the answer to a batch: a line for each of its entries, in order.
func TakenLines(all []Taken) []byte {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	for _, t := range all {
		_ = enc.Encode(t) // texts and numbers always marshal
	}
	return out.Bytes()
}

// ParseTaken reads the answer to a batch of n entries. Members that we do not know are for others.
func ParseTaken(data []byte, n int) (all []Taken, err error) {
	lines := bytes.SplitAfter(data, []byte("\n"))
	if len(lines) != n+1 || len(lines[n]) > 0 {
		return nil, fmt.Errorf("answer to a batch: expected %d lines, found %d", n, bytes.Count(data, []byte("\n")))
	}
	for i, line := range lines[:n] {
		var t Taken
		if err := strict.Unmarshal(line, len(line), &t); err != nil {
			return nil, fmt.Errorf("answer to a batch: line %d: %w", i+1, err)
		}
		all = append(all, t)
	}
	return all, nil
}
