package workflow

import (
	"slices"
	"strings"

	"github.com/rhysd/actionlint"
)

// variable returns the name of a variable with its properties, in lower case, as in github.event.number; "" for
// anything else. GitHub reads github['Event']['number'] alike.
func variable(n actionlint.ExprNode) string {
	below := func(of actionlint.ExprNode, property string) string {
		if name := variable(of); name != "" {
			return name + "." + strings.ToLower(property)
		}
		return ""
	}
	switch n := n.(type) {
	case *actionlint.VariableNode:
		return strings.ToLower(n.Name)
	case *actionlint.ObjectDerefNode:
		return below(n.Receiver, n.Property)
	case *actionlint.IndexAccessNode:
		if key, ok := n.Index.(*actionlint.StringNode); ok {
			return below(n.Operand, key.Value)
		}
	}
	return ""
}

// names returns the variables whose values can become part of that of an expression, and its texts in texts. What is
// only compared is left out.
func (e expression) names() (names, texts []string) {
	if e.node == nil {
		return nil, nil
	}
	compared := 0
	actionlint.VisitExprNode(e.node, func(n, _ actionlint.ExprNode, entering bool) {
		switch {
		case isTruth(n) && entering:
			compared++
		case isTruth(n):
			compared--
		case compared > 0 || !entering:
		default:
			if text, ok := n.(*actionlint.StringNode); ok {
				texts = append(texts, text.Value)
			}
			if name := variable(n); name != "" {
				names = append(names, name)
			}
		}
	})
	return names, texts
}

// of returns what follows a context in the names of an expression: NAME of env.NAME.
func (e expression) of(context string) (out []string) {
	names, _ := e.names()
	for _, name := range names {
		if rest, ok := strings.CutPrefix(name, context+"."); ok {
			out = append(out, rest)
		}
	}
	return out
}

// comparison is one of a variable with a text.
type comparison struct {
	name, text string
	equal      bool
}

// demanded returns the comparisons that all must hold for a condition to hold. A condition that has expressions
// within other text has none: GitHub takes every text for true that is not empty.
func demanded(condition string) (out []comparison) {
	condition = strings.TrimSpace(condition)
	if !strings.Contains(condition, "${{") {
		condition = "${{" + condition + "}}"
	}
	all := expressions(condition)
	if len(all) != 1 || all[0].text != condition || all[0].node == nil {
		return nil
	}
	for open := []actionlint.ExprNode{all[0].node}; len(open) > 0; {
		n := open[len(open)-1]
		open = open[:len(open)-1]
		switch n := n.(type) {
		case *actionlint.LogicalOpNode:
			if n.Kind == actionlint.LogicalOpNodeKindAnd {
				open = append(open, n.Left, n.Right)
			}
		case *actionlint.CompareOpNode:
			text, ok := n.Right.(*actionlint.StringNode)
			if name := variable(n.Left); ok && name != "" && (n.Kind == actionlint.CompareOpNodeKindEq || n.Kind == actionlint.CompareOpNodeKindNotEq) {
				out = append(out, comparison{name, text.Value, n.Kind == actionlint.CompareOpNodeKindEq})
			}
		}
	}
	return out
}

// excludes reports whether a condition keeps a job or step from running for an event.
func excludes(condition, event string) bool {
	return slices.ContainsFunc(demanded(condition), func(c comparison) bool {
		return c.name == "github.event_name" && c.equal != strings.EqualFold(c.text, event)
	})
}
