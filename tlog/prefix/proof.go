package prefix

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/colophon-build/colophon/tlog"
)

// A proof is the tree, with the subtrees that have nothing in the range cut off:
//
//	proof  nothing, if the set is empty, or a tree with b = 0
//	tree   0x00 hash                     the root of a subtree that the range excludes
//	       0x01 m m×(length suffix)      a subtree of m keys
//	       0x02 d-b n bits tree tree     a node: depth, number of keys, left and right subtree
//
// b is how many bits of the subtree's keys the node above shows: its depth and 1, or 0. length,
// m, d-b and n are LEB128 in the shortest form. A suffix is a key without its first ⌊b/8⌋
// bytes, and bits are the first d bits, filled to bytes, without the first ⌊b/8⌋ bytes.
const (
	tagHidden = 0
	tagKeys   = 1
	tagNode   = 2
)

// Prove returns a proof of all keys in the range. Its size grows with their number; see
// Page.
func (m Map) Prove(r Range) ([]byte, error) {
	if m.root == nil {
		return nil, nil
	}
	return m.root.prove(nil, r, 0)
}

func (n *node) prove(out []byte, r Range, known int) ([]byte, error) {
	if r.excludes(n.first, known) {
		return hide(out, n.hash), nil
	}
	if n.left == nil {
		keys, err := n.keys()
		if err != nil {
			return nil, err
		}
		return proveKeys(out, r, known, keys), nil
	}
	out = appendNode(out, known, n.depth, n.count, n.first)
	out, err := n.left.prove(out, r, n.depth+1)
	if err != nil {
		return nil, err
	}
	return n.right.prove(out, r, n.depth+1)
}

func proveKeys(out []byte, r Range, known int, keys [][]byte) []byte {
	if r.excludes(keys[0], known) {
		return hide(out, hashKeys(keys))
	}
	// The keys of a range are neighbours, so the first and the last suffice.
	if len(keys) == 1 || r.contains(keys[0]) && r.contains(keys[len(keys)-1]) {
		out = binary.AppendUvarint(append(out, tagKeys), uint64(len(keys)))
		for _, key := range keys {
			suffix := key[known/8:]
			out = append(binary.AppendUvarint(out, uint64(len(suffix))), suffix...)
		}
		return out
	}
	depth, at := split(keys)
	out = appendNode(out, known, depth, int64(len(keys)), keys[0])
	out = proveKeys(out, r, depth+1, keys[:at])
	return proveKeys(out, r, depth+1, keys[at:])
}

func hide(out []byte, hash tlog.Hash) []byte { return append(append(out, tagHidden), hash[:]...) }

func appendNode(out []byte, known, depth int, count int64, key []byte) []byte {
	out = binary.AppendUvarint(append(out, tagNode), uint64(depth-known))
	out = binary.AppendUvarint(out, uint64(count))
	return append(out, appendBits(nil, key, depth)[known/8:]...)
}

// Result is what a proof shows.
type Result struct {
	Keys  [][]byte // all keys of the set that are in the range, in order
	Total int64    // number of keys that start with the range's prefix
}

// Verify verifies a proof: it fails unless a set with this root has in the range exactly the
// keys that it returns.
func Verify(root tlog.Hash, r Range, proof []byte) (*Result, error) {
	if len(proof) > MaxProof {
		return nil, fmt.Errorf("proof: got %d bytes, want at most %d", len(proof), MaxProof)
	}
	if r.To != nil && bytes.Compare(r.From, r.To) > 0 {
		return nil, errors.New("proof: the range ends before it begins")
	}
	if len(proof) == 0 {
		if root != tlog.EmptyRoot() {
			return nil, errors.New("proof: got none, and the set is not empty")
		}
		return &Result{}, nil
	}
	v := &verifier{r: r, rest: proof}
	hash, _, err := v.tree(nil, 0, false)
	switch {
	case err != nil:
		return nil, fmt.Errorf("proof: %w", err)
	case len(v.rest) > 0:
		return nil, fmt.Errorf("proof: %d bytes are left over", len(v.rest))
	case hash != root:
		return nil, fmt.Errorf("proof: it leads to the root %v, want %v", hash, root)
	}
	return &v.result, nil
}

// maxShown is the limit of all keys that a proof shows, in bytes. In a proof a key is without the
// bytes that the node above shows, so that three bytes can stand for a key of MaxKey bytes.
const maxShown = 4 << 20

// verifier reads a proof from the front.
type verifier struct {
	r      Range
	rest   []byte
	shown  int // bytes of the keys that were read
	result Result
}

// tree reads a subtree whose keys start with the first known bits of key. It returns its
// root, and the least number of keys that it has. counted: Total has its keys.
func (v *verifier) tree(key []byte, known int, counted bool) (tlog.Hash, int64, error) {
	tag, err := v.take(1)
	if err != nil {
		return tlog.Hash{}, 0, err
	}
	switch tag[0] {
	case tagHidden:
		hash, err := v.take(len(tlog.Hash{}))
		if err != nil {
			return tlog.Hash{}, 0, err
		}
		if !v.r.excludes(key, known) {
			return tlog.Hash{}, 0, errors.New("it hides keys that can be in the range")
		}
		return tlog.Hash(hash), 1, nil
	case tagKeys:
		return v.keys(key, known, counted)
	case tagNode:
		return v.node(key, known, counted)
	}
	return tlog.Hash{}, 0, fmt.Errorf("got a subtree of kind %d, want 0 to 2", tag[0])
}

func (v *verifier) keys(key []byte, known int, counted bool) (tlog.Hash, int64, error) {
	n, err := v.number(int64(len(v.rest)))
	if err != nil {
		return tlog.Hash{}, 0, err
	}
	if n == 0 {
		return tlog.Hash{}, 0, errors.New("got a subtree without keys")
	}
	var keys [][]byte
	for range n {
		length, err := v.number(MaxKey)
		if err != nil {
			return tlog.Hash{}, 0, err
		}
		suffix, err := v.take(int(length))
		if err != nil {
			return tlog.Hash{}, 0, err
		}
		if v.shown += known/8 + len(suffix); v.shown > maxShown {
			return tlog.Hash{}, 0, fmt.Errorf("its keys have more than %d bytes", maxShown)
		}
		full := append(append(make([]byte, 0, known/8+len(suffix)), key[:known/8]...), suffix...)
		if common(full, key) < known {
			return tlog.Hash{}, 0, errors.New("a key is not where it belongs")
		}
		keys = append(keys, full)
		if v.r.contains(full) {
			v.result.Keys = append(v.result.Keys, full)
		}
		if !counted && bytes.HasPrefix(full, v.r.Prefix) {
			v.result.Total++
		}
	}
	if err := checkSorted(keys); err != nil {
		return tlog.Hash{}, 0, err
	}
	return hashKeys(keys), n, nil
}

func (v *verifier) node(key []byte, known int, counted bool) (tlog.Hash, int64, error) {
	more, err := v.number(8 * MaxKey)
	if err != nil {
		return tlog.Hash{}, 0, err
	}
	depth := known + int(more)
	if depth >= 8*MaxKey {
		return tlog.Hash{}, 0, fmt.Errorf("depth: got %d, want at most %d", depth, 8*MaxKey-1)
	}
	count, err := v.number(1<<63 - 1)
	if err != nil {
		return tlog.Hash{}, 0, err
	}
	shown, err := v.take((depth+7)/8 - known/8)
	if err != nil {
		return tlog.Hash{}, 0, err
	}
	// One byte more, for the bit in which the two subtrees differ.
	path := append(append(append(make([]byte, 0, depth/8+2), key[:known/8]...), shown...), 0)
	if !bytes.Equal(appendBits(nil, path, depth), path[:(depth+7)/8]) {
		return tlog.Hash{}, 0, errors.New("the bits of a node are not filled with zero bits")
	}
	if compareBits(path, key, nil, known) != 0 {
		return tlog.Hash{}, 0, errors.New("a node is not where it belongs")
	}
	if !counted && depth >= 8*len(v.r.Prefix) && bytes.HasPrefix(path, v.r.Prefix) {
		v.result.Total += count
		counted = true
	}
	left, inLeft, err := v.tree(path, depth+1, counted)
	if err != nil {
		return tlog.Hash{}, 0, err
	}
	path[depth/8] |= 0x80 >> (depth % 8)
	right, inRight, err := v.tree(path, depth+1, counted)
	if err != nil {
		return tlog.Hash{}, 0, err
	}
	if count-inLeft < inRight { // their sum can be too large
		return tlog.Hash{}, 0, fmt.Errorf("a node has %d keys, and shows %d and %d", count, inLeft, inRight)
	}
	path[depth/8] &^= 0x80 >> (depth % 8)
	return nodeHash(depth, count, path, &left, &right), count, nil
}

func (v *verifier) take(n int) ([]byte, error) {
	if n > len(v.rest) {
		return nil, fmt.Errorf("it ends early: got %d bytes, want %d", len(v.rest), n)
	}
	out := v.rest[:n]
	v.rest = v.rest[n:]
	return out, nil
}

// number reads LEB128 in its shortest form.
func (v *verifier) number(most int64) (int64, error) {
	x, n := binary.Uvarint(v.rest)
	if n <= 0 || n > 1 && v.rest[n-1] == 0 {
		return 0, errors.New("malformed number")
	}
	if x > uint64(most) {
		return 0, fmt.Errorf("number: got %d, want at most %d", x, most)
	}
	v.rest = v.rest[n:]
	return int64(x), nil
}
