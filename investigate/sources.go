package investigate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/sbom"
	"github.com/colophon-build/colophon/sbom/manifest"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/verify"
)

// Sources compares the SBOMs with what the provenance says, and with the manifests of its source.
type Sources struct {
	Named     []string   `json:"named,omitempty"` // sources that SBOMs name, git+URI@COMMIT
	Want      string     `json:"want"`            // the source of the provenance
	Manifests *Manifests `json:"manifests,omitempty"`
}

// Manifests compares the packages in SBOMs with manifests and lock files of the commit, such as go.mod. The evidence
// has the files; that the commit has them, and no others, the repository said.
type Manifests struct {
	Why      string         `json:"why,omitempty"`     // why they were not compared; then the rest is empty
	Files    []ManifestFile `json:"files"`             // by path
	Skipped  []string       `json:"skipped,omitempty"` // that could not be read, with the reason
	Types    []string       `json:"types"`             // of packages that the files are about, as in package URLs
	Compared int            `json:"compared"`          // packages of these types in the SBOMs
	Unnamed  Packages       `json:"unnamed"`           // in SBOMs, and named by no manifest
	Unlisted Packages       `json:"unlisted"`          // named by a manifest, and in no SBOM
}

// ManifestFile is a file that was compared.
type ManifestFile struct {
	Path   string `json:"path"`   // in the commit
	Digest string `json:"digest"` // sha256:HEX
}

// Packages are some packages, and how many there are.
type Packages struct {
	Total int      `json:"total"`
	Some  []string `json:"some,omitempty"` // the first: TYPE NAME@VERSION
}

const (
	maxManifests     = 200      // files that are compared
	maxManifestBytes = 64 << 20 // bytes of all of them
	mostPackages     = 50       // packages of each kind that a case names
)

func somePackages(all []string) Packages {
	return Packages{len(all), all[:min(len(all), mostPackages)]}
}

// Checkout returns the files at a commit for which wants is true, by path, and what it left out. It is called with the
// repository that the investigator named.
type Checkout func(ctx context.Context, q source.Question, wants func(path string) bool) (files map[string][]byte, skipped []string, err error)

// SourcesAsker compares the sources that SBOMs name with that of the provenance, from the evidence of the first answer, and the
// packages in them with the manifests of the commit. checkout may be nil: then there is no repository to read.
func SourcesAsker(checkout Checkout) Asker {
	return func(ctx context.Context, in *Inquiry) (Reply, error) {
		r := Reply{Asked: "the SBOMs"}
		found, docs, err := sourcesOf(ctx, in.holding, in.Evidence)
		if err != nil {
			return r, err
		}
		r.Facts.Sources, found.Manifests = found, &Manifests{}
		q, err := in.commitOf()
		switch {
		case len(docs) == 0:
			err = errors.New("there are no SBOMs")
		case checkout == nil && err == nil:
			err = errors.New("the repository is not to be asked")
		}
		var files map[string][]byte
		var skipped []string
		if err == nil {
			r.Asked, r.Query = "the SBOMs, and "+q.URI, q.Commit
			files, skipped, err = checkout(ctx, q, wantsFrom(in.Holding()))
		}
		if err != nil {
			found.Manifests.Why = line(err.Error())
			return r, nil
		}
		found.Manifests = compareManifests(docs, files, skipped)
		for _, name := range slices.Sorted(maps.Keys(files)) {
			kept, err := in.Evidence.Add(files[name])
			if err != nil {
				return r, err
			}
			found.Manifests.Files = append(found.Manifests.Files, ManifestFile{name, kept})
			r.Evidence = append(r.Evidence, kept)
		}
		return r, nil
	}
}

// wantsFrom reports for a path whether it is a manifest that the build could see: in the context of its recipe, or above it.
func wantsFrom(f *verify.Facts) func(name string) bool {
	within := "."
	if f != nil && f.Build != nil && f.Build.Recipe != nil && f.Build.Recipe.Context != "" {
		within = path.Clean(f.Build.Recipe.Context)
	}
	return func(name string) bool {
		for part := range strings.SplitSeq(path.Dir(name), "/") {
			if slices.Contains([]string{"node_modules", "vendor", "testdata"}, part) {
				return false
			}
		}
		dir := path.Dir(name)
		return manifest.Wants(name) && (within == "." || dir == "." || dir == within || strings.HasPrefix(dir, within+"/") || strings.HasPrefix(within, dir+"/"))
	}
}

// compareManifests compares SBOMs and files, but for the digests of the files.
func compareManifests(docs []*sbom.Document, files map[string][]byte, skipped []string) *Manifests {
	var set manifest.Set
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := set.Add(name, files[name]); err != nil {
			skipped = append(skipped, line(err.Error()))
		}
	}
	var all []sbom.Package
	for _, d := range docs {
		all = append(all, d.List...)
	}
	d := set.Compare(all)
	out := &Manifests{Files: []ManifestFile{}, Skipped: skipped, Types: []string{}, Compared: d.Compared, Unnamed: somePackages(d.Unnamed), Unlisted: somePackages(d.Unlisted)}
	for _, t := range d.Types {
		out.Types = append(out.Types, string(t))
	}
	return out
}

// GitCheckout reads the files of a commit from its repository, with source.Fetch. Submodules are left out: whoever wrote the
// commit chose where they are.
func GitCheckout(ctx context.Context, q source.Question, wants func(path string) bool) (files map[string][]byte, skipped []string, err error) {
	dir, err := os.MkdirTemp("", "colophon-source-")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(dir)
	repo, tree := filepath.Join(dir, "repo"), filepath.Join(dir, "tree")
	if err := os.Mkdir(repo, 0o700); err != nil {
		return nil, nil, err
	}
	r, _, err := source.Fetch(ctx, repo, source.Request{URI: q.URI, Ref: q.Commit, Commit: q.Commit, Alone: true, Credential: q.Credential})
	if err != nil {
		return nil, nil, err
	}
	if _, err := r.Export(ctx, tree); err != nil {
		return nil, nil, err
	}
	return readFiles(tree, wants)
}

// readFiles reads the files of a tree for which wants is true. Links are not followed, and what is too large or too much is
// skipped.
func readFiles(tree string, wants func(path string) bool) (files map[string][]byte, skipped []string, err error) {
	root, err := os.OpenRoot(tree)
	if err != nil {
		return nil, nil, err
	}
	defer root.Close()
	files, size := map[string][]byte{}, 0
	err = fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || !wants(name) {
			return err
		}
		f, err := root.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		raw, err := strict.Read(f, manifest.MaxFile)
		switch {
		case err != nil:
			skipped = append(skipped, line(name+": "+err.Error()))
		case len(files) == maxManifests || size+len(raw) > maxManifestBytes:
			skipped = append(skipped, line(name+": there are too many others"))
		default:
			files[name] = raw
			size += len(raw)
		}
		if len(skipped) > mostPackages {
			return fs.SkipAll
		}
		return nil
	})
	return files, skipped, err
}

// sourcesOf reads the SBOMs in the evidence.
func sourcesOf(ctx context.Context, chain Answer, e *Evidence) (*Sources, []*sbom.Document, error) {
	f := chain.Facts.Holding
	if f == nil || f.Build == nil {
		return nil, nil, NotAskedFor("no provenance holds")
	}
	docs, err := sbomsOf(ctx, chain, e)
	if err != nil {
		return nil, nil, err
	}
	out := &Sources{Want: "git+" + f.Build.Source + "@" + f.Build.Commit}
	for _, d := range docs {
		if d.Source != "" {
			out.Named = append(out.Named, d.Source)
		}
	}
	return out, docs, nil
}

// sbomsOf returns the SBOMs among the proofs that hold, from the evidence of the first answer.
func sbomsOf(ctx context.Context, chain Answer, e *Evidence) (out []*sbom.Document, err error) {
	f := chain.Facts.Holding
	if f == nil || len(chain.Evidence) < 2 {
		return nil, nil
	}
	src, err := newReplay(e.Get(chain.Evidence[1]), e)
	if err != nil {
		return nil, err
	}
	for _, s := range f.Signed {
		if s.SBOM == nil || s.Digest == "" {
			continue
		}
		digest, err := parseDigest(s.Digest)
		if err != nil {
			return nil, err
		}
		raw, err := attachedBundle(ctx, src, digest)
		if err != nil {
			return nil, err
		}
		b, err := bundle.Parse(raw)
		if err != nil {
			return nil, err
		}
		doc, err := sbom.Read(b.Statement.Predicate, s.PredicateType)
		if err != nil {
			return nil, err
		}
		out = append(out, doc)
	}
	return out, nil
}

// recheckSources compares the SBOMs and the manifests of the evidence again.
func recheckSources(c *Case, a Answer, e *Evidence) error {
	chain := c.Answer(AskChain)
	if len(chain.Evidence) < 2 {
		return errors.New("the evidence of the image is missing")
	}
	again, docs, err := sourcesOf(context.Background(), chain, e)
	if err != nil {
		return err
	}
	if a.Facts.Sources == nil {
		return errors.New("the answer is empty")
	}
	stated := a.Facts.Sources.Manifests
	if again.Manifests = stated; stated != nil && stated.Why == "" {
		files := map[string][]byte{}
		for _, f := range stated.Files {
			raw := e.Get(f.Digest)
			if raw == nil || !slices.Contains(a.Evidence, f.Digest) || files[f.Path] != nil {
				return fmt.Errorf("manifest %q: its evidence is missing", f.Path)
			}
			files[f.Path] = raw
		}
		again.Manifests = compareManifests(docs, files, nil)
		again.Manifests.Files = stated.Files
		again.Manifests.Skipped = stated.Skipped // which also names what was too large to be evidence
	}
	return sameJSON("sources", a.Facts.Sources, again)
}

// finding says what SBOMs and manifests have that the other side lacks. Neither is wrong for that.
func (m *Manifests) finding() string {
	if m == nil {
		return ""
	}
	if m.Why != "" {
		return "not compared with the manifests of the source: " + m.Why
	}
	if len(m.Files) == 0 {
		return "the source has no manifest that Colophon reads"
	}
	text := fmt.Sprintf("of %d packages (%s), no manifest of the commit names %d", m.Compared, strings.Join(m.Types, ", "), m.Unnamed.Total)
	if m.Unnamed.Total > 0 {
		text += ": " + names(m.Unnamed.Some)
	}
	text += fmt.Sprintf("; %d that manifests name are in no SBOM", m.Unlisted.Total)
	if n := len(m.Skipped); n > 0 {
		text += fmt.Sprintf("; %d manifests could not be read: %s", n, m.Skipped[0])
	}
	return text
}
