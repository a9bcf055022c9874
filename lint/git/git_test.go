package git_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/git"
	"github.com/colophon-build/colophon/test/gittest"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/linttest"
	"github.com/colophon-build/colophon/test/spent"
)

func TestRules(t *testing.T) { linttest.Rules(t, git.Checker()) }

func found(t *testing.T, dir string) string {
	t.Helper()
	r := linttest.Run(t, dir, git.Checker())
	var got []string
	for _, f := range r.Findings {
		got = append(got, fmt.Sprintf("%s %s %s:%d", f.Severity, strings.TrimPrefix(f.Rule, "git/"), f.File, f.Line))
	}
	for _, f := range r.Undecided {
		got = append(got, "undecided "+f.Message)
	}
	return strings.Join(got, ",")
}

// TestFound: files, with and without git around them.
func TestFound(t *testing.T) {
	const from = "FROM debian\n"
	for what, c := range map[string]struct {
		files map[string]string
		sh    string
		want  string
	}{
		"no git":                       {map[string]string{"a": "a"}, "", ""},
		"a new repository":             {map[string]string{"a": "a"}, "git init -q", ""},
		"no version":                   {map[string]string{"a": "a"}, "git init -q; git add .; git commit -q -m m; git tag nightly", ""},
		"annotated":                    {map[string]string{"a": "a"}, "git init -q; git add .; git commit -q -m m; git tag -a -m t 1.2.0", "note commit-unsigned .:0,note tag-unsigned .:0"},
		"a tag of a tag, a tree":       {map[string]string{"a": "a"}, "git init -q; git add .; git commit -q -m m; git tag -a -m t x; git tag -a -m t v1.0.0 x; git tag v2.0.0 HEAD^{tree}", "note commit-unsigned .:0,note tag-unsigned .:0"},
		"a signed one before":          {map[string]string{"a": "a"}, `ssh-keygen -q -t ed25519 -N "" -f "$HOME/key"; git init -q; git config gpg.format ssh; git config user.signingKey "$HOME/key"; git add .; git commit -q -S -m m; git tag -s -m t v1.9.0; git tag v1.10.0`, "warning tag-unsigned .:0"},
		"a submodule":                  {map[string]string{".gitmodules": "# x\n[submodule \"a\"]\npath = a\nurl = ../a\n; y\n[submodule \"b\"]\n\tBranch = .\n"}, "", "warning submodule-branch .gitmodules:7"},
		"a branch beside its section":  {map[string]string{".gitmodules": "[submodule \"a\"] branch = x #]\n"}, "", "warning submodule-branch .gitmodules:1"},
		"brackets in quotes":           {map[string]string{".gitmodules": "[submodule \"a]#\"] ; [\nbranch = x ; y\n[submodule \"b\\\"]\"] branch=\"z\"\n[submodule \"c\" #]\n"}, "", "warning submodule-branch .gitmodules:2,warning submodule-branch .gitmodules:3,error syntax .gitmodules:4"},
		"not the root's":               {map[string]string{"a/.gitmodules": "branch = x\n"}, "", ""},
		"LFS, twice":                   {map[string]string{".gitattributes": "*.a filter=lfs\n# *.b filter=lfs\n*.c filter=lfs lockable\n", "a/.gitattributes": "*.d text\n*.e filter=lfs\n"}, "", "note lfs-without-lock .gitattributes:1,note lfs-without-lock a/.gitattributes:2"},
		"a context with .git":          {map[string]string{"Dockerfile": from + "COPY --chown=1:1 . /a\n"}, "git init -q", "warning context-open Dockerfile:2"},
		"excluded":                     {map[string]string{"Dockerfile": from + "COPY . /a\n", ".dockerignore": "**/.git\n"}, "git init -q", ""},
		"excluded, and not":            {map[string]string{"Dockerfile": from + "COPY ./ /a\n", ".dockerignore": "*\n!.git\n"}, "git init -q", "warning context-open Dockerfile:2"},
		"excluded by COPY":             {map[string]string{"Dockerfile": "# syntax=docker/dockerfile:1-labs\n" + from + "COPY --exclude=.git . /a\n"}, "git init -q", ""},
		"of an earlier stage":          {map[string]string{"Dockerfile": from + "COPY . /a\nFROM scratch\nCOPY --from=0 /a/app /\n"}, "git init -q", ""},
		"of a stage below":             {map[string]string{"Dockerfile": from[:11] + " AS b\nCOPY . /a\nFROM b\n"}, "git init -q", "warning context-open Dockerfile:2"},
		"from a stage":                 {map[string]string{"Dockerfile": from + "COPY --from=x . /a\n"}, "git init -q", ""},
		"a part":                       {map[string]string{"Dockerfile": from + "COPY src /a\n"}, "git init -q", ""},
		"settings that git ignores":    {map[string]string{"Dockerfile": from + "ADD * /a\n", ".dockerignore": ".git\n", ".gitignore": "/.env\n"}, "git init -q", "warning context-open Dockerfile:2"},
		"a key":                        {map[string]string{"a/Dockerfile": from + "COPY . /a\n", "a/b/id_rsa": "x", "id_rsa": "x"}, "", "warning context-open a/Dockerfile:2"},
		"settings":                     {map[string]string{"Dockerfile": from + "COPY . /a\n", ".npmrc": "min-release-age=7\n"}, "", ""},
		"settings with a token":        {map[string]string{"Dockerfile": from + "COPY . /a\n", ".npmrc": "//npm.example.com/:_authToken=x\n"}, "", "warning context-open Dockerfile:2"},
		"a key of elsewhere":           {map[string]string{"a/Dockerfile": from + "COPY . /a\n", "id_rsa": "x"}, "", ""},
		"the ignore file of the root":  {map[string]string{"a/Dockerfile": from + "COPY . /a\n", "a/id_rsa": "x", ".dockerignore": "id_rsa"}, "", "warning context-open a/Dockerfile:2"},
		"a context that may be above":  {map[string]string{"a/Dockerfile": from + "COPY . /a\n", "id_rsa": "x", "a/id_rsa": "x", ".dockerignore": "a/id_*"}, "", ""},
		"its own ignore file":          {map[string]string{"a/Dockerfile": from + "COPY . /a\n", "a/id_rsa": "x", "a/Dockerfile.dockerignore": "id_*"}, "", ""},
		"an ignore file that is wrong": {map[string]string{"Dockerfile": from + "COPY . /a\n", ".dockerignore": "[\n", "id_rsa": "x"}, "", "error syntax .dockerignore:0"},
		"too many patterns":            {map[string]string{"Dockerfile": from + "COPY . /a\n", ".dockerignore": strings.Repeat("a\n", 1001), "id_rsa": "x"}, "", "error syntax .dockerignore:0"},
		"tags of tags without end":     {map[string]string{"a": "a"}, "git init -q; git add .; git commit -q -m m; git tag -a -m t t0; for i in 1 2 3 4 5 6 7 8 9 10; do git tag -a -m t t$i t$((i-1)); done; git tag -a -m t v1.0.0 t10", ""},
		"a Dockerfile that is wrong":   {map[string]string{"Dockerfile": "COPY . /\nFROM\nCOPY\n"}, "git init -q", ""},
	} {
		if got := found(t, linttest.Write(t, c.files, c.sh)); got != c.want {
			t.Errorf("%s: got %s, want %s", what, got, c.want)
		}
	}
}

// TestHostileRepository: what a repository configures to run does not run, and what is broken in it is
// undecided.
func TestHostileRepository(t *testing.T) {
	dir := t.TempDir()
	mark := filepath.Join(t.TempDir(), "ran")
	evil := filepath.Join(dir, "evil.sh")
	if err := os.WriteFile(evil, []byte("#!/bin/sh\ntouch "+mark+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	harness.Write(t, dir, map[string]string{"a.bin": "x", ".gitattributes": "*.bin filter=evil diff=evil\n"})
	harness.Commit(t, dir, "v1.0.0")
	for name, value := range map[string]string{
		"core.fsmonitor": evil, "core.pager": evil, "core.editor": evil, "core.sshCommand": evil, "core.askPass": evil, "core.alternateRefsCommand": evil, "gpg.program": evil, "gpg.ssh.program": evil,
		"diff.external": evil, "diff.evil.textconv": evil, "filter.evil.clean": evil, "filter.evil.smudge": evil, "filter.evil.process": evil, "alias.ls-files": "!" + evil, "alias.for-each-ref": "!" + evil,
		"credential.helper": evil, "core.hooksPath": dir, "log.showSignature": "true", "tag.forceSignAnnotated": "true", "extensions.partialClone": "origin", "remote.origin.url": "ext::" + evil, "remote.origin.promisor": "true", "protocol.ext.allow": "always",
		"remote.origin.uploadpack": evil, "remote.origin.vcs": "evil",
	} {
		gittest.Git(t, dir, "config", name, value)
	}
	for _, hook := range []string{"post-index-change", "reference-transaction", "post-checkout", "fsmonitor-watchman", "pre-commit"} {
		if err := os.Symlink(evil, filepath.Join(dir, hook)); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := found(t, dir), "note commit-unsigned .:0,note tag-unsigned .:0"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	// A missing object would be asked for from the promisor.
	id := gittest.Git(t, dir, "rev-parse", "v1.0.0")
	object := filepath.Join(dir, ".git/objects", id[:2], id[2:])
	if err := os.Remove(object); err != nil {
		t.Fatal(err)
	}
	if got := found(t, dir); !strings.HasPrefix(got, "undecided ") {
		t.Errorf("a missing object: got %s, want undecided", got)
	}
	// Another object under its name is no answer either.
	if err := os.WriteFile(object, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := found(t, dir); !strings.HasPrefix(got, "undecided ") {
		t.Errorf("a broken object: got %s, want undecided", got)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("a program of the repository ran")
	}
}

func FuzzSettings(f *testing.F) {
	f.Add("[submodule \"a\"]\nbranch = x\n", "*.a filter=lfs\n")
	f.Fuzz(func(t *testing.T, modules, attributes string) {
		check := git.Checker().Check
		check(t.Context(), nil, finding.NewFile(".gitmodules", []byte(modules)))
		check(t.Context(), nil, finding.NewFile(".gitattributes", []byte(attributes)))
		check(t.Context(), nil, finding.NewFile("Dockerfile", []byte(modules)))
	})
}

// TestManySecrets: a tree in which everything looks secret costs a bounded time for each Dockerfile.
func TestManySecrets(t *testing.T) {
	files := map[string]string{".dockerignore": strings.Repeat("**/*x*/**/y*\n", 1000)}
	for i := range 2000 {
		files[fmt.Sprintf("a/%d.key", i)] = ""
	}
	for i := range 5 {
		files[fmt.Sprintf("a/%d.Dockerfile", i)] = "FROM debian\n" + strings.Repeat("COPY . /\n", 1000)
	}
	start := spent.Now()
	got := found(t, linttest.Write(t, files, ""))
	if took := spent.Now() - start; strings.Count(got, ",") != 9 || strings.Count(got, "undecided more than 1000 files") != 5 || took > 30*time.Second {
		t.Errorf("got %s in %s, want for each Dockerfile one finding, and that more files look secret than are looked for", got, took)
	}
	files = map[string]string{"Dockerfile": "FROM debian\nCOPY . /\n", ".dockerignore": "*.key\n.git\n"}
	for i := range 1000 {
		files[fmt.Sprintf("a/%d.key", i)] = ""
	}
	for name, want := range map[string]bool{"z/1.key": true, "z/1.txt": false} {
		files := maps.Clone(files)
		files[name] = ""
		if got := found(t, linttest.Write(t, files, "")); strings.Contains(got, "undecided") != want {
			t.Errorf("1000 files that look secret, and %s: got %s", name, got)
		}
	}
}
