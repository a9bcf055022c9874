package finding

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/colophon-build/colophon/test/spent"
)

// TestPlaces: the places of a long line are those that counting from its start gives, whatever the bytes.
func TestPlaces(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	parts := []string{"a", "é", "\u2028", "\U0001f600", "\xff", "\x80\x80\x80", "\xf0\x9f", "\xe2"}
	for _, kinds := range [][]string{parts, parts[:4], parts[3:4], parts[5:6], {"a", "\n"}} {
		var b bytes.Buffer
		b.WriteString("first\r\n")
		for b.Len() < 5*stride+7 {
			b.WriteString(kinds[r.IntN(len(kinds))])
		}
		b.WriteString("\nlast")
		f := NewFile("x", b.Bytes())
		for range 2000 {
			at := r.IntN(len(f.Data) + 1)
			p := f.Position(at, at)
			start := bytes.LastIndexByte(f.Data[:at], '\n') + 1
			if want := utf8.RuneCount(f.Data[start:at]) + 1; p.Column != want {
				t.Fatalf("%d of %q: expected column %d, found %d", at, kinds, want, p.Column)
			}
			line, column := 1+r.IntN(f.Lines()), r.IntN(6*stride)
			want, end := f.LineStart(line), f.LineStart(line)+len(f.Line(line))
			for n := column; n > 1 && want < end; n-- {
				_, size := utf8.DecodeRune(f.Data[want:end])
				want += size
			}
			if got := f.Offset(line, column); got != want {
				t.Fatalf("line %d, column %d of %q: expected offset %d, found %d", line, column, kinds, want, got)
			}
		}
	}
}

// TestLongLine: 100,000 places in a line of 5 MB take less than one count of the line each.
func TestLongLine(t *testing.T) {
	f := NewFile("x", []byte(strings.Repeat("é", 5<<20/2)))
	start := spent.Now()
	for n := range 100_000 {
		at := len(f.Data) - 4*n
		if p := f.Position(at, at); f.Offset(1, p.Column) != at {
			t.Fatalf("%d is in column %d, which is at %d", at, p.Column, f.Offset(1, p.Column))
		}
	}
	if took := spent.Now() - start; took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
}
