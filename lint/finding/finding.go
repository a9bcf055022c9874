// Package finding says what linters of a repository find: rules, findings with the place and
// the edits that mend them, and the tree of files that they read.
package finding

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
)

// Severity says how much a finding matters.
type Severity string

// From the least to the most.
const (
	Note    Severity = "note"    // good to know; breaks no proof
	Warning Severity = "warning" // weakens the proof: what was checked may change later
	Error   Severity = "error"   // lets somebody else decide what is built, signed or run
)

// Severities lists all, from the least to the most.
func Severities() []Severity { return []Severity{Note, Warning, Error} }

// AtLeast reports whether s matters as much as other. It is false for a severity that is not in
// Severities.
func (s Severity) AtLeast(other Severity) bool {
	all := Severities()
	i, j := slices.Index(all, s), slices.Index(all, other)
	return i >= 0 && j >= 0 && i >= j
}

// Rule is one thing that linters look for.
type Rule struct {
	ID       string   `json:"id"` // KIND/NAME in lower case, with hyphens: dockerfile/base-by-tag
	Severity Severity `json:"severity"`
	Title    string   `json:"title"`          // what is found, in a few words, without full stop
	Why      string   `json:"why"`            // one sentence: the incident or requirement behind it
	Link     string   `json:"link,omitempty"` // https address to read on
	Fixes    bool     `json:"fixes"`          // findings may have edits
}

// Position is a range in a file. Lines and columns count from 1; a column counts characters
// (Unicode code points; a byte that is not UTF-8 counts as one). Line 0 is the file as a whole.
type Position struct {
	File      string `json:"file"` // path in the tree, with slashes; "." is the tree itself
	Line      int    `json:"line,omitempty"`
	Column    int    `json:"column,omitempty"`
	EndLine   int    `json:"endLine,omitempty"`
	EndColumn int    `json:"endColumn,omitempty"` // the column after the last character
}

// String returns FILE:LINE:COLUMN as far as it is known.
func (p Position) String() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.Column == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Edit replaces bytes of a file.
type Edit struct {
	File  string `json:"file"`
	Start int    `json:"start"` // byte offset
	End   int    `json:"end"`   // byte offset after the last byte that is replaced
	Old   string `json:"old"`   // the bytes from Start to End
	New   string `json:"new"`
}

// Finding is one place where a rule is broken.
type Finding struct {
	Rule     string   `json:"rule"`
	Severity Severity `json:"severity"` // if empty: that of the rule
	Position
	// First is the line on which the statement begins that Position is in: a comment above it may
	// ignore the finding. 0: Line.
	First   int    `json:"-"`
	Message string `json:"message"`        // what is wrong here, with the values; one line
	Why     string `json:"why"`            // if empty: that of the rule
	Mend    string `json:"mend,omitempty"` // what to do, one line
	Edits   []Edit `json:"edits,omitempty"`
	// Undecided means that the linter could not find out: Message says what was not asked or did
	// not answer. It is neither a broken rule nor a clean one.
	Undecided bool `json:"undecided,omitempty"`
}

// Compare orders findings by file, place, rule and message.
func Compare(a, b Finding) int {
	return cmp.Or(
		cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
		cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Message, b.Message),
	)
}

// Checker looks for some rules. Its functions are called from several goroutines at once.
type Checker struct {
	Rules []Rule
	// Wants reports whether Check is to read the file at a path. nil: no file.
	Wants func(path string) bool
	// Check returns what it finds in one file.
	Check func(context.Context, *Tree, *File) []Finding
	// Whole returns what is to be found in the tree as a whole. nil: nothing. It runs beside Check.
	Whole func(context.Context, *Tree) []Finding
}

// Once keeps what a checker finds out about the tree as a whole: the first file asks, and the others wait.
type Once[T any] struct {
	mu    sync.Mutex
	tree  *Tree
	value T
}

// Of returns what find returns for a tree. It is called once for each tree, as long as trees are not mixed.
func (o *Once[T]) Of(t *Tree, find func(*Tree) T) T {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.tree != t || t == nil {
		o.tree, o.value = t, find(t)
	}
	return o.value
}
