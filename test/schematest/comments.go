package schematest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/harness"
)

// comments has what the source says about the fields of structs of this module.
type comments struct {
	t      testing.TB
	byType map[string]map[string]string // of packages that were read: TYPE, then FIELD
	read   map[string]bool              // packages
}

var camel = regexp.MustCompile(`[a-z][A-Z]`)

const module = "github.com/colophon-build/colophon/"

// of returns the comment on a field of the struct type t, or "". It calls fields as the format
// does, not as Go does.
func (c *comments) of(t reflect.Type, field, tag string) string {
	dir, ok := strings.CutPrefix(t.PkgPath(), module)
	if !ok || t.Name() == "" {
		return ""
	}
	if !c.read[dir] {
		c.read[dir] = true
		c.parse(dir)
	}
	text := c.byType[dir+"."+t.Name()][field]
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get(tag), ",")
		if name == "" || name == "-" {
			continue
		}
		at := "^" // elsewhere, a name such as Context may be a word
		if camel.MatchString(f.Name) {
			at = `\b`
		}
		text = regexp.MustCompile(at+f.Name+`\b`).ReplaceAllLiteralString(text, name)
	}
	return text
}

// parse reads the comments in the package in dir.
func (c *comments) parse(dir string) {
	c.t.Helper()
	files, err := filepath.Glob(filepath.Join(harness.Root(c.t), dir, "*.go"))
	if err != nil || len(files) == 0 {
		c.t.Fatalf("%s: %d files, %v", dir, len(files), err)
	}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		source, err := os.ReadFile(path)
		if err != nil {
			c.t.Fatal(err)
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, source, parser.ParseComments)
		if err != nil {
			c.t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				if s, ok := spec.Type.(*ast.StructType); ok {
					c.byType[dir+"."+spec.Name.Name] = fields(s)
				}
			}
			return true
		})
	}
}

// fields returns the comments on the fields of a struct.
func fields(s *ast.StructType) map[string]string {
	texts := map[string]string{}
	for _, f := range s.Fields.List {
		text := strings.Join(strings.Fields(f.Doc.Text()+" "+f.Comment.Text()), " ")
		for _, name := range f.Names {
			if len(f.Names) == 1 {
				texts[name.Name] = text
			}
		}
	}
	return texts
}
