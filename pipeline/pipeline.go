// Package pipeline writes release pipelines for other people's CI, of isolated jobs: those that run
// the code of the repository have no identity; one computes the digest from the bytes and attests
// them; one signs, pushes, verifies, and tags last. It reads a repository and changes nothing.
package pipeline

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"go.yaml.in/yaml/v3"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/pins"
	"github.com/colophon-build/colophon/scripts"
	"github.com/colophon-build/colophon/source/recipes"
)

const (
	github   = "github"
	gitlab   = "gitlab"
	tekton   = "tekton"
	colophon = "colophon"
)

// Kinds are what pipelines are written for: CI systems, and a platform of Colophon that CI asks.
func Kinds() []string { return []string{github, gitlab, tekton, colophon} }

// Request is what a pipeline is to be.
type Request struct {
	Kind         string // one of Kinds
	Origin       string // address of the repository, as git or a person writes it; required
	Image        string // REGISTRY/NAME; empty: the forge's own registry, by the name of the repository
	Install      string // VERSION@sha256:HEX: release of Colophon, and the digest of its SHA256SUMS; required, but not with Workflow
	Reproducible bool   // the release fails unless both builds made the same bytes
	// Shared writes the workflow that other repositories call, in place of one for this repository.
	Shared bool
	// Workflow is OWNER/REPO@COMMIT: the repository with the shared workflow (GitHub) or component (GitLab)
	// that this one is to call. Empty: this repository has the jobs itself.
	Workflow string
	// Platform is the URL of the platform that is asked, and Fingerprint that of its trust document,
	// sha256:HEX. For the kind colophon only.
	Platform, Fingerprint string
	Chains                []byte // public key of Tekton Chains (PEM), for the kind tekton only
	// TUF is the URL of the TUF repository of the platform whose services sign, with its root metadata;
	// both empty: the public Sigstore instance.
	TUF  string
	Root []byte

	Resolver *pins.Resolver // answers what the tags of actions are now; nil, or without an answer: the pins in this package
}

// File is a file of a pipeline.
type File struct {
	Path   string // in the repository, with slashes
	Before []byte // nil: there is none
	After  []byte
	Theirs bool // it was there and stays as it is, since what it says is up to the repository
}

// Plan is what a request makes of a repository.
type Plan struct {
	Source string // canonical address of the repository
	Image  string // REGISTRY/NAME; empty for a shared workflow
	Files  []File // sorted by path
	Next   string // what people do when the files are written
	// Unconfirmed are actions with their tags, as in "actions/checkout v7.0.1", of which nobody said that they
	// still point to the pinned commits.
	Unconfirmed []string
}

// ErrRequest means that a request names something that cannot be in a pipeline, or leaves out what
// nothing in the repository says.
var ErrRequest = errors.New("request")

func wrong(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRequest, fmt.Sprintf(format, args...))
}

// Dir is the directory of the files that the jobs need.
const Dir = "ci/colophon"

const (
	installFile  = Dir + "/install.sh"
	rootFile     = Dir + "/root.json"
	policyFile   = Dir + "/policy.yaml"
	releaseFile  = Dir + "/release.sh"
	tektonFile   = Dir + "/tekton.yaml"
	workflowFile = ".github/workflows/release.yaml"
	gitlabFile   = ".gitlab-ci.yml"
)

// theirs are files for which any of these names counts, and which are written only if there is none.
var theirs = map[string][]string{
	".colophon.yaml":         {".colophon.yaml"},
	"renovate.json":          append([]string{".gitlab/renovate.json"}, renovate...),
	".github/dependabot.yml": append([]string{".github/dependabot.yml", ".github/dependabot.yaml"}, renovate...),
}

var renovate = []string{"renovate.json", "renovate.json5", ".github/renovate.json", ".renovaterc", ".renovaterc.json"}

// Make returns the files of a pipeline. The error matches ErrRequest if the request is at fault, and
// ErrMoved if the tag of an action is not what it was, and ErrUnanswered if an image has no digest.
func Make(ctx context.Context, t *finding.Tree, r Request) (*Plan, error) {
	n, err := read(t, r)
	if err != nil {
		return nil, err
	}
	n.digest = func(image string) (string, error) {
		if r.Resolver == nil {
			return "", errors.New("not asked")
		}
		return r.Resolver.Digest(ctx, image)
	}
	if n.Workflow == "" && n.Kind != tekton && n.forge() == github { // else what is called has the pins
		if n.pins, n.unconfirmed, err = current(ctx, r.Resolver); err != nil {
			return nil, err
		}
	}
	files, err := n.files()
	if err != nil {
		return nil, err
	}
	p := &Plan{Source: n.Source, Image: n.Image, Next: n.next(), Unconfirmed: n.unconfirmed}
	for name, after := range files {
		f, err := place(t, name, after)
		if err != nil {
			return nil, err
		}
		p.Files = append(p.Files, f)
	}
	slices.SortFunc(p.Files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	return p, nil
}

// place reads what a file would replace.
func place(t *finding.Tree, name string, after []byte) (File, error) {
	f := File{Path: name, After: after}
	for _, other := range theirs[name] {
		if t.Has(other) {
			f.Path, f.Theirs = other, true
			break
		}
	}
	if t.Has(f.Path) {
		before, err := t.Read(f.Path)
		if err != nil {
			return f, err
		}
		f.Before = before.Data
	} else if _, err := t.Root().Lstat(f.Path); !errors.Is(err, fs.ErrNotExist) {
		return f, fmt.Errorf("%s: expected a file of the repository or nothing there, found something else, or a file that git ignores", f.Path)
	}
	return f, nil
}

// templateFiles returns which templates make which files of the pipeline.
func (n *names) templateFiles() map[string]string {
	out := map[string]string{}
	switch forge := n.forge(); {
	case n.Kind == tekton:
		return map[string]string{tektonFile: "tekton.yaml", Dir + "/tekton-run.yaml": "tekton-run.yaml"}
	case forge == github:
		out = map[string]string{".github/dependabot.yml": "dependabot.yaml", workflowFile: "own.yaml"}
	case forge == gitlab:
		out = map[string]string{"renovate.json": "renovate.json", gitlabFile: "gitlab-own.yaml"}
	}
	switch {
	case n.Kind == colophon:
		out[releaseFile] = "release.sh"
		for _, file := range []string{workflowFile, gitlabFile} {
			if out[file] != "" {
				out[file] = "platform-" + n.forge() + ".yaml"
			}
		}
	case n.Shared && n.Kind == gitlab:
		delete(out, gitlabFile)
		out["templates/release.yml"] = "gitlab-component.yaml"
	case n.Shared:
		out[workflowFile], out["install/action.yaml"] = "shared.yaml", "action.yaml"
	case n.Workflow != "" && n.Kind == gitlab:
		out[gitlabFile] = "gitlab-caller.yaml"
	case n.Workflow != "":
		out[workflowFile] = "caller.yaml"
	}
	return out
}

// files returns the files of the pipeline by their paths.
func (n *names) files() (map[string][]byte, error) {
	files := map[string][]byte{}
	var err error
	for to, name := range n.templateFiles() {
		if files[to], err = n.execute(name); err != nil {
			return nil, err
		}
	}
	switch {
	case n.Shared && n.Kind == github:
		files["install/install.sh"] = scripts.Install
	case !n.Shared && n.Workflow == "" && n.Kind != tekton:
		files[installFile] = scripts.Install
		if n.TUF != "" {
			files[rootFile] = n.Root
		}
	}
	if n.Shared {
		return files, nil
	}
	how := "dockerfile: Dockerfile"
	if n.Recipe.Builder != attest.BuildKit {
		how = "package: ."
	}
	files[recipes.File] = fmt.Appendf(nil, "version: 1\nimages:\n  - name: %q\n    %s\n", path.Base(n.Image), how)
	files[policyFile], err = n.policy()
	return files, err
}

//go:embed templates
var templates embed.FS

// execute fills in a template, and refuses what is not YAML (JSON is) unless it is a script.
func (n *names) execute(name string) ([]byte, error) {
	t, err := template.New(name+".tmpl").Delims("<%", "%>").Funcs(template.FuncMap{
		"indent": func(width int, text string) string {
			by := "\n" + strings.Repeat(" ", width)
			return strings.ReplaceAll(strings.ReplaceAll(text, "\n", by), by+"\n", "\n\n")
		},
		"quote": strconv.QuoteToASCII, // its escapes are those of YAML and JSON, too
		"join":  func(list []string) string { return strings.Join(list, ",") },
	}).ParseFS(templates, "templates/jobs.yaml.tmpl", "templates/gitlab-jobs.yaml.tmpl", "templates/"+name+".tmpl")
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, n); err != nil {
		return nil, cmp.Or(n.unanswered, err)
	}
	var any yaml.Node
	if err := yaml.Unmarshal(out.Bytes(), &any); err != nil && path.Ext(name) != ".sh" {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return out.Bytes(), nil
}
