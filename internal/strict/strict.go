// Package strict decodes JSON from outside so that two readers of the same
// bytes cannot understand different things: duplicate member names, invalid
// UTF-8, trailing data and case-insensitive matches are errors.
package strict

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"github.com/go-json-experiment/json"

	"github.com/colophon-build/colophon/internal/limits"
)

// Unmarshal decodes one JSON value of at most max bytes into v. Members that v
// has no field for are ignored, because formats of others grow.
func Unmarshal(data []byte, max int, v any) error {
	if err := check(data, max); err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

// UnmarshalKnown is Unmarshal for formats that are ours: an unknown member is
// an error.
func UnmarshalKnown(data []byte, max int, v any) error {
	if err := check(data, max); err != nil {
		return err
	}
	return json.Unmarshal(data, v, json.RejectUnknownMembers(true))
}

// Read reads all of r, and fails where it holds more than max bytes.
func Read(r io.Reader, max int) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, int64(max)+1))
	if err != nil {
		return nil, err
	}
	if len(data) > max {
		return nil, fmt.Errorf("got more than %d bytes", max)
	}
	return data, nil
}

// ReadFile is Read of the file at path, which its errors name.
func ReadFile(path string, max int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := Read(f, max)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, nil
}

// check holds size and depth to their caps. Whether it is JSON at all, the
// decoder finds out, duplicates and bad UTF-8 included, also in what it skips.
func check(data []byte, max int) error {
	if len(data) > max {
		return fmt.Errorf("JSON of %d bytes, at most %d are taken", len(data), max)
	}
	depth := 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '{', '[':
			if depth++; depth > limits.JSONDepth {
				return fmt.Errorf("JSON nested deeper than %d", limits.JSONDepth)
			}
		case '}', ']':
			depth--
		case '"':
			i += endOfString(data[i+1:]) + 1
		}
	}
	return nil
}

// endOfString is the index of the quote that ends a string, or len(s).
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
