package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/gittest"
)

// A repository's configuration, hooks and attributes can name programs. None of them
// runs when the repository is fetched, looked up, or checked as a working directory.
func TestNothingOfTheRepositoryRuns(t *testing.T) {
	r := newRepo(t)
	r.write(".gitattributes", "*.txt filter=evil export-subst export-ignore diff=evil merge=evil\n")
	id := r.commit("a.txt", "$Format:%H$\n")
	r.write("sub/x", "x")
	program, ran := canary(t)
	hooks, err := os.ReadDir(filepath.Join(r.dir, ".git/hooks"))
	if err != nil || len(hooks) == 0 {
		t.Fatalf("no sample hooks: %v", err)
	}
	for _, h := range append(hooks, nil) {
		name := "post-index-change"
		if h != nil {
			name = strings.TrimSuffix(h.Name(), ".sample")
		}
		if err := os.Symlink(program, filepath.Join(r.dir, ".git/hooks", name)); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
	}
	for _, key := range []string{
		"core.fsmonitor", "core.sshCommand", "core.askPass", "core.gitProxy", "core.pager", "core.editor", "core.alternateRefsCommand",
		"filter.evil.clean", "filter.evil.smudge", "filter.evil.process", "filter.e=v=l.clean", "diff.external", "diff.evil.textconv", "diff.evil.command", "merge.evil.driver",
		"gpg.program", "gpg.ssh.program", "credential.helper", "uploadpack.packObjectsHook", "remote.origin.uploadpack", "alias.status", "alias.ls-remote",
		"pager.status", "sequence.editor", "man.evil.cmd",
	} {
		r.git("config", key, program)
	}
	r.git("config", "filter.evil.required", "true")
	r.git("config", "core.hooksPath", filepath.Join(r.dir, ".git/hooks"))
	// Change the file's time, so that status must read the file.
	later := time.Now().Add(time.Hour)
	os.Chtimes(filepath.Join(r.dir, "a.txt"), later, later)

	// The attack works: git without our settings runs the program.
	gittest.Command(r.dir, "status").Run()
	if !ran() {
		t.Fatal("the attack does not work on stock git either")
	}
	os.Remove(filepath.Join(filepath.Dir(program), "ran"))

	err = CheckClean(t.Context(), r.dir)
	if dirty, ok := errors.AsType[*DirtyError](err); !ok || strings.Join(dirty.Paths, ",") != "?? sub/x" {
		t.Errorf("CheckClean: got %v, want only sub/x", err)
	}
	if ran() {
		t.Fatal("CheckClean ran the repository's program")
	}
	repo, _ := mustFetch(t, Request{URI: r.uri(), Ref: "main"})
	dst := t.TempDir()
	if _, err := repo.Export(t.Context(), dst); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dst, "a.txt")); err != nil || string(got) != "$Format:%H$\n" {
		t.Errorf("got %q, %v, want the content as committed", got, err)
	}
	if _, err := Lookup(t.Context(), Question{URI: r.uri(), Ref: "refs/heads/main", Commit: id, Tree: id, Signers: &Signers{}}); err != nil {
		t.Error(err)
	}
	if ran() {
		t.Error("a program of the repository ran")
	}
}

// The caller's environment does not make git use another repository.
func TestEnvironmentIsNotInherited(t *testing.T) {
	r := newRepo(t)
	id := r.commit("a", "1")
	program, ran := canary(t)
	for k, v := range map[string]string{
		"GIT_DIR": "/nowhere", "GIT_WORK_TREE": "/nowhere", "GIT_OBJECT_DIRECTORY": "/nowhere", "GIT_INDEX_FILE": "/nowhere",
		"GIT_EXEC_PATH": filepath.Dir(program), "GIT_SSH_COMMAND": program, "GIT_EXTERNAL_DIFF": program, "GIT_PROXY_COMMAND": program,
		"GIT_TRACE": filepath.Join(filepath.Dir(program), "ran"), "GIT_CONFIG_PARAMETERS": "'core.fsmonitor'='" + program + "'", "HOME": filepath.Dir(program),
	} {
		t.Setenv(k, v)
	}
	os.WriteFile(filepath.Join(filepath.Dir(program), ".gitconfig"), []byte("[url \"ext::"+program+" \"]\n\tinsteadOf = file://\n"), 0o644)
	if _, c := mustFetch(t, Request{URI: r.uri(), Ref: "main"}); c.ID != id {
		t.Errorf("got %s, want %s", c.ID, id)
	}
	if err := CheckClean(t.Context(), r.dir); err != nil {
		t.Error(err)
	}
	if ran() {
		t.Error("the environment reached git")
	}
}

// A partial clone would fetch missing objects with a command from its configuration.
func TestNoLazyFetch(t *testing.T) {
	r := newRepo(t)
	r.commit("a", "content that will be missing")
	program, ran := canary(t)
	blob := r.git("rev-parse", "HEAD:a")
	if err := os.Remove(filepath.Join(r.dir, ".git/objects", blob[:2], blob[2:])); err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{
		"core.repositoryFormatVersion": "1", "extensions.partialClone": "origin", "remote.origin.promisor": "true",
		"remote.origin.url": r.dir, "remote.origin.uploadpack": program, "remote.origin.partialCloneFilter": "blob:none",
	} {
		r.git("config", k, v)
	}
	if _, _, err := fetch(t, Request{URI: r.uri(), Ref: "main"}); err == nil {
		t.Error("a repository that lacks objects was fetched")
	}
	CheckClean(t.Context(), r.dir)
	if ran() {
		t.Error("the promisor's command ran")
	}
}

func TestReplaceRefsAndGraftsAreIgnored(t *testing.T) {
	r := newRepo(t)
	honest := r.commit("a", "honest")
	r.git("checkout", "-q", "-b", "evil")
	evil := r.commit("a", "evil")
	r.git("replace", honest, evil)
	r.git("replace", r.git("--no-replace-objects", "rev-parse", honest+":a"), r.git("rev-parse", evil+":a"))
	if got := r.git("show", "main:a"); got != "evil" {
		t.Fatalf("the attack does not work on stock git either: got %q", got)
	}
	repo, c := mustFetch(t, Request{URI: r.uri(), Ref: "main"})
	dst := t.TempDir()
	if _, err := repo.Export(t.Context(), dst); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(filepath.Join(dst, "a")); string(got) != "honest" || c.ID != honest {
		t.Errorf("got %q of %s, want honest of %s", got, c.ID, honest)
	}
	// Also if the objects are in the repository that we read from.
	r2 := newRepo(t)
	r2.git("fetch", "-q", "--update-head-ok", r.dir, "+refs/*:refs/*")
	mine := &Repo{dir: filepath.Join(r2.dir, ".git"), commit: c, subs: map[string]*Repo{}}
	dst = t.TempDir()
	if _, err := mine.Export(t.Context(), dst); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(filepath.Join(dst, "a")); string(got) != "honest" {
		t.Errorf("got %q, want honest", got)
	}
}

func TestAlternatesAreRefused(t *testing.T) {
	private, lender := newRepo(t), newRepo(t)
	secret := private.commit("secret", "of somebody else")
	lender.commit("a", "1")
	if err := os.WriteFile(filepath.Join(lender.dir, ".git/objects/info/alternates"), []byte(filepath.Join(private.dir, ".git/objects")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	lender.git("update-ref", "refs/heads/leak", secret)
	for _, uri := range []string{lender.uri(), lender.uri() + "/.git"} {
		if _, _, err := fetch(t, Request{URI: uri, Ref: "leak"}); err == nil || !strings.Contains(err.Error(), "borrows objects") {
			t.Errorf("got %v, want a refusal", err)
		}
	}
}

func TestHostileTrees(t *testing.T) {
	r := newRepo(t)
	r.commit("a", "1")
	blob := r.blob("payload")
	link := r.blob("/tmp")
	inner := r.in("100644 blob "+blob+"\tx\n", "mktree")
	for name, entries := range map[string][][3]string{
		"dotdot":        {{"40000", "..", inner}},
		"dotgit":        {{"40000", ".git", inner}},
		"dotGIT":        {{"40000", ".GIT", inner}},
		"dotGitFile":    {{"100644", ".giT", blob}},
		"ntfs":          {{"40000", "git~1", inner}},
		"hfs":           {{"40000", ".g\u200cit", inner}},
		"ntfs-trailing": {{"40000", ".git. ", inner}},
		"slash":         {{"100644", "../x", blob}},
		"absolute":      {{"100644", "/tmp/x", blob}},
		"empty":         {{"100644", "", blob}},
		"link-then-dir": {{"120000", "a", link}, {"40000", "a", inner}},
		"same-twice":    {{"100644", "a", blob}, {"100644", "a", blob}},
		"link-modules":  {{"120000", ".gitmodules", link}},
		"device":        {{"20644", "dev", blob}},
		"not-utf8-dir":  {{"40000", "caf\xe9", inner}},
	} {
		r.commitTree(name, entries...)
		repo, _, err := fetch(t, Request{URI: r.uri(), Ref: name})
		if err == nil {
			dst := t.TempDir()
			_, err = repo.Export(t.Context(), dst)
			if left, _ := os.ReadDir(dst); len(left) > 0 {
				t.Errorf("%s: left %v behind", name, left)
			}
		}
		if err == nil {
			t.Errorf("%s: was exported", name)
		}
	}
}

// Our own checks refuse the same trees, in case git ever accepts them.
func TestHostileTreesWithoutFsck(t *testing.T) {
	r := newRepo(t)
	r.commit("a", "1")
	blob := r.blob("payload")
	inner := r.in("100644 blob "+blob+"\tx\n", "mktree")
	for name, entries := range map[string][][3]string{
		"dotdot": {{"40000", "..", inner}}, "dotGIT": {{"40000", ".GIT", inner}}, "slash": {{"100644", "../x", blob}}, "empty": {{"100644", "", blob}},
		"twice": {{"120000", "a", r.blob("/tmp")}, {"40000", "a", inner}}, "mode": {{"20644", "dev", blob}},
	} {
		id := r.commitTree(name, entries...)
		repo := &Repo{dir: filepath.Join(r.dir, ".git"), commit: Commit{ID: id, Tree: r.git("rev-parse", id+"^{tree}")}}
		if _, err := repo.Export(t.Context(), t.TempDir()); !errors.Is(err, errUnsafe) {
			t.Errorf("%s: got %v, want errUnsafe", name, err)
		}
	}
}

func TestTreeBomb(t *testing.T) {
	r := newRepo(t)
	r.commit("a", "1")
	id := r.blob("x")
	kind := "100644 blob"
	for range 8 { // 10^8 files in nine objects
		var list strings.Builder
		for i := range 10 {
			list.WriteString(kind + " " + id + "\t" + string(rune('a'+i)) + "\n")
		}
		id, kind = r.in(list.String(), "mktree"), "040000 tree"
	}
	r.git("update-ref", "refs/heads/bomb", r.git("commit-tree", "-m", "bomb", id))
	if _, _, err := fetch(t, Request{URI: r.uri(), Ref: "bomb"}); !errors.Is(err, errUnsafe) {
		t.Errorf("got %v, want errUnsafe", err)
	}
}

// A link is exported as the link that it is, wherever it leads, and nothing is written or
// read through it.
func TestLinksStay(t *testing.T) {
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("s3cr3t"), 0o644); err != nil {
		t.Fatal(err)
	}
	links := map[string]string{
		"d/up": "../a", "dangling": "nowhere/at/all", "loop": "loop", "self": ".", "through": "a/x",
		"absolute": outside, "file": secret, "above": "../../../../../../../../../.." + secret, "d/through": "../d/up/../../../..", ".dockerignore": secret, "etc": "/etc",
	}
	r := newRepo(t)
	for name, to := range links {
		os.MkdirAll(filepath.Join(r.dir, "d"), 0o755)
		if err := os.Symlink(to, filepath.Join(r.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	r.commit("a", "1")
	repo, commit := mustFetch(t, Request{URI: r.uri(), Ref: "main"})
	dst := t.TempDir()
	if _, err := repo.Export(t.Context(), dst); err != nil {
		t.Fatal(err)
	}
	for name, to := range links {
		if got, err := os.Readlink(filepath.Join(dst, name)); err != nil || got != to {
			t.Errorf("%s: got a link to %q, %v, want %q", name, got, err, to)
		}
	}
	info, err := os.Stat(secret)
	if left, _ := os.ReadDir(outside); err != nil || len(left) != 1 || info.ModTime().Equal(commit.Time) {
		t.Errorf("the export followed a link: %v, %v, %v", left, info.ModTime(), err)
	}
}

func TestHostileSubmodules(t *testing.T) {
	program, ran := canary(t)
	for name, url := range map[string]string{
		"ext": "ext::" + program, "option": "--upload-pack=" + program, "short": "-u" + program, "newline": "\"https://h.example/a\\nb\"",
		"path": "/etc", "credentials": "https://u:hunter2@h.example/r", "fd": "fd::3", "ssh-option": "ssh://-oProxyCommand=" + program + "/x",
	} {
		for _, update := range []string{"", "\tupdate = !" + program + "\n"} {
			r := newRepo(t)
			r.commit("a", "1")
			r.write(".gitmodules", "[submodule \"s\"]\n\tpath = s\n\turl = "+url+"\n"+update)
			r.git("add", ".gitmodules")
			r.git("update-index", "--add", "--cacheinfo", "160000,"+strings.Repeat("12", 20)+",s")
			r.git("commit", "-q", "-m", "m")
			repo, commit, err := fetch(t, Request{URI: r.uri(), Ref: "main"})
			if err != nil { // git refuses it
				if strings.Contains(err.Error(), "hunter2") {
					t.Errorf("%s: got %v", name, err)
				}
				continue
			}
			tree, err := repo.Export(t.Context(), t.TempDir())
			if err != nil || len(tree.Unresolved) != 1 || len(commit.Submodules) > 0 || update != "" {
				t.Fatalf("%s: got %+v with %v, %v, want it unresolved", name, tree, commit.Submodules, err)
			}
			if u := tree.Unresolved[0]; u.Path != "s" || !strings.Contains(u.Reason, "cannot be fetched: ") || strings.Contains(u.Reason, "hunter2") {
				t.Errorf("%s: got %+v", name, u)
			}
		}
	}
	if ran() {
		t.Error("a submodule's address ran a program")
	}
}

// A repository that another one names is not on this machine, unless that one is.
func TestNamedByARepository(t *testing.T) {
	r := newRepo(t)
	id := r.commit("a", "1")
	http := r.serve()
	for _, c := range []struct {
		from, uri string
		ok        bool
	}{
		{"", r.uri(), true}, {r.uri(), r.uri(), true}, {r.uri(), http, true}, {http, http, true},
		{"https://h.example/r", r.uri(), false}, {"https://h.example/r", http, false}, {http, r.uri(), false}, {"ssh://h.example/r", http, false},
		{"nonsense", http, false}, {r.uri(), "https://u:hunter2@h.example/r", false},
	} {
		_, commit, err := fetch(t, Request{URI: c.uri, From: c.from, Ref: "main"})
		if (err == nil) != c.ok || c.ok && commit.ID != id {
			t.Errorf("%s from %s: got %s, %v", c.uri, c.from, commit.ID, err)
		}
	}
}

// Two repositories can be submodules of each other only with a commit that does not
// exist. That is an error, so that nesting ends.
func TestSubmoduleCommitMissing(t *testing.T) {
	sub, r := newRepo(t), newRepo(t)
	sub.commit("s", "1")
	r.commit("a", "1")
	r.write(".gitmodules", "[submodule \"s\"]\n\tpath = s\n\turl = "+sub.uri()+"\n")
	r.git("add", ".gitmodules")
	r.git("update-index", "--add", "--cacheinfo", "160000,"+strings.Repeat("12", 20)+",s")
	r.git("commit", "-q", "-m", "m")
	wantUnresolved(t, r, "s", strings.Repeat("12", 20))
}

// A submodule that is not in .gitmodules, and one in an excluded directory of a submodule.
func TestSubmoduleUnknown(t *testing.T) {
	r := newRepo(t)
	r.commit("a/b", "1")
	r.git("update-index", "--add", "--cacheinfo", "160000,"+strings.Repeat("12", 20)+",a/s")
	r.git("commit", "-q", "-m", "m")
	wantUnresolved(t, r, "a/s", "not in .gitmodules")

	outer := newRepo(t)
	outer.commit("a", "1")
	outer.write(".gitmodules", "[submodule \"x\"]\n\tpath = x\n\turl = "+r.uri()+"\n")
	outer.git("add", ".gitmodules")
	outer.git("update-index", "--add", "--cacheinfo", "160000,"+r.git("rev-parse", "HEAD")+",x")
	outer.git("commit", "-q", "-m", "m")
	wantUnresolved(t, outer, "x/a/s", "not in .gitmodules")
}

func TestLFSPointer(t *testing.T) {
	r := newRepo(t)
	pointer := "version https://git-lfs.github.com/spec/v1\noid sha256:" + strings.Repeat("ab", 32) + "\nsize 12345\n"
	r.commit("data/model.bin", pointer)
	dst := wantUnresolved(t, r, "data/model.bin", "a Git LFS pointer")
	if got, err := os.ReadFile(filepath.Join(dst, "data/model.bin")); err != nil || string(got) != pointer {
		t.Errorf("got %q, %v", got, err)
	}
}

// wantUnresolved exports a repository with one unresolved path, and checks that the files
// hash to the tree of the commit nevertheless, in another process too.
func wantUnresolved(t *testing.T, r *repo, path, reason string) (dst string) {
	t.Helper()
	dst = t.TempDir()
	repo, _ := mustFetch(t, Request{URI: r.uri(), Ref: "main"})
	tree, err := repo.Export(t.Context(), dst)
	if err != nil || len(tree.Unresolved) != 1 || tree.Unresolved[0].Path != path || !strings.Contains(tree.Unresolved[0].Reason, reason) {
		t.Fatalf("got %+v, %v, want %s unresolved: %s", tree.Unresolved, err, path, reason)
	}
	var sent Tree
	if raw, err := json.Marshal(tree); err != nil || json.Unmarshal(raw, &sent) != nil || !reflect.DeepEqual(sent, tree) {
		t.Errorf("as JSON: got %+v, %v, want %+v", sent, err, tree)
	}
	h := sent.Hash()
	if err := errors.Join(hashDir(h, dst), h.Check()); err != nil {
		t.Error(err)
	}
	return dst
}

func TestTooLarge(t *testing.T) {
	r := newRepo(t)
	random := make([]byte, 24<<20)
	for i, x := 0, uint64(88172645463325252); i < len(random); i++ {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		random[i] = byte(x)
	}
	r.commit("big", string(random))
	defer func(old int64) { packedCap = old }(packedCap)
	packedCap = 1 << 20
	_, _, err := fetch(t, Request{URI: r.uri(), Ref: "main"})
	if err == nil || !strings.Contains(err.Error(), "takes more than 1048576 bytes") {
		t.Errorf("got %v", err)
	}
}

// When the context ends, git and its child processes end, also with a server that never
// answers.
func TestCancel(t *testing.T) {
	r := newRepo(t)
	r.commit("a", "1")
	uri := hang(t)
	var ctx context.Context
	await.Quick(t, "Fetch of 300 ms", 3*time.Second, func() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
		t.Cleanup(cancel)
		if _, _, err := Fetch(ctx, t.TempDir(), Request{URI: uri, Ref: "main"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
	if _, err := Lookup(ctx, Question{URI: uri, Ref: "main", Commit: strings.Repeat("12", 20)}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Lookup: got %v", err)
	}
}

// An object that was changed on disk is detected.
func TestTamperedObject(t *testing.T) {
	r := newRepo(t)
	id := r.commit("a", "honest")
	blob, evil := r.git("rev-parse", "HEAD:a"), r.blob("forged")
	objects := filepath.Join(r.dir, ".git/objects")
	data, err := os.ReadFile(filepath.Join(objects, evil[:2], evil[2:]))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(objects, blob[:2], blob[2:])
	os.Chmod(path, 0o644)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := r.git("show", "HEAD:a"); got != "forged" {
		t.Fatalf("stock git notices: got %q", got)
	}
	repo := &Repo{dir: filepath.Join(r.dir, ".git"), commit: Commit{ID: id, Tree: r.git("rev-parse", "HEAD^{tree}")}}
	if _, err := repo.Export(t.Context(), t.TempDir()); err == nil {
		t.Error("a forged blob was exported")
	}
	if _, _, err := fetch(t, Request{URI: r.uri(), Ref: "main"}); err == nil {
		t.Error("a forged blob was fetched")
	}
}

// More submodules, or more deeply nested ones, than a commit may have.
func TestTooManySubmodules(t *testing.T) {
	sub := newRepo(t)
	sub.commit("s", "1")
	// with returns a repository with n submodules, of which the first is first and the others are sub.
	with := func(n int, first *repo) *repo {
		r := newRepo(t)
		var modules strings.Builder
		links := []string{"update-index", "--add"}
		for i := range n {
			of := sub
			if i == 0 {
				of = first
			}
			fmt.Fprintf(&modules, "[submodule \"s%d\"]\n\tpath = s%d\n\turl = %s\n", i, i, of.uri())
			links = append(links, "--cacheinfo", fmt.Sprintf("160000,%s,s%d", of.git("rev-parse", "HEAD"), i))
		}
		r.git(links...)
		r.write(".gitmodules", modules.String())
		r.git("add", ".gitmodules")
		r.git("commit", "-q", "-m", "m")
		return r
	}
	half := with(limits.Submodules/2+1, sub)
	for name, r := range map[string]*repo{"one commit": with(limits.Submodules+1, sub), "two commits": with(limits.Submodules/2, half)} {
		if _, _, err := fetch(t, Request{URI: r.uri(), Ref: "main"}); err == nil || !strings.Contains(err.Error(), "more than 128 submodules") {
			t.Errorf("of %s: got %v, want 129 submodules refused", name, err)
		}
	}
	deep := sub
	for depth := 1; depth <= limits.ModuleDepth+1; depth++ {
		above := newRepo(t)
		above.write(".gitmodules", "[submodule \"s\"]\n\tpath = s\n\turl = "+deep.uri()+"\n")
		above.git("add", ".gitmodules")
		above.git("update-index", "--add", "--cacheinfo", "160000,"+deep.git("rev-parse", "HEAD")+",s")
		above.git("commit", "-q", "-m", "m")
		deep = above
		_, _, err := fetch(t, Request{URI: deep.uri(), Ref: "main"})
		if tooDeep := depth > limits.ModuleDepth; (err != nil) != tooDeep || tooDeep && !strings.Contains(err.Error(), "nested deeper than 6") {
			t.Errorf("depth %d: got %v", depth, err)
		}
	}
}
