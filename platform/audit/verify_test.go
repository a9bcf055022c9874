package audit

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/tlog"

	records "github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/audit/files"
	"github.com/colophon-build/colophon/test/needs"
)

// stopped returns the directory of a ledger that was closed, with its files, and how to verify it.
func stopped(t testing.TB, cfg Config, n int, then func(*Ledger)) (dir string, list []string, verify func() *files.Report) {
	t.Helper()
	cfg.Dir = t.TempDir()
	l := open(t, cfg)
	fill(t, l, enrolled(t, l, "gate", ""), 0, n)
	if then != nil {
		then(l)
	}
	key, err := note.NewVerifier(l.Key())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	public, err := files.PublicKey(l.Key())
	if err != nil {
		t.Fatal(err)
	}
	names := func() []string {
		list, err := files.Dir(l.dir).List()
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	verify = func() *files.Report {
		t.Helper()
		r, err := files.Verify(context.Background(), files.Dir(l.dir), key, public, names())
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := verify(); len(r.Findings) > 0 || r.Entries+r.Gone != r.Checkpoint.Size || len(r.Missing) > 0 {
		t.Fatalf("an untouched ledger: got %+v", r)
	}
	return l.dir, names(), verify
}

// Each byte of each file of a small ledger: flipped, it is found, in this file and at this place. Without
// COLOPHON_LONG=1, each byte of the checkpoint, and every seventh of the others.
func TestEachByte(t *testing.T) {
	step := 7
	if needs.AskedForLong() {
		step = 1
	}
	dir, list, verify := stopped(t, Config{}, 4, nil)
	if len(list) != 4 {
		t.Fatalf("got the files %q, want checkpoint, entries, hashes and openings", list)
	}
	total := 0
	for _, file := range list {
		path := filepath.Join(dir, file)
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range raw {
			for bit := range 8 {
				// Of the others, one bit of each byte: base64 has bits that decoders ignore.
				if file != "checkpoint" && (bit != i%8 || i%step != 0) {
					continue
				}
				changed := slices.Clone(raw)
				changed[i] ^= byte(1 << bit)
				if err := os.WriteFile(path, changed, 0o644); err != nil {
					t.Fatal(err)
				}
				total++
				checkNamed(t, verify(), file, raw, i)
			}
		}
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d flips, in %d files", total, len(list))
}

// checkNamed fails unless the report names the file, and the place of the byte.
func checkNamed(t *testing.T, r *files.Report, file string, raw []byte, at int) {
	t.Helper()
	i := slices.IndexFunc(r.Findings, func(f files.Finding) bool { return f.File == file })
	if i < 0 {
		t.Fatalf("%s: byte %d is another one, and the report has %v", file, at, r.Findings)
	}
	f := r.Findings[i]
	for _, other := range r.Findings {
		if other.File != file {
			t.Errorf("%s: byte %d is another one, and the report blames %v", file, at, other)
		}
	}
	switch {
	case strings.HasPrefix(file, "tile/entries/"):
		bundle, err := tlog.ParsePath(file)
		if err != nil {
			t.Fatal(err)
		}
		entry, pos := bundle.Index*tlog.TileWidth, 0
		for pos+2+int(raw[pos])<<8+int(raw[pos+1]) <= at {
			pos += 2 + int(raw[pos])<<8 + int(raw[pos+1])
			entry++
		}
		if want := "entry " + itoa(entry); !strings.HasPrefix(f.Place, want) {
			t.Errorf("%s: byte %d is in %s, the report says %s", file, at, want, f.Place)
		}
	case strings.HasPrefix(file, "tile/"):
		if !strings.HasPrefix(f.Place, "byte "+itoa(int64(at))+",") {
			t.Errorf("%s: byte %d is another one, the report says %s", file, at, f.Place)
		}
	case strings.HasPrefix(file, "openings/"):
		if line := strings.Count(string(raw[:at]), "\n") + 1; raw[at] != '\n' && !strings.HasPrefix(f.Place, "line "+itoa(int64(line))+",") {
			t.Errorf("%s: byte %d is in line %d, the report says %s", file, at, line, f.Place)
		}
	}
}

func itoa(n int64) string { return strings.TrimLeft(name(n)[:15], "0") + name(n)[15:] }

// A larger ledger, with tiles of all kinds and a closed segment: bytes here and there, cut, longer,
// missing and added files.
func TestEachFile(t *testing.T) {
	dir, list, verify := stopped(t, Config{Segment: 256}, 300, nil)
	for _, want := range []string{"checkpoint", "segments/000", "tile/0/000", "tile/1/000.p/1", "tile/entries/000", "tile/entries/001.p/45", "openings/000", "openings/001.p/45"} {
		if !slices.Contains(list, want) {
			t.Fatalf("got the files %q, want %s", list, want)
		}
	}
	for _, file := range list {
		path := filepath.Join(dir, file)
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		put := func(data []byte) {
			if err := os.WriteFile(path, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		for i := 0; i < len(raw); i += max(1, len(raw)/10) {
			changed := slices.Clone(raw)
			changed[i] ^= 1
			put(changed)
			checkNamed(t, verify(), file, raw, i)
		}
		for what, data := range map[string][]byte{"cut": raw[:len(raw)-1], "empty": nil, "longer": append(slices.Clone(raw), 'x'), "with more lines": append(slices.Clone(raw), "\n\n"...)} {
			put(data)
			if !blames(verify(), file) {
				t.Errorf("%s: %s, and not named in %v", file, what, verify().Findings)
			}
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if r := verify(); !blames(r, file) && file != "segments/000" { // the only segment, of another size than all ledgers have: nobody knows that it was closed
			t.Errorf("%s: missing, and not named in %v", file, r.Findings)
		}
		put(raw)
	}
	for _, added := range []string{"tile/0/007", "tile/entries/000.p/17", "openings/000.p/3", "note", "segments/009"} {
		path := filepath.Join(dir, added)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("added\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if !blames(verify(), added) {
			t.Errorf("%s: added, and not named", added)
		}
		os.Remove(path)
	}
}

// The checkpoint of each closed segment must be there, in its place; also that of the last one.
func TestMissingSegment(t *testing.T) {
	dir, _, verify := stopped(t, Config{Segment: 256}, 800, nil)
	segments := []string{"segments/000", "segments/001", "segments/002"}
	raw := map[string][]byte{}
	for _, file := range segments {
		var err error
		if raw[file], err = os.ReadFile(filepath.Join(dir, file)); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range segments {
		path := filepath.Join(dir, file)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if r := verify(); len(r.Findings) != 1 || r.Findings[0].File != file || !strings.Contains(r.Findings[0].What, "missing") {
			t.Errorf("%s is missing: got %v", file, r.Findings)
		}
		for other, data := range raw {
			if err := os.WriteFile(path, data, 0o644); err != nil {
				t.Fatal(err)
			}
			if r := verify(); blames(r, file) != (other != file) {
				t.Errorf("%s in the place of %s: got %v", other, file, r.Findings)
			}
		}
		if err := os.WriteFile(path, raw[file], 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// A ledger has 65,536 entries in each segment: so the checkpoint of the only segment must be there too. Of this
// ledger, nothing else than its checkpoint is there.
func TestMissingOnlySegment(t *testing.T) {
	l := open(t, Config{Dir: t.TempDir()})
	public, err := files.PublicKey(l.Key())
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{files.SegmentSize - 1, files.SegmentSize} {
		signed, err := l.sign(tlog.Checkpoint{Origin: origin, Size: size})
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "checkpoint"), signed, 0o644); err != nil {
			t.Fatal(err)
		}
		r, err := files.Verify(context.Background(), files.Dir(dir), l.verifier, public, nil)
		if err != nil || r.More > 0 {
			t.Fatal(err, r.More)
		}
		if closed := size == files.SegmentSize; blames(r, "segments/000") != closed {
			t.Errorf("%d entries: got %v for a missing checkpoint of the segment, want %v", size, !closed, closed)
		}
	}
}

func blames(r *files.Report, file string) bool {
	return slices.ContainsFunc(r.Findings, func(f files.Finding) bool { return f.File == file })
}

// What retention and erasure take away is no damage, and only that.
func TestTakenAway(t *testing.T) {
	now := time.Now()
	dir, _, verify := stopped(t, Config{Segment: 256, Now: func() time.Time { return now }}, 800, func(l *Ledger) {
		if err := l.Erase(context.Background(), "admin", "request", []records.Range{{From: 100, To: 110}}); err != nil {
			t.Fatal(err)
		}
		settled(t, l)
		now = now.Add(time.Hour)
		if err := l.Retire(context.Background(), time.Minute); err != nil {
			t.Fatal(err)
		}
		settled(t, l)
	})
	if r := verify(); r.Gone != 512 || r.Erased != 10 {
		t.Errorf("got %d entries gone and %d erased, want 512 and 10", r.Gone, r.Erased)
	}
	for _, file := range []string{"tile/entries/000", "openings/000"} {
		raw, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, file)); err != nil {
			t.Fatal(err)
		}
		if r := verify(); file == "openings/000" && !blames(r, file) {
			t.Errorf("%s: not named in %v", file, r.Findings)
		}
		if err := os.WriteFile(filepath.Join(dir, file), raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// A line of openings is emptied that no erasure names.
	path := filepath.Join(dir, "openings/003.p/35")
	matches, _ := fs.Glob(os.DirFS(dir), "openings/003.p/*")
	if len(matches) == 1 {
		path = filepath.Join(dir, matches[0])
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(matches, err)
	}
	_, rest, _ := strings.Cut(string(raw), "\n")
	if err := os.WriteFile(path, []byte("[]\n"+rest), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := verify(); len(r.Findings) != 1 || !strings.Contains(r.Findings[0].Place, "line 1, entry 768") {
		t.Errorf("got %v", r.Findings)
	}
}

// A record that its writer signed and that never arrived is named.
func TestMissingRecord(t *testing.T) {
	l := open(t, Config{Dir: t.TempDir()})
	w := enrolled(t, l, "admission", "prod-a")
	for n := range 5 {
		data := w.entry(t, verdict(n))
		if n == 2 {
			continue // lost on its way
		}
		if _, err := l.Append(context.Background(), data); err != nil {
			t.Fatal(err)
		}
	}
	settled(t, l)
	public, err := files.PublicKey(l.Key())
	if err != nil {
		t.Fatal(err)
	}
	r, err := files.Verify(context.Background(), files.Dir(l.dir), l.verifier, public, nil)
	if err != nil || len(r.Findings) > 0 || len(r.Missing) != 1 || r.Missing[0].From != 3 || r.Missing[0].To != 3 || r.Missing[0].Instance != "prod-a" {
		t.Errorf("got %+v, %v", r, err)
	}
}

// TestRewritten: whoever has the disk and not the key rewrites entries, and all hashes above them, so that each file
// fits the others. The checkpoint does not.
func TestRewritten(t *testing.T) {
	for what, rewrite := range map[string]func(all []entry){
		"another time":                func(all []entry) { all[2].leaf.Received = all[2].leaf.Received.Add(time.Second) },
		"another order":               func(all []entry) { all[2], all[3] = all[3], all[2] },
		"one in the place of another": func(all []entry) { all[3] = all[2] },
		"the last one of a full tile": func(all []entry) { all[255].leaf.Received = all[255].leaf.Received.Add(time.Second) },
	} {
		t.Run(what, func(t *testing.T) {
			dir, _, verify := stopped(t, Config{}, 300, nil)
			signed, err := tlog.Dir(dir).Checkpoint(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			text, _, _ := strings.Cut(string(signed), "\n\n")
			cp, err := tlog.ParseCheckpoint(text + "\n")
			if err != nil {
				t.Fatal(err)
			}
			var all []entry
			for index := int64(0); index*tlog.TileWidth < cp.Size; index++ {
				tile, _ := tlog.Tile{Level: tlog.Entries, Index: index}.At(cp.Size)
				data, err := tlog.ReadTile(t.Context(), tlog.Dir(dir), tile)
				if err != nil {
					t.Fatal(err)
				}
				raw, err := tlog.SplitEntries(data)
				if err != nil {
					t.Fatal(err)
				}
				openings, err := files.ReadOpenings(t.Context(), files.Dir(dir), tile)
				if err != nil {
					t.Fatal(err)
				}
				for i := range raw {
					leaf, _, _, err := records.ParseLeaf(raw[i])
					if err != nil {
						t.Fatal(err)
					}
					all = append(all, entry{leaf: leaf, openings: openings[i]})
				}
			}
			rewrite(all)
			_, out, err := (&tree{}).grow(all)
			if err != nil {
				t.Fatal(err)
			}
			if err := write(dir, out); err != nil {
				t.Fatal(err)
			}
			if r := verify(); !blames(r, "checkpoint") {
				t.Errorf("a ledger that was rewritten: got %v", r.Findings)
			}
		})
	}
}
