package files

import (
	"errors"
	"io/fs"
	"math"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/tlog"
)

// segments verifies the checkpoints of closed segments: each is there, and the ledger extends it.
func (v *verification) segments(ledger note.Verifier) error {
	each, err := v.segmentSize(ledger)
	if err != nil {
		return err
	}
	closed := v.Checkpoint.Size / each
	for n := range closed + 1 { // one more: the ledger may have been cut back
		path, size := SegmentPath(n), (n+1)*each
		data, err := v.src.File(v.ctx, path)
		if errors.Is(err, fs.ErrNotExist) {
			if n < closed {
				v.found(path, "", "it is missing: the checkpoint of the first %d entries (after a crash, the ledger writes it when it starts)", size)
			}
			continue
		} else if err != nil {
			return err
		}
		v.expected[path] = true
		if err := checkSigned(data, ledger); err != nil {
			v.found(path, "", "%v", err)
			continue
		}
		cp, err := tlog.OpenCheckpoint(data, ledger)
		switch {
		case err != nil:
			return err
		case cp.Size > v.Checkpoint.Size:
			v.found(path, "", "it has %d entries, and the ledger %d", cp.Size, v.Checkpoint.Size)
		case cp.Size != size:
			v.found(path, "", "expected a checkpoint of %d entries, found one of %d", size, cp.Size)
		case !v.damaged && rootOf(v.hashes[:cp.Size]) != cp.Root:
			v.found(path, "", "the ledger does not extend it")
		}
	}
	return nil
}

// segmentSize returns how many entries each segment has: what the checkpoints of the first two say, the
// smaller number if one of them is in the wrong place; SegmentSize if both are missing or damaged.
func (v *verification) segmentSize(ledger note.Verifier) (int64, error) {
	each := int64(math.MaxInt64)
	for n := range int64(2) {
		data, err := v.src.File(v.ctx, SegmentPath(n))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return 0, err
		}
		cp, err := tlog.OpenCheckpoint(data, ledger)
		if err == nil && cp.Size > 0 && cp.Size%((n+1)*tlog.TileWidth) == 0 {
			each = min(each, cp.Size/(n+1))
		}
	}
	if each == math.MaxInt64 {
		return SegmentSize, nil
	}
	return each, nil
}
