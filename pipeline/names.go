package pipeline

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/scripts"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/source/recipes"
	"github.com/colophon-build/colophon/trust"
)

// names are what the templates insert.
type names struct {
	Request
	Source      string // https://HOST/PATH
	Host        string
	Registry    string
	Recipe      attest.Recipe
	Ecosystems  []ecosystem
	Script      []byte // install.sh
	pins        map[string]pin
	unconfirmed []string
	Version     string // of Install
	Sums        string // digest in Install
	digest      func(image string) (string, error)
	unanswered  error
}

// ecosystem is what Dependabot keeps fresh in one directory.
type ecosystem struct{ Name, Directory string }

// What is written into YAML and shell scripts has none of their special characters.
var (
	imageName = lazyregexp.New(`^[a-z0-9][a-z0-9.-]*(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+$`)
	plainURL  = lazyregexp.New(`^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._-]+)*/?$`)
	install   = lazyregexp.New(`^(v[0-9][A-Za-z0-9.+-]{0,63})@(sha256:[0-9a-f]{64})$`)
	digest    = lazyregexp.New(`^sha256:[0-9a-f]{64}$`)
	workflow  = lazyregexp.New(`^([A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9._-]+)+)@([0-9a-f]{40})$`)
	plain     = lazyregexp.New(`^[A-Za-z0-9._/][A-Za-z0-9._/:=@+,-]*$`)
)

// read checks a request, and finds out what it leaves out.
func read(t *finding.Tree, r Request) (*names, error) {
	n := &names{Request: r, Script: scripts.Install, Ecosystems: []ecosystem{{"github-actions", "/"}}}
	switch {
	case !slices.Contains(Kinds(), r.Kind):
		return nil, wrong("expected a pipeline for %s, found %q", strings.Join(Kinds(), " or "), r.Kind)
	case r.Kind == colophon && (r.Shared || r.Workflow != "" || r.Reproducible || r.TUF != ""):
		return nil, wrong("a platform has the jobs, and who signs: expected no other demand than the image and the release to install")
	case r.Kind == colophon && (!plainURL.MatchString(r.Platform) || !digest.MatchString(r.Fingerprint)):
		return nil, wrong("expected the URL of a platform and the fingerprint of its trust document, found %q and %q", r.Platform, r.Fingerprint)
	case r.Kind == tekton && (r.Shared || r.Workflow != "" || r.Image == "" || len(r.Chains) == 0):
		return nil, wrong("a pipeline in a cluster needs the image to publish, and the public key of Tekton Chains")
	case r.Kind != tekton && len(r.Chains) > 0:
		return nil, wrong("only in a cluster does Tekton Chains sign: expected no key of it")
	case r.Shared && r.Workflow != "":
		return nil, wrong("expected either a shared workflow to write, or one to call, found both")
	case r.Workflow != "" && (r.Install != "" || r.TUF != ""):
		return nil, wrong("the shared workflow says which release of Colophon its jobs install, and who signs: expected none of both, found %q", r.Install+r.TUF)
	case r.Workflow == "" && !install.MatchString(r.Install):
		return nil, wrong("expected the release of Colophon as VERSION@sha256:DIGEST, found %q", r.Install)
	case (r.TUF == "") != (len(r.Root) == 0) || r.TUF != "" && !plainURL.MatchString(r.TUF):
		return nil, wrong("expected the URL of a TUF repository together with its root metadata, found %q", r.TUF)
	}
	if r.TUF != "" {
		var root bytes.Buffer // one line, so that no line of it ends the script that it is in
		if err := json.Compact(&root, r.Root); err != nil || !utf8.Valid(r.Root) {
			return nil, wrong("the root metadata is not the JSON of a TUF repository")
		}
		n.Root = append(escaped(root.String()), '\n')
	}
	if m := install.FindStringSubmatch(r.Install); m != nil {
		n.Version, n.Sums = m[1], m[2]
	}
	if err := n.readSource(); err != nil || r.Shared {
		return n, err
	}
	if r.Workflow != "" {
		m := workflow.FindStringSubmatch(r.Workflow)
		if m == nil {
			return nil, wrong("expected the shared workflow as OWNER/REPO@COMMIT, with all 40 digits of the commit, found %q", r.Workflow)
		}
		if n.Kind == github && strings.Count(m[1], "/") != 1 || path.Clean(m[1]) != m[1] {
			return nil, wrong("expected the shared workflow as OWNER/REPO@COMMIT, without the path of its file, found %q", r.Workflow)
		}
		file := "/" + workflowFile
		if n.Kind == gitlab {
			file = "/release"
		}
		n.Workflow = m[1] + file + "@" + m[2]
	}
	return n, n.readImage(t)
}

// escaped returns JSON in which strings have "$" and what is not ASCII as escapes. A workflow evaluates
// expressions in a script, and for a YAML parser U+0085 and others end the line, and so the script.
func escaped(text string) (out []byte) {
	for _, r := range text {
		if r != '$' && r >= ' ' && r <= '~' {
			out = append(out, byte(r))
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			out = fmt.Appendf(out, `\u%04x`, unit)
		}
	}
	return out
}

// readSource reads the address of the repository.
func (n *names) readSource() error {
	canonical, err := source.Canonical(strings.TrimSuffix(n.Origin, ".git"))
	if err != nil {
		return wrong("the address of the repository: %v", err)
	}
	u, err := url.Parse(canonical)
	if err != nil {
		return wrong("the address of the repository cannot be read")
	}
	// A clone over ssh is of the same repository that jobs know by its https address.
	n.Host, n.Source = u.Hostname(), "https://"+u.Hostname()+u.Path
	if u.Scheme == "http" { // on loopback
		n.Source = canonical
	}
	switch host := hosts[n.Kind]; {
	case host != "" && n.Host != host:
		return wrong("expected a repository on %s, found %s", host, n.Source)
	case !plainURL.MatchString(n.Source) || strings.Count(strings.Trim(u.Path, "/"), "/") < 1:
		return wrong("expected a repository at https://HOST/OWNER/NAME, found %s", n.Source)
	}
	return nil
}

// hosts are the forges whose CI the pipelines of a kind are for, and registries their registries.
var (
	hosts      = map[string]string{github: "github.com", gitlab: "gitlab.com"}
	registries = map[string]string{github: "ghcr.io", gitlab: "registry.gitlab.com"}
)

// forge returns the kind of the CI that the repository's host has, or "" if it is not known.
func (n *names) forge() string {
	for kind, host := range hosts {
		if n.Host == host {
			return kind
		}
	}
	return ""
}

// readImage reads which image is released, and how the commit says that it is built.
func (n *names) readImage(t *finding.Tree) error {
	if n.Image == "" {
		registry := registries[n.Kind]
		if n.Kind == colophon {
			_, registry, _ = strings.Cut(strings.TrimSuffix(n.Platform, "/"), "://")
		}
		_, name, _ := strings.Cut(strings.TrimPrefix(n.Source, "https://"), "/")
		n.Image = registry + "/" + strings.ToLower(name)
	}
	if !imageName.MatchString(n.Image) || len(n.Image) > 255 {
		return wrong("expected an image like registry.example.com/team/app, without a tag, found %q", n.Image)
	}
	n.Registry, _, _ = strings.Cut(n.Image, "/")
	if !t.Has(recipes.File) && !t.Has("Dockerfile") && !(n.Kind == colophon && t.Has("go.mod")) {
		return wrong("the repository has neither %s nor a Dockerfile at its top: nothing says how its image is built", recipes.File)
	}
	d, err := recipes.Default(t.Dir, n.Image)
	if err != nil {
		return err
	}
	n.Recipe = d.Recipe
	if n.Kind != colophon {
		if err := n.checkRecipe(); err != nil {
			return err
		}
	}
	if n.Recipe.Builder == attest.BuildKit {
		n.Ecosystems = append(n.Ecosystems, ecosystem{"docker", n.dockerDir()})
	}
	for file, name := range map[string]string{"Cargo.lock": "cargo", "go.mod": "gomod", "package-lock.json": "npm", "requirements.txt": "pip"} {
		if t.Has(file) {
			n.Ecosystems = append(n.Ecosystems, ecosystem{name, "/"})
		}
	}
	slices.SortFunc(n.Ecosystems[1:], func(a, b ecosystem) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

// checkRecipe refuses a recipe that jobs cannot have in their scripts.
func (n *names) checkRecipe() error {
	r := n.Recipe
	if r.Builder != attest.BuildKit || r.Files {
		return wrong("%s says that the image is built from a Go package: jobs build from a Dockerfile, and a platform from both (colophon init colophon)", recipes.File)
	}
	values := append([]string{r.Context, r.Dockerfile, r.Target}, r.Platforms...)
	for name, value := range r.BuildArgs {
		values = append(values, name, value)
	}
	for _, v := range values {
		if v != "" && !plain.MatchString(v) {
			return wrong("%s: expected names of letters, digits and any of ._/:=@+,- found %q", recipes.File, v)
		}
	}
	if n.Workflow != "" && len(r.BuildArgs) > 0 {
		return wrong("%s has build arguments, which the shared workflow does not take", recipes.File)
	}
	return nil
}

// dockerDir returns the directory of the Dockerfile.
func (n *names) dockerDir() string {
	if n.Recipe.Dockerfile != "" {
		return path.Dir("/" + n.Recipe.Dockerfile)
	}
	return path.Join("/", n.Recipe.Context)
}

// Issuer returns the OIDC issuer of the jobs.
func (n *names) Issuer() string {
	if n.Kind == gitlab {
		return trust.GitLabIssuer
	}
	return trust.GitHubIssuer
}

// Builds are the jobs that build, and the names of what they hand over.
func (n *names) Builds() []struct{ Job, Artifact string } {
	return []struct{ Job, Artifact string }{{"build", "image"}, {"rebuild", "rebuilt"}}
}

// next says what people do when the files are written, since no file of a repository can do it.
func (n *names) next() string {
	secret := map[string]string{github: "the secret COLOPHON_CLIENT", gitlab: "the file variable COLOPHON_CLIENT_FILE"}[n.forge()]
	switch {
	case n.Shared:
		return "read and commit them, protect the branch, and in other repositories run colophon init " + n.Kind + " --workflow OWNER/REPO@COMMIT"
	case n.Kind == tekton:
		return "read and commit them, make the secret " + n.Name() + "-registry, run kubectl apply -f " + tektonFile + ", and start " + Dir + "/tekton-run.yaml"
	case n.Kind == colophon && secret == "":
		return "read and commit them, and let your CI run " + releaseFile
	case n.Kind == colophon: // the secret is client.json
	case n.Registry == registries[n.Kind]:
		secret = ""
	case n.Kind == github:
		secret = "the secrets REGISTRY_USER and REGISTRY_PASSWORD"
	default:
		secret = "the variables REGISTRY_USER and REGISTRY_PASSWORD"
	}
	if secret != "" {
		secret = "set " + secret + ", "
	}
	return `read and commit them, give the environment "release" its reviewers and tags, ` + secret + "and push a tag v…"
}
