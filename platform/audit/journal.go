package audit

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/strict"

	records "github.com/colophon-build/colophon/audit"
)

// entry is an entry of the ledger.
type entry struct {
	leaf     records.Leaf
	openings []records.Opening
	record   *records.Record // in leaf, not opened
	id       string          // of leaf
}

// bytes returns the size of what a sender chose: the envelope and the openings.
func (e entry) bytes() (n int64) {
	n = int64(len(e.leaf.Envelope))
	for _, o := range e.openings {
		n += int64(len(o.Field) + len(o.Salt) + len(o.Value))
	}
	return n
}

func bytesOf(entries []entry) (n int64) {
	for _, e := range entries {
		n += e.bytes()
	}
	return n
}

// journal has the newest entries of the ledger, in order: an entry is acknowledged when it is here,
// fsynced. The tree follows. Files are named by the index of their first entry. One goroutine uses it.
type journal struct {
	dir   string
	file  *os.File
	next  int64 // index of the next entry
	good  int64 // bytes of file that are acknowledged
	stuck error // nothing can be appended: what is on the disk is not known
}

// The journal is a sequence of batches: entries that were written and fsynced together, and are
// acknowledged together. A power cut can leave any part of the last batch. Numbers are big-endian:
//
//	"audb"
//	uint32     bytes of all that follows the CRC
//	uint32     CRC-32C of it
//	frames     one for each entry
//
// A frame:
//
//	"audt"
//	uint32     bytes of all that follows the CRC
//	uint32     CRC-32C of it
//	int64      received, Unix time in nanoseconds
//	uint32     bytes of the envelope
//	envelope
//	openings   JSON
const (
	batchMagic = "audb"
	frameMagic = "audt"
	frameHead  = 12 // of a frame or a batch
	frameFixed = 12
)

const (
	maxFrame = frameHead + frameFixed + records.MaxRequest
	maxFile  = 64 << 20 // bytes of a file of the journal, after which the next one begins
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func frame(e entry) ([]byte, error) {
	openings, err := json.Marshal(e.openings)
	if err != nil {
		return nil, err
	}
	out := make([]byte, frameHead, frameHead+frameFixed+len(e.leaf.Envelope)+len(openings))
	out = binary.BigEndian.AppendUint64(out, uint64(e.leaf.Received.UnixNano()))
	out = binary.BigEndian.AppendUint32(out, uint32(len(e.leaf.Envelope)))
	out = append(append(out, e.leaf.Envelope...), openings...)
	sealHead(out, frameMagic)
	return out, nil
}

// batch returns the bytes of entries that are written together.
func batch(entries []entry) ([]byte, error) {
	out := make([]byte, frameHead)
	for _, e := range entries {
		f, err := frame(e)
		if err != nil {
			return nil, err
		}
		out = append(out, f...)
	}
	sealHead(out, batchMagic)
	return out, nil
}

// sealHead writes the head of a frame or a batch, whose body follows it in out.
func sealHead(out []byte, magic string) {
	copy(out, magic)
	binary.BigEndian.PutUint32(out[4:], uint32(len(out)-frameHead))
	binary.BigEndian.PutUint32(out[8:], crc32.Checksum(out[frameHead:], castagnoli))
}

// errTorn matches the errors about what is not a whole batch or frame.
var errTorn = errors.New("no frame")

// sealed returns the body of the frame or batch at the begin of data.
func sealed(data []byte, magic string, limit int) ([]byte, error) {
	if len(data) < frameHead || string(data[:4]) != magic {
		return nil, errTorn
	}
	n := int(binary.BigEndian.Uint32(data[4:]))
	if n > limit || len(data)-frameHead < n {
		return nil, errTorn
	}
	body := data[frameHead : frameHead+n]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(data[8:]) {
		return nil, errTorn
	}
	return body, nil
}

// parseBatch reads the first batch of data, and returns its size. The first versions wrote frames
// without batches: each is one of its own. If the error does not match errTorn, the batch is whole, and
// has what this version cannot read.
func parseBatch(data []byte) (entries []entry, size int, err error) {
	if e, n, err := parseFrame(data); !errors.Is(err, errTorn) {
		return []entry{e}, n, err
	}
	body, err := sealed(data, batchMagic, maxBatch*maxFrame)
	if err != nil {
		return nil, 0, err
	}
	for rest := body; len(rest) > 0; {
		e, n, err := parseFrame(rest)
		if err != nil {
			return nil, 0, fmt.Errorf("a batch has what cannot be read: %v", err) // not errTorn
		}
		entries, rest = append(entries, e), rest[n:]
	}
	return entries, frameHead + len(body), nil
}

// parseFrame reads the first frame of data, and returns its size.
func parseFrame(data []byte) (e entry, size int, err error) {
	body, err := sealed(data, frameMagic, maxFrame)
	if err != nil {
		return e, 0, err
	}
	n := len(body)
	if n < frameFixed || int(binary.BigEndian.Uint32(body[8:])) > n-frameFixed {
		return e, 0, errors.New("the frame is shorter than its envelope")
	}
	envelope := int(binary.BigEndian.Uint32(body[8:]))
	e.leaf.Received = time.Unix(0, int64(binary.BigEndian.Uint64(body))).UTC()
	e.leaf.Envelope = bytes.Clone(body[frameFixed : frameFixed+envelope])
	if err := strict.UnmarshalKnown(body[frameFixed+envelope:], records.MaxRequest, &e.openings); err != nil {
		return e, 0, err
	}
	if _, e.record, err = records.ParseEnvelope(e.leaf.Envelope); err != nil {
		return e, 0, err
	}
	e.id = e.leaf.ID()
	return e, frameHead + n, nil
}

// openJournal reads the journal. have is how many entries the tree has for good; read gets each
// entry after them, in order. If an entry is missing between, it fails.
func openJournal(dir string, have int64, read func(index int64, e entry)) (_ *journal, err error) {
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	names, err := journalFiles(dir)
	if err != nil {
		return nil, err
	}
	j := &journal{dir: dir, next: have}
	for i, first := range names {
		if i == 0 && first > have || i > 0 && first != j.next {
			return nil, fmt.Errorf("journal %s: entries from %d on are missing: the next file begins with entry %d; restore it from a backup", dir, j.next, first)
		}
		if err := j.replay(first, i == len(names)-1, func(index int64, e entry) {
			if index >= have {
				read(index, e)
			}
		}); err != nil {
			return nil, err
		}
	}
	if j.next < have {
		return nil, fmt.Errorf("journal %s: it ends with entry %d, and the tree has %d entries; restore it from a backup", dir, j.next, have)
	}
	return j, j.begin()
}

// journalFiles returns the indexes that the files of the journal begin with.
func journalFiles(dir string) (first []int64, err error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if strings.HasPrefix(f.Name(), ".") {
			continue
		}
		n, err := strconv.ParseInt(f.Name(), 10, 64)
		if err != nil || name(n) != f.Name() {
			return nil, fmt.Errorf("journal %s: %q is not one of its files", dir, f.Name())
		}
		first = append(first, n)
	}
	slices.Sort(first)
	return first, nil
}

func name(first int64) string { return fmt.Sprintf("%016d", first) }

// replay reads one file. What a crash left at the end of the last one was never acknowledged, and
// goes. A batch after it means that the file is damaged.
func (j *journal) replay(first int64, last bool, read func(int64, entry)) error {
	path := filepath.Join(j.dir, name(first))
	data, err := strict.ReadFile(path, maxFile+frameHead+maxBatch*maxFrame)
	if err != nil {
		return err
	}
	j.next = first
	rest := data
	for len(rest) > 0 {
		entries, n, err := parseBatch(rest)
		if errors.Is(err, errTorn) {
			break
		} else if err != nil {
			return fmt.Errorf("journal %s, from byte %d, entry %d: %w; a newer version of colophond may have written it", path, len(data)-len(rest), j.next, err)
		}
		for _, e := range entries {
			read(j.next, e)
			j.next++
		}
		rest = rest[n:]
	}
	if len(rest) == 0 {
		return nil
	}
	good := len(data) - len(rest)
	magic := batchMagic
	if string(data[:min(len(data), len(frameMagic))]) == frameMagic { // of the first versions
		magic = frameMagic
	}
	if !last || another(rest, magic) {
		return fmt.Errorf("journal %s is damaged at byte %d, in entry %d; restore it from a backup", path, good, j.next)
	}
	return os.Truncate(path, int64(good))
}

// another reports whether a whole batch, or a whole frame, is in data after its first byte. The frames
// of a torn batch do not count: a disk writes the parts of a batch in any order.
func another(data []byte, magic string) bool {
	for at := 1; at < len(data); at++ {
		i := bytes.Index(data[at:], []byte(magic))
		if i < 0 {
			return false
		}
		at += i
		if _, err := sealed(data[at:], magic, maxBatch*maxFrame); err == nil {
			return true
		}
	}
	return false
}

// begin opens the file in which the next entry goes.
func (j *journal) begin() error {
	path := filepath.Join(j.dir, name(j.next))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), durable.SyncDir(j.dir)); err != nil {
		return errors.Join(err, f.Close(), os.Remove(path))
	}
	if j.file != nil {
		j.file.Close()
	}
	j.file, j.good = f, 0
	return nil
}

// append adds entries, and returns when they are on the disk. If it fails, none of them is.
func (j *journal) append(entries []entry) error {
	if j.stuck != nil {
		return j.stuck
	}
	if j.good > maxFile {
		if err := j.begin(); err != nil {
			return err
		}
	}
	data, err := batch(entries)
	if err != nil {
		return err
	}
	if _, err = j.file.WriteAt(data, j.good); err == nil {
		// After a failed fsync, nobody knows what is on the disk, and the next one may succeed.
		if err = datasync(j.file); err != nil {
			j.stuck = fmt.Errorf("the journal could not be written to the disk, and takes nothing until the next start: %w", err)
			return j.stuck
		}
		j.good += int64(len(data))
		j.next += int64(len(entries))
		return nil
	}
	if back := j.file.Truncate(j.good); back != nil {
		j.stuck = fmt.Errorf("the journal takes nothing until the next start: %w", errors.Join(err, back))
	}
	return err
}

// dropJournal removes the files whose entries are all before size. It needs no journal. The oldest goes
// first, for good, so that a power cut leaves no gap; and what was erased does not come back with a file.
func dropJournal(dir string, size int64) error {
	names, err := journalFiles(dir)
	if err != nil {
		return err
	}
	for i := 0; i+1 < len(names) && names[i+1] <= size; i++ {
		if err := errors.Join(os.Remove(filepath.Join(dir, name(names[i]))), durable.SyncDir(dir)); err != nil {
			return err
		}
	}
	return nil
}

func (j *journal) close() error {
	if j.file == nil {
		return nil
	}
	return j.file.Close()
}
