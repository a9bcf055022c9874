// Package tlogtest is a log of C2SP tlog-tiles whose operator is the test: it signs what the
// test says, also two trees of one size, and serves what the test makes of its tiles.
package tlogtest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/note"
	merkle "golang.org/x/mod/sumdb/tlog"

	"github.com/colophon-build/colophon/tlog"
)

// Log is a log in memory. It implements tlog.Source; all methods may be called concurrently.
type Log struct {
	Origin string
	Key    ed25519.PrivateKey

	mu      sync.Mutex
	entries [][]byte
	levels  [][]tlog.Hash // of tiles: see tlog.Nodes
	signed  []byte
	alter   func(path string, data []byte) []byte
}

// New makes an empty log with a new key, and signs its first checkpoint.
func New(t testing.TB, origin string) *Log {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	l := &Log{Origin: origin, Key: key}
	l.Sign(t)
	return l
}

// Clone returns a log with the same key and entries: the begin of a second history.
func (l *Log) Clone(t testing.TB, size int) *Log {
	t.Helper()
	c := &Log{Origin: l.Origin, Key: l.Key}
	c.Add(t, l.entries[:size]...)
	return c
}

// Add appends entries and signs a checkpoint.
func (l *Log) Add(t testing.TB, entries ...[]byte) {
	t.Helper()
	l.mu.Lock()
	for _, e := range entries {
		l.entries = append(l.entries, e)
		hash := tlog.LeafHash(e)
		for level := 0; ; level++ {
			if level == len(l.levels) {
				l.levels = append(l.levels, nil)
			}
			l.levels[level] = append(l.levels[level], hash)
			n := len(l.levels[level])
			if n%tlog.TileWidth != 0 {
				break
			}
			hash, _ = tlog.Subtree(l.levels[level][n-tlog.TileWidth:])
		}
	}
	l.mu.Unlock()
	l.Sign(t)
}

// Sign signs the tree of all entries, and shows it from now on.
func (l *Log) Sign(t testing.TB) {
	t.Helper()
	l.Show(l.SignText(t, l.Tree().String()))
}

// SignText signs any text with the log's key.
func (l *Log) SignText(t testing.TB, text string) []byte {
	t.Helper()
	signer, err := tlog.NewSigner(l.Origin, l.Key)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: text}, signer)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// Tree returns the checkpoint of all entries.
func (l *Log) Tree() tlog.Checkpoint {
	l.mu.Lock()
	defer l.mu.Unlock()
	return tlog.Checkpoint{Origin: l.Origin, Size: int64(len(l.entries)), Root: l.root()}
}

// root joins the roots of the largest full subtrees, from the smallest one on.
func (l *Log) root() tlog.Hash {
	var right *tlog.Hash
	for _, hashes := range l.levels {
		edge := hashes[len(hashes)/tlog.TileWidth*tlog.TileWidth:]
		for width := 1; width <= len(edge); width *= 2 {
			if len(edge)&width == 0 {
				continue
			}
			left := rootOf(edge[len(edge)&^(2*width-1):][:width])
			if right != nil {
				left = merkle.NodeHash(left, *right)
			}
			right = &left
		}
	}
	if right == nil {
		return tlog.EmptyRoot()
	}
	return *right
}

func rootOf(hashes []tlog.Hash) tlog.Hash {
	if len(hashes) == 1 {
		return hashes[0]
	}
	return merkle.NodeHash(rootOf(hashes[:len(hashes)/2]), rootOf(hashes[len(hashes)/2:]))
}

// Show makes the log serve these bytes as its checkpoint.
func (l *Log) Show(signed []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.signed = signed
}

// Become makes the log show the checkpoint and the entries of another one, which may
// contradict its own.
func (l *Log) Become(other *Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries, l.levels, l.signed = other.entries, other.levels, other.signed
}

// Alter makes the log serve what alter returns for a path and what should be there: nil
// means that it is not there. A nil function ends that.
func (l *Log) Alter(alter func(path string, data []byte) []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.alter = alter
}

// Checkpoint implements tlog.Source.
func (l *Log) Checkpoint(context.Context) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.altered("checkpoint", l.signed)
}

// Tile implements tlog.Source.
func (l *Log) Tile(_ context.Context, t tlog.Tile) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if have, ok := t.At(int64(len(l.entries))); !ok || have.Width < t.Width {
		return nil, fmt.Errorf("%s: %w", t.Path(), fs.ErrNotExist)
	}
	var data bytes.Buffer
	from := t.Index * tlog.TileWidth
	for i := from; i < from+int64(t.Width); i++ {
		if t.Level != tlog.Entries {
			data.Write(l.levels[t.Level][i][:])
			continue
		}
		data.Write(binary.BigEndian.AppendUint16(nil, uint16(len(l.entries[i]))))
		data.Write(l.entries[i])
	}
	return l.altered(t.Path(), data.Bytes())
}

func (l *Log) altered(path string, data []byte) ([]byte, error) {
	if l.alter != nil {
		data = l.alter(path, data)
	}
	if data == nil {
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	return data, nil
}

// Verifier returns the verifier of the log's checkpoints.
func (l *Log) Verifier(t testing.TB) note.Verifier {
	t.Helper()
	v, err := tlog.NewVerifier(l.Origin, l.Key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Serve serves the log over HTTP until the test ends.
func (l *Log) Serve(t testing.TB) (url string) {
	s := httptest.NewServer(http.StripPrefix("/", tlog.Handler{Source: l}))
	t.Cleanup(s.Close)
	return s.URL
}
