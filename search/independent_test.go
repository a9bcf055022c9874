package search

// This file verifies answers a second time. It was written from spec/search/v1 alone, with
// the standard library alone, and shares no code with the packages that it checks.

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
)

// second is what the second implementation finds in an answer.
type second struct {
	indexes      []int64
	total        int64
	indexed, all int64
}

type secondAnswer struct {
	To      *int64
	Entries []struct {
		Index int64
		Body  []byte
		InLog [][]byte
	}
	Proof           []byte
	Index           int64
	Leaf            []byte
	InIndex         [][]byte
	IndexCheckpoint string
	Checkpoint      string
	Extends         [][]byte
}

func must(ok bool, what string) {
	if !ok {
		panic(errors.New(what))
	}
}

// verifySecond verifies an answer.
func verifySecond(raw []byte, kind, value string, from int64, origin string, key ed25519.PublicKey) (found second, err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case error:
			err = p
		default:
			panic(p)
		}
	}()
	var a secondAnswer
	if err := json.Unmarshal(raw, &a); err != nil {
		return found, err
	}
	indexSize, indexRoot := openNote(a.IndexCheckpoint, origin+"/index", key)
	must(a.Index == indexSize-1, "not the last entry of the index log")
	must(bytes.Equal(included(hash(0, a.Leaf), a.Index, indexSize, a.InIndex), indexRoot), "the leaf is not in the index log")
	parts := strings.SplitN(string(a.Leaf), "\n", 5)
	must(len(parts) == 5 && parts[0] == "colophon search index v1" && parts[3] == "", "leaf")
	root, err := base64.StdEncoding.Strict().DecodeString(parts[1])
	must(err == nil && len(root) == 32, "root in the leaf")
	keys, err := strconv.ParseInt(parts[2], 10, 64)
	must(err == nil && keys >= 0 && strconv.FormatInt(keys, 10) == parts[2], "keys in the leaf")
	size, logRoot := openNote(parts[4], origin, key)
	all, newest := openNote(a.Checkpoint, origin, key)
	consistent(size, logRoot, all, newest, a.Extends)

	prefix := []byte(kind + "\x00" + value + "\x00")
	if len(value) > 512 || strings.Contains(value, "\x00") {
		sum := sha256.Sum256([]byte(value))
		prefix = []byte(kind + "\x00sha256:" + hex.EncodeToString(sum[:]) + "\x00")
	}
	p := &secondProof{rest: a.Proof, prefix: prefix, lo: be64(prefix, from)}
	if a.To != nil {
		must(*a.To > from && *a.To < size, "to")
		p.hi = be64(prefix, *a.To)
	}
	if len(a.Proof) == 0 {
		must(bytes.Equal(root, emptyHash()), "no proof")
	} else {
		got, _ := p.tree("", false)
		must(bytes.Equal(got, root), "root of the map")
		must(len(p.rest) == 0, "bytes left over")
	}
	must(len(p.found) == len(a.Entries), "number of entries")
	for i, e := range a.Entries {
		must(e.Index >= 0 && bytes.Equal(p.found[i], be64(prefix, e.Index)), "index of an entry")
		must(bytes.Equal(included(hash(0, e.Body), e.Index, size, e.InLog), logRoot), "an entry is not in the log")
		has := false
		for _, k := range keysSecond(e.Body) {
			has = has || bytes.Equal(be64([]byte(k[0]+"\x00"+k[1]+"\x00"), e.Index), p.found[i])
		}
		must(has, "an entry without the key")
		found.indexes = append(found.indexes, e.Index)
	}
	found.total, found.indexed, found.all = p.total, size, all
	return found, nil
}

func emptyHash() []byte { h := sha256.Sum256(nil); return h[:] }

func hash(tag byte, parts ...[]byte) []byte {
	h := sha256.Sum256(append([]byte{tag}, bytes.Join(parts, nil)...))
	return h[:]
}

func be64(prefix []byte, i int64) []byte {
	out := append([]byte(nil), prefix...)
	for shift := 56; shift >= 0; shift -= 8 {
		out = append(out, byte(i>>shift))
	}
	return out
}

// openNote reads a signed note: C2SP signed-note and tlog-checkpoint.
func openNote(signed, origin string, key ed25519.PublicKey) (int64, []byte) {
	at := strings.LastIndex(signed, "\n\n")
	must(at > 0, "note")
	text := signed[:at+1]
	id := sha256.Sum256([]byte(origin + "\n\x01" + string(key)))
	good := false
	for line := range strings.SplitSeq(strings.TrimSuffix(signed[at+2:], "\n"), "\n") {
		name, sig, _ := strings.Cut(strings.TrimPrefix(line, "— "), " ")
		raw, err := base64.StdEncoding.DecodeString(sig)
		if err == nil && name == origin && len(raw) > 4 && bytes.Equal(raw[:4], id[:4]) {
			must(ed25519.Verify(key, []byte(text), raw[4:]), "signature")
			good = true
		}
	}
	must(good, "not signed by "+origin)
	lines := strings.Split(text, "\n")
	must(len(lines) >= 4 && lines[0] == origin, "origin")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	must(err == nil && size >= 0, "size")
	root, err := base64.StdEncoding.DecodeString(lines[2])
	must(err == nil && len(root) == 32, "root")
	return size, root
}

// included is RFC 9162, 2.1.3.2: the root to which an inclusion proof leads.
func included(leaf []byte, index, size int64, proof [][]byte) []byte {
	must(index >= 0 && index < size, "index")
	fn, sn, r := index, size-1, leaf
	for _, p := range proof {
		must(sn != 0 && len(p) == 32, "inclusion proof")
		if fn&1 == 1 || fn == sn {
			r = hash(1, p, r)
			for fn&1 == 0 && fn != 0 {
				fn, sn = fn>>1, sn>>1
			}
		} else {
			r = hash(1, r, p)
		}
		fn, sn = fn>>1, sn>>1
	}
	must(sn == 0, "inclusion proof is too short")
	return r
}

// consistent is RFC 9162, 2.1.4.2.
func consistent(first int64, firstRoot []byte, second int64, secondRoot []byte, proof [][]byte) {
	must(first <= second, "the log has shrunk")
	if first == second || first == 0 {
		must(len(proof) == 0 && (first == 0 || bytes.Equal(firstRoot, secondRoot)), "consistency")
		return
	}
	if first&(first-1) == 0 {
		proof = append([][]byte{firstRoot}, proof...)
	}
	must(len(proof) > 0, "consistency proof")
	fn, sn := first-1, second-1
	for fn&1 == 1 {
		fn, sn = fn>>1, sn>>1
	}
	fr, sr := proof[0], proof[0]
	for _, c := range proof[1:] {
		must(sn != 0 && len(c) == 32, "consistency proof")
		if fn&1 == 1 || fn == sn {
			fr, sr = hash(1, c, fr), hash(1, c, sr)
			for fn&1 == 0 && fn != 0 {
				fn, sn = fn>>1, sn>>1
			}
		} else {
			sr = hash(1, sr, c)
		}
		fn, sn = fn>>1, sn>>1
	}
	must(sn == 0 && bytes.Equal(fr, firstRoot) && bytes.Equal(sr, secondRoot), "the log was changed")
}

// secondProof reads a proof. Bits are strings of "0" and "1", to be slow and plain.
type secondProof struct {
	rest, prefix, lo, hi []byte
	found                [][]byte
	total                int64
}

func bitsOf(b []byte) string {
	var s strings.Builder
	for _, x := range b {
		fmt.Fprintf(&s, "%08b", x)
	}
	return s.String()
}

func bytesOf(bits string) []byte {
	for len(bits)%8 != 0 {
		bits += "0"
	}
	out := make([]byte, len(bits)/8)
	for i := range bits {
		out[i/8] |= (bits[i] - '0') << (7 - i%8)
	}
	return out
}

// outside reports whether no byte string that starts with these bits is in the range.
func (p *secondProof) outside(bits string) bool {
	within := func(edge string) (string, string) {
		n := min(len(bits), len(edge))
		return bits[:n], edge[:n]
	}
	if a, b := within(bitsOf(p.prefix)); a != b {
		return true
	}
	if a, b := within(bitsOf(p.lo)); a < b {
		return true
	}
	if p.hi == nil {
		return false
	}
	edge := bitsOf(p.hi)
	a, b := within(edge)
	return a > b || a == b && len(bits) >= len(edge)
}

func (p *secondProof) take(n int64) []byte {
	must(n >= 0 && n <= int64(len(p.rest)), "the proof ends early")
	out := p.rest[:n]
	p.rest = p.rest[n:]
	return out
}

func (p *secondProof) number() int64 {
	var x uint64
	for shift := 0; ; shift += 7 {
		b := p.take(1)[0]
		must(shift < 63 && (shift == 0 || b != 0), "LEB128")
		x |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return int64(x)
		}
	}
}

func (p *secondProof) tree(known string, counted bool) (root []byte, keys int64) {
	whole := bytesOf(known[:len(known)/8*8])
	switch p.take(1)[0] {
	case 0:
		root = p.take(32)
		must(p.outside(known), "hidden keys can be in the range")
		return root, 1
	case 1:
		m := p.number()
		must(m >= 1, "no keys")
		var list [][]byte
		for range m {
			key := append(append([]byte(nil), whole...), p.take(p.number())...)
			must(len(key) <= 1024 && strings.HasPrefix(bitsOf(key), known), "a key elsewhere")
			if len(list) > 0 {
				last := list[len(list)-1]
				must(bytes.Compare(last, key) < 0 && !bytes.HasPrefix(key, last), "order of keys")
			}
			list = append(list, key)
			if bytes.HasPrefix(key, p.prefix) {
				if !counted {
					p.total++
				}
				if bytes.Compare(key, p.lo) >= 0 && (p.hi == nil || bytes.Compare(key, p.hi) < 0) {
					p.found = append(p.found, key)
				}
			}
		}
		return rootSecond(list), m
	case 2:
		depth := int64(len(known)) + p.number()
		must(depth <= 8191, "depth")
		n := p.number()
		shown := bitsOf(append(append([]byte(nil), whole...), p.take((depth+7)/8-int64(len(whole)))...))
		must(!strings.Contains(shown[depth:], "1"), "filling")
		path := shown[:depth]
		must(strings.HasPrefix(path, known), "a node elsewhere")
		if !counted && strings.HasPrefix(path, bitsOf(p.prefix)) {
			p.total, counted = p.total+n, true
		}
		left, inLeft := p.tree(path+"0", counted)
		right, inRight := p.tree(path+"1", counted)
		must(n >= inLeft+inRight, "number of keys")
		return nodeSecond(path, n, left, right), n
	}
	panic(errors.New("kind of subtree"))
}

func nodeSecond(path string, n int64, left, right []byte) []byte {
	return hash(1, binary.BigEndian.AppendUint16(nil, uint16(len(path))), be64(nil, n), bytesOf(path), left, right)
}

func rootSecond(keys [][]byte) []byte {
	switch len(keys) {
	case 0:
		return emptyHash()
	case 1:
		return hash(0, keys[0])
	}
	first, last := bitsOf(keys[0]), bitsOf(keys[len(keys)-1])
	d := 0
	for first[d] == last[d] {
		d++
	}
	at := sort.Search(len(keys), func(i int) bool { return bitsOf(keys[i])[d] == '1' })
	return nodeSecond(first[:d], int64(len(keys)), rootSecond(keys[:at]), rootSecond(keys[at:]))
}
