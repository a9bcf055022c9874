// Package tlogtest is a log of C2SP tlog-tiles whose operator is the test: it signs what the
// test says, also two trees of one size, and serves what the test makes of its tiles. The log
// itself, which is honest, is that of logtest.
package tlogtest

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/test/logtest"
	"github.com/colophon-build/colophon/tlog"
)

// Log is a log in memory. It implements tlog.Source; all methods may be called concurrently.
type Log struct {
	Origin string
	Key    ed25519.PrivateKey

	mu    sync.Mutex
	log   *logtest.Log
	alter func(path string, data []byte) []byte
}

// New makes an empty log with a new key, and signs its first checkpoint.
func New(t testing.TB, origin string) *Log {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	l := &Log{Origin: origin, Key: key, log: &logtest.Log{Origin: origin, Key: key}}
	l.Sign(t)
	return l
}

// shown is the log that is served.
func (l *Log) shown() *logtest.Log {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log
}

// Clone returns a log with the same key and entries: the begin of a second history.
func (l *Log) Clone(t testing.TB, size int) *Log {
	c := &Log{Origin: l.Origin, Key: l.Key, log: l.shown().Prefix(size)}
	c.Sign(t)
	return c
}

// Add appends entries and signs a checkpoint.
func (l *Log) Add(t testing.TB, entries ...[]byte) {
	log := l.shown()
	for _, e := range entries {
		log.Add(e)
	}
	l.Sign(t)
}

// Sign signs the tree of all entries, and shows it from now on.
func (l *Log) Sign(t testing.TB) { l.Show(l.SignText(t, l.Tree().String())) }

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
	log := l.shown()
	return log.At(log.Size())
}

// Show makes the log serve these bytes as its checkpoint.
func (l *Log) Show(signed []byte) { l.shown().Show(signed) }

// Become makes the log show the checkpoint and the entries of another one, which may
// contradict its own.
func (l *Log) Become(other *Log) {
	log := other.shown()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log = log
}

// Alter makes the log serve what alter returns for a path and what should be there: nil
// means that it is not there. A nil function ends that.
func (l *Log) Alter(alter func(path string, data []byte) []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.alter = alter
}

// Checkpoint implements tlog.Source.
func (l *Log) Checkpoint(ctx context.Context) ([]byte, error) {
	signed, err := l.shown().Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	return l.altered("checkpoint", signed)
}

// Tile implements tlog.Source.
func (l *Log) Tile(ctx context.Context, t tlog.Tile) ([]byte, error) {
	data, err := l.shown().Tile(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.Path(), err)
	}
	return l.altered(t.Path(), data)
}

func (l *Log) altered(path string, data []byte) ([]byte, error) {
	l.mu.Lock()
	alter := l.alter
	l.mu.Unlock()
	if alter != nil {
		data = alter(path, data)
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
