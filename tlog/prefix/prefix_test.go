package prefix

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// plainRoot is the root of sorted keys by the text of spec/search/v1, one bit after another.
func plainRoot(keys [][]byte) [32]byte {
	switch len(keys) {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return sha256.Sum256(append([]byte{0}, keys[0]...))
	}
	at := func(key []byte, i int) byte { return key[i/8] >> (7 - i%8) & 1 }
	d := 0
	for at(keys[0], d) == at(keys[len(keys)-1], d) {
		d++
	}
	var left, right [][]byte
	for _, key := range keys {
		if at(key, d) == 0 {
			left = append(left, key)
		} else {
			right = append(right, key)
		}
	}
	p := make([]byte, (d+7)/8)
	for i := range d {
		p[i/8] |= at(keys[0], i) << (7 - i%8)
	}
	data := []byte{1}
	data = binary.BigEndian.AppendUint16(data, uint16(d))
	data = binary.BigEndian.AppendUint64(data, uint64(len(keys)))
	data = append(data, p...)
	l, r := plainRoot(left), plainRoot(right)
	return sha256.Sum256(append(append(data, l[:]...), r[:]...))
}

// some returns n keys of a few values, as those of a log: some are shared by many entries.
func some(n int) (keys [][]byte) {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range n {
		value := fmt.Sprintf("source\x00https://example.com/%d\x00", r.IntN(5))
		switch r.IntN(3) {
		case 0:
			value = fmt.Sprintf("digest\x00%064x\x00", sha256.Sum256([]byte{byte(i), byte(i >> 8)}))
		case 1:
			value = "issuer\x00https://token.example\x00"
		}
		keys = append(keys, binary.BigEndian.AppendUint64([]byte(value), uint64(i)))
	}
	return keys
}

func mustInsert(t testing.TB, m Map, keys ...[]byte) Map {
	t.Helper()
	m, err := m.Insert(slices.Clone(keys))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// The root is that of the definition, in whatever order and portions keys are inserted, and
// an older map stays as it was.
func TestRoot(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 100, 129, 1000, 20000} {
		keys := some(n)
		sorted := slices.Clone(keys)
		slices.SortFunc(sorted, bytes.Compare)
		want := plainRoot(sorted)
		for _, step := range []int{1, 7, 500, 100000} {
			if n/step > 1000 {
				continue
			}
			rand.Shuffle(n, func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
			m, half := Map{}, Map{}
			var halfKeys [][]byte
			for i := 0; i < n; i += step {
				m = mustInsert(t, m, keys[i:min(n, i+step)]...)
				if i <= n/2 {
					half, halfKeys = m, slices.Clone(keys[:min(n, i+step)])
				}
			}
			if m.Root() != want || m.Len() != int64(n) {
				t.Errorf("%d keys, %d at a time: got root %v of %d keys, want %x", n, step, m.Root(), m.Len(), want)
			}
			slices.SortFunc(halfKeys, bytes.Compare)
			if got := half.Root(); n > 0 && got != plainRoot(halfKeys) {
				t.Errorf("%d keys, %d at a time: the older map has changed", n, step)
			}
			again := mustInsert(t, m, keys...)
			if again.Root() != want {
				t.Errorf("%d keys inserted twice: got root %v, want %x", n, again.Root(), want)
			}
		}
	}
}

func TestInsertRefuses(t *testing.T) {
	full := mustInsert(t, Map{}, some(1000)...)
	for what, c := range map[string]struct {
		m    Map
		keys [][]byte
	}{
		"empty":                 {Map{}, [][]byte{{}}},
		"too long":              {Map{}, [][]byte{make([]byte, MaxKey+1)}},
		"prefixes":              {Map{}, [][]byte{[]byte("ab"), []byte("abc")}},
		"a prefix of a key":     {mustInsert(t, Map{}, []byte("abc")), [][]byte{[]byte("ab")}},
		"longer than a key":     {mustInsert(t, Map{}, []byte("ab")), [][]byte{[]byte("abc")}},
		"a prefix of many keys": {full, [][]byte{[]byte("source\x00https://example.com/")}},
		"and others":            {full, [][]byte{[]byte("source\x00https://example.com/"), []byte("zzz")}},
	} {
		if m, err := c.m.Insert(c.keys); err == nil {
			t.Errorf("%s: got a map of %d keys", what, m.Len())
		}
	}
}

func TestProofs(t *testing.T) {
	for _, n := range []int{0, 1, 2, 50, 300, 5000} {
		keys := some(n)
		m := mustInsert(t, Map{}, keys...)
		slices.SortFunc(keys, bytes.Compare)
		for _, r := range ranges() {
			proof, err := m.Prove(r)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Verify(m.Root(), r, proof)
			if err != nil {
				t.Fatalf("%d keys, range %q: %v", n, r, err)
			}
			var want [][]byte
			var total int64
			for _, key := range keys {
				if r.contains(key) {
					want = append(want, key)
				}
				if bytes.HasPrefix(key, r.Prefix) {
					total++
				}
			}
			if !slices.EqualFunc(got.Keys, want, bytes.Equal) || got.Total != total {
				t.Errorf("%d keys, range %q: got %d keys of %d, want %d of %d", n, r, len(got.Keys), got.Total, len(want), total)
			}
			page, to, err := m.Page(r, 3)
			if err != nil || !slices.EqualFunc(page, want[:min(3, len(want))], bytes.Equal) {
				t.Errorf("%d keys, range %q: got the page %q, %v", n, r, page, err)
			}
			if len(want) > 3 && !bytes.Equal(append(slices.Clone(r.Prefix), to...), want[3]) {
				t.Errorf("%d keys, range %q: the page ends before %q, want %q", n, r, to, want[3])
			}
		}
	}
}

func ranges() (out []Range) {
	at := func(i uint64) []byte { return binary.BigEndian.AppendUint64(nil, i) }
	for _, prefix := range []string{"", "d", "issuer\x00", "issuer\x00https://token.example\x00", "issuer\x00https://token.exampl", "issuer\x00https://token.example/\x00", "source\x00https://example.com/3\x00", "source\x00https://example.com/9\x00", "zz", "\x00", "digest\x00" + fmt.Sprintf("%064x", sha256.Sum256([]byte{4, 0})) + "\x00"} {
		out = append(out, Range{Prefix: []byte(prefix)},
			Range{[]byte(prefix), at(10), at(40)}, Range{[]byte(prefix), at(300), nil}, Range{[]byte(prefix), nil, at(5)},
			Range{[]byte(prefix), at(7), at(8)}, Range{[]byte(prefix), at(100000), nil}, Range{[]byte(prefix), at(9), at(9)}, Range{[]byte(prefix), nil, at(1)}, Range{[]byte(prefix), at(1), at(2)})
	}
	return out
}

// The operator leaves out one key: no proof of the smaller set passes for the root, and no
// byte of a proof can be changed.
func TestLies(t *testing.T) {
	keys := some(2000)
	m := mustInsert(t, Map{}, keys...)
	r := Range{Prefix: []byte("source\x00https://example.com/3\x00"), To: binary.BigEndian.AppendUint64(nil, 200)}
	proof, err := m.Prove(r)
	if err != nil {
		t.Fatal(err)
	}
	honest, err := Verify(m.Root(), r, proof)
	if err != nil || len(honest.Keys) < 5 {
		t.Fatalf("got %v, %v, want some keys", honest, err)
	}
	for i := range honest.Keys {
		less := slices.DeleteFunc(slices.Clone(keys), func(key []byte) bool { return bytes.Equal(key, honest.Keys[i]) })
		other := mustInsert(t, Map{}, less...)
		lie, err := other.Prove(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(m.Root(), r, lie); err == nil {
			t.Errorf("a proof without %q was accepted", honest.Keys[i])
		}
	}
	for i := range proof {
		for _, change := range []byte{1, 0x80, 0xff} {
			lie := bytes.Clone(proof)
			lie[i] ^= change
			if got, err := Verify(m.Root(), r, lie); err == nil {
				t.Fatalf("a proof with another byte %d was accepted, and shows %d keys", i, len(got.Keys))
			}
		}
		if _, err := Verify(m.Root(), r, proof[:i]); err == nil {
			t.Fatalf("the first %d bytes of a proof were accepted", i)
		}
	}
	// A proof of another range hides keys of this one.
	for _, other := range ranges() {
		lie, err := m.Prove(other)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Verify(m.Root(), r, lie); err == nil && !slices.EqualFunc(got.Keys, honest.Keys, bytes.Equal) {
			t.Errorf("the proof of %q shows %d keys, want %d", other, len(got.Keys), len(honest.Keys))
		}
	}
	// The root of a subtree, as if it were the only one.
	if _, err := Verify(m.Root(), r, append([]byte{tagHidden}, m.root.hash[:]...)); err == nil {
		t.Error("a proof that hides everything was accepted")
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "map")
	for _, n := range []int{0, 1, 1000, 20000} {
		keys := some(n)
		m := mustInsert(t, Map{}, keys[:n/2]...)
		if err := m.Write(path, []byte("a note")); err != nil {
			t.Fatal(err)
		}
		opened, note, err := Open(path)
		if err != nil || string(note) != "a note" || opened.Root() != m.Root() {
			t.Fatalf("%d keys: got %v, %q, %v", n, opened.Root(), note, err)
		}
		want := mustInsert(t, m, keys[n/2:]...)
		if got := mustInsert(t, opened, keys[n/2:]...); got.Root() != want.Root() {
			t.Errorf("%d keys: got root %v, want %v", n, got.Root(), want.Root())
		} else if err := got.Write(path, nil); err != nil {
			t.Fatal(err)
		}
		again, _, err := Open(path)
		if err != nil || again.Root() != want.Root() {
			t.Errorf("%d keys: got root %v, %v, want %v", n, again.Root(), err, want.Root())
		}
		// The first file is no longer there, and can still be read.
		if got := mustInsert(t, opened, keys...); got.Root() != want.Root() {
			t.Errorf("%d keys: got root %v, want %v", n, got.Root(), want.Root())
		}
	}
}

// A damaged file is an error, or its damage is found when it is read. It never makes another
// root or a proof.
func TestDamagedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "map")
	keys := some(600)
	m := mustInsert(t, Map{}, keys...)
	if err := m.Write(path, []byte("note")); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(data); i += 29 {
		bad := bytes.Clone(data)
		bad[i] ^= 0x41
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		opened, _, err := Open(path)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("byte %d: got %v, want ErrDamaged", i, err)
			}
			continue
		}
		if opened.Root() != m.Root() {
			t.Fatalf("byte %d: got another root", i)
		}
		if _, _, err := opened.Page(Range{}, 1000); !errors.Is(err, ErrDamaged) {
			t.Fatalf("byte %d: reading all keys: got %v, want ErrDamaged", i, err)
		}
		if other, err := opened.Insert(some(1200)); err == nil {
			t.Fatalf("byte %d: inserting: got root %v", i, other.Root())
		}
	}
	for _, n := range []int{0, 5, len(data) / 2, len(data) - 1} {
		if err := os.WriteFile(path, data[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Open(path); !errors.Is(err, ErrDamaged) {
			t.Errorf("%d bytes: got %v, want ErrDamaged", n, err)
		}
	}
}

func TestProofBounds(t *testing.T) {
	if _, err := Verify(plainRoot(nil), Range{}, make([]byte, MaxProof+1)); err == nil {
		t.Error("a proof that is too long was accepted")
	}
	if _, err := Verify(plainRoot(nil), Range{From: []byte("b"), To: []byte("a")}, nil); err == nil {
		t.Error("a range that ends before it begins was accepted")
	}
	// The longest keys, which differ in each bit: no set has longer paths. A range has two, one at each of its ends.
	differing := func(long []byte) (keys [][]byte) {
		for i := range 8 * MaxKey {
			key := bytes.Clone(long)
			key[i/8] ^= 0x80 >> (i % 8)
			keys = append(keys, key)
		}
		return keys
	}
	long := bytes.Repeat([]byte{0x55}, MaxKey)
	low, high := append([]byte{0x7f}, bytes.Repeat([]byte{0xff}, MaxKey-1)...), append([]byte{0x80}, make([]byte, MaxKey-1)...)
	one, two := mustInsert(t, Map{}, append(differing(long), long)...), mustInsert(t, Map{}, slices.Concat(differing(low)[1:], differing(high)[1:], [][]byte{low, high})...)
	for _, c := range []struct {
		m    Map
		r    Range
		keys int
		most int
	}{
		{one, Range{Prefix: long}, 1, 311_000},
		{one, Range{Prefix: long[:MaxKey-1], From: []byte{0x55}, To: []byte{0x56}}, 1, 311_000},
		{two, Range{From: low, To: append(bytes.Clone(high[:MaxKey-1]), 1)}, 2, 621_000},
	} {
		proof, err := c.m.Prove(c.r)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Verify(c.m.Root(), c.r, proof); err != nil || len(got.Keys) != c.keys {
			t.Errorf("got %+v, %v", got, err)
		}
		if t.Logf("a proof of %d bytes", len(proof)); len(proof) > c.most {
			t.Errorf("got a proof of %d bytes, want at most %d", len(proof), c.most)
		}
	}
}

func FuzzVerify(f *testing.F) {
	m := mustInsert(f, Map{}, some(500)...)
	r := Range{Prefix: []byte("source\x00https://example.com/3\x00")}
	for _, other := range ranges() {
		proof, err := m.Prove(other)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(proof)
	}
	proof, err := m.Prove(r)
	if err != nil {
		f.Fatal(err)
	}
	honest, err := Verify(m.Root(), r, proof)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, proof []byte) {
		got, err := Verify(m.Root(), r, proof)
		if err == nil && (!slices.EqualFunc(got.Keys, honest.Keys, bytes.Equal) || got.Total != honest.Total) {
			t.Fatalf("got %d keys of %d, want %d of %d", len(got.Keys), got.Total, len(honest.Keys), honest.Total)
		}
	})
}

// TestTooManyKeys: numbers of keys whose sum is too large do not pass for a small one.
func TestTooManyKeys(t *testing.T) {
	const most = 1<<63 - 1
	key := func(b byte) []byte { return []byte{tagKeys, 1, 1, b} }
	node := func(count uint64, bits ...byte) []byte {
		return append(binary.AppendUvarint([]byte{tagNode, 0}, count), bits...)
	}
	a, b, c, d := leafHash([]byte{0}), leafHash([]byte{0x40}), leafHash([]byte{0x80}), leafHash([]byte{0xc0})
	for _, counts := range [][3]uint64{{4, 2, 2}, {1, most, most}, {most, most, most}, {3, 2, 2}} {
		left, right := nodeHash(1, int64(counts[1]), []byte{0}, &a, &b), nodeHash(1, int64(counts[2]), []byte{0x80}, &c, &d)
		root := nodeHash(0, int64(counts[0]), nil, &left, &right)
		proof := slices.Concat(node(counts[0]), node(counts[1], 0), key(0), key(0x40), node(counts[2], 0x80), key(0x80), key(0xc0))
		_, err := Verify(root, Range{}, proof)
		if good := counts[0] == 4; good && err != nil || !good && (err == nil || !strings.Contains(err.Error(), "a node has")) {
			t.Errorf("%d: got %v", counts, err)
		}
	}
}

// TestSmallProofOfLongKeys: a proof of less than 1 MiB cannot make the verifier hold hundreds of
// MiB of keys, of which it shows three bytes each.
func TestSmallProofOfLongKeys(t *testing.T) {
	common := bytes.Repeat([]byte{'a'}, MaxKey-3)
	proof := []byte{tagNode}
	proof = binary.AppendUvarint(proof, uint64(8*len(common)))
	proof = binary.AppendUvarint(proof, 1<<20)
	proof = append(proof, common...)
	proof = append(proof, tagKeys)
	const n = 250_000
	proof = binary.AppendUvarint(proof, n)
	for i := range n {
		proof = append(proof, 3, byte(i>>16), byte(i>>8), byte(i))
	}
	if len(proof) > MaxProof {
		t.Fatalf("the proof has %d bytes", len(proof))
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := Verify([32]byte{}, Range{Prefix: common[:1]}, proof)
	runtime.ReadMemStats(&after)
	if err == nil || !strings.Contains(err.Error(), "its keys have more than") {
		t.Errorf("got %v", err)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > 32<<20 {
		t.Errorf("a proof of %d bytes made Verify allocate %d MiB", len(proof), got>>20)
	}
}
