// Package logtest has a transparency log in memory, for tests of what reads logs. It can misbehave:
// show another history, roll back, sign two roots.
package logtest

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/note"
	merkle "golang.org/x/mod/sumdb/tlog"

	"github.com/colophon-build/colophon/tlog"
)

// Log is a log with the tiles of C2SP tlog-tiles. It is a tlog.Source. Safe for concurrent use.
type Log struct {
	Origin string
	Key    ed25519.PrivateKey

	mu      sync.Mutex
	entries [][]byte
	hashes  stored
	signed  []byte // what Checkpoint returns; nil: the newest, signed now
}

type stored []merkle.Hash

func (s stored) ReadHashes(indexes []int64) ([]merkle.Hash, error) {
	out := make([]merkle.Hash, len(indexes))
	for i, x := range indexes {
		if x >= int64(len(s)) {
			return nil, fs.ErrNotExist
		}
		out[i] = s[x]
	}
	return out, nil
}

// Key returns a key that depends on its name alone.
func Key(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// New returns a log of n entries. Two logs of one origin have the same key and entries.
func New(origin string, n int) *Log {
	l := &Log{Origin: origin, Key: Key(origin)}
	l.Grow(n)
	return l
}

// Grow adds entries until there are n.
func (l *Log) Grow(n int) {
	for l.Size() < int64(n) {
		l.Add(fmt.Appendf(nil, "entry %d", l.Size()))
	}
}

// Size returns the number of entries.
func (l *Log) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(len(l.entries))
}

// Add adds an entry.
func (l *Log) Add(entry []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	hashes, err := merkle.StoredHashes(int64(len(l.entries)), entry, l.hashes)
	if err != nil {
		panic(err)
	}
	l.entries, l.hashes = append(l.entries, entry), append(l.hashes, hashes...)
}

// Fork returns another history of the log: the first n entries are the same, and the others, up to
// size, are not.
func (l *Log) Fork(n, size int) *Log {
	f := &Log{Origin: l.Origin, Key: l.Key}
	f.Grow(n)
	for i := n; i < size; i++ {
		f.Add(fmt.Appendf(nil, "fork %d", i))
	}
	return f
}

// Prefix returns another log with the same key and the first n entries.
func (l *Log) Prefix(n int) *Log {
	p := &Log{Origin: l.Origin, Key: l.Key}
	l.mu.Lock()
	entries := l.entries[:n:n]
	l.mu.Unlock()
	for _, e := range entries {
		p.Add(e)
	}
	return p
}

// At returns the checkpoint of the first size entries.
func (l *Log) At(size int64) tlog.Checkpoint {
	l.mu.Lock()
	defer l.mu.Unlock()
	root, err := merkle.TreeHash(size, l.hashes)
	if err != nil {
		panic(err)
	}
	return tlog.Checkpoint{Origin: l.Origin, Size: size, Root: root}
}

// Sign returns a checkpoint, signed by the log.
func (l *Log) Sign(cp tlog.Checkpoint) []byte {
	signer, err := tlog.NewSigner(l.Origin, l.Key)
	if err != nil {
		panic(err)
	}
	signed, err := note.Sign(&note.Note{Text: cp.String()}, signer)
	if err != nil {
		panic(err)
	}
	return signed
}

// Signed returns the signed checkpoint of the first size entries.
func (l *Log) Signed(size int64) []byte { return l.Sign(l.At(size)) }

// Verifier returns the verifier of the log's checkpoints.
func (l *Log) Verifier() note.Verifier {
	v, err := tlog.NewVerifier(l.Origin, l.Key.Public())
	if err != nil {
		panic(err)
	}
	return v
}

// VKey returns the verifier key of the log.
func (l *Log) VKey() string {
	vkey, err := tlog.FormatLogKey(l.Origin, l.Key.Public())
	if err != nil {
		panic(err)
	}
	return vkey
}

// Show sets what Checkpoint returns; nil: the newest checkpoint.
func (l *Log) Show(signed []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.signed = signed
}

// Checkpoint implements tlog.Source.
func (l *Log) Checkpoint(context.Context) ([]byte, error) {
	l.mu.Lock()
	signed, size := l.signed, int64(len(l.entries))
	l.mu.Unlock()
	if signed != nil {
		return signed, nil
	}
	return l.Signed(size), nil
}

// Tile implements tlog.Source.
func (l *Log) Tile(_ context.Context, t tlog.Tile) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if have, ok := t.At(int64(len(l.entries))); !ok || have.Width < t.Width {
		return nil, fs.ErrNotExist
	}
	var data []byte
	for i := range int64(t.Width) {
		at := t.Index*tlog.TileWidth + i
		if t.Level == tlog.Entries {
			e := l.entries[at]
			data = append(append(data, byte(len(e)>>8), byte(len(e))), e...)
			continue
		}
		h, err := l.hashes.ReadHashes([]int64{merkle.StoredHashIndex(8*t.Level, at)})
		if err != nil {
			return nil, err
		}
		data = append(data, h[0][:]...)
	}
	return data, nil
}

// Cosigner returns an Ed25519 cosigner whose key depends on its name alone.
func Cosigner(t testing.TB, name string) *tlog.Cosigner {
	t.Helper()
	c, err := tlog.NewEd25519Cosigner(name, Key(name))
	if err != nil {
		t.Fatal(err)
	}
	return c
}
