package archive

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/search"
)

// The journal says what arrived, in order. It is append-only text, one record a line:
//
//	SUM " " JSON "\n"
//
//	SUM   SHA-256 of JSON, hex
//	JSON  a record, without line breaks
//
// Everything but the content follows from it. A line is fsynced before its evidence is
// acknowledged, and before the next line is written: so what a power cut leaves torn is one line
// at most, the last one, which was never acknowledged.
type journal struct {
	f    *os.File
	size int64 // of the complete lines
	err  error // why nothing can be appended any more
}

// record is one line of the journal.
type record struct {
	api.Kept
	Subjects []string `json:"subjects,omitempty"` // digests, ALGORITHM:HEX, that it is found by
	Of       int64    `json:"of,omitempty"`       // number of an earlier record to which this one adds subjects
	Attached string   `json:"attached,omitempty"` // the subject to which a manifest attached the content
}

// entry returns the record as the log of the archive has it. It is computed from the line alone,
// so that it is the same after every start.
func (r *record) entry() search.Record {
	e := search.Record{
		Number: r.Number, Since: r.Since, Form: string(r.Form), Digest: r.Digest, Size: r.Size, Entry: r.Leaf, Of: r.Of, Attached: r.Attached,
	}
	// Lines of the first releases do not say what the content was attached to.
	if e.Attached == "" && len(r.Subjects) == 1 {
		e.Attached = r.Subjects[0]
	}
	if len(r.Annotations) > 0 {
		text, err := json.Marshal(r.Annotations) // in the order of the names
		if err != nil {
			panic(err) // they are strings
		}
		sum := sha256.Sum256(text)
		e.Annotations = hex.EncodeToString(sum[:])
	}
	return e
}

// maxLine is the limit of a line, in bytes: of a record with the most subjects and
// annotations.
const maxLine = 8 << 20

// maxDigest is the limit of the length of a digest that evidence is found by.
const maxDigest = 256

var subjectForm = lazyregexp.New(`^[A-Za-z0-9]{1,64}:[0-9a-f]{2,}$`)

// openJournal opens the journal, and cuts what a crash left of a line without its end. What it
// left of one with its end, cutTorn finds.
func openJournal(path string) (_ *journal, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	j := &journal{f: f}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	// Search the last line break backwards.
	buf := make([]byte, 64<<10)
	for j.size = end; j.size > 0; {
		from := max(0, j.size-int64(len(buf)))
		n, err := f.ReadAt(buf[:j.size-from], from)
		if err != nil && n < int(j.size-from) {
			return nil, err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			j.size = from + int64(i) + 1
			break
		}
		j.size = from
	}
	if j.size < end {
		if err := f.Truncate(j.size); err != nil {
			return nil, err
		}
	}
	return j, errors.Join(f.Sync(), durable.SyncDir(filepath.Dir(path)))
}

// maxTorn is the limit of what a power cut can leave torn, in bytes: one line.
const maxTorn = 2*sha256.Size + 1 + maxLine + 1

// lineHead is how a line begins. In its JSON there is no such text that parses: quotes in it are
// escaped.
var lineHead = lazyregexp.New(`[0-9a-f]{64} \{`)

var errJournal = errors.New("the journal is damaged, and this is not what a power cut leaves of a line that was not acknowledged: acknowledged evidence is missing; restore it from a backup")

// cutTorn cuts the last line if a power cut kept its end and not all before it, and returns what
// it cut. acked is how much of the journal is known to have been acknowledged. It fails if anything else
// is damaged.
func (j *journal) cutTorn(acked int64) (cut []byte, at int64, err error) {
	if acked > j.size {
		return nil, 0, nil // follow says what that means
	}
	at = acked
	err = j.each(acked, func(_ *record, next int64) error {
		at = next
		return nil
	})
	if !errors.Is(err, errLine) {
		return nil, 0, err
	}
	if j.size-at > maxTorn {
		return nil, 0, fmt.Errorf("%s: at byte %d: %w", j.f.Name(), at, errJournal)
	}
	cut = make([]byte, j.size-at)
	if _, err := j.f.ReadAt(cut, at); err != nil {
		return nil, 0, err
	}
	// The bytes in the gap may be any, also line breaks. But no line came after this one: if there
	// is one, even without the line break before it, then a line that was acknowledged is damaged.
	for _, start := range lineHead.FindAllIndex(cut, -1) {
		line, _, _ := bytes.Cut(cut[start[0]:], []byte("\n"))
		if _, err := parseLine(line); err == nil {
			return nil, 0, fmt.Errorf("%s: at byte %d: %w", j.f.Name(), at, errJournal)
		}
	}
	// What was cut is kept, for people.
	if err := durable.WriteFile(j.f.Name()+".torn", cut, 0o600); err != nil {
		return nil, 0, err
	}
	if err := j.f.Truncate(at); err != nil {
		return nil, 0, err
	}
	j.size = at
	return cut, at, j.f.Sync()
}

// append writes a record durably. If it fails, the journal is as before; if that is not
// certain, nothing can be appended any more until the archive is opened again.
func (j *journal) append(r *record) error {
	if j.err != nil {
		return fmt.Errorf("the journal failed before: %w; restart the platform", j.err)
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if len(text) > maxLine {
		return fmt.Errorf("record: got %d bytes, want at most %d", len(text), maxLine)
	}
	line := fmt.Appendf(nil, "%x %s\n", sha256.Sum256(text), text)
	if _, err := j.f.WriteAt(line, j.size); err != nil {
		if cut := j.f.Truncate(j.size); cut != nil {
			j.err = errors.Join(err, cut)
		}
		return err
	}
	if err := j.f.Sync(); err != nil {
		j.err = err // what is on disk is not known
		return err
	}
	j.size += int64(len(line))
	return nil
}

// each calls use for the records from an offset on; next is the offset after the record. It
// fails for a line that is damaged.
func (j *journal) each(from int64, use func(r *record, next int64) error) error {
	lines := bufio.NewReaderSize(io.NewSectionReader(j.f, from, j.size-from), 64<<10)
	for from < j.size {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return fmt.Errorf("%s: %w", j.f.Name(), err)
		}
		r, err := parseLine(line)
		if err != nil {
			return fmt.Errorf("%s: at byte %d: %w", j.f.Name(), from, err)
		}
		from += int64(len(line))
		if err := use(r, from); err != nil {
			return err
		}
	}
	return nil
}

// scan calls use for each complete line, counted from 1, with what is wrong with it.
func (j *journal) scan(use func(line int64, r *record, err error) error) error {
	lines := bufio.NewReaderSize(io.NewSectionReader(j.f, 0, j.size), 64<<10)
	for n := int64(1); ; n++ {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return nil // the rest is being written
		} else if err != nil {
			return err
		}
		r, err := parseLine(line)
		if err := use(n, r, err); err != nil {
			return err
		}
	}
}

var errLine = errors.New("the line is damaged")

func parseLine(line []byte) (*record, error) {
	sum, text, ok := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
	if !ok || string(sum) != fmt.Sprintf("%x", sha256.Sum256(text)) {
		return nil, errLine
	}
	var r record
	if err := strict.UnmarshalKnown(text, maxLine, &r); err != nil {
		return nil, fmt.Errorf("%w: %w", errLine, err)
	}
	return &r, nil
}

func (j *journal) close() error { return j.f.Close() }
