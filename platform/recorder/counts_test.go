package recorder

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/test/await"
)

func digestOf(c string) string { return "sha256:" + strings.Repeat(c, 64) }

func policyAct(digest string) func(string) audit.Record {
	return func(before string) audit.Record {
		return audit.Record{Kind: audit.KindPolicy, Outcome: audit.Done, Basis: audit.Basis{Policy: digest, Before: before}}
	}
}

// Replace records each change once, with what counted before, also across a restart.
func TestReplace(t *testing.T) {
	l := &ledger{got: map[string]*audit.Record{}}
	server := httptest.NewServer(l)
	defer server.Close()
	dir := t.TempDir()
	r := start(t, server.URL, dir, false)
	for _, digest := range []string{digestOf("a"), digestOf("a"), digestOf("b"), digestOf("b")} {
		if err := r.Replace(context.Background(), "policies", digest, policyAct(digest)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = start(t, server.URL, dir, false)
	for _, digest := range []string{digestOf("b"), "", "", digestOf("a")} {
		if err := r.Replace(context.Background(), "policies", digest, policyAct(digest)); err != nil {
			t.Fatal(err)
		}
	}
	l.await(t, 4)
	time.Sleep(100 * time.Millisecond)
	got := map[string]int{}
	for _, x := range l.records() {
		got[x.Basis.Before+">"+x.Basis.Policy]++
	}
	for _, want := range []string{">" + digestOf("a"), digestOf("a") + ">" + digestOf("b"), digestOf("b") + ">", ">" + digestOf("a")} {
		if got[want] == 0 {
			t.Errorf("no record says that %s", want)
		}
	}
	if len(l.records()) != 4 {
		t.Errorf("got %d records, want 4: %v", len(l.records()), got)
	}
}

// An act that the ledger must have waits for it. If it does not come in time, the act has no effect, is tried
// again next time, and the ledger gets to know that it failed.
func TestReplaceRequired(t *testing.T) {
	l := &ledger{got: map[string]*audit.Record{}, status: http.StatusServiceUnavailable}
	server := httptest.NewServer(l)
	defer server.Close()
	r := start(t, server.URL, t.TempDir(), true)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := r.Replace(ctx, "policies", digestOf("a"), policyAct(digestOf("a"))); !errors.Is(err, ErrNotRecorded) {
		t.Fatalf("got %v, want that the act is not recorded", err)
	}
	time.AfterFunc(300*time.Millisecond, func() { l.answer(0, "") })
	ctx, cancel = context.WithTimeout(context.Background(), await.Patience)
	defer cancel()
	if err := r.Replace(ctx, "policies", digestOf("a"), policyAct(digestOf("a"))); err != nil {
		t.Fatal(err)
	}
	l.await(t, 3)
	outcomes := map[string]int{}
	for _, x := range l.records() {
		outcomes[x.Outcome]++
	}
	if outcomes[audit.Failed] != 1 || outcomes[audit.Done] != 2 {
		t.Errorf("got %v, want the act twice, and once that it failed", outcomes)
	}
}

// While the ledger takes nothing, an act that is tried again and again leaves one record that it was tried, and one that
// it failed.
func TestReplaceAgain(t *testing.T) {
	l := &ledger{got: map[string]*audit.Record{}, status: http.StatusServiceUnavailable}
	server := httptest.NewServer(l)
	defer server.Close()
	r := start(t, server.URL, t.TempDir(), true)
	for range 5 {
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		if err := r.Replace(ctx, "policies", digestOf("a"), policyAct(digestOf("a"))); !errors.Is(err, ErrNotRecorded) {
			t.Fatalf("got %v, want that the act is not recorded", err)
		}
		cancel()
	}
	l.answer(0, "")
	ctx, cancel := context.WithTimeout(context.Background(), await.Patience)
	defer cancel()
	if err := r.Replace(ctx, "policies", digestOf("a"), policyAct(digestOf("a"))); err != nil {
		t.Fatal(err)
	}
	await.True(t, "the spool is empty", func() bool { return r.spool.bytes.Load() == 0 })
	if n := len(l.records()); n != 3 {
		t.Errorf("got %d records, want the act twice, and once that it failed", n)
	}
}

// An act whose record could not be kept, because the disk was full, is recorded at the next start.
func TestReplaceFullDisk(t *testing.T) {
	l := &ledger{got: map[string]*audit.Record{}}
	server := httptest.NewServer(l)
	defer server.Close()
	dir := t.TempDir()
	r := start(t, server.URL, dir, false)
	r.spool.bytes.Add(maxSpool + 1) // no more room
	if err := r.Replace(context.Background(), "token/pull", digestOf("a"), policyAct(digestOf("a"))); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = start(t, server.URL, dir, false)
	if err := r.Replace(context.Background(), "token/pull", digestOf("a"), policyAct(digestOf("a"))); err != nil {
		t.Fatal(err)
	}
	l.await(t, 1)
}

// What another process leaves is on the disk at once, and the recorder sends it once, whenever it starts.
func TestLeave(t *testing.T) {
	l := &ledger{got: map[string]*audit.Record{}}
	server := httptest.NewServer(l)
	defer server.Close()
	dir := t.TempDir()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(dir, "left")
	leaver, err := NewLeaver(left, key, "serve", nil)
	if err != nil {
		t.Fatal(err)
	}
	act := audit.Record{Kind: audit.KindEnrolment, Outcome: audit.Done, Where: audit.Where{Kind: "role", Name: audit.Shown("builder")}}
	act.By.User = audit.Shown("alice")
	if err := leaver.Leave(act); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(left)
	if err != nil || len(files) != 1 {
		t.Fatalf("left %v, %v", files, err)
	}
	raw, err := os.ReadFile(filepath.Join(left, files[0].Name()))
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(Config{Role: "serve", Key: key, URL: server.URL, Spool: filepath.Join(dir, "spool"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for range 2 { // a crash between the spool and the removal leaves the file
		if err := r.Collect(left); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(left, files[0].Name()), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l.await(t, 1)
	time.Sleep(100 * time.Millisecond)
	for _, x := range l.records() {
		if x.By.Role != "serve" || x.By.User.Hidden == "" || x.Where.Name.Value != "builder" {
			t.Errorf("got %+v", x)
		}
	}
	if len(l.records()) != 1 {
		t.Errorf("got %d records, want 1", len(l.records()))
	}
}
