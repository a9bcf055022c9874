// Package strict decodes JSON from outside. Two readers of the same bytes must not
// understand them differently: duplicate member names, invalid UTF-8, trailing data, and a
// member whose name differs from an expected one only by its case are errors.
package strict

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"

	"github.com/go-json-experiment/json"

	"github.com/colophon-build/colophon/internal/limits"
)

// Unmarshal decodes one JSON value of at most max bytes into v. It ignores members for which
// v has no field, because third-party formats get new members. v must point to a zero value.
func Unmarshal(data []byte, max int, v any) error {
	if err := check(data, max); err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return faultOf(data, reflect.TypeOf(v), err)
	}
	return checkCase(data, v)
}

// checkCase fails if a reader that ignores the case of member names, such as encoding/json,
// understands data differently than v.
func checkCase(data []byte, v any) error {
	if !differInCase(data, namesOf(reflect.TypeOf(v).Elem())) {
		return nil
	}
	again := reflect.New(reflect.TypeOf(v).Elem())
	if err := json.Unmarshal(data, again.Interface(), json.MatchCaseInsensitiveNames(true)); err != nil {
		return fmt.Errorf("a member has a known name in another case: %w", err)
	}
	if !reflect.DeepEqual(again.Interface(), v) {
		return errors.New("a member has a known name in another case: some readers ignore it, others do not")
	}
	return nil
}

// UnmarshalKnown is Unmarshal for our own formats: an unknown member is an error.
func UnmarshalKnown(data []byte, max int, v any) error {
	if err := check(data, max); err != nil {
		return err
	}
	if err := json.Unmarshal(data, v, json.RejectUnknownMembers(true)); err != nil {
		return faultOf(data, reflect.TypeOf(v), err)
	}
	return nil
}

// TooLarge is the error of Read for more bytes than its value.
type TooLarge int

func (max TooLarge) Error() string { return fmt.Sprintf("got more than %d bytes", int(max)) }

// Read reads all of r. If r has more than max bytes, it returns a TooLarge error.
func Read(r io.Reader, max int) ([]byte, error) { return ReadSized(r, 0, max) }

// ahead is how many bytes of memory a size is worth that nothing proves yet.
const ahead = 256 << 10

// ReadSized is Read of what somebody says has size bytes. If that is true, there are few reads and no
// copies; if it is not, the result is the same.
func ReadSized(r io.Reader, size int64, max int) ([]byte, error) {
	var data bytes.Buffer
	if size = min(size, int64(max), ahead); size > 0 {
		data.Grow(int(size) + bytes.MinRead) // ReadFrom wants so much room to see the end
	}
	if _, err := data.ReadFrom(io.LimitReader(r, int64(max)+1)); err != nil {
		return nil, err
	}
	if data.Len() > max {
		return nil, TooLarge(max)
	}
	return data.Bytes(), nil
}

// ReadFile reads the file at path. If it has more than max bytes, ReadFile returns an error.
// Errors name the file.
func ReadFile(path string, max int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var size int64
	if info, err := f.Stat(); err == nil {
		size = info.Size()
	}
	data, err := ReadSized(f, size, max)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, nil
}

// check checks size and nesting depth. The decoder checks the rest, including duplicates
// and invalid UTF-8 in members that it ignores.
func check(data []byte, max int) error {
	if len(data) > max {
		return fmt.Errorf("got JSON of %d bytes, want at most %d", len(data), max)
	}
	depth := 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '{', '[':
			if depth++; depth > limits.JSONDepth {
				return fmt.Errorf("got JSON nested deeper than %d levels", limits.JSONDepth)
			}
		case '}', ']':
			depth--
		case '"':
			i += endOfString(data[i+1:]) + 1
		}
	}
	return nil
}

// endOfString returns the index of the quote that ends a string, or len(s).
func endOfString(s []byte) int {
	for i := 0; i < len(s); {
		n := bytes.IndexByte(s[i:], '"')
		if n < 0 {
			break
		}
		i += n
		escapes := 0
		for escapes < i && s[i-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return i
		}
		i++
	}
	return len(s)
}
