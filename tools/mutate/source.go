package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strings"
)

// mutant is one change of one package, off unless the environment chooses it.
type mutant struct {
	id   int
	file string // path
	line int
	last int    // line of the end of the function around it
	fn   string // name of the function around it
	kind string // what it changes
	text string // the source line
}

func (m mutant) String() string {
	return fmt.Sprintf("%s:%d: %s: %s: %s", m.file, m.line, m.fn, m.kind, m.text)
}

// Kinds of mutants.
const (
	negated  = "condition negated"
	boundary = "boundary moved"
	andOr    = "&& and || exchanged"
	dropped  = "statement removed"
	noReturn = "return of an error removed"
)

// edit is a piece of text at an offset of a file. Suffixes come before prefixes at the
// same offset, so that the parts of neighbours do not cross.
type edit struct {
	at, skip int // skip: bytes of the original that it replaces
	prefix   bool
	text     string
}

// instrumented is a file with all of its mutants in it.
type instrumented struct {
	path    string
	fset    *token.FileSet
	src     []byte
	lines   []string
	edits   []edit
	mutants []mutant
	next    *int
	skip    map[int]bool // mutants that do not compile
	last    int
	fn      string
	errs    []bool // for each function around: its last result is an error
}

// instrument returns the text of a file with its mutants, numbered from *next on. The
// mutants in skip get a number, but are left out.
func instrument(path string, next *int, skip map[int]bool) ([]byte, []mutant, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	f := &instrumented{path: path, fset: token.NewFileSet(), src: src, lines: strings.Split(string(src), "\n"), next: next, skip: skip}
	parsed, err := parser.ParseFile(f.fset, path, src, 0)
	if err != nil {
		return nil, nil, err
	}
	for _, d := range parsed.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
			f.last, f.fn = f.fset.Position(fn.End()).Line, fn.Name.Name
			f.errs = []bool{returnsError(fn.Type)}
			f.block(fn.Body.List, false)
		}
	}
	return f.result(), f.mutants, nil
}

func returnsError(t *ast.FuncType) bool {
	if t.Results == nil || len(t.Results.List) == 0 {
		return false
	}
	id, ok := t.Results.List[len(t.Results.List)-1].Type.(*ast.Ident)
	return ok && id.Name == "error"
}

// result applies the edits.
func (f *instrumented) result() []byte {
	slices.SortStableFunc(f.edits, func(a, b edit) int {
		if a.at != b.at {
			return a.at - b.at
		}
		if a.prefix != b.prefix {
			if b.prefix {
				return -1
			}
			return 1
		}
		return 0
	})
	var out bytes.Buffer
	at := 0
	for _, e := range f.edits {
		out.Write(f.src[at:e.at])
		out.WriteString(e.text)
		at = e.at + e.skip
	}
	out.Write(f.src[at:])
	return out.Bytes()
}

func (f *instrumented) offset(p token.Pos) int { return f.fset.Position(p).Offset }

// add numbers a mutant. It returns 0 for one that is left out.
func (f *instrumented) add(kind string, at token.Pos) int {
	*f.next++
	if f.skip[*f.next] {
		return 0
	}
	line := f.fset.Position(at).Line
	f.mutants = append(f.mutants, mutant{*f.next, f.path, line, f.last, f.fn, kind, strings.TrimSpace(f.lines[line-1])})
	return *f.next
}

func (f *instrumented) before(p token.Pos, format string, args ...any) {
	f.edits = append(f.edits, edit{f.offset(p), 0, true, fmt.Sprintf(format, args...)})
}

func (f *instrumented) after(p token.Pos, text string) {
	f.edits = append(f.edits, edit{f.offset(p), 0, false, text})
}

func (f *instrumented) replace(p token.Pos, old, text string) {
	f.edits = append(f.edits, edit{f.offset(p), len(old), true, text})
}

// block mutates the statements of a block; inner says that the function goes on after
// the block, so that a return in it can be left out.
func (f *instrumented) block(list []ast.Stmt, inner bool) {
	for _, s := range list {
		kind := ""
		switch s := s.(type) {
		case *ast.ReturnStmt:
			if inner && f.errs[len(f.errs)-1] && len(s.Results) > 0 && !isNil(s.Results[len(s.Results)-1]) {
				kind = noReturn
			}
		case *ast.ExprStmt:
			if call, ok := s.X.(*ast.CallExpr); ok && !waits(call) {
				kind = dropped
			}
		case *ast.AssignStmt:
			if s.Tok != token.DEFINE && !isBlank(s.Lhs) {
				kind = dropped
			}
		case *ast.IncDecStmt:
			kind = dropped
		}
		id := 0
		if kind != "" {
			id = f.add(kind, s.Pos())
		}
		if id != 0 {
			f.before(s.Pos(), "if !mutant__(%d) { ", id)
		}
		f.walk(s)
		if id != 0 {
			f.after(s.End(), " }")
		}
	}
}

func isNil(e ast.Expr) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == "nil"
}

func isBlank(list []ast.Expr) bool {
	return !slices.ContainsFunc(list, func(e ast.Expr) bool {
		id, ok := e.(*ast.Ident)
		return !ok || id.Name != "_"
	})
}

// waits reports whether a call synchronizes or cleans up: without it, a test hangs or
// nothing is decided otherwise.
func waits(call *ast.CallExpr) bool {
	switch fun := call.Fun.(type) {
	case *ast.SelectorExpr:
		return slices.Contains([]string{"Lock", "Unlock", "RLock", "RUnlock", "Wait", "Done", "Close", "Add", "Stop", "Debug", "Info", "Warn", "Error", "Log"}, fun.Sel.Name)
	case *ast.Ident:
		return fun.Name == "panic" || fun.Name == "close"
	}
	return false
}

// walk mutates what is in a node.
func (f *instrumented) walk(n ast.Node) {
	switch n := n.(type) {
	case nil:
	case *ast.BlockStmt:
		f.block(n.List, true)
	case *ast.IfStmt:
		if n.Init != nil {
			f.walk(n.Init)
		}
		f.condition(n.Cond)
		f.block(n.Body.List, true)
		if n.Else != nil {
			f.walk(n.Else)
		}
	case *ast.ForStmt: // a negated condition would only loop for ever
		f.children(&ast.ForStmt{Init: n.Init, Post: n.Post, Body: &ast.BlockStmt{}})
		if b, ok := n.Cond.(*ast.BinaryExpr); ok {
			f.binary(b, false)
		} else if n.Cond != nil {
			f.walk(n.Cond)
		}
		f.block(n.Body.List, true)
	case *ast.CaseClause:
		for _, e := range n.List {
			f.walk(e)
		}
		f.block(n.Body, true)
	case *ast.CommClause:
		f.block(n.Body, true)
	case *ast.SwitchStmt:
		f.tagless(n)
	case *ast.FuncLit:
		f.errs = append(f.errs, returnsError(n.Type))
		f.block(n.Body.List, false)
		f.errs = f.errs[:len(f.errs)-1]
	case *ast.BinaryExpr:
		f.binary(n, true)
	case *ast.TypeSwitchStmt:
		f.block(n.Body.List, true)
	case *ast.GenDecl:
	default:
		f.children(n)
	}
}

// children walks over the nodes right below one.
func (f *instrumented) children(n ast.Node) {
	ast.Inspect(n, func(c ast.Node) bool {
		if c == nil || c == n {
			return c == n
		}
		f.walk(c)
		return false
	})
}

// tagless treats the cases of a switch without a tag as conditions.
func (f *instrumented) tagless(s *ast.SwitchStmt) {
	if s.Init != nil {
		f.walk(s.Init)
	}
	if s.Tag != nil {
		f.walk(s.Tag)
		f.block(s.Body.List, true)
		return
	}
	for _, c := range s.Body.List {
		c := c.(*ast.CaseClause)
		for _, e := range c.List {
			f.condition(e)
		}
		f.block(c.Body, true)
	}
}

// condition negates a whole condition, and mutates its parts.
func (f *instrumented) condition(e ast.Expr) {
	id := f.add(negated, e.Pos())
	if id != 0 {
		f.before(e.Pos(), "mutantNot__(%d, ", id)
	}
	if b, ok := e.(*ast.BinaryExpr); ok {
		f.binary(b, false)
	} else {
		f.walk(e)
	}
	if id != 0 {
		f.after(e.End(), ")")
	}
}

// binary mutates an operation; negate says that a comparison is to be negated, too.
func (f *instrumented) binary(b *ast.BinaryExpr, negate bool) {
	switch b.Op {
	case token.LAND, token.LOR:
		id := f.add(andOr, b.OpPos)
		if id == 0 {
			f.walk(b.X)
			f.walk(b.Y)
			return
		}
		name := map[token.Token]string{token.LAND: "mutantAnd__", token.LOR: "mutantOr__"}[b.Op]
		f.before(b.Pos(), "%s(%d, func() bool { return (", name, id)
		f.walk(b.X)
		f.replace(b.OpPos, b.Op.String(), ") }, func() bool { return (")
		f.walk(b.Y)
		f.after(b.End(), ") })")
	case token.EQL, token.NEQ:
		id := 0
		if negate {
			id = f.add(negated, b.Pos())
		}
		if id != 0 {
			f.before(b.Pos(), "mutantNot__(%d, ", id)
		}
		f.walk(b.X)
		f.walk(b.Y)
		if id != 0 {
			f.after(b.End(), ")")
		}
	case token.LSS, token.LEQ, token.GTR, token.GEQ:
		id := f.add(boundary, b.OpPos)
		if id == 0 {
			f.walk(b.X)
			f.walk(b.Y)
			return
		}
		name := map[token.Token]string{token.LSS: "mutantLess__", token.LEQ: "mutantLessEqual__", token.GTR: "mutantGreater__", token.GEQ: "mutantGreaterEqual__"}[b.Op]
		f.before(b.Pos(), "%s(%d, ", name, id)
		f.walk(b.X)
		f.replace(b.OpPos, b.Op.String(), ", ")
		f.walk(b.Y)
		f.after(b.End(), ")")
	default:
		f.walk(b.X)
		f.walk(b.Y)
	}
}

// helpers is the file that an instrumented package gets besides. MUTANT is the number
// of the mutant to switch on; MUTANT_TRACE a file that gets the number of each mutant
// that is reached.
const helpers = `package %s

import (
	mutantCmp__ "cmp"
	mutantOs__ "os"
	mutantStrconv__ "strconv"
	mutantSync__ "sync"
)

var (
	mutantOn__, _  = mutantStrconv__.Atoi(mutantOs__.Getenv("MUTANT"))
	mutantTrace__  = mutantOs__.Getenv("MUTANT_TRACE")
	mutantSeen__   mutantSync__.Map
)

func mutant__(id int) bool {
	if mutantTrace__ != "" {
		if _, seen := mutantSeen__.LoadOrStore(id, true); !seen {
			if f, err := mutantOs__.OpenFile(mutantTrace__, mutantOs__.O_APPEND|mutantOs__.O_CREATE|mutantOs__.O_WRONLY, 0o600); err == nil {
				f.WriteString(mutantStrconv__.Itoa(id) + "\n")
				f.Close()
			}
		}
	}
	return id == mutantOn__
}

func mutantNot__(id int, b bool) bool { return b != mutant__(id) }

func mutantAnd__(id int, a, b func() bool) bool {
	if mutant__(id) {
		return a() || b()
	}
	return a() && b()
}

func mutantOr__(id int, a, b func() bool) bool {
	if mutant__(id) {
		return a() && b()
	}
	return a() || b()
}

func mutantLess__[T mutantCmp__.Ordered](id int, a, b T) bool { return a < b || mutant__(id) && a == b }

func mutantLessEqual__[T mutantCmp__.Ordered](id int, a, b T) bool { return a < b || a == b && !mutant__(id) }

func mutantGreater__[T mutantCmp__.Ordered](id int, a, b T) bool { return a > b || mutant__(id) && a == b }

func mutantGreaterEqual__[T mutantCmp__.Ordered](id int, a, b T) bool { return a > b || a == b && !mutant__(id) }
`
