package test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Code that is longer than this has more than one subject. Files of tests may be longer, and a test is one story,
// which may have long tables.
const (
	maxFunction = 80  // lines
	maxFile     = 600 // lines
	maxTest     = 120 // lines of a function in a file of tests, beside those of its tables
)

// TestSizes holds the length of functions and files, in every module of the repository.
func TestSizes(t *testing.T) {
	read := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		name := d.Name()
		switch {
		case err != nil:
			return err
		case d.IsDir() && (name == "out" || name == "testdata" || name == "node_modules" || strings.HasPrefix(name, ".") && path != ".."):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		read++
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, long := range oversized(t, path, src) {
			t.Error(long)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if read < 1000 {
		t.Errorf("expected the files of the whole house, found %d", read)
	}
}

func TestSizesOfLongCode(t *testing.T) {
	function := func(lines int) string { return "func f() {\n" + strings.Repeat("\tg()\n", lines-2) + "}\n" }
	for _, c := range []struct {
		name, src string
		want      int
	}{
		{"longest function", function(maxFunction), 0},
		{"function", function(maxFunction + 1), 1},
		{"method", strings.Replace(function(maxFunction+1), "func f", "func (t *T) f", 1), 1},
		{"longest file", strings.Repeat("\n", maxFile-1), 0},
		{"file", strings.Repeat("\n", maxFile), 1},
		{"both", strings.Repeat("\n", maxFile) + function(maxFunction+1), 2},
		{"longest_test.go", function(maxTest), 0},
		{"long_test.go", function(maxTest + 1), 1},
		{"file_test.go", strings.Repeat("\n", maxFile), 0},
		{"table_test.go", strings.Replace(function(maxTest), "g()", "g([]string{\n\n})", 1), 0},
		{"table_and_long_test.go", strings.Replace(function(maxTest+1), "g()", "g([]string{\n})", 1), 1},
	} {
		if got := oversized(t, c.name, []byte("package p\n"+c.src)); len(got) != c.want {
			t.Errorf("%s: got %q, want %d", c.name, got, c.want)
		}
	}
}

// oversized returns what is too long in a file, for people.
func oversized(t *testing.T, path string, src []byte) (long []string) {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, src, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	most, test := maxFunction, strings.HasSuffix(path, "_test.go")
	if test {
		most = maxTest
	}
	if lines := bytes.Count(src, []byte("\n")); lines > maxFile && !test {
		long = append(long, fmt.Sprintf("%s: expected at most %d lines, found %d: give each subject its own file", path, maxFile, lines))
	}
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		from, to := files.Position(f.Pos()), files.Position(f.End())
		lines := to.Line - from.Line + 1
		if test {
			lines -= tables(files, f)
		}
		if lines > most {
			long = append(long, fmt.Sprintf("%s: %s: expected at most %d lines, found %d: split it along its parts", from, f.Name.Name, most, lines))
		}
	}
	return long
}

// tables returns how many lines a function has only because of its composite literals.
func tables(files *token.FileSet, f *ast.FuncDecl) (lines int) {
	ast.Inspect(f, func(n ast.Node) bool {
		table, ok := n.(*ast.CompositeLit)
		if ok {
			lines += files.Position(table.End()).Line - files.Position(table.Pos()).Line
		}
		return !ok
	})
	return lines
}
