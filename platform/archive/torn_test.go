package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/search"
)

// manySubjects is a statement whose line in the journal has many blocks of a disk.
func manySubjects(n int) []byte {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf(`{"digest":{"sha256":"%064x"}}`, i))
	}
	return fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","subject":[%s],"predicateType":"https://example.com/p","predicate":{}}`, strings.Join(list, ","))
}

// TestTorn drops blocks of the journal, as a power cut does: what was acknowledged is there and
// found, the line that was not is cut, and the client can push again. Damage of what was
// acknowledged is refused.
func TestTorn(t *testing.T) {
	const block = 4096
	subject := "sha256:" + sumOf([]byte("subject"))
	dir := t.TempDir()
	a := open(t, dir)
	earlier := [][]byte{[]byte("one"), manySubjects(150), []byte("three")}
	for _, raw := range earlier {
		if _, err := a.keep(t.Context(), api.FormStatement, raw, nil, subject); err != nil {
			t.Fatal(err)
		}
	}
	a.Close()
	before := copyOf(t, dir)
	a = open(t, dir)
	last := manySubjects(250)
	if _, err := a.keep(t.Context(), api.FormStatement, last, nil, subject); err != nil {
		t.Fatal(err)
	}
	a.Close()
	path := filepath.Join(dir, journalFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(filepath.Join(before, journalFile))
	if err != nil {
		t.Fatal(err)
	}
	random := rand.NewChaCha8([32]byte{1})
	fills := map[string]func([]byte){
		"zero bytes":  func(b []byte) { clear(b) },
		"line breaks": func(b []byte) { copy(b, bytes.Repeat([]byte("\n"), len(b))) },
		"any bytes":   func(b []byte) { random.Read(b) },
		"older lines": func(b []byte) { copy(b, bytes.Repeat([]byte("x\n0 {}\n"), len(b))) },
	}
	first, end := len(old)/block+1, len(whole)/block // blocks that have nothing but the last line
	for name, fill := range fills {
		for b := first; b < end; b++ {
			for _, index := range []bool{true, false} {
				torn := bytes.Clone(whole)
				fill(torn[b*block : (b+1)*block])
				crashed := copyOf(t, before)
				if err := os.WriteFile(filepath.Join(crashed, journalFile), torn, 0o600); err != nil {
					t.Fatal(err)
				}
				if !index { // it is a cache: it can be lost too
					os.Remove(filepath.Join(crashed, "index.db"))
				}
				var said bytes.Buffer
				a, err := Open(Config{Dir: crashed, Log: slog.New(slog.NewTextHandler(&said, nil))})
				if err != nil {
					t.Fatalf("%s in block %d: %v", name, b, err)
				}
				a.wants(t, subject, earlier...)
				if !strings.Contains(said.String(), "torn") {
					t.Errorf("%s in block %d: it does not say what it cut: %s", name, b, &said)
				}
				if kept, err := os.ReadFile(filepath.Join(crashed, journalFile+".torn")); err != nil || !bytes.Equal(kept, torn[len(old):]) {
					t.Errorf("%s in block %d: what was cut is not kept: %v", name, b, err)
				}
				if _, err := a.keep(t.Context(), api.FormStatement, last, nil, subject); err != nil {
					t.Error(err)
				}
				a.wants(t, subject, append(earlier[:3:3], last)...)
				a.Close()
			}
		}
	}
	for b := range first { // also the block with the end of the last acknowledged line
		damaged := bytes.Clone(whole)
		clear(damaged[b*block : min((b+1)*block, len(old))])
		crashed := copyOf(t, dir)
		os.Remove(filepath.Join(crashed, "index.db"))
		if err := os.WriteFile(filepath.Join(crashed, journalFile), damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		refuses(t, crashed, "acknowledged evidence is missing")
	}
	// The index knows that the last line was acknowledged.
	damaged := bytes.Clone(whole)
	clear(damaged[len(old) : len(old)+200])
	if err := os.WriteFile(path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	a = open(t, dir)
	if got := a.find(t, subject); len(got) != 4 {
		t.Errorf("the index has it: got %d pieces, want 4", len(got))
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, damaged) {
		t.Errorf("an acknowledged line was cut: %v", err)
	}
}

// TestHeld: however many push at the same time, only maxHeld pieces are in memory.
func TestHeld(t *testing.T) {
	a := open(t, t.TempDir())
	reading, goOn := make(chan bool, 100), make(chan bool)
	done := make(chan error, 100)
	const pushes = 3 * maxHeld
	for i := range pushes {
		raw := fmt.Append(nil, "piece ", i)
		m := attach(t, "", content{attest.PayloadType, raw, nil})
		go func() {
			done <- a.Manifest(t.Context(), m.manifest, func(string) (io.ReadCloser, error) {
				reading <- true
				<-goOn
				return io.NopCloser(bytes.NewReader(raw)), nil
			})
		}()
	}
	for range maxHeld {
		<-reading
	}
	time.Sleep(50 * time.Millisecond)
	if n := len(reading); n > 0 {
		t.Errorf("%d pieces are read, want at most %d", maxHeld+n, maxHeld)
	}
	// Who waits and leaves is not waited for.
	left, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Manifest(left, attach(t, "", content{attest.PayloadType, []byte("x"), nil}).manifest, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	close(goOn)
	for range pushes {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestRecords: the records come in order, in parts, from any number on, and after a restart the same; those of
// the first releases too.
func TestRecords(t *testing.T) {
	dir := t.TempDir()
	a := open(t, dir)
	subject := "sha256:" + sumOf([]byte("subject"))
	const n = maxRecords + 5
	for i := range n {
		if _, err := a.keep(t.Context(), api.FormStatement, fmt.Append(nil, i), nil, subject); err != nil {
			t.Fatal(err)
		}
	}
	read := func(a *Archive, after int64) (all [][]byte) {
		t.Helper()
		for {
			list, err := a.Records(after)
			if err != nil {
				t.Fatal(err)
			}
			if len(list.Entries) == 0 {
				return all
			}
			if len(list.Entries) > maxRecords {
				t.Fatalf("got %d records at once", len(list.Entries))
			}
			all, after = append(all, list.Entries...), after+int64(len(list.Entries))
		}
	}
	all := read(a, 0)
	for i, entry := range all {
		if r, err := search.ParseRecord(entry); err != nil || r.Number != int64(i)+1 || r.Attached != subject {
			t.Fatalf("record %d: got %s, %v", i+1, entry, err)
		}
	}
	if len(all) != n || len(read(a, n-1)) != 1 || len(read(a, 3)) != n-3 {
		t.Errorf("got %d records, want %d", len(all), n)
	}
	if _, err := a.Records(n + 1); !errors.Is(err, errShort) {
		t.Errorf("got %v, want %v", err, errShort)
	}
	a.Close()
	// Lines without "attached", as the first releases wrote them.
	path := filepath.Join(dir, journalFile)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var old bytes.Buffer
	for line := range strings.Lines(string(data)) {
		_, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		text = strings.Replace(text, `,"attached":"`+subject+`"`, "", 1)
		fmt.Fprintf(&old, "%s %s\n", sumOf([]byte(text)), text)
	}
	if err := os.WriteFile(path, old.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	os.Remove(filepath.Join(dir, "index.db"))
	if again := read(open(t, dir), 0); len(again) != n || !bytes.Equal(again[7], all[7]) {
		t.Errorf("of the first releases' lines: got %d records", len(again))
	}
}
