package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/colophon-build/colophon/internal/limits"
)

// ErrUnknownRef means that the repository answered and does not have the ref. The text
// of the error suggests a similar tag. Ask the user for another ref: trying again does
// not help.
var ErrUnknownRef = errors.New("unknown ref")

// Other reasons why Fetch or Export refuse a repository.
var (
	errMoved     = errors.New("the ref points to another commit")
	errAmbiguous = errors.New("ambiguous ref") // a tag and a branch on different commits have this short name
	errLimit     = errors.New("too large")
	errUnsafe    = errors.New("refused") // writing the tree could touch files out of its directory
)

// Repo is a fetched commit. It is a bare repository that contains only the objects of
// the commit; the repositories of its submodules are below modules/.
type Repo struct {
	dir    string
	commit Commit
	remote remote
	subs   map[string]*Repo // by path within the tree

	missing map[string]string // submodules that could not be fetched, by path within the tree: the reason
}

// Fetch resolves r.Ref, and fetches its commit and submodules into dir, an empty
// directory that becomes a bare repository. All of the result is computed from git
// objects whose ids Fetch has checked.
//
// The error matches ErrLogin if the repository wants to know who asks, and ErrUnknownRef
// if the repository does not have the ref or commit. Fetch also fails if a short name is
// both a tag and a branch on different commits, if the ref does not point to r.Commit, if
// no branch or tag contains the commit, and if the tree contains entries that are unsafe
// to write. Delete dir after an error. A submodule that cannot be fetched is no error:
// Export lists it in Tree.Unresolved.
func Fetch(ctx context.Context, dir string, r Request) (*Repo, Commit, error) {
	rem, err := parseRemote(r.URI)
	if r.From != "" && err == nil {
		var parent remote
		if parent, err = parseRemote(r.From); err == nil {
			rem, err = parent.join(r.URI)
		}
	}
	if err != nil {
		return nil, Commit{}, err
	}
	if rem.secret {
		return nil, Commit{}, errCreds
	}
	k, err := parseKeys(r.AllowedSigners, r.Keyring)
	if err != nil {
		return nil, Commit{}, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, Commit{}, err
	}
	f := fetcher{keys: k, root: dir, alone: r.Alone, uploadPack: r.UploadPack, credential: r.Credential}
	repo, err := f.fetch(ctx, dir, rem, r.Ref, r.Commit, 0)
	if err = askedForLogin(err); err != nil {
		return nil, Commit{}, fmt.Errorf("%s: %w", rem.canonical(), err)
	}
	if repo.commit.Ref == "" {
		if repo.commit.Within, err = f.within(ctx, rem, repo.commit.ID); err != nil {
			return nil, Commit{}, fmt.Errorf("%s: %w", rem.canonical(), err)
		}
	}
	return repo, repo.commit, nil
}

// within returns a branch or tag whose history has the commit, and fails if there is none.
func (f *fetcher) within(ctx context.Context, rem remote, commit string) (string, error) {
	g, err := newGit("")
	if err != nil {
		return "", err
	}
	defer g.Close()
	g.uploadPack, g.credential = f.uploadPack, f.credential
	ref, err := g.within(ctx, rem, commit, f.root)
	if err == nil && ref == "" {
		err = fmt.Errorf("commit %s: %w: %w", commit, errNowhere, ErrUnknownRef)
	}
	return ref, err
}

// fetcher is the state of one Fetch.
type fetcher struct {
	keys keys
	root string // directory of the outermost repository
	subs int    // submodules fetched so far

	alone bool // see Request

	uploadPack string      // see Request
	credential *Credential // see Request
}

// fetch fetches one repository and its submodules. depth is 0 for the outermost.
func (f *fetcher) fetch(ctx context.Context, dir string, rem remote, ref, commit string, depth int) (*Repo, error) {
	if commit != "" && !isID(commit) {
		return nil, fmt.Errorf("commit: got %q, want a full id in lower case", commit)
	}
	if entries, err := os.ReadDir(dir); err != nil {
		return nil, err
	} else if len(entries) > 0 {
		return nil, fmt.Errorf("%s is not empty", dir)
	}
	asker, err := newGit("")
	if err != nil {
		return nil, err
	}
	defer asker.Close()
	asker.uploadPack, asker.credential = f.uploadPack, f.credential
	if rem.scheme == "file" && f.uploadPack == "" {
		if err := asker.refuseAlternates(ctx, rem.localPath()); err != nil {
			return nil, err
		}
	}
	t, err := asker.resolve(ctx, rem, ref)
	if err != nil {
		return nil, err
	}
	if t.ref != "" && !isBranchOrTag(t.ref) {
		return nil, fmt.Errorf("%q is neither a branch nor a tag: on many hosts, strangers can write such refs: %w", t.ref, ErrUnknownRef)
	}
	if commit != "" && t.commit != commit {
		return nil, fmt.Errorf("%q points to %s, want %s: %w", ref, t.commit, commit, errMoved)
	}
	g := &git{path: asker.path, home: asker.home, dir: dir, root: f.root, uploadPack: f.uploadPack, credential: f.credential}
	if err := g.fetch(ctx, rem, t); err != nil {
		return nil, err
	}
	repo := &Repo{dir: dir, remote: rem, subs: map[string]*Repo{}, missing: map[string]string{}}
	if err := f.describe(ctx, g, repo, t); err != nil {
		return nil, err
	}
	if f.alone {
		return repo, nil
	}
	return repo, f.submodules(ctx, g, repo, depth)
}

// refuseAlternates fails if a local repository borrows objects of another one. Its owner
// could otherwise make this process read a repository that only this process may read.
func (g *git) refuseAlternates(ctx context.Context, dir string) error {
	cmd := g.command(ctx, "", "rev-parse", "--path-format=absolute", "--git-path", "objects/info/alternates")
	cmd.Dir = dir
	if _, err := os.Stat(cmd.Dir); errors.Is(err, os.ErrNotExist) {
		cmd.Dir += ".git" // like git
	}
	out, err := run(ctx, cmd)
	if err != nil {
		return err
	}
	if file := strings.TrimSuffix(string(out), "\n"); exists(file) {
		return fmt.Errorf("the repository borrows objects of another one through %s; copy them with: git repack -a -d && rm %s", file, file)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, os.ErrNotExist)
}

// fetch fetches the objects of t into the empty directory g.dir, without history if the
// server allows it.
func (g *git) fetch(ctx context.Context, rem remote, t target) error {
	if err := g.init(ctx, t.commit); err != nil {
		return err
	}
	want := t.commit
	if t.tag != "" {
		want = t.tag
	}
	base := []string{"fetch", "-q", "--no-tags", "--no-recurse-submodules", "--no-auto-maintenance", "--no-write-fetch-head"}
	_, err := g.remote(ctx, rem, append(base, "--depth=1", "--", rem.address(), want)...)
	if err == nil || ctx.Err() != nil || !refusesIDs(err) {
		return err
	}
	// The server serves only refs. Fetch the ref; describe then fails if the ref has
	// moved in the meantime.
	if t.ref != "" {
		_, err = g.remote(ctx, rem, append(base, "--depth=1", "--", rem.address(), "+"+t.ref+":refs/colophon/fetched")...)
	} else {
		_, err = g.remote(ctx, rem, append(base, "--", rem.address(), "+refs/heads/*:refs/colophon/heads/*", "+refs/tags/*:refs/colophon/tags/*")...)
	}
	return err
}

// init makes g.dir a bare repository with the object format that commit has.
func (g *git) init(ctx context.Context, commit string) error {
	format := "sha1"
	if len(commit) == 64 {
		format = "sha256"
	}
	_, err := (&git{path: g.path, home: g.home}).local(ctx, "init", "-q", "--bare", "--template=", "--object-format="+format, "--", g.dir)
	return err
}

// refusesIDs reports whether the server answered that it does not serve objects by id,
// or does not have this one. Git reports that only as text (LC_ALL is C).
func refusesIDs(err error) bool {
	return gitSays(err, "not our ref") || gitSays(err, "unadvertised object") || gitSays(err, "dumb http transport does not support shallow")
}

// describe reads the commit of t, and its tag if there is one, into repo.commit, and
// checks the signature.
func (f *fetcher) describe(ctx context.Context, g *git, repo *Repo, t target) error {
	o, err := g.objects(ctx)
	if err != nil {
		return err
	}
	defer o.Close()
	commit, err := o.object(t.commit, "commit")
	if err != nil {
		if errors.Is(err, errMissing) {
			return fmt.Errorf("the repository does not serve commit %s: %w", t.commit, ErrUnknownRef)
		}
		return err
	}
	repo.commit = Commit{
		URI: repo.remote.canonical(), Ref: t.ref, ID: t.commit, Tag: t.tag,
		Tree: commit.headers["tree"], Time: commit.time, Signature: f.keys.check(commit),
	}
	if t.tag == "" {
		return nil
	}
	tag, err := o.object(t.tag, "tag")
	if err != nil {
		return err
	}
	for at, i := tag, 0; at.headers["type"] != "commit" || at.headers["object"] != t.commit; i++ {
		if at.headers["type"] != "tag" || i == 8 {
			return fmt.Errorf("tag %s points to %s %s, want commit %s: %w", t.tag, at.headers["type"], at.headers["object"], t.commit, errMoved)
		}
		if at, err = o.object(at.headers["object"], "tag"); err != nil {
			return err
		}
	}
	if s := f.keys.check(tag); s.Status != Unsigned {
		// The signature also covers the tag's name. It does not hold for another name,
		// such as that of a newer version.
		if tagPrefix+tag.headers["tag"] != t.ref {
			s.Status, s.Signer = Bad, ""
		}
		repo.commit.Signature = s
	}
	return nil
}

// submodules fetches the submodules of repo, each into its own repository.
func (f *fetcher) submodules(ctx context.Context, g *git, repo *Repo, depth int) error {
	o, err := g.objects(ctx)
	if err != nil {
		return err
	}
	defer o.Close()
	var links []file
	modules := ""
	err = walk(ctx, o, repo.commit.Tree, func(e file) error {
		switch {
		case e.mode == "160000":
			links = append(links, e)
		case e.path == ".gitmodules" && strings.HasPrefix(e.mode, "100"):
			modules = e.id
		}
		return nil
	})
	if err != nil || len(links) == 0 {
		return err
	}
	if depth == limits.ModuleDepth {
		return fmt.Errorf("submodules are nested deeper than %d: %w", limits.ModuleDepth, errLimit)
	}
	urls, err := g.moduleURLs(ctx, o, modules)
	if err != nil {
		return err
	}
	if f.subs += len(links); f.subs > limits.Submodules {
		return fmt.Errorf("got more than %d submodules: %w", limits.Submodules, errLimit)
	}
	for i, link := range links {
		dir := filepath.Join(repo.dir, "modules", strconv.Itoa(i))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		sub, err := f.submodule(ctx, repo, dir, urls, link, depth)
		if ctx.Err() != nil || errors.Is(err, errLimit) {
			return fmt.Errorf("submodule %q: %w", link.path, cmp.Or(context.Cause(ctx), err))
		}
		if err != nil {
			repo.missing[link.path] = "a submodule that cannot be fetched: " + err.Error()
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
			continue
		}
		repo.subs[link.path] = sub
		repo.commit.Submodules = append(repo.commit.Submodules, Submodule{Path: link.path, URI: sub.commit.URI, Commit: link.id})
		for _, s := range sub.commit.Submodules {
			s.Path = link.path + "/" + s.Path
			repo.commit.Submodules = append(repo.commit.Submodules, s)
		}
	}
	return nil
}

// submodule fetches one submodule into dir. urls has the addresses in .gitmodules.
func (f *fetcher) submodule(ctx context.Context, repo *Repo, dir string, urls map[string]string, link file, depth int) (*Repo, error) {
	url, ok := urls[link.path]
	if !ok {
		return nil, errors.New("it is not in .gitmodules")
	}
	rem, err := repo.remote.join(url)
	if err != nil {
		return nil, err
	}
	sub, err := f.fetch(ctx, dir, rem, link.id, link.id, depth+1)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", rem.canonical(), err)
	}
	return sub, nil
}

// moduleURLs reads the file .gitmodules, whose id is blob, and returns the address of
// each submodule by its path. Git ignores includes in it.
func (g *git) moduleURLs(ctx context.Context, o *objects, blob string) (map[string]string, error) {
	urls := map[string]string{}
	if blob == "" {
		return urls, nil
	}
	if _, err := o.read(blob, "blob", limits.Gitmodules); err != nil {
		return nil, fmt.Errorf(".gitmodules: %w", err)
	}
	out, err := g.local(ctx, "config", "--blob="+blob, "--no-includes", "-z", "--list")
	if err != nil {
		return nil, fmt.Errorf(".gitmodules: %w", err)
	}
	type module struct{ path, url string }
	modules := map[string]*module{}
	for kv := range strings.SplitSeq(string(out), "\x00") {
		key, value, _ := strings.Cut(kv, "\n")
		rest, ok := strings.CutPrefix(key, "submodule.")
		dot := strings.LastIndexByte(rest, '.')
		if !ok || dot < 0 {
			continue
		}
		m := modules[rest[:dot]]
		if m == nil {
			m = &module{}
			modules[rest[:dot]] = m
		}
		switch rest[dot+1:] {
		case "path":
			m.path = value
		case "url":
			m.url = value
		}
	}
	for _, m := range modules {
		if have, twice := urls[m.path]; twice && have != m.url {
			return nil, fmt.Errorf(".gitmodules: %q has two addresses", m.path)
		}
		urls[m.path] = m.url
	}
	return urls, nil
}
