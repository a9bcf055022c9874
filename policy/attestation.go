package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// Attestation demands an in-toto statement about the image, besides its provenance.
type Attestation struct {
	PredicateType string         // URI, compared whole; required
	Signer        Signer         // who must have signed it; nil: the signer of the provenance
	Equals        map[string]any // values that the predicate must have: JSON pointer (RFC 6901) to a string, float64, bool or nil
}

func (a Attestation) check() error {
	if u, err := url.Parse(a.PredicateType); err != nil || u.Scheme == "" {
		return fmt.Errorf("policy: predicate type: got %q, want a URI", a.PredicateType)
	}
	if a.Signer != nil {
		if err := checkSigner(a.Signer); err != nil {
			return err
		}
	}
	for pointer, want := range a.Equals {
		if !jsontext.Pointer(pointer).IsValid() {
			return fmt.Errorf("policy: got %q, want a JSON pointer", pointer)
		}
		switch n := want.(type) {
		case nil, bool, string:
		case float64:
			// Some readers of JSON do not distinguish larger numbers.
			if n != float64(int64(n)) || n >= 1<<53 || n <= -(1<<53) {
				return fmt.Errorf("policy: %s: got %v, want a whole number of fewer than 54 bits", pointer, n)
			}
		default:
			return fmt.Errorf("policy: %s: want a string, number, boolean or null", pointer)
		}
	}
	return nil
}

// Match fails unless the predicate, JSON, has every value demanded.
func (a Attestation) Match(predicate []byte) error {
	for pointer, want := range a.Equals {
		if err := equals(predicate, pointer, want, sameScalar); err != nil {
			return err
		}
	}
	return nil
}

// valueError means that the predicate has another value than the one demanded, or none.
type valueError struct{ text string }

func (e *valueError) Error() string { return e.text }

func differs(format string, args ...any) error { return &valueError{fmt.Sprintf(format, args...)} }

// equals fails unless the pointer leads to the value wanted, as same compares them. The error is
// a valueError if it leads to another value, or to none.
func equals(predicate []byte, pointer string, want any, same func(got, want jsontext.Value) bool) error {
	got, err := at(predicate, jsontext.Pointer(pointer))
	if err != nil {
		return fmt.Errorf("predicate: %s: %w", pointer, err)
	}
	wanted, err := json.Marshal(want)
	if err != nil {
		return err
	}
	if !same(got, wanted) {
		return differs("predicate: %s: got %s, want %s", pointer, short(got), wanted)
	}
	return nil
}

// at returns the value that a pointer leads to, as it is in doc.
func at(doc []byte, pointer jsontext.Pointer) (jsontext.Value, error) {
	value := jsontext.Value(doc)
	for token := range pointer.Tokens() {
		switch value.Kind() {
		case '{':
			var object map[string]jsontext.Value
			if err := strict.Unmarshal(value, limits.Statement, &object); err != nil {
				return nil, err
			}
			next, ok := object[token]
			if !ok {
				return nil, differs("there is no %q", token)
			}
			value = next
		case '[':
			var array []jsontext.Value
			if err := strict.Unmarshal(value, limits.Statement, &array); err != nil {
				return nil, err
			}
			i := 0
			if _, err := fmt.Sscanf(token, "%d", &i); err != nil || fmt.Sprint(i) != token || i < 0 || i >= len(array) {
				return nil, differs("there is no element %q", token)
			}
			value = array[i]
		default:
			return nil, differs("there is no %q", token)
		}
	}
	return value, nil
}

// sameScalar compares strings decoded, and other values byte by byte: 1.0 is not 1.
func sameScalar(got, want jsontext.Value) bool {
	if got.Kind() != '"' || want.Kind() != '"' {
		return bytes.Equal(bytes.TrimSpace(got), want)
	}
	var g, w string
	return strict.Unmarshal(got, limits.Statement, &g) == nil && json.Unmarshal(want, &w) == nil && g == w
}

// mayBeSame also reports numbers that are equal however they are written, and those that a
// double cannot tell apart.
func mayBeSame(got, want jsontext.Value) bool {
	if got.Kind() != '0' || want.Kind() != '0' {
		return sameScalar(got, want)
	}
	g, err := strconv.ParseFloat(string(bytes.TrimSpace(got)), 64)
	w, wrong := strconv.ParseFloat(string(want), 64)
	return err == nil && wrong == nil && g == w
}

// short returns the beginning of a value, for an error.
func short(v jsontext.Value) string {
	s := strings.TrimSpace(string(v))
	if len(s) > 80 {
		s = strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}
