package audit

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/tlog"

	records "github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/audit/files"
)

const origin = "colophon.example.com/audit"

func open(t testing.TB, cfg Config) *Ledger {
	t.Helper()
	l, err := tryOpen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func tryOpen(cfg Config) (*Ledger, error) {
	cfg.Origin = origin
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return Open(context.Background(), cfg)
}

// writer is a role that records.
type writer struct {
	*records.Signer
	records.Writer
}

func newWriter(t testing.TB, role, instance string) *writer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	s, err := records.NewSigner(key, role, instance, []string{records.FieldUser, records.FieldNamespace})
	if err != nil {
		t.Fatal(err)
	}
	return &writer{s, records.Writer{Role: role, Instance: instance, Key: spki}}
}

func enrolled(t testing.TB, l *Ledger, role, instance string) *writer {
	t.Helper()
	w := newWriter(t, role, instance)
	if err := l.Enrol(context.Background(), w.Writer); err != nil {
		t.Fatal(err)
	}
	return w
}

func digest(n int) string { return fmt.Sprintf("sha256:%064x", n) }

// verdict returns the nth verdict of a test.
func verdict(n int) records.Record {
	outcome, effect := records.Accepted, records.Allowed
	if n%3 == 0 {
		outcome, effect = records.Rejected, records.Refused
	}
	return records.Record{
		Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(n) * time.Second),
		Kind: records.KindAdmission, Outcome: outcome, Effect: effect, By: records.By{User: records.Shown(fmt.Sprintf("user-%d@example.com", n))},
		About: records.About{Image: records.Shown(fmt.Sprintf("registry.example.com/team/app-%d:v1", n%7)), Digest: digest(n % 11), Source: "https://git.example.com/team/app", Commit: fmt.Sprintf("%040x", n%13)},
		Where: records.Where{Cluster: fmt.Sprintf("cluster-%d", n%2), Namespace: records.Shown(fmt.Sprintf("team-%d", n%5)), Kind: "Pod", Name: records.Shown("app")},
		Basis: records.Basis{Policy: digest(99)}, Rules: []records.Rule{{Policy: "production", Rule: "ours", Outcome: outcome}},
		Links: []records.Link{{Name: "signature", State: "holds"}},
	}
}

func (w *writer) entry(t testing.TB, r records.Record) []byte {
	t.Helper()
	e, err := w.Seal(r, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return e.Marshal()
}

// fill adds n verdicts, the first of them the number from.
func fill(t testing.TB, l *Ledger, w *writer, from, n int) {
	t.Helper()
	var wait sync.WaitGroup
	failed := make(chan error, n)
	slots := make(chan struct{}, 200)
	for i := range n {
		data := w.entry(t, verdict(from+i))
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			if _, err := l.Append(context.Background(), data); err != nil {
				failed <- err
			}
		})
	}
	wait.Wait()
	close(failed)
	for err := range failed {
		t.Fatal(err)
	}
	settled(t, l)
}

// settled waits until the tree and the index have all that was acknowledged.
func settled(t testing.TB, l *Ledger) {
	t.Helper()
	await.True(t, "the tree follows", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.behind) == 0 && l.queued == 0
	})
}

// whole reads all entries, and fails unless the tree has each.
func whole(t testing.TB, l *Ledger) (all []files.Entry) {
	t.Helper()
	cp := l.current.Load().Checkpoint
	for tile := int64(0); tile*tlog.TileWidth < cp.Size; tile++ {
		err := files.Bundle(context.Background(), files.Dir(l.dir), cp, tile, func(e files.Entry) error {
			all = append(all, e)
			return nil
		})
		if err != nil && !errors.Is(err, files.ErrGone) {
			t.Fatal(err)
		}
	}
	return all
}

// What is recorded is in the tree, once, opens, and is found; also after a restart, and without the index.
func TestRecords(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Config{Dir: dir})
	w := enrolled(t, l, "admission", "cluster-0")
	fill(t, l, w, 0, 700)
	data := w.entry(t, verdict(700))
	first, err := l.Append(context.Background(), data)
	if err != nil || first.Known {
		t.Fatal(first, err)
	}
	for _, again := range []bool{false, true} {
		if again {
			settled(t, l)
		}
		if second, err := l.Append(context.Background(), data); err != nil || second.Index != first.Index || !second.Known {
			t.Errorf("the same entry again: got %+v, %v, want %+v", second, err, first)
		}
	}
	for _, restart := range []string{"", "with the index", "without the index"} {
		if restart != "" {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if restart == "without the index" {
				for _, suffix := range []string{"", "-wal", "-shm"} {
					os.Remove(filepath.Join(dir, "index.db"+suffix))
				}
			}
			l = open(t, Config{Dir: dir})
			if second, err := l.Append(context.Background(), data); err != nil || second.Index != first.Index {
				t.Errorf("%s: the same entry again: got %+v, %v", restart, second, err)
			}
		}
		all := whole(t, l)
		if len(all) != 702 || all[0].Record.Kind != records.KindWriter {
			t.Fatalf("%s: got %d entries", restart, len(all))
		}
		seen := map[string]bool{}
		for _, e := range all[1:] {
			if seen[e.Leaf.ID()] || len(e.Record.Hidden()) == 0 || len(e.Opened.Hidden()) > 0 {
				t.Fatalf("%s: entry %d: got %+v", restart, e.Index, e.Opened)
			}
			seen[e.Leaf.ID()] = true
		}
		a, err := l.Answer(context.Background(), records.Filter{Cluster: "cluster-1", Namespace: "team-3", Policy: "production", Outcome: records.Accepted}, 1<<62, 1000)
		if err != nil {
			t.Fatal(err)
		}
		want := 0
		for n := range 701 {
			if n%2 == 1 && n%5 == 3 && n%3 != 0 {
				want++
			}
		}
		if len(a.Records) != want || a.More {
			t.Errorf("%s: got %d records, want %d", restart, len(a.Records), want)
		}
		if got, err := l.Get(context.Background(), first.ID[:20]); err != nil || len(got.Records) != 1 || got.Records[0].Index != first.Index {
			t.Errorf("%s: got %+v, %v", restart, got, err)
		}
	}
}

// Who is not enrolled, or for something else, writes nothing.
func TestStrangersWriteNothing(t *testing.T) {
	l := open(t, Config{Dir: t.TempDir()})
	stranger, known := newWriter(t, "admission", "cluster-0"), enrolled(t, l, "gate", "edge")
	self := newWriter(t, records.RoleLedger, "")
	for what, data := range map[string][]byte{
		"not enrolled":            stranger.entry(t, verdict(1)),
		"calls itself the ledger": self.entry(t, records.Record{Kind: records.KindWriter, Outcome: records.Done, Writer: &stranger.Writer}),
		"enrols somebody":         known.entry(t, records.Record{Kind: records.KindWriter, Outcome: records.Done, Writer: &stranger.Writer}),
		"not JSON":                []byte("{"),
		"another's record":        []byte(strings.Replace(string(known.entry(t, verdict(1))), `"sig":"`, `"sig":"AAAA`, 1)),
	} {
		if _, err := l.Append(context.Background(), data); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	known.Revoked = true
	if err := l.Enrol(context.Background(), known.Writer); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(context.Background(), known.entry(t, verdict(1))); !errors.Is(err, ErrRefused) {
		t.Errorf("revoked: got %v", err)
	}
	if n := l.current.Load().Size; n != 2 {
		t.Errorf("got %d entries, want the enrolment and the revocation", n)
	}
}

// A ledger whose key, checkpoint or journal is gone does not begin anew.
func TestLostFiles(t *testing.T) {
	for _, lost := range []string{"key.pem", "ledger/tile/0/000.p/301", "ledger/tile/0"} {
		dir := t.TempDir()
		l := open(t, Config{Dir: dir})
		fill(t, l, enrolled(t, l, "gate", ""), 0, 300)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(lost, "301") {
			lost = "ledger/tile/0/001.p/45"
		}
		if _, err := os.Stat(filepath.Join(dir, lost)); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(filepath.Join(dir, lost)); err != nil {
			t.Fatal(err)
		}
		if l, err := tryOpen(Config{Dir: dir}); err == nil {
			l.Close()
			t.Errorf("%s is missing, and the ledger starts", lost)
		}
	}
}

// A ledger that has lost all that it recorded, or of which the key alone was restored, does not begin another history
// with its key.
func TestLostHistory(t *testing.T) {
	for _, kept := range []string{"key.pem", "key.pem journal", "key.pem base.json", "key.pem ledger", "key.pem ledger base.json", "key.pem journal base.json"} {
		dir := t.TempDir()
		l := open(t, Config{Dir: dir})
		fill(t, l, enrolled(t, l, "gate", ""), 0, 300)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		all, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range all {
			if !slices.Contains(strings.Fields(kept), f.Name()) {
				if err := os.RemoveAll(filepath.Join(dir, f.Name())); err != nil {
					t.Fatal(err)
				}
			}
		}
		if l, err := tryOpen(Config{Dir: dir}); err == nil {
			if n := l.current.Load().Size; n < 300 {
				t.Errorf("of %d files, %s are there, and the ledger starts with %d entries", len(all), kept, n)
			}
			l.Close()
		}
	}
}

// An answer has all records under its checkpoint, also while the index is behind the tree; if the index
// cannot follow, there is no answer.
func TestAnswerIsWhole(t *testing.T) {
	reached, goOn := make(chan struct{}), make(chan struct{})
	var slow atomic.Bool
	l := open(t, Config{Dir: t.TempDir(), step: func(name string) {
		if name == "index" && slow.CompareAndSwap(true, false) {
			close(reached)
			<-goOn
		}
	}})
	w := enrolled(t, l, "gate", "")
	settled(t, l)
	slow.Store(true)
	if _, err := l.Append(context.Background(), w.entry(t, verdict(1))); err != nil {
		t.Fatal(err)
	}
	<-reached
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	a, err := l.Answer(ctx, records.Filter{Role: "gate"}, 1<<62, 10)
	if err == nil && len(a.Records) == 0 {
		t.Errorf("the record is under the checkpoint, and not in the answer: %q", a.Checkpoint)
	}
	close(goOn)
	a, err = l.Answer(context.Background(), records.Filter{Role: "gate"}, 1<<62, 10)
	if err != nil || len(a.Records) != 1 {
		t.Errorf("got %+v, %v", a, err)
	}
}

// Close returns, with an error, if the tree cannot be made durable.
func TestCloseWithBrokenDisk(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Config{Dir: dir})
	w := enrolled(t, l, "gate", "")
	fill(t, l, w, 0, settleAfter-10)
	base := filepath.Join(dir, "base.json")
	if err := errors.Join(os.RemoveAll(base), os.MkdirAll(filepath.Join(base, "in the way"), 0o700)); err != nil {
		t.Fatal(err)
	}
	for n := range 50 {
		if _, err := l.Append(context.Background(), w.entry(t, verdict(n))); err != nil {
			break
		}
	}
	closed := make(chan error, 1)
	go func() { closed <- l.Close() }()
	if err := await.Value(t, "the ledger closes", closed); err == nil {
		t.Error("got no error")
	}
}

// Questions are answered while the tree grows and its partial tiles go.
func TestAskWhileGrowing(t *testing.T) {
	l := open(t, Config{Dir: t.TempDir()})
	w := enrolled(t, l, "gate", "")
	ctx, cancel := context.WithCancel(context.Background())
	var asking sync.WaitGroup
	for range 3 {
		asking.Go(func() {
			for ctx.Err() == nil {
				if _, err := l.Answer(context.Background(), records.Filter{}, 1<<62, 20); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for n := range 40 {
		if _, err := l.Append(context.Background(), w.entry(t, verdict(n))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	cancel()
	asking.Wait()
}

// An account that may enrol keys of its role enrols none that was revoked, or that is another writer's.
func TestEnrolOnlyNewKeys(t *testing.T) {
	l := open(t, Config{Dir: t.TempDir()})
	gate, old := enrolled(t, l, "gate", ""), enrolled(t, l, "attestor", "ci")
	revoked := old.Writer
	revoked.Revoked = true
	if err := l.Enrol(context.Background(), revoked); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	l.Register(mux, func(*http.Request) Access { return Access{Account: "ci", Enrol: []string{"attestor"}} })
	enrol := func(key []byte) int {
		raw, err := json.Marshal(records.Writer{Role: "attestor", Instance: "ci", Key: key})
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("POST", "/audit/v1/writers", bytes.NewReader(raw)))
		return w.Code
	}
	if got := enrol(gate.Key); got != http.StatusForbidden {
		t.Errorf("the key of another role: got status %d", got)
	}
	if got := enrol(old.Key); got != http.StatusForbidden {
		t.Errorf("a revoked key: got status %d", got)
	}
	if _, err := l.Append(context.Background(), gate.entry(t, verdict(1))); err != nil {
		t.Errorf("the other writer: %v", err)
	}
	fresh := newWriter(t, "attestor", "ci")
	if first, again := enrol(fresh.Key), enrol(fresh.Key); first != http.StatusOK || again != http.StatusOK {
		t.Errorf("a new key: got status %d, then %d", first, again)
	}
}

// Who sends records of a writer again, which every reader has, does not take the place of its new ones.
func TestReplayed(t *testing.T) {
	goOn := make(chan struct{})
	var stop atomic.Bool
	l := open(t, Config{Dir: t.TempDir(), step: func(name string) {
		if name == "journal" && stop.Load() {
			<-goOn
		}
	}})
	w := enrolled(t, l, "gate", "")
	old := w.entry(t, verdict(1))
	if _, err := l.Append(context.Background(), old); err != nil {
		t.Fatal(err)
	}
	settled(t, l)
	stop.Store(true)
	var wait sync.WaitGroup
	wait.Go(func() { _, _ = l.Append(context.Background(), w.entry(t, verdict(2))) }) // the journal is slow
	time.Sleep(50 * time.Millisecond)
	for range 2 * maxQueued {
		wait.Go(func() { _, _ = l.Append(context.Background(), old) })
	}
	time.Sleep(300 * time.Millisecond)
	fresh := make(chan error, 1)
	go func() { _, err := l.Append(context.Background(), w.entry(t, verdict(3))); fresh <- err }()
	time.Sleep(50 * time.Millisecond)
	close(goOn)
	if err := <-fresh; err != nil {
		t.Errorf("a new record: %v", err)
	}
	wait.Wait()
}

// Clocks that jump change no order and lose nothing.
func TestClockJumps(t *testing.T) {
	var mu sync.Mutex
	now := time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	cfg := Config{Dir: dir, Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now }}
	l := open(t, cfg)
	w := enrolled(t, l, "gate", "")
	for _, jump := range []time.Duration{0, 24 * 365 * time.Hour, -48 * 365 * time.Hour, time.Hour} {
		mu.Lock()
		now = now.Add(jump)
		mu.Unlock()
		fill(t, l, w, 0, 10)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, cfg)
	if all := whole(t, l); len(all) != 41 {
		t.Errorf("got %d entries, want 41", len(all))
	}
	a, err := l.Answer(context.Background(), records.Filter{From: verdict(3).Time, To: verdict(5).Time}, 1<<62, 100)
	if err != nil || len(a.Records) != 8 {
		t.Errorf("by the time of the decision: got %d records, %v, want 8", len(a.Records), err)
	}
}

func TestAnswerIsVerified(t *testing.T) {
	l := open(t, Config{Dir: t.TempDir()})
	fill(t, l, enrolled(t, l, "gate", ""), 0, 50)
	f := records.Filter{Cluster: "cluster-1"}
	a, err := l.Answer(context.Background(), f, 1<<62, 10)
	if err != nil || len(a.Records) != 10 || !a.More {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*records.Answer){
		"another index":      func(a *records.Answer) { a.Records[3].Index-- },
		"another leaf":       func(a *records.Answer) { a.Records[3].Leaf = a.Records[4].Leaf },
		"another value":      func(a *records.Answer) { a.Records[3].Openings[0].Value = "mallory" },
		"twice":              func(a *records.Answer) { a.Records[3] = a.Records[2] },
		"another order":      func(a *records.Answer) { a.Records[3], a.Records[2] = a.Records[2], a.Records[3] },
		"another checkpoint": func(a *records.Answer) { a.Checkpoint = strings.Replace(a.Checkpoint, "\n5", "\n6", 1) },
		"of another cluster": func(a *records.Answer) { f.Cluster = "cluster-0" },
	} {
		raw, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		var changed records.Answer
		if err := json.Unmarshal(raw, &changed); err != nil {
			t.Fatal(err)
		}
		f = records.Filter{Cluster: "cluster-1"}
		if _, _, err := changed.Verify(f, l.verifier); err != nil {
			t.Fatalf("unchanged: %v", err)
		}
		change(&changed)
		if _, _, err := changed.Verify(f, l.verifier); err == nil {
			t.Errorf("%s: the answer verifies", what)
		}
	}
}
