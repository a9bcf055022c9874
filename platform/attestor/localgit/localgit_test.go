package localgit

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/source"
)

// git runs the test binary in place of upload-pack.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "upload-pack" {
		if err := Relay(context.Background(), os.Args[2], os.Args[3], os.Getenv("GIT_PROTOCOL"), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=Ada", "-c", "user.email=ada@example.com"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// repo has one commit, tagged v1.
func repo(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "re'po") // the quote tests the quoting of Command
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("content\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "."}, {"commit", "-q", "-m", "first"}, {"tag", "v1"}} {
		git(t, dir, args...)
	}
	return dir
}

// serve starts a server at a socket and returns a function that fetches through it.
func serve(t *testing.T) func(dir string) error {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := peer.Listen(socket, -1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- peer.Serve(ctx, l, peer.Users{"attestor": os.Getuid()}, Handler(slog.New(slog.DiscardHandler)))
	}()
	t.Cleanup(func() { cancel(); <-done })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return func(dir string) error {
		r, _, err := source.Fetch(t.Context(), t.TempDir(), source.Request{URI: "file://" + dir, Ref: "v1", UploadPack: Command(self, socket)})
		if err != nil {
			return err
		}
		tree := t.TempDir()
		if _, err := r.Export(t.Context(), tree); err != nil {
			return err
		}
		if got, err := os.ReadFile(filepath.Join(tree, "file")); string(got) != "content\n" {
			return fmt.Errorf("the file holds %q, %v", got, err)
		}
		return nil
	}
}

func TestFetch(t *testing.T) {
	fetch, dir := serve(t), repo(t)
	if err := fetch(dir); err != nil {
		t.Error(err)
	}
	if err := fetch("/nonexistent"); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("no repository: got %v, want the reason", err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".git/objects/info/alternates"), []byte("/elsewhere\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := fetch(dir); err == nil || !strings.Contains(err.Error(), "borrows objects") {
		t.Errorf("borrowed objects: got %v, want an error", err)
	}
}

// The repository is read as its owner, who cannot give access to files that he cannot read.
func TestFetchAsTheOwner(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: acting as other users needs root")
	}
	fetch, dir := serve(t), repo(t)
	if err := os.Chmod(filepath.Dir(filepath.Dir(dir)), 0o755); err != nil { // of this test's temporary directories
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, 65534, 65534)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := fetch(dir); err != nil {
		t.Fatal(err)
	}
	id := git(t, dir, "-c", "safe.directory=*", "rev-parse", "v1:file")
	object := filepath.Join(dir, ".git/objects", id[:2], id[2:])
	if err := os.Chown(object, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(object, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := fetch(dir); err == nil {
		t.Error("an object that the owner may not read was handed out")
	}
}
