package files

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/tlog"
)

// Finding is something that is wrong with a ledger.
type Finding struct {
	File  string `json:"file"`            // its path below the ledger
	Place string `json:"place,omitempty"` // in the file: "byte 17", "entry 3, bytes 120 to 799"
	What  string `json:"what"`
}

// String returns the finding as one line.
func (f Finding) String() string {
	if f.Place == "" {
		return f.File + ": " + f.What
	}
	return f.File + ", " + f.Place + ": " + f.What
}

// Report is what Verify found out.
type Report struct {
	Checkpoint tlog.Checkpoint
	Entries    int64     // that were read: signature, hash and openings
	Gone       int64     // that retention deleted, as a record says
	Erased     int64     // whose openings were erased, as a record says
	Findings   []Finding // edited, missing or added bytes; at most maxFindings
	More       int64     // findings beyond those
	Missing    []Missing // records that writers numbered and that the ledger does not have
	Notes      []string  // what is worth knowing, and no damage
}

// Missing is a gap in the numbers of a run: its writer signed a record that never arrived.
type Missing struct {
	Role     string `json:"role"`
	Instance string `json:"instance"`
	Run      string `json:"run"`
	From     int64  `json:"from"` // numbers
	To       int64  `json:"to"`
}

// farApart is how far the two times of a record may be apart without a note: a spool may be full for hours.
const farApart = 24 * time.Hour

// maxFindings is how many findings a Report names.
const maxFindings = 1000

func (r *Report) found(file, place, format string, args ...any) {
	if len(r.Findings) == maxFindings {
		r.More++
		return
	}
	r.Findings = append(r.Findings, Finding{file, place, fmt.Sprintf(format, args...)})
}

// Verify reads all files of the ledger with this key, and compares each byte with what it must be. list
// names all files below the ledger, so that one too many is found; nil: nobody knows (a ledger that is
// served). The error says that something could not be read; what is wrong is in the report.
//
// What it rests on: the key signed the checkpoint; the tree of the checkpoint has each leaf; each record
// is signed by a writer that an earlier entry enrolled; each opening shows what its record commits to.
func Verify(ctx context.Context, src Source, ledger note.Verifier, key []byte, list []string) (*Report, error) {
	report := &Report{}
	src = &bounded{src, report, map[string]bool{}}
	v := &verification{ctx: ctx, src: src, Report: report, expected: map[string]bool{"checkpoint": true}, runs: map[string]*run{}}
	signed, err := src.Checkpoint(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		v.found("checkpoint", "", "it is missing")
		return v.Report, nil
	} else if err != nil {
		return nil, err
	}
	if err := checkSigned(signed, ledger); err != nil {
		v.found("checkpoint", "", "%v", err)
		return v.Report, nil
	}
	if v.Checkpoint, err = tlog.OpenCheckpoint(signed, ledger); err != nil {
		return nil, err
	}
	if n, err := note.Open(signed, note.VerifierList(ledger)); err == nil {
		for _, sig := range n.UnverifiedSigs {
			v.Notes = append(v.Notes, fmt.Sprintf("checkpoint: the signature by %q was not checked", sig.Name))
		}
	}
	if v.writers, err = audit.NewWriters(key); err != nil {
		return nil, err
	}
	for _, step := range []func() error{v.leaves, v.tiles, v.entries, v.absent, func() error { return v.segments(ledger) }} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	v.added(list)
	v.gaps()
	if v.unchecked > 0 {
		v.Notes = append(v.Notes, fmt.Sprintf("the signatures of %d records were not checked: no entry that can be read enrolled their keys; the checkpoint commits to the records", v.unchecked))
	}
	if v.apart > 0 {
		v.Notes = append(v.Notes, fmt.Sprintf("of %d records, the clock of who decided and that of the ledger differ by more than %s; by %s at most", v.apart, farApart, v.farthest.Round(time.Second)))
	}
	return v.Report, nil
}

type verification struct {
	*Report
	ctx context.Context
	src Source

	expected map[string]bool // files that the ledger must have, or may have
	hashes   []tlog.Hash     // of all leaves: those that the checkpoint commits to
	damaged  bool            // hashes are not what the checkpoint commits to
	writers  *audit.Writers
	runs     map[string]*run
	gone     []tlog.Tile // bundles that are not there
	unopened []unopened
	away     []audit.Range // what retention took
	erased   []audit.Range
	apart    int64 // records whose time is far from when they were received
	farthest time.Duration

	lost      bool  // an entry could not be read
	unchecked int64 // signatures by keys that it may have enrolled
}

type unopened struct {
	entry int64
	names []string
	file  string
}

type run struct {
	Missing
	numbers []int64
	begin   int64 // index of the entry with the number 1; -1: it is not there
}

// checkSigned fails unless signed is exactly a text and signature lines, the first of them by the key,
// each in the only spelling that it has.
func checkSigned(signed []byte, key note.Verifier) error {
	n, err := note.Open(signed, note.VerifierList(key))
	if err != nil {
		return tlog.NoteError(err)
	}
	again := n.Text + "\n"
	for _, sig := range slices.Concat(n.Sigs, n.UnverifiedSigs) {
		raw, err := base64.StdEncoding.DecodeString(sig.Base64)
		if err != nil {
			return err
		}
		again += "— " + sig.Name + " " + base64.StdEncoding.EncodeToString(raw) + "\n"
	}
	if again != string(signed) {
		return errors.New("it is not in the only spelling that it has")
	}
	return nil
}

// leaves reads the leaf hashes from the hash tiles and from the entries, and finds out which of the two
// the checkpoint commits to where they differ.
func (v *verification) leaves() error {
	var fromTiles, fromEntries []tlog.Hash // a zero hash: not there
	for index := int64(0); index*tlog.TileWidth < v.Checkpoint.Size; index++ {
		t, _ := tlog.Tile{Level: 0, Index: index}.At(v.Checkpoint.Size)
		data, err := v.tile(t)
		if err != nil {
			return err
		}
		for i := range t.Width {
			var h tlog.Hash
			if (i+1)*len(h) <= len(data) {
				h = tlog.Hash(data[i*len(h) : (i+1)*len(h)])
			}
			fromTiles = append(fromTiles, h)
		}
		hashes, err := v.bundle(index)
		if err != nil {
			return err
		}
		fromEntries = append(fromEntries, hashes...)
	}
	v.hashes = v.choose(fromTiles, fromEntries)
	return nil
}

// choose returns the hashes that the checkpoint commits to: those of the tiles, those of the entries, or
// the best of both.
func (v *verification) choose(fromTiles, fromEntries []tlog.Hash) []tlog.Hash {
	var zero tlog.Hash
	mixed := slices.Clone(fromEntries)
	for i, h := range mixed {
		if h == zero {
			mixed[i] = fromTiles[i]
		}
	}
	for _, hashes := range [][]tlog.Hash{fromTiles, mixed} {
		if rootOf(hashes) == v.Checkpoint.Root {
			return hashes
		}
	}
	// Both are damaged, in different places perhaps: try for each bundle which of the two the tile above knows.
	best := slices.Clone(fromTiles)
	for from := 0; from < len(best); from += tlog.TileWidth {
		to := min(from+tlog.TileWidth, len(best))
		if slices.Equal(fromTiles[from:to], mixed[from:to]) {
			continue
		}
		up, _ := tlog.Tile{Level: 1, Index: int64(from) >> 16}.At(v.Checkpoint.Size)
		data, err := v.src.Tile(v.ctx, up)
		at := (from >> 8 % tlog.TileWidth) * len(zero)
		if root, full := tlog.Subtree(mixed[from:to]); err == nil && full && len(data) >= at+len(zero) && root == tlog.Hash(data[at:at+len(zero)]) {
			copy(best[from:to], mixed[from:to])
		}
	}
	if root := rootOf(best); root != v.Checkpoint.Root {
		v.damaged = true
		v.found("checkpoint", "", "the ledger's key signed the root %v of %d entries, and the entries and hashes that are here have the root %v", v.Checkpoint.Root, v.Checkpoint.Size, root)
	}
	return best
}

// rootOf returns the root of a tree of leaf hashes (RFC 6962, 2.1).
func rootOf(hashes []tlog.Hash) tlog.Hash {
	switch len(hashes) {
	case 0:
		return tlog.EmptyRoot()
	case 1:
		return hashes[0]
	}
	k := 1
	for k*2 < len(hashes) {
		k *= 2
	}
	left, right := rootOf(hashes[:k]), rootOf(hashes[k:])
	return tlog.Hash(sha256.Sum256(slices.Concat([]byte{1}, left[:], right[:])))
}

// tile returns the data of a tile as it is stored; nil if it is missing, which is a finding.
func (v *verification) tile(t tlog.Tile) ([]byte, error) {
	v.expected[t.Path()] = true
	data, err := v.src.Tile(v.ctx, t)
	if errors.Is(err, fs.ErrNotExist) {
		v.found(t.Path(), "", "it is missing")
		return nil, nil
	}
	return data, err
}

// tiles compares the hash tiles with the leaf hashes.
func (v *verification) tiles() error {
	hashes := v.hashes
	for level := 0; len(hashes) > 0; level++ {
		var above []tlog.Hash
		for index := 0; index*tlog.TileWidth < len(hashes); index++ {
			part := hashes[index*tlog.TileWidth : min((index+1)*tlog.TileWidth, len(hashes))]
			t := tlog.Tile{Level: level, Index: int64(index), Width: len(part)}
			if level > 0 {
				if _, err := v.tile(t); err != nil {
					return err
				}
			}
			var want []byte
			for _, h := range part {
				want = append(want, h[:]...)
			}
			data, err := v.src.Tile(v.ctx, t)
			if err == nil {
				v.compare(t.Path(), data, want)
			} else if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if root, full := tlog.Subtree(part); full {
				above = append(above, root)
			}
		}
		hashes = above
	}
	return nil
}

// compare finds the first byte in which a file is not what it must be.
func (v *verification) compare(file string, got, want []byte) {
	if bytes.Equal(got, want) {
		return
	}
	for i := range want {
		if i >= len(got) {
			v.found(file, fmt.Sprintf("byte %d", i), "expected %d bytes, found %d", len(want), len(got))
			return
		}
		if got[i] != want[i] {
			v.found(file, fmt.Sprintf("byte %d, hash %d", i, i/len(tlog.Hash{})), "expected %x, found %x", want[i], got[i])
			return
		}
	}
	v.found(file, fmt.Sprintf("byte %d", len(want)), "expected %d bytes, found %d", len(want), len(got))
}

// bundle returns the leaf hashes of a bundle of entries; zero where an entry cannot be found.
func (v *verification) bundle(index int64) ([]tlog.Hash, error) {
	t, _ := tlog.Tile{Level: tlog.Entries, Index: index}.At(v.Checkpoint.Size)
	hashes := make([]tlog.Hash, t.Width)
	v.expected[t.Path()], v.expected[OpeningsPath(t)] = true, true
	data, err := v.src.Tile(v.ctx, t)
	if errors.Is(err, fs.ErrNotExist) {
		v.gone = append(v.gone, t)
		return hashes, nil
	} else if err != nil {
		return nil, err
	}
	for i, e := range split(data) {
		if i < t.Width {
			hashes[i] = tlog.LeafHash(e.raw)
		}
	}
	return hashes, nil
}

// part is an entry in a bundle, with its place.
type part struct {
	raw      []byte
	from, to int // bytes of the file
}

// split splits a bundle as far as it goes.
func split(data []byte) (parts []part) {
	for at := 0; at+2 <= len(data); {
		end := at + 2 + int(binary.BigEndian.Uint16(data[at:]))
		if end > len(data) {
			return parts
		}
		parts = append(parts, part{data[at+2 : end], at, end})
		at = end
	}
	return parts
}

// entries verifies each entry: its hash, the signature of its record, its openings.
func (v *verification) entries() error {
	for index := int64(0); index*tlog.TileWidth < v.Checkpoint.Size; index++ {
		t, _ := tlog.Tile{Level: tlog.Entries, Index: index}.At(v.Checkpoint.Size)
		data, err := v.src.Tile(v.ctx, t)
		if errors.Is(err, fs.ErrNotExist) {
			v.lost = true
			continue
		} else if err != nil {
			return err
		}
		openings, err := v.openings(t)
		if err != nil {
			return err
		}
		parts := split(data)
		for i := range t.Width {
			at := index*tlog.TileWidth + int64(i)
			if i >= len(parts) {
				v.found(t.Path(), fmt.Sprintf("entry %d, byte %d", at, endOf(parts)), "the entry is missing or cut")
				v.lost = true
				break
			}
			p := parts[i]
			place := fmt.Sprintf("entry %d, bytes %d to %d", at, p.from, p.to)
			if tlog.LeafHash(p.raw) != v.hashes[at] {
				what := "it is not the entry that the checkpoint commits to"
				if v.damaged {
					what = "the entry and its hash in the tile of hashes differ, and the checkpoint commits to neither"
				}
				v.found(t.Path(), place, "%s", what)
				v.lost = true
				continue
			}
			var of []audit.Opening
			if openings != nil {
				of = openings[i]
			}
			v.entry(t, at, place, p.raw, of)
		}
		if end := endOf(parts); len(parts) > t.Width || end < len(data) && len(parts) == t.Width {
			if len(parts) > t.Width {
				end = parts[t.Width-1].to
			}
			v.found(t.Path(), fmt.Sprintf("byte %d", end), "expected %d bytes, found %d", end, len(data))
		}
	}
	return nil
}

func endOf(parts []part) int {
	if len(parts) == 0 {
		return 0
	}
	return parts[len(parts)-1].to
}

func (v *verification) entry(t tlog.Tile, at int64, place string, raw []byte, openings []audit.Opening) {
	leaf, env, r, err := audit.ParseLeaf(raw)
	if err == nil {
		err = v.writers.Verify(env, r)
		if v.lost && errors.Is(err, audit.ErrWriter) { // an entry before, which is damaged, may have enrolled the key
			v.unchecked++
			err = nil
		}
	}
	if err == nil {
		err = v.writers.Add(r)
	}
	if err != nil {
		v.lost = true
		v.found(t.Path(), place, "%v", err)
		return
	}
	v.Entries++
	opened, err := r.Open(openings)
	if err != nil {
		v.found(OpeningsPath(t), fmt.Sprintf("line %d, entry %d", at%tlog.TileWidth+1, at), "%v", err)
	} else if names := opened.Hidden(); len(names) > 0 {
		v.unopened = append(v.unopened, unopened{at, names, OpeningsPath(t)})
	}
	switch r.Kind {
	case audit.KindRetention:
		v.away = append(v.away, r.Entries...)
	case audit.KindErasure:
		v.erased = append(v.erased, r.Entries...)
	}
	key := env.KeyID() + r.By.Run
	if v.runs[key] == nil {
		v.runs[key] = &run{Missing: Missing{Role: r.By.Role, Instance: r.By.Instance, Run: r.By.Run}, begin: -1}
	}
	v.runs[key].numbers = append(v.runs[key].numbers, r.By.Number)
	if r.By.Number == 1 {
		v.runs[key].begin = at
	}
	if apart := r.Time.Sub(leaf.Received).Abs(); apart > farApart {
		v.apart++
		v.farthest = max(v.farthest, apart)
	}
}

// openings returns the openings of a bundle; nil if they are missing.
func (v *verification) openings(t tlog.Tile) ([][]audit.Opening, error) {
	path := OpeningsPath(t)
	data, err := v.src.File(v.ctx, path)
	if errors.Is(err, fs.ErrNotExist) {
		v.found(path, "", "it is missing")
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	of, err := ParseOpenings(data, t.Width)
	if err != nil {
		v.found(path, firstBadLine(data), "%v", err)
		return nil, nil
	}
	return of, nil
}

// firstBadLine names the first line of a file of openings that is not one.
func firstBadLine(data []byte) string {
	at := 0
	for i, line := range bytes.SplitAfter(data, []byte("\n")) {
		if _, err := ParseOpenings(line, 1); err != nil && len(line) > 0 {
			return fmt.Sprintf("line %d, byte %d", i+1, at)
		}
		at += len(line)
	}
	return fmt.Sprintf("byte %d", at)
}

// absent compares what is not there with what records say was taken away.
func (v *verification) absent() error {
	for _, t := range v.gone {
		from := t.Index * tlog.TileWidth
		if !covers(v.away, from, from+int64(t.Width)) {
			v.found(t.Path(), fmt.Sprintf("entries %d to %d", from, from+int64(t.Width)-1), "it is missing, and no record says that retention deleted it")
			continue
		}
		v.Gone += int64(t.Width)
	}
	for _, u := range v.unopened {
		if covers(v.erased, u.entry, u.entry+1) {
			v.Erased++
			continue
		}
		v.found(u.file, fmt.Sprintf("line %d, entry %d", u.entry%tlog.TileWidth+1, u.entry), "the openings of %s are missing, and no record says that they were erased", strings.Join(u.names, ", "))
	}
	return nil
}

func covers(ranges []audit.Range, from, to int64) bool {
	return slices.ContainsFunc(ranges, func(r audit.Range) bool { return r.From <= from && to <= r.To })
}

// added finds files that nothing accounts for.
func (v *verification) added(list []string) {
	for _, path := range list {
		path = filepath.ToSlash(path)
		if v.expected[path] || v.older(path) {
			continue
		}
		v.found(path, "", "it is not one of the ledger's files")
	}
}

// older reports whether a file is a partial tile of a smaller tree, unchanged, or its openings.
func (v *verification) older(path string) bool {
	tilePath := path
	if rest, ok := strings.CutPrefix(path, "openings/"); ok {
		tilePath = "tile/entries/" + rest
	}
	t, err := tlog.ParsePath(tilePath)
	have, ok := t.At(v.Checkpoint.Size)
	if err != nil || !ok || t.Width >= have.Width {
		return false
	}
	whole := have.Path()
	if tilePath != path {
		whole = OpeningsPath(have)
	}
	old, err := v.src.File(v.ctx, path)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist) // it went, as the ledger grew
	}
	data, err := v.src.File(v.ctx, whole)
	if err == nil && !bytes.HasPrefix(data, old) {
		v.found(path, "", "it is not the beginning of %s", whole)
	}
	return true
}

// gaps finds numbers that no record of a run has. What retention deleted may have had numbers: of runs
// that began before its end, nobody knows.
func (v *verification) gaps() {
	end := int64(0)
	for _, r := range v.away {
		end = max(end, r.To)
	}
	for _, r := range v.runs {
		if v.Gone > 0 && r.begin < end {
			continue
		}
		slices.Sort(r.numbers)
		next := int64(1)
		for _, n := range r.numbers {
			if n > next {
				m := r.Missing
				m.From, m.To = next, n-1
				v.Report.Missing = append(v.Report.Missing, m)
			} else if n < next {
				v.Notes = append(v.Notes, fmt.Sprintf("two records of run %s have the number %d", r.Run, n))
			}
			next = n + 1
		}
	}
	slices.SortFunc(v.Report.Missing, func(a, b Missing) int {
		return cmp.Or(strings.Compare(a.Run, b.Run), cmp.Compare(a.From, b.From))
	})
}
