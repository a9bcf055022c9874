package prefix

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/colophon-build/colophon/tlog"
)

// Map is a set of keys. It never changes: Insert returns another Map, which shares what it
// can. The zero Map is empty. Safe for concurrent use.
type Map struct{ root *node }

const (
	bucketKeys = 32   // keys of a subtree that is kept as one list, at most
	parallel   = 4096 // keys of an insertion that is worth a second goroutine
)

// node is a subtree: an inner node, with two subtrees, or a bucket, the list of its keys. A
// subtree of bucketKeys keys or less is a bucket. Inner nodes are in memory. A bucket that was
// not changed since the map was opened is in the file.
type node struct {
	hash        tlog.Hash
	count       int64
	first       []byte // the first key
	depth       int    // inner node: leading bits that all keys share
	left, right *node  // inner node

	data   []byte // bucket: packed keys; nil if they are in the file
	file   io.ReaderAt
	offset int64
	length int
}

// Root returns the root of the set.
func (m Map) Root() tlog.Hash {
	if m.root == nil {
		return tlog.EmptyRoot()
	}
	return m.root.hash
}

// Len returns the number of keys.
func (m Map) Len() int64 {
	if m.root == nil {
		return 0
	}
	return m.root.count
}

// Insert returns the map with these keys too. It sorts keys, and keeps none of them. It fails
// if a key is empty, longer than MaxKey, or a prefix of another key, and if a map that was
// opened is damaged.
func (m Map) Insert(keys [][]byte) (Map, error) {
	slices.SortFunc(keys, bytes.Compare)
	keys = slices.CompactFunc(keys, bytes.Equal)
	if err := checkSorted(keys); err != nil {
		return Map{}, err
	}
	if len(keys) == 0 {
		return m, nil
	}
	root, err := insert(m.root, keys)
	return Map{root}, err
}

func insert(n *node, keys [][]byte) (*node, error) {
	switch {
	case n == nil:
		return build(keys), nil
	case n.left == nil:
		have, err := n.keys()
		if err != nil {
			return nil, err
		}
		have = merge(have, keys)
		if err := checkSorted(have); err != nil {
			return nil, err
		}
		return build(have), nil
	}
	depth := min(n.depth, common(n.first, keys[0]), common(n.first, keys[len(keys)-1]))
	for _, key := range [][]byte{keys[0], keys[len(keys)-1]} {
		if 8*len(key) <= depth {
			return nil, errPrefix
		}
	}
	at := cut(keys, depth)
	if depth == n.depth {
		return insertBoth(n, keys[:at], keys[at:])
	}
	// Some keys leave the subtree's common bits at depth: a new node above it.
	same, others := keys[:at], keys[at:]
	right := bit(n.first, depth) == 1
	if right {
		same, others = others, same
	}
	if len(same) > 0 {
		var err error
		if n, err = insert(n, same); err != nil {
			return nil, err
		}
	}
	if right {
		return join(depth, build(others), n), nil
	}
	return join(depth, n, build(others)), nil
}

// insertBoth inserts keys into both subtrees of n.
func insertBoth(n *node, toLeft, toRight [][]byte) (*node, error) {
	left, right := n.left, n.right
	var errs [2]error
	var wg sync.WaitGroup
	goLeft := func() {
		if len(toLeft) > 0 {
			left, errs[0] = insert(n.left, toLeft)
		}
	}
	if min(len(toLeft), len(toRight)) > parallel {
		wg.Go(goLeft)
	} else {
		goLeft()
	}
	if len(toRight) > 0 {
		right, errs[1] = insert(n.right, toRight)
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	return join(n.depth, left, right), nil
}

// Page returns the first limit keys of the range, and as to the next one, without the range's
// prefix. to is r.To if there are no others, so the proof of the range that ends there is that
// of the page.
func (m Map) Page(r Range, limit int) (keys [][]byte, to []byte, err error) {
	to = r.To
	err = m.root.walk(r, 0, func(key []byte) bool {
		if len(keys) == limit {
			to = bytes.Clone(key[len(r.Prefix):])
			return false
		}
		keys = append(keys, bytes.Clone(key))
		return true
	})
	if err == errStop {
		err = nil
	}
	return keys, to, err
}

var errStop = errors.New("stop")

// Count returns the number of keys that start with prefix.
func (m Map) Count(prefix []byte) (n int64, err error) {
	err = m.root.walk(Range{Prefix: prefix}, 0, func([]byte) bool {
		n++
		return true
	})
	return n, err
}

// walk calls yield with the keys of the range, in order, until it returns false.
func (n *node) walk(r Range, known int, yield func(key []byte) bool) error {
	switch {
	case n == nil || r.excludes(n.first, known):
		return nil
	case n.left != nil:
		if err := n.left.walk(r, n.depth+1, yield); err != nil {
			return err
		}
		return n.right.walk(r, n.depth+1, yield)
	}
	keys, err := n.keys()
	if err != nil {
		return err
	}
	for _, key := range keys {
		if r.contains(key) && !yield(key) {
			return errStop
		}
	}
	return nil
}

// build returns the subtree of keys, at least one.
func build(keys [][]byte) *node {
	if len(keys) <= bucketKeys {
		return &node{hash: hashKeys(keys), count: int64(len(keys)), first: bytes.Clone(keys[0]), data: pack(keys)}
	}
	depth, at := split(keys)
	return join(depth, build(keys[:at]), build(keys[at:]))
}

func join(depth int, left, right *node) *node {
	n := &node{depth: depth, count: left.count + right.count, first: left.first, left: left, right: right}
	n.hash = nodeHash(depth, n.count, n.first, &left.hash, &right.hash)
	return n
}

// merge merges two sorted lists.
func merge(a, b [][]byte) [][]byte {
	out := make([][]byte, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		switch c := bytes.Compare(a[0], b[0]); {
		case c < 0:
			out, a = append(out, a[0]), a[1:]
		case c > 0:
			out, b = append(out, b[0]), b[1:]
		default:
			out, a, b = append(out, a[0]), a[1:], b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// keys returns the keys of a bucket. If they are in the file, keys compares them with the
// bucket's hash: a damaged file never leads to another root.
func (n *node) keys() ([][]byte, error) {
	if n.data != nil {
		return unpack(n.data, n.count)
	}
	data, err := n.packed()
	if err != nil {
		return nil, err
	}
	keys, err := unpack(data, n.count)
	if err == nil {
		err = checkSorted(keys)
	}
	if err == nil && hashKeys(keys) != n.hash {
		err = errors.New("keys do not have the hash that they had")
	}
	if err != nil {
		return nil, fmt.Errorf("bucket at %d: %w: %w", n.offset, ErrDamaged, err)
	}
	return keys, nil
}

// packed returns the packed keys of a bucket.
func (n *node) packed() ([]byte, error) {
	if n.data != nil {
		return n.data, nil
	}
	data := make([]byte, n.length)
	if _, err := n.file.ReadAt(data, n.offset); err != nil {
		return nil, fmt.Errorf("bucket at %d: %w: %w", n.offset, ErrDamaged, err)
	}
	return data, nil
}

// pack packs sorted keys. Each is the number of bytes that it shares with the one before, the
// number of other bytes, and these.
func pack(keys [][]byte) []byte {
	size := 0
	var last []byte
	for _, key := range keys {
		size += 4 + len(key) - common(last, key)/8
		last = key
	}
	out := make([]byte, 0, size)
	last = nil
	for _, key := range keys {
		shared := common(last, key) / 8
		out = binary.AppendUvarint(out, uint64(shared))
		out = binary.AppendUvarint(out, uint64(len(key)-shared))
		out = append(out, key[shared:]...)
		last = key
	}
	return out
}

// unpack reads what pack wrote.
func unpack(data []byte, count int64) ([][]byte, error) {
	if count > bucketKeys {
		return nil, fmt.Errorf("got %d keys, want at most %d", count, bucketKeys)
	}
	keys := make([][]byte, 0, count)
	arena := make([]byte, 0, 8<<10)
	var last []byte
	for range count {
		shared, n := binary.Uvarint(data)
		if n <= 0 || shared > uint64(len(last)) {
			return nil, errors.New("malformed list of keys")
		}
		data = data[n:]
		rest, n := binary.Uvarint(data)
		if n <= 0 || rest > uint64(len(data)-n) || shared+rest > MaxKey {
			return nil, errors.New("malformed list of keys")
		}
		if size := int(shared + rest); cap(arena)-len(arena) < size {
			arena = make([]byte, 0, max(8<<10, size))
		}
		from := len(arena)
		arena = append(append(arena, last[:shared]...), data[n:n+int(rest)]...)
		last = arena[from:len(arena):len(arena)]
		keys, data = append(keys, last), data[n+int(rest):]
	}
	if len(data) > 0 {
		return nil, errors.New("malformed list of keys")
	}
	return keys, nil
}
