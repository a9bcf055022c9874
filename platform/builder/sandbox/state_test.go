package sandbox

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/test/await"
)

// What a room leaves reaches the next room as it was, under whatever uids that has. The
// packer runs in the room: it follows no link, and takes no device, fifo or socket along.
func TestPackedStateFillsAnotherRoom(t *testing.T) {
	needRooms(t)
	first := open(t, builder.Limits{})
	if got := ask(t, first, "litter /state/kept"); got != "ok" {
		t.Fatal(got)
	}
	want := ask(t, first, "list /state/kept")
	var packed bytes.Buffer
	if err := first.Pack(t.Context(), "kept", &packed); err != nil {
		t.Fatal(err)
	}
	for _, foreign := range []string{"fifo", "whiteout", "hello\n"} {
		if bytes.Contains(packed.Bytes(), []byte(foreign)) {
			t.Errorf("the packed state has %s", foreign)
		}
	}
	second, err := Open(roomConfig(t, t.TempDir(), builder.Limits{}, bytes.NewReader(packed.Bytes())))
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	one, _ := first.Range()
	if two, _ := second.Range(); one == two {
		t.Fatalf("both rooms have the uids from %d on", one)
	}
	if got := ask(t, second, "list /state/kept"); got != want || !strings.Contains(got, "deep/file") {
		t.Errorf("the second room: got\n%s\nwant\n%s", got, want)
	}
	if got := ask(t, second, "read /state/kept/deep/file"); got != "text" {
		t.Errorf("its file: %q", got)
	}
}

// A state that ends in the middle, or leads out of StateTarget, opens no room.
func TestWrongStateOpensNoRoom(t *testing.T) {
	needRooms(t)
	entry := func(h tar.Header) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		h.Mode = 0o755
		w.WriteHeader(&h)
		w.Write(make([]byte, h.Size))
		w.Close()
		return b.Bytes()
	}
	after := func(first, second tar.Header) []byte { return append(entry(first)[:512], entry(second)...) }
	file := tar.Header{Name: "f", Typeflag: tar.TypeReg}
	for name, state := range map[string][]byte{
		"broken off": entry(tar.Header{Name: "f", Typeflag: tar.TypeReg, Size: 4096})[:1024],
		"dots":       entry(tar.Header{Name: "../etc/evil", Typeflag: tar.TypeReg}),
		"absolute":   entry(tar.Header{Name: "/etc/evil", Typeflag: tar.TypeReg}),
		"link":       after(tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, tar.Header{Name: "link/hello2", Typeflag: tar.TypeReg}),
		"device":     entry(tar.Header{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}),
		"fifo":       entry(tar.Header{Name: "pipe", Typeflag: tar.TypeFifo}),
		"twice":      after(file, file),
		"owner":      entry(tar.Header{Name: "f", Typeflag: tar.TypeReg, Uid: 500_000_000}), // no such user in the room
	} {
		dir := t.TempDir()
		r, err := Open(roomConfig(t, dir, builder.Limits{}, bytes.NewReader(state)))
		if err == nil {
			r.Close()
			t.Errorf("%s: a room was opened", name)
		} else if !strings.Contains(err.Error(), "unpacking the state") {
			t.Errorf("%s: %v", name, err)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%s: it left %v", name, left)
		}
	}
}

// A reader that has had enough ends the packing, and so do the end of the room and of the
// caller; none of them takes a part for the whole.
func TestPackEnds(t *testing.T) {
	needRooms(t)
	fill := func() *Room {
		r := open(t, builder.Limits{})
		if got := ask(t, r, "fill /state/kept 64"); got != "wrote 64" {
			t.Fatal(got)
		}
		return r
	}
	full := errors.New("enough")
	if err := fill().Pack(t.Context(), "kept", writer(func([]byte) (int, error) { return 0, full })); !errors.Is(err, full) {
		t.Errorf("a full writer: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := fill().Pack(ctx, "kept", writer(func(p []byte) (int, error) { cancel(); return len(p), nil })); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled caller: %v", err)
	}
	r := fill()
	began, closed := make(chan bool), make(chan error)
	var once sync.Once
	go func() { <-began; closed <- r.Close() }()
	if err := r.Pack(t.Context(), "kept", writer(func(p []byte) (int, error) {
		once.Do(func() { close(began) })
		<-r.life.Done()
		return len(p), nil
	})); err == nil {
		t.Error("the room was closed, and the packing was complete")
	}
	if err := await.Value(t, "Close returns", closed); err != nil {
		t.Error(err)
	}
	if err := r.Pack(t.Context(), "kept", io.Discard); err == nil {
		t.Error("an erased room was packed")
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// litter fills a directory with every kind of file that a build can make.
func litter(dir string) string {
	err := errors.Join(
		os.MkdirAll(filepath.Join(dir, "deep"), 0o750), os.WriteFile(filepath.Join(dir, "deep/file"), []byte("text"), 0o600),
		os.Chown(filepath.Join(dir, "deep/file"), 1000, 1_000_000_007), os.Chmod(filepath.Join(dir, "deep/file"), 0o711|fs.ModeSetuid),
		os.Chtimes(filepath.Join(dir, "deep/file"), time.Time{}, time.Unix(1e9, 123456789)),
		os.Link(filepath.Join(dir, "deep/file"), filepath.Join(dir, "hard")), os.Symlink("/etc/hello", filepath.Join(dir, "out")),
		os.WriteFile(filepath.Join(dir, "not\xffutf8"), nil, 0), os.Mkdir(filepath.Join(dir, "closed"), 0),
		syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600), syscall.Mknod(filepath.Join(dir, "whiteout"), syscall.S_IFCHR, 0),
	)
	if err != nil {
		return err.Error()
	}
	return "ok"
}

// listing describes what is in a directory, without what is never packed.
func listing(dir string) string {
	var all []string
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&(fs.ModeNamedPipe|fs.ModeDevice) != 0 {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		line := fmt.Sprintf("%q %v %d:%d", name, info.Mode(), st.Uid, st.Gid)
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			to, _ := os.Readlink(name)
			line += " to " + to
		case d.Type().IsRegular():
			line += fmt.Sprintf(" %d bytes, %d names, %v", info.Size(), st.Nlink, info.ModTime().UnixNano())
		default:
			line += fmt.Sprint(" ", info.ModTime().UnixNano())
		}
		all = append(all, line)
		return nil
	})
	return strings.Join(append(all, fmt.Sprint(err)), " | ")
}
