package test

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// code is the Go source of the module, without the programs of tools and examples.
type code struct {
	fset   *token.FileSet
	files  map[string]*ast.File           // by path below the root: platform/config.go
	values map[string]map[string]ast.Expr // values of constants, by package directory and name
}

var parsed = sync.OnceValues(func() (*code, error) {
	c := &code{fset: token.NewFileSet(), files: map[string]*ast.File{}, values: map[string]map[string]ast.Expr{}}
	paths, err := goFiles()
	for _, path := range paths {
		f, perr := parser.ParseFile(c.fset, filepath.Join("..", path), nil, 0)
		if perr != nil {
			return nil, perr
		}
		c.files[path] = f
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		dir := filepath.Dir(path)
		if c.values[dir] == nil {
			c.values[dir] = map[string]ast.Expr{}
		}
		for _, decl := range f.Decls {
			g, ok := decl.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST && g.Tok != token.VAR {
				continue
			}
			for _, s := range g.Specs {
				spec := s.(*ast.ValueSpec)
				for i, name := range spec.Names {
					if i < len(spec.Values) {
						c.values[dir][name.Name] = spec.Values[i]
					}
				}
			}
		}
	}
	return c, err
})

func readSource(t *testing.T) *code {
	t.Helper()
	c, err := parsed()
	if err != nil {
		t.Fatal(err)
	}
	if len(c.files) < 300 {
		t.Fatalf("got %d Go files, want the whole module", len(c.files))
	}
	return c
}

// program calls f with each file that is no test, of the directories below any of dirs.
func (c *code) program(dirs []string, f func(path string, file *ast.File)) {
	for path, file := range c.files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		for _, d := range dirs {
			if path == d || strings.HasPrefix(path, d+"/") {
				f(path, file)
				break
			}
		}
	}
}

// value evaluates a constant expression of the package in dir: numbers, texts, durations.
func (c *code) value(dir string, e ast.Expr) (constant.Value, error) {
	switch e := e.(type) {
	case *ast.BasicLit:
		return constant.MakeFromLiteral(e.Value, e.Kind, 0), nil
	case *ast.ParenExpr:
		return c.value(dir, e.X)
	case *ast.Ident:
		if v := c.values[dir][e.Name]; v != nil {
			return c.value(dir, v)
		}
	case *ast.SelectorExpr:
		pkg, ok := e.X.(*ast.Ident)
		if d := durations[e.Sel.Name]; ok && pkg.Name == "time" && d != 0 {
			return constant.MakeInt64(int64(d)), nil
		}
		for other, names := range c.values {
			if ok && filepath.Base(other) == pkg.Name && names[e.Sel.Name] != nil {
				return c.value(other, names[e.Sel.Name])
			}
		}
	case *ast.BinaryExpr:
		x, xerr := c.value(dir, e.X)
		y, yerr := c.value(dir, e.Y)
		if xerr != nil || yerr != nil {
			return nil, fmt.Errorf("%v, %v", xerr, yerr)
		}
		switch e.Op {
		case token.SHL, token.SHR:
			n, _ := constant.Uint64Val(y)
			return constant.Shift(x, e.Op, uint(n)), nil
		case token.QUO:
			return constant.BinaryOp(x, token.QUO_ASSIGN, y), nil
		}
		return constant.BinaryOp(x, e.Op, y), nil
	}
	return nil, fmt.Errorf("%s: not a constant that this test understands", c.fset.Position(e.Pos()))
}

var durations = map[string]time.Duration{"Second": time.Second, "Minute": time.Minute, "Hour": time.Hour, "Millisecond": time.Millisecond}

// number returns the constant DIR.NAME.
func (c *code) number(t *testing.T, name string) int64 {
	t.Helper()
	dir, id, _ := strings.Cut(name, ".")
	e := c.values[dir][id]
	if e == nil {
		t.Fatalf("%s has no constant %s", dir, id)
	}
	v, err := c.value(dir, e)
	if err != nil {
		t.Fatal(err)
	}
	n, ok := constant.Int64Val(constant.ToInt(v))
	if !ok {
		t.Fatalf("%s: got %s, want a number", name, v)
	}
	return n
}

// text returns the value of an expression if it is a text.
func (c *code) text(dir string, e ast.Expr) (string, bool) {
	v, err := c.value(dir, e)
	if err != nil || v.Kind() != constant.String {
		return "", false
	}
	return constant.StringVal(v), true
}

// literals returns the texts below a node.
func literals(n ast.Node) (out []string) {
	ast.Inspect(n, func(n ast.Node) bool {
		if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
			if s, err := strconv.Unquote(l.Value); err == nil {
				out = append(out, s)
			}
		}
		return true
	})
	return out
}

// called returns the name of the function or method that a call calls, and of what it is
// selected from: "os", "Getenv".
func called(call *ast.CallExpr) (from, name string) {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return "", f.Name
	case *ast.SelectorExpr:
		if x, ok := f.X.(*ast.Ident); ok {
			from = x.Name
		}
		return from, f.Sel.Name
	}
	return "", ""
}

// goFiles lists the module's Go files, without those of tools and examples.
func goFiles() (paths []string, err error) {
	err = filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel("..", path)
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "testdata" || slices.Contains([]string{"out", "data", "tools", "examples"}, rel)):
			return fs.SkipDir
		case !d.IsDir() && strings.HasSuffix(rel, ".go"):
			paths = append(paths, filepath.ToSlash(rel))
		}
		return nil
	})
	return paths, err
}

// page returns the text of a page, by its path below the root.
func page(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// tableRows returns the code words in the first column of the tables of a section, which ends
// at the next heading. An empty section is the part of the page before its second heading.
func tableRows(t *testing.T, path, section string) (names []string) {
	t.Helper()
	at := ""
	for line := range strings.Lines(page(t, path)) {
		if title, ok := strings.CutPrefix(line, "#"); ok {
			at = strings.TrimSpace(strings.TrimLeft(title, "#"))
			if strings.HasPrefix(line, "# ") {
				at = ""
			}
			continue
		}
		cell, ok := strings.CutPrefix(line, "| ")
		if !ok || at != section {
			continue
		}
		cell, _, _ = strings.Cut(cell, " |")
		for _, m := range codeSpan.FindAllStringSubmatch(cell, -1) {
			names = append(names, m[1])
		}
	}
	if len(names) == 0 {
		t.Fatalf("%s has no table in the section %q", path, section)
	}
	return names
}

var codeSpan = regexp.MustCompile("`([^`]+)`")

// same compares two lists as sets.
func same(t *testing.T, what string, documented, inCode []string) {
	t.Helper()
	for _, pair := range []struct {
		said string
		a, b []string
	}{{"is documented, and not in the code", documented, inCode}, {"is in the code, and not documented", inCode, documented}} {
		for _, name := range slices.Compact(slices.Sorted(slices.Values(pair.a))) {
			if !slices.Contains(pair.b, name) {
				t.Errorf("%s: %s %s", what, name, pair.said)
			}
		}
	}
	if len(inCode) == 0 {
		t.Errorf("%s: nothing was found in the code", what)
	}
}
