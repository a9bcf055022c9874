package strict

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

// counted counts the reads.
type counted struct {
	io.Reader
	reads int
}

func (c *counted) Read(p []byte) (int, error) {
	c.reads++
	return c.Reader.Read(p)
}

// TestReadSized: whatever somebody says about the size, the result is that of Read; if it is true, a
// second read finds the end.
func TestReadSized(t *testing.T) {
	const max = 1 << 20
	for _, n := range []int{0, 1, 511, 512, 513, 9_600, ahead - 1, ahead, ahead + 1, max - 1, max, max + 1, 2 * max} {
		content := bytes.Repeat([]byte("x"), n)
		for _, said := range []int64{-1, 0, 1, int64(n) - 1, int64(n), int64(n) + 1, max, 1 << 62} {
			for name, r := range map[string]io.Reader{"whole": bytes.NewReader(content), "in halves": iotest.HalfReader(bytes.NewReader(content))} {
				got, err := ReadSized(r, said, max)
				_, large := errors.AsType[TooLarge](err)
				if large != (n > max) || !large && (err != nil || !bytes.Equal(got, content)) {
					t.Errorf("%d bytes, %d said, %s: got %d bytes and %v", n, said, name, len(got), err)
				}
			}
		}
		if r := (&counted{Reader: bytes.NewReader(content)}); n <= ahead {
			if _, err := ReadSized(r, int64(n), max); err != nil || r.reads > 2 {
				t.Errorf("%d bytes: got %d reads and %v, want at most 2", n, r.reads, err)
			}
		}
	}
	if _, err := ReadSized(iotest.ErrReader(io.ErrClosedPipe), 10, max); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v, want the error of the reader", err)
	}
}

// TestReadSizedKeepsMemory: a size that is not true costs no memory beyond ahead.
func TestReadSizedKeepsMemory(t *testing.T) {
	got, err := ReadSized(bytes.NewReader([]byte("x")), 1<<62, 1<<30)
	if err != nil || cap(got) > 2*ahead {
		t.Errorf("got room for %d bytes and %v, want at most %d", cap(got), err, 2*ahead)
	}
}
