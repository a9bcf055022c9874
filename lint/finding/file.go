package finding

import (
	"bytes"
	"sort"
	"strings"
	"sync"
	"unicode/utf8"
)

// File is a file of a tree. It does not change.
type File struct {
	Path string // in the tree, with slashes
	Data []byte // may be anything: not UTF-8, without a last newline

	lines []int // offset of each line

	once   sync.Once
	quoted map[string]int // offset of the first of each, without quotes
	whole  map[string]int // first line of each text

	counting sync.Once
	counts   []count

	derived sync.Map // by key, func() T
}

// Derived returns what read makes of a file. It is called once for each file and key: a thousand manifests may
// ask one lock file.
func Derived[T any](f *File, key string, read func(*File) T) T {
	v, _ := f.derived.LoadOrStore(key, sync.OnceValue(func() T { return read(f) }))
	return v.(func() T)()
}

// NewFile returns a file with some content, which the caller must not change.
func NewFile(path string, data []byte) *File {
	f := &File{Path: path, Data: data, lines: []int{0}}
	for at := 0; ; {
		i := bytes.IndexByte(data[at:], '\n')
		if i < 0 {
			return f
		}
		at += i + 1
		f.lines = append(f.lines, at)
	}
}

// Lines returns the number of lines. What follows the last newline is a line too, and may be empty.
func (f *File) Lines() int { return len(f.lines) }

// LineStart returns the offset of the first byte of a line, which counts from 1. It is the end
// of the file for a line after the last, and 0 for one before the first.
func (f *File) LineStart(line int) int {
	switch {
	case line < 1:
		return 0
	case line > len(f.lines):
		return len(f.Data)
	}
	return f.lines[line-1]
}

// LineEnd returns the offset of the end of a line, before "\n" or "\r\n".
func (f *File) LineEnd(line int) int {
	start, end := f.LineStart(line), f.LineStart(line+1)
	if line < 1 {
		return 0
	}
	text := bytes.TrimSuffix(f.Data[start:end], []byte("\n"))
	return start + len(bytes.TrimSuffix(text, []byte("\r")))
}

// Line returns the text of a line without its end ("\n" or "\r\n").
func (f *File) Line(line int) string { return string(f.Data[f.LineStart(line):f.LineEnd(line)]) }

// Offset returns the offset of a character: line and column count from 1, a column counts
// characters. A column past the end of its line is the end of the line.
func (f *File) Offset(line, column int) int {
	return min(f.After(f.LineStart(line), column-1), f.LineEnd(line))
}

// stride is the distance in bytes of the places whose number of characters before them is known: a file may be
// one line of megabytes with a finding about each word.
const stride = 4096

// count says that n characters are before an offset.
type count struct{ at, n int }

// runes returns the number of characters before an offset that is at the start of one, and the index in counts
// of the last place before it.
func (f *File) runes(at int) (n, index int) {
	f.counting.Do(func() {
		last := count{}
		for next := 0; next <= len(f.Data); next += stride {
			to := next
			for back := 1; back < utf8.UTFMax && back <= next; back++ { // not into a character
				if b := f.Data[next-back:]; utf8.RuneStart(b[0]) {
					if _, size := utf8.DecodeRune(b); size > back {
						to = next - back
					}
					break
				}
			}
			last = count{to, last.n + utf8.RuneCount(f.Data[last.at:to])}
			f.counts = append(f.counts, last)
		}
	})
	c := f.counts[at/stride]
	return c.n + utf8.RuneCount(f.Data[c.at:at]), at / stride
}

// After returns the offset of the character that is n characters after the one at an offset, or the end of the file.
func (f *File) After(at, n int) int {
	if n > stride {
		before, index := f.runes(at)
		rest := f.counts[index:]
		if i := sort.Search(len(rest), func(i int) bool { return rest[i].n > before+n }) - 1; i > 0 {
			at, n = rest[i].at, before+n-rest[i].n
		}
	}
	for ; n > 0 && at < len(f.Data); n-- {
		_, size := utf8.DecodeRune(f.Data[at:])
		at += size
	}
	return at
}

// Quoted returns the offset of the first text in double quotes, without them. LineOf returns the first line
// that is a text, without the space around it, or 0. The first call of either reads the whole file,
// and the others only look it up: a lock file may have a hundred thousand entries.
func (f *File) Quoted(text string) (at int, ok bool) {
	f.once.Do(f.index)
	at, ok = f.quoted[text]
	return at, ok
}

// LineOf is described with Quoted.
func (f *File) LineOf(text string) int {
	f.once.Do(f.index)
	return f.whole[text]
}

func (f *File) index() {
	f.quoted, f.whole = map[string]int{}, map[string]int{}
	for n := 1; n <= f.Lines(); n++ {
		line, start := f.Line(n), f.LineStart(n)
		if text := strings.TrimSpace(line); f.whole[text] == 0 {
			f.whole[text] = n
		}
		for at := strings.IndexByte(line, '"'); at >= 0 && at < len(line); {
			end := strings.IndexByte(line[at+1:], '"')
			if end < 0 {
				break
			}
			text := line[at+1 : at+1+end]
			if _, ok := f.quoted[text]; !ok {
				f.quoted[text] = start + at + 1
			}
			at += end + 2
			next := strings.IndexByte(line[min(at, len(line)):], '"')
			if next < 0 {
				break
			}
			at += next
		}
	}
}

// Position returns the position of the bytes from start to end.
func (f *File) Position(start, end int) Position {
	start = min(max(start, 0), len(f.Data))
	end = min(max(end, start), len(f.Data))
	p := Position{File: f.Path}
	p.Line, p.Column = f.place(start)
	p.EndLine, p.EndColumn = f.place(end)
	return p
}

func (f *File) place(at int) (line, column int) {
	line = sort.SearchInts(f.lines, at+1)
	start := f.lines[line-1]
	if at-start <= stride {
		return line, utf8.RuneCount(f.Data[start:at]) + 1
	}
	before, _ := f.runes(start)
	n, _ := f.runes(at)
	return line, n - before + 1
}

// Replace returns the edit that replaces the bytes from start to end.
func (f *File) Replace(start, end int, text string) Edit {
	return Edit{File: f.Path, Start: start, End: end, Old: string(f.Data[start:end]), New: text}
}
