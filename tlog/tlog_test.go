package tlog

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

const origin = "log.example.com"

// mth computes the tree hash as RFC 6962, 2.1 defines it, independently of the code
// under test.
func mth(leaves []Hash) Hash {
	if len(leaves) == 0 {
		return sha256.Sum256(nil)
	}
	if len(leaves) == 1 {
		return leaves[0]
	}
	k := 1
	for k*2 < len(leaves) {
		k *= 2
	}
	l, r := mth(leaves[:k]), mth(leaves[k:])
	return sha256.Sum256(append(append([]byte{1}, l[:]...), r[:]...))
}

// memory is a log in memory. Its hashes are computed with mth.
type memory struct {
	entries [][]byte
	leaves  []Hash
	change  func(Tile, []byte) []byte // how a hostile server changes tiles
	tiles   map[Tile][]byte           // made before
}

func newMemory(n int) *memory {
	m := &memory{}
	for i := range n {
		e := fmt.Appendf(nil, "entry %d", i)
		m.entries = append(m.entries, e)
		m.leaves = append(m.leaves, LeafHash(e))
	}
	return m
}

func (m *memory) at(size int) Checkpoint {
	return Checkpoint{Origin: origin, Size: int64(size), Root: mth(m.leaves[:size])}
}

func (m *memory) Checkpoint(context.Context) ([]byte, error) { return nil, fs.ErrNotExist }

func (m *memory) Tile(_ context.Context, t Tile) ([]byte, error) {
	have, ok := t.At(int64(len(m.leaves)))
	if !ok || have.Width < t.Width {
		return nil, fs.ErrNotExist
	}
	data, ok := m.tiles[t]
	if !ok {
		data = m.tile(t)
		if m.tiles == nil {
			m.tiles = map[Tile][]byte{}
		}
		m.tiles[t] = data
	}
	data = bytes.Clone(data)
	if m.change != nil {
		data = m.change(t, data)
	}
	return data, nil
}

func (m *memory) tile(t Tile) (data []byte) {
	for i := t.Index * TileWidth; i < t.Index*TileWidth+int64(t.Width); i++ {
		if t.Level == Entries {
			data = binary.BigEndian.AppendUint16(data, uint16(len(m.entries[i])))
			data = append(data, m.entries[i]...)
			continue
		}
		span := int64(1) << (8 * t.Level)
		h := mth(m.leaves[i*span : (i+1)*span])
		data = append(data, h[:]...)
	}
	return data
}

func TestProofs(t *testing.T) {
	m, ctx := newMemory(70000), t.Context()
	for _, size := range []int{1, 2, 3, 255, 256, 257, 511, 600, 65536, 65537, 70000} {
		cp := m.at(size)
		for _, i := range []int{0, 1, size / 3, size - 1} {
			if i >= size {
				continue
			}
			leaf := m.leaves[i]
			proof, err := Inclusion(ctx, m, cp, int64(i))
			if err != nil {
				t.Fatal(err)
			}
			if err := VerifyInclusion(cp, int64(i), leaf, proof); err != nil {
				t.Fatal(err)
			}
			other := leaf
			other[7] ^= 1
			if VerifyInclusion(cp, int64(i), other, proof) == nil || size > 1 && VerifyInclusion(cp, int64((i+1)%size), leaf, proof) == nil {
				t.Fatalf("the proof of entry %d of %d holds for another", i, size)
			}
		}
		for _, old := range []int{0, 1, 2, 200, 256, size / 2, size - 1, size} {
			if old > size {
				continue
			}
			if err := Extends(ctx, m, m.at(old), cp); err != nil {
				t.Fatal(err)
			}
			if root, err := Root(ctx, m, int64(old), cp); err != nil || root != m.at(old).Root {
				t.Fatalf("root of %d: got %v, %v, want %v", old, root, err, m.at(old).Root)
			}
		}
	}
	got, err := Leaves(ctx, m, m.at(600), 200, 456)
	if err != nil || len(got) != 256 || got[0] != m.leaves[200] || got[255] != m.leaves[455] {
		t.Fatalf("leaves: %d, %v", len(got), err)
	}
	for _, index := range []int64{-1, 600} {
		if _, err := Inclusion(ctx, m, m.at(600), index); err == nil {
			t.Errorf("a proof of entry %d of 600", index)
		}
	}
}

// A log that rewrites or drops entries is detected.
func TestForksAreRefused(t *testing.T) {
	m, ctx := newMemory(600), t.Context()
	fork := newMemory(600)
	fork.entries[17] = []byte("rewritten")
	fork.leaves[17] = LeafHash(fork.entries[17])

	if err := Extends(ctx, fork, m.at(300), fork.at(600)); err == nil {
		t.Error("a rewritten entry is accepted as an extension")
	}
	if err := Extends(ctx, m, m.at(600), m.at(300)); err == nil || !strings.Contains(err.Error(), "shrunk") {
		t.Errorf("a shrunk log: got %v", err)
	}
	if err := Extends(ctx, fork, m.at(600), fork.at(600)); err == nil {
		t.Error("two roots of one size are accepted as the same log")
	}
	elsewhere := m.at(300)
	elsewhere.Origin = "other.example.com"
	if err := Extends(ctx, m, elsewhere, m.at(600)); err == nil {
		t.Error("a checkpoint of another log is accepted as an older one")
	}
	if err := VerifyConsistency(Checkpoint{Origin: origin, Root: Hash{1}}, m.at(600), nil); err == nil {
		t.Error("an empty log with a root of its own is accepted")
	}
}

// Each tile is checked against the checkpoint.
func TestTamperedTilesAreRefused(t *testing.T) {
	m := newMemory(600)
	changes := map[string]func(Tile, []byte) []byte{
		"flipped":  func(_ Tile, b []byte) []byte { b = append([]byte{}, b...); b[40] ^= 1; return b },
		"short":    func(_ Tile, b []byte) []byte { return b[:len(b)-1] },
		"empty":    func(Tile, []byte) []byte { return nil },
		"top only": func(t Tile, b []byte) []byte { b[len(b)-1] ^= byte(t.Level); return b },
	}
	for name, change := range changes {
		m.change = change
		if _, err := Inclusion(t.Context(), m, m.at(600), 3); err == nil {
			t.Errorf("%s: a proof is made of tampered tiles", name)
		}
		if _, err := Leaves(t.Context(), m, m.at(600), 0, 256); err == nil {
			t.Errorf("%s: leaves are read from tampered tiles", name)
		}
	}
}

func TestPartialTileFallsBackToTheFullOne(t *testing.T) {
	m, ctx := newMemory(600), t.Context()
	dir := t.TempDir()
	for _, tile := range []Tile{{0, 0, 256}, {Entries, 0, 256}} {
		data, err := m.Tile(ctx, tile)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, tile.Path())
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	web := httptest.NewServer(http.StripPrefix("/api/v2", http.FileServer(http.Dir(dir))))
	defer web.Close()
	for _, src := range []Source{Dir(dir), HTTP{URL: web.URL + "/api/v2"}} {
		if _, err := Inclusion(ctx, src, m.at(100), 99); err != nil {
			t.Errorf("%T: %v", src, err)
		}
		bundle, err := ReadTile(ctx, src, Tile{Entries, 0, 3})
		if err != nil {
			t.Fatal(err)
		}
		if entries, err := SplitEntries(bundle); err != nil || len(entries) != 3 || string(entries[2]) != "entry 2" {
			t.Errorf("%T: got %q, %v", src, entries, err)
		}
		if _, err := src.Tile(ctx, Tile{0, 1, 7}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%T: missing tile: got %v, want one that matches fs.ErrNotExist", src, err)
		}
	}
}

func TestHTTPSourceIsBounded(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range 1 << 10 {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}))
	defer web.Close()
	src := HTTP{URL: web.URL}
	if _, err := src.Checkpoint(t.Context()); err == nil {
		t.Error("a checkpoint of 64 MiB is read")
	}
	if _, err := src.Tile(t.Context(), Tile{0, 0, 256}); err == nil {
		t.Error("a tile of 64 MiB is read")
	}
}

func TestPaths(t *testing.T) {
	for path, want := range map[string]Tile{
		"tile/0/000":                         {0, 0, 256},
		"tile/5/x001/x234/067":               {5, 1234067, 256},
		"tile/1/x001/000.p/255":              {1, 1000, 255},
		"tile/entries/999.p/1":               {Entries, 999, 1},
		"tile/0/x999/x999/x999/x999/999":     {0, 999999999999999, 256},
		"tile/0/x001/x000/x000/x000/000.p/8": {0, 1000000000000, 8},
	} {
		got, err := ParsePath(path)
		if err != nil || got != want || want.Path() != path {
			t.Errorf("%s: got %+v, %v, want %+v", path, got, err, want)
		}
	}
	for _, path := range []string{"", "tile", "tile/0", "tile/0/", "tile/0/0", "tile/0/0000", "tile/00/000", "tile/6/000", "tile/-1/000", "tile/+1/000",
		"tile/0/x000/001", "tile/0/001/001", "tile/0/x001", "tile/0/000.p/0", "tile/0/000.p/01", "tile/0/000.p/256", "tile/0/000.p/", "tile/0/000.p/1.p/1",
		"tile/0/../../key", "tile/entries/../0/000", "tile/0/000/", "/tile/0/000", "tile/0/x-01/001", "tile/0/xx01/001", "tile/ENTRIES/000",
		"tile/0/" + strings.Repeat("x999/", 9) + "999"} {
		if got, err := ParsePath(path); err == nil {
			t.Errorf("%q: accepted as %+v", path, got)
		}
	}
}

func TestAt(t *testing.T) {
	for _, c := range []struct {
		tile Tile
		size int64
		want int
	}{{Tile{Level: 0}, 0, 0}, {Tile{Level: 0}, 1, 1}, {Tile{Level: 0}, 256, 256}, {Tile{Level: 0, Index: 1}, 256, 0}, {Tile{Level: 1}, 255, 0},
		{Tile{Level: 1}, 256 * 3, 3}, {Tile{Level: Entries, Index: 2}, 600, 88}, {Tile{Level: 5, Index: 1 << 60}, 600, 0}} {
		got, ok := c.tile.At(c.size)
		if ok != (c.want > 0) || ok && got.Width != c.want {
			t.Errorf("%+v at %d: got %d, %v, want %d", c.tile, c.size, got.Width, ok, c.want)
		}
	}
}

func TestMalformedBundles(t *testing.T) {
	for _, data := range []string{"\x00", "\x00\x02a", "\x00\x01a\x00", strings.Repeat("\x00\x00", 257)} {
		if got, err := SplitEntries([]byte(data)); err == nil {
			t.Errorf("%q: accepted as %d entries", data, len(got))
		}
	}
}

func TestOpenCheckpoint(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(text, name string, key ed25519.PrivateKey) []byte {
		t.Helper()
		s, err := NewSigner(name, key)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := note.Sign(&note.Note{Text: text}, s)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	v, err := NewVerifier(origin, public)
	if err != nil {
		t.Fatal(err)
	}
	cp := newMemory(3).at(3)
	signed := sign(cp.String(), origin, private)
	if got, err := OpenCheckpoint(signed, v); err != nil || got.String() != cp.String() {
		t.Fatalf("got %+v, %v, want %+v", got, err, cp)
	}

	// The same key in the reference implementation of signed notes.
	id, err := LogID(origin, public)
	if err != nil {
		t.Fatal(err)
	}
	vkey, err := note.NewEd25519VerifierKey(origin, public)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	if theirs.KeyHash() != binary.BigEndian.Uint32(id[:]) {
		t.Errorf("key id: got %x, want %x", id[:4], theirs.KeyHash())
	}
	if _, err := OpenCheckpoint(signed, theirs); err != nil {
		t.Error(err)
	}

	other := cp
	other.Origin = "other.example.com"
	// 68 bytes leave two bits of the last character without meaning: the alphabet's next one is the same signature.
	respelled := slices.Clone(signed)
	respelled[len(signed)-3] = signed[len(signed)-3] + 1
	if n, err := note.Open(respelled, note.VerifierList(v)); err != nil || len(n.Sigs) != 1 {
		t.Fatalf("the reference implementation: got %v, want it to accept another spelling", err)
	}
	for name, bad := range map[string][]byte{
		"signed by a stranger": sign(cp.String(), origin, stranger),
		"of another origin":    sign(other.String(), origin, private),
		"changed":              []byte(strings.Replace(string(signed), "\n3\n", "\n4\n", 1)),
		"of another spelling":  respelled,
		"without signature":    []byte(cp.String()),
		"not a checkpoint":     sign(origin+"\nhello\n", origin, private),
		"too large":            append([]byte(strings.Repeat("x", MaxCheckpoint)), signed...),
	} {
		if _, err := OpenCheckpoint(bad, v); err == nil {
			t.Errorf("a checkpoint %s is accepted", name)
		}
	}
	for _, name := range []string{"", "two words", "a+b", "tab\there", "\xff"} {
		if _, err := NewVerifier(name, public); err == nil {
			t.Errorf("origin %q is accepted", name)
		}
	}
}

func TestECDSALogKey(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	v, err := NewVerifier(origin, &key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("text\n"))
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	if !v.Verify([]byte("text\n"), sig) || v.Verify([]byte("texts\n"), sig) {
		t.Error("an ECDSA signature is judged wrongly")
	}
	if _, err := NewVerifier(origin, "a string"); err == nil {
		t.Error("a key of no known kind is accepted")
	}
}

func TestMalformedCheckpoints(t *testing.T) {
	const root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
	for _, text := range []string{"", "\n", "a\n1\n", "a\n1\n" + root, "\n1\n" + root + "\n", "a\n01\n" + root + "\n", "a\n-1\n" + root + "\n", "a\n+1\n" + root + "\n",
		"a\n9223372036854775808\n" + root + "\n", "a\n1\n" + root[:43] + "\n", "a\n1\n" + strings.Replace(root, "2I=", "2J=", 1) + "\n", "a\n1\n" + root + "\n\n",
		"a\n1\n" + root + "\nx\x00\n", "a\r\n1\n" + root + "\n", "a\n0\n" + root + "\n", "a\n1\n" + root + "\n\xff\n", "a\n1\nAAAA\n"} {
		if got, err := ParseCheckpoint(text); err == nil {
			t.Errorf("%q: accepted as %+v", text, got)
		}
	}
}

// seeds returns well-formed checkpoints. Without them a fuzz test would pass and
// test nothing.
func seeds(t testing.TB) []string {
	files, err := filepath.Glob("testdata/checkpoints/*")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 3 {
		t.Fatalf("testdata/checkpoints holds %d files, want 3 or more", len(files))
	}
	var texts []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseCheckpoint(string(text)); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		texts = append(texts, string(text))
	}
	return texts
}

func FuzzCheckpoint(f *testing.F) {
	for _, text := range seeds(f) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCheckpoint(text)
		if err == nil && c.String() != text {
			t.Errorf("parsed and written again: got %q, want %q", c.String(), text)
		}
	})
}

func FuzzPath(f *testing.F) {
	f.Add("tile/0/x001/067.p/3")
	f.Add("tile/entries/000")
	f.Fuzz(func(t *testing.T, path string) {
		tile, err := ParsePath(path)
		if err == nil && (tile.Path() != path || tile.Index < 0 || tile.Width < 1 || tile.Width > TileWidth) {
			t.Errorf("%q parsed as %+v", path, tile)
		}
	})
}

// FuzzEntries: the entries of a tile, joined again, are its data, and Cut returns as
// many entries as asked for.
func FuzzEntries(f *testing.F) {
	m := newMemory(5)
	data, err := m.Tile(context.Background(), Tile{Level: Entries, Width: 5})
	if err != nil || len(data) == 0 {
		f.Fatalf("seed: got %d bytes, %v", len(data), err)
	}
	f.Add(data, 3)
	f.Add([]byte{0, 0}, 1)
	f.Fuzz(func(t *testing.T, data []byte, width int) {
		entries, err := SplitEntries(data)
		if err != nil {
			return
		}
		var again []byte
		for _, e := range entries {
			again = append(binary.BigEndian.AppendUint16(again, uint16(len(e))), e...)
		}
		if !bytes.Equal(again, data) {
			t.Errorf("got %x, want %x", again, data)
		}
		if width < 1 || width > TileWidth {
			return
		}
		cut, err := Tile{Level: Entries, Width: width}.Cut(data, width)
		if (err == nil) != (width <= len(entries)) {
			t.Errorf("cut to %d of %d entries: %v", width, len(entries), err)
		}
		if err != nil {
			return
		}
		if some, err := SplitEntries(cut); err != nil || len(some) != width {
			t.Errorf("cut to %d entries: got %d, %v", width, len(some), err)
		}
	})
}

// FuzzProofs: nothing false can be proved about a tree.
func FuzzProofs(f *testing.F) {
	m := newMemory(11)
	ctx := context.Background()
	for i := range int64(11) {
		proof, err := Inclusion(ctx, m, m.at(11), i)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(i, int64(11), join(proof))
		if proof, err = Consistency(ctx, m, i, m.at(11)); err != nil {
			f.Fatal(err)
		}
		f.Add(i, int64(11), join(proof))
	}
	f.Fuzz(func(t *testing.T, i, size int64, raw []byte) {
		if len(raw)%len(Hash{}) != 0 || len(raw) > 64*len(Hash{}) {
			return
		}
		var proof []Hash
		for ; len(raw) > 0; raw = raw[len(Hash{}):] {
			proof = append(proof, Hash(raw))
		}
		cp := m.at(11)
		cp.Size = size
		leaf := LeafHash([]byte("an entry of another log"))
		if VerifyInclusion(cp, i, leaf, proof) == nil {
			t.Errorf("entry %d of %d is proved to be what it is not", i, size)
		}
		if i >= 0 && i < int64(len(m.leaves)) && size == 11 {
			want, err := Inclusion(ctx, m, cp, i)
			if err != nil {
				t.Fatal(err)
			}
			if got := VerifyInclusion(cp, i, m.leaves[i], proof) == nil; got != (join(want) != nil && bytes.Equal(join(want), join(proof))) {
				t.Errorf("entry %d of %d: got proved %v with %x", i, size, got, proof)
			}
		}
		// No log would sign both checkpoints. (A size that belongs to neither root is
		// not tested: only the log's signature binds size and root.)
		older := Checkpoint{Origin: origin, Size: i, Root: mth(m.leaves[:3])}
		if i != 3 && VerifyConsistency(older, m.at(11), proof) == nil {
			t.Errorf("%d entries with the root of 3 are proved to begin 11", i)
		}
	})
}

func join(proof []Hash) []byte {
	var all []byte
	for _, h := range proof {
		all = append(all, h[:]...)
	}
	return all
}

// FuzzOpenCheckpoint: only a checkpoint that the log signed can be opened.
func FuzzOpenCheckpoint(f *testing.F) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	s, err := NewSigner(origin, priv)
	if err != nil {
		f.Fatal(err)
	}
	v, err := NewVerifier(origin, pub)
	if err != nil {
		f.Fatal(err)
	}
	text := newMemory(3).at(3).String()
	signed, err := note.Sign(&note.Note{Text: text}, s)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	for _, text := range seeds(f) {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if cp, err := OpenCheckpoint(raw, v); err == nil && cp.String() != text {
			t.Errorf("opened as %q", cp)
		}
	})
}
