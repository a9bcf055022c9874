package search

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/tlog/prefix"
)

// ArchiveQuestion asks for the records of an archive with a key (spec/archive/v1).
type ArchiveQuestion struct {
	Kind   Kind
	Value  string
	Prefix bool   // all values that begin with Value, which has at most 400 bytes
	From   []byte // where a page starts: ArchiveAnswer.Next of the page before; nil: the first page
}

// maxFrom is the limit of ArchiveQuestion.From, in bytes: no key is longer.
const maxFrom = prefix.MaxKey

// span returns the range of the map that the question is about.
func (q ArchiveQuestion) span() (prefix.Range, error) {
	if len(q.From) > maxFrom {
		return prefix.Range{}, fmt.Errorf("from: got %d bytes, want at most %d", len(q.From), maxFrom)
	}
	if !q.Prefix {
		return prefix.Range{Prefix: ArchiveKey(q.Kind, q.Value).Prefix(), From: q.From}, nil
	}
	if len(q.Value) > maxExact || strings.Contains(q.Value, "\x00") {
		return prefix.Range{}, fmt.Errorf("the beginning of a value: got %d bytes, want at most %d, and no zero byte", len(q.Value), maxExact)
	}
	return prefix.Range{Prefix: []byte(string(q.Kind) + "\x00" + q.Value), From: q.From}, nil
}

// match reads a key of the map that is in the range of the question.
func (q ArchiveQuestion) match(key []byte) (m Match, err error) {
	value, index, ok := bytes.Cut(key[len(q.Kind)+1:], []byte{0})
	if m = (Match{string(value), 0}); !ok || len(index) != 8 {
		return m, errors.New("the map has a key that no record can have")
	}
	m.Index = int64(binary.BigEndian.Uint64(index))
	if m.Index < 0 {
		return m, errors.New("the map has a key that no record can have")
	}
	return m, nil
}

// Place returns the question's From for a page that starts with this match.
func (q ArchiveQuestion) Place(m Match) []byte {
	key := Key{q.Kind, m.Value}.At(m.Index)
	r, err := q.span()
	if err != nil || len(key) < len(r.Prefix) {
		return nil
	}
	return key[len(r.Prefix):]
}

// Match is a record that has a value.
type Match struct {
	Value string // as the map has it: see ArchiveKey
	Index int64  // of the record's entry in the archive's log
}

// ArchiveAnswer is what a platform answers: records that have the key, at most MaxPage matches, and
// the proof that there are no others on this page. The embedded Entries are the records, each
// once. It proves nothing before Verify, and what the records' content says only CheckContent
// compares.
type ArchiveAnswer struct {
	Next []byte `json:"next,omitempty"` // where the next page starts; missing: this is the last one
	Answer
}

// ArchiveVerified is what an answer proves: the map has these matches, and no others on the page.
type ArchiveVerified struct {
	Matches []Match // by value, then by index
	Records map[int64]Record
	Next    []byte // nil: this is the last page
	Total   int64  // matches on all pages
	Root    tlog.Hash
	Index   tlog.Checkpoint // of the index log
	Indexed tlog.Checkpoint // of the archive's log: the map has the records under it
	Newest  tlog.Checkpoint // of the archive's log: records from Indexed.Size on are not in the map yet

	Checkpoint, IndexCheckpoint string // signed notes of Newest and Index, which witnesses may have cosigned
}

// ParseArchiveAnswer reads an answer.
func ParseArchiveAnswer(data []byte) (*ArchiveAnswer, error) {
	var a ArchiveAnswer
	if err := strict.UnmarshalKnown(data, MaxAnswer, &a); err != nil {
		return nil, fmt.Errorf("answer: %w", err)
	}
	return &a, nil
}

// Verify fails unless the answer proves which records have the key in the map. log verifies
// checkpoints of the archive's log, index those of its index log.
func (a *ArchiveAnswer) Verify(q ArchiveQuestion, log, index note.Verifier) (*ArchiveVerified, error) {
	r, err := q.span()
	if err != nil {
		return nil, fmt.Errorf("question: %w", err)
	}
	v, leaf, err := a.verifyLogs(log, index)
	if err != nil {
		return nil, err
	}
	if a.To != nil {
		return nil, errors.New("got the number of an entry for the next page, want bytes")
	}
	if a.Next != nil {
		if bytes.Compare(a.Next, q.From) <= 0 || len(a.Next) > maxFrom {
			return nil, errors.New("the next page does not come after this one")
		}
		r.To = a.Next
	}
	result, err := prefix.Verify(leaf.Root, r, a.Proof)
	if err != nil {
		return nil, err
	}
	out := &ArchiveVerified{Records: map[int64]Record{}, Next: a.Next, Total: result.Total, Root: v.Root, Index: v.Index, Indexed: v.Indexed, Newest: v.Newest, Checkpoint: a.Checkpoint, IndexCheckpoint: a.IndexCheckpoint}
	for _, e := range a.Entries {
		inLog, err := hashes(e.InLog)
		if err != nil {
			return nil, err
		}
		if err := tlog.VerifyInclusion(v.Indexed, e.Index, tlog.LeafHash(e.Body), inLog); err != nil {
			return nil, err
		}
		record, err := ParseRecord(e.Body)
		if err != nil {
			return nil, err
		}
		if record.Number != e.Index+1 {
			return nil, fmt.Errorf("entry %d of the archive's log has the number %d", e.Index, record.Number)
		}
		out.Records[e.Index] = record
	}
	used := map[int64]bool{}
	for _, key := range result.Keys {
		m, err := q.match(key)
		if err != nil {
			return nil, err
		}
		if _, ok := out.Records[m.Index]; !ok {
			return nil, fmt.Errorf("the proof shows entry %d, and the answer does not have it", m.Index)
		}
		used[m.Index] = true
		out.Matches = append(out.Matches, m)
	}
	if len(used) != len(a.Entries) {
		return nil, fmt.Errorf("got %d records, and the proof shows %d", len(a.Entries), len(used))
	}
	return out, nil
}

// CheckContent fails unless content is that of the record, and gives it the value that the map
// gives it. content is not looked at if the record adds to an earlier one.
func CheckContent(r Record, kind Kind, value string, content []byte) error {
	if r.Of == 0 {
		if sum := hashName(content); sum != r.Digest {
			return fmt.Errorf("record %d: got content with the digest %s, want %s", r.Number, sum, r.Digest)
		}
	}
	if !slices.Contains(ArchiveKeys(r, content), Key{kind, value}) {
		return fmt.Errorf("record %d does not have the key that the map gives it: %s %q", r.Number, kind, value)
	}
	return nil
}

// AnswerArchive answers a question with at most limit matches: see Answer.
func (s *State) AnswerArchive(ctx context.Context, q ArchiveQuestion, limit int, log, index tlog.Source, newest tlog.Checkpoint, signed []byte) (*ArchiveAnswer, error) {
	if limit < 1 || limit > MaxPage {
		return nil, fmt.Errorf("limit: got %d, want 1 to %d", limit, MaxPage)
	}
	r, err := q.span()
	if err != nil {
		return nil, err
	}
	keys, to, err := s.Map.Page(r, limit)
	if err != nil {
		return nil, err
	}
	frame, err := s.frame(ctx, log, index, newest, signed)
	if err != nil {
		return nil, err
	}
	a := &ArchiveAnswer{Next: to, Answer: *frame}
	r.To = to
	if err := s.prove(&a.Answer, r); err != nil {
		return nil, err
	}
	seen, indices := map[int64]bool{}, []int64{}
	for _, key := range keys {
		m, err := q.match(key)
		if err != nil {
			return nil, err
		}
		if seen[m.Index] {
			continue
		}
		seen[m.Index] = true
		indices = append(indices, m.Index)
	}
	a.Entries, err = s.entries(ctx, log, indices)
	return a, err
}

// ArchiveMap computes the map of an archive. Content returns content by its digest; an error of it
// is returned. Dir is a directory for a file: keys that wait to be written are there
// and not in memory. The file is removed at once.
type ArchiveMap struct {
	Content func(ctx context.Context, r Record) ([]byte, error)
	Dir     string

	waiting int // keys that are in memory
}

// Keys in memory, at most about: of one insertion, and before they are written to a file.
const (
	insertKeys = 50_000
	spillKeys  = 1_000_000
)

// Extend returns the map with the keys of these entries too; the first is the entry at index
// from of the archive's log.
func (a *ArchiveMap) Extend(ctx context.Context, m prefix.Map, from int64, entries [][]byte) (prefix.Map, error) {
	var keys [][]byte
	flush := func() (err error) {
		if a.waiting += len(keys); len(keys) > 0 {
			m, err = m.Insert(keys)
			keys = nil
		}
		if err == nil && a.waiting > spillKeys {
			m, err = a.spill(m)
			a.waiting = 0
		}
		return err
	}
	for i, entry := range entries {
		r, err := ParseRecord(entry)
		if err == nil && r.Number != from+int64(i)+1 {
			err = fmt.Errorf("entry %d of the archive's log has the number %d", from+int64(i), r.Number)
		}
		if err != nil {
			return m, fmt.Errorf("%w: %w", ErrContradiction, err)
		}
		var content []byte
		if r.Of == 0 {
			if content, err = a.Content(ctx, r); err != nil {
				return m, fmt.Errorf("record %d: %w", r.Number, err)
			}
			if sum := sha256.Sum256(content); hashName(content) != r.Digest {
				return m, fmt.Errorf("record %d: got content with the digest sha256:%x, want %s", r.Number, sum, r.Digest)
			}
		}
		for _, key := range ArchiveKeys(r, content) {
			keys = append(keys, key.At(from+int64(i)))
		}
		if len(keys) > insertKeys {
			if err := flush(); err != nil {
				return m, err
			}
		}
	}
	return m, flush()
}

// spill returns the map with its keys in a file without a name.
func (a *ArchiveMap) spill(m prefix.Map) (prefix.Map, error) {
	path := filepath.Join(a.Dir, ".map.tmp-spill")
	if err := m.Write(path, nil); err != nil {
		return m, err
	}
	root := m.Root()
	m, _, err := prefix.Open(path)
	if err == nil && m.Root() != root {
		err = fmt.Errorf("%s: the map was not written as it was", path)
	}
	return m, errors.Join(err, os.Remove(path))
}

// AuditArchive is Audit for the log of an archive: it reads all records and their content, computes
// the map again, and compares the root in every entry of the index log.
func AuditArchive(ctx context.Context, log tlog.Source, logKey note.Verifier, index tlog.Source, indexKey note.Verifier, m *ArchiveMap, done func(entries, of int64)) (*Audited, error) {
	a := auditor{log: log, logKey: logKey, done: done, extend: m.Extend}
	return a.audit(ctx, index, indexKey)
}
