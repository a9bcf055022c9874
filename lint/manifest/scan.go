package manifest

import (
	"bytes"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/yamlfile"
)

// scan is what a tree as a whole says about the images that it names.
type scan struct {
	replaced map[string]bool    // names of images that a kustomization replaces by others, or that are built from the tree
	optIn    bool               // a namespace has the label of the policy-controller
	policy   bool               // something verifies images
	managed  []finding.Position // objects of Flux and Argo CD that apply manifests to a cluster
}

// verifiers are words of which each file has one that makes a cluster verify images, in whatever form:
// an object, the values of a chart, a template.
var verifiers = []string{"policy.sigstore.dev", "policy-controller", "verifyImages", "ImageValidatingPolicy", "colophon.build/", "connaisseur", "portieris", "binaryauthorization", "signatureValidation", "ratify"}

var ratify = lazyregexp.New(`\bratify\b`) // the others are parts of no word

func verifies(data []byte) bool {
	return slices.ContainsFunc(verifiers, func(word string) bool {
		return bytes.Contains(data, []byte(word)) && (word != "ratify" || ratify.Match(data))
	})
}

// shown matches paths of manifests that are not applied from where they are.
var shown = lazyregexp.New(`(?i)(^|/)(\.?[a-z-]*(examples?|samples?|tests?|e2e|docs?|demos?|fixtures)|website|hack|tools|playwright|\\.[^/]+)/`)

func scanTree(t *finding.Tree) *scan {
	s := &scan{replaced: map[string]bool{}}
	if t == nil {
		return s
	}
	for _, name := range t.Files() {
		if !Wants(name) {
			continue
		}
		f, err := t.Read(name)
		if err != nil {
			continue // the run says so
		}
		s.policy = s.policy || verifies(f.Data)
		applies := hasAny(f.Data, "toolkit.fluxcd.io/", "argoproj.io/") && hasAny(f.Data, "Application", "Kustomization", "HelmRelease") && !shown.MatchString(name)
		builds := bytes.Contains(f.Data, []byte("skaffold/")) || isCompose(f) && bytes.Contains(f.Data, []byte("build:"))
		if isKustomization(name) || applies || builds || !s.optIn && bytes.Contains(f.Data, []byte(includeLabel)) {
			s.read(f, builds, applies)
		}
	}
	return s
}

func hasAny(data []byte, words ...string) bool {
	return slices.ContainsFunc(words, func(word string) bool { return bytes.Contains(data, []byte(word)) })
}

func (s *scan) read(f *finding.File, builds, applies bool) {
	roots, _ := yamlfile.Parse(f) // the documents before an error; the run says so
	for _, root := range roots {
		if isKustomization(f.Path) {
			for _, i := range yamlfile.List(yamlfile.Get(root, "images")) {
				s.replaced[yamlfile.Value(yamlfile.Get(i, "name"))] = true
			}
		}
		if builds && (isCompose(f) || path.Dir(yamlfile.Value(yamlfile.Get(root, "apiVersion"))) == "skaffold") {
			s.builds(root)
		}
		kind := yamlfile.Get(root, "kind")
		if kind == nil || kind.Kind != yaml.ScalarNode {
			continue
		}
		if kind.Value == "Namespace" && yamlfile.Value(yamlfile.Get(root, "metadata", "labels", includeLabel)) == "true" {
			s.optIn = true
		}
		if applies && managed(yamlfile.Value(yamlfile.Get(root, "apiVersion")), kind.Value) {
			text := yamlfile.Of(f, kind)
			s.managed = append(s.managed, text.Position(0, len(text.Value)))
		}
	}
}

// managed reports whether an object makes a controller apply manifests to a cluster.
func managed(version, kind string) bool {
	group := path.Dir(version)
	switch {
	case group == "argoproj.io":
		return kind == "Application" || kind == "ApplicationSet"
	case strings.HasSuffix(group, "toolkit.fluxcd.io"):
		return kind == "Kustomization" || kind == "HelmRelease"
	}
	return false
}

// builds adds the names under which skaffold or compose builds images.
func (s *scan) builds(root *yaml.Node) {
	for _, a := range yamlfile.List(yamlfile.Get(root, "build", "artifacts")) {
		s.replaced[bare(yamlfile.Value(yamlfile.Get(a, "image")))] = true
	}
	yamlfile.Pairs(yamlfile.Get(root, "services"), func(_, service *yaml.Node) bool {
		if isBuild(yamlfile.Get(service, "build")) {
			s.replaced[bare(yamlfile.Value(yamlfile.Get(service, "image")))] = true
		}
		return true
	})
}

// isBuild reports whether a service of a compose file has a build: a directory, or a mapping with more than nothing.
func isBuild(n *yaml.Node) bool {
	return n != nil && (n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str" && n.Value != "" || n.Kind == yaml.MappingNode && len(n.Content) > 0)
}

// fewest is how many objects of Flux or Argo CD a repository has at least that a cluster is managed
// from: others show what such an object looks like.
const fewest = 2

// missing finds that no policy verifies the images of a cluster that is managed from the tree.
func (s *scan) missing() []finding.Finding {
	if len(s.managed) < fewest || s.policy {
		return nil
	}
	return []finding.Finding{{Rule: ruleMissing, Position: s.managed[0], Message: "no policy of Colophon, the policy-controller, Kyverno or another verifier is in the repository",
		Mend: "write one, with colophon policy init for example; if it is in another repository, ignore this here and say which"}}
}
