package main

import (
	"cmp"
	"encoding/json"
	"reflect"
	"strings"
	"text/template/parse"
)

// fits fails if the template names a member that no answer of v's type has. Commands that change something ask
// before they begin: after the work, nobody gets the answer. What is not known before, as the type
// of a variable, passes.
func (o *output) fits(v any) error {
	if o.template == nil || o.template.Tree == nil {
		return nil
	}
	m := &members{answer: reflect.TypeOf(v)}
	m.list(o.template.Root, m.answer)
	return m.err
}

// members compares the members that a template names with the Go types of an answer. A type that cannot be
// told is nil.
type members struct {
	answer reflect.Type
	err    error // the first
}

// list looks at the nodes of a template for which {{.}} is of the type dot.
func (m *members) list(l *parse.ListNode, dot reflect.Type) {
	if l == nil {
		return
	}
	for _, n := range l.Nodes {
		switch n := n.(type) {
		case *parse.ActionNode:
			m.pipe(n.Pipe, dot)
		case *parse.TemplateNode:
			m.pipe(n.Pipe, dot)
		case *parse.IfNode:
			m.pipe(n.Pipe, dot)
			m.list(n.List, dot)
			m.list(n.ElseList, dot)
		case *parse.WithNode:
			m.list(n.List, m.pipe(n.Pipe, dot))
			m.list(n.ElseList, dot)
		case *parse.RangeNode:
			m.list(n.List, entry(m.pipe(n.Pipe, dot)))
			m.list(n.ElseList, dot)
		}
	}
}

// pipe returns the type of a pipeline, if that is one operand alone.
func (m *members) pipe(p *parse.PipeNode, dot reflect.Type) (t reflect.Type) {
	if p == nil {
		return nil
	}
	for _, c := range p.Cmds {
		for _, a := range c.Args {
			t = m.operand(a, dot)
		}
	}
	if len(p.Cmds) != 1 || len(p.Cmds[0].Args) != 1 {
		return nil
	}
	return t
}

func (m *members) operand(n parse.Node, dot reflect.Type) reflect.Type {
	switch n := n.(type) {
	case *parse.DotNode:
		return dot
	case *parse.FieldNode:
		return m.find(dot, n.Ident)
	case *parse.VariableNode:
		if n.Ident[0] == "$" {
			return m.find(m.answer, n.Ident[1:])
		}
	case *parse.ChainNode:
		m.operand(n.Node, dot)
	case *parse.PipeNode:
		return m.pipe(n, dot)
	}
	return nil
}

// find returns the type of the member that path names from t on.
func (m *members) find(t reflect.Type, path []string) reflect.Type {
	for i, name := range path {
		t = plain(t)
		if t == nil || t.Kind() == reflect.Map {
			return nil
		}
		what, hint := "the answer", ""
		switch {
		case i > 0:
			what = "." + strings.Join(path[:i], ".")
		case t != m.answer:
			what = "inside range or with, {{.}}"
		}
		if t.Kind() == reflect.Slice {
			what, hint = what+" is a list, and", "{{range .}}{{."+name+"}} {{end}} is for each entry of a list"
		}
		var next reflect.Type
		var known []string
		if t.Kind() == reflect.Struct {
			if next, known = member(t, name); next == nil {
				hint = "its members are: " + strings.Join(known, ", ")
			}
		}
		if next == nil {
			if m.err == nil {
				m.err = usageError(hint, "--output: %s has no member .%s", what, name)
			}
			return nil
		}
		t = next
	}
	return t
}

// member returns the type of the member name in the JSON of the struct t, and the names of all members.
func member(t reflect.Type, name string) (found reflect.Type, names []string) {
	for _, f := range reflect.VisibleFields(t) {
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || tag == "-" || f.Anonymous && tag == "" {
			continue
		}
		names = append(names, cmp.Or(tag, f.Name))
		if names[len(names)-1] == name {
			found = f.Type
		}
	}
	return found, names
}

// entry returns the type of the entries of a list, and nil for what is no list.
func entry(t reflect.Type) reflect.Type {
	if t = plain(t); t == nil || t.Kind() != reflect.Slice {
		return nil
	}
	return t.Elem()
}

// plain returns the type that t points to, and nil if its JSON does not follow from the type.
func plain(t reflect.Type) reflect.Type {
	if t == nil || t.Implements(reflect.TypeFor[json.Marshaler]()) || t.Kind() == reflect.Interface {
		return nil
	}
	if t.Kind() == reflect.Pointer {
		return plain(t.Elem())
	}
	return t
}
