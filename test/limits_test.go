package test

import (
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
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

// The tables of docs/limits.md have the numbers that the constants have.
func TestLimitsAreThoseOfTheCode(t *testing.T) {
	c := readSource(t)
	names := regexp.MustCompile("`([a-z-]+)\\.([A-Za-z0-9]+)`")
	tables, _, _ := strings.Cut(page(t, "docs/limits.md"), "\n## Limits that decide nothing")
	compared := 0
	for line := range strings.Lines(tables) {
		cells := strings.Split(line, " | ")
		if len(cells) < 3 || strings.HasPrefix(cells[1], "by kind") {
			continue
		}
		for _, m := range names.FindAllStringSubmatch(cells[len(cells)-1], -1) {
			for dir, values := range c.values {
				if filepath.Base(dir) != m[1] || values[m[2]] == nil {
					continue
				}
				v, err := c.value(dir, values[m[2]])
				if err != nil {
					continue // no number that this package can read
				}
				compared++
				n, _ := constant.Int64Val(constant.ToInt(v))
				if says := regexp.MustCompile(`(^|[^\d,.])(` + strings.Join(spellings(n), "|") + `)($|[^\d,.]|[.,]( |$))`); !says.MatchString(cells[1]) {
					t.Errorf("%s.%s is %d: got the limit %q", dir, m[2], n, cells[1])
				}
			}
		}
	}
	if compared < 300 {
		t.Errorf("compared %d constants, want most of them", compared)
	}
}

// spellings returns the ways in which a page writes a number, a size or a duration, as regular expressions.
func spellings(n int64) []string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	out := []string{digits, strings.ReplaceAll(digits, ",", "")}
	for i, unit := range []string{"KiB", "MiB", "GiB"} {
		if size := int64(1) << (10 * (i + 1)); n%size == 0 || n > 10*size { // from 10 on, rounded
			out = append(out, strconv.FormatInt((n+size/2)/size, 10)+" "+unit)
		}
	}
	if n%1_000_000 == 0 {
		out = append(out, strconv.FormatInt(n/1_000_000, 10)+" million")
	}
	if n == 1<<48-1 {
		out = append(out, `2\^48 − 1`)
	}
	for unit, d := range map[string]time.Duration{"second": time.Second, "minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour} {
		if n%int64(d) == 0 {
			out = append(out, strconv.FormatInt(n/int64(d), 10)+" "+unit+"s?")
		}
	}
	return out
}
