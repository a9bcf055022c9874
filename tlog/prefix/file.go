package prefix

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/tlog"
)

// ErrDamaged means that a file is not one that Write wrote. The map has to be made again from
// the log.
var ErrDamaged = errors.New("the file is damaged")

// The file of a map. Numbers are 64 bits, big-endian, in the end, and uvarints in the nodes:
//
//	magic
//	lists of keys        one for each bucket, from left to right
//	nodes                in post-order; a bucket: 0, keys, bytes of its list, hash, first key
//	                     an inner node: 1, depth
//	note                 the caller's
//	end                  bytes of lists, nodes and note; SHA-256 of nodes, note and these
//
// The hash of an inner node is computed, so the root shows whether the nodes are those that
// were written.
const (
	magic    = "colophon map 1\n"
	endSize  = 3*8 + sha256.Size
	maxNodes = 8 << 30 // nodes and note of a file, in bytes
)

// Write writes the map to a file, with a note of the caller. It replaces the file: after a
// crash at any moment, the file is the old one or the new one.
func (m Map) Write(path string, note []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".tmp-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	w := &writer{out: bufio.NewWriterSize(f, 1<<20), sum: sha256.New()}
	w.write([]byte(magic))
	lists := w.lists(m.root)
	nodes := w.nodes(m.root)
	w.writeSummed(note)
	var end []byte
	for _, n := range []int64{lists, nodes, int64(len(note))} {
		end = binary.BigEndian.AppendUint64(end, uint64(n))
	}
	w.writeSummed(end)
	w.write(w.sum.Sum(nil))
	if err := errors.Join(w.err, w.out.Flush(), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

type writer struct {
	out *bufio.Writer
	sum hash.Hash
	err error
}

func (w *writer) write(data []byte) int64 {
	if w.err == nil {
		_, w.err = w.out.Write(data)
	}
	return int64(len(data))
}

func (w *writer) writeSummed(data []byte) int64 {
	w.sum.Write(data)
	return w.write(data)
}

// lists writes the lists of all buckets, and returns their size.
func (w *writer) lists(n *node) int64 {
	switch {
	case n == nil || w.err != nil:
		return 0
	case n.left != nil:
		left := w.lists(n.left)
		return left + w.lists(n.right)
	}
	data, err := n.packed()
	if err != nil {
		w.err = err
		return 0
	}
	return w.write(data)
}

// nodes writes all nodes, and returns their size.
func (w *writer) nodes(n *node) int64 {
	if n == nil || w.err != nil {
		return 0
	}
	if n.left != nil {
		size := w.nodes(n.left) + w.nodes(n.right)
		return size + w.writeSummed(binary.AppendUvarint([]byte{1}, uint64(n.depth)))
	}
	out := binary.AppendUvarint([]byte{0}, uint64(n.count))
	length := n.length
	if n.data != nil {
		length = len(n.data)
	}
	out = binary.AppendUvarint(out, uint64(length))
	out = append(out, n.hash[:]...)
	out = append(binary.AppendUvarint(out, uint64(len(n.first))), n.first...)
	return w.writeSummed(out)
}

// Open opens a map that Write wrote, and returns its note. It reads the nodes alone: lists of
// keys are read and verified when they are needed. The file is closed when no map needs it. The
// error matches ErrDamaged if the file is not one that Write wrote; a file that has been
// changed with care has another root.
func Open(path string) (m Map, note []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return Map{}, nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
			err = fmt.Errorf("%s: %w", path, err)
		}
	}()
	st, err := f.Stat()
	if err != nil {
		return Map{}, nil, err
	}
	end, head := make([]byte, endSize), make([]byte, len(magic))
	if st.Size() < int64(len(magic))+endSize {
		return Map{}, nil, fmt.Errorf("%w: it has %d bytes", ErrDamaged, st.Size())
	}
	if _, err := f.ReadAt(head, 0); err != nil {
		return Map{}, nil, err
	}
	if _, err := f.ReadAt(end, st.Size()-endSize); err != nil {
		return Map{}, nil, err
	}
	var sizes [3]int64
	total := int64(len(magic)) + endSize
	for i := range sizes {
		sizes[i] = int64(binary.BigEndian.Uint64(end[8*i:]))
		if sizes[i] < 0 || sizes[i] > st.Size() {
			return Map{}, nil, fmt.Errorf("%w: its end is malformed", ErrDamaged)
		}
		total += sizes[i]
	}
	if string(head) != magic || total != st.Size() || sizes[1]+sizes[2] > maxNodes {
		return Map{}, nil, fmt.Errorf("%w: its end is malformed", ErrDamaged)
	}
	data := make([]byte, sizes[1]+sizes[2])
	if _, err := f.ReadAt(data, int64(len(magic))+sizes[0]); err != nil {
		return Map{}, nil, err
	}
	sum := sha256.New()
	sum.Write(data)
	sum.Write(end[:3*8])
	if !bytes.Equal(sum.Sum(nil), end[3*8:]) {
		return Map{}, nil, fmt.Errorf("%w: its hash is wrong", ErrDamaged)
	}
	root, err := readNodes(data[:sizes[1]], f, sizes[0])
	if err != nil {
		return Map{}, nil, err
	}
	return Map{root}, bytes.Clone(data[sizes[1]:]), nil
}

// readNodes reads the nodes of a file whose lists have so many bytes.
func readNodes(data []byte, f io.ReaderAt, lists int64) (*node, error) {
	malformed := fmt.Errorf("%w: a node is malformed", ErrDamaged)
	number := func(most int64) (int64, bool) {
		x, n := binary.Uvarint(data)
		if n <= 0 || x > uint64(most) {
			return 0, false
		}
		data = data[n:]
		return int64(x), true
	}
	var stack []*node
	var offset int64
	for len(data) > 0 {
		kind := data[0]
		data = data[1:]
		if kind == 1 {
			depth, ok := number(8*MaxKey - 1)
			if !ok || len(stack) < 2 {
				return nil, malformed
			}
			left, right := stack[len(stack)-2], stack[len(stack)-1]
			if 8*min(len(left.first), len(right.first)) <= int(depth) {
				return nil, malformed
			}
			stack = append(stack[:len(stack)-2], join(int(depth), left, right))
			continue
		}
		count, ok := number(bucketKeys)
		length, ok2 := number(bucketKeys * (MaxKey + 4))
		if kind != 0 || !ok || !ok2 || count == 0 || offset+length > lists || len(data) < sha256.Size {
			return nil, malformed
		}
		n := &node{hash: tlog.Hash(data), count: count, file: f, offset: int64(len(magic)) + offset, length: int(length)}
		data, offset = data[sha256.Size:], offset+length
		first, ok := number(MaxKey)
		if !ok || first == 0 || first > int64(len(data)) {
			return nil, malformed
		}
		n.first, data = bytes.Clone(data[:first]), data[first:]
		stack = append(stack, n)
	}
	if offset != lists || len(stack) > 1 {
		return nil, malformed
	}
	if len(stack) == 0 {
		return nil, nil
	}
	return stack[0], nil
}
