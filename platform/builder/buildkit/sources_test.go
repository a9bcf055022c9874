package buildkit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/builder"
)

// closed is where no room can be opened.
type closed struct{ opened int }

var errClosed = errors.New("no room in this test")

func (c *closed) Open(context.Context, string, builder.Limits) (Room, error) {
	c.opened++
	return nil, errClosed
}

// before builds the Dockerfile's tree up to where a room would be opened, and returns the
// error that came before; nil if there was none.
func before(t *testing.T, dir string, recipe attest.Recipe) error {
	t.Helper()
	c := &closed{}
	_, err := New(Config{Rooms: c}).Build(t.Context(), builder.Request{Tree: dir, Recipe: recipe, Epoch: epoch, Layout: t.TempDir()})
	if errors.Is(err, errClosed) == (c.opened == 0) {
		t.Fatalf("got %v with %d rooms", err, c.opened)
	}
	if errors.Is(err, errClosed) {
		return nil
	}
	return err
}

// A git repository that the build would add, and that the attest zone did not fetch, is refused
// before a room is opened, by the address in the Dockerfile without its credentials. Nothing
// else is.
func TestUnknownGitCannotBeAdded(t *testing.T) {
	const sum = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	for what, c := range map[string]struct{ text, want string }{
		"a tag":               {"ADD https://github.com/a/b.git#v1 /x", "https://github.com/a/b.git"},
		"a directory":         {"ADD https://github.com/a/b.git#v1:dir /x", "https://github.com/a/b.git"},
		"no ref":              {"ADD https://github.com/a/b.git /x", "https://github.com/a/b.git"},
		"a commit":            {"ADD --checksum=0123456789012345678901234567890123456789 --keep-git-dir=true https://github.com/a/b.git#v1 /x", "https://github.com/a/b.git"},
		"a query":             {"ADD https://github.com/a/b.git?tag=v1 /x", "https://github.com/a/b.git"},
		"plain HTTP":          {"ADD http://github.com/a/b.git#v1 /x", "http://github.com/a/b.git"},
		"ssh":                 {"ADD git@github.com:a/b.git#v1 /x", "git@github.com:a/b.git"},
		"an ssh address":      {"ADD ssh://git@github.com/a/b.git#v1 /x", "github.com/a/b.git"},
		"git":                 {"ADD git://github.com/a/b.git#v1 /x", "git://github.com/a/b.git"},
		"an argument":         {"ARG R=b\nADD https://github.com/a/${R}.git#v1 /x", "https://github.com/a/b.git"},
		"a build argument":    {"ARG V\nADD https://github.com/a/b.git#$V /x", "https://github.com/a/b.git"},
		"credentials":         {"ADD https://user:hunter2@github.com/a/b.git#v1 /x", "github.com/a/b.git"},
		"a stage":             {"FROM scratch AS two\nADD https://github.com/a/b.git#v1 /x\nFROM scratch\nCOPY --from=two /x /", "https://github.com/a/b.git"},
		"a stage not built":   {"FROM scratch AS two\nADD https://github.com/a/b.git#v1 /x\nFROM scratch\nCOPY Dockerfile /", ""},
		"a file":              {"ADD https://github.com/a/b.tar.gz /x", ""},
		"a file by digest":    {"ADD --checksum=" + sum + " https://github.com/a/b.tar.gz /x", ""},
		"files of the source": {"ADD Dockerfile /x\nCOPY Dockerfile b.git /y/", ""},
		"a heredoc":           {"COPY <<E /x\nADD https://github.com/a/b.git#v1 /x\nE", ""},
		"what BuildKit says":  {"NOTHING", ""},
		"garbage":             {"\x00\x01ADD", ""},
	} {
		err := before(t, tree(t, "FROM scratch\n"+c.text+"\n"), attest.Recipe{BuildArgs: map[string]string{"V": "v1"}, Platforms: []string{"linux/amd64", "linux/arm64"}})
		failed, ok := errors.AsType[*builder.Error](err)
		if (err == nil) != (c.want == "") || err != nil && (!ok || !strings.Contains(failed.Error(), "ADD ") || !strings.Contains(failed.Error(), c.want) || !strings.Contains(failed.Error(), "submodule") || strings.Contains(failed.Error(), "hunter2")) {
			t.Errorf("%s: got %v, want %q", what, err, c.want)
		}
	}
}

// What the attest zone fetched from another address is not the repository.
func TestGitOfAnotherAddress(t *testing.T) {
	dir := tree(t, "FROM scratch\nADD https://github.com/a/b.git#v1 /x\n")
	for _, c := range []struct {
		added builder.Added
		ok    bool
	}{
		{builder.Added{Name: "git://github.com/a/b.git#v1", Remote: "https://github.com/a/b.git", Tree: dir}, true},
		{builder.Added{Name: "git://github.com/a/b.git#v1", Remote: "http://github.com/a/b.git", Tree: dir}, false},
		{builder.Added{Name: "git://github.com/a/b.git#v2", Remote: "https://github.com/a/b.git", Tree: dir}, false},
	} {
		_, err := New(Config{Rooms: &closed{}}).Build(t.Context(), builder.Request{Tree: dir, Epoch: epoch, Layout: t.TempDir(), Added: []builder.Added{c.added}})
		if errors.Is(err, errClosed) != c.ok {
			t.Errorf("%+v: got %v", c.added, err)
		}
	}
}

// A git repository that the attest zone fetched is what the build adds, as BuildKit itself would
// add it: the whole or a directory, links as links, and each under its own address.
func TestGitIsAdded(t *testing.T) {
	b := realBuilder(t)
	library, other := t.TempDir(), t.TempDir()
	if err := errors.Join(
		os.MkdirAll(filepath.Join(library, "dir", "sub"), 0o755),
		os.WriteFile(filepath.Join(library, "run"), []byte("#!/bin/sh\n"), 0o755),
		os.WriteFile(filepath.Join(library, "dir", "sub", "text"), []byte("text\n"), 0o600),
		os.Symlink("../run", filepath.Join(library, "dir", "link")),
		os.WriteFile(filepath.Join(other, "plain"), []byte("of http\n"), 0o644),
	); err != nil {
		t.Fatal(err)
	}
	dir := tree(t, `FROM scratch
ADD https://git.invalid/a/b.git#v1 /all
ADD --chown=7:8 https://git.invalid/a/b.git#v1:dir /dir/
ADD http://git.invalid/a/b.git#v1 /plain/
ADD https://git.invalid/a/b.git?tag=v2 /tag/
ADD --checksum=0123456789012345678901234567890123456789 https://git.invalid/a/b.git /head/
`)
	const https, http = "https://git.invalid/a/b.git", "http://git.invalid/a/b.git"
	layout := t.TempDir()
	res, log, err := run(t, b, builder.Request{Tree: dir, Layout: layout, Added: []builder.Added{
		{Name: "git://git.invalid/a/b.git#v1", Remote: https, Tree: library},
		{Name: "git://git.invalid/a/b.git#v1:dir", Remote: https, Dir: "dir", Tree: library},
		{Name: "git://git.invalid/a/b.git#v1", Remote: http, Tree: other},
		{Name: "git://git.invalid/a/b.git#refs/tags/v2", Remote: https, Tree: other},
		{Name: "git://git.invalid/a/b.git", Remote: https, Tree: other},
	}})
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if len(res.Dependencies) > 0 {
		t.Errorf("dependencies: got %v, want none: the attest zone names the repositories", res.Dependencies)
	}
	files := map[string]string{}
	for _, h := range entries(t, layout) {
		files[h.Name] = fmt.Sprintf("%o %d:%d %d%s", h.Mode, h.Uid, h.Gid, h.Size, h.Linkname)
		if h.ModTime.After(epoch) {
			t.Errorf("%s: got the time %s, want no later one than the commit's", h.Name, h.ModTime)
		}
	}
	for name, want := range map[string]string{
		"all/run": "755 0:0 10", "all/dir/sub/text": "644 0:0 5", "all/dir/link": "777 0:0 0../run",
		"dir/sub/text": "644 7:8 5", "dir/link": "777 7:8 0../run",
		"plain/plain": "644 0:0 8", "tag/plain": "644 0:0 8", "head/plain": "644 0:0 8",
	} {
		if files[name] != want {
			t.Errorf("%s: got %q, want %q", name, files[name], want)
		}
	}
	if _, ok := files["plain/run"]; ok {
		t.Error("the repository of one address was added for another")
	}

	// One that the image's base or a trigger names is not known before the build.
	dir = tree(t, "FROM busybox:1.35\nADD https://git.invalid/a${PATH}.git#v1 /x\n")
	_, log, err = run(t, b, builder.Request{Tree: dir})
	if failed, ok := errors.AsType[*builder.Error](err); !ok || !strings.Contains(failed.Error(), "must follow from the Dockerfile") {
		t.Errorf("an address from the base's environment: got %v, want a hint\n%s", err, log)
	}
}

// A name that BuildKit cannot express is refused before a room is opened, by itself, and only
// if the build would be sent it.
func TestOddNamesAreFoundFirst(t *testing.T) {
	for what, c := range map[string]struct{ text, ignore, named, want string }{
		"all":                  {"COPY . /src", "", "", `"a/caf\xe9.txt"`},
		"its directory":        {"COPY b /src", "", "", `"b/na\xefve"`},
		"a pattern":            {"COPY b/n* /src", "", "", `"b/na\xefve"`},
		"an ignored match":     {"COPY b/n* b/plain /src/", "b/na*\n", "", ""},
		"another pattern":      {"COPY b/p* /src", "", "", ""},
		"another directory":    {"COPY c /src", "", "", ""},
		"nothing":              {"RUN true", "", "", ""},
		"a link":               {"COPY link /src", "", "", `"link", a link to "caf\xe9"`},
		"ignored":              {"COPY . /src", "a\nb\nlink\n", "", ""},
		"one ignored":          {"COPY . /src", "a\nlink\n", "", `"b/na\xefve"`},
		"brought back":         {"COPY . /src", "*\n!b\n", "", `"b/na\xefve"`},
		"ignored by its own":   {"COPY . /src", "", "a\nb\nlink\n", ""},
		"ignored by the other": {"COPY . /src", "a\nb\nlink\n", "c\n", `"a/caf\xe9.txt"`},
		"a mount":              {"RUN --mount=target=/src true", "", "", `"a/caf\xe9.txt"`},
	} {
		dir := tree(t, "FROM scratch\n"+c.text+"\n")
		files := map[string]string{"a/caf\xe9.txt": "", "b/na\xefve": "", "b/plain": "", "c/plain": "", ".dockerignore": c.ignore}
		if c.named != "" {
			files["Dockerfile.dockerignore"] = c.named
		}
		for name, text := range files {
			if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755), os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink("caf\xe9", filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
		err := before(t, dir, attest.Recipe{})
		failed, ok := errors.AsType[*builder.Error](err)
		if (err == nil) != (c.want == "") || err != nil && (!ok || !strings.Contains(failed.Error(), "reads "+c.want+":")) {
			t.Errorf("%s: got %v, want %q", what, err, c.want)
		}
	}
}
