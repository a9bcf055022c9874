package lock

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/colophon-build/colophon/internal/strict"
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

// readJSON decodes a JSON file. It refuses what package managers read otherwise: they know no hash whose
// name is in another case, and of two members with one name they take the last.
func readJSON(f *finding.File, v any) error {
	data := f.Data
	if bytes.HasPrefix(data, []byte("\ufeff")) { // package managers skip a byte order mark
		data = append([]byte("   "), data[3:]...)
	}
	err := strict.Unmarshal(data, len(data), v)
	if e, ok := errors.AsType[*strict.Fault](err); ok {
		return &fault{e.Line, errors.New(e.What)}
	}
	return err
}

// maxNesting is how many brackets of a TOML file may be open: its parser calls itself for each.
const maxNesting = 1000

// readTOML decodes a TOML file.
func readTOML(f *finding.File, v any) error {
	_, err := decodeTOML(f, v)
	return err
}

func decodeTOML(f *finding.File, v any) (toml.MetaData, error) {
	if nested(string(f.Data)) > maxNesting {
		return toml.MetaData{}, fmt.Errorf("more than %d brackets are open", maxNesting)
	}
	meta, err := toml.Decode(string(f.Data), v)
	if e, ok := errors.AsType[toml.ParseError](err); ok {
		return meta, &fault{e.Position.Line, errors.New(e.Message)}
	}
	return meta, err
}

// readLockTOML decodes a lock file in TOML. The decoder ignores the case of keys and package managers heed it, so
// that a key in another case is refused.
func readLockTOML(f *finding.File, v any) error {
	meta, err := decodeTOML(f, v)
	if err != nil {
		return err
	}
	for _, key := range meta.Keys() {
		if len(key) > 2 && !slices.Contains(archives, strings.ToLower(key[1])) {
			continue // names of packages, such as those that a package needs
		}
		if last := key[len(key)-1]; last != strings.ToLower(last) && len(key) <= 3 && slices.Contains(lockKeys, strings.ToLower(last)) {
			return fmt.Errorf("package managers ignore the key %s, in whose place they know %s", last, strings.ToLower(last))
		}
	}
	return nil
}

// archives are the keys of a package in a lock file below which its archives are, and lockKeys all keys that say
// what is got, and its hash.
var (
	archives = []string{"files", "wheels", "sdist", "archive", "source"}
	lockKeys = append([]string{"package", "packages", "metadata", "name", "version", "checksum", "file", "url", "hash", "hashes", "git", "path", "registry", "type"}, archives...)
)

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
