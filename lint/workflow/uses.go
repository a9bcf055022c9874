package workflow

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/pins"
	"github.com/colophon-build/colophon/lint/yamlfile"
)

// Use is what a step or job uses: an action, a reusable workflow, or an image.
//
//	USE   = OWNER "/" REPO ["/" PATH] "@" REF / "docker://" IMAGE / ( "./" / "$/" ) PATH
type Use struct {
	Text  yamlfile.Text
	Name  string // OWNER/REPO[/PATH]; an image's name; ./PATH
	Repo  string // OWNER/REPO; empty for an image and a path
	Ref   string // tag, branch or commit id; empty for an image and a path
	Image bool
}

func parseUse(t yamlfile.Text) *Use {
	u := &Use{Text: t, Name: strings.TrimSpace(t.Value)}
	if image, ok := strings.CutPrefix(u.Name, "docker://"); ok {
		u.Name, u.Image = image, true
		return u
	}
	if u.local() {
		return u
	}
	name, ref, _ := strings.Cut(u.Name, "@")
	u.Name, u.Ref = name, ref
	if parts := strings.SplitN(name, "/", 3); len(parts) >= 2 {
		u.Repo = parts[0] + "/" + parts[1]
	}
	return u
}

// local reports whether a name is that of a file of the repository: a path, or "$/", which is the
// root of the repository that has the workflow.
func (u *Use) local() bool { return isLocal(u.Name) }

func isLocal(name string) bool {
	return strings.HasPrefix(name, "./") || strings.HasPrefix(name, "../") || strings.HasPrefix(name, "$/")
}

// Uses returns what the steps and jobs of a workflow or an action use, and the images that they
// run, in the order of the file. The error says why the file could not be read.
func Uses(f *finding.File) ([]*Use, error) {
	w, err := parse(f)
	if err != nil {
		return nil, err
	}
	return w.uses(), nil
}

func (w *file) uses() (out []*Use) {
	image := func(t yamlfile.Text) {
		if name := strings.TrimPrefix(t.Value, "docker://"); name != "" && name != "Dockerfile" {
			out = append(out, &Use{Text: t, Name: name, Image: true})
		}
	}
	if n := yamlfile.Get(w.root, "runs", "image"); w.action && strings.HasPrefix(yamlfile.Value(n), "docker://") {
		image(w.text(n))
	}
	for _, j := range w.jobs {
		if n := j.get("uses"); n != nil && !w.action {
			out = append(out, parseUse(w.text(n)))
		}
		if n := j.get("container"); n != nil && n.Kind == yaml.ScalarNode {
			image(w.text(n))
		}
		image(w.text(j.get("container", "image")))
		yamlfile.Pairs(j.get("services"), func(_, s *yaml.Node) bool {
			image(w.text(yamlfile.Get(s, "image")))
			return true
		})
		for _, s := range j.steps {
			if s.uses != nil {
				out = append(out, s.uses)
			}
		}
	}
	return out
}

// Generator is the repository of actions that refuse to run unless they are named by tag.
const Generator = "slsa-framework/slsa-github-generator"

// pinned finds actions, reusable workflows and images that can change without a commit, and
// commits that are not what they seem.
func (w *file) pinned(ctx context.Context, r *pins.Resolver) (out []finding.Finding) {
	for _, u := range w.uses() {
		switch {
		case u.Image:
			out = append(out, pins.CheckImage(ctx, r, ruleImage, u.Text, u.Name)...)
		case u.local() || u.Repo == "" || strings.Contains(u.Name, "${{"):
		case strings.EqualFold(u.Repo, Generator):
			out = append(out, finding.Finding{Rule: ruleGenerator, Position: u.Text.Position(0, len(u.Text.Value)), Message: u.Name + " is not maintained",
				Mend: "build in one job, and let another one, or a reusable workflow of yours, attest the digest with actions/attest-build-provenance; or release with Colophon"})
		case pins.IsCommit(u.Ref):
			out = append(out, w.commit(ctx, r, u)...)
		default:
			out = append(out, w.unpinned(ctx, r, u))
		}
	}
	return out
}

func (w *file) unpinned(ctx context.Context, r *pins.Resolver, u *Use) finding.Finding {
	at := strings.IndexByte(u.Text.Value, '@') + 1
	f := finding.Finding{Rule: ruleUnpinned, Position: u.Text.Position(0, len(u.Text.Value)), Mend: "write " + u.Name + "@COMMIT # " + u.Ref + " with the full id of the commit"}
	if at == 0 {
		f.Message = u.Name + " has no ref"
		f.Mend = "write " + u.Name + "@COMMIT with the full id of the commit"
		return f
	}
	f.Message = fmt.Sprintf("%s is whatever %q points to when the job runs", u.Name, u.Ref)
	target, err := r.Ref(ctx, u.Repo, u.Ref)
	switch {
	case err == nil:
		f.Mend = "write " + u.Name + "@" + target.Commit + " # " + target.Label(u.Ref)
		f.Edits = pins.Pin(u.Text, at, len(u.Text.Value), target.Commit, target.Label(u.Ref))
		if target.Branch() {
			f.Severity = finding.Error
			f.Message = fmt.Sprintf("%s is whatever the branch %q points to when the job runs", u.Name, u.Ref)
		}
	case !errors.Is(err, pins.ErrNotAsked):
		f.Mend += "; its commit is not known: " + err.Error()
	}
	return f
}

// commit finds what is wrong with a commit by which an action is named.
func (w *file) commit(ctx context.Context, r *pins.Resolver, u *Use) []finding.Finding {
	at := u.Text.Position(0, len(u.Text.Value))
	if len(u.Ref) < 40 {
		return nil
	}
	standing, err := r.Commit(ctx, u.Repo, u.Ref)
	if err != nil {
		return []finding.Finding{{Rule: ruleCommit, Position: at, Undecided: true, Message: fmt.Sprintf("whether %s has the commit %.12s: %v", u.Repo, u.Ref, err)}}
	}
	if !standing.Known() {
		return []finding.Finding{{Rule: ruleCommit, Severity: finding.Error, Position: at, Message: fmt.Sprintf("no branch or tag of %s contains the commit %.12s", u.Repo, u.Ref),
			Mend: "find out whose commit it is, and pin the commit of a release"}}
	}
	tag := standing.Named(pins.Comment(u.Text))
	switch {
	case pins.Exact(tag) && !standing.Has(tag):
		return []finding.Finding{{Rule: ruleComment, Position: at, Message: fmt.Sprintf("%s has no tag %s", u.Repo, tag),
			Mend: "find out which version the commit is, and do not update before you know why"}}
	case tag != "" && standing.Has(tag) && !standing.Is(tag):
		return []finding.Finding{{Rule: ruleComment, Position: at, Message: fmt.Sprintf("the tag %s of %s is the commit %.12s, expected %.12s", tag, u.Repo, standing.Tags[tag], u.Ref),
			Mend: "look at what changed between the two commits, and do not update before you know why"}}
	case len(standing.Of()) == 0:
		return []finding.Finding{{Rule: ruleCommit, Severity: finding.Note, Position: at, Message: fmt.Sprintf("the commit %.12s of %s is no release: no tag points to it", u.Ref, u.Repo),
			Mend: "pin the commit of a release"}}
	}
	return nil
}
