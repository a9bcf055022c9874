package release

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/dockerfile"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/test/githttp"
	"github.com/colophon-build/colophon/test/gittest"
	"github.com/colophon-build/colophon/trust"
)

// gitServer serves a repository over http on loopback, as git itself does. The tag v1 and the
// branch main are on its only commit.
func gitServer(t *testing.T, files ...string) (url, dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "lib.git")
	fill(t, dir, files...)
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "."}, {"commit", "-q", "-m", "first"}, {"tag", "v1"}} {
		gittest.Git(t, dir, args...)
	}
	srv := httptest.NewServer(githttp.Handler(t, filepath.Dir(dir)))
	t.Cleanup(srv.Close)
	return srv.URL + "/lib.git", dir
}

// fill writes files to dir: name, text, name, text …
func fill(t *testing.T, dir string, files ...string) {
	t.Helper()
	for i := 0; i < len(files); i += 2 {
		name := filepath.Join(dir, files[i])
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(files[i+1]), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

func head(t *testing.T, dir string) string {
	t.Helper()
	return gittest.Git(t, dir, "-c", "safe.directory=*", "rev-parse", "HEAD")
}

// recorder is a builder that keeps what it was asked to build, and reads the added trees.
type recorder struct {
	builds []builder.Request
	files  []map[string]string
}

var errRecorded = errors.New("no build in this test")

func (a *recorder) Build(_ context.Context, req builder.Request) (*builder.Result, error) {
	a.builds = append(a.builds, req)
	for _, added := range req.Added {
		files := map[string]string{}
		err := filepath.WalkDir(added.Tree, func(name string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(name)
			files[strings.TrimPrefix(name, added.Tree+"/")] = string(text)
			return err
		})
		if err != nil {
			return nil, err
		}
		a.files = append(a.files, files)
	}
	return nil, errRecorded
}

// release runs a release of a Dockerfile as far as the build, with a lock or without.
func releaseAdding(t *testing.T, dockerfile string, lock *builder.Lock) (*recorder, []string, error) {
	t.Helper()
	b := &recorder{}
	s := newStage(t, b, http.NotFound)
	s.Builders = append(s.Builders, BuilderInfo{Name: "buildkit", Builder: trust.Builder{ID: "http://127.0.0.1:1/builders/buildkit/v1", Level: 3}, BuildType: "y"})
	s.Rooms = noRooms{}
	dir := strings.TrimPrefix(s.req.Source, "file://")
	fill(t, dir, "Dockerfile", dockerfile)
	gittest.Git(t, dir, "add", ".")
	gittest.Git(t, dir, "commit", "-q", "-m", "second")
	s.req.Ref = "HEAD"
	s.req.Recipe.Builder = "buildkit"
	s.req.Recipe.BuildArgs = map[string]string{"V": "v1"}
	s.req.Recipe.Platforms = []string{"linux/amd64", "linux/arm64"}
	if lock != nil {
		raw, err := lock.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		s.req.Lock = string(raw)
	}
	var lines []string
	_, err := s.Run(t.Context(), s.req, func(e api.Event) { lines = append(lines, e.Line) })
	return b, lines, err
}

// noRooms is the trusted side of rooms that are never opened.
type noRooms struct{}

func (noRooms) Begin(context.Context, builder.Session) (string, error) { return "id", nil }
func (noRooms) End(context.Context, string) (*builder.Record, error) {
	return &builder.Record{}, nil
}
func (noRooms) Keep(context.Context, string, bool) error { return nil }

// What the Dockerfile adds of git is fetched before the build, once for each ref, and given to
// the builder as the files of its commit.
func TestGitThatTheDockerfileAdds(t *testing.T) {
	url, dir := gitServer(t, "top", "1", "dir/below", "2")
	first := head(t, dir)
	text := "FROM scratch\nARG V\n" +
		"ADD " + url + "#v1 /a\nADD " + url + "#$V:dir /b\nADD " + url + " /c\nADD --checksum=" + first[:12] + " " + url + "?branch=main /d\n"
	b, lines, err := releaseAdding(t, text, nil)
	if !errors.Is(err, errRecorded) || len(b.builds) != 1 {
		t.Fatalf("got %v and %d builds, want one", err, len(b.builds))
	}
	got := map[string]string{}
	for i, a := range b.builds[0].Added {
		_, ref, _ := strings.Cut(a.Name, "#")
		if a.Remote != url || a.Source.ID == "" || !maps.Equal(b.files[i], map[string]string{"top": "1", "dir/below": "2"}) {
			t.Errorf("%s: got %s, tree %+v, files %v", a.Name, a.Remote, a.Source, b.files[i])
		}
		got[ref] = a.Dir
	}
	if want := map[string]string{"": "", "v1": "", "v1:dir": "dir", "refs/heads/main": ""}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	says := func(ref string) string { return "ADD " + strings.TrimSuffix(url, ".git") + " " + ref + " is " + first }
	for _, ref := range []string{"v1", "HEAD", "refs/heads/main"} {
		if n := len(slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return l != says(ref) })); n != 1 {
			t.Errorf("%q was said %d times, want once: %q", says(ref), n, lines)
		}
	}

	// A lock names the commit, even if the ref has moved, and lists every ref.
	fill(t, dir, "top", "moved")
	gittest.Git(t, dir, "commit", "-q", "-a", "-m", "second")
	gittest.Git(t, dir, "tag", "-f", "v1")
	lock := &builder.Lock{Version: builder.LockVersion, Fetches: []builder.Exchange{}, Git: []builder.LockedGit{{URI: strings.TrimSuffix(url, ".git"), Ref: "v1", Commit: first}}}
	text = "FROM scratch\nADD " + url + "#v1 /a\n"
	if b, _, err = releaseAdding(t, text, lock); !errors.Is(err, errRecorded) || len(b.files) != 1 || b.files[0]["top"] != "1" {
		t.Errorf("locked: got %v, %v, want the first commit", b.files, err)
	}
	if b, _, err = releaseAdding(t, text, nil); !errors.Is(err, errRecorded) || len(b.files) != 1 || b.files[0]["top"] != "moved" {
		t.Errorf("not locked: got %v, %v, want the second commit", b.files, err)
	}
	if _, _, err = releaseAdding(t, text+"ADD "+url+" /b\n", lock); err == nil || !strings.Contains(err.Error(), "the lock does not list the ref HEAD") {
		t.Errorf("a ref that the lock lacks: got %v", err)
	}
	lock.Git[0].Commit = strings.Repeat("ab", 20)
	if _, _, err = releaseAdding(t, text, lock); err == nil || errors.Is(err, errRecorded) {
		t.Errorf("a locked commit that the repository lacks: got %v", err)
	}
}

// A git repository that cannot be added ends the release before a build begins, and the error
// names the address in the Dockerfile, without its credentials.
func TestGitThatCannotBeAdded(t *testing.T) {
	url, dir := gitServer(t, "f", "1", "lfs/big", "version https://git-lfs.github.com/spec/v1\noid sha256:"+strings.Repeat("0", 64)+"\nsize 5\n")
	many := ""
	for i := range 17 {
		many += "ADD https://github.com/a/b.git#v" + strings.Repeat("1", i+1) + " /x\n"
	}
	for what, c := range map[string]struct{ text, want string }{
		"ssh":                     {"ADD git@127.0.0.1:a/b.git#v1 /x", "needs ssh"},
		"an ssh address":          {"ADD ssh://git@127.0.0.1/a/b.git#v1 /x", "needs ssh"},
		"git's own protocol":      {"ADD git://127.0.0.1/a/b.git#v1 /x", "over https"},
		"plain http elsewhere":    {"ADD http://github.com/a/b.git#v1 /x", "http is allowed only on loopback"},
		"credentials":             {"ADD https://user:hunter2@github.com/a/b.git#v1 /x", "credentials"},
		"the history":             {"ADD --keep-git-dir=true " + url + "#v1 /x", "--keep-git-dir is not supported"},
		"without submodules":      {"ADD " + url + "?ref=v1&submodules=false /x", "submodules=false"},
		"by commit":               {"ADD " + url + "?ref=v1&fetch-by-commit=true&commit=" + head(t, dir) + " /x", "fetch-by-commit"},
		"another commit":          {"ADD --checksum=" + strings.Repeat("ab", 20) + " " + url + "#v1 /x", "--checksum: got the commit " + head(t, dir)},
		"an unknown ref":          {"ADD " + url + "#v2 /x", "unknown ref \"v2\""},
		"an unknown directory":    {"ADD " + url + "#v1:nowhere /x", "no such directory"},
		"a directory above":       {"ADD " + url + "?ref=v1&subdir=../../etc /x", "no such directory"},
		"a pointer to a file":     {"ADD " + url + "#v1 /x", "lfs/big"},
		"one pointer's directory": {"ADD " + url + "#v1:lfs /x", "lfs/big"},
		"too many":                {many, "at most 16"},
	} {
		b, _, err := releaseAdding(t, "FROM scratch\n"+c.text+"\n", nil)
		refused, ok := errors.AsType[*api.Error](err)
		if !ok || !strings.Contains(refused.Message, c.want) || !strings.HasPrefix(refused.Message, "ADD") || strings.Contains(refused.Message, "hunter2") || len(b.builds) > 0 {
			t.Errorf("%s: got %v and %d builds, want %q", what, err, len(b.builds), c.want)
		}
	}

	// A repository of the network does not lead to one of this machine.
	s := newStage(t, &recorder{}, http.NotFound)
	j := &run{Releaser: s.Releaser, commit: source.Commit{URI: "https://github.com/a/b"}, dir: t.TempDir()}
	if a, err := j.fetchOne(t.Context(), dockerfile.Git{Remote: url, Ref: "v1"}, "x"); err == nil || !strings.Contains(err.Error(), "may not name one with a http address") {
		t.Errorf("a repository on loopback: got %s, %v", a.commit.ID, err)
	}
}
