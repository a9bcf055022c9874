package main

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/test/gittest"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// If any source is accepted, no repository is ever asked: the image chooses the host.
func TestAnySourceIsNeverAsked(t *testing.T) {
	for asked, d := range map[bool]policy.Document{true: {Source: prooftest.Source}, false: {AnySource: true}} {
		p, err := d.Policy()
		if err != nil {
			t.Fatal(err)
		}
		opts := verify.Options{Policy: p}
		if err := (sourceOptions{}).configure(&opts, time.Now()); err != nil || (opts.SourceCheck != nil) != asked {
			t.Errorf("%+v: got %v, asked %v", d, err, opts.SourceCheck != nil)
		}
	}
}

// gitRepo is a repository with ssh-signed commits and tags.
type gitRepo struct {
	t            *testing.T
	dir, public  string
	commit, tree string // of the tag v1.2.0
}

func newGitRepo(t *testing.T) *gitRepo {
	r := &gitRepo{t: t, dir: t.TempDir()}
	key := filepath.Join(t.TempDir(), "key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	r.public = string(public)
	r.git("init", "-q", "-b", "main")
	r.git("config", "gpg.format", "ssh")
	r.git("config", "user.signingKey", key)
	r.git("commit", "-q", "--allow-empty", "-S", "-m", "first")
	r.git("tag", "-s", "-m", "one", "v1.2.0")
	r.commit, r.tree = r.git("rev-parse", "HEAD"), r.git("rev-parse", "HEAD^{tree}")
	return r
}

func (r *gitRepo) git(args ...string) string {
	r.t.Helper()
	return gittest.Git(r.t, r.dir, args...)
}

// built makes a release name ref of this repository as its source.
func (r *gitRepo) built(ref string) func(*prooftest.Release) {
	return func(rel *prooftest.Release) {
		uri := source.FileURI(r.dir)
		rel.Identity.SourceURI, rel.Identity.Commit, rel.Identity.Ref = uri, r.commit, ref
		rel.Parameters.Source = attest.SourceParameters{URI: uri, Ref: ref, Commit: r.commit}
		rel.Provenance.BuildDefinition.ResolvedDependencies[0] = attest.ResourceDescriptor{
			URI: attest.GitURI(uri, ref), Digest: map[string]string{"gitCommit": r.commit, "gitTree": r.tree}}
	}
}

func TestVerifyAsksTheRepository(t *testing.T) {
	r := newGitRepo(t)
	s := stageOf(t, r.built("refs/tags/v1.2.0"))
	s.run(exitOK, []string{"trust", "add", s.file("doc.json", s.p.Document()), "--yes"}, "trusted")
	good := []string{"verify", s.image, "--source", source.FileURI(r.dir)}
	demanding := []string{"verify", s.image, "--policy", s.file("policy.json", []byte(`{"source":"`+source.FileURI(r.dir)+`","requireSource":true}`))}
	signers := s.file("signers", []byte("release@example.com "+r.public))
	signed := append(good, "--signers", signers)

	s.run(exitOK, good, "✓ source", "commit is there, unchanged")
	s.run(exitOK, demanding, "✓ source")
	s.run(exitOK, signed, "✓ source", "tag signed by release@example.com (verified)")
	s.run(exitOK, append(demanding, "--signers", signers), "(verified)")
	s.run(exitRejected, append(good, "--signers", s.file("nobody", nil)), "✗ source", `got "unverified"`)
	s.run(exitRejected, append(good, "--gitsign-identity", "a@example.com", "--gitsign-issuer", "https://accounts.example.com"), "✗ source")
	s.run(exitOK, append(good, "--skip-source"), "· source", "was not asked")
	s.run(exitUndecided, append(demanding, "--skip-source"), "· source")
	s.run(exitUsage, append(signed, "--skip-source"), "exclude each other")
	s.run(exitUsage, append(good, "--gitsign-identity", "a@example.com"), "gitsign-issuer")
	s.run(exitUsage, append(good, "--signers", "no-such-file"), "no-such-file")
	s.run(exitUsage, []string{"verify", s.image, "--any-source", "--signers", signers}, "exclude each other")
	s.run(exitUndecided, append(good, "--offline"), "--offline uses no network", "colophon copy")

	// While the repository is unreachable, a demanded signature cannot be checked.
	away := r.dir + "-away"
	if err := os.Rename(r.dir, away); err != nil {
		t.Fatal(err)
	}
	s.run(exitOK, good, "? source", "did not answer")
	s.run(exitUndecided, demanding, "did not answer")
	s.run(exitUndecided, signed, "did not answer")
	if err := os.Rename(away, r.dir); err != nil {
		t.Fatal(err)
	}

	// The tag is moved, deleted, and created again without a signature.
	r.git("commit", "-q", "--allow-empty", "-m", "second")
	r.git("tag", "-f", "-m", "two", "v1.2.0")
	s.run(exitRejected, good, "✗ source", "its tag was moved to")
	r.git("tag", "-d", "v1.2.0")
	s.run(exitRejected, good, "✗ source", "its ref is gone")
	r.git("tag", "v1.2.0", r.commit)
	s.run(exitOK, good, "✓ source")
	s.run(exitOK, signed, "commit signed by release@example.com")
}

func TestVerifyBranch(t *testing.T) {
	r := newGitRepo(t)
	s := stageOf(t, r.built("refs/heads/main"))
	s.run(exitOK, []string{"trust", "add", s.file("doc.json", s.p.Document()), "--yes"}, "trusted")
	good := []string{"verify", s.image, "--source", source.FileURI(r.dir)}
	s.run(exitOK, good, "commit is there, unchanged")
	r.git("commit", "-q", "--allow-empty", "-m", "second")
	s.run(exitOK, good, "✓ source", "moved on")
	r.git("checkout", "-q", "--orphan", "other")
	r.git("commit", "-q", "--allow-empty", "-m", "another history")
	r.git("branch", "-f", "main", "other")
	s.run(exitRejected, good, "✗ source", "was rewritten")
	s.run(exitRejected, []string{"verify", "--source", source.FileURI(r.dir), s.image, s.image}, "was rewritten", "1 rejected")
}

// TestVerifyAnotherTree: the provenance names a tree that its commit does not have.
func TestVerifyAnotherTree(t *testing.T) {
	r := newGitRepo(t)
	s := stageOf(t, func(rel *prooftest.Release) {
		r.built("refs/tags/v1.2.0")(rel)
		rel.Provenance.BuildDefinition.ResolvedDependencies[0].Digest["gitTree"] = strings.Repeat("ab", 20)
	})
	s.run(exitOK, []string{"trust", "add", s.file("doc.json", s.p.Document()), "--yes"}, "trusted")
	s.run(exitRejected, []string{"verify", s.image, "--source", source.FileURI(r.dir)}, "✗ source", "tree of commit", r.tree)
}

// TestGitsignRoots: a gitsign identity counts only under a trust root that vouches for
// its issuer, that --gitsign-root names, and that is fresh if the policy demands it.
func TestGitsignRoots(t *testing.T) {
	const ada, people = "https://accounts.example.com/ada", "https://accounts.example.com"
	signed := []byte("the attributes of a commit's signature")
	sum := sha256.Sum256(signed)
	st, err := attest.NewStatement("commit", hex.EncodeToString(sum[:]), attest.PredicateSign, struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := prooftest.New(t), prooftest.New(t)
	root, stranger, both := ours.PlainRoot(people), theirs.PlainRoot("https://elsewhere.example.com"), theirs.PlainRoot(people)
	stale := *root
	stale.Expires = time.Now().Add(-time.Hour)
	id := prooftest.Identity{SAN: ada, Issuer: people}
	for name, tt := range map[string]struct {
		by    *prooftest.Platform
		roots []*trust.Root
		named string
		fresh bool
		want  bool
	}{
		"ours":                              {ours, []*trust.Root{stranger, root}, "", false, true},
		"a stranger":                        {theirs, []*trust.Root{stranger, root}, "", false, false},
		"another that vouches for it":       {theirs, []*trust.Root{both, root}, "", false, true},
		"another, ours named":               {theirs, []*trust.Root{both, root}, root.Fingerprint, false, false},
		"ours, named":                       {ours, []*trust.Root{both, root}, root.Fingerprint, false, true},
		"a root that is not here":           {ours, []*trust.Root{root}, both.Fingerprint, false, false},
		"ours, stale":                       {ours, []*trust.Root{&stale}, "", false, true},
		"ours, stale, fresh trust demanded": {ours, []*trust.Root{&stale}, "", true, false},
	} {
		o := sourceOptions{gitsign: signerOptions{DocumentSigner: policy.DocumentSigner{Identity: ada, Issuer: people, Root: tt.named}}}
		got, err := o.certified(tt.by.Sign(id, st), signed, o.roots(tt.roots, tt.fresh, time.Now()), time.Now())
		if (err == nil) != tt.want || tt.want && got != ada {
			t.Errorf("%s: got %q, %v, want it to hold: %v", name, got, err, tt.want)
		}
	}
}
