package source

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// What became of a ref.
const (
	RefThere     = "there"     // leads to the commit
	RefForward   = "forward"   // a branch that moved on; the commit is in its history
	RefMerged    = "merged"    // is no more; the commit is in the history of the default branch
	RefRewritten = "rewritten" // a branch whose history no longer has the commit
	RefMoved     = "moved"     // a tag that leads elsewhere
	RefGone      = "gone"      // is no more, nor is the commit in the default branch
)

// Question is what a repository is asked about a Commit that it once gave.
type Question struct {
	URI     string
	Ref     string   // full name; empty where a commit id was asked for
	Commit  string   // hex
	Tree    string   // hex, to be compared with the commit's; empty: not asked
	Signers *Signers // who should have signed tag or commit; nil: not asked
}

// Signers are whom the signature of a tag or commit is checked against.
type Signers struct {
	AllowedSigners []byte // ssh allowed_signers file; may be nil
	Keyring        []byte // armored OpenPGP public keys; may be nil

	// Certified judges signatures with a certificate (gitsign), and answers who
	// signed. It is handed a Sigstore bundle and the bytes it is a signature
	// of. Nil: such signatures are not checked.
	Certified func(bundle, signed []byte) (signer string, err error)
}

// Standing is what a repository says today.
type Standing struct {
	Commit    bool   // the repository still serves it
	Ref       string // one of the Ref constants; empty where no ref was asked about
	Now       string // commit that the ref leads to now; empty where it is gone
	Tree      string // of the commit; empty where none was asked about, or the commit is gone
	Signature Signature
}

// Holds says that nothing was taken back: the commit is there, and its ref
// leads to it or on from it.
func (s Standing) Holds() bool {
	return s.Commit && (s.Ref == "" || s.Ref == RefThere || s.Ref == RefForward || s.Ref == RefMerged)
}

// String is one line for people.
func (s Standing) String() string {
	line := "commit is there"
	if !s.Commit {
		line = "commit is no longer served"
	}
	switch s.Ref {
	case RefThere:
		line += ", unchanged"
	case RefForward:
		line += "; its branch has moved on to " + s.Now
	case RefMerged:
		line += " in the default branch; its own ref is gone"
	case RefRewritten:
		line += ", but the history of its branch was rewritten: it leads to " + s.Now + " now, which does not come from the commit"
	case RefMoved:
		line += ", but its tag was moved to " + s.Now
	case RefGone:
		line += ", but its ref is gone, and the default branch does not have it"
	}
	return line
}

// Lookup asks a repository whether a commit is still there and what became of
// the ref that led to it. That a repository serves a commit does not make it
// part of its history: hosts serve commits of forks, too. An error says that it
// could not be asked, which is neither yes nor no.
func Lookup(ctx context.Context, q Question) (Standing, error) {
	rem, err := parseRemote(q.URI)
	if err != nil {
		return Standing{}, err
	}
	if rem.secret {
		return Standing{}, errCreds
	}
	if !isID(q.Commit) {
		return Standing{}, fmt.Errorf("got commit %q, want a full id in lower case", q.Commit)
	}
	l := lookup{q: q}
	if s := q.Signers; s != nil {
		if l.keys, err = parseKeys(s.AllowedSigners, s.Keyring); err != nil {
			return Standing{}, err
		}
		l.keys.certified = s.Certified
	}
	s, err := l.ask(ctx, rem)
	if err != nil && ctx.Err() == nil && (rem.scheme == "https" || rem.scheme == "http") && rem.path == rem.bare() {
		// A canonical address has lost its .git, without which some servers
		// answer that there is no such repository.
		dotted := rem
		dotted.path += ".git"
		if t, err := l.ask(ctx, dotted); err == nil {
			return t, nil
		}
	}
	if err != nil {
		return Standing{}, fmt.Errorf("%s: %w", rem.canonical(), err)
	}
	return s, nil
}

// lookup is one Question under way.
type lookup struct {
	q    Question
	keys keys
}

func (l lookup) ask(ctx context.Context, rem remote) (Standing, error) {
	asker, err := newGit("")
	if err != nil {
		return Standing{}, err
	}
	defer asker.Close()
	if rem.scheme == "file" {
		if err := asker.refuseAlternates(ctx, rem.localPath()); err != nil {
			return Standing{}, err
		}
	}
	s, want, tip, err := l.ref(ctx, asker, rem)
	if err != nil {
		return Standing{}, err
	}
	if s.Ref == RefThere && l.q.Tree == "" && l.q.Signers == nil {
		s.Commit = true
		return s, nil
	}
	dir, err := os.MkdirTemp(asker.home, "repo-")
	if err != nil {
		return Standing{}, err
	}
	g := &git{path: asker.path, home: asker.home, dir: dir, root: dir, most: historyCap}
	if err := g.init(ctx, l.q.Commit); err != nil {
		return Standing{}, err
	}
	id := want.commit
	if want.tag != "" {
		id = want.tag
	}
	err = g.commits(ctx, rem, id, "--depth=1")
	// A server of the old protocol gives nothing by id that no ref leads to, so
	// that only the history of a branch can tell.
	reticent := says(err, "unadvertised object") && tip != ""
	switch {
	case says(err, "not our ref"):
		return s, nil
	case err != nil && !reticent:
		return Standing{}, err
	}
	if tip != "" {
		in, err := g.comesFrom(ctx, rem, tip, l.q.Commit, !reticent)
		switch {
		case err != nil:
			return Standing{}, err
		case in && s.Ref == RefGone:
			s.Ref = RefMerged
		case in:
			s.Ref = RefForward
		case reticent:
			return s, nil
		}
	}
	s.Commit = true
	return s, l.describe(ctx, g, want, &s)
}

// ref finds out what became of the ref, what to fetch for the commit, and the
// commit whose history may have it where the ref does not lead to it.
func (l lookup) ref(ctx context.Context, asker *git, rem remote) (s Standing, want target, tip string, err error) {
	want = target{commit: l.q.Commit}
	if l.q.Ref == "" {
		return s, want, "", nil
	}
	tag := strings.HasPrefix(l.q.Ref, "refs/tags/")
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

// commits fetches what id leads to, without trees where the server can leave
// them out.
func (g *git) commits(ctx context.Context, rem remote, id string, how ...string) error {
	args := append([]string{"fetch", "-q", "--no-tags", "--no-recurse-submodules", "--no-auto-maintenance",
		"--no-write-fetch-head", "--filter=tree:0"}, how...)
	_, err := g.remote(ctx, rem, append(args, "--", rem.fetch(), id)...)
	return err
}

// comesFrom says whether commit is in the history of tip. What is younger than
// the commit mostly tells; only the whole history can tell that it is not. With
// have, the commit was fetched before.
func (g *git) comesFrom(ctx context.Context, rem remote, tip, commit string, have bool) (bool, error) {
	if have {
		since, err := g.committed(ctx, commit)
		if err != nil {
			return false, err
		}
		// The clocks of committers differ.
		err = g.commits(ctx, rem, tip, fmt.Sprintf("--shallow-since=@%d", since.Add(-48*time.Hour).Unix()))
		if ctx.Err() != nil {
			return false, err
		}
		if in, ancestorErr := g.ancestor(ctx, commit, tip); err == nil && (in || ancestorErr != nil) {
			return in, ancestorErr
		}
	}
	if err := g.commits(ctx, rem, tip, "--depth=2147483647"); err != nil { // no more of this limit
		return false, err
	}
	return g.ancestor(ctx, commit, tip)
}

func (g *git) committed(ctx context.Context, commit string) (time.Time, error) {
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

// ancestor says whether old is in the history of tip, as far as it is here.
func (g *git) ancestor(ctx context.Context, old, tip string) (bool, error) {
	_, err := g.local(ctx, "merge-base", "--is-ancestor", old, tip)
	exit, exited := errors.AsType[*exec.ExitError](err)
	if says(err, "Not a valid commit name "+old) || exited && exit.ExitCode() == 1 {
		return false, nil
	}
	return err == nil, err
}

// describe fills in what the commit, or the tag that leads to it, says.
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
