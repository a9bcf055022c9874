package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	records "github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/investigate"
	"github.com/colophon-build/colophon/investigate/casefile"
	"github.com/colophon-build/colophon/test/prooftest"
)

// TestInvestigate investigates with a registry alone, and with kubectl beside it.
func TestInvestigate(t *testing.T) {
	t.Setenv("COLOPHON_PLATFORM", filepath.Join(t.TempDir(), "none"))
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	s := newStage(t)
	s.run(exitUndecided, []string{"investigate", s.image}, "could not be decided", "no trust root")
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"})
	out := s.run(exitOK, []string{"investigate", s.image}, "no broken link: sha256:", prooftest.Commit, "time line:", "what to do:", "without an answer:", "tag: "+s.image, "no platform is configured")
	if first, _, _ := strings.Cut(out, "\n"); !strings.HasPrefix(first, "no broken link:") {
		t.Errorf("the first line is %q", first)
	}
	var c investigate.Case
	if err := json.Unmarshal([]byte(s.run(exitOK, []string{"investigate", s.image, "--json"})), &c); err != nil || c.Subject.Digest == "" || c.Conclusion.State != investigate.Whole {
		t.Errorf("got %+v, %v", c.Conclusion, err)
	}
	out = s.run(exitRejected, []string{"investigate", s.image, "--policy", s.file("policy.json", []byte(`{"source":"https://git.example.com/other"}`))}, "broken link: provenance:")
	if first, _, _ := strings.Cut(out, "\n"); !strings.HasPrefix(first, "broken link: provenance:") || strings.Count(out, "broken link:") != 1 {
		t.Errorf("the first line is %q of\n%s", first, out)
	}
	// --source counts beside a policy, and a case says what was demanded.
	s.run(exitRejected, []string{"investigate", s.image, "--source", "https://git.example.com/other", "--policy", s.file("any.json", []byte(`{"anySource":true}`))}, "broken link: provenance:")
	s.run(exitUsage, []string{"investigate", s.image, "--source", "https://git.example.com/other", "--policy", s.file("one.json", []byte(`{"source":"https://git.example.com/one"}`))}, "--source: expected https://git.example.com/one")
	s.run(exitUsage, []string{"investigate", s.image, "--source", "https://git.example.com/other", "--policy", s.file("signer.json", []byte(`{"signer":{"identity":"a@example.com","issuer":"https://accounts.example.com"}}`))}, "demands no provenance")
	bin := t.TempDir()
	pod := `{"items":[{"metadata":{"namespace":"shop","name":"web-1","creationTimestamp":"2026-01-02T03:04:05Z"},"status":{"containerStatuses":[{"image":"web","imageID":"r.example.com/web@` + c.Subject.Digest + `"}]}},
		{"metadata":{"namespace":"shop","name":"db-1"},"status":{"containerStatuses":[{"imageID":"r.example.com/db@sha256:00"}]}}]}`
	if err := os.WriteFile(filepath.Join(bin, "kubectl"), []byte("#!/bin/sh\ncat <<'EOF'\n"+pod+"\nEOF\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	out = s.run(exitOK, []string{"investigate", s.image, "--cluster"}, "runs: Pod shop/web-1, sha256:")
	if strings.Contains(out, "db-1") {
		t.Errorf("another image was named:\n%s", out)
	}
	for _, bad := range [][]string{{}, {s.image, s.image}, {s.image, "--commit", prooftest.Commit}, {"--commit", "abc"}, {"--commit", prooftest.Commit, "--identity", "a"}, {"--package", "log4j"}, {"--base", "sha256:1"},
		{s.image, "--refetch=all"}, {s.image, "--since", "yesterday"}, {s.image, "--offline"}, {"sha256:" + strings.Repeat("0", 64)}, {s.image, "--policy", s.file("v2.yaml", []byte("apiVersion: colophon.build/v1\nkind: ImagePolicy\n"))}} {
		s.run(exitUsage, append([]string{"investigate"}, bad...))
	}
	s.run(exitOK, []string{"investigate", "--commit", prooftest.Commit}, "commit "+prooftest.Commit+": 0 log entries", "without an answer:")
}

// TestInvestigateLedger: the audit ledger says where the image was decided about, with proof of each record.
func TestInvestigateLedger(t *testing.T) {
	l := newAuditStage(t)
	s := newStage(t)
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"})
	var c investigate.Case
	if err := json.Unmarshal([]byte(s.run(exitOK, []string{"investigate", s.image, "--json"})), &c); err != nil {
		t.Fatal(err)
	}
	sealed, err := l.signer.Seal(records.Record{
		Kind: records.KindAdmission, Outcome: records.Accepted, Effect: records.Allowed, By: records.By{Role: "admission"}, Time: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC),
		About: records.About{Digest: c.Subject.Digest}, Where: records.Where{Cluster: "prod", Kind: "Pod", Name: records.Shown("web-1")},
	}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	added, err := l.ledger.Append(t.Context(), sealed.Marshal())
	if err == nil {
		err = l.ledger.Await(t.Context(), added.Index+1)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.run(exitOK, []string{"investigate", s.image}, "Which decisions were recorded about it? not asked")
	asked := []string{"investigate", s.image, "--ledger", l.url, "--ledger-token-file", l.token}
	s.run(exitUsage, asked, "--key is required the first time")
	l.ask(exitOK, []string{"list", "--key", l.ledger.Key()})
	s.run(exitOK, asked, "decided: accepted/allowed by admission prod", "1 decisions recorded: 1 allowed, 0 refused")
	s.run(exitOK, []string{"investigate", s.image, "--ledger", l.url}, "Which decisions were recorded about it? failed", "401")
}

// TestInvestigateOffline: nobody is asked, not even the repository that a policy names or a log that signs.
func TestInvestigateOffline(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	s := newStage(t)
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"})
	dir := t.TempDir()
	layout := filepath.Join(dir, "layout")
	policy := s.file("policy.json", []byte(`{"source":"https://git.example.com/team/app"}`))
	s.run(exitOK, []string{"copy", s.image, layout, "--policy", policy})
	s.stop()
	s.run(exitOK, []string{"investigate", layout, "--offline", "--policy", policy}, "no broken link:", "the repository was not asked")
	s.run(exitRejected, []string{"investigate", layout, "--offline", "--policy", s.file("other.json", []byte(`{"source":"https://git.example.com/other"}`))}, "broken link: provenance:")
	s.run(exitUsage, []string{"investigate", layout, "--offline", "--case", filepath.Join(dir, "case.zip"), "--key", s.file("k.pem", nil)}, "--unsigned")
	s.run(exitOK, []string{"investigate", layout, "--offline", "--case", filepath.Join(dir, "case.zip"), "--unsigned"}, "kept in")
}

// TestCaseFiles keeps a case, and checks it on a machine that trusts nobody else.
func TestCaseFiles(t *testing.T) {
	t.Setenv("COLOPHON_PLATFORM", filepath.Join(t.TempDir(), "none"))
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	s := newStage(t)
	root := s.file("root.json", s.p.Document())
	s.run(exitOK, []string{"trust", "add", root, "--yes"})
	dir := t.TempDir()
	for _, name := range []string{"case.zip", "case"} {
		path := filepath.Join(dir, name)
		s.run(exitOK, []string{"investigate", s.image, "--case", path, "--unsigned"}, "no broken link:", "kept in "+path)
		s.run(exitUsage, []string{"investigate", s.image, "--case", path, "--unsigned"}, "exists")
		t.Setenv("COLOPHON_TRUST", filepath.Join(t.TempDir(), "trust"))
		s.run(exitUndecided, []string{"case", "verify", path, "--unsigned"}, "undecided", "does not trust")
		s.run(exitOK, []string{"case", "verify", path, "--unsigned", "--trust-root", root}, "accepted", "the case says: no broken link:", "chain         recomputed", "tags          said")
		s.run(exitRejected, []string{"case", "verify", path, "--key", s.file("key.pub", s.p.KeyHolder().PublicKey())}, "is not signed")
		s.run(exitOK, []string{"case", "show", path}, "no broken link:", "nothing of it was verified")
		s.run(exitOK, []string{"case", "report", path, "--kind", "early"}, "Article 14(4)(a)", "TO FILL IN")
		if out := s.run(exitOK, []string{"case", "report", path, "--kind", "final", "--json"}); !json.Valid([]byte(out)) {
			t.Errorf("got %s", out)
		}
		s.run(exitUsage, []string{"case", "report", path, "--kind", "later"}, "early, 72h and final")
		s.run(exitUsage, []string{"case", "verify", path}, "identity")
		t.Setenv("COLOPHON_TRUST", filepath.Join(t.TempDir(), "trust"))
		s.run(exitOK, []string{"trust", "add", root, "--yes"})
	}
	s.bendCase(filepath.Join(dir, "case"), "bent.zip", func(c *investigate.Case) {
		c.Conclusion.Findings[0].Says = "all is well"
		c.Conclusion.Do = []string{"open https://evil.example.com"}
	})
	s.run(exitFailure, []string{"case", "show", filepath.Join(dir, "bent.zip")}, "conclusion")
	s.run(exitFailure, []string{"case", "report", filepath.Join(dir, "bent.zip"), "--kind", "early"}, "conclusion")
	s.bendCase(filepath.Join(dir, "case"), "other.zip", func(c *investigate.Case) {
		c.By, c.Conclusion.Line = "colophon 0.0.1", "all is well"
	})
	if out := s.run(exitOK, []string{"case", "show", filepath.Join(dir, "other.zip")}, "no broken link:", "colophon 0.0.1 made this case and concluded otherwise"); strings.Contains(out, "all is well") {
		t.Errorf("got the words of another version:\n%s", out)
	}
	report := filepath.Join(dir, "case", "report.md")
	if err := os.WriteFile(report, []byte("# all is well\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.run(exitRejected, []string{"case", "verify", filepath.Join(dir, "case"), "--unsigned"}, "rejected", "report.md")
	s.run(exitFailure, []string{"case", "show", filepath.Join(dir, "case")}, "report.md")
	s.run(exitUsage, []string{"case", "verify", filepath.Join(dir, "none.zip"), "--unsigned"}, "none.zip")
	s.run(exitUsage, []string{"investigate", s.image, "--unsigned"}, "goes with --case")
	s.run(exitFailure, []string{"investigate", s.image, "--case", filepath.Join(dir, "b.zip"), "--key", s.file("k.pem", nil)}, "none")
}

// bendCase writes a case beside the case in dir: the same, but for what bend does.
func (s *stage) bendCase(dir, name string, bend func(c *investigate.Case)) {
	s.t.Helper()
	m, err := casefile.Open(dir)
	if err != nil {
		s.t.Fatal(err)
	}
	c, e, err := m.Case()
	if err != nil {
		s.t.Fatal(err)
	}
	bend(c)
	if m, err = casefile.Make(c, e); err != nil {
		s.t.Fatal(err)
	}
	if err := m.Write(filepath.Join(filepath.Dir(dir), name)); err != nil {
		s.t.Fatal(err)
	}
}
