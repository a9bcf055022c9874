package distrust

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// Version is the value of Head.Version.
const Version = "https://github.com/colophon-build/colophon/tree/main/spec/distrust/v1"

const (
	// MaxLife is the longest time for which a head counts.
	MaxLife = 30 * 24 * time.Hour
	// MaxSkew is how far the issuer's clock may be ahead of the reader's.
	MaxSkew = 5 * time.Minute
)

// Head is what the issuer of a list signs: the list as it is at one time.
type Head struct {
	Version string    `json:"version"`
	List    string    `json:"list"`    // name of the list, a URI that its issuer chose; never changes
	Entries int       `json:"entries"` // how many the list has
	Chain   string    `json:"chain"`   // sha256:HEX over all entries and their order: see List.ChainAt
	Issued  time.Time `json:"issued"`  // UTC
	Expires time.Time `json:"expires"` // UTC; from then on the head counts no more
}

// ParseHead reads a head strictly.
func ParseHead(raw []byte) (*Head, error) {
	var h Head
	if err := strict.UnmarshalKnown(raw, maxHead, &h); err != nil {
		return nil, fmt.Errorf("head: %w", err)
	}
	return &h, h.check()
}

func (h *Head) check() error {
	switch {
	case h.Version != Version:
		return fmt.Errorf("head: version: got %q, want %q", h.Version, Version)
	case text("list", h.List, true) != nil:
		return errors.New("head: list: want one line of printable characters")
	case h.Entries < 0 || h.Entries > MaxEntries:
		return fmt.Errorf("head: entries: got %d, want at most %d", h.Entries, MaxEntries)
	case !digestForm.MatchString(h.Chain):
		return fmt.Errorf("head: chain: got %q, want sha256:HEX", h.Chain)
	case checkTime("issued", h.Issued) != nil || checkTime("expires", h.Expires) != nil:
		return errors.New("head: issued and expires: want times in UTC, in whole seconds")
	case !h.Issued.Before(h.Expires) || h.Expires.Sub(h.Issued) > MaxLife:
		return fmt.Errorf("head: got %s to %s, want more than nothing and at most %s", h.Issued.Format(time.RFC3339), h.Expires.Format(time.RFC3339), MaxLife)
	}
	return nil
}

// FromFuture returns an error if the head was issued more than five minutes after now.
func (h *Head) FromFuture(now time.Time) error {
	if ahead := h.Issued.Sub(now); ahead > MaxSkew {
		return fmt.Errorf("it was issued at %s, which is %s ahead of this clock", h.Issued.Format(time.RFC3339), ahead.Round(time.Second))
	}
	return nil
}

// Counts returns an error unless the head counts at the time now.
func (h *Head) Counts(now time.Time) error {
	if err := h.FromFuture(now); err != nil {
		return err
	}
	if !now.Before(h.Expires) {
		return fmt.Errorf("it expired at %s", h.Expires.Format(time.RFC3339))
	}
	return nil
}

// List is a list that Parse accepted. It never changes, so that it is safe for concurrent use.
type List struct {
	Head

	head, signature []byte // lines of the file
	entries         []*Entry
	chains          [][sha256.Size]byte // before each entry, and after the last one
	lifted          map[int]int         // by the number of an entry: the entry that lifts it
	index           map[fact][]int      // numbers of the entries that are about it and count
	kinds           map[Kind]bool       // of these
}

// Parse reads a list: a head, its signature, and the entries, one a line. It returns an error if
// anything in it is wrong, so that no part of a damaged list counts. The signature is not verified.
//
//	list  = head LF bundle LF *(entry LF)
//	head  = JSON of Head
//	bundle = JSON of a Sigstore bundle that signs the bytes of head
//	entry = JSON of Entry
func Parse(raw []byte) (*List, error) {
	if len(raw) > MaxList {
		return nil, fmt.Errorf("list: got more than %d bytes", MaxList)
	}
	head, rest, _ := bytes.Cut(raw, []byte("\n"))
	signature, rest, ok := bytes.Cut(rest, []byte("\n"))
	if !ok || len(signature) > limits.Bundle {
		return nil, errors.New("list: want a head, its signature, and the entries, one a line")
	}
	h, err := ParseHead(head)
	if err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	l := newList(*h)
	l.head, l.signature = bytes.Clone(head), bytes.Clone(signature)
	for len(rest) > 0 {
		var line []byte
		if line, rest, ok = bytes.Cut(rest, []byte("\n")); !ok {
			return nil, errors.New("list: the last line does not end")
		}
		if len(l.entries) == h.Entries {
			return nil, fmt.Errorf("list: got more than the %d entries of its head", h.Entries)
		}
		if err := l.add(line); err != nil {
			return nil, fmt.Errorf("list: line %d: %w", len(l.entries)+3, err)
		}
	}
	if n := len(l.entries); n != h.Entries {
		return nil, fmt.Errorf("list: got %d entries, want the %d of its head", n, h.Entries)
	}
	if got := l.ChainAt(h.Entries); got != h.Chain {
		return nil, fmt.Errorf("list: chain: got %s, want that of its head, %s", got, h.Chain)
	}
	l.makeIndex()
	return l, nil
}

func newList(h Head) *List {
	return &List{Head: h, chains: [][sha256.Size]byte{sha256.Sum256([]byte(Version + "\n" + h.List + "\n"))}, lifted: map[int]int{}, index: map[fact][]int{}, kinds: map[Kind]bool{}}
}

// add appends an entry. The hash after an entry is SHA-256 of the hash before it and the SHA-256 of its line.
func (l *List) add(line []byte) error {
	e, err := ParseEntry(line)
	switch n := len(l.entries); {
	case err != nil:
		return err
	case e.Number != n:
		return fmt.Errorf("number: got %d, want %d", e.Number, n)
	case e.Lift != nil && l.entries[*e.Lift].Lift != nil:
		return fmt.Errorf("lift: entry %d lifts another one itself", *e.Lift)
	}
	if e.Lift != nil {
		if by, twice := l.lifted[*e.Lift]; twice {
			return fmt.Errorf("lift: entry %d is lifted by entry %d", *e.Lift, by)
		}
		l.lifted[*e.Lift] = e.Number
	}
	of := sha256.Sum256(line)
	last := l.chains[len(l.chains)-1]
	l.chains = append(l.chains, sha256.Sum256(append(last[:], of[:]...)))
	l.entries = append(l.entries, e)
	return nil
}

// ChainAt returns the chain after the first n entries, sha256:HEX; "" if the list has fewer.
func (l *List) ChainAt(n int) string {
	if n < 0 || n >= len(l.chains) {
		return ""
	}
	return "sha256:" + hex.EncodeToString(l.chains[n][:])
}

// All returns all entries in their order, also lifted ones and those that lift. Callers must not change them.
func (l *List) All() []*Entry { return l.entries }

// Lifted returns the entry that lifts the entry with this number, or nil.
func (l *List) Lifted(number int) *Entry {
	if by, ok := l.lifted[number]; ok {
		return l.entries[by]
	}
	return nil
}

// Signed returns the bytes of the head, and the bundle that signs them.
func (l *List) Signed() (head, bundle []byte) { return l.head, l.signature }

// Extends returns an error unless the list has all entries of one that was read before, in the same
// order, and is the same list. before may be nil.
func (l *List) Extends(before *Head) error {
	switch {
	case before == nil:
		return nil
	case l.List != before.List:
		return fmt.Errorf("the list is %q, and it was %q before", l.List, before.List)
	case l.Entries < before.Entries:
		return fmt.Errorf("the list was rolled back: it has %d entries, and had %d before", l.Entries, before.Entries)
	case l.ChainAt(before.Entries) != before.Chain:
		return fmt.Errorf("the list forked: its first %d entries are not those that it had before", before.Entries)
	}
	return nil
}

// Next returns the head of the list with more entries, and their lines: what its issuer signs next.
// The numbers of the entries are set. before is nil for a new list. life is how long the head counts.
func Next(before *List, list string, more []Entry, now time.Time, life time.Duration) (head []byte, lines [][]byte, err error) {
	next := newList(Head{List: list})
	if before != nil {
		next.Head = before.Head
		next.entries, next.chains = slices.Clone(before.entries), slices.Clone(before.chains)
		maps.Copy(next.lifted, before.lifted)
	}
	for _, e := range more {
		e.Number = len(next.entries)
		line, err := json.Marshal(e)
		if err != nil {
			return nil, nil, err
		}
		if err := next.add(line); err != nil {
			return nil, nil, err
		}
		lines = append(lines, line)
	}
	issued := now.UTC().Truncate(time.Second)
	next.Version, next.Entries, next.Chain = Version, len(next.entries), next.ChainAt(len(next.entries))
	next.Issued, next.Expires = issued, issued.Add(life).Truncate(time.Second)
	if err := next.check(); err != nil {
		return nil, nil, err
	}
	head, err = json.Marshal(next.Head)
	return head, lines, err
}

// File returns the file of a list with a new head: the lines of before, if it is not nil, and more lines.
// Parse reads it.
func File(raw, head, signature []byte, lines [][]byte) []byte {
	var b bytes.Buffer
	b.Write(head)
	b.WriteByte('\n')
	b.Write(bytes.TrimSpace(signature))
	b.WriteByte('\n')
	for range 2 { // the head and signature before
		_, raw, _ = bytes.Cut(raw, []byte("\n"))
	}
	b.Write(raw)
	for _, l := range lines {
		b.Write(l)
		b.WriteByte('\n')
	}
	return b.Bytes()
}
