package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	records "github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/audit"
)

const readerToken = "the token of a reader"

// auditStage is a real ledger, served over HTTP. A test can change what it serves.
type auditStage struct {
	*stage
	url, dir, token string
	ledger          *audit.Ledger
	signer          *records.Signer
	bend            func(path string, body []byte) []byte
	handler         http.Handler
}

func newAuditStage(t *testing.T) *auditStage {
	t.Setenv("COLOPHON_PLATFORM", "")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	s := &auditStage{stage: &stage{t: t}, dir: t.TempDir()}
	s.token = s.file("token.txt", []byte(readerToken+"\n"))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		s.handler.ServeHTTP(rec, r)
		body := rec.Body.Bytes()
		if s.bend != nil {
			body = s.bend(r.URL.Path, body)
		}
		w.WriteHeader(rec.Code)
		w.Write(body)
	}))
	t.Cleanup(srv.Close)
	s.url = srv.URL
	s.ledger, s.handler = s.open(s.dir)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s.signer = s.writer(s.ledger, key)
	return s
}

// open opens a ledger in dir, and returns what serves it.
func (s *auditStage) open(dir string) (*audit.Ledger, http.Handler) {
	l, err := audit.Open(context.Background(), audit.Config{Dir: dir, Origin: "audit.example.com", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { l.Close() })
	mux := http.NewServeMux()
	l.Register(mux, func(r *http.Request) audit.Access {
		return audit.Access{Read: r.Header.Get("Authorization") == "Bearer "+readerToken}
	})
	return l, mux
}

func (s *auditStage) writer(l *audit.Ledger, key ed25519.PrivateKey) *records.Signer {
	signer, err := records.NewSigner(key, "admission", "", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err == nil {
		err = l.Enrol(context.Background(), records.Writer{Role: "admission", Key: spki})
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return signer
}

// add records n verdicts, and waits until the tree has them.
func (s *auditStage) add(l *audit.Ledger, signer *records.Signer, n int, image string) {
	s.t.Helper()
	last := int64(0)
	for i := range n {
		e, err := signer.Seal(records.Record{
			Kind: records.KindAdmission, Outcome: records.Rejected, Effect: records.Refused, By: records.By{User: records.Shown("ada@example.com")},
			About: records.About{Image: records.Shown(image), Commit: fmt.Sprintf("%040x", i)}, Where: records.Where{Cluster: "prod", Namespace: records.Shown("shop")},
			Time: time.Date(2026, 11, 1, 0, 0, i, 0, time.UTC),
		}, time.Now())
		if err != nil {
			s.t.Fatal(err)
		}
		added, err := l.Append(context.Background(), e.Marshal())
		if err != nil {
			s.t.Fatal(err)
		}
		last = added.Index
	}
	if err := l.Await(context.Background(), last+1); err != nil {
		s.t.Fatal(err)
	}
}

// ask runs colophon audit with the flags that name the ledger.
func (s *auditStage) ask(code int, args []string, words ...string) string {
	s.t.Helper()
	return s.run(code, append([]string{"audit"}, append(args, "--ledger", s.url, "--token-file", s.token)...), words...)
}

// TestAuditAsked asks a ledger, and is told lies.
func TestAuditAsked(t *testing.T) {
	s := newAuditStage(t)
	s.add(s.ledger, s.signer, 3, "r.example.com/app:v1")
	s.ask(exitUsage, []string{"list"}, "--key is required the first time")
	s.ask(exitOK, []string{"list", "--key", s.ledger.Key(), "--cluster", "prod"}, "admission  rejected/refused", "r.example.com/app:v1", "in prod/shop", "3 records, each proven")
	if out := s.ask(exitOK, []string{"list"}); strings.Contains(out, "ada@") {
		t.Errorf("the user is hidden, and shown without --open: %s", out)
	}
	s.ask(exitOK, []string{"list", "--open", "--limit", "2"}, "by ada@example.com", "2 records", "--before ")
	var list auditList
	if err := json.Unmarshal([]byte(s.ask(exitOK, []string{"list", "--commit", fmt.Sprintf("%040x", 1), "--since", "2026-11-01", "--until", "2026-11-02", "--json"})), &list); err != nil || len(list.Records) != 1 || list.Before != nil {
		t.Fatalf("got %+v, %v", list, err)
	}
	r := list.Records[0]
	s.ask(exitOK, []string{"get", r.ID}, "user      (hidden)", "source    0000000000000000000000000000000000000001")
	s.ask(exitOK, []string{"get", r.ID[:20], "--open"}, "user      ada@example.com")
	s.ask(exitUndecided, []string{"get", "99"}, "404")
	for _, name := range []string{"word", "sha256:", r.ID[:18], r.ID + "0"} {
		s.ask(exitUsage, []string{"get", name}, "at least 12 hex digits")
	}
	s.ask(exitUsage, []string{"list", "--kind", "nonsense"}, "--kind: expected release")
	s.ask(exitUsage, []string{"list", "--key", "other+" + strings.SplitN(s.ledger.Key(), "+", 2)[1]}, "with another key")
	s.ask(exitOK, []string{"watch", "--from", "0", "--once", "--outcome", "rejected", "--json"}, `"kind":"admission"`)
	s.run(exitUndecided, []string{"audit", "list", "--ledger", s.url}, "401", "--token-file")

	// The directory of the ledger's data says where the files are that everybody verifies.
	s.run(exitUsage, []string{"audit", "verify", s.dir, "--key", s.ledger.Key()}, "has no checkpoint", "audit verify "+filepath.Join(s.dir, "ledger"))
	proof := s.file("proof.json", []byte(s.ask(exitOK, []string{"prove", fmt.Sprint(r.Index)})))
	s.run(exitOK, []string{"audit", "verify", proof, "--key", s.ledger.Key()}, "proven: 1 records", "(hidden)")
	raw, err := os.ReadFile(proof)
	if err != nil {
		t.Fatal(err)
	}
	s.run(exitRejected, []string{"audit", "verify", s.file("bad.json", []byte(strings.Replace(string(raw), `"index": `, `"index": 1`, 1))), "--key", s.ledger.Key()})

	copied := filepath.Join(t.TempDir(), "copy")
	s.ask(exitOK, []string{"export", copied}, "verified")
	s.run(exitOK, []string{"audit", "verify", copied, "--key", s.ledger.Key()}, "verified")
	s.ask(exitUsage, []string{"export", copied}, "exists")
	s.run(exitOK, []string{"audit", "verify", s.url, "--token-file", s.token}, "verified")

	old := s.body("/records?limit=1")
	other := s.body("/records?filter=" + `%7B%22kinds%22:%5B%22writer%22%5D%7D`)
	s.add(s.ledger, s.signer, 1, "r.example.com/app:v2")
	s.ask(exitOK, []string{"list"}, "app:v2")
	for _, lie := range map[string]struct {
		body []byte
		code int
		args []string
		word string
	}{
		"an older answer":       {old, exitRejected, []string{"list"}, "has shrunk"},
		"the answer to another": {other, exitRejected, []string{"list", "--kind", "admission"}, "answers another question"},
		"another record":        {old, exitRejected, []string{"get", "1"}, "has shrunk"},
		"no JSON":               {[]byte("<html>"), exitUndecided, []string{"list"}, "ledger"},
	} {
		s.bend = func(path string, body []byte) []byte {
			if strings.HasPrefix(path, api.PathAuditRecords) {
				return lie.body
			}
			return body
		}
		s.ask(lie.code, lie.args, lie.word)
		s.bend = nil
	}
	newer := s.body("/records?limit=1")
	s.bend = func(string, []byte) []byte { return newer }
	s.ask(exitRejected, []string{"get", "1"}, "expected the record 1, found entry 4")
	s.bend = nil
	s.ask(exitOK, []string{"list"}, "5 records")
}

// A machine that cannot remember what it has seen does not accuse the ledger.
func TestAuditForgetful(t *testing.T) {
	s := newAuditStage(t)
	s.add(s.ledger, s.signer, 1, "r.example.com/app:v1")
	s.ask(exitOK, []string{"list", "--key", s.ledger.Key()})
	ledger, err := (&ledgerOptions{url: s.url, token: s.token}).openLedger(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The command has read the file before it is damaged.
	s.bend = func(path string, body []byte) []byte {
		if err := os.WriteFile(ledger.state, []byte("{"), 0o600); err != nil {
			t.Error(err)
		}
		return body
	}
	s.ask(exitUndecided, []string{"list"}, "cannot remember the checkpoint")
}

// The same key signs another history: it is found, whichever command asks.
func TestAuditForked(t *testing.T) {
	s := newAuditStage(t)
	s.add(s.ledger, s.signer, 3, "r.example.com/app:v1")
	s.ask(exitOK, []string{"list", "--key", s.ledger.Key()})
	fork := t.TempDir()
	key, err := os.ReadFile(filepath.Join(s.dir, "key.pem"))
	if err == nil {
		err = errors.Join(os.Mkdir(filepath.Join(fork, "ledger"), 0o700), os.WriteFile(filepath.Join(fork, "key.pem"), key, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	_, mine, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	forked, handler := s.open(fork)
	s.add(forked, s.writer(forked, mine), 6, "r.example.com/app:evil")
	s.handler = handler
	for _, args := range [][]string{{"list"}, {"get", "2"}, {"prove", "2"}, {"export", filepath.Join(t.TempDir(), "copy")}, {"watch", "--once", "--from", "0"}} {
		s.ask(exitRejected, args, "contradicts what it signed")
	}
	s.run(exitRejected, []string{"audit", "verify", s.url, "--token-file", s.token})
}

// A ledger that starts again meanwhile, and so breaks off or has no time, is asked again, and not for ever.
func TestAuditPutOff(t *testing.T) {
	s := newAuditStage(t)
	s.add(s.ledger, s.signer, 1, "r.example.com/app:v1")
	there, left := s.handler, 2
	s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if left--; left == 1 {
			panic(http.ErrAbortHandler) // breaks off
		} else if left >= 0 {
			http.Error(w, "it starts again", http.StatusServiceUnavailable)
			return
		}
		there.ServeHTTP(w, r)
	})
	s.ask(exitOK, []string{"list", "--key", s.ledger.Key()}, "r.example.com/app:v1")
	left = 100
	s.ask(exitUndecided, []string{"list"}, "503 Service Unavailable: it starts again")
	if left != 97 {
		t.Errorf("asked %d times, want 3", 100-left)
	}
}

// A ledger cannot send the token of a reader elsewhere, and a file that others may read is no secret.
func TestAuditToken(t *testing.T) {
	s := newAuditStage(t)
	got := make(chan string, 10)
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header.Get("Authorization") }))
	defer thief.Close()
	s.handler = http.RedirectHandler(thief.URL, http.StatusTemporaryRedirect)
	s.ask(exitUndecided, []string{"list", "--key", s.ledger.Key()}, "307")
	select {
	case token := <-got:
		t.Errorf("the other server got %q", token)
	default:
	}
	if err := os.Chmod(s.token, fs.FileMode(0o644)); err != nil {
		t.Fatal(err)
	}
	s.ask(exitUsage, []string{"list"}, "only its owner may read")
	s.run(exitUsage, []string{"audit", "list", "--ledger", "http://audit.example.com", "--key", s.ledger.Key()}, "expected https://HOST")
}

// More new records than watch keeps in memory end it: it leaves none out silently.
func TestAuditWatchBounded(t *testing.T) {
	s := newAuditStage(t)
	s.add(s.ledger, s.signer, 4, "r.example.com/app:v1")
	ledger, err := (&ledgerOptions{url: s.url, key: s.ledger.Key(), token: s.token}).openLedger(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	w := &auditWatch{ledger: ledger, most: 3, timeout: time.Minute, out: &out}
	if err := w.look(context.Background()); err == nil || !strings.Contains(err.Error(), "more than 3 records") || out.Len() > 0 {
		t.Errorf("got %v and %q", err, out.String())
	}
	w.next = 2
	if err := w.look(context.Background()); err != nil || strings.Count(out.String(), "\n") != 3 || w.next != 5 {
		t.Errorf("got %v and %q, next %d", err, out.String(), w.next)
	}
}

// body returns what the ledger answers to a reader.
func (s *auditStage) body(path string) []byte {
	r := httptest.NewRequest(http.MethodGet, api.PathAudit+path, nil)
	r.Header.Set("Authorization", "Bearer "+readerToken)
	rec := httptest.NewRecorder()
	s.handler.ServeHTTP(rec, r)
	if rec.Code != http.StatusOK {
		s.t.Fatalf("%s: got %d %s", path, rec.Code, rec.Body)
	}
	return rec.Body.Bytes()
}
