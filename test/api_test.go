package test

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/constant"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// library is the public library: the packages whose exported names importers
// rely on.
var library = []string{
	"attest", "tlog", "tlog/follow", "trust", "trust/tuf", "bundle", "oci", "source", "sign", "provenance", "sbom", "policy", "verify", "verify/report",
	"attest", "tlog", "tlog/witness", "trust", "trust/tuf", "bundle", "oci", "source", "sign", "provenance", "sbom", "policy", "verify", "verify/report",
	"attest", "audit", "search", "tlog", "tlog/prefix", "trust", "trust/tuf", "bundle", "oci", "source", "sign", "provenance", "sbom", "policy", "verify", "verify/report",
}

// goldenAPI is where the exported API of each package is written down, one name
// a line: testdata/api/<package>.txt.
const goldenAPI = "testdata/api"

// TestAPI compares the exported API of the public library with the golden files,
// so that nobody changes it without seeing it. UPDATE=1 rewrites the files.
func TestAPI(t *testing.T) {
	imports := newImporter(t)
	for _, name := range library {
		t.Run(name, func(t *testing.T) {
			pkg, err := imports.Import(module + "/" + name)
			if err != nil {
				t.Fatal(err)
			}
			got := exported(pkg)
			if len(got) == 0 {
				t.Fatalf("%s exports nothing", name)
			}
			compareGolden(t, filepath.Join(goldenAPI, filepath.FromSlash(name)+".txt"), got)
		})
	}
}

// Each golden file belongs to a package of the library.
func TestAPIFiles(t *testing.T) {
	err := filepath.WalkDir(goldenAPI, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(goldenAPI, path)
		if err != nil {
			return err
		}
		if name := strings.TrimSuffix(filepath.ToSlash(rel), ".txt"); !slices.Contains(library, name) {
			t.Errorf("%s: %s is not in the list of the public library; remove the file", path, name)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func compareGolden(t *testing.T, path string, got []string) {
	t.Helper()
	if os.Getenv("UPDATE") == "1" {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.Join(got, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	raw, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")
	if changes := difference(want, got); len(changes) > 0 {
		t.Errorf("the exported API differs from test/%s (- golden file, + code):\n%s\nIf you mean this change, run: UPDATE=1 go test ./test -run TestAPI", filepath.ToSlash(path), strings.Join(changes, "\n"))
	}
}

// difference returns the lines that only one of both has, marked with - or +.
func difference(old, now []string) (changes []string) {
	for _, line := range old {
		if line != "" && !slices.Contains(now, line) {
			changes = append(changes, "- "+line)
		}
	}
	for _, line := range now {
		if !slices.Contains(old, line) {
			changes = append(changes, "+ "+line)
		}
	}
	return changes
}

// newImporter returns an importer that reads the types of the library's packages
// from the compiler's export data.
func newImporter(t *testing.T) types.Importer {
	t.Helper()
	args := []string{"list", "-export", "-deps", "-f", "{{.ImportPath}}={{.Export}}"}
	for _, name := range library {
		args = append(args, module+"/"+name)
	}
	cmd := exec.Command("go", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, &stderr)
	}
	files := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), "=")
		files[path] = file
	}
	return importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) {
		if files[path] == "" {
			return nil, fmt.Errorf("go list named no export data of %q", path)
		}
		return os.Open(files[path])
	})
}

// exported lists the exported names of a package with their types: constants,
// variables, functions, types, and the fields and methods of types. Each is one
// line. The order is that of the names; a type comes before its members.
func exported(pkg *types.Package) (lines []string) {
	for _, name := range pkg.Scope().Names() { // sorted
		if !token.IsExported(name) {
			continue
		}
		switch o := pkg.Scope().Lookup(name).(type) {
		case *types.Const:
			kind := " " + typeName(pkg, o.Type())
			if b, ok := o.Type().(*types.Basic); ok && b.Info()&types.IsUntyped != 0 {
				kind = ""
			}
			lines = append(lines, fmt.Sprintf("const %s%s = %s", name, kind, value(o.Val())))
		case *types.TypeName:
			lines = append(lines, exportedType(pkg, o)...)
		default: // *types.Var, *types.Func
			lines = append(lines, types.ObjectString(o, qualifier(pkg)))
		}
	}
	return lines
}

func exportedType(pkg *types.Package, o *types.TypeName) []string {
	if o.IsAlias() {
		return []string{fmt.Sprintf("type %s = %s", o.Name(), typeName(pkg, types.Unalias(o.Type())))}
	}
	var kind string
	var members []string
	switch u := o.Type().Underlying().(type) {
	case *types.Struct:
		kind = "struct"
		members = fields(pkg, o.Name(), u)
	case *types.Interface:
		kind = "interface"
		for m := range u.Methods() {
			if m.Exported() {
				members = append(members, fmt.Sprintf("method %s.%s%s", o.Name(), m.Name(), signature(pkg, m)))
			} else {
				kind = "interface with unexported methods" // nobody else can implement it
			}
		}
	default:
		kind = typeName(pkg, u)
	}
	lines := append([]string{fmt.Sprintf("type %s %s", o.Name(), kind)}, members...)
	if types.IsInterface(o.Type()) {
		return lines
	}
	values := types.NewMethodSet(o.Type())
	for m := range types.NewMethodSet(types.NewPointer(o.Type())).Methods() { // sorted
		if f := m.Obj().(*types.Func); f.Exported() {
			receiver := "*" + o.Name()
			if values.Lookup(f.Pkg(), f.Name()) != nil {
				receiver = o.Name()
			}
			lines = append(lines, fmt.Sprintf("method (%s) %s%s", receiver, f.Name(), signature(pkg, f)))
		}
	}
	return lines
}

// fields lists the exported fields of a struct type, with those that it has from
// unexported structs that it embeds.
func fields(pkg *types.Package, owner string, s *types.Struct) (lines []string) {
	for i := range s.NumFields() {
		f := s.Field(i)
		if !f.Exported() {
			if embedded, ok := f.Type().Underlying().(*types.Struct); ok && f.Embedded() {
				lines = append(lines, fields(pkg, owner, embedded)...)
			}
			continue
		}
		line := fmt.Sprintf("field %s.%s %s", owner, f.Name(), typeName(pkg, f.Type()))
		if f.Embedded() {
			line += " (embedded)"
		}
		if tag := s.Tag(i); tag != "" {
			line += " `" + tag + "`"
		}
		lines = append(lines, line)
	}
	return lines
}

func signature(pkg *types.Package, f *types.Func) string {
	return strings.TrimPrefix(typeName(pkg, f.Type()), "func")
}

func typeName(pkg *types.Package, t types.Type) string { return types.TypeString(t, qualifier(pkg)) }

// qualifier names other packages by their import path below the module, or by
// their whole import path.
func qualifier(pkg *types.Package) types.Qualifier {
	return func(other *types.Package) string {
		if other == pkg {
			return ""
		}
		return inModule(other.Path())
	}
}

// value is all of a constant: Value.String shortens long texts.
func value(v constant.Value) string {
	if v.Kind() == constant.String {
		return strconv.Quote(constant.StringVal(v))
	}
	return v.ExactString()
}

// Every kind of exported name is in the list, and nothing else.
func TestAPILines(t *testing.T) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "p.go", `package p
		const C = "c"
		const D D2 = 2
		const hidden = 3
		var V []int
		type A = string
		type D2 int
		type hiddenType struct{ Promoted bool }
		func (*hiddenType) M() {}
		type T struct { F int `+"`json:\"f\"`"+`; hidden int; hiddenType }
		func (T) Get(name string) (int, error) { return 0, nil }
		func (*T) Set() {}
		func (T) hide() {}
		type I interface { Do(x ...T); hide() }
		func F(a, b string) *T { return nil }`, 0)
	if err != nil {
		t.Fatal(err)
	}
	pkg, err := new(types.Config).Check("example.com/p", fset, []*ast.File{file}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"type A = string", `const C = "c"`, "const D D2 = 2", "type D2 int", "func F(a string, b string) *T",
		"type I interface with unexported methods", "method I.Do(x ...T)",
		"type T struct", "field T.F int `json:\"f\"`", "field T.Promoted bool", "method (T) Get(name string) (int, error)", "method (*T) M()", "method (*T) Set()", "var V []int",
	}
	if changes := difference(want, exported(pkg)); len(changes) > 0 {
		t.Errorf("- missing, + unexpected:\n%s", strings.Join(changes, "\n"))
	}
}
