package search

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/tlog/prefix"
)

const origin = "log.example"

var signing = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))

func signerOf(origin string) note.Signer {
	s, err := tlog.NewSigner(origin, signing)
	if err != nil {
		panic(err)
	}
	return s
}

func verifierOf(origin string) note.Verifier {
	v, err := tlog.NewVerifier(origin, signing.Public())
	if err != nil {
		panic(err)
	}
	return v
}

// shelf is a log in memory whose operator is us: it signs whatever it has.
type shelf struct {
	origin  string
	entries [][]byte
	cache   map[[3]int64]tlog.Hash
}

func newShelf(origin string, entries ...[]byte) *shelf {
	return &shelf{origin, entries, map[[3]int64]tlog.Hash{}}
}

// root returns the root of the entries [from, to).
func (s *shelf) root(from, to int64) tlog.Hash {
	switch n := to - from; {
	case n == 0:
		return tlog.EmptyRoot()
	case n == 1:
		return tlog.LeafHash(s.entries[from])
	default:
		if h, ok := s.cache[[3]int64{from, to}]; ok {
			return h
		}
		k := int64(1)
		for 2*k < n {
			k *= 2
		}
		left, right := s.root(from, from+k), s.root(from+k, to)
		h := tlog.Hash(sha256.Sum256(slices.Concat([]byte{1}, left[:], right[:])))
		s.cache[[3]int64{from, to}] = h
		return h
	}
}

func (s *shelf) at(size int) (tlog.Checkpoint, []byte) {
	cp := tlog.Checkpoint{Origin: s.origin, Size: int64(size), Root: s.root(0, int64(size))}
	signed, err := note.Sign(&note.Note{Text: cp.String()}, signerOf(s.origin))
	if err != nil {
		panic(err)
	}
	return cp, signed
}

func (s *shelf) Checkpoint(context.Context) ([]byte, error) {
	_, signed := s.at(len(s.entries))
	return signed, nil
}

func (s *shelf) Tile(_ context.Context, t tlog.Tile) ([]byte, error) {
	if have, ok := t.At(int64(len(s.entries))); !ok || have.Width < t.Width {
		return nil, fs.ErrNotExist
	}
	var data []byte
	for i := range int64(t.Width) {
		at := t.Index*tlog.TileWidth + i
		if t.Level == tlog.Entries {
			data = append(binary.BigEndian.AppendUint16(data, uint16(len(s.entries[at]))), s.entries[at]...)
			continue
		}
		span := int64(1) << (8 * t.Level)
		h := s.root(at*span, (at+1)*span)
		data = append(data, h[:]...)
	}
	return data, nil
}

// certificate returns a certificate as Fulcio's, DER.
func certificate(t testing.TB, san string, extensions map[int]string, more ...pkix.Extension) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(1, 0), NotAfter: time.Unix(2, 0), ExtraExtensions: more}
	if san != "" {
		u, err := url.Parse(san)
		if err != nil {
			t.Fatal(err)
		}
		if u.Scheme == "" {
			template.EmailAddresses = []string{san}
		} else {
			template.URIs = []*url.URL{u}
		}
	}
	for n, value := range extensions {
		raw := []byte(value)
		if n > 6 {
			if raw, err = asn1.MarshalWithParams(value, "utf8"); err != nil {
				t.Fatal(err)
			}
		}
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, n}, Value: raw})
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// record returns a hashedrekord 0.0.2.
func record(digest []byte, signer string, der []byte) []byte {
	return fmt.Appendf(nil, `{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{"hashedRekordV002":{"data":{"algorithm":"SHA2_256","digest":%q},"signature":{"content":"c2ln","verifier":{"keyDetails":"PKIX_ECDSA_P256_SHA_256",%q:{"rawBytes":%q}}}}}}`,
		base64.StdEncoding.EncodeToString(digest), signer, base64.StdEncoding.EncodeToString(der))
}

// world is a log and its index log.
type world struct {
	log, index *shelf
	m          prefix.Map
	indexed    int
	keysOf     func(i int, entry []byte) []Key // what the operator puts into the map
}

func newWorld() *world {
	return &world{log: newShelf(origin), index: newShelf(IndexOrigin(origin)), keysOf: func(_ int, entry []byte) []Key { return KeysOf(entry) }}
}

// commit indexes the entries of the log up to size.
func (w *world) commit(t testing.TB, size int) {
	t.Helper()
	var keys [][]byte
	for i := w.indexed; i < size; i++ {
		for _, key := range w.keysOf(i, w.log.entries[i]) {
			keys = append(keys, key.At(int64(i)))
		}
	}
	var err error
	if w.m, err = w.m.Insert(keys); err != nil {
		t.Fatal(err)
	}
	_, signed := w.log.at(size)
	w.index.entries = append(w.index.entries, Leaf{w.m.Root(), w.m.Len(), string(signed)}.Bytes())
	w.indexed = size
}

func (w *world) state(t testing.TB) *State {
	t.Helper()
	s := &State{Map: w.m, Leaf: w.index.entries[len(w.index.entries)-1]}
	s.Indexed, _ = w.log.at(w.indexed)
	s.Index, s.IndexCheckpoint = w.index.at(len(w.index.entries))
	return s
}

func (w *world) ask(t testing.TB, q Question, limit int) *Answer {
	t.Helper()
	newest, signed := w.log.at(len(w.log.entries))
	a, err := w.state(t).Answer(t.Context(), q, limit, w.log, w.index, newest, signed)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// verify verifies an answer with both implementations, which must agree.
func verify(t testing.TB, a *Answer, q Question) (*Verified, error) {
	t.Helper()
	raw, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := ParseAnswer(raw)
	if err != nil {
		t.Fatal(err)
	}
	v, err := parsed.Verify(q, verifierOf(origin), verifierOf(IndexOrigin(origin)))
	second, err2 := verifySecond(raw, string(q.Kind), q.Value, q.From, origin, signing.Public().(ed25519.PublicKey))
	if (err == nil) != (err2 == nil) {
		t.Fatalf("%v: got %v, the second implementation %v", q, err, err2)
	}
	if err == nil {
		var indexes []int64
		for _, e := range v.Entries {
			indexes = append(indexes, e.Index)
		}
		if !slices.Equal(indexes, second.indexes) || v.Total != second.total || v.Indexed.Size != second.indexed || v.Newest.Size != second.all {
			t.Fatalf("%v: got %v of %d, the second implementation %+v", q, indexes, v.Total, second)
		}
	}
	return v, err
}

// sampleWorld has 700 entries of five repositories, ten of which are not indexed yet, and one
// of which cannot be read.
func sampleWorld(t testing.TB, keysOf func(i int, entry []byte) []Key) *world {
	t.Helper()
	w := newWorld()
	if keysOf != nil {
		w.keysOf = keysOf
	}
	var certs [][]byte
	for i := range 5 {
		repo := fmt.Sprintf("https://git.example/team/app-%d", i)
		certs = append(certs, certificate(t, repo+"/build@refs/heads/main", map[int]string{1: "https://token.example", 8: "https://token.example", 12: repo, 13: strings.Repeat("ab", 20)}))
	}
	for i := range 700 {
		digest := sha256.Sum256([]byte{byte(i), byte(i >> 8)})
		w.log.entries = append(w.log.entries, record(digest[:], "x509Certificate", certs[i%5]))
	}
	w.log.entries[300] = []byte("not JSON")
	for _, size := range []int{1, 20, 21, 256, 600, 690} {
		w.commit(t, size)
	}
	return w
}

func TestAnswers(t *testing.T) {
	w := sampleWorld(t, nil)
	digest := sha256.Sum256([]byte{7, 0})
	for _, c := range []struct {
		key  Key
		want int
	}{
		{Key{Digest, fmt.Sprintf("sha256:%x", digest)}, 1},
		{Key{Digest, "sha256:" + strings.Repeat("0", 64)}, 0},
		{Key{Source, "https://git.example/team/app-3"}, 138},
		{Key{Source, "https://git.example/team/app-"}, 0},
		{Key{Identity, "https://git.example/team/app-0/build@refs/heads/main"}, 137}, // entry 300 is unreadable
		{Key{Issuer, "https://token.example"}, 689},
		{Key{Unparsed, ""}, 1},
		{Key{Commit, strings.Repeat("ab", 20)}, 689},
		{Key{Ref, "refs/heads/main"}, 0},
	} {
		var found []int64
		q := Question{Key: c.key}
		for page := 0; ; page++ {
			a := w.ask(t, q, 50)
			v, err := verify(t, a, q)
			if err != nil {
				t.Fatalf("%v: %v", c.key, err)
			}
			if v.Total != int64(c.want) || v.Indexed.Size != 690 || v.Newest.Size != 700 {
				t.Errorf("%v: got %d entries in all, indexed %d of %d, want %d, 690 of 700", c.key, v.Total, v.Indexed.Size, v.Newest.Size, c.want)
			}
			for _, e := range v.Entries {
				found = append(found, e.Index)
			}
			if len(a.Proof) > 4096 {
				t.Errorf("%v: got a proof of %d bytes", c.key, len(a.Proof))
			}
			if v.To == nil {
				break
			}
			q.From = *v.To
		}
		if len(found) != c.want || !slices.IsSorted(found) {
			t.Errorf("%v: got %d entries, want %d", c.key, len(found), c.want)
		}
	}
}

// The operator is us: each lie is refused, by both implementations.
func TestLies(t *testing.T) {
	honest := sampleWorld(t, nil)
	q := Question{Key: Key{Source, "https://git.example/team/app-3"}}
	if _, err := verify(t, honest.ask(t, q, 12), q); err != nil {
		t.Fatal(err)
	}
	other := sampleWorld(t, nil) // the same entries, other certificates: a fork
	first := honest.ask(t, q, 12)
	for name, lie := range map[string]func(a *Answer){
		"an entry is left out":                   func(a *Answer) { a.Entries = slices.Delete(a.Entries, 4, 5) },
		"the last entry of the page is left out": func(a *Answer) { a.Entries = a.Entries[:len(a.Entries)-1] },
		"an entry and its key are left out": func(a *Answer) {
			w := sampleWorld(t, func(i int, entry []byte) []Key {
				if i == 13 {
					return []Key{{Kind: Unparsed}}
				}
				return KeysOf(entry)
			})
			w.log = honest.log
			b := w.ask(t, q, 12)
			a.Entries, a.Proof, a.To = b.Entries, b.Proof, b.To
		},
		"a key that the entry does not have": func(a *Answer) {
			*a = *sampleWorld(t, func(i int, entry []byte) []Key {
				if i == 4 {
					return append(KeysOf(entry), q.Key)
				}
				return KeysOf(entry)
			}).ask(t, q, 12)
		},
		"an entry is changed":      func(a *Answer) { a.Entries[0].Body = bytes.ToUpper(a.Entries[0].Body) },
		"another entry of the log": func(a *Answer) { a.Entries[0].Body = honest.log.entries[4] },
		"another entry with its own proof": func(a *Answer) {
			a.Entries[0] = honest.ask(t, Question{Key: Key{Issuer, "https://token.example"}}, 1).Entries[0]
		},
		"two entries change places": func(a *Answer) { a.Entries[0], a.Entries[1] = a.Entries[1], a.Entries[0] },
		"the last page ends early":  func(a *Answer) { a.To = nil },
		"the page begins later":     func(a *Answer) { *a = *honest.ask(t, Question{q.Key, 100}, 12) },
		"the page ends later":       func(a *Answer) { *a.To++ },
		"the answer to another question": func(a *Answer) {
			*a = *honest.ask(t, Question{Key: Key{Source, "https://git.example/team/app-2"}}, 12)
		},
		"an older map":                       func(a *Answer) { a.Index, a.Leaf = a.Index-1, honest.index.entries[a.Index-1] },
		"an older entry of the index log":    func(a *Answer) { olderIndex(t, honest, a, q) },
		"another root":                       func(a *Answer) { a.Leaf = bytes.Replace(a.Leaf, []byte("\n"), []byte("\nA"), 1) },
		"an index log of another log":        func(a *Answer) { a.IndexCheckpoint = a.Checkpoint },
		"a checkpoint of the index log":      func(a *Answer) { a.Checkpoint = a.IndexCheckpoint },
		"a newest checkpoint of a fork":      func(a *Answer) { a.Checkpoint = string(right(other.log.at(700))) },
		"an older newest checkpoint":         func(a *Answer) { a.Checkpoint, a.Extends = string(right(honest.log.at(600))), nil },
		"no proof":                           func(a *Answer) { a.Proof = nil },
		"no entries, and an empty proof":     func(a *Answer) { a.Proof, a.Entries, a.To = nil, nil, nil },
		"a longer proof":                     func(a *Answer) { a.Proof = append(a.Proof, 0) },
		"an index that is not signed":        func(a *Answer) { a.IndexCheckpoint = strings.Replace(a.IndexCheckpoint, "— ", "— x", 1) },
		"a hash that is too short":           func(a *Answer) { a.Entries[0].InLog[0] = a.Entries[0].InLog[0][:31] },
		"a consistency proof of other trees": func(a *Answer) { a.Extends[0] = bytes.Repeat([]byte{1}, 32) },
	} {
		a := honest.ask(t, q, 12)
		if !reflect.DeepEqual(a, first) {
			t.Fatalf("%s: an earlier lie changed the log", name)
		}
		lie(a)
		if v, err := verify(t, a, q); err == nil {
			t.Errorf("%s: accepted, with %d entries", name, len(v.Entries))
		}
	}
}

// olderIndex makes a an answer of the index log as it was, with an entry that is not its last.
func olderIndex(t testing.TB, w *world, a *Answer, q Question) {
	old := sampleWorldAt(t, w, 600)
	b := old.ask(t, q, 12)
	inIndex, err := tlog.Inclusion(t.Context(), w.index, left(w.index.at(len(w.index.entries))), b.Index)
	if err != nil {
		t.Fatal(err)
	}
	b.InIndex, b.IndexCheckpoint = raws(inIndex), a.IndexCheckpoint
	*a = *b
}

// sampleWorldAt returns w as it was when it had indexed size entries.
func sampleWorldAt(t testing.TB, w *world, size int) *world {
	old := newWorld()
	old.log = w.log
	for _, s := range []int{1, 20, 21, 256, 600} {
		if s <= size {
			old.commit(t, s)
		}
	}
	return old
}

func left[A, B any](a A, _ B) A  { return a }
func right[A, B any](_ A, b B) B { return b }

// The operator publishes what is wrong, and signs it: the audit finds it.
func TestAudit(t *testing.T) {
	audit := func(log, index tlog.Source) (*Audited, error) {
		return Audit(t.Context(), log, verifierOf(origin), index, verifierOf(IndexOrigin(origin)), nil)
	}
	w := sampleWorld(t, nil)
	got, err := audit(w.log, w.index)
	if err != nil {
		t.Fatal(err)
	}
	if got.Root != w.m.Root() || got.Indexed.Size != 690 || got.Newest.Size != 700 || got.Index.Size != 6 {
		t.Errorf("got %+v", got)
	}
	if got, err := audit(newShelf(origin), newShelf(IndexOrigin(origin))); err != nil || got.Keys != 0 {
		t.Errorf("nothing: got %+v, %v", got, err)
	}
	hide := func(at int) *world {
		return sampleWorld(t, func(i int, entry []byte) []Key {
			if i == at {
				return nil
			}
			return KeysOf(entry)
		})
	}
	for name, w := range map[string]func() *world{
		"omission":              func() *world { return hide(13) },
		"omission of the first": func() *world { return hide(0) },
		"omission of the last":  func() *world { return hide(689) },
		"an invented key": func() *world {
			return sampleWorld(t, func(i int, entry []byte) []Key {
				return append(KeysOf(entry), Key{Source, "https://git.example/victim"})
			})
		},
		"an edited entry": func() *world { w := sampleWorld(t, nil); w.log.entries[5] = w.log.entries[4]; return w },
		"an edit after it was read": func() *world {
			w := sampleWorld(t, nil)
			w.log.entries[5] = w.log.entries[4]
			w.log.cache = map[[3]int64]tlog.Hash{}
			return w
		},
		"a rolled back log": func() *world {
			w := sampleWorld(t, nil)
			w.log.entries, w.log.cache = w.log.entries[:300], map[[3]int64]tlog.Hash{}
			return w
		},
		"a fork of the log": func() *world { w := sampleWorld(t, nil); w.log = sampleWorld(t, nil).log; return w },
		"a repeated root": func() *world {
			w := sampleWorld(t, nil)
			w.index.entries = append(w.index.entries, w.index.entries[5])
			return w
		},
		"roots in another order": func() *world {
			w := sampleWorld(t, nil)
			w.index.entries[3], w.index.entries[2] = w.index.entries[2], w.index.entries[3]
			return w
		},
		"an unknown version": func() *world {
			w := sampleWorld(t, nil)
			w.index.entries[3] = bytes.Replace(w.index.entries[3], []byte("v1"), []byte("v2"), 1)
			return w
		},
		"a wrong number of keys": func() *world {
			w := sampleWorld(t, nil)
			l, _, err := ParseLeaf(w.index.entries[3], verifierOf(origin))
			if err != nil {
				t.Fatal(err)
			}
			l.Keys--
			w.index.entries[3] = l.Bytes()
			return w
		},
		"an index log that was edited": func() *world {
			w := sampleWorld(t, nil)
			w.index.root(0, 6) // in the cache, as the checkpoint says
			w.index.entries[2] = w.index.entries[1]
			return w
		},
	} {
		bad := w()
		if got, err := audit(bad.log, bad.index); !errors.Is(err, ErrContradiction) {
			t.Errorf("%s: got %+v, %v, want a contradiction", name, got, err)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}

func TestLeafRefuses(t *testing.T) {
	w := sampleWorld(t, nil)
	good := w.index.entries[2]
	l, cp, err := ParseLeaf(good, verifierOf(origin))
	if err != nil || cp.Size != 21 || !bytes.Equal(l.Bytes(), good) {
		t.Fatalf("got %+v, %v, %v", l, cp, err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if l, _, err := ParseLeaf(bad, verifierOf(origin)); err == nil && l.Checkpoint == string(w.index.entries[2][len(good)-len(l.Checkpoint):]) && l.Keys == 21*4 {
			t.Logf("byte %d: another root is another leaf", i)
		} else if err == nil && !bytes.Equal(l.Bytes(), bad) {
			t.Errorf("byte %d: got %+v", i, l)
		}
	}
	for _, bad := range []string{"", "colophon search index v1", string(good) + "x", strings.Replace(string(good), "\n\n", "\n", 1), " " + string(good)} {
		if _, _, err := ParseLeaf([]byte(bad), verifierOf(origin)); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}

func TestBounds(t *testing.T) {
	if _, err := ParseAnswer(bytes.Repeat([]byte(" "), MaxAnswer+1)); err == nil {
		t.Error("an answer that is too long was read")
	}
	w := sampleWorld(t, nil)
	newest, signed := w.log.at(700)
	for _, limit := range []int{0, -1, MaxPage + 1} {
		if a, err := w.state(t).Answer(t.Context(), Question{Key: Key{Issuer, "https://token.example"}}, limit, w.log, w.index, newest, signed); err == nil {
			t.Errorf("limit %d: got %d entries", limit, len(a.Entries))
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	w := sampleWorld(f, nil)
	q := Question{Key: Key{Source, "https://git.example/team/app-3"}}
	raw, err := json.Marshal(w.ask(f, q, 3))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	want := []int64{3, 8, 13}
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, err := ParseAnswer(raw)
		if err != nil {
			return
		}
		v, err := a.Verify(q, verifierOf(origin), verifierOf(IndexOrigin(origin)))
		if err != nil {
			return
		}
		for i, e := range v.Entries {
			if i < len(want) && e.Index != want[i] {
				t.Fatalf("got entry %d, want %d", e.Index, want[i])
			}
		}
	})
}
