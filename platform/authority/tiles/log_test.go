package tiles

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/tessera"

	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/tlog"
)

var key = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))

func openLog(t *testing.T, dir string) *Log {
	t.Helper()
	signer, err := tlog.NewSigner("log.example/test", key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := OpenLog(LogConfig{Name: "test log", Dir: filepath.Join(dir, "log"), Record: filepath.Join(dir, "log.vkey"), Signer: signer, PublicKey: key.Public().(ed25519.PublicKey)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(context.Background()) })
	return l
}

func always(entries ...[]byte) func([]byte, tlog.Checkpoint) ([][]byte, error) {
	return func([]byte, tlog.Checkpoint) ([][]byte, error) { return entries, nil }
}

// Entries are in the order in which they were appended, more than one batch of them too, also after a
// restart.
func TestAppend(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	var entries [][]byte
	for i := range 2*batchSize + 100 {
		entries = append(entries, fmt.Append(nil, "entry ", i))
	}
	for _, n := range []int{1, 0, len(entries) - 2} {
		if _, err := l.Append(t.Context(), always(entries[:n]...)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, dir)
	if first, err := l.Append(t.Context(), always(entries[len(entries)-1])); err != nil || first != int64(len(entries)-1) {
		t.Fatalf("got the index %d, %v, want %d", first, err, len(entries)-1)
	}
	cp, err := l.checkpoint(t.Context())
	if err != nil || cp.Size != int64(len(entries)) {
		t.Fatalf("got %d entries, %v, want %d", cp.Size, err, len(entries))
	}
	for i := range cp.Size {
		want := fmt.Append(nil, "entry ", max(0, i-1))
		if i == cp.Size-1 {
			want = entries[i]
		}
		if got, _, err := tlog.Entry(t.Context(), l.Source(), cp, i); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("entry %d: got %q, %v, want %q", i, got, err, want)
		}
	}
	if _, err := l.Append(t.Context(), always(make([]byte, tlog.MaxEntry+1))); err == nil {
		t.Error("an entry that is too long was accepted")
	}
}

// TestUnpublished: the next writer sees an entry that an earlier Append left in the storage, not yet
// published.
func TestUnpublished(t *testing.T) {
	l := openLog(t, t.TempDir())
	if _, err := l.appender.Add(t.Context(), tessera.NewEntry([]byte("a")))(); err != nil { // and nobody awaits the checkpoint
		t.Fatal(err)
	}
	seen := errors.New("seen")
	_, err := l.Append(t.Context(), func(last []byte, cp tlog.Checkpoint) ([][]byte, error) {
		if string(last) != "a" || cp.Size != 1 {
			t.Errorf("got the last entry %q of %d, want a", last, cp.Size)
		}
		return nil, seen
	})
	if !errors.Is(err, seen) {
		t.Errorf("got %v, want %v", err, seen)
	}
}

// An Append whose checkpoint cannot be published fails after a while, and does not keep those after it and
// Close waiting. The next one sees its entry.
func TestNotPublished(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	if _, err := l.Append(t.Context(), always([]byte("a"))); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "log", "checkpoint")
	var broken sync.Once
	breaking := func([]byte, tlog.Checkpoint) ([][]byte, error) {
		var err error
		broken.Do(func() {
			err = errors.Join(os.Rename(path, path+".old"), os.MkdirAll(filepath.Join(path, "in the way"), 0o700))
		})
		return [][]byte{[]byte("b")}, err
	}
	l.patience = 300 * time.Millisecond
	ended := make(chan error, 2)
	for range 2 {
		go func() { _, err := l.Append(t.Context(), breaking); ended <- err }()
	}
	for range 2 {
		select {
		case err := <-ended:
			if err == nil {
				t.Error("an entry that is not published was acknowledged")
			}
		case <-time.After(await.Patience):
			l.cancel() // or the end of the test waits too
			t.Fatal("Append waits for ever")
		}
	}
	if err := errors.Join(os.RemoveAll(path), os.Rename(path+".old", path)); err != nil {
		t.Fatal(err)
	}
	l.patience = publishTimeout
	if _, err := l.Append(t.Context(), func(last []byte, _ tlog.Checkpoint) ([][]byte, error) {
		if string(last) != "b" {
			t.Errorf("got the last entry %q, want b", last)
		}
		return nil, nil
	}); err != nil {
		t.Errorf("after the disk is in order again: %v", err)
	}
}
