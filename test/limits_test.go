package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// docs/limits.md has each constant that limits something: those of internal/limits, and each
// max… elsewhere. A row of its first table names the test that goes past the limit.
func TestEveryLimitHasARow(t *testing.T) {
	page, err := os.ReadFile("../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	constant := regexp.MustCompile("`([a-z-]+\\.(?:max)?[A-Z][A-Za-z0-9]*)`")
	var rows []string
	first, _, ok := strings.Cut(string(page), "\n## ")
	if !ok {
		t.Fatal("docs/limits.md has one section, want three")
	}
	for line := range strings.Lines(string(page)) {
		for _, m := range constant.FindAllStringSubmatch(line, -1) {
			rows = append(rows, m[1])
		}
	}
	for line := range strings.Lines(first) {
		if constant.MatchString(line) && !regexp.MustCompile(`: Test\w+`).MatchString(line) {
			t.Errorf("a limit without a test: %s", line)
		}
	}
	code := limitsInCode(t)
	if len(code) < 50 {
		t.Fatalf("found %d constants, want the limits of the code", len(code))
	}
	for _, name := range code {
		if n := len(slices.DeleteFunc(slices.Clone(rows), func(row string) bool { return row != name })); n != 1 {
			t.Errorf("%s is in docs/limits.md %d times, want once: say there what happens past it, and which test tries it", name, n)
		}
	}
	for _, name := range rows {
		if !slices.Contains(code, name) {
			t.Errorf("docs/limits.md names %s, which the code does not have", name)
		}
	}
}

// limitsInCode returns the constants that are limits, as PACKAGE.NAME.
func limitsInCode(t *testing.T) (names []string) {
	limit := regexp.MustCompile(`^[mM]ax[A-Z]`)
	repoFiles(t, ".go", func(path string, text []byte) {
		path = filepath.ToSlash(strings.TrimPrefix(path, "../"))
		if strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "test/") || strings.HasPrefix(path, "tools/") {
			return
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		pkg := file.Name.Name
		if pkg == "main" {
			pkg = filepath.Base(filepath.Dir(path))
		}
		ast.Inspect(file, func(n ast.Node) bool {
			d, ok := n.(*ast.GenDecl)
			if !ok || d.Tok != token.CONST {
				return true
			}
			for _, s := range d.Specs {
				for _, name := range s.(*ast.ValueSpec).Names {
					if limit.MatchString(name.Name) || pkg == "limits" && name.IsExported() {
						names = append(names, pkg+"."+name.Name)
					}
				}
			}
			return true
		})
	})
	return names
}
