package log

import (
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/internal/intact"
)

// A log that was restored to an older state does not start: it would give two entries the
// same index.
func TestRolledBackLogIsRefused(t *testing.T) {
	cfg := config(t.TempDir())
	r := start(t, cfg)
	r.add(t, request(t, "one"))
	r.close()
	backup := t.TempDir()
	if err := os.CopyFS(backup, os.DirFS(filepath.Join(cfg.Dir, "tiles"))); err != nil {
		t.Fatal(err)
	}
	r = start(t, cfg)
	r.add(t, request(t, "two"))
	r.close()
	restore := func() {
		t.Helper()
		if err := os.RemoveAll(filepath.Join(cfg.Dir, "tiles")); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(filepath.Join(cfg.Dir, "tiles"), os.DirFS(backup)); err != nil {
			t.Fatal(err)
		}
	}
	restore()
	refused(t, cfg, "the index has 2 entries, the log only 1")

	// The operator may accept the older state. New entries then make a fork, which the
	// old index, restored, also detects.
	index, err := os.ReadFile(filepath.Join(cfg.Dir, "index.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(cfg.Dir, "index.db")); err != nil {
		t.Fatal(err)
	}
	r = start(t, cfg)
	r.add(t, request(t, "another two"))
	r.close()
	if err := os.WriteFile(filepath.Join(cfg.Dir, "index.db"), index, 0o644); err != nil {
		t.Fatal(err)
	}
	refused(t, cfg, "acknowledged entries were changed")
}

// A checkpoint that does not extend the last is never served.
func TestForkIsNotServed(t *testing.T) {
	one, two := start(t, config(t.TempDir())), start(t, config(t.TempDir()))
	one.add(t, request(t, "one"))
	two.add(t, request(t, "two"))
	two.add(t, request(t, "three"))
	v, err := follow(t.Context(), two.tiles, two.verifier, one.current.Load())
	if err == nil || !strings.Contains(err.Error(), "are not a prefix") {
		t.Fatalf("got %v, %v, want an error that says that it is not a prefix", v, err)
	}
	if _, err := follow(t.Context(), two.tiles, one.verifier, nil); err == nil {
		t.Fatal("a checkpoint by another key is taken")
	}
}

// A wrong index leads to an error, never to a wrong answer.
func TestWrongIndexIsFoundOut(t *testing.T) {
	cfg := config(t.TempDir())
	r := start(t, cfg)
	r.add(t, request(t, "one"))
	hr := request(t, "two")
	r.add(t, hr)
	r.close()
	x, err := openIndex(filepath.Join(cfg.Dir, "index.db"), slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.db.Exec("UPDATE leaf SET entry = 0"); err != nil {
		t.Fatal(err)
	}
	if err := x.close(); err != nil {
		t.Fatal(err)
	}
	r = start(t, cfg)
	if resp, answer := post(t, r.url, wire(t, hr)); resp.StatusCode != http.StatusInternalServerError {
		t.Errorf("got %s %s, want 500", resp.Status, answer)
	}
}

// If a crash left entries in the tree that no checkpoint covers, the log publishes a
// checkpoint before it serves anything.
func TestStartPublishesTheTree(t *testing.T) {
	cfg := config(t.TempDir())
	r := start(t, cfg)
	first := request(t, "one")
	r.add(t, first)
	older := r.current.Load().signed
	r.add(t, request(t, "two"))
	r.close()
	if err := os.WriteFile(filepath.Join(cfg.Dir, "tiles", "checkpoint"), older, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(cfg.Dir, "index.db")); err != nil {
		t.Fatal(err)
	}
	r = start(t, cfg)
	if cp := r.checkpoint(t); cp.Size != 2 {
		t.Errorf("size: got %d, want 2", cp.Size)
	}
	if e := r.add(t, first); e.GetLogIndex() != 0 {
		t.Errorf("index: got %d, want 0", e.GetLogIndex())
	}
}

// What is damaged on the disk is never served, and scrub names it.
func TestDamagedTilesAreNotServed(t *testing.T) {
	cfg := config(t.TempDir())
	r := start(t, cfg)
	for i := range 3 {
		r.add(t, request(t, fmt.Sprint(i)))
	}
	get := func(path string) int {
		resp, err := http.Get(r.url + "/api/v2/" + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	check := func() (report intact.Report) {
		if err := Scrub(t.Context(), &report, cfg.Dir); err != nil {
			t.Fatal(err)
		}
		return report
	}
	if report := check(); report.Files != 3 || report.Damaged != 0 {
		t.Errorf("scrub: got %+v, want 3 intact files", report)
	}
	for _, path := range []string{"tile/entries/000.p/3", "tile/0/000.p/3"} {
		r.publish(newView(r.current.Load().Checkpoint, r.current.Load().signed, r.tiles)) // forget what was read
		if got := get(path); got != http.StatusOK {
			t.Fatalf("%s: got %d, want 200", path, got)
		}
		file := filepath.Join(cfg.Dir, "tiles", path)
		whole, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for name, bad := range map[string][]byte{"flipped": append(whole[:len(whole)-1:len(whole)-1], whole[len(whole)-1]^1), "cut": whole[:len(whole)-1], "empty": nil} {
			if err := os.WriteFile(file, bad, 0o644); err != nil {
				t.Fatal(err)
			}
			r.publish(newView(r.current.Load().Checkpoint, r.current.Load().signed, r.tiles))
			if got := get(path); got != http.StatusInternalServerError {
				t.Errorf("%s, %s: got %d, want 500", path, name, got)
			}
			if report := check(); report.Damaged == 0 {
				t.Errorf("scrub with %s %s: got %+v", path, name, report)
			}
		}
		if err := os.WriteFile(file, whole, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := get("tile/entries/000.p/4"); got != http.StatusNotFound {
		t.Errorf("a tile that never was: got %d, want 404", got)
	}
}

// A log that is damaged where Tessera would not notice does not start, and says why at once.
func TestDamagedLogDoesNotStart(t *testing.T) {
	for name, damage := range map[string]struct {
		path string
		data []byte
	}{
		"checkpoint cut":    {"checkpoint", []byte("log.example.com\n")},
		"checkpoint gone":   {"checkpoint", nil},
		"tree state gone":   {".state/treeState", nil},
		"tree state forged": {".state/treeState", []byte(`{"size":1,"root":"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}`)},
	} {
		cfg := config(t.TempDir())
		r := start(t, cfg)
		r.add(t, request(t, "one"))
		r.close()
		path := filepath.Join(cfg.Dir, "tiles", damage.path)
		var err error
		if damage.data == nil {
			err = os.Remove(path)
		} else {
			err = os.WriteFile(path, damage.data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Log(name)
		refused(t, cfg, "restore")
	}
}
