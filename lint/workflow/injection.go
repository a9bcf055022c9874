package workflow

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/rhysd/actionlint"
	"go.yaml.in/yaml/v3"

	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/yamlfile"
)

// expression is one "${{ … }}" in a text.
type expression struct {
	start, end int
	text       string
	node       actionlint.ExprNode // nil if it cannot be parsed
}

// Caps on the expressions of one text: the length of each, in bytes, and their number. GitHub refuses
// expressions that are longer than 21,000 characters, and a text with expressions is one for GitHub.
const (
	maxExpression  = 21_000
	maxExpressions = maxExpression / len("${{}}")
)

// expressions returns the expressions of a text.
func expressions(text string) (out []expression) {
	for at := 0; ; {
		i := strings.Index(text[at:], "${{")
		if i < 0 {
			return out
		}
		start := at + i
		if len(out) == maxExpressions {
			return out
		}
		// The parser calls itself for what is nested.
		lexer := actionlint.NewExprLexer(text[start+3 : min(len(text), start+maxExpression)])
		e := expression{start: start}
		node, err := actionlint.NewExprParser().Parse(lexer)
		if err == nil {
			e.node = node
			e.end = start + 3 + lexer.Offset()
		} else if n := strings.Index(text[start:], "}}"); n >= 0 {
			e.end = start + n + 2
		} else {
			return out
		}
		e.end = min(e.end, len(text))
		e.text = text[start:e.end]
		out = append(out, e)
		at = e.end
	}
}

// untrusted are texts that strangers choose: what actionlint lists, and the runs that start
// workflow_run.
var untrusted = sync.OnceValue(func() actionlint.UntrustedInputSearchRoots {
	m := actionlint.NewUntrustedInputMap
	roots := actionlint.UntrustedInputSearchRoots{}
	for _, r := range actionlint.BuiltinUntrustedInputs {
		roots.AddRoot(r)
	}
	roots.AddRoot(m("github",
		append(childrenOf(actionlint.BuiltinUntrustedInputs["github"], "event"),
			m("event", append(childrenOf(actionlint.BuiltinUntrustedInputs["github"].Children["event"], "workflow_run"),
				m("workflow_run",
					m("head_branch"), m("display_title"),
					m("head_commit", m("message"), m("author", m("email"), m("name"))),
					m("head_repository", m("description")),
					m("pull_requests", m("*", m("head", m("ref")))),
				))...))...))
	return roots
})

// childrenOf copies the children of a list of untrusted texts, without one: the list belongs to
// actionlint, which finds the way up from a child.
func childrenOf(of *actionlint.UntrustedInputMap, without string) (out []*actionlint.UntrustedInputMap) {
	for _, name := range slices.Sorted(maps.Keys(of.Children)) {
		if name != without {
			out = append(out, actionlint.NewUntrustedInputMap(name, childrenOf(of.Children[name], "")...))
		}
	}
	return out
}

// tainted returns a part of an expression that strangers choose, or "".
func tainted(e expression, roots actionlint.UntrustedInputSearchRoots) string {
	if e.node == nil {
		return ""
	}
	c := actionlint.NewUntrustedInputChecker(roots)
	c.Init()
	compared := 0 // depth of comparisons, whose value is true or false
	actionlint.VisitExprNode(e.node, func(n, _ actionlint.ExprNode, entering bool) {
		if isTruth(n) {
			if entering {
				compared++
			} else {
				compared--
			}
		}
		switch {
		case compared > 0:
		case entering:
			c.OnVisitNodeEnter(n)
		default:
			c.OnVisitNodeLeave(n)
		}
	})
	c.OnVisitEnd()
	if errs := c.Errs(); len(errs) > 0 {
		text := errs[0].Message
		if i := strings.IndexByte(text, '"'); i >= 0 {
			if j := strings.IndexByte(text[i+1:], '"'); j >= 0 {
				return text[i+1 : i+1+j]
			}
		}
		return strings.Trim(e.text, "${} ")
	}
	return ""
}

func isTruth(n actionlint.ExprNode) bool {
	switch n.(type) {
	case *actionlint.CompareOpNode, *actionlint.NotOpNode:
		return true
	}
	return false
}

// codeInputs are inputs of actions that run as code.
var codeInputs = map[string]string{
	"actions/github-script": "script", "azure/cli": "inlinescript", "azure/powershell": "inlinescript", "appleboy/ssh-action": "script", "addnab/docker-run-action": "run",
	"cloudposse/actions": "script", "nick-fields/retry": "command", "Wandalen/wretry.action": "command",
}

// injections finds texts of strangers in scripts.
func injections(w *file) (out []finding.Finding) {
	roots := untrusted()
	for _, j := range w.jobs {
		if w.ofBot(j) {
			continue
		}
		for _, s := range j.steps {
			texts := []yamlfile.Text{s.run}
			for name, input := range codeInputs {
				if s.is(name) {
					texts = append(texts, s.with[input])
				}
			}
			for _, t := range texts {
				if strings.Contains(t.Value, "${{") {
					out = append(out, injected(t, roots, w.variables(j, s), w.action)...)
				}
			}
		}
	}
	return sortFindings(out)
}

// ofBot reports whether a job, or one that it needs, runs for the pull requests of one named author
// only, as Dependabot is: strangers write nothing there. github.actor is no such author: that is
// whoever started the run.
func (w *file) ofBot(j *job) bool {
	needed := append(yamlfile.List(j.get("needs")), j.id)
	for _, other := range w.jobs {
		if slices.ContainsFunc(needed, func(n *yaml.Node) bool { return n.Value == other.id.Value }) && onlyAuthor(yamlfile.Value(other.get("if")), other != j, yamlfile.Value(j.get("if"))) {
			return true
		}
	}
	return false
}

// onlyAuthor reports whether a condition demands the author of the pull request. Of a job that is
// needed, it counts unless the condition of the job itself may hold all the same.
func onlyAuthor(condition string, needed bool, own string) bool {
	if needed && strings.ContainsAny(own, "!") || needed && strings.Contains(own, "always()") || needed && strings.Contains(own, "failure()") || needed && strings.Contains(own, "cancelled()") {
		return false
	}
	return slices.ContainsFunc(demanded(condition), func(c comparison) bool { return c.name == "github.event.pull_request.user.login" && c.equal })
}

// variables returns the variables that a step sees, by their names in lower case.
func (w *file) variables(j *job, s *step) map[string]string {
	out := map[string]string{}
	for _, n := range []*yaml.Node{yamlfile.Get(w.root, "env"), j.get("env"), s.get("env")} {
		yamlfile.Pairs(n, func(name, value *yaml.Node) bool {
			out[strings.ToLower(name.Value)] = yamlfile.Value(value)
			return true
		})
	}
	return out
}

func injected(t yamlfile.Text, roots actionlint.UntrustedInputSearchRoots, variables map[string]string, action bool) (out []finding.Finding) {
	const mend = "give it to the script as a variable: env: NAME: ${{ … }}, and \"$NAME\" in the script"
	for _, e := range expressions(t.Value) {
		f := finding.Finding{Rule: ruleInjection, Position: t.Position(e.start, e.end), Mend: mend}
		if name := tainted(e, roots); name != "" {
			f.Message = name + " is what a stranger wrote, and becomes part of the script"
			out = append(out, f)
			continue
		}
		if name, from := strangersVariable(e, roots, variables); name != "" {
			f.Message = fmt.Sprintf("env.%s is %s, which a stranger wrote, and becomes part of the script", name, from)
			f.Mend = "write \"$" + name + "\" instead"
			out = append(out, f)
		} else if inputs := e.of("inputs"); len(inputs) > 0 && action {
			f.Severity = finding.Note
			f.Message = "inputs." + inputs[0] + " is what the caller of the action passes, and becomes part of the script"
			out = append(out, f)
		}
	}
	return out
}

// strangersVariable returns a variable in an expression whose value a stranger chooses, and what that is; or "".
func strangersVariable(e expression, roots actionlint.UntrustedInputSearchRoots, variables map[string]string) (name, from string) {
	for _, name := range e.of("env") {
		for _, inner := range expressions(variables[name]) {
			if from := tainted(inner, roots); from != "" {
				return name, from
			}
		}
	}
	return "", ""
}
