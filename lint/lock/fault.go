package lock

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/colophon-build/colophon/lint/finding"
)

// fault is an error with a line.
type fault struct {
	line int
	err  error
}

func (e *fault) Error() string { return e.err.Error() }

func lineOf(err error) int {
	if e, ok := errors.AsType[*fault](err); ok {
		return e.line
	}
	return 0
}

// readJSON decodes a JSON file.
func readJSON(f *finding.File, v any) error {
	data := f.Data
	if bytes.HasPrefix(data, []byte("\ufeff")) { // package managers skip a byte order mark
		data = append([]byte("   "), data[3:]...)
	}
	err := json.Unmarshal(data, v)
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return &fault{f.Position(int(e.Offset), int(e.Offset)).Line, err}
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return &fault{f.Position(int(e.Offset), int(e.Offset)).Line, err}
	}
	return err
}

// maxNesting is how many brackets of a TOML file may be open: its parser calls itself for each.
const maxNesting = 1000

// readTOML decodes a TOML file.
func readTOML(f *finding.File, v any) error {
	if nested(string(f.Data)) > maxNesting {
		return fmt.Errorf("more than %d brackets are open", maxNesting)
	}
	_, err := toml.Decode(string(f.Data), v)
	if e, ok := errors.AsType[toml.ParseError](err); ok {
		return &fault{e.Position.Line, errors.New(e.Message)}
	}
	return err
}

// nested returns how many brackets are open at once in TOML. Those in comments and strings do not count,
// also not as closing ones.
func nested(text string) (most int) {
	open := 0
	for len(text) > 0 {
		skip := 1
		switch c := text[0]; c {
		case '[', '{':
			open++
			most = max(most, open)
		case ']', '}':
			open = max(0, open-1)
		case '#':
			skip = end(text, 1, "\n", false)
		case '"', '\'':
			quote := text[:1]
			if long := strings.Repeat(quote, 3); strings.HasPrefix(text, long) {
				skip = end(text, 3, long, c == '"')
				for range 2 { // quotes of the string itself
					if skip < len(text) && text[skip] == c {
						skip++
					}
				}
			} else {
				skip = min(end(text, 1, quote, c == '"'), end(text, 1, "\n", false))
			}
		}
		text = text[skip:]
	}
	return most
}

// end returns where text goes on after the next mark from an offset on. escapes: a backslash hides what follows it.
func end(text string, from int, mark string, escapes bool) int {
	for i := from; i < len(text); i++ {
		if escapes && text[i] == '\\' {
			i++
		} else if strings.HasPrefix(text[i:], mark) {
			return i + len(mark)
		}
	}
	return len(text)
}
