package platform

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/colophon-build/colophon/platform/zone"
)

// TestMain also is the main function of the process that TestHashingEnds starts.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == roleHasher {
		if err := RunRole(context.Background(), roleHasher, os.Stdin); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestHashingEnds: the modules of a build are hashed in a process apart, which is killed when its time is over.
func TestHashingEnds(t *testing.T) {
	var module bytes.Buffer
	w := zip.NewWriter(&module)
	f, err := w.Create("example.com/m@v1.0.0/go.mod")
	if err == nil {
		_, err = f.Write([]byte("module example.com/m\n"))
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(module.Bytes())
	name, store := hex.EncodeToString(digest[:]), t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(store, name[:2]), 0o700), os.WriteFile(filepath.Join(store, name[:2], name), module.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	h := newHasher(roomsSettings{Hasher: zone.Zone{Memory: 1 << 30}, Store: store, Sums: t.TempDir()}, zone.Child[roomsSettings]{})
	if h.most != time.Minute {
		t.Errorf("got %s for one build, docs/limits.md says a minute", h.most)
	}
	if got, err := h.hash([]string{name}); err != nil || len(got) != 1 || got[0].SHA256 != name {
		t.Errorf("got %v, %v", got, err)
	}
	h.most = time.Second
	all := slices.Repeat([]string{name}, 1_000_000) // which take much longer
	if got, err := h.hash(all); !errors.Is(err, context.DeadlineExceeded) || len(got) == len(all) {
		t.Errorf("after its time: got %d sums, %v", len(got), err)
	}
}
