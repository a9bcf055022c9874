package audit

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/tlog"

	records "github.com/colophon-build/colophon/audit"
)

// What is erased is in no file any more, and the tree proves the same as before.
func TestErase(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Config{Dir: dir})
	w := enrolled(t, l, "gate", "")
	fill(t, l, w, 0, 300)
	before := l.current.Load().Checkpoint
	all := whole(t, l)
	victim := all[17]
	secret := victim.Opened.By.User.Value
	if !containsAnywhere(t, dir, secret) {
		t.Fatal("the test looks for nothing")
	}
	if err := l.Erase(context.Background(), "admin", "request 17", []records.Range{{From: victim.Index, To: victim.Index + 1}}); err != nil {
		t.Fatal(err)
	}
	settled(t, l)
	if containsAnywhere(t, dir, secret) {
		t.Errorf("%s is still in a file", secret)
	}
	if err := tlog.Extends(context.Background(), tlog.Dir(l.dir), before, l.current.Load().Checkpoint); err != nil {
		t.Error(err)
	}
	all = whole(t, l)
	if len(all[17].Openings) != 0 || len(all[18].Openings) == 0 || all[len(all)-1].Record.Kind != records.KindErasure {
		t.Errorf("got %+v", all[17])
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, Config{Dir: dir})
	if all = whole(t, l); len(all[17].Openings) != 0 {
		t.Error("the opening came back")
	}
}

// What is erased is not in the index either, nor in its write-ahead log while somebody reads; and what
// a record says openly is still found.
func TestEraseIndex(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Config{Dir: dir})
	w := enrolled(t, l, "gate", "")
	v := verdict(1)
	v.Where.Namespace, v.About.Image = records.Shown("project-nightingale"), records.Shown("registry.example.com/open:v1")
	a, err := l.Append(context.Background(), w.entry(t, v))
	if err != nil {
		t.Fatal(err)
	}
	settled(t, l)
	reader, err := l.index.read.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Rollback()
	var n int
	if err := reader.QueryRow("SELECT count(*) FROM record").Scan(&n); err != nil {
		t.Fatal(err)
	}
	if _, err := l.index.db.Exec("PRAGMA busy_timeout = 100"); err != nil {
		t.Fatal(err)
	}
	ranges := []records.Range{{From: a.Index, To: a.Index + 1}}
	if err := l.Erase(context.Background(), "admin", "", ranges); err == nil && containsAnywhere(t, dir, "project-nightingale") {
		t.Error("the erasure is done, and the namespace is still in a file")
	}
	if err := reader.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := l.Erase(context.Background(), "admin", "", ranges); err != nil {
		t.Fatal(err)
	}
	if containsAnywhere(t, dir, "project-nightingale") {
		t.Error("the namespace is still in a file")
	}
	found, err := l.Answer(context.Background(), records.Filter{Image: "registry.example.com/open"}, 1<<62, 10)
	if err != nil || len(found.Records) != 1 {
		t.Errorf("by the image, which was not erased: got %+v, %v", found, err)
	}
}

func containsAnywhere(t *testing.T, dir, text string) (found bool) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		// The JSON of openings has the text, and so would the index.
		found = found || strings.Contains(string(raw), text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// Old segments go, whole; the tree, later entries and signatures stay.
func TestRetire(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	cfg := Config{Dir: dir, Segment: 256, Now: func() time.Time { return now }}
	l := open(t, cfg)
	w := enrolled(t, l, "gate", "")
	fill(t, l, w, 0, 600)
	now = now.Add(time.Hour)
	fill(t, l, w, 600, 300)
	if err := l.Retire(context.Background(), 30*time.Minute); err != nil {
		t.Fatal(err)
	}
	settled(t, l)
	all := whole(t, l)
	// Bundle 0 stays, for it has the enrolment; bundle 1 goes; bundle 2 has new entries.
	if len(all) != 902-256 || all[256].Index != 512 {
		t.Errorf("got %d entries, the one after the first bundle is %d", len(all), all[256].Index)
	}
	for _, path := range []string{"segments/000", "segments/001", "segments/002"} {
		raw, err := os.ReadFile(filepath.Join(l.dir, path))
		if err != nil {
			t.Fatal(err)
		}
		v, err := note.NewVerifier(l.Key())
		if err != nil {
			t.Fatal(err)
		}
		cp, err := tlog.OpenCheckpoint(raw, v)
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.Extends(context.Background(), tlog.Dir(l.dir), cp, l.current.Load().Checkpoint); err != nil {
			t.Error(err)
		}
	}
	a, err := l.Answer(context.Background(), records.Filter{Kinds: []records.Kind{records.KindAdmission}}, 1<<62, 1000)
	if err != nil || len(a.Records) != 900-256 {
		t.Errorf("got %d records, %v", len(a.Records), err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	os.Remove(filepath.Join(dir, "index.db"))
	l = open(t, cfg)
	if n := len(whole(t, l)); n != 902-256 {
		t.Errorf("after a restart: got %d entries", n)
	}
}

// A record that retention deleted is not recorded a second time, by whoever kept a copy and sends it: not
// after a restart, and not with an index that is made again.
func TestRetiredIsNotTakenAgain(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	cfg := Config{Dir: dir, Segment: 256, Now: func() time.Time { return now }}
	l := open(t, cfg)
	w, silent := enrolled(t, l, "gate", ""), enrolled(t, l, "gate", "silent") // nothing is left of the run of silent
	fill(t, l, w, 0, 260)
	old := map[*writer][]byte{}
	first := map[*writer]records.Added{}
	for _, by := range []*writer{w, silent} {
		old[by] = by.entry(t, verdict(260))
		var err error
		if first[by], err = l.Append(context.Background(), old[by]); err != nil {
			t.Fatal(err)
		}
	}
	fill(t, l, w, 261, 300)
	now = now.Add(time.Hour)
	if err := l.Retire(context.Background(), 30*time.Minute); err != nil {
		t.Fatal(err)
	}
	settled(t, l)
	size := l.current.Load().Size
	for _, restart := range []string{"", "with the index", "without the index"} {
		if restart != "" {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if restart == "without the index" {
				for _, suffix := range []string{"", "-wal", "-shm"} {
					os.Remove(filepath.Join(dir, "index.db"+suffix))
				}
			}
			l = open(t, cfg)
		}
		for by, data := range old {
			if _, err := l.entry(context.Background(), first[by].Index); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("%s: the entry is not deleted: %v", restart, err)
			}
			again, err := l.Append(context.Background(), data)
			settled(t, l)
			if err != nil || !again.Known || again.Index != first[by].Index || l.current.Load().Size != size {
				t.Errorf("%s: %q: got %+v, %v and %d entries, want %+v and %d entries", restart, by.Instance, again, err, l.current.Load().Size, first[by], size)
			}
		}
	}
	fill(t, l, w, 600, 10) // new records of the same run are taken
	if got := l.current.Load().Size; got != size+10 {
		t.Errorf("got %d entries, want %d", got, size+10)
	}
	// Without the IDs, the ledger starts, and says what that means.
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"index.db", "index.db-wal", "index.db-shm", "retired"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	var said strings.Builder
	cfg.Log = slog.New(slog.NewTextHandler(&said, nil))
	if err := open(t, cfg).Close(); err != nil || !strings.Contains(said.String(), "IDs of records that retention deleted are missing") {
		t.Errorf("got %v, and the log %q", err, said.String())
	}
}
