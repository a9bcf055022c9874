package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/platform/mirror"
	"github.com/colophon-build/colophon/platform/witness"
	"github.com/colophon-build/colophon/test/logtest"
	"github.com/colophon-build/colophon/tlog"
	protocol "github.com/colophon-build/colophon/tlog/witness"
)

func serveLog(t *testing.T, src tlog.Source) string {
	t.Helper()
	s := httptest.NewServer(http.StripPrefix("/", tlog.Handler{Source: src}))
	t.Cleanup(s.Close)
	return s.URL
}

// serveWitness starts a witness that has cosigned size entries of l.
func serveWitness(t *testing.T, l *logtest.Log, size int64) string {
	t.Helper()
	w, err := witness.New(witness.Config{Dir: filepath.Join(t.TempDir(), "w"), Name: "witness.example/w", Logs: []note.Verifier{l.Verifier()}})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(w.Handler())
	t.Cleanup(func() { s.Close(); _ = w.Close() })
	c := &protocol.Client{URL: s.URL, Keys: w.Keys(), HTTP: http.DefaultClient}
	if _, err := c.Add(t.Context(), l.At(size), l.Signed(size), l); err != nil {
		t.Fatal(err)
	}
	return s.URL
}

// serveMirror starts a mirror with a copy of l.
func serveMirror(t *testing.T, l *logtest.Log) string {
	t.Helper()
	m, err := mirror.New(mirror.Config{Dir: filepath.Join(t.TempDir(), "m"), Name: "mirror.example/m", Logs: []mirror.Log{{Key: l.Verifier(), Source: l}}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	m.Update(t.Context())
	s := httptest.NewServer(m.Handler())
	t.Cleanup(func() { s.Close(); _ = m.Close() })
	return s.URL
}

// TestGossip: a log that shows two histories to two parties is found, by whoever asks both.
func TestGossip(t *testing.T) {
	s := newLogStage(t)
	t.Chdir(t.TempDir())
	l := logtest.New("log.example.com", 300)
	fork := l.Fork(100, 200)
	key := []string{"log", "gossip", "--key", l.VKey()}
	run := func(code int, parties []string, words ...string) string {
		return s.run(code, append(key[:len(key):len(key)], parties...), words...)
	}
	honest, seen := serveLog(t, l), serveWitness(t, l, 150)
	copied, victim := serveMirror(t, l), serveMirror(t, fork)
	saved := s.file("checkpoint.txt", l.Signed(120))
	run(exitOK, []string{honest, seen, copied, saved}, "one history", "150 entries", "120 entries")
	run(exitUndecided, []string{saved}, "only one checkpoint")
	run(exitUndecided, []string{seen, saved}, "no source has the tiles")
	run(exitUndecided, []string{honest, "http://127.0.0.1:1"}, "127.0.0.1:1")
	run(exitUndecided, []string{honest, s.file("other.txt", logtest.New("other.example.com", 5).Signed(5))}, "expected a checkpoint")

	run(exitRejected, []string{honest, seen, victim}, "two histories", "log.example.com-split-view.json")
	raw, err := os.ReadFile("log.example.com-split-view.json")
	if err != nil {
		t.Fatal(err)
	}
	var e splitReport
	if err := json.Unmarshal(raw, &e); err != nil {
		t.Fatal(err)
	}
	older, err := tlog.OpenCheckpoint([]byte(e.Older), l.Verifier())
	if err != nil {
		t.Fatal(err)
	}
	newer, err := tlog.OpenCheckpoint([]byte(e.Newer), l.Verifier())
	if err != nil {
		t.Fatal(err)
	}
	if err := (tlog.SplitView{Older: older, Newer: newer, Prefix: e.Prefix, Proof: e.Proof}).Verify(); err != nil {
		t.Errorf("the evidence proves nothing: %v", err)
	}
	// The same again says the same, and whoever gets the evidence can compare it again.
	run(exitRejected, []string{honest, seen, victim}, "two histories")
	run(exitRejected, []string{honest, victim, "log.example.com-split-view.json", "--evidence", "again.json", "--json"}, "split view")

	// Somebody who replaces a checkpoint by one without the log's signature proves nothing.
	forged := bytes.Replace(l.Signed(120), []byte("\n120\n"), []byte("\n121\n"), 1)
	run(exitUndecided, []string{honest, s.file("forged.txt", forged)}, "is wrong")
}

// TestGossipOfThePlatform: with a trust root, the log itself is a party.
func TestGossipOfThePlatform(t *testing.T) {
	s := newLogStage(t)
	s.trustIt()
	bundle := s.file("app.sigstore.json", s.add("one"))
	s.add("two")
	s.run(exitOK, []string{"log", "gossip", bundle}, "one history", "2 entries", "1 entries")

	// The proof in C2SP's form.
	text := s.run(exitOK, []string{"log", "prove", "0", "--tlog-proof"}, "c2sp.org/tlog-proof@v1")
	p, err := tlog.ParseLogProof([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	v, err := tlog.NewVerifier("127.0.0.1", s.log.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	body, _, err := tlog.Entry(t.Context(), tlog.HTTP{URL: s.url + "/api/v2"}, openedCheckpoint(t, p.Checkpoint, v), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Verify(tlog.LeafHash(body), v); err != nil {
		t.Error(err)
	}
	proof := s.file("proof.tlog-proof", []byte(text))
	s.run(exitOK, []string{"log", "gossip", proof, bundle}, "one history")
	if strings.Contains(text, "witness") {
		t.Error("a log without witnesses has cosignatures")
	}
}

func openedCheckpoint(t *testing.T, signed []byte, v note.Verifier) tlog.Checkpoint {
	t.Helper()
	cp, err := tlog.OpenCheckpoint(signed, v)
	if err != nil {
		t.Fatal(err)
	}
	return cp
}
