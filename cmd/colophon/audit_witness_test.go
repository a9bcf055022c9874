package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/platform/audit"
	"github.com/colophon-build/colophon/platform/authority/witnesses"
	"github.com/colophon-build/colophon/platform/witness"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/tlog"
)

// TestAuditWitnesses: who demands witnesses gets no answer of a ledger whose checkpoint they have not cosigned, neither
// over HTTP nor from a copy or a proof.
func TestAuditWitnesses(t *testing.T) {
	s := newAuditStage(t)
	s.add(s.ledger, s.signer, 3, "registry.example.com/app:v1")
	if err := s.ledger.Close(); err != nil {
		t.Fatal(err)
	}
	key, err := note.NewVerifier(s.ledger.Key())
	if err != nil {
		t.Fatal(err)
	}
	start := func(name string) (url string, keys []tlog.WitnessKey) {
		w, err := witness.New(witness.Config{Dir: filepath.Join(t.TempDir(), "w"), Name: name, Logs: []note.Verifier{key}, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(w.Handler())
		t.Cleanup(func() { server.Close(); _ = w.Close() })
		return server.URL, w.Keys()
	}
	url, keys := start("witness.example/w")
	_, strangers := start("witness.example/stranger")
	p, err := tlog.ParseWitnessPolicy(fmt.Appendf(nil, "witness w %s %s\nquorum w\n", keys[0], url))
	if err != nil {
		t.Fatal(err)
	}
	set, err := witnesses.New(witnesses.Config{Policy: p, Name: "audit", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.Close)
	l, err := audit.Open(context.Background(), audit.Config{Dir: s.dir, Origin: "audit.example.com", Witnesses: set, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	mux := http.NewServeMux()
	l.Register(mux, func(*http.Request) audit.Access { return audit.Access{Read: true} })
	s.handler, s.ledger = mux, l
	s.add(l, s.signer, 3, "registry.example.com/app:v2")
	ctx, cancel := context.WithTimeout(t.Context(), await.Patience)
	defer cancel()
	if _, ok := set.Await(ctx, 7); !ok {
		t.Fatal("no witness has cosigned the ledger")
	}
	by := func(keys []tlog.WitnessKey) []string {
		return []string{"--witnesses", "1", "--witness-key", keys[0].String()}
	}
	asked := func(args ...string) []string { return append(args, "--key", l.Key()) }
	s.ask(exitOK, append(asked("list"), by(keys)...), "app:v2")
	if out := s.ask(exitRejected, append(asked("list"), by(strangers)...)); out != "" {
		t.Errorf("without the witness that was demanded: got %s", out)
	}
	server := append(asked("verify", s.url), "--token-file", s.token)
	s.run(exitOK, append([]string{"audit"}, append(server, by(keys)...)...), "7 verified")
	s.run(exitRejected, append([]string{"audit"}, append(server, by(strangers)...)...))
	dir := filepath.Join(t.TempDir(), "copy")
	s.ask(exitOK, append(asked("export", dir), by(keys)...))
	proof := s.file("proof.json", []byte(s.ask(exitOK, asked("prove", "2"))))
	for _, place := range []string{dir, proof} {
		s.run(exitOK, append([]string{"audit"}, append(asked("verify", place), by(keys)...)...))
		s.run(exitRejected, append([]string{"audit"}, append(asked("verify", place), by(strangers)...)...))
	}
	s.run(exitRejected, append([]string{"audit"}, append(asked("verify", filepath.Join(s.dir, "ledger")), by(keys)...)...)) // only what is served has cosignatures
	s.run(exitUsage, append([]string{"audit"}, append(asked("verify", dir), "--witnesses", "2", "--witness-key", keys[0].String())...))
}
