// Package schematest holds the JSON Schemas in spec/schemas true: they are what the types of
// the formats say, and they accept and refuse what the parsers do.
package schematest

import (
	"bytes"
	"encoding"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/colophon-build/colophon/spec/schemas"
	"github.com/colophon-build/colophon/test/harness"
)

// Schema is a JSON Schema or a part of one.
type Schema = map[string]any

// Format describes a format beyond its type.
type Format struct {
	File  string // in spec/schemas
	Title string
	Type  reflect.Type
	Tag   string // of the members' names: json or yaml
	// Custom has the schemas of types that encode themselves.
	Custom map[reflect.Type]Schema
	// ByType has more keywords for all values of a struct type.
	ByType map[reflect.Type]Schema
	// Extra has more keywords for members: "MEMBER" or "MEMBER.MEMBER", where the outer one may be
	// a list or map of objects.
	Extra map[string]Schema

	comments *comments
}

// Golden fails unless spec/schemas has the schema of the format. With UPDATE=1, it writes it.
func (f Format) Golden(t *testing.T) {
	t.Helper()
	f.comments = &comments{t: t, byType: map[string]map[string]string{}, read: map[string]bool{}}
	s := f.of(f.Type, "")
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["$id"] = schemas.ID(f.File)
	s["title"] = f.Title
	var want bytes.Buffer
	enc := json.NewEncoder(&want)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(s); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(harness.Root(t), "spec", "schemas", f.File)
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%s is not what the type %s says (%v); write it with UPDATE=1", path, f.Type, err)
	}
}

// of returns the schema of a type, which is the member at a place.
func (f Format) of(t reflect.Type, at string) Schema {
	s := f.bare(t, at)
	maps.Copy(s, f.Extra[at])
	return s
}

func (f Format) bare(t reflect.Type, at string) Schema {
	if custom, ok := f.Custom[t]; ok {
		return maps.Clone(custom)
	}
	switch {
	case t.Kind() == reflect.Pointer:
		return f.of(t.Elem(), at)
	case t == reflect.TypeFor[time.Time]():
		return Schema{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[json.RawMessage]() || t.Kind() == reflect.Interface:
		return Schema{}
	case t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) || reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		return Schema{"type": "string"}
	}
	switch t.Kind() {
	case reflect.String:
		return Schema{"type": "string"}
	case reflect.Bool:
		return Schema{"type": "boolean"}
	case reflect.Float64:
		return Schema{"type": "number"}
	case reflect.Slice:
		return Schema{"type": "array", "items": f.bare(t.Elem(), at)}
	case reflect.Map:
		return Schema{"type": "object", "additionalProperties": f.bare(t.Elem(), at)}
	case reflect.Struct:
		return f.object(t, at)
	}
	return Schema{"type": "integer"}
}

func (f Format) object(t reflect.Type, at string) Schema {
	properties, required := Schema{}, []string{}
	for _, field := range reflect.VisibleFields(t) {
		name, options, _ := strings.Cut(field.Tag.Get(f.Tag), ",")
		if name == "" || name == "-" || len(field.Index) > 1 && properties[name] != nil {
			continue
		}
		place := strings.TrimPrefix(at+"."+name, ".")
		member := f.of(field.Type, place)
		owner := t
		if above := field.Index[:len(field.Index)-1]; len(above) > 0 { // of an embedded struct
			owner = t.FieldByIndex(above).Type
		}
		if text := f.comments.of(owner, field.Name, f.Tag); text != "" {
			member["description"] = text
		}
		properties[name] = member
		if !strings.Contains(options, "omit") {
			required = append(required, name)
		}
	}
	s := Schema{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		slices.Sort(required)
		s["required"] = required
	}
	maps.Copy(s, f.ByType[t])
	return s
}

// Compile returns a schema of spec/schemas.
func Compile(t *testing.T, file string) *jsonschema.Schema {
	t.Helper()
	raw, err := schemas.Files.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(schemas.ID(file), document); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(schemas.ID(file))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Validate returns why a schema refuses a document, or nil.
func Validate(s *jsonschema.Schema, raw []byte) error {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	return s.Validate(v)
}

// Alike fails unless the schema accepts a document that the parser accepts, and both answer
// the same about it with one unknown member more, in each of its objects.
func Alike(t *testing.T, s *jsonschema.Schema, name string, raw []byte, parse func([]byte) error) {
	t.Helper()
	if err := parse(raw); err != nil {
		t.Errorf("%s: the parser refuses it: %v", name, err)
	}
	if err := Validate(s, raw); err != nil {
		t.Errorf("%s: the schema refuses it: %v", name, err)
	}
	n := 0
	for i, b := range raw {
		if b != '{' || inString(raw[:i]) {
			continue
		}
		more := `"unknown-member":{"x":1}`
		if rest := bytes.TrimSpace(raw[i+1:]); len(rest) > 0 && rest[0] != '}' {
			more += ","
		}
		changed := slices.Concat(raw[:i+1], []byte(more), raw[i+1:])
		byParser, bySchema := parse(changed), Validate(s, changed)
		if (byParser == nil) != (bySchema == nil) {
			t.Errorf("%s, an unknown member in the object at byte %d: the parser says %v, and the schema %v", name, i, byParser, bySchema)
		}
		n++
	}
	if n == 0 {
		t.Errorf("%s has no object", name)
	}
}

// inString reports whether a JSON document that is cut here is cut in a string.
func inString(before []byte) (in bool) {
	for i := 0; i < len(before); i++ {
		switch {
		case in && before[i] == '\\':
			i++
		case before[i] == '"':
			in = !in
		}
	}
	return in
}
