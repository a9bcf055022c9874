package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	records "github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/investigate"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/audit"
	"github.com/colophon-build/colophon/test/prooftest"
)

// ledgerOf starts a real audit ledger, and logs in to it. Its answers are those of broken, if that is set.
func ledgerOf(t *testing.T, s *stage, may bool) (l *audit.Ledger, broken *atomic.Pointer[http.HandlerFunc]) {
	t.Helper()
	l, err := audit.Open(context.Background(), audit.Config{Dir: t.TempDir(), Origin: "audit.example.com", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	mux := http.NewServeMux()
	const token = "the-token-of-a-build-machine"
	l.Register(mux, func(r *http.Request) (by audit.Access) {
		if r.Header.Get("Authorization") == "Bearer "+token {
			by = audit.Access{Account: "ci", Read: true, Report: may}
		}
		return by
	})
	broken = &atomic.Pointer[http.HandlerFunc]{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h := broken.Load(); h != nil {
			(*h)(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	raw, err := json.Marshal(api.ClientConfig{URL: server.URL, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("COLOPHON_PLATFORM", s.file("client.json", raw))
	return l, broken
}

// recordedIn returns the records of a kind, the newest first, opened.
func recordedIn(t *testing.T, l *audit.Ledger, kind records.Kind) (all []*records.Record) {
	t.Helper()
	if _, err := l.Record(t.Context(), records.Record{Kind: records.KindBackup, Outcome: records.Done}); err != nil { // and what is before it
		t.Fatal(err)
	}
	a, err := l.Answer(t.Context(), records.Filter{Kinds: []records.Kind{kind}}, 1<<62, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range a.Records {
		_, _, r, err := records.ParseLeaf(p.Leaf)
		if err == nil {
			r, err = r.Open(p.Openings)
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// TestVerifyRecord: verify --record brings the verdict to the ledger, with the proofs it rests on. An acceptance that
// the ledger does not have is undecided; a rejection stays a rejection.
func TestVerifyRecord(t *testing.T) {
	s := newStage(t)
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"}, "trusted")
	g := newGenuine(t, s)
	l, broken := ledgerOf(t, s, true)
	good := []string{"verify", g.dir, "--source", "git.example.com/team/app", "--skip-source", "--record"}
	bad := []string{"verify", g.dir, "--source", "git.example.com/team/other", "--skip-source", "--record"}
	s.run(exitOK, good, "accepted")
	s.run(exitRejected, bad, "rejected")
	got := recordedIn(t, l, records.KindVerify)
	if len(got) != 2 {
		t.Fatalf("got %d records, want 2", len(got))
	}
	if r := got[1]; r.Outcome != records.Accepted || r.Effect != records.Allowed || r.About.Digest != g.image.Digest.String() || r.About.Image.Value != g.dir || r.By.User.Value != "ci" || len(r.Evidence) < 2 || r.Basis.Policy == "" || r.Basis.Trust == "" || r.About.Commit == "" {
		t.Errorf("the acceptance: got %+v", r)
	}
	if r := got[0]; r.Outcome != records.Rejected || r.Effect != records.Refused || !strings.Contains(r.Reason.Value, "team/other") {
		t.Errorf("the rejection: got %+v", r)
	}

	many := append([]string{"verify", g.dir}, good[1:]...)
	s.run(exitOK, many, "accepted")
	if n := len(recordedIn(t, l, records.KindVerify)); n != 3 {
		t.Errorf("of an image that is named twice: got %d records, want 1 more than 2", n)
	}
	for what, h := range map[string]http.HandlerFunc{
		"a full disk":    func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "full", http.StatusInsufficientStorage) },
		"a login page":   func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>log in") },
		"an empty JSON":  func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "{}") },
		"another place":  func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"no answer":      func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"no such ledger": http.NotFound,
	} {
		broken.Store(&h)
		for _, args := range [][]string{good, many, append([]string{"verify", "--json"}, good[1:]...), append([]string{"verify", "-q"}, good[1:]...)} {
			stdout, stderr := s.say(exitUndecided, args...)
			if strings.Contains(stdout, `"accepted"`) || strings.Contains(stdout, "✓ accepted") || strings.Contains(stdout, "@sha256") {
				t.Errorf("%s: %v says that the image is accepted:\n%s%s", what, args, stdout, stderr)
			}
		}
		if _, stderr := s.say(exitRejected, bad...); !strings.Contains(stderr, "not in the audit ledger") {
			t.Errorf("%s: a rejection that is not recorded: %s", what, stderr)
		}
	}
	broken.Store(nil)
	s.run(exitUsage, append(good, "--offline"), "record")
	t.Setenv("COLOPHON_PLATFORM", filepath.Join(t.TempDir(), "missing"))
	s.run(exitFailure, good, "missing")
}

// TestVerifyRecordNeedsRights: a token that may not record makes no acceptance.
func TestVerifyRecordNeedsRights(t *testing.T) {
	s := newStage(t)
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"}, "trusted")
	g := newGenuine(t, s)
	l, _ := ledgerOf(t, s, false)
	s.run(exitUndecided, []string{"verify", g.dir, "--source", "git.example.com/team/app", "--skip-source", "--record"}, "may not record")
	if n := len(recordedIn(t, l, records.KindVerify)); n != 0 {
		t.Errorf("got %d records, want none", n)
	}
}

// TestCaseRecord: the ledger learns which case file an account signed, and what it is about. Without an answer, the error
// names the file that is kept.
func TestCaseRecord(t *testing.T) {
	s := newStage(t)
	t.Setenv("COLOPHON_PLATFORM", filepath.Join(t.TempDir(), "none"))
	kept := filepath.Join(t.TempDir(), "case.zip")
	s.run(exitUsage, []string{"investigate", s.image, "--record"}, "goes with --case")
	s.run(exitUsage, []string{"investigate", s.image, "--case", kept, "--unsigned", "--record"}, "record")
	l, broken := ledgerOf(t, s, true)
	ledger, err := ledgerToReport(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	manifest := "sha256:" + strings.Repeat("1", 64)
	o := caseOptions{to: kept, record: true}
	if err := o.report(t.Context(), io.Discard, ledger, investigate.Subject{Kind: investigate.Commit, Name: prooftest.Commit, Source: "https://git.example.com/team/app"}, manifest); err != nil {
		t.Fatal(err)
	}
	got := recordedIn(t, l, records.KindCase)
	if len(got) != 1 || got[0].By.User.Value != "ci" || got[0].Outcome != records.Done || got[0].About.Commit != prooftest.Commit || got[0].About.Source == "" || len(got[0].Evidence) != 1 || got[0].Evidence[0] != manifest {
		t.Errorf("got %+v", got)
	}
	full := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "full", http.StatusInsufficientStorage) })
	broken.Store(&full)
	if err := o.report(t.Context(), io.Discard, ledger, investigate.Subject{}, manifest); err == nil || !strings.Contains(err.Error(), "is kept in "+kept+", but it is not in the audit ledger") {
		t.Errorf("got %v", err)
	}
}
