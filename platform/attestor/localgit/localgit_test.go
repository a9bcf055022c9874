package localgit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/gittest"
	"github.com/colophon-build/colophon/test/needs"
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
	if len(os.Args) == 4 && os.Args[1] == jailCommand {
		if err := Jail(context.Background(), os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// needRoot skips a test that starts a jail.
func needRoot(t *testing.T) {
	t.Helper()
	needs.Root(t, "acting as other users")
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
		gittest.Git(t, dir, args...)
	}
	return dir
}

// serve starts a server at a socket and returns a function that fetches through it.
func serve(t *testing.T) func(dir string) error {
	t.Helper()
	needRoot(t)
	short, err := os.MkdirTemp("", "s-") // a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(short) })
	socket := filepath.Join(short, "s")
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
		ctx, cancel := context.WithTimeout(t.Context(), await.Patience)
		defer cancel()
		r, _, err := source.Fetch(ctx, t.TempDir(), source.Request{URI: "file://" + dir, Ref: "v1", UploadPack: Command(self, socket)})
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
	if err := fetch("/nonexistent"); err == nil || !strings.Contains(err.Error(), errNone.Error()) {
		t.Errorf("no repository: got %v, want %v", err, errNone)
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
	fetch, dir := serve(t), repo(t)
	give(t, dir, stranger)
	if err := fetch(dir); err != nil {
		t.Fatal(err)
	}
	id := gittest.Git(t, dir, "-c", "safe.directory=*", "rev-parse", "v1:file")
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

// stranger is a user who owns nothing on the host but what tests give him.
const stranger = 65534

// give makes everything below dir a user's.
func give(t *testing.T, dir string, uid int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, uid)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// secretOfRoot is a file that only root can read.
func secretOfRoot(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("secret-of-root\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Whoever puts files into a repository of root, or links into his own, must not make git
// read files of root, or learn from an error what is in them or whether they exist.
func TestOthersFilesAreNotRead(t *testing.T) {
	needRoot(t)
	link := func(t *testing.T, dir, name string) {
		file := filepath.Join(dir, ".git", name)
		os.Remove(file)
		if err := os.Symlink(secretOfRoot(t), file); err != nil {
			t.Fatal(err)
		}
	}
	for what, c := range map[string]struct {
		prepare func(t *testing.T, dir string)
		want    string
	}{
		"a stranger's repository in a directory of root that all can write": {func(t *testing.T, dir string) {
			link(t, dir, "packed-refs")
			give(t, filepath.Join(dir, ".git"), stranger)
			os.Chmod(dir, 0o777)
		}, "different users"},
		"a stranger's file in a repository of root": {func(t *testing.T, dir string) {
			give(t, filepath.Join(dir, ".git/refs"), stranger)
		}, "belongs to user 65534, and the repository to user 0"},
		"a repository of root that all can write": {func(t *testing.T, dir string) { os.Chmod(filepath.Join(dir, ".git/refs/tags"), 0o777) }, "others can write it"},
		"a repository of root that a group can write": {func(t *testing.T, dir string) {
			os.Chown(filepath.Join(dir, ".git/refs/tags"), 0, stranger)
			os.Chmod(filepath.Join(dir, ".git/refs/tags"), 0o775)
		}, "others can write it"},
		"a link to a file of root": {func(t *testing.T, dir string) { link(t, dir, "packed-refs"); give(t, dir, stranger) }, "packed-refs: got a link"},
		"HEAD that is a link":      {func(t *testing.T, dir string) { link(t, dir, "HEAD"); give(t, dir, stranger) }, "HEAD: got a link"},
		"a directory that is a link": {func(t *testing.T, dir string) {
			os.Rename(filepath.Join(dir, ".git/objects/pack"), filepath.Join(dir, "pack"))
			os.Symlink(filepath.Join(dir, "pack"), filepath.Join(dir, ".git/objects/pack"))
			give(t, dir, stranger)
		}, "objects/pack: got a link"},
		"a named pipe": {func(t *testing.T, dir string) {
			if err := syscall.Mkfifo(filepath.Join(dir, ".git/packed-refs"), 0o644); err != nil {
				t.Fatal(err)
			}
			give(t, dir, stranger)
		}, "packed-refs: got a link or special file"},
		"a .git file that leads to a repository of root": {func(t *testing.T, dir string) {
			private := repo(t)
			os.RemoveAll(filepath.Join(dir, ".git"))
			os.WriteFile(filepath.Join(dir, ".git"), []byte("gitdir: "+private+"/.git\n"), 0o644)
			give(t, dir, stranger)
		}, "different users"},
		"a .git that is a link to one": {func(t *testing.T, dir string) {
			private := repo(t)
			os.RemoveAll(filepath.Join(dir, ".git"))
			os.Symlink(private+"/.git", filepath.Join(dir, ".git"))
			give(t, dir, stranger)
		}, errNone.Error()},
		"no repository": {func(t *testing.T, dir string) { os.RemoveAll(filepath.Join(dir, ".git")) }, errNone.Error()},
		"a repository without content": {func(t *testing.T, dir string) {
			os.RemoveAll(filepath.Join(dir, ".git/refs"))
			os.WriteFile(filepath.Join(dir, ".git/packed-refs"), []byte("secret-of-root\n"), 0o600)
			os.Mkdir(filepath.Join(dir, ".git/refs"), 0o755)
		}, "git cannot read the repository"},
	} {
		t.Run(what, func(t *testing.T) {
			fetch, dir := serve(t), repo(t)
			c.prepare(t, dir)
			await.Quick(t, "the refusal", 4*time.Second, func() {
				err := fetch(dir)
				if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret-of-root") {
					t.Errorf("got %v, want %q and no content of files", err, c.want)
				}
			})
		})
	}
}

// The jail alone keeps git inside of the repository, whatever the check of the
// repository missed or its owner changed since.
func TestJail(t *testing.T) {
	needRoot(t)
	jailed := func(t *testing.T, dir string, uid int, protocol string) (answer, said string, err error) {
		f, err := os.Open(filepath.Join(dir, ".git"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
		defer ours.Close()
		io.WriteString(ours, "0000") // git says what refs there are, and ends
		done := make(chan struct{})
		go func() {
			defer close(done)
			said, err = (&repository{f, uid, uid}).serve(t.Context(), protocol, theirs)
			theirs.Close()
		}()
		raw, _ := io.ReadAll(ours)
		<-done
		return string(raw), said, err
	}
	dir := repo(t)
	answer, said, err := jailed(t, dir, 0, "")
	if err != nil || !strings.Contains(answer, "refs/tags/v1") {
		t.Fatalf("a good repository: got %q, %q, %v", answer, said, err)
	}
	// A link to a file that everybody may read.
	public := filepath.Join(t.TempDir(), "public")
	if err := os.WriteFile(public, []byte("text-of-another-file\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(public, filepath.Join(dir, ".git/packed-refs")); err != nil {
		t.Fatal(err)
	}
	if answer, said, _ := jailed(t, dir, 0, ""); strings.Contains(answer+said, "text-of-another-file") {
		t.Errorf("git read a file outside of the repository: %q %q", answer, said)
	}
	// A file of another user in a repository of root: root reads it only by its capabilities.
	os.Remove(filepath.Join(dir, ".git/packed-refs"))
	if err := os.WriteFile(filepath.Join(dir, ".git/packed-refs"), []byte("text-of-another-user\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(dir, ".git/packed-refs"), stranger, stranger); err != nil {
		t.Fatal(err)
	}
	if answer, said, _ := jailed(t, dir, 0, ""); strings.Contains(answer+said, "text-of-another-user") {
		t.Errorf("git read another user's file: %q %q", answer, said)
	}
}

// Linked working directories are served from the repository that they share.
func TestLinkedWorkingDirectory(t *testing.T) {
	fetch, dir := serve(t), repo(t)
	linked := filepath.Join(t.TempDir(), "linked")
	gittest.Git(t, dir, "worktree", "add", "-q", linked)
	if err := fetch(linked); err != nil {
		t.Error(err)
	}
	gittest.Git(t, dir, "clone", "-q", "--bare", dir, dir+"-bare.git")
	for _, bare := range []string{dir + "-bare.git", dir + "-bare"} {
		if err := fetch(bare); err != nil {
			t.Error(err)
		}
	}
}

// When the client closes the connection, its git ends, even one that waits for ever.
func TestHangUpEndsGit(t *testing.T) {
	needRoot(t)
	dir := repo(t)
	if err := syscall.Mkfifo(filepath.Join(dir, ".git/packed-refs"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(dir, ".git"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer theirs.Close()
	time.AfterFunc(time.Second, func() { ours.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), await.Patience)
	defer cancel()
	hung, stop := context.WithCancel(ctx)
	go func() { awaitHangUp(ctx, theirs); stop() }()
	if _, err := (&repository{f, 0, 0}).serve(hung, "", theirs); err == nil || ctx.Err() != nil {
		t.Errorf("got %v, %v, want git to be ended when the connection was", err, ctx.Err())
	}
}

// TestExchangedFiles: whoever exchanges a file of his repository for a pipe, between the look at it and the reading, does
// not keep the role from answering.
func TestExchangedFiles(t *testing.T) {
	dir := t.TempDir()
	git := filepath.Join(dir, "real.git")
	if err := errors.Join(os.MkdirAll(filepath.Join(git, "objects", "aa"), 0o755), os.Mkdir(filepath.Join(git, "refs"), 0o755)); err != nil {
		t.Fatal(err)
	}
	work := filepath.Join(dir, "work")
	if err := errors.Join(os.Mkdir(work, 0o755), os.WriteFile(filepath.Join(work, ".git"), []byte("gitdir: "+git+"\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	for name, exchanged := range map[string]string{
		"the file that leads to the repository": filepath.Join(work, ".git"),
		"a directory of the repository":         filepath.Join(git, "objects", "aa"),
	} {
		pipe := filepath.Join(dir, "pipe")
		if err := unix.Mkfifo(pipe, 0o644); err != nil {
			t.Fatal(err)
		}
		stop := make(chan struct{})
		var exchanging sync.WaitGroup
		exchanging.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_ = unix.Renameat2(unix.AT_FDCWD, pipe, unix.AT_FDCWD, exchanged, unix.RENAME_EXCHANGE)
				}
			}
		})
		for range 5000 {
			done := make(chan struct{})
			go func() {
				defer close(done)
				if r, err := open(work); err == nil {
					r.dir.Close()
				}
			}()
			select {
			case <-done:
				continue
			case <-time.After(5 * time.Second):
				t.Errorf("%s: the role waits for whoever writes the pipe", name)
			}
			break
		}
		close(stop)
		exchanging.Wait()
		for _, path := range []string{pipe, exchanged} { // whichever is the pipe now: ends what waits for it
			if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeNamedPipe != 0 {
				if f, err := os.OpenFile(path, os.O_RDWR, 0); err == nil {
					time.Sleep(100 * time.Millisecond)
					f.Close()
				}
				if path == exchanged {
					_ = unix.Renameat2(unix.AT_FDCWD, pipe, unix.AT_FDCWD, exchanged, unix.RENAME_EXCHANGE)
				}
			}
		}
		if err := os.Remove(pipe); err != nil {
			t.Fatal(err)
		}
	}
}
