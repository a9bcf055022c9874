package test

import (
	"go/ast"
	"strings"
	"testing"
)

// TestStartCompilesNoExpressions wants regular expressions of package variables to be of
// internal/lazyregexp: the programs link all packages, and each run would compile every expression.
func TestStartCompilesNoExpressions(t *testing.T) {
	read := 0
	for path, file := range readSource(t).files {
		if strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "test/") || strings.HasPrefix(path, "tools/") || strings.HasPrefix(path, "examples/") {
			continue
		}
		read++
		for _, name := range compiledAtStart(file) {
			t.Errorf("%s: %s is compiled at the start: want lazyregexp.New", path, name)
		}
	}
	if read < 300 {
		t.Errorf("got %d files, want the whole module", read)
	}
}

// compiledAtStart returns the package variables of a file with a call of regexp.MustCompile that
// is in no function.
func compiledAtStart(file *ast.File) (names []string) {
	for _, decl := range file.Decls {
		vars, ok := decl.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range vars.Specs {
			v, ok := spec.(*ast.ValueSpec)
			if !ok {
				continue
			}
			ast.Inspect(v, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok {
					if from, name := called(call); from == "regexp" && name == "MustCompile" {
						names = append(names, v.Names[0].Name)
					}
				}
				_, function := n.(*ast.FuncLit)
				return !function
			})
		}
	}
	return names
}
