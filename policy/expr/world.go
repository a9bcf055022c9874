package expr

import (
	"fmt"
	"reflect"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// object is a value of one of the object types.
type object struct{ v reflect.Value }

func (o object) Type() ref.Type { return celType(o.v.Type()) }
func (o object) Value() any     { return o }

// Equal is never called: check refuses it.
func (o object) Equal(ref.Val) ref.Val { return types.NewErr("objects cannot be compared") }

func (o object) ConvertToNative(reflect.Type) (any, error) {
	return nil, fmt.Errorf("a value of the type %s cannot be converted", o.v.Type().Name())
}

func (o object) ConvertToType(ref.Type) ref.Val {
	return types.NewErr("a value of the type %s cannot be converted", o.v.Type().Name())
}

// world knows the object types.
type world struct{ *types.Registry }

func (w *world) FindStructType(name string) (*types.Type, bool) {
	if t, ok := typeNamed(name); ok {
		return types.NewTypeTypeWithParam(celType(t)), true
	}
	return nil, false
}

func (w *world) FindStructFieldNames(name string) ([]string, bool) {
	t, ok := typeNamed(name)
	if !ok {
		return nil, false
	}
	return namesIn(t), true
}

func (w *world) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	t, ok := typeNamed(name)
	if !ok {
		return nil, false
	}
	f, ok := fieldOf(t, field)
	if !ok {
		return nil, false
	}
	what := strings.ToLower(t.Name()) + "." + field
	return &types.FieldType{
		Type:  celType(f.Type),
		IsSet: func(any) bool { return true },
		GetFrom: func(target any) (any, error) {
			v := reflect.ValueOf(target) // an element of a list, as it is in Facts
			if o, ok := target.(object); ok {
				v = o.v
			}
			if !v.IsValid() || v.Type() != t {
				return nil, fmt.Errorf("%s: got a %T", what, target)
			}
			return valueOf(v.FieldByIndex(f.Index), what)
		},
	}, true
}

func (w *world) NewValue(name string, _ map[string]ref.Val) ref.Val {
	return types.NewErr("%s cannot be made", name)
}

// NativeToValue wraps what the registry does not know.
func (w *world) NativeToValue(v any) ref.Val {
	if r := reflect.ValueOf(v); r.Kind() == reflect.Struct && isObject(r.Type()) {
		return object{r}
	}
	return w.Registry.NativeToValue(v)
}

// valueOf returns a fact as expressions have it, or an error if it is missing.
func valueOf(v reflect.Value, what string) (any, error) {
	if missing(v) {
		return nil, fmt.Errorf("%s is missing: it is not among the verified facts", what)
	}
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if isObject(v.Type()) {
		return object{v}, nil
	}
	return v.Interface(), nil
}

// activation has the facts by name.
type activation struct{ facts *Facts }

func (a activation) ResolveName(name string) (any, bool) {
	f, ok := fieldOf(reflect.TypeFor[Facts](), name)
	if !ok {
		return nil, false
	}
	v, err := valueOf(reflect.ValueOf(a.facts).Elem().FieldByIndex(f.Index), name)
	if err != nil {
		return types.WrapErr(err), true
	}
	return v, true
}

func (a activation) Parent() interpreter.Activation { return nil }

// functionNames are those of functions that read predicates, and of some that CEL has.
var functionNames = []string{"text", "number", "flag", "texts", "size", "startsWith", "endsWith", "contains", "matches", "all", "exists", "map", "filter"}

// functions declares those that read the predicate of an attestation at a JSON pointer. Each
// has one type of result, and no value of another type is taken for it.
func functions() (out []cel.EnvOption) {
	attestation := celType(reflect.TypeFor[Attestation]())
	for name, result := range map[string]*cel.Type{"text": cel.StringType, "number": cel.IntType, "flag": cel.BoolType, "texts": cel.ListType(cel.StringType)} {
		out = append(out, cel.Function(name, cel.MemberOverload("attestation_"+name, []*cel.Type{attestation, cel.StringType}, result,
			cel.BinaryBinding(func(target, pointer ref.Val) ref.Val { return read(name, target, pointer) }))))
	}
	return out
}

func read(name string, target, pointer ref.Val) ref.Val {
	o, ok := target.(object)
	at, isText := pointer.(types.String)
	if !ok || !isText {
		return types.NewErr("%s: got a %T", name, target)
	}
	a, ok := o.v.Interface().(Attestation)
	if !ok {
		return types.NewErr("%s: got a %s", name, o.v.Type().Name())
	}
	v, err := lookUp(a.Predicate, string(at))
	if err != nil {
		return types.WrapErr(fmt.Errorf("attestation %s: %w", a.Type, err))
	}
	wrong := types.NewErr("attestation %s: %s: got a value of another type than %s reads", a.Type, string(at), name)
	switch name {
	case "text":
		if s, ok := v.(string); ok {
			return types.String(s)
		}
	case "number":
		if n, ok := v.(float64); ok {
			if i, ok := asInt(n); ok {
				return types.Int(i)
			}
		}
	case "flag":
		if b, ok := v.(bool); ok {
			return types.Bool(b)
		}
	case "texts":
		list, ok := v.([]any)
		texts := make([]string, 0, len(list))
		for _, item := range list {
			s, isText := item.(string)
			ok = ok && isText
			texts = append(texts, s)
		}
		if ok {
			return types.NewStringList(types.DefaultTypeAdapter, texts)
		}
	}
	return wrong
}

// lookUp returns the value that a JSON pointer leads to.
func lookUp(document []byte, pointer string) (any, error) {
	p := jsontext.Pointer(pointer)
	if !p.IsValid() {
		return nil, fmt.Errorf("got %q, want a JSON pointer", pointer)
	}
	var v any
	if err := strict.Unmarshal(document, limits.Statement, &v); err != nil {
		return nil, err
	}
	for token := range p.Tokens() {
		var next any
		found := false
		switch c := v.(type) {
		case map[string]any:
			next, found = c[token]
		case []any:
			i := 0
			if _, err := fmt.Sscanf(token, "%d", &i); err == nil && fmt.Sprint(i) == token && i >= 0 && i < len(c) {
				next, found = c[i], true
			}
		}
		if !found {
			return nil, fmt.Errorf("%s is missing in the predicate", pointer)
		}
		v = next
	}
	return v, nil
}

// sizes bounds what is not known before an image is there: lists and texts.
type sizes struct{}

func (sizes) EstimateSize(element cost.AstNode) *cost.SizeEstimate {
	switch element.Type().Kind() {
	case types.StringKind, types.BytesKind:
		return &cost.SizeEstimate{Min: 0, Max: 256}
	case types.ListKind:
		if path := element.Path(); len(path) > 0 && path[len(path)-1] == "packages" {
			return &cost.SizeEstimate{Min: 0, Max: 10_000}
		}
		return &cost.SizeEstimate{Min: 0, Max: 64}
	}
	return nil
}

func (sizes) EstimateCallCost(function, _ string, _ *cost.AstNode, _ []cost.AstNode) *cost.CallEstimate {
	return nil
}
