package pipelines

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// workflow is what the pipelines use of GitHub's workflows.
type workflow struct {
	On struct {
		WorkflowCall struct {
			Inputs map[string]struct{ Default any }
		} `yaml:"workflow_call"`
	}
	Permissions map[string]string
	Env         map[string]string
	Jobs        map[string]*job
}

type job struct {
	If          string
	Needs       list
	Permissions map[string]string
	Env         map[string]string
	Outputs     map[string]string
	Steps       []step
	Uses        string
	With        map[string]any
}

type step struct {
	ID, Name, Uses, Run string
	With                map[string]any
	Env                 map[string]string
}

// list is one text or several.
type list []string

func (l *list) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*l = list{n.Value}
		return nil
	}
	return n.Decode((*[]string)(l))
}

// order returns the names of the jobs, each after those that it needs.
func (w *workflow) order() (out []string, err error) {
	for len(out) < len(w.Jobs) {
		before := len(out)
		for name, j := range w.Jobs {
			ready := !slices.ContainsFunc(j.Needs, func(n string) bool { return !slices.Contains(out, n) })
			if ready && !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
		if len(out) == before {
			return nil, fmt.Errorf("the jobs need each other: %v", out)
		}
	}
	return out, nil
}

var expression = regexp.MustCompile(`\$\{\{ *(.*?) *\}\}`)

// evaluate replaces the expressions in a text. It knows names, literals, startsWith, && and ||.
func evaluate(text string, values map[string]string) (string, error) {
	var failed error
	out := expression.ReplaceAllStringFunc(text, func(e string) string {
		v, err := or(expression.FindStringSubmatch(e)[1], values)
		if err != nil {
			failed = err
		}
		return v
	})
	return out, failed
}

func or(e string, values map[string]string) (last string, err error) {
	for part := range strings.SplitSeq(e, " || ") {
		for term := range strings.SplitSeq(part, " && ") {
			if last, err = value(term, values); err != nil {
				return "", err
			}
			if last == "" || last == "false" {
				break
			}
		}
		if last != "" && last != "false" {
			return last, nil
		}
	}
	return last, nil
}

var starts = regexp.MustCompile(`^startsWith\((\S+), '([^']*)'\)$`)

func value(term string, values map[string]string) (string, error) {
	if m := starts.FindStringSubmatch(term); m != nil {
		v, err := value(m[1], values)
		return fmt.Sprint(strings.HasPrefix(v, m[2])), err
	}
	v, ok := values[term]
	if !ok {
		return "", fmt.Errorf("expression %q: not known here", term)
	}
	return v, nil
}
