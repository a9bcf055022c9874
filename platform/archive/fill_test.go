package archive

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/colophon-build/colophon/platform/api"
)

// fillDir is the environment variable with the directory of an archive. If it is set, the test binary
// fills the archive with pieces until it is killed, and prints each.
const fillDir = "ARCHIVE_FILL_DIR"

// earlier is a walk over n pieces of earlier evidence.
func earlier(a *Archive, n int, each func(i int) error) func(context.Context) error {
	return func(ctx context.Context) error {
		for i := range n {
			text := fmt.Sprint("earlier ", i)
			manifest := fmt.Appendf(nil, `{"layers": [{"mediaType": "application/vnd.in-toto+json", "digest": "sha256:%s", "size": %d}], "subject": {"digest": "sha256:%s"}}`,
				sumOf([]byte(text)), len(text), sumOf([]byte("image "+text)))
			err := a.Manifest(ctx, manifest, func(string) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil })
			if err = errors.Join(err, each(i)); err != nil {
				return err
			}
		}
		return nil
	}
}

func list(t *testing.T, a *Archive) (l api.KeptList) {
	t.Helper()
	mux := http.NewServeMux()
	a.Register(mux, func(string) (bool, bool) { return true, true })
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", api.PathArchive, nil))
	if err := json.Unmarshal(w.Body.Bytes(), &l); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	return l
}

// TestFill: earlier evidence is kept once, also if filling fails and starts again; until it has ended,
// lists say so, and then nobody walks over the registry any more.
func TestFill(t *testing.T) {
	dir := t.TempDir()
	a := open(t, dir)
	failed := errors.New("no power")
	if err := a.Fill(t.Context(), earlier(a, 5, func(i int) error {
		if i == 2 {
			return failed
		}
		return nil
	})); !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
	if l := list(t, a); !l.Filling || len(l.Kept) != 3 {
		t.Errorf("after a failure: got %+v", l)
	}
	a.Close()
	a = open(t, dir)
	if l := list(t, a); !l.Filling {
		t.Error("after a start, an archive that is not filled does not say so")
	}
	if err := a.Fill(t.Context(), earlier(a, 5, func(int) error { return nil })); err != nil {
		t.Error(err)
	}
	if l := list(t, a); l.Filling || len(l.Kept) != 5 || l.Kept[4].Number != 5 {
		t.Errorf("got %+v, want each piece once", l)
	}
	a.Close()
	a = open(t, dir)
	if err := a.Fill(t.Context(), func(context.Context) error { return errors.New("it is filled twice") }); err != nil || list(t, a).Filling {
		t.Errorf("got %v, %v", err, list(t, a).Filling)
	}
}

// TestFillAfterLoss: an archive whose records are lost is not filled, also once something is pushed again.
func TestFillAfterLoss(t *testing.T) {
	dir := t.TempDir()
	a := open(t, dir)
	if err := a.Fill(t.Context(), earlier(a, 3, func(int) error { return nil })); err != nil {
		t.Fatal(err)
	}
	a.Close()
	for _, name := range []string{journalFile, "index.db"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	a = open(t, dir)
	if !list(t, a).Filling {
		t.Error("an archive without records says that it has everything")
	}
	if err := earlier(a, 1, func(int) error { return nil })(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.Close()
	a = open(t, dir)
	if l := list(t, a); !l.Filling || len(l.Kept) != 1 {
		t.Errorf("after a push: got %+v", l)
	}
	if err := a.Fill(t.Context(), earlier(a, 3, func(int) error { return nil })); err != nil || len(list(t, a).Kept) != 3 {
		t.Errorf("got %v, %+v", err, list(t, a))
	}
}

// TestFillKilled: after kill -9 in the middle, filling starts again, and each piece is kept once.
func TestFillKilled(t *testing.T) {
	dir := t.TempDir()
	const n = 40
	for range 3 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), fillDir+"="+dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Run(); err == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("got %v, want that it was killed; %s", err, &said)
		}
	}
	a := open(t, dir)
	if l := list(t, a); !l.Filling || len(l.Kept) == 0 || len(l.Kept) >= n {
		t.Fatalf("got %d pieces, filling %v: this proves little", len(l.Kept), l.Filling)
	}
	if err := a.Fill(t.Context(), earlier(a, n, func(int) error { return nil })); err != nil {
		t.Fatal(err)
	}
	if l := list(t, a); l.Filling || len(l.Kept) != n {
		t.Errorf("got %d pieces, filling %v, want %d", len(l.Kept), l.Filling, n)
	}
}

// killedFill fills an archive, and kills its process after some pieces that no earlier process had.
func killedFill(dir string) error {
	a, err := Open(Config{Dir: dir})
	if err != nil {
		return err
	}
	before := int(a.index.number)
	return a.Fill(context.Background(), earlier(a, 40, func(i int) error {
		if i == before+7 {
			return syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		return nil
	}))
}

// TestManifestKeepsTheRest: one piece that is gone or cannot be read does not keep the others away.
func TestManifestKeepsTheRest(t *testing.T) {
	a := open(t, t.TempDir())
	var layers []string
	for _, text := range []string{"gone", "damaged", "good"} {
		layers = append(layers, fmt.Sprintf(`{"mediaType": "application/vnd.in-toto+json", "digest": "sha256:%s", "size": 9}`, sumOf([]byte(text))))
	}
	damaged := errors.New("damaged")
	err := a.Manifest(t.Context(), fmt.Appendf(nil, `{"layers": [%s]}`, strings.Join(layers, ",")), func(d string) (io.ReadCloser, error) {
		switch d {
		case "sha256:" + sumOf([]byte("gone")):
			return nil, nil
		case "sha256:" + sumOf([]byte("damaged")):
			return nil, damaged
		}
		return io.NopCloser(strings.NewReader("good")), nil
	})
	if !errors.Is(err, damaged) || len(list(t, a).Kept) != 1 {
		t.Errorf("got %v and %+v, want the error and one piece", err, list(t, a))
	}
}
