package source

import (
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Fetch a tag, export its files, and fetch the same commit by its other names.
func TestFetchAndExport(t *testing.T) {
	for _, format := range []string{"sha1", "sha256"} {
		for _, via := range []string{"file", "http"} {
			t.Run(format+"/"+via, func(t *testing.T) {
				r := newRepo(t, "--object-format="+format)
				r.commit("old", "only in the parent")
				r.git("rm", "-q", "old")
				r.write("run.sh", "#!/bin/sh\n")
				os.Chmod(filepath.Join(r.dir, "run.sh"), 0o755)
				os.Symlink("a/b.txt", filepath.Join(r.dir, "link"))
				id := r.commit("a/b.txt", "line\r\n")
				r.git("tag", "-a", "-m", "one", "v1.0.0")
				uri := r.uri()
				if via == "http" {
					uri = r.serve()
				}
				repo, c := mustFetch(t, Request{URI: uri, Ref: "v1.0.0"})
				want := Commit{URI: uri, Ref: "refs/tags/v1.0.0", ID: id, Tree: r.git("rev-parse", "HEAD^{tree}"), Tag: r.git("rev-parse", "v1.0.0"),
					Time: time.Unix(1700000060, 0).UTC(), Signature: Signature{Status: Unsigned}}
				if c.URI != want.URI || c.Ref != want.Ref || c.ID != want.ID || c.Tree != want.Tree || c.Tag != want.Tag || !c.Time.Equal(want.Time) || c.Signature != want.Signature {
					t.Errorf("got %+v, want %+v", c, want)
				}
				dst := filepath.Join(t.TempDir(), "tree")
				if _, err := repo.Export(t.Context(), dst); err != nil {
					t.Fatal(err)
				}
				got := list(t, dst, c.Time)
				if want := `a/ a/b.txt="line\r\n" link->a/b.txt run.sh*="#!/bin/sh\n"`; got != want {
					t.Errorf("got  %s\nwant %s", got, want)
				}
				for _, ref := range []string{"main", "refs/heads/main", "HEAD", id, "refs/tags/v1.0.0"} {
					if _, c := mustFetch(t, Request{URI: uri, Ref: ref, Commit: id}); c.ID != id || (ref == "HEAD" && c.Ref != "refs/heads/main") {
						t.Errorf("%s: got %+v", ref, c)
					}
				}
			})
		}
	}
}

// list returns the files of a directory in one line. It fails if one of them does not have
// the time at.
func list(t *testing.T, dir string, at time.Time) string {
	t.Helper()
	var all []string
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		if !info.ModTime().Equal(at) {
			t.Errorf("%s has time %s, want %s", path, info.ModTime().UTC(), at)
		}
		if path == dir {
			return nil
		}
		name := strings.TrimPrefix(path, dir+"/")
		switch info.Mode().Type() {
		case os.ModeDir:
			if info.Mode().Perm() != 0o755 {
				t.Errorf("%s has mode %v", path, info.Mode())
			}
			name += "/"
		case os.ModeSymlink:
			to, _ := os.Readlink(path)
			name += "->" + to
		default:
			data, _ := os.ReadFile(path)
			switch info.Mode() {
			case 0o755:
				name += "*"
			case 0o644:
			default:
				t.Errorf("%s has mode %v", path, info.Mode())
			}
			name += "=" + quote(string(data))
		}
		all = append(all, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

func quote(s string) string {
	return `"` + strings.NewReplacer("\r", `\r`, "\n", `\n`).Replace(s) + `"`
}

func TestRefs(t *testing.T) {
	r := newRepo(t)
	first := r.commit("a", "1")
	r.git("tag", "v1.2.0")
	r.git("tag", "same")
	r.git("branch", "same")
	second := r.commit("a", "2")
	r.git("branch", "v1.2.0", second)
	for _, tc := range []struct {
		ref, commit string
		want        error
		says        string
	}{
		{ref: "refs/tags/v1.2.0", commit: first},
		{ref: "same"},
		{ref: "v1.2.0", want: errAmbiguous, says: second},
		{ref: "v1.2.1", want: ErrUnknownRef, says: `did you mean "v1.2.0"`},
		{ref: "saem", want: ErrUnknownRef, says: `did you mean "same"`},
		{ref: "mian", want: ErrUnknownRef, says: `did you mean the branch "main"`},
		{ref: "refs/tags/mian", want: ErrUnknownRef, says: `none of its 2 tags is similar`},
		{ref: "refs/heads/v1.2.1", want: ErrUnknownRef, says: `did you mean the branch "v1.2.0"`},
		{ref: "nothing-like-it", want: ErrUnknownRef, says: `none of its 5 tags and branches is similar`},
		{ref: "refs/tags/v1.2.0", commit: second, want: errMoved, says: first + ", want " + second},
		{ref: strings.Repeat("12", 20), want: ErrUnknownRef},
		{ref: "v1.*", want: ErrUnknownRef, says: "not a valid ref name"},
		{ref: "--upload-pack=touch", want: ErrUnknownRef, says: "not a valid ref name"},
		{ref: "", want: ErrUnknownRef},
		{ref: first[:12], want: ErrUnknownRef},
	} {
		_, c, err := fetch(t, Request{URI: r.uri(), Ref: tc.ref, Commit: tc.commit})
		switch {
		case !errors.Is(err, tc.want):
			t.Errorf("%q: got %v, want %v", tc.ref, err, tc.want)
		case err == nil && c.ID != first:
			t.Errorf("%q: got %s, want %s", tc.ref, c.ID, first)
		case err != nil && !strings.Contains(err.Error(), tc.says):
			t.Errorf("%q: got %q, want it to say %q", tc.ref, err, tc.says)
		}
	}
	if _, _, err := fetch(t, Request{URI: FileURI(t.TempDir() + "/none"), Ref: "main"}); err == nil || errors.Is(err, ErrUnknownRef) {
		t.Errorf("a repository that is not there: got %v, want an error that is not ErrUnknownRef", err)
	}
}

func TestSubmodules(t *testing.T) {
	inner, middle, outer := newRepo(t), newRepo(t), newRepo(t)
	pinned := inner.commit("in", "inner")
	middle.commit("mid", "middle")
	middle.git("submodule", "add", "-q", inner.uri(), "deep")
	mid := middle.commit("mid", "middle")
	inner.commit("in", "a later one, not pinned")
	outer.commit("out", "outer")
	rel, err := filepath.Rel(outer.dir, middle.dir)
	if err != nil {
		t.Fatal(err)
	}
	outer.git("submodule", "add", "-q", middle.uri(), "libs/mid")
	outer.git("config", "-f", ".gitmodules", "submodule.libs/mid.url", rel) // "../…", as many people write
	outer.commit("out", "outer")
	repo, c := mustFetch(t, Request{URI: outer.uri(), Ref: "main"})
	want := []Submodule{{"libs/mid", middle.uri(), mid}, {"libs/mid/deep", inner.uri(), pinned}}
	if len(c.Submodules) != 2 || c.Submodules[0] != want[0] || c.Submodules[1] != want[1] {
		t.Errorf("got %+v, want %+v", c.Submodules, want)
	}
	dst := t.TempDir()
	if _, err := repo.Export(t.Context(), dst); err != nil {
		t.Fatal(err)
	}
	if got := list(t, filepath.Join(dst, "libs/mid/deep"), c.Time); got != `in="inner"` {
		t.Errorf("got %s", got)
	}
}

func TestCheckClean(t *testing.T) {
	r, sub := newRepo(t), newRepo(t)
	sub.commit("s", "1")
	r.write(".gitignore", "*.log\n")
	r.commit("a", "1")
	r.git("submodule", "add", "-q", sub.uri(), "sub")
	r.commit("a", "2")
	r.write("noise.log", "ignored")
	if err := CheckClean(t.Context(), r.dir); err != nil {
		t.Fatal(err)
	}
	dirty := func(want ...string) {
		t.Helper()
		err := CheckClean(t.Context(), filepath.Join(r.dir, "sub", ".."))
		if d, ok := errors.AsType[*DirtyError](err); !ok || strings.Join(d.Paths, ",") != strings.Join(want, ",") {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	r.write("new\x1b[2J.txt", "untracked")
	dirty(`?? new\x1b[2J.txt`)
	os.Remove(filepath.Join(r.dir, "new\x1b[2J.txt"))
	r.write("a", "unstaged")
	dirty("M a")
	r.git("add", "a")
	dirty("M  a")
	r.git("reset", "-q", "--hard")
	r.write("sub/s", "changed within")
	dirty("M sub/s")
	r.write("sub/s", "1")
	if err := CheckClean(t.Context(), t.TempDir()); err == nil {
		t.Error("a directory outside of any repository passed")
	}
}

// Some servers serve only commits that a ref points to.
func TestServerWithoutFetchById(t *testing.T) {
	r := newRepo(t)
	first := r.commit("a", "1")
	tip := r.commit("a", "2")
	r.git("tag", "-a", "-m", "two", "v2")
	uri := r.serveOldProtocol()
	for ref, want := range map[string]string{"main": tip, "v2": tip, first: first, tip: tip} {
		repo, c := mustFetch(t, Request{URI: uri, Ref: ref})
		if _, err := repo.Export(t.Context(), t.TempDir()); err != nil || c.ID != want {
			t.Errorf("%s: got %s, %v; want %s", ref, c.ID, err, want)
		}
	}
	if _, _, err := fetch(t, Request{URI: uri, Ref: strings.Repeat("12", 20)}); !errors.Is(err, ErrUnknownRef) {
		t.Errorf("got %v, want ErrUnknownRef", err)
	}
	if got, err := Lookup(t.Context(), Question{URI: uri, Commit: first}); err == nil {
		t.Errorf("a server that does not say: got %+v, want an error", got)
	}
	// The history of a branch still has the commit.
	if got, err := Lookup(t.Context(), Question{URI: uri, Ref: "refs/heads/main", Commit: first, Tree: r.git("rev-parse", first+"^{tree}")}); err != nil || got.Ref != RefForward || got.Tree == "" || !got.Holds() {
		t.Errorf("an old commit of a branch: got %+v, %v", got, err)
	}
	if got, err := Lookup(t.Context(), Question{URI: uri, Ref: "refs/heads/main", Commit: strings.Repeat("12", 20)}); err != nil || got.Ref != RefRewritten || got.Holds() {
		t.Errorf("a commit that no branch has: got %+v, %v", got, err)
	}
}

func TestHTTPS(t *testing.T) {
	r := newRepo(t)
	id := r.commit("a", "1")
	srv := httptest.NewTLSServer(r.backend())
	t.Cleanup(srv.Close)
	uri := srv.URL + "/repo"
	if _, _, err := fetch(t, Request{URI: uri, Ref: "main"}); err == nil {
		t.Error("a certificate that nobody vouches for was taken")
	}
	// The check also holds if the user's environment disables it.
	t.Setenv("GIT_SSL_NO_VERIFY", "1")
	if _, _, err := fetch(t, Request{URI: uri, Ref: "main"}); err == nil {
		t.Error("GIT_SSL_NO_VERIFY reached git")
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	trustOnly(t, ca)
	if _, c := mustFetch(t, Request{URI: uri, Ref: "main"}); c.ID != id || c.URI != uri {
		t.Errorf("got %+v", c)
	}
}

// A server may redirect to another address, but not to another protocol.
func TestRedirects(t *testing.T) {
	r := newRepo(t)
	id := r.commit("a", "1")
	real := r.serve()
	plain := httptest.NewServer(http.RedirectHandler(real+"/info/refs?service=git-upload-pack", http.StatusFound))
	t.Cleanup(plain.Close)
	if _, c := mustFetch(t, Request{URI: plain.URL + "/old", Ref: "main"}); c.ID != id {
		t.Errorf("got %+v", c)
	}
	secure := httptest.NewTLSServer(http.RedirectHandler(real+"/info/refs?service=git-upload-pack", http.StatusFound))
	t.Cleanup(secure.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	trustOnly(t, ca)
	if _, _, err := fetch(t, Request{URI: secure.URL + "/old", Ref: "main"}); err == nil || strings.Contains(err.Error(), "certificate") {
		t.Errorf("from https to http: got %v, want a refusal of the redirect", err)
	}
}

// trustOnly sets the environment so that git trusts only this CA file.
func trustOnly(t *testing.T, ca string) {
	for _, name := range []string{"GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "SSL_CERT_DIR", "CURL_CA_BUNDLE"} {
		t.Setenv(name, "")
	}
	t.Setenv("SSL_CERT_FILE", ca)
}

// Real commits have oddities that harm nobody.
func TestOddCommits(t *testing.T) {
	const good = "C <c@example.com> 1700000060 +0100"
	for name, committer := range map[string]string{
		"good":                  good,
		"zone with seconds":     "C <c@example.com> 1700000060 +051800",
		"zone out of range":     "C <c@example.com> 1700000060 +9999",
		"time 0":                "C <c@example.com> 0 +0000",
		"padded time":           "C <c@example.com> 01700000060 +0000",
		"no name":               "<c@example.com> 1700000060 +0000",
		"no blank before email": "C<c@example.com> 1700000060 +0000",
		"brackets in email":     "C <c<@example.com> 1700000060 +0000",
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t)
			r.commit("a", "a")
			raw := "tree " + r.git("rev-parse", "HEAD^{tree}") + "\nauthor " + committer + "\ncommitter " + committer + "\n\nodd\n"
			id := r.in(raw, "hash-object", "-w", "-t", "commit", "--literally", "--stdin")
			r.git("update-ref", "refs/heads/odd", id)
			repo, c := mustFetch(t, Request{URI: r.uri(), Ref: "odd"})
			if want := int64(1700000060); c.ID != id || c.Time.Unix() != want && (name != "time 0" || c.Time.Unix() != 0) {
				t.Errorf("got commit %s at %v, want %s", c.ID, c.Time, id)
			}
			if _, err := repo.Export(t.Context(), filepath.Join(t.TempDir(), "tree")); err != nil {
				t.Error(err)
			}
		})
	}
}

// Errors are git's errors, not its advice.
func TestErrorsHaveNoHints(t *testing.T) {
	r := newRepo(t)
	r.commit("a", "a")
	_, _, err := fetch(t, Request{URI: r.uri() + "-missing", Ref: "main"})
	if err == nil || strings.Contains(err.Error(), "hint") || strings.Contains(err.Error(), "graft") {
		t.Errorf("got %v", err)
	}
	g, err := newGit(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if _, err := g.local(t.Context(), "log", "--no-such-flag", "main"); err == nil || strings.Contains(err.Error(), "hint") {
		t.Errorf("got %v", err)
	}
	if _, err := g.local(t.Context(), "cat-file", "commit", strings.Repeat("ab", 20)); err == nil || strings.Contains(err.Error(), "hint") {
		t.Errorf("got %v", err)
	}
}
