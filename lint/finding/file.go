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

// Line returns the text of a line without its end ("\n" or "\r\n").
func (f *File) Line(line int) string {
	if line < 1 || line > len(f.lines) {
		return ""
	}
	text := strings.TrimSuffix(string(f.Data[f.LineStart(line):f.LineStart(line+1)]), "\n")
	return strings.TrimSuffix(text, "\r")
}

// Offset returns the offset of a character: line and column count from 1, a column counts
// characters. A column past the end of its line is the end of the line.
func (f *File) Offset(line, column int) int {
	at, end := f.LineStart(line), f.LineStart(line)+len(f.Line(line))
	for ; column > 1 && at < end; column-- {
		_, n := utf8.DecodeRune(f.Data[at:end])
		at += n
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
	return line, utf8.RuneCount(f.Data[f.lines[line-1]:at]) + 1
}

// Replace returns the edit that replaces the bytes from start to end.
func (f *File) Replace(start, end int, text string) Edit {
	return Edit{File: f.Path, Start: start, End: end, Old: string(f.Data[start:end]), New: text}
}
