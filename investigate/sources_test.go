package investigate

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/test/distrusttest"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/verify"
)

// write writes a file of the repository, and stages it.
func (s *scene) write(name, content string) {
	s.t.Helper()
	at := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(at, []byte(content), 0o644); err != nil {
		s.t.Fatal(err)
	}
	s.git("add", name)
}

// withPackages puts packages into the SBOMs of a release: name, version and package URL each.
func withPackages(r *prooftest.Release, all ...[3]string) {
	components := []map[string]any{}
	for _, p := range all {
		components = append(components, map[string]any{"type": "library", "name": p[0], "version": p[1], "purl": p[2]})
	}
	r.CDX["components"] = components
}

// TestManifests compares the SBOMs of an image with go.mod and go.sum of its commit: what one side lacks is a fact, and no
// broken link.
func TestManifests(t *testing.T) {
	s := newScene(t)
	s.write("go.mod", "module example.com/app\n\ngo 1.26\n\nrequire (\n\tgithub.com/a/used v1.0.0\n\tgithub.com/a/tests v1.1.0\n)\n")
	s.write("vendor/x/go.mod", "module x\n\nrequire github.com/evil/miner v6.6.6\n")
	if err := os.Symlink("/etc/passwd", filepath.Join(s.dir, "requirements.txt")); err != nil {
		t.Fatal(err)
	}
	s.git("add", "requirements.txt")
	commit := s.commit("1")
	r := s.release("refs/heads/main", commit)
	withPackages(r, [3]string{"github.com/a/used", "v1.0.0", "pkg:golang/github.com/a/used@v1.0.0"}, [3]string{"github.com/evil/miner", "v6.6.6", "pkg:golang/github.com/evil/miner@v6.6.6"},
		[3]string{"openssl", "3.0.1", "pkg:deb/debian/openssl@3.0.1"})
	r.Attach(prooftest.Kinds...)
	in := s.inquiry()
	c := s.run(in)
	m := c.Answer(AskSources).Facts.Sources.Manifests
	if c.Conclusion.State != Whole || len(m.Files) != 1 || m.Files[0].Path != "go.mod" || m.Compared != 2 || !slices.Equal(m.Unnamed.Some, []string{"golang github.com/evil/miner@v6.6.6"}) || !slices.Equal(m.Unlisted.Some, []string{"golang github.com/a/tests@v1.1.0"}) {
		t.Errorf("got %+v, %q", m, c.Conclusion.Line)
	}
	const says = "of 2 packages (golang), no manifest of the commit names 1: golang github.com/evil/miner@v6.6.6; 1 that manifests name are in no SBOM"
	if !slices.ContainsFunc(c.Conclusion.Findings, func(f Finding) bool { return f.Name == "manifests" && f.Says == says }) {
		t.Errorf("got %+v", c.Conclusion.Findings)
	}
	s.recheck(c, in.Evidence)

	// A case that names other packages, another file or no file than its evidence is contradicted.
	for what, lie := range map[string]func(m *Manifests){
		"no package is missing": func(m *Manifests) { m.Unnamed = Packages{} },
		"another count":         func(m *Manifests) { m.Compared++ },
		"another file":          func(m *Manifests) { m.Files[0].Digest = c.Answer(AskChain).Evidence[0] },
		"no file":               func(m *Manifests) { m.Files = nil },
	} {
		a := c.Answer(AskSources)
		sources, manifests := *a.Facts.Sources, *m
		manifests.Files = slices.Clone(m.Files)
		lie(&manifests)
		sources.Manifests = &manifests
		a.Facts.Sources = &sources
		if err := recheckSources(c, a, in.Evidence); err == nil {
			t.Errorf("%s: the case is not contradicted", what)
		}
	}

	// Why they are not compared is said.
	for want, checkout := range map[string]Checkout{
		"the repository is not to be asked": nil,
		"no route": func(context.Context, source.Question, func(string) bool) (map[string][]byte, []string, error) {
			return nil, nil, errors.New("no route")
		},
	} {
		in := s.inquiry()
		in.Askers[AskSources] = SourcesAsker(checkout)
		c := s.run(in)
		if m := c.Answer(AskSources).Facts.Sources.Manifests; m.Why != want || c.Conclusion.State != Whole {
			t.Errorf("got %+v, want %q", m, want)
		}
		s.recheck(c, in.Evidence)
	}
}

// TestManifestsOfRecipe: of a repository with several images, only what the build could see is compared.
func TestManifestsOfRecipe(t *testing.T) {
	in := func(context string) func(string) bool {
		return wantsFrom(&verify.Facts{Build: &provenance.Facts{Recipe: &attest.Recipe{Context: context}}})
	}
	for _, c := range []struct {
		context, name string
		want          bool
	}{
		{"", "a/go.mod", true}, {"", "go.mod", true}, {"services/a", "services/a/go.mod", true}, {"services/a", "services/a/web/package-lock.json", true},
		{"services/a", "go.mod", true}, {"services/a", "services/go.mod", true}, {"services/a", "services/ab/go.mod", false}, {"services/a", "services/b/go.mod", false},
		{"", "node_modules/x/package-lock.json", false}, {"", "a/testdata/go.mod", false}, {"", "README.md", false},
	} {
		if got := in(c.context)(c.name); got != c.want {
			t.Errorf("%s in the context %q: got %t, want %t", c.name, c.context, got, c.want)
		}
	}
}

// TestManyManifests: a tree of very many manifests is read as far as the limits go, and the rest is named.
func TestManyManifests(t *testing.T) {
	dir := t.TempDir()
	for i := range maxManifests + 2 {
		at := filepath.Join(dir, strings.Repeat("d", i/10+1)+string(rune('a'+i%10)))
		if err := os.MkdirAll(at, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(at, "go.sum"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	files, skipped, err := readFiles(dir, func(string) bool { return true })
	if err != nil || len(files) != maxManifests || len(skipped) != 2 || !strings.Contains(skipped[0], "too many") {
		t.Errorf("got %d files, skipped %q, %v", len(files), skipped, err)
	}
}

// TestDistrustedPackage: an entry about a package in an SBOM that holds is a broken link.
func TestDistrustedPackage(t *testing.T) {
	s := newScene(t)
	commit := s.commit("1")
	r := s.release("refs/heads/main", commit)
	withPackages(r, [3]string{"log4j-core", "2.14.1", "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1"})
	r.Attach(prooftest.Kinds...)
	for scope, want := range map[string]State{"log4j-core@2.14.1": Broken, "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1": Broken, "log4j-core@2.17.0": Whole} {
		issuer := distrusttest.New(t)
		issuer.Add(distrust.Scope{Package: scope})
		in := s.inquiry()
		in.Askers[AskDistrust] = lists(issuer.Known("shop"))
		c := s.run(in)
		if c.Conclusion.State != want || want == Broken && !strings.HasPrefix(c.Conclusion.Line, "broken link: distrust: shop distrusts package "+scope) {
			t.Errorf("%s: got %s, %q", scope, c.Conclusion.State, c.Conclusion.Line)
		}
		s.recheck(c, in.Evidence)
	}
}

// TestCheckoutAsksNobodyElse: whoever wrote the commit chose where its submodules are, so they are not asked.
func TestCheckoutAsksNobodyElse(t *testing.T) {
	s := newScene(t)
	other := newScene(t)
	other.write("go.mod", "module other\n")
	other.commit("1")
	s.write("go.mod", "module example.com/app\n")
	s.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", other.uri, "sub")
	commit := s.commit("1")
	files, _, err := GitCheckout(t.Context(), source.Question{URI: s.uri, Commit: commit}, wantsFrom(nil))
	if err != nil || len(files) != 1 || files["go.mod"] == nil {
		t.Errorf("got %d files, %v", len(files), err)
	}
}

// inlining is a registry that answers with what is attached in the list of it.
type inlining struct{ *prooftest.Store }

func (s inlining) Referrers(ctx context.Context, subject v1.Hash) ([]v1.Descriptor, error) {
	list, err := s.Store.Referrers(ctx, subject)
	list = slices.Clone(list)
	for i := range list {
		if list[i].Data, _, err = s.Manifest(ctx, list[i].Digest); err != nil {
			return nil, err
		}
	}
	return list, err
}

// TestInlinedAttachments: SBOMs are read from the list of what is attached, as verification does: a platform's registry
// answers so.
func TestInlinedAttachments(t *testing.T) {
	s := newScene(t)
	commit := s.commit("1")
	s.release("refs/heads/main", commit).Attach(prooftest.Kinds...)
	in := s.inquiry()
	in.Askers[AskChain] = ChainAsker(inlining{s.store}, "v1.2.0", false)
	c := s.run(in)
	if a := c.Answer(AskSources); a.Outcome != Answered || a.Facts.Sources.Manifests == nil {
		t.Errorf("got %+v", a)
	}
	s.recheck(c, in.Evidence)
}
