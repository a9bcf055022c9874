package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/internal/dirlock"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// filesPrefix begins the names of the repositories in which the platform keeps release files.
const filesPrefix = "files/"

// runReleaseFiles has the platform build release files, and saves them in a directory. The
// request names no image, or one without a registry: the repository where the platform keeps
// the files.
func runReleaseFiles(ctx context.Context, cmd *cobra.Command, platform *api.ClientConfig, req api.ReleaseRequest, o releaseOptions, p progress) error {
	if o.recipe.Builder != "" { // consumers have to name what it builds
		o.recipe = o.recipe.Filled()
	}
	req.Recipe = o.recipe
	req.Recipe.Files = true
	if err := req.Recipe.Check(); err != nil {
		return usageError("", "%v", err)
	}
	if req.Image = o.image; !attest.HasRegistry(o.image) {
		u, err := url.Parse(platform.URL)
		if err != nil {
			return err
		}
		name := o.image
		if name == "" {
			if name, err = filesRepository(req.Source, o.recipe); err != nil {
				return err
			}
		}
		registry := o.registry
		if registry == "" {
			registry = u.Host
		}
		req.Image = strings.TrimSuffix(registry, "/") + "/" + name
	}
	rel, err := o.request(ctx, platform, req, p)
	if err != nil {
		return err
	}
	stop := waiting(cmd.ErrOrStderr(), "downloading and verifying the files")
	s := savedFiles{to: o.save, rel: rel}
	src, err := oci.OpenRegistry(rel.Image, oci.RegistryOptions{})
	if err == nil {
		s.opts, err = o.strangers(ctx, platform, req, rel)
	}
	if err == nil {
		err = s.save(ctx, src)
	}
	stop()
	if err != nil {
		return o.explain(ctx, err)
	}
	return o.answer(cmd.OutOrStdout(), rel, func(out io.Writer) { o.printFiles(out, s) })
}

// separators matches what stands between letters and digits in an element of a name.
var separators = lazyregexp.New(`[^a-z0-9]+`)

// filesRepository returns the name of the repository for the files of a recipe: files/ and the
// address of the source, then the package or context, or Dockerfile and target, with a hyphen for what such a name
// cannot have.
func filesRepository(uri string, r attest.Recipe) (string, error) {
	canonical, err := source.Canonical(uri)
	if err != nil {
		return "", usageError("", "%v", err)
	}
	_, place, ok := strings.Cut(canonical, "://")
	if !ok {
		place = canonical
	}
	var parts []string
	if place += "/" + r.Dockerfile + "/" + r.Target; r.Dockerfile == "" && r.Target == "" {
		r.Builder = attest.Golang
		place += r.Filled().Package
	}
	for part := range strings.SplitSeq(place, "/") {
		part = separators.ReplaceAllStringFunc(strings.ToLower(part), func(s string) string {
			if s == "." || s == "_" {
				return s
			}
			return "-"
		})
		if part = strings.Trim(part, "-._"); part != "" {
			parts = append(parts, part)
		}
	}
	name := filesPrefix + strings.Join(parts, "/")
	if len(parts) == 0 || len(name) > maxRepository {
		return "", usageError("name one with --image", "%s gives no name of a repository for the files", uri)
	}
	return name, nil
}

// maxRepository limits the name of a repository that filesRepository makes, in bytes. With
// that of the registry, 255 are allowed.
const maxRepository = 200

// savedFiles is the directory in which the files of a release are saved, as attest --files
// leaves it: the files, the proof and the SBOM of each beside it, and the list of the digests.
type savedFiles struct {
	to    string
	rel   *api.Release
	files []oci.File
	opts  verify.Options // a stranger's, who wants what was asked for
	old   bool           // all was there before
	bare  []string       // files without an SBOM
}

// save downloads the files to a directory beside s.to, verifies them there as anybody would,
// and renames it. So s.to is there whole or not at all. If it is there already with the same
// files, save only verifies them.
func (s *savedFiles) save(ctx context.Context, src oci.Source) error {
	d, err := src.Resolve(ctx, s.rel.Digest)
	if err != nil {
		return err
	}
	raw, _, err := src.Manifest(ctx, d.Digest)
	if err != nil {
		return err
	}
	if s.files, err = oci.ParseFiles(raw); err != nil {
		return fmt.Errorf("%s@%s: %w", s.rel.Image, s.rel.Digest, err)
	}
	if there, err := isFilled(s.to); err != nil {
		return err
	} else if there {
		s.old = true
		return s.checkOld(ctx)
	}
	parent, base := filepath.Split(filepath.Clean(s.to))
	parent = filepath.Clean(parent)
	if err := removeUnfinished(parent, base); err != nil {
		return err
	}
	work, err := os.MkdirTemp(parent, unfinished(base)+"*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	lock, err := dirlock.Take(work)
	if err != nil {
		return err
	}
	defer lock.Release()
	dir := filepath.Join(work, "files")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := s.download(ctx, src, d.Digest, dir); err != nil {
		return err
	}
	if err := s.check(ctx, dir); err != nil {
		return err
	}
	if err := os.Remove(s.to); err != nil && !errors.Is(err, fs.ErrNotExist) { // an empty directory
		return err
	}
	if err := os.Rename(dir, s.to); err != nil {
		return err
	}
	return durable.SyncDir(parent)
}

// isFilled reports whether dir is a directory with something in it.
func isFilled(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return len(entries) > 0, err
}

// removeUnfinished removes the directories that commands for the same directory left when they
// died. One that runs holds the lock of its own. What cannot be removed stays: in a directory such
// as /tmp, others may have made it.
func removeUnfinished(parent, base string) error {
	entries, err := os.ReadDir(parent)
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), unfinished(base)) {
			continue
		}
		dir := filepath.Join(parent, e.Name())
		lock, held := dirlock.Take(dir)
		if held != nil {
			continue
		}
		lock.Release() // Windows removes no open file
		os.RemoveAll(dir)
	}
	return err
}

// unfinished begins the names of the directories in which commands for the directory base work.
func unfinished(base string) string { return "." + base + ".tmp-" }

// strangers returns what anybody verifies the files with who wants what this command asked for.
func (o releaseOptions) strangers(ctx context.Context, platform *api.ClientConfig, req api.ReleaseRequest, rel *api.Release) (opts verify.Options, err error) {
	root, err := trustOf(ctx, platform)
	if err != nil {
		return opts, err
	}
	opts.Trust = []*trust.Root{root}
	opts.Policy, err = o.filesDemand(req, rel)
	return opts, err
}

// filesDemand returns what the proof of the files must say. It names the commit, which a ref does
// not: an earlier commit of a branch often has the same files, with a proof that says another.
func (o releaseOptions) filesDemand(req api.ReleaseRequest, rel *api.Release) (policy.Policy, error) {
	d := policy.Document{Source: req.Source, Ref: o.ref, Commit: rel.Source.ID}
	var err error
	if d.Recipe, err = o.recipeDemand(); err != nil {
		return policy.Policy{}, err
	}
	if source.IsCommitID(o.ref) {
		d.Ref, d.Commit = "", o.ref
	}
	return d.Policy()
}

// recipeDemand returns what a consumer must demand of the recipe: what the requester chose.
func (o releaseOptions) recipeDemand() (*policy.DocumentRecipe, error) {
	if o.recipe.Dockerfile != "" || o.recipe.Target != "" || len(o.recipe.BuildArgs) > 0 || o.locked != "" {
		chosen := recipeOptions{buildArgs: o.recipe.BuildArgs, locked: o.locked}
		for _, f := range []struct {
			from string
			to   **string
		}{{o.recipe.Context, &chosen.context}, {o.recipe.Dockerfile, &chosen.dockerfile}, {o.recipe.Target, &chosen.target}} {
			if f.from != "" {
				*f.to = &f.from
			}
		}
		return chosen.read()
	}
	if o.recipe.Context == "" && o.recipe.Package == "" {
		return nil, nil
	}
	r := o.recipe
	r.Builder = attest.Golang
	r = r.Filled()
	return &policy.DocumentRecipe{Context: &policy.DocumentValue{Exact: path.Clean(r.Context)}, Package: &policy.DocumentValue{Exact: r.Package}}, nil
}

// trustOf returns the trust root of a platform: that of this machine, or else the one whose
// fingerprint the login has.
func trustOf(ctx context.Context, platform *api.ClientConfig) (*trust.Root, error) {
	roots, err := storedRoots()
	if err != nil && !errors.Is(err, trust.ErrEmpty) {
		return nil, err
	}
	for _, r := range roots {
		if r.URL == strings.TrimSuffix(platform.URL, "/") {
			return r, nil
		}
	}
	raw, _, err := readTrust(ctx, platform.URL)
	if err != nil {
		return nil, err
	}
	r, err := trust.Parse(raw)
	if err != nil {
		return nil, err
	}
	if r.Fingerprint != platform.Fingerprint {
		return nil, &exitError{code: exitFailure, msg: fmt.Sprintf("trust root of %s: expected %s as in your login, found %s", platform.URL, platform.Fingerprint, r.Fingerprint), hint: "log in again, or compare it and add it: colophon trust add " + platform.URL}
	}
	return r, nil
}

// download writes files, proofs and list to dir.
func (s *savedFiles) download(ctx context.Context, src oci.Source, manifest v1.Hash, dir string) error {
	var list verify.Directory
	for _, f := range s.files {
		if err := downloadTo(ctx, src, f, filepath.Join(dir, f.Name)); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		list.Files = append(list.Files, verify.File{Name: f.Name, Title: f.Name, Digest: f.Descriptor.Digest, Size: f.Descriptor.Size})
	}
	attached, err := oci.Bundles(ctx, src, manifest)
	if err != nil {
		return err
	}
	proof, err := s.proof(ctx, attached, list.Files)
	if err != nil {
		return err
	}
	line := func(name string, bundle []byte) error {
		return durable.WriteFile(filepath.Join(dir, name), append(bundle[:len(bundle):len(bundle)], '\n'), 0o644)
	}
	boms := sbomsByFile(attached)
	for _, f := range list.Files {
		if err := line(f.Name+statementEnding, proof); err != nil {
			return err
		}
		bom := s.sbomOf(ctx, boms[f.Digest.Hex], proof, f)
		if bom == nil {
			s.bare = append(s.bare, f.Name)
			continue
		}
		if err := line(f.Name+attest.SBOMBundleEnding, bom); err != nil {
			return err
		}
	}
	raw, err := list.List()
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, listName), raw, 0o644)
}

// downloadTo writes a file. The source compares it with its digest.
func downloadTo(ctx context.Context, src oci.Source, f oci.File, to string) error {
	if f.Descriptor.Size > maxDownload {
		return fmt.Errorf("%d bytes, which are more than %d", f.Descriptor.Size, int64(maxDownload))
	}
	blob, err := src.Blob(ctx, f.Descriptor)
	if err != nil {
		return err
	}
	defer blob.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, io.LimitReader(blob, f.Descriptor.Size+1)) // the last read compares the digest
	return errors.Join(err, out.Sync(), out.Close())
}

// sbomsByFile returns the bundles that say that they are SPDX documents about one thing, by its sha256:
// each file has its own, so that not all of them are verified for each file.
func sbomsByFile(attached []oci.Bundle) map[string][][]byte {
	of := map[string][][]byte{}
	for _, a := range attached {
		if a.Err != nil {
			continue
		}
		b, err := bundle.Parse(a.Raw)
		if err != nil || b.Statement == nil || b.Statement.PredicateType != attest.PredicateSPDX || len(b.Statement.Subject) != 1 {
			continue
		}
		hex := b.Statement.Subject[0].Digest["sha256"]
		of[hex] = append(of[hex], a.Raw)
	}
	return of
}

// sbomOf returns the first of the bundles with an SPDX document about the file by the signer of the
// proof; nil if there is none: earlier versions of the platform made no SBOMs of files.
func (s *savedFiles) sbomOf(ctx context.Context, bundles [][]byte, proof []byte, f verify.File) []byte {
	opts := s.opts
	opts.Policy.Attestations = []policy.Attestation{{PredicateType: attest.PredicateSPDX}}
	for _, raw := range bundles {
		if verify.Bundled(ctx, f, [][]byte{proof, raw}, time.Now(), opts).Outcome == verify.Accepted {
			return raw
		}
	}
	return nil
}

// proof returns the first of the bundles that proves all files.
func (s *savedFiles) proof(ctx context.Context, attached []oci.Bundle, files []verify.File) ([]byte, error) {
	why := "there is none"
	for _, a := range attached {
		if a.Err != nil {
			why = a.Err.Error()
			continue
		}
		wrong := slices.IndexFunc(files, func(f verify.File) bool {
			v := verify.Bundled(ctx, f, [][]byte{a.Raw}, time.Now(), s.opts)
			if v.Outcome != verify.Accepted {
				why = f.Title + ": " + v.Why()
			}
			return v.Outcome != verify.Accepted
		})
		if wrong < 0 {
			return a.Raw, nil
		}
	}
	return nil, &exitError{code: exitFailure, msg: "the proof of the files does not verify, so nothing was saved: " + why}
}

// check verifies a directory as verify DIRECTORY does. It must have exactly the files of the
// release.
func (s *savedFiles) check(ctx context.Context, dir string) error {
	d, err := verifyOptions{}.readDirectory(dir)
	defer func() {
		for _, f := range slices.Concat(d.Evidence, d.Files) {
			f.Content.(io.Closer).Close()
		}
	}()
	if err != nil {
		return err
	}
	slices.SortFunc(d.Files, func(a, b verify.File) int { return strings.Compare(a.Name, b.Name) })
	same := slices.EqualFunc(d.Files, s.files, func(a verify.File, b oci.File) bool { return a.Name == b.Name && a.Digest == b.Descriptor.Digest })
	if !same || d.Sums == nil {
		return errOtherFiles
	}
	if v := verify.BundledDirectory(ctx, d, nil, time.Now(), s.opts); v.Outcome != verify.Accepted {
		return fmt.Errorf("%s: %s", v.Outcome, v.Why())
	}
	return nil
}

var errOtherFiles = errors.New("it has other files than the release")

// checkOld is check for the directory of an earlier run.
func (s *savedFiles) checkOld(ctx context.Context) error {
	if err := s.check(ctx, s.to); err != nil {
		return &exitError{code: exitFailure, msg: fmt.Sprintf("%s is there, and is not this release: %v", s.to, err), hint: "remove it, or name another directory: --save DIR"}
	}
	return nil
}

// printFiles prints what was saved, what it proves, and the command that verifies it.
func (o releaseOptions) printFiles(w io.Writer, s savedFiles) {
	r := s.rel
	state := "released %s, saved in %s\n"
	if r.Unchanged && s.old {
		state = "nothing to do: released before, %s in %s\n"
	}
	fmt.Fprintf(w, state, printable.Count(len(s.files), "file"), printable.Text(s.to))
	line := func(what, text string) { fmt.Fprintf(w, "  %-7s %s\n", what, printable.Text(text)) }
	for _, f := range s.files {
		line("file", f.Descriptor.Digest.Hex+"  "+f.Name)
	}
	line("kept", r.Image+"@"+r.Digest)
	if len(s.bare) > 0 {
		line("no sbom", strings.Join(s.bare, ", "))
	}
	line("proves", provenFrom(r))
	line("", fmt.Sprintf("by %s: %s", r.Builder, o.level(r)))
	line("verify", o.verifyWords(s.to, r))
	if o.progress.verbose {
		printRequirements(w, "  ", r.Level, r.Requirements)
	}
}
