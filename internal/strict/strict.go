// Package strict decodes JSON from outside so that two readers of the same
// bytes cannot understand different things: duplicate member names, invalid
// UTF-8, trailing data and case-insensitive matches are errors.
package strict

import (
	"bytes"
	"fmt"
	"io"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

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

func check(data []byte, max int) error {
	if len(data) > max {
		return fmt.Errorf("JSON of %d bytes, at most %d are taken", len(data), max)
	}
	dec := jsontext.NewDecoder(bytes.NewReader(data))
	for {
		if _, err := dec.ReadToken(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if dec.StackDepth() > limits.JSONDepth {
			return fmt.Errorf("JSON nested deeper than %d", limits.JSONDepth)
		}
	}
}
