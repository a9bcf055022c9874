package buildkit

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tonistiigi/fsutil"

	"github.com/colophon-build/colophon/platform/builder"
)

// A daemon that a build has taken over may ask for any path of the context. It gets no
// file of the host through a link, no name of one, and no target of a link there.
func TestDaemonReadsTheTreeAlone(t *testing.T) {
	outside := t.TempDir()
	dir := tree(t, "FROM scratch\n")
	if err := errors.Join(os.WriteFile(filepath.Join(outside, "secret"), []byte("s3cr3t"), 0o644), os.Symlink("s3cr3t-target", filepath.Join(outside, "link")),
		os.Symlink(outside, filepath.Join(dir, "out")), os.Symlink(filepath.Join(outside, "secret"), filepath.Join(dir, "file"))); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	opt, _, err := options(t.Context(), builder.Request{Tree: dir, Epoch: epoch}, newSourceTree(root, epoch))
	if err != nil {
		t.Fatal(err)
	}
	for name, context := range opt.LocalMounts {
		for _, path := range []string{"out/secret", "file", "/out/secret", "../" + filepath.Base(outside) + "/secret"} {
			if f, err := context.Open(path); err == nil {
				text, _ := io.ReadAll(f)
				f.Close()
				t.Errorf("%s: %s is readable: %q", name, path, text)
			}
		}
		for _, path := range []string{"out/", "out/secret", "out/link", "/"} {
			err := context.Walk(t.Context(), path, func(path string, _ os.DirEntry, err error) error {
				if strings.HasPrefix(path, "out/") && err == nil {
					t.Errorf("%s: the daemon sees %s", name, path)
				}
				return nil
			})
			t.Log(path, err)
		}
		if paths, _ := fsutil.FollowLinks(context, []string{"out/link", "out/s*"}); strings.Contains(strings.Join(paths, " "), "s3cr3t-target") {
			t.Errorf("%s: the daemon sees the target of a link: %q", name, paths)
		}
	}
}

// A link in the source arrives in the image as the link that it is. A build that copies
// what a link leads to gets nothing of the host.
func TestLinksInTheSourceStay(t *testing.T) {
	b := realBuilder(t)
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	links := map[string]string{"absolute": secret, "above": strings.Repeat("../", 12) + secret[1:], "dir": outside, "shadow": "/etc/shadow", "dangling": "nowhere", "within": "/Dockerfile", "ignored/link": secret}
	source := func(dockerfile string) string {
		dir := tree(t, dockerfile)
		err := errors.Join(os.Mkdir(filepath.Join(dir, "ignored"), 0o755), os.WriteFile(filepath.Join(dir, ".dockerignore"), []byte("ignored\n"), 0o644))
		for name, to := range links {
			err = errors.Join(err, os.Symlink(to, filepath.Join(dir, name)))
		}
		if err != nil {
			t.Fatal(err)
		}
		return dir
	}
	if err := os.WriteFile(secret, []byte("s3cr3t"), 0o644); err != nil {
		t.Fatal(err)
	}
	layout := t.TempDir()
	if _, log, err := run(t, b, builder.Request{Tree: source("FROM scratch\nCOPY . /src\n"), Layout: layout}); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	got := map[string]string{}
	for _, h := range entries(t, layout) {
		if h.Typeflag == tar.TypeSymlink {
			got[strings.TrimPrefix(h.Name, "src/")] = h.Linkname
		}
	}
	delete(links, "ignored/link")
	for name, to := range links {
		if got[name] != to {
			t.Errorf("%s: got a link to %q, want %q", name, got[name], to)
		}
	}
	if len(got) != len(links) {
		t.Errorf("got %v, want %v", got, links)
	}
	for name := range links {
		layout := t.TempDir()
		_, log, err := run(t, b, builder.Request{Tree: source("FROM scratch\nCOPY " + name + " /got\nCOPY " + name + "* /all/\n"), Layout: layout})
		t.Logf("COPY %s: %v", name, err)
		if strings.Contains(log, "s3cr3t") {
			t.Errorf("COPY %s: the log has the file of the host", name)
		}
		if err != nil && name == "within" {
			t.Error(err)
		}
		if err != nil {
			continue
		}
		for _, h := range entries(t, layout) {
			if h.Typeflag == tar.TypeReg && name != "within" { // BuildKit resolves it within the tree
				t.Errorf("COPY %s copies a file of the host: %s, %d bytes", name, h.Name, h.Size)
			}
		}
	}
}
