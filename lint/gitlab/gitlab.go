// Package gitlab finds in pipelines of GitLab CI what would let somebody else decide what is built,
// signed or run. It reads each file alone: what a file includes is not known.
package gitlab

import (
	"context"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/pins"
	"github.com/colophon-build/colophon/lint/script"
	"github.com/colophon-build/colophon/lint/yamlfile"
)

// Checker checks pipelines. r says what tags of images point to; nil: nobody is asked.
func Checker(r *pins.Resolver) finding.Checker {
	return yamlfile.Checker(rules(), Wants, ruleBroken, parse, func(ctx context.Context, _ *finding.Tree, p *pipeline) []finding.Finding {
		out := append(pins.CheckImages(ctx, r, ruleImage, p.images()), p.includes()...)
		for _, j := range p.jobs {
			out = append(out, p.scripts(j)...)
			out = append(out, p.caches(j)...)
			if !strings.HasPrefix(j.name, ".") {
				out = append(out, p.isolation(j)...)
				out = append(out, p.release(j)...)
			}
		}
		return append(out, p.variables()...)
	})
}

// Wants reports whether a path is that of a pipeline: .gitlab-ci.yml, NAME.gitlab-ci.yml, and what
// is below .gitlab/ci and .gitlab-ci, which pipelines include.
func Wants(name string) bool {
	ext := path.Ext(name)
	if ext != ".yml" && ext != ".yaml" {
		return false
	}
	return strings.HasSuffix(strings.TrimSuffix(name, ext), ".gitlab-ci") || strings.HasPrefix(name, ".gitlab/ci/") || strings.HasPrefix(name, ".gitlab-ci/")
}

// global are the keys that are no jobs (GitLab's reference of the CI/CD YAML syntax, "Global keywords").
var global = []string{"after_script", "before_script", "cache", "default", "image", "include", "services", "spec", "stages", "types", "variables", "workflow"}

// pipeline is one file.
type pipeline struct {
	*finding.File
	root *yaml.Node
	jobs []*job // in their order; the first stands for what all jobs have
	by   map[string]*job

	tokens, rules *yaml.Node // default: id_tokens, workflow: rules; nil if they are missing
}

// job is a job, or a template of jobs, whose name begins with a dot.
type job struct {
	name string
	node *yaml.Node
}

// maxExtends caps the templates in which a key of one job is looked for, and maxLevels how far they
// extend one another: GitLab refuses more (GitLab's reference of the CI/CD YAML syntax, "extends").
const (
	maxExtends = 100
	maxLevels  = 11
)

func parse(f *finding.File) (*pipeline, error) {
	roots, err := yamlfile.Parse(f)
	if err != nil {
		return nil, err
	}
	// A file for others to include has a document of inputs before that of its jobs.
	if len(roots) == 0 || len(roots) > 2 || len(roots) == 2 && yamlfile.Get(roots[0], "spec") == nil {
		return nil, &yamlfile.Error{Line: 1, Text: "expected one mapping of keys to values, with or without one of inputs before it"}
	}
	p := &pipeline{File: f, root: roots[len(roots)-1], by: map[string]*job{}}
	if p.root.Kind != yaml.MappingNode {
		return nil, &yamlfile.Error{Line: 1, Text: "expected one mapping of keys to values"}
	}
	p.tokens, p.rules = yamlfile.Get(p.root, "default", "id_tokens"), yamlfile.Get(p.root, "workflow", "rules")
	p.jobs = append(p.jobs, &job{name: ".", node: p.root})
	if d := yamlfile.Get(p.root, "default"); d != nil {
		p.jobs = append(p.jobs, &job{name: ".default", node: d})
	}
	yamlfile.Pairs(p.root, func(key, value *yaml.Node) bool {
		if !slices.Contains(global, key.Value) && value.Kind == yaml.MappingNode {
			j := &job{name: key.Value, node: value}
			p.jobs = append(p.jobs, j)
			p.by[key.Value] = j
		}
		return true
	})
	return p, nil
}

// get returns what a job has under a key, its own or that of a template that it extends. known is
// false if a template is in another file.
func (p *pipeline) get(j *job, key string) (n *yaml.Node, known bool) {
	return p.extended(j, key, 0, map[*job]bool{})
}

func (p *pipeline) extended(j *job, key string, level int, seen map[*job]bool) (n *yaml.Node, known bool) {
	if n = yamlfile.Get(j.node, key); n != nil {
		return n, true
	}
	seen[j], known = true, true
	for _, name := range slices.Backward(yamlfile.Scalars(yamlfile.Get(j.node, "extends"))) {
		of := p.by[name.Value]
		switch {
		case of == nil || len(seen) > maxExtends || level == maxLevels:
			known = false
		case !seen[of]:
			n, ok := p.extended(of, key, level+1, seen)
			if n != nil {
				return n, true
			}
			known = known && ok
		}
	}
	return nil, known
}

// text returns a scalar with its place.
func (p *pipeline) text(n *yaml.Node) yamlfile.Text { return yamlfile.Of(p.File, n) }

// at returns the place of a scalar, or of the first line of anything else.
func (p *pipeline) at(n *yaml.Node) finding.Position {
	if n.Kind == yaml.ScalarNode {
		return p.text(n).Position(0, len(n.Value))
	}
	start := p.Offset(n.Line, n.Column)
	return p.Position(start, max(start, p.LineEnd(n.Line)))
}

// Images returns the names of images that the jobs of a pipeline run, but for those that the project
// builds itself. The error says why the file could not be read.
func Images(f *finding.File) ([]yamlfile.Text, error) {
	p, err := parse(f)
	if err != nil {
		return nil, err
	}
	return p.images(), nil
}

// images returns the names of images that jobs run, but for those that this project builds.
func (p *pipeline) images() (out []yamlfile.Text) {
	add := func(n *yaml.Node) {
		if n = yamlfile.Resolve(n); n == nil {
			return
		}
		if n.Kind == yaml.MappingNode {
			n = yamlfile.Get(n, "name")
		}
		if n != nil && n.Kind == yaml.ScalarNode && !strings.Contains(n.Value, "CI_REGISTRY_IMAGE") && !strings.Contains(n.Value, "CI_COMMIT_") && !strings.Contains(n.Value, "$[[") {
			out = append(out, p.text(n))
		}
	}
	for _, j := range p.jobs {
		add(yamlfile.Get(j.node, "image"))
		if services := yamlfile.Get(j.node, "services"); services != nil && services.Kind == yaml.SequenceNode && services.Tag != "!reference" {
			for _, s := range services.Content {
				add(s)
			}
		}
	}
	return out
}

// includes finds files of others that are included without the commit or hash that they have.
func (p *pipeline) includes() (out []finding.Finding) {
	add := func(n *yaml.Node, message, mend string) {
		out = append(out, finding.Finding{Rule: ruleInclude, Position: p.at(n), Message: message, Mend: mend})
	}
	for _, n := range yamlfile.List(yamlfile.Get(p.root, "include")) {
		remote, component, project := yamlfile.Get(n, "remote"), yamlfile.Get(n, "component"), yamlfile.Get(n, "project")
		if n.Kind == yaml.ScalarNode && strings.Contains(n.Value, "://") {
			remote = n
		}
		switch {
		case remote != nil && yamlfile.Get(n, "integrity") == nil:
			add(remote, yamlfile.Value(remote)+" is included, whatever its server answers", "add integrity: sha256-HASH, or copy the file into this repository")
		case component != nil:
			name, ref, _ := strings.Cut(yamlfile.Value(component), "@")
			if !fixed(ref) {
				add(component, "the component "+name+" is whatever "+said(ref)+" is when the pipeline runs", "write "+name+"@COMMIT with the full id of the commit")
			}
		case project != nil:
			if ref := yamlfile.Value(yamlfile.Get(n, "ref")); !fixed(ref) {
				add(project, "what is included of "+yamlfile.Value(project)+" is whatever "+said(ref)+" points to when the pipeline runs", "add ref: COMMIT with the full id of the commit")
			}
		}
	}
	return out
}

func said(ref string) string {
	if ref == "" {
		return "its default branch"
	}
	return `"` + ref + `"`
}

// fixed reports whether a ref is the id of a commit, or that of the pipeline's own.
func fixed(ref string) bool {
	return pins.IsCommit(ref) || slices.Contains([]string{"$CI_COMMIT_SHA", "${CI_COMMIT_SHA}"}, ref)
}

// scriptsOf returns the scripts of a job in their order.
func (p *pipeline) scriptsOf(j *job) (out []*yaml.Node) {
	for _, key := range []string{"before_script", "script", "after_script"} {
		if n := yamlfile.Get(j.node, key); n != nil && n.Tag != "!reference" {
			for _, s := range yamlfile.Scalars(n) {
				if s.Tag == "!!str" {
					out = append(out, s)
				}
			}
		}
	}
	return out
}

// commands returns the commands of a job and of the templates that it extends.
func (p *pipeline) commands(j *job) (out []*script.Command) {
	n, _ := p.get(j, "script")
	for _, s := range yamlfile.Scalars(n) {
		commands, _ := script.Commands(s.Value)
		out = append(out, commands...)
	}
	return out
}

// scripts finds what is wrong in the scripts of a job.
func (p *pipeline) scripts(j *job) (out []finding.Finding) {
	for _, s := range p.scriptsOf(j) {
		t := p.text(s)
		out = append(out, script.Check(t)...)
		commands, _ := script.Commands(t.Value)
		for _, c := range commands {
			if name, w := script.Evaluates(c, strangers); name != "" {
				out = append(out, finding.Finding{Rule: ruleInjection, Position: t.Position(w.Start, w.End), Message: "a shell reads the value of " + name + " as a script",
					Mend: `let the shell read the variable itself, in single quotes: sh -c 'command "$` + name + `"'`})
			}
		}
	}
	return out
}

// strangers are the predefined variables whose values others than the members of the project choose
// (GitLab's predefined CI/CD variables reference).
var strangers = []string{"CI_COMMIT_AUTHOR", "CI_COMMIT_BRANCH", "CI_COMMIT_DESCRIPTION", "CI_COMMIT_MESSAGE", "CI_COMMIT_REF_NAME", "CI_COMMIT_TAG_MESSAGE", "CI_COMMIT_TITLE",
	"CI_EXTERNAL_PULL_REQUEST_SOURCE_BRANCH_NAME", "CI_MERGE_REQUEST_DESCRIPTION", "CI_MERGE_REQUEST_LABELS", "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "CI_MERGE_REQUEST_TITLE"}

// isolation finds jobs in which the code that is built can read a token of the job.
func (p *pipeline) isolation(j *job) []finding.Finding {
	tokens, _ := p.get(j, "id_tokens")
	if tokens == nil {
		tokens = p.tokens
	}
	c := script.Builds(p.commands(j))
	if tokens == nil || len(tokens.Content) == 0 || c == nil {
		return nil
	}
	return []finding.Finding{{Rule: ruleIsolation, Position: p.at(tokens), Message: "the job " + j.name + " runs " + strings.TrimSpace(c.Name+" "+c.First()) + ", and its steps can read " + tokens.Content[0].Value,
		Mend: "build in a job without id_tokens, hand over the bytes as artifacts, and sign in another one"}}
}

// release finds jobs that publish from any branch, or without an environment.
func (p *pipeline) release(j *job) []finding.Finding {
	c := script.Publishes(p.commands(j))
	if c == nil {
		return nil
	}
	n, _ := p.get(j, "script")
	f := finding.Finding{Rule: ruleRelease, Position: p.at(n)}
	what := "the job " + j.name + " publishes (" + strings.TrimSpace(c.Name+" "+c.First()) + ")"
	limited, known := false, true
	for _, key := range []string{"rules", "only", "except"} {
		n, ok := p.get(j, key)
		limited, known = limited || n != nil, known && ok
	}
	if p.rules == nil && !limited && known {
		f.Severity, f.Message = finding.Warning, what+" in the pipeline of every branch"
		f.Mend = `add rules: [{if: '$CI_COMMIT_TAG && $CI_COMMIT_REF_PROTECTED == "true"'}], protect the tags, and add an environment that is protected`
		return []finding.Finding{f}
	}
	if env, known := p.get(j, "environment"); env == nil && known {
		f.Message, f.Mend = what+" and has no environment", "add environment: NAME, and protect it, so that somebody else approves"
		return []finding.Finding{f}
	}
	return nil
}

// caches finds caches that unprotected branches fill for protected ones.
func (p *pipeline) caches(j *job) (out []finding.Finding) {
	for _, c := range yamlfile.List(yamlfile.Get(j.node, "cache")) {
		if n := yamlfile.Get(c, "unprotect"); yamlfile.Value(n) == "true" {
			out = append(out, finding.Finding{Rule: ruleCache, Position: p.at(n), Message: "all branches share this cache, protected or not", Mend: "delete unprotect: true"})
		}
	}
	return out
}

// variables finds variables that change what signing tools do.
func (p *pipeline) variables() (out []finding.Finding) {
	for _, j := range p.jobs {
		yamlfile.Pairs(yamlfile.Get(j.node, "variables"), func(key, value *yaml.Node) bool {
			if value.Kind == yaml.MappingNode {
				value = yamlfile.Get(value, "value")
			}
			out = append(out, script.Variable(key.Value, yamlfile.Value(value), p.at(key), func() []finding.Edit {
				return yamlfile.WithoutKey(p.File, p.root, key.Line, key.Column)
			})...)
			return true
		})
	}
	return out
}
