package source

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/limits"
)

// RefStatus says what became of a ref.
type RefStatus string

const (
	RefThere     RefStatus = "there"     // the ref points to the commit
	RefForward   RefStatus = "forward"   // the branch moved on; the commit is in its history
	RefMerged    RefStatus = "merged"    // the branch was deleted; the commit is in the history of the default branch
	RefRewritten RefStatus = "rewritten" // the commit is no longer in the history of the branch
	RefMoved     RefStatus = "moved"     // the tag points to another commit
	RefGone      RefStatus = "gone"      // the ref was deleted, and the default branch does not have the commit
)

// Question asks a repository about a Commit that Fetch once returned.
type Question struct {
	URI     string   // address of the repository
	Ref     string   // full name; empty if a commit id was fetched
	Commit  string   // full id of the commit
	Tree    string   // if not empty: ask for the commit's tree, to compare it with this id
	Signers *Signers // if not nil: ask who signed the tag or commit
	Object  bool     // ask for the commit itself, and whether its branch was set back

	Credential *Credential // authenticates to the repository; may be nil
}

// Signers holds the keys to verify the signature of a tag or commit.
type Signers struct {
	AllowedSigners []byte // ssh allowed_signers file; may be nil
	Keyring        []byte // armored OpenPGP public keys; may be nil

	// Certified verifies a signature with a certificate (gitsign), and returns who
	// signed. Its arguments are a Sigstore bundle and the signed bytes. If it is nil,
	// such signatures are Unverified.
	Certified func(bundle, signed []byte) (signer string, err error)
}

// Check fails unless the files of keys can be read. Of an allowed_signers file, the error says
// the line.
func (s Signers) Check() error {
	_, err := parseKeys(s.AllowedSigners, s.Keyring)
	return err
}

// Standing is the answer to a Question.
type Standing struct {
	Commit    bool      // the repository still serves the commit
	Within    string    // only if the Question has no ref: a branch or tag whose history has the commit; empty if there is none
	Ref       RefStatus // empty if the Question has no ref
	Now       string    // id of the commit that the ref points to now; empty if the ref is gone
	Tree      string    // id of the commit's tree; empty if not asked, or if the commit is gone
	Signature Signature // empty if not asked, or if the commit is gone
	Object    string    // content of the commit, for ReadCommit; empty if not asked, or if the commit is gone
	Back      bool      // only if Ref is RefRewritten, and Object was asked for: the branch points to an ancestor of the commit
}

// Holds reports whether the repository still has the commit, and the ref still points
// to it or to a descendant. For a deleted branch, the default branch must have the commit,
// and without a ref any branch or tag.
func (s Standing) Holds() bool {
	return s.Commit && (s.Ref == "" && s.Within != "" || s.Ref == RefThere || s.Ref == RefForward || s.Ref == RefMerged)
}

// String returns one line for people.
func (s Standing) String() string {
	line := "commit is there"
	if !s.Commit {
		line = "commit is no longer served"
	}
	switch s.Ref {
	case "":
		switch {
		case s.Within != "":
			line += " in " + s.Within
		case s.Commit:
			line += ", but " + errNowhere.Error()
		}
	case RefThere:
		line += ", unchanged"
	case RefForward:
		line += "; its branch has moved on to " + s.Now
	case RefMerged:
		line += " in the default branch; its own ref is gone"
	case RefRewritten:
		line += ", but the history of its branch was rewritten: it points to " + s.Now + " now, which does not have the commit in its history"
	case RefMoved:
		line += ", but its tag was moved to " + s.Now
	case RefGone:
		line += ", but its ref is gone, and the default branch does not have it"
	}
	return line
}

// ErrLogin means that a repository wants to know who asks: it is private, or does not exist.
// Ask again with a credential.
var ErrLogin = errors.New("the repository asks for a login")

// askedForLogin returns ErrLogin for an error of git that means it, and any other as it is.
func askedForLogin(err error) error {
	if gitSays(err, "could not read Username") || gitSays(err, "Authentication failed") {
		return ErrLogin // git only says that it may not ask
	}
	return err
}

// Lookup asks a repository whether it still has a commit, and what became of the ref
// that pointed to it or, without a ref, whether a branch or tag has it. A repository may
// serve a commit that is not in its history: hosts also serve the commits of forks. An error means that the repository could not be
// asked; it says nothing about the commit.
func Lookup(ctx context.Context, q Question) (Standing, error) {
	rem, err := parseRemote(q.URI)
	if err != nil {
		return Standing{}, err
	}
	if rem.secret {
		return Standing{}, errCreds
	}
	if !isID(q.Commit) {
		return Standing{}, fmt.Errorf("commit: got %q, want a full id in lower case", q.Commit)
	}
	l := lookup{q: q}
	if s := q.Signers; s != nil {
		if l.keys, err = parseKeys(s.AllowedSigners, s.Keyring); err != nil {
			return Standing{}, err
		}
		l.keys.certified = s.Certified
	}
	s, err := l.answer(ctx, rem)
	if err != nil && ctx.Err() == nil && (rem.scheme == "https" || rem.scheme == "http") && rem.path == rem.trimmedPath() {
		// A canonical address does not end in .git. Some servers find the repository
		// only with .git.
		dotted := rem
		dotted.path += ".git"
		if t, err := l.answer(ctx, dotted); err == nil {
			return t, nil
		}
	}
	if err = askedForLogin(err); err != nil {
		return Standing{}, fmt.Errorf("%s: %w", rem.canonical(), err)
	}
	return s, nil
}

// lookup is the state of one Lookup.
type lookup struct {
	q    Question
	keys keys
}

// answer answers the question, with the repository at this address.
func (l lookup) answer(ctx context.Context, rem remote) (Standing, error) {
	asker, err := newGit("")
	if err != nil {
		return Standing{}, err
	}
	defer asker.Close()
	asker.credential = l.q.Credential
	if rem.scheme == "file" {
		if err := asker.refuseAlternates(ctx, rem.localPath()); err != nil {
			return Standing{}, err
		}
	}
	s, want, tip, err := l.refStatus(ctx, asker, rem)
	if err != nil {
		return Standing{}, err
	}
	if s.Ref == RefThere && l.q.Tree == "" && l.q.Signers == nil && !l.q.Object {
		s.Commit = true
		return s, nil
	}
	dir, err := os.MkdirTemp(asker.home, "repo-")
	if err != nil {
		return Standing{}, err
	}
	g := &git{path: asker.path, home: asker.home, dir: dir, root: dir, most: historyCap, credential: asker.credential}
	if err := g.init(ctx, l.q.Commit); err != nil {
		return Standing{}, err
	}
	id := want.commit
	if want.tag != "" {
		id = want.tag
	}
	err = g.fetchCommits(ctx, rem, id, "--depth=1")
	// A server with the old protocol does not serve commits that no ref points to. Only
	// the history of a branch shows then whether it has the commit.
	onlyRefs := gitSays(err, "unadvertised object") && tip != ""
	switch {
	case gitSays(err, "not our ref"):
		return s, nil
	case err != nil && !onlyRefs:
		return Standing{}, err
	}
	if tip != "" {
		in, err := g.inHistory(ctx, rem, tip, l.q.Commit, !onlyRefs)
		switch {
		case err != nil:
			return Standing{}, err
		case in && s.Ref == RefGone:
			s.Ref = RefMerged
		case in:
			s.Ref = RefForward
		case onlyRefs:
			return s, nil
		case l.q.Object && s.Ref == RefRewritten:
			if err := g.fetchCommits(ctx, rem, id, "--depth=2147483647"); err != nil {
				return Standing{}, err
			}
			if s.Back, err = g.ancestor(ctx, tip, l.q.Commit); err != nil {
				return Standing{}, err
			}
		}
	}
	s.Commit = true
	if l.q.Ref == "" {
		if s.Within, err = asker.within(ctx, rem, l.q.Commit, asker.home); err != nil {
			return Standing{}, err
		}
	}
	if l.q.Object {
		if s.Object, err = g.commitObject(ctx, l.q.Commit); err != nil {
			return Standing{}, err
		}
	}
	return s, l.describe(ctx, g, want, &s)
}

// refStatus finds out what became of the ref. want is what to fetch for the commit. tip
// is empty, or the commit whose history must be searched for the commit.
func (l lookup) refStatus(ctx context.Context, asker *git, rem remote) (s Standing, want target, tip string, err error) {
	want = target{commit: l.q.Commit}
	if l.q.Ref == "" {
		return s, want, "", nil
	}
	tag := strings.HasPrefix(l.q.Ref, tagPrefix)
	t, err := asker.resolve(ctx, rem, l.q.Ref)
	switch {
	case err == nil && t.commit == l.q.Commit:
		return Standing{Ref: RefThere, Now: t.commit}, t, "", nil
	case err == nil && tag:
		return Standing{Ref: RefMoved, Now: t.commit}, want, "", nil
	case err == nil:
		return Standing{Ref: RefRewritten, Now: t.commit}, want, t.commit, nil
	case !errors.Is(err, ErrUnknownRef):
		return s, want, "", err
	case !tag:
		head, err := asker.resolve(ctx, rem, "HEAD")
		if err != nil && !errors.Is(err, ErrUnknownRef) {
			return s, want, "", err
		}
		tip = head.commit
	}
	return Standing{Ref: RefGone}, want, tip, nil
}

// fetchCommits fetches the commits that id points to, without trees if the server
// supports that.
func (g *git) fetchCommits(ctx context.Context, rem remote, id string, how ...string) error {
	args := append([]string{"fetch", "-q", "--no-tags", "--no-recurse-submodules", "--no-auto-maintenance",
		"--no-write-fetch-head", "--filter=tree:0"}, how...)
	_, err := g.remote(ctx, rem, append(args, "--", rem.address(), id)...)
	return err
}

// inHistory reports whether commit is in the history of tip. have means that the commit
// was already fetched. It first searches the history since the commit's time; only the
// complete history can show that the commit is not there.
func (g *git) inHistory(ctx context.Context, rem remote, tip, commit string, have bool) (bool, error) {
	if have {
		since, err := g.commitTime(ctx, commit)
		if err != nil {
			return false, err
		}
		// The clocks of committers differ.
		err = g.fetchCommits(ctx, rem, tip, fmt.Sprintf("--shallow-since=@%d", since.Add(-48*time.Hour).Unix()))
		if ctx.Err() != nil {
			return false, err
		}
		if in, ancestorErr := g.ancestor(ctx, commit, tip); err == nil && (in || ancestorErr != nil) {
			return in, ancestorErr
		}
	}
	if err := g.fetchCommits(ctx, rem, tip, "--depth=2147483647"); err != nil { // removes the limit of the fetch before
		return false, err
	}
	return g.ancestor(ctx, commit, tip)
}

// commitTime returns the committer time of a commit.
func (g *git) commitTime(ctx context.Context, commit string) (time.Time, error) {
	o, err := g.objects(ctx)
	if err != nil {
		return time.Time{}, err
	}
	defer o.Close()
	obj, err := o.object(commit, "commit")
	if err != nil {
		return time.Time{}, err
	}
	return obj.time, nil
}

// commitObject returns the content of a commit that was fetched.
func (g *git) commitObject(ctx context.Context, id string) (string, error) {
	o, err := g.objects(ctx)
	if err != nil {
		return "", err
	}
	defer o.Close()
	raw, err := o.read(id, "commit", limits.GitObject)
	return string(raw), err
}

// ancestor reports whether old is in the fetched history of tip.
func (g *git) ancestor(ctx context.Context, old, tip string) (bool, error) {
	_, err := g.local(ctx, "merge-base", "--is-ancestor", old, tip)
	exit, exited := errors.AsType[*exec.ExitError](err)
	if gitSays(err, "Not a valid commit name "+old) || exited && exit.ExitCode() == 1 {
		return false, nil
	}
	return err == nil, err
}

// describe sets tree and signature of s from the commit, or the tag that points to it.
func (l lookup) describe(ctx context.Context, g *git, t target, s *Standing) error {
	repo := &Repo{}
	if err := (&fetcher{keys: l.keys}).describe(ctx, g, repo, t); err != nil {
		return err
	}
	if l.q.Tree != "" {
		s.Tree = repo.commit.Tree
	}
	if l.q.Signers != nil {
		s.Signature = repo.commit.Signature
	}
	return nil
}
