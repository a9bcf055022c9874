package recipes

import (
	"errors"
	"reflect"
	"testing"

	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/test/schematest"
)

// TestSchema: the schema of .colophon.yaml says what its type says, and both refuse unknown
// members alike. JSON is YAML.
func TestSchema(t *testing.T) {
	schematest.Format{
		File: "recipes.json", Title: "Colophon recipes: .colophon.yaml (spec/recipes)", Type: reflect.TypeFor[document](), Tag: "yaml",
		Extra: map[string]schematest.Schema{
			"version": {"const": 1}, "images": {"minItems": 1, "maxItems": maxImages}, "lint.ignore": {"minItems": 1, "maxItems": maxIgnore}, "images.name": {"maxLength": 255},
		},
	}.Golden(t)
	whole := `{"$schema": "https://colophon.example.com/schemas/recipes.json", "version": 1, "images": [
  {"name": "team/app", "context": "services/app", "platforms": ["linux/amd64"], "target": "final", "buildArgs": {"A": "b"}},
  {"name": "tool", "package": "./cmd/tool"}
], "lint": {"ignore": [{"rule": "a/b", "path": "examples/**", "reason": "made to be bad"}]}}`
	schematest.Alike(t, schematest.Compile(t, "recipes.json"), "an example", []byte(whole), func(raw []byte) error {
		_, err := parse(raw)
		return err
	})
}

// TestSyntaxFaultsHaveALine: an error in a file that is not YAML names its line, in our words.
func TestSyntaxFaultsHaveALine(t *testing.T) {
	for text, line := range map[string]int{
		"version: 1\nimages:\n  - name: 'a\n":             4,
		"version: 1\nimages:\n  - name: a\n   b: c\n":     3,
		"version: 1\n\timages: x\n":                       2,
		"version: 1\nimages: [\n":                         3,
		"version: 1\nimages:\n  - name: a\n    x: y: z\n": 4,
	} {
		_, err := parse([]byte(text))
		f, ok := errors.AsType[*strict.Fault](err)
		if !ok || f.Line < line-1 || f.Line > line+1 || f.What[:10] != "it is not " {
			t.Errorf("%q: got %v, want line %d", text, err, line)
		}
	}
}
