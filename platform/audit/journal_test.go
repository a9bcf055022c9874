package audit

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	records "github.com/colophon-build/colophon/audit"
)

// The journal is damaged where entries were acknowledged: the ledger does not start. What a crash
// left at its end was never acknowledged, and goes.
func TestDamagedJournal(t *testing.T) {
	for what, change := range map[string]func([]byte) []byte{
		"a byte in the middle": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"the first byte":       func(b []byte) []byte { b[0] ^= 1; return b },
		"cut":                  func(b []byte) []byte { return b[:len(b)/2] },
		"torn at the end":      func(b []byte) []byte { return append(b, b[:100]...) },
		"zeros at the end":     func(b []byte) []byte { return append(b, make([]byte, 4096)...) },
	} {
		dir := t.TempDir()
		l := open(t, Config{Dir: dir})
		fill(t, l, enrolled(t, l, "gate", ""), 0, 30)
		path := filepath.Join(dir, "journal", name(0))
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		// As after a crash before the tree was durable.
		if err := errors.Join(os.Remove(filepath.Join(dir, "base.json")), os.RemoveAll(filepath.Join(dir, "journal")), os.Mkdir(filepath.Join(dir, "journal"), 0o700), os.WriteFile(path, change(raw), 0o600)); err != nil {
			t.Fatal(err)
		}
		l, err = tryOpen(Config{Dir: dir})
		if err == nil {
			if n := len(whole(t, l)); n != 31 {
				t.Errorf("%s: got %d entries, want 31", what, n)
			}
			l.Close()
		}
		if atEnd := strings.HasSuffix(what, "at the end"); atEnd != (err == nil) {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

// A power cut leaves the parts of the last batch that the disk had written, and not always the first:
// none of its entries was acknowledged, and the ledger starts.
func TestTornBatch(t *testing.T) {
	w := newWriter(t, "gate", "")
	var entries []entry
	for n := range 5 {
		e, _, r, err := records.ParseEntry(w.entry(t, verdict(n)))
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, entry{records.Leaf{Received: time.Now().UTC(), Envelope: e.Envelope}, e.Openings, r, records.ID(e.Envelope)})
	}
	for lost := range 4 { // the part that is not on the disk
		dir := t.TempDir()
		j, err := openJournal(dir, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := j.append(entries[:1]); err != nil {
			t.Fatal(err)
		}
		from := j.good
		if err := j.append(entries[1:]); err != nil {
			t.Fatal(err)
		}
		part := (j.good - from) / 4
		if _, err := j.file.WriteAt(make([]byte, part), from+int64(lost)*part); err != nil {
			t.Fatal(err)
		}
		if err := j.close(); err != nil {
			t.Fatal(err)
		}
		var read int64
		j, err = openJournal(dir, 0, func(index int64, _ entry) { read = index + 1 })
		if err != nil {
			t.Errorf("part %d of 4 is lost: %v", lost, err)
			continue
		}
		if err := j.close(); err != nil || read != 1 || j.next != 1 {
			t.Errorf("part %d of 4 is lost: read %d entries, want 1; %v", lost, read, err)
		}
	}
}

// Records of a run come in any order, since some are sent at the same time. What came before the ledger
// started again, or before it forgot the run, is not taken a second time.
func TestOnce(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Config{Dir: dir})
	w := enrolled(t, l, "gate", "")
	first, second := w.entry(t, verdict(1)), w.entry(t, verdict(2))
	a, err := l.Append(context.Background(), second)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, Config{Dir: dir})
	for _, data := range [][]byte{first, second} {
		again, err := l.Append(context.Background(), data)
		if err != nil {
			t.Fatal(err)
		}
		if string(data) == string(second) && (!again.Known || again.Index != a.Index) {
			t.Errorf("sent again after a start: got entry %d, known %v, want %d", again.Index, again.Known, a.Index)
		}
	}
	// In the batch after many runs, the ledger has forgotten this one.
	third, fourth := w.entry(t, verdict(3)), w.entry(t, verdict(4))
	a, err = l.Append(context.Background(), fourth)
	if err != nil {
		t.Fatal(err)
	}
	turned := make(chan int64, 1)
	clear(l.runs) // sequence waits: nothing was sent
	l.turns <- turned
	<-turned
	for _, data := range [][]byte{third, fourth} {
		again, err := l.Append(context.Background(), data)
		if err != nil {
			t.Fatal(err)
		}
		if string(data) == string(fourth) && (!again.Known || again.Index != a.Index) {
			t.Errorf("sent again after its run was forgotten: got entry %d, known %v, want %d", again.Index, again.Known, a.Index)
		}
	}
}
