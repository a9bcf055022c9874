// Package prefix is the prefix tree of spec/search/v1: a Merkle tree over a set of byte
// strings (keys). Its root is a function of the set, so the order of insertions does not
// matter. A short proof shows all keys in a range, such as all that start with some bytes, and
// that the set has no others there.
//
// No key of a set may be a prefix of another one.
package prefix

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"sort"

	"github.com/colophon-build/colophon/tlog"
)

const (
	// MaxKey is the limit of a key, in bytes.
	MaxKey = 1024
	// MaxProof is the limit of a proof, in bytes. A proof has at most two hashes for each
	// bit of the longest key, and the keys of the range.
	MaxProof = 1 << 20
)

// The root of a sorted list of keys:
//
//	no key    SHA-256 of no bytes
//	one key   SHA-256(0x00 ‖ key)
//	n keys    SHA-256(0x01 ‖ d ‖ n ‖ p ‖ root of the left keys ‖ root of the right keys)
//
// d (16 bits, big-endian) is the number of leading bits that all keys share, n (64 bits,
// big-endian) the number of keys, and p these bits, filled with zero bits to whole bytes. The
// next bit is 0 in the left keys and 1 in the right keys.

func leafHash(key []byte) tlog.Hash {
	var buf [1 + 256]byte
	return sha256.Sum256(append(append(buf[:0], 0), key...))
}

// nodeHash returns the root of count keys that share the first depth bits of key.
func nodeHash(depth int, count int64, key []byte, left, right *tlog.Hash) tlog.Hash {
	var array [1 + 2 + 8 + 256 + 2*sha256.Size]byte
	buf := append(array[:0], 1)
	buf = binary.BigEndian.AppendUint16(buf, uint16(depth))
	buf = binary.BigEndian.AppendUint64(buf, uint64(count))
	buf = appendBits(buf, key, depth)
	buf = append(append(buf, left[:]...), right[:]...)
	return sha256.Sum256(buf)
}

// appendBits appends the first n bits of key, filled with zero bits to whole bytes.
func appendBits(buf, key []byte, n int) []byte {
	buf = append(buf, key[:(n+7)/8]...)
	if n%8 != 0 {
		buf[len(buf)-1] &= 0xff << (8 - n%8)
	}
	return buf
}

// hashKeys returns the root of keys, which are sorted, at least one.
func hashKeys(keys [][]byte) tlog.Hash {
	if len(keys) == 1 {
		return leafHash(keys[0])
	}
	depth, at := split(keys)
	left, right := hashKeys(keys[:at]), hashKeys(keys[at:])
	return nodeHash(depth, int64(len(keys)), keys[0], &left, &right)
}

// split returns how many leading bits the sorted keys share, and the position of the first
// key in which the next bit is 1. It needs two keys or more.
func split(keys [][]byte) (depth, at int) {
	depth = common(keys[0], keys[len(keys)-1])
	return depth, cut(keys, depth)
}

// cut returns the position of the first of the sorted keys in which bit depth is 1. All keys
// share the bits before it.
func cut(keys [][]byte, depth int) int {
	return sort.Search(len(keys), func(i int) bool { return bit(keys[i], depth) == 1 })
}

// common returns how many leading bits a and b share.
func common(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for ; i+8 <= n; i += 8 {
		if x := binary.BigEndian.Uint64(a[i:]) ^ binary.BigEndian.Uint64(b[i:]); x != 0 {
			return 8*i + bits.LeadingZeros64(x)
		}
	}
	for ; i < n; i++ {
		if x := a[i] ^ b[i]; x != 0 {
			return 8*i + bits.LeadingZeros8(x)
		}
	}
	return 8 * n
}

// bit returns bit i of key, counted from the highest bit of the first byte.
func bit(key []byte, i int) byte { return key[i/8] >> (7 - i%8) & 1 }

var errPrefix = errors.New("one key is a prefix of another one")

// checkSorted fails unless keys are those of a set, in order.
func checkSorted(keys [][]byte) error {
	for i, key := range keys {
		if len(key) == 0 || len(key) > MaxKey {
			return fmt.Errorf("key: got %d bytes, want 1 to %d", len(key), MaxKey)
		}
		if i == 0 {
			continue
		}
		if bytes.Compare(keys[i-1], key) >= 0 {
			return errors.New("keys are not sorted")
		}
		if bytes.HasPrefix(key, keys[i-1]) {
			return errPrefix
		}
	}
	return nil
}

// Range is a set of keys: those that start with Prefix and whose other bytes are From or
// later, and before To. To nil means no end.
type Range struct{ Prefix, From, To []byte }

// contains reports whether key is in the range.
func (r Range) contains(key []byte) bool {
	rest, ok := bytes.CutPrefix(key, r.Prefix)
	return ok && bytes.Compare(rest, r.From) >= 0 && (r.To == nil || bytes.Compare(rest, r.To) < 0)
}

// excludes reports whether no key that starts with the first n bits of key is in the range.
func (r Range) excludes(key []byte, n int) bool {
	switch c := compareBits(key, r.Prefix, nil, n); {
	case c != 0:
		return true
	case compareBits(key, r.Prefix, r.From, n) < 0:
		return true
	case r.To == nil:
		return false
	}
	c := compareBits(key, r.Prefix, r.To, n)
	return c > 0 || c == 0 && n >= 8*(len(r.Prefix)+len(r.To))
}

// compareBits compares the first n bits of key with those of a ‖ b, as far as both go.
func compareBits(key, a, b []byte, n int) int {
	for i := 0; i < len(a)+len(b) && 8*i < n; i++ {
		other := byte(0)
		if i < len(a) {
			other = a[i]
		} else {
			other = b[i-len(a)]
		}
		mask := byte(0xff)
		if rest := n - 8*i; rest < 8 {
			mask <<= 8 - rest
		}
		if x, y := key[i]&mask, other&mask; x != y {
			if x < y {
				return -1
			}
			return 1
		}
	}
	return 0
}
