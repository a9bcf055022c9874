package gateway

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func put(t *testing.T, s *store, text string) (path string) {
	t.Helper()
	b, err := s.create()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(b, text); err != nil {
		t.Fatal(err)
	}
	if err := b.commit(true); err != nil {
		t.Fatal(err)
	}
	return s.path(hexSum(text))
}

func TestStoreKeepsItsSize(t *testing.T) {
	dir := t.TempDir()
	s, err := openStore(dir, 100_000)
	if err != nil {
		t.Fatal(err)
	}
	text := func(i int) string { return strings.Repeat(fmt.Sprint(i%10), 10_000) + fmt.Sprint(i) }
	for i := range 30 {
		put(t, s, text(i))
		if _, err := s.open(hexSum(text(0)), int64(len(text(0))), nil); err != nil {
			t.Fatalf("what is in use was removed: %v", err)
		}
	}
	var total int64
	filepath.Walk(dir, func(_ string, info os.FileInfo, _ error) error {
		if info.Mode().IsRegular() {
			total += info.Size()
		}
		return nil
	})
	if total > 100_010 {
		t.Errorf("the store has %d bytes, want 100000 at most", total)
	}
	if _, err := s.open(hexSum(text(29)), int64(len(text(29))), nil); err != nil {
		t.Errorf("what came last was removed: %v", err)
	}
	if _, err := s.open(hexSum(text(1)), int64(len(text(1))), nil); !os.IsNotExist(err) {
		t.Errorf("got %v, want the oldest to be removed", err)
	}
	// What says the size is lost in a crash.
	if err := os.WriteFile(filepath.Join(dir, "size"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openStore(dir, 30_000); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(dir + "/*/*"); len(left) > 3 {
		t.Errorf("got %d bodies, want what 30000 bytes hold", len(left))
	}
	b, err := s.create()
	if err != nil {
		t.Fatal(err)
	}
	defer b.discard()
	if _, err := b.Write(make([]byte, 100_001)); err == nil {
		t.Error("a body larger than the store was taken")
	}
}

// A crash leaves no half file under a digest's name, and what it leaves is swept.
func TestStoreAfterACrash(t *testing.T) {
	dir := t.TempDir()
	s, err := openStore(dir, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.create()
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(b, "half of it")
	if _, err := s.open(hexSum("half of it"), 10, nil); !os.IsNotExist(err) {
		t.Errorf("got %v, want nothing", err)
	}
	fresh, err := s.create()
	if err != nil {
		t.Fatal(err)
	}
	old := fresh.f.Name()
	if out, err := filepath.Glob(dir + "/*"); err != nil || len(out) != 4 { // two, the size and its lock
		t.Fatalf("got %v, %v", out, err)
	}
	past := b.f.Name()
	if err := os.Chtimes(past, longAgo, longAgo); err != nil {
		t.Fatal(err)
	}
	if _, err := openStore(dir, 1<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(past); !os.IsNotExist(err) {
		t.Errorf("what a crash left is still there: %v", err)
	}
	if _, err := os.Stat(old); err != nil {
		t.Errorf("what another gateway is writing was swept: %v", err)
	}
}

func TestStoreOfManyGateways(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for g := range 4 {
		s, err := openStore(dir, 50_000)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for i := range 100 {
				text := strings.Repeat(fmt.Sprint(i%20), 1000+i%20)
				b, err := s.create()
				if err == nil {
					io.WriteString(b, text)
					err = b.commit(true)
				}
				if err != nil {
					t.Errorf("gateway %d: %v", g, err)
				}
				body, err := s.open(hexSum(text), int64(len(text)), nil)
				if os.IsNotExist(err) {
					continue // another one needed the space
				}
				if err != nil {
					t.Errorf("gateway %d: %v", g, err)
					continue
				}
				if got, err := io.ReadAll(body); string(got) != text || err != nil {
					t.Errorf("gateway %d: got %d bytes, %v", g, len(got), err)
				}
			}
		})
	}
	wg.Wait()
}

// registry is a world that wants a token, another one each time, and that signs
// where its blobs are.
type registry struct {
	mu      sync.Mutex
	url     string
	n       int
	valid   map[string]bool
	stolen  []string // tokens that arrived where they do not belong
	sigs    map[string]bool
	expired bool
}

// Recording a body again repairs the store.
func TestStoreIsRepaired(t *testing.T) {
	s, err := openStore(t.TempDir(), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"small", strings.Repeat("x", small+1)} {
		name := put(t, s, text)
		os.Remove(name)
		if err := os.WriteFile(name, []byte("y"+text[1:]), 0o600); err != nil {
			t.Fatal(err)
		}
		put(t, s, text)
		if got, err := os.ReadFile(name); err != nil || string(got) != text {
			t.Errorf("%d bytes: got %.20q, %v, want the bytes that were recorded", len(text), got, err)
		}
	}
}

// TestTrim: the least recently used bodies go, and 90 % of the maximum stays.
func TestTrim(t *testing.T) {
	s, err := openStore(t.TempDir(), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 11 {
		put(t, s, fmt.Sprintf("%010d", i))
	}
	s.max = 100 // 11 bodies of 10 bytes: two must go
	if total, err := s.trim(); err != nil || total != 90 {
		t.Errorf("got %d bytes, %v, want 90", total, err)
	}
	if left, _ := filepath.Glob(s.dir + "/*/*"); len(left) != 9 {
		t.Errorf("got %d bodies, want 9", len(left))
	}
}

// TestStoreInDisorder: a directory in the place of a body is not damage that the store
// repairs, a store that cannot be trimmed does not grow, and one that is gone says so.
func TestStoreInDisorder(t *testing.T) {
	s, err := openStore(t.TempDir(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	name := s.path(hexSum("x"))
	if err := os.MkdirAll(filepath.Join(name, "below"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{1, small + 1} {
		_, err := s.open(hexSum("x"), size, nil)
		if _, damaged := errors.AsType[*mismatchError](err); err == nil || damaged || os.IsNotExist(err) {
			t.Errorf("a directory for %d bytes: got %v, want an error that is neither damage nor absence", size, err)
		}
	}
	s.max = 1
	if err := s.account(2); err == nil {
		t.Error("a store that cannot be trimmed accepted more")
	}
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	if err := s.account(0); err == nil {
		t.Error("a store that is gone accepted more")
	}
}
