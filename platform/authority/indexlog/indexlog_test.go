package indexlog

import (
	"context"
	"crypto/ed25519"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/internal/intact"
	"github.com/colophon-build/colophon/platform/authority/tiles"
	"github.com/colophon-build/colophon/search"
	"github.com/colophon-build/colophon/test/needs"
	"github.com/colophon-build/colophon/tlog"
)

var key = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))

// leaf is an entry about a log of one or two entries, the first of which is "a".
func leaf(t testing.TB, size int64, root string) []byte {
	t.Helper()
	signer, err := tlog.NewSigner("log.example", key)
	if err != nil {
		t.Fatal(err)
	}
	cp := tlog.Checkpoint{Origin: "log.example", Size: size, Root: tlog.EmptyRoot()}
	if size == 1 {
		cp.Root = tlog.LeafHash([]byte("a"))
	}
	signed, err := note.Sign(&note.Note{Text: cp.String()}, signer)
	if err != nil {
		t.Fatal(err)
	}
	return search.Leaf{Root: tlog.LeafHash([]byte(root)), Checkpoint: string(signed)}.Bytes()
}

func open(dir string) (*Server, error) {
	signer, err := tlog.NewSigner("log.example/index", key)
	if err != nil {
		return nil, err
	}
	of, err := tlog.NewVerifier("log.example", key.Public())
	if err != nil {
		return nil, err
	}
	cfg := tiles.LogConfig{Dir: filepath.Join(dir, "index"), Record: filepath.Join(dir, "index.vkey"), Signer: signer, PublicKey: key.Public().(ed25519.PublicKey)}
	return New(Config{LogConfig: cfg, OfVerifier: of, Of: tlog.Dir(filepath.Join(dir, "none"))})
}

func start(t testing.TB, dir string) *Server {
	t.Helper()
	s, err := open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(context.Background()) })
	return s
}

func TestAppend(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	mux := http.NewServeMux()
	s.Register(mux)
	mux.Handle("POST "+PathAdd, s.Add())
	add := func(entry []byte) (int, string) {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodPost, PathAdd, strings.NewReader(string(entry))))
		return w.Code, strings.TrimSpace(w.Body.String())
	}
	first, second := leaf(t, 0, "nothing"), leaf(t, 1, "a")
	for _, c := range []struct {
		what  string
		entry []byte
		code  int
		body  string
	}{
		{"malformed", []byte("x"), 400, "entry of the index log"},
		{"first", first, 200, `{"index":0}`},
		{"again", first, 200, `{"index":0}`},
		{"second", second, 200, `{"index":1}`},
		{"an older one", first, 409, "other entries"},
		{"another root", leaf(t, 1, "b"), 409, "other entries"},
		{"too long", make([]byte, 70000), 400, "too large"},
	} {
		if code, body := add(c.entry); code != c.code || !strings.Contains(body, c.body) {
			t.Errorf("%s: got %d %s, want %d %s", c.what, code, body, c.code, c.body)
		}
	}
	for path, want := range map[string]int{"/index/checkpoint": 200, "/index/tile/0/000.p/2": 200, "/index/tile/0/000.p/3": 404, "/index/tile/entries/000.p/1": 200, "/index/tile/1/000.p/1": 404, "/index/": 404} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != want {
			t.Errorf("%s: got %d, want %d", path, w.Code, want)
		}
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	s = start(t, dir)
	if at, err := s.Append(t.Context(), second); err != nil || at != 1 {
		t.Errorf("after a restart: got %d, %v", at, err)
	}
	if _, err := s.Append(t.Context(), leaf(t, 0, "c")); !errors.Is(err, tiles.ErrConflict) {
		t.Errorf("got %v, want a conflict", err)
	}
}

// A log that lost its files, or whose files were damaged, does not start as a new one.
func TestLostAndDamaged(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	if _, err := s.Append(t.Context(), leaf(t, 0, "x")); err != nil {
		t.Fatal(err)
	}
	scrub := func() int {
		var r intact.Report
		if err := Scrub(t.Context(), &r, filepath.Join(dir, "index.vkey"), filepath.Join(dir, "index")); err != nil {
			t.Fatal(err)
		}
		return r.Damaged
	}
	if n := scrub(); n != 0 {
		t.Errorf("scrub found %d damaged files", n)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	tile := filepath.Join(dir, "index", "tile", "0", "000.p", "1")
	if err := os.WriteFile(tile, make([]byte, 32), 0o644); err != nil {
		t.Fatal(err)
	}
	if n := scrub(); n == 0 {
		t.Error("scrub found no damage")
	}
	if err := os.RemoveAll(filepath.Join(dir, "index")); err != nil {
		t.Fatal(err)
	}
	if _, err := open(dir); err == nil || !strings.Contains(err.Error(), "restore it from a backup") {
		t.Errorf("without its files: got %v", err)
	}
}

// On a full disk nothing is acknowledged, and the log goes on when there is space again.
func TestDiskFull(t *testing.T) {
	needs.Root(t, "mounting a small disk")
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		needs.Missing(t, "no tmpfs can be mounted here: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	s := start(t, dir)
	first, second := leaf(t, 0, "nothing"), leaf(t, 1, "a")
	if _, err := s.Append(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1 << 12, 1} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, n))
		}
	}
	_, full := s.Append(t.Context(), second)
	if full == nil {
		t.Error("an entry was acknowledged on a full disk")
	}
	if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
		t.Fatal(err)
	}
	at, err := s.Append(t.Context(), second)
	if err != nil || at != 1 {
		t.Errorf("with space again: got %d, %v", at, err)
	}
	t.Logf("on the full disk: %v", full)
}
