package strict

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Fault is what is wrong with a document, and where, in words for people.
type Fault struct {
	Line, Column int // from 1; Column counts bytes
	What         string
	at           int64 // offset in bytes
	err          error
}

func (f *Fault) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", f.Line, f.Column, f.What)
}

func (f *Fault) Unwrap() error { return f.err }

// In returns err as an error about a file: FILE:LINE:COLUMN: what is wrong. Of an error that
// is no Fault, it knows no place.
func In(file string, err error) error {
	if f, ok := errors.AsType[*Fault](err); ok {
		return fmt.Errorf("%s:%d:%d: %w", file, f.Line, f.Column, &bare{f})
	}
	return fmt.Errorf("%s: %w", file, err)
}

// bare is a Fault whose place was said already.
type bare struct{ *Fault }

func (b *bare) Error() string { return b.What }
func (b *bare) Unwrap() error { return b.Fault }

// faultOf translates an error of the decoder, which read data into a value of type t.
func faultOf(data []byte, t reflect.Type, err error) error {
	meaning, wrong := errors.AsType[*json.SemanticError](err)
	syntax, malformed := errors.AsType[*jsontext.SyntacticError](err)
	f := &Fault{err: err}
	var at int64
	var within jsontext.Pointer
	switch {
	case wrong:
		at, within = meaning.ByteOffset, meaning.JSONPointer
	case malformed:
		at, within = syntax.ByteOffset, syntax.JSONPointer
	default:
		return err
	}
	name := string(within.LastToken())
	var inside *Fault
	if wrong {
		inside, _ = errors.AsType[*Fault](meaning.Err)
	}
	switch {
	case wrong && meaning.Err == json.ErrUnknownName:
		f.What = fmt.Sprintf("there is no member %q%s", name, meant(name, t, within.Parent()))
		at = startOfName(data, at, name)
	case inside != nil: // of our own UnmarshalJSON, which decodes a part of data
		f.What = place(within) + inside.What
		at += inside.at
	case wrong && meaning.Err != nil && !errors.Is(meaning.Err, strconv.ErrRange) && !errors.Is(meaning.Err, strconv.ErrSyntax):
		f.What = place(within) + meaning.Err.Error() // of our own UnmarshalJSON
	case wrong:
		f.What = fmt.Sprintf("%sgot %s, want %s", place(within), kindOf(meaning.JSONKind), wanted(meaning.GoType))
	case errors.Is(syntax.Err, jsontext.ErrDuplicateName):
		f.What = fmt.Sprintf("duplicate member %q", name)
		at = startOfName(data, at, name)
	default:
		f.What = "it is not JSON here" + hintOf(data, at)
	}
	f.at = at
	f.Line, f.Column = position(data, at)
	return f
}

// meant suggests the member that somebody meant, and names those that there are.
func meant(name string, t reflect.Type, parent jsontext.Pointer) string {
	for token := range parent.Tokens() {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		switch t.Kind() {
		case reflect.Slice, reflect.Array, reflect.Map:
			t = t.Elem()
		case reflect.Struct:
			f, ok := field(t, token)
			if !ok {
				return ""
			}
			t = f
		default:
			return ""
		}
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return ""
	}
	known := members(t)
	if len(known) == 0 {
		return ""
	}
	list := " (known: " + strings.Join(known, ", ") + ")"
	if near := Nearest(name, known); near != "" {
		return fmt.Sprintf("; did you mean %q?%s", near, list)
	}
	return list
}

// members returns the JSON names of the members of a struct.
func members(t reflect.Type) (names []string) {
	for _, f := range reflect.VisibleFields(t) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
			names = append(names, name)
		}
	}
	return names
}

func field(t reflect.Type, name string) (reflect.Type, bool) {
	for _, f := range reflect.VisibleFields(t) {
		if tag, _, _ := strings.Cut(f.Tag.Get("json"), ","); tag == name {
			return f.Type, true
		}
	}
	return nil, false
}

// startOfName returns where the name of a member begins that ends before at.
func startOfName(data []byte, at int64, name string) int64 {
	at = min(max(at, 0), int64(len(data)))
	if bytes.HasPrefix(data[at:], []byte(`"`+name)) {
		return at
	}
	if i := bytes.LastIndex(data[:at], []byte(`"`+name)); i >= 0 {
		return int64(i)
	}
	return at
}

func position(data []byte, at int64) (line, column int) {
	before := data[:min(max(at, 0), int64(len(data)))]
	return bytes.Count(before, []byte{'\n'}) + 1, len(before) - bytes.LastIndexByte(before, '\n')
}

// place names the member that an error is about.
func place(p jsontext.Pointer) string {
	if p == "" {
		return ""
	}
	return strings.ReplaceAll(strings.TrimPrefix(string(p), "/"), "/", ".") + ": "
}

func kindOf(k jsontext.Kind) string {
	switch k {
	case 'n':
		return "null"
	case 't', 'f':
		return "a boolean"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case '{':
		return "an object"
	case '[':
		return "an array"
	}
	return "another value"
}

func wanted(t reflect.Type) string {
	if t == nil {
		return "another value"
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Struct, reflect.Map:
		return "an object"
	}
	if t.Kind() >= reflect.Int && t.Kind() <= reflect.Float64 {
		return "a number that fits"
	}
	return "another value"
}

// hintOf says what stands where the JSON ends.
func hintOf(data []byte, at int64) string {
	if at >= int64(len(data)) {
		return ": it ends too early"
	}
	rest := data[max(at, 0):]
	if r, n := utf8.DecodeRune(rest); r == utf8.RuneError && n == 1 {
		return ": it is not UTF-8"
	}
	return fmt.Sprintf(": %q", rest[:min(len(rest), 12)])
}
