package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/internal/strict"
)

func readBatch(data []byte) (lines [][]byte, err error) {
	err = ReadBatch(bytes.NewReader(data), func(line []byte) { lines = append(lines, bytes.Clone(line)) })
	return lines, err
}

// A batch has what fits, in order, and the next one the rest.
func TestBatch(t *testing.T) {
	small, large := []byte("{}"), bytes.Repeat([]byte{'x'}, MaxRequest)
	for what, entries := range map[string][][]byte{
		"one":   {small},
		"most":  slices.Repeat([][]byte{small}, MaxTogether),
		"more":  slices.Repeat([][]byte{small}, 2*MaxTogether+1),
		"large": slices.Repeat([][]byte{large}, 20),
		"both":  slices.Concat([][]byte{large}, slices.Repeat([][]byte{small, large}, 10)),
	} {
		var got [][]byte
		for rest := entries; len(rest) > 0; {
			var batch []byte
			batch, rest = Batch(rest)
			lines, err := readBatch(batch)
			if err != nil || len(lines) == 0 || len(lines) > MaxTogether || len(batch) > MaxBatch {
				t.Fatalf("%s: a batch of %d bytes and %d lines: %v", what, len(batch), len(lines), err)
			}
			got = append(got, lines...)
		}
		if !slices.EqualFunc(got, entries, bytes.Equal) {
			t.Errorf("%s: got other entries", what)
		}
	}
}

// What is no batch, or too large, is refused; a batch at each limit is not.
func TestBatchBounds(t *testing.T) {
	line := func(n int) string { return strings.Repeat("x", n) + "\n" }
	full := strings.Repeat(line(MaxRequest), MaxBatch/(MaxRequest+1))
	full += line(MaxBatch - len(full) - 1)
	for what, c := range map[string]struct {
		data  string
		lines int // 0: refused
	}{
		"most lines": {strings.Repeat("{}\n", MaxTogether), MaxTogether}, "a line more": {strings.Repeat("{}\n", MaxTogether+1), 0},
		"longest line": {line(MaxRequest), 1}, "a longer line": {line(MaxRequest + 1), 0}, "a longer line later": {"{}\n" + line(MaxRequest+1), 0},
		"most bytes": {full, strings.Count(full, "\n")}, "a byte more": {full + "\n", 0}, "no end": {strings.Repeat("{}", MaxBatch), 0},
		"nothing": {"", 0}, "no line feed": {"{}\n{}", 0},
		"empty lines": {"\n\n", 2}, // refused one by one, as what they are
	} {
		lines, err := readBatch([]byte(c.data))
		if (err == nil) != (c.lines > 0) || c.lines > 0 && len(lines) != c.lines {
			t.Errorf("%s: got %d lines, %v", what, len(lines), err)
		}
		if _, tooLarge := errors.AsType[strict.TooLarge](err); tooLarge != (what == "a byte more") {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

// An entry is written by hand, as encoding/json would.
func TestEntryMarshal(t *testing.T) {
	key, _ := newKey(t)
	hidden, _, _ := seal(t, key, "gate", "", verdict())
	for _, e := range []Entry{hidden, {Envelope: hidden.Envelope}, {Envelope: hidden.Envelope, Openings: []Opening{{FieldUser, nil, "<&>\n\u2028"}}}} {
		if want, err := json.Marshal(e); err != nil || !bytes.Equal(e.Marshal(), want) {
			t.Errorf("got %s, want %s", e.Marshal(), want)
		}
	}
}

// An answer is a line for each entry, no more and no less.
func TestTaken(t *testing.T) {
	all := []Taken{{Added{4711, ID(nil), false}, 200, ""}, {Added{0, ID(nil), true}, 200, ""}, {Added{}, 400, "refused: \"why\" <&>"}}
	data := TakenLines(all)
	if got, err := ParseTaken(data, 3); err != nil || !slices.Equal(got, all) {
		t.Errorf("got %+v, %v", got, err)
	}
	for what, text := range map[string]string{
		"less": strings.SplitAfterN(string(data), "\n", 2)[1], "more": string(data) + string(data), "nothing": "", "a page": "<html>\n\n\n", "cut": strings.TrimSuffix(string(data), "\n"), "empty lines": "\n\n\n",
		"twice": `{"status":200,"status":400}` + "\n{}\n{}\n",
	} {
		if got, err := ParseTaken([]byte(text), 3); err == nil {
			t.Errorf("%s: got %+v", what, got)
		}
	}
}

func FuzzBatch(f *testing.F) {
	for _, seed := range []string{"{}\n{}\n", "\n", "", "{}", strings.Repeat("\n", MaxTogether+1)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		lines, err := readBatch(data)
		if err != nil {
			return
		}
		if again, rest := Batch(lines); len(rest) > 0 || !bytes.Equal(again, data) {
			t.Errorf("read %q, wrote %q", data, again)
		}
	})
}
