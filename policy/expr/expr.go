package expr

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"regexp/syntax"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/strict"
)

// Limits on one expression.
const (
	maxLength  = 4096 // bytes
	maxNesting = 2    // comprehensions (all, exists, exists_one, map, filter) within each other
	maxDepth   = 32   // nesting of the expression itself
	maxCost    = 2_000_000
	maxRegexp  = 1000 // size of a compiled regular expression
)

// Program is an expression that is true or false of facts.
type Program struct {
	text    string
	program cel.Program
}

// String returns the expression.
func (p *Program) String() string { return p.text }

// environment declares what expressions know. It takes milliseconds to make, so that it is
// made for the first expression.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	registry, err := types.NewRegistry()
	if err != nil {
		return nil, err
	}
	world := &world{Registry: registry}
	options := []cel.EnvOption{
		cel.CustomTypeAdapter(world), cel.CustomTypeProvider(world),
		// Without the macro "has", nothing can be true because a fact is missing.
		cel.ClearMacros(), cel.Macros(cel.AllMacro, cel.ExistsMacro, cel.ExistsOneMacro, cel.MapMacro, cel.MapFilterMacro, cel.FilterMacro),
		cel.ParserRecursionLimit(maxDepth), cel.ParserExpressionSizeLimit(maxLength), cel.RegexProgramSizeLimit(maxRegexp),
		cel.HomogeneousAggregateLiterals(), cel.DefaultUTCTimeZone(true),
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Facts]()) {
		options = append(options, cel.Variable(f.Tag.Get("cel"), celType(f.Type)))
	}
	return cel.NewCustomEnv(append([]cel.EnvOption{cel.StdLib()}, append(options, functions()...)...)...)
})

// Compile parses an expression and checks its types. The error is a *strict.Fault, whose
// place is in the expression.
func Compile(text string) (*Program, error) {
	if len(text) > maxLength {
		return nil, fault(1, 0, "expression: got %d bytes, want at most %d", len(text), maxLength)
	}
	env, err := environment()
	if err != nil {
		return nil, err
	}
	checked, issues := env.Compile(text)
	if issues != nil && len(issues.Errors()) > 0 {
		e := issues.Errors()[0]
		return nil, fault(e.Location.Line(), e.Location.Column(), "expression: %s", plain(e.Message))
	}
	if got := checked.OutputType(); !got.IsExactType(cel.BoolType) {
		return nil, fault(1, 0, "expression: got a value of the type %s, want true or false", got)
	}
	if err := check(checked.NativeRep()); err != nil {
		return nil, err
	}
	estimate, err := env.EstimateCost(checked, sizes{})
	if err != nil {
		return nil, fault(1, 0, "expression: %v", err)
	}
	if estimate.Max > maxCost {
		return nil, fault(1, 0, "expression: it may take %d steps, want at most %d: compare fewer things with each other", estimate.Max, maxCost)
	}
	program, err := env.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost))
	if err != nil {
		return nil, fault(1, 0, "expression: %v", err)
	}
	return &Program{text, program}, nil
}

// Eval reports whether the expression is true of the facts. An error means that it is not
// known: a fact is missing, or it took too many steps.
func (p *Program) Eval(f *Facts) (bool, error) {
	out, _, err := p.program.Eval(activation{f})
	if err != nil {
		return false, fmt.Errorf("expression: %w", err)
	}
	yes, ok := out.(types.Bool)
	if !ok {
		return false, errors.New("expression: it is neither true nor false")
	}
	return bool(yes), nil
}

func fault(line, column int, format string, args ...any) *strict.Fault {
	return &strict.Fault{Line: max(line, 1), Column: max(column, 0) + 1, What: fmt.Sprintf(format, args...)}
}

var unknownName = lazyregexp.New(`^(undefined field|undeclared reference to) '([^']*)'`)

// plain returns an error of the library in our words.
func plain(message string) string {
	m := unknownName.FindStringSubmatch(message)
	switch {
	case m == nil:
		return message
	case m[2] == "has":
		return "there is no has(): a fact that is missing is no reason to accept"
	case m[2] == "dyn" || m[2] == "type":
		return fmt.Sprintf("there is no %s(): every value has one type", m[2])
	}
	what := fmt.Sprintf("there is no %q", m[2])
	names := everyName()
	if m[1] != "undefined field" {
		names = slices.Concat(namesIn(reflect.TypeFor[Facts]()), functionNames)
		what += " (known: " + strings.Join(names, ", ") + ")"
	}
	if near := strict.Nearest(m[2], names); near != "" {
		what = strings.Replace(what, `"`+m[2]+`"`, fmt.Sprintf("%q; did you mean %q?", m[2], near), 1)
	}
	return what
}

// check refuses what has types and still could hide that a fact is missing or another than
// it seems: comparisons of whole objects, values of no fixed type, objects made in the
// expression; and comprehensions that are nested too deeply.
func check(e *ast.AST) error {
	var first error
	at := func(x ast.Expr, format string, args ...any) {
		if first == nil {
			place := e.SourceInfo().GetStartLocation(x.ID())
			first = fault(place.Line(), place.Column(), format, args...)
		}
	}
	var visit func(x ast.Expr, nesting int)
	visit = func(x ast.Expr, nesting int) {
		if t := e.GetType(x.ID()); t != nil && loose(t) && (x.Kind() != ast.CallKind || x.AsCall().FunctionName() != "dyn") {
			at(x, "expression: got a value that has no fixed type")
		}
		switch x.Kind() {
		case ast.CallKind:
			call := x.AsCall()
			if name := call.FunctionName(); name == "type" || name == "dyn" {
				at(x, "expression: %s", plain("undeclared reference to '"+name+"'"))
			}
			if call.IsMemberFunction() {
				visit(call.Target(), nesting)
			}
			if args := call.Args(); call.FunctionName() == "matches" && !(len(args) == 1 && isWhole(args[0])) {
				at(x, `expression: want .matches("^…$") with a pattern that must match the whole text`)
			}
			for _, arg := range call.Args() {
				visit(arg, nesting)
				if t := e.GetType(arg.ID()); t != nil && compares(call.FunctionName()) && !comparable(t) {
					at(arg, "expression: a value of the type %s cannot be compared: compare its fields", typeName(t))
				}
			}
		case ast.ComprehensionKind:
			c := x.AsComprehension()
			if nesting++; nesting > maxNesting {
				at(x, "expression: all, exists, map and filter are nested more than %d times", maxNesting)
			}
			visit(c.IterRange(), nesting)
			visit(c.AccuInit(), nesting)
			visit(c.LoopCondition(), nesting)
			visit(c.LoopStep(), nesting)
			visit(c.Result(), nesting)
		case ast.ListKind:
			for _, item := range x.AsList().Elements() {
				visit(item, nesting)
			}
		case ast.SelectKind:
			if x.AsSelect().IsTestOnly() {
				at(x, "expression: there is no has(): a fact that is missing is no reason to accept")
			}
			visit(x.AsSelect().Operand(), nesting)
		case ast.StructKind, ast.MapKind:
			at(x, "expression: objects cannot be made here")
		}
	}
	visit(e.Expr(), 0)
	return first
}

// isWhole reports whether an argument is a regular expression that must match a whole text.
func isWhole(x ast.Expr) bool {
	if x.Kind() != ast.LiteralKind {
		return false
	}
	text, ok := x.AsLiteral().(types.String)
	if !ok {
		return false
	}
	// As regexp reads it: ^ and $ are the ends of the text, and "^a|b$" is an alternation.
	re, err := syntax.Parse(string(text), syntax.Perl)
	if err != nil || re.Op != syntax.OpConcat {
		return false
	}
	return re.Sub[0].Op == syntax.OpBeginText && re.Sub[len(re.Sub)-1].Op == syntax.OpEndText
}

func compares(function string) bool {
	return function == operators.Equals || function == operators.NotEquals || function == operators.In
}

func typeName(t *cel.Type) string { return strings.TrimPrefix(t.String(), prefix) }

// loose reports whether a type is not fixed.
func loose(t *cel.Type) bool {
	switch t.Kind() {
	case types.DynKind, types.AnyKind, types.ErrorKind:
		return true
	case types.ListKind, types.MapKind:
		return slices.ContainsFunc(t.Parameters(), func(p *cel.Type) bool { return loose(p) && p.Kind() != types.TypeParamKind })
	}
	return false
}

// comparable reports whether values of a type have parts that may be missing.
func comparable(t *cel.Type) bool {
	switch t.Kind() {
	case types.StringKind, types.IntKind, types.UintKind, types.DoubleKind, types.BoolKind, types.BytesKind, types.TimestampKind, types.DurationKind:
		return true
	case types.ListKind:
		return comparable(t.Parameters()[0])
	case types.TypeParamKind: // of an empty list
		return true
	}
	return false
}

// asInt returns a number as an int64 if it is one exactly.
func asInt(n float64) (int64, bool) {
	if n != math.Trunc(n) || math.Abs(n) >= 1<<53 {
		return 0, false
	}
	return int64(n), true
}
