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

// A frame of the journal, one for each entry. Numbers are big-endian:
//
//	"audt"
//	uint32     bytes of all that follows the CRC
//	uint32     CRC-32C of it
//	int64      received, Unix time in nanoseconds
//	uint32     bytes of the envelope
//	envelope
//	openings   JSON
const (
	frameMagic = "audt"
	frameHead  = 12
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
	n := frameFixed + len(e.leaf.Envelope) + len(openings)
	out := make([]byte, frameHead, frameHead+n)
	out = binary.BigEndian.AppendUint64(out, uint64(e.leaf.Received.UnixNano()))
	out = binary.BigEndian.AppendUint32(out, uint32(len(e.leaf.Envelope)))
	out = append(append(out, e.leaf.Envelope...), openings...)
	copy(out, frameMagic)
	binary.BigEndian.PutUint32(out[4:], uint32(n))
	binary.BigEndian.PutUint32(out[8:], crc32.Checksum(out[frameHead:], castagnoli))
	return out, nil
}

// parseFrame reads the first frame of data, and returns its size.
func parseFrame(data []byte) (e entry, size int, err error) {
	bad := errors.New("no frame")
	if len(data) < frameHead+frameFixed || string(data[:4]) != frameMagic {
		return e, 0, bad
	}
	n := int(binary.BigEndian.Uint32(data[4:]))
	if n < frameFixed || n > maxFrame || len(data) < frameHead+n {
		return e, 0, bad
	}
	body := data[frameHead : frameHead+n]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(data[8:]) {
		return e, 0, bad
	}
	envelope := int(binary.BigEndian.Uint32(body[8:]))
	if envelope > n-frameFixed {
		return e, 0, bad
	}
	e.leaf.Received = time.Unix(0, int64(binary.BigEndian.Uint64(body))).UTC()
	e.leaf.Envelope = bytes.Clone(body[frameFixed : frameFixed+envelope])
	if err := strict.UnmarshalKnown(body[frameFixed+envelope:], records.MaxRequest, &e.openings); err != nil {
		return e, 0, err
	}
	if _, e.record, err = records.ParseEnvelope(e.leaf.Envelope); err != nil {
		return e, 0, err
	}
	return e, frameHead + n, nil
}

// openJournal reads the journal. have is how many entries the tree has for good; read gets each
// entry after them, in order. If an entry is missing between, it fails.
func openJournal(dir string, have int64, read func(index int64, e entry)) (_ *journal, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
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
// goes. A frame after it means that the file is damaged.
func (j *journal) replay(first int64, last bool, read func(int64, entry)) error {
	path := filepath.Join(j.dir, name(first))
	data, err := strict.ReadFile(path, maxFile+maxBatch*maxFrame)
	if err != nil {
		return err
	}
	j.next = first
	rest := data
	for len(rest) > 0 {
		e, n, err := parseFrame(rest)
		if err != nil {
			break
		}
		read(j.next, e)
		j.next++
		rest = rest[n:]
	}
	if len(rest) == 0 {
		return nil
	}
	good := len(data) - len(rest)
	if !last || anotherFrame(rest) {
		return fmt.Errorf("journal %s is damaged at byte %d, in entry %d; restore it from a backup", path, good, j.next)
	}
	return os.Truncate(path, int64(good))
}

// anotherFrame reports whether a whole frame is in data after its first byte.
func anotherFrame(data []byte) bool {
	for at := 1; at < len(data); {
		i := bytes.Index(data[at:], []byte(frameMagic))
		if i < 0 {
			return false
		}
		at += i
		if _, _, err := parseFrame(data[at:]); err == nil {
			return true
		}
		at++
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
func (j *journal) append(batch []entry) error {
	if j.stuck != nil {
		return j.stuck
	}
	if j.good > maxFile {
		if err := j.begin(); err != nil {
			return err
		}
	}
	var data []byte
	for _, e := range batch {
		f, err := frame(e)
		if err != nil {
			return err
		}
		data = append(data, f...)
	}
	_, err := j.file.WriteAt(data, j.good)
	if err == nil {
		// After a failed fsync, nobody knows what is on the disk, and the next one may succeed.
		if err = datasync(j.file); err != nil {
			j.stuck = fmt.Errorf("the journal could not be written to the disk, and takes nothing until the next start: %w", err)
			return j.stuck
		}
		j.good += int64(len(data))
		j.next += int64(len(batch))
		return nil
	}
	if back := j.file.Truncate(j.good); back != nil {
		j.stuck = fmt.Errorf("the journal takes nothing until the next start: %w", errors.Join(err, back))
	}
	return err
}

// dropJournal removes the files whose entries are all before size. It needs no journal.
func dropJournal(dir string, size int64) error {
	names, err := journalFiles(dir)
	if err != nil {
		return err
	}
	for i := 0; i+1 < len(names) && names[i+1] <= size; i++ {
		if err := os.Remove(filepath.Join(dir, name(names[i]))); err != nil {
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
