package recorder

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/test/await"
)

// ledger takes records as a ledger does: each once.
type ledger struct {
	mu     sync.Mutex
	status int // 0: 200
	text   string
	old    bool   // it takes no batches
	poison string // it refuses the records about this image
	got    map[string]*audit.Record
	order  []string // IDs
	posts  int
	batch  []int // sizes of batches
}

func (l *ledger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	data, _ := io.ReadAll(r.Body)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.posts++
	if l.status != 0 {
		http.Error(w, l.text, l.status)
		return
	}
	if r.URL.Path == api.PathAuditRecords {
		if t := l.take(data); t.Status != http.StatusOK {
			http.Error(w, t.Error, t.Status)
		} else {
			fmt.Fprintf(w, `{"index":%d,"id":%q}`, t.Index, t.ID)
		}
		return
	}
	if l.old {
		http.NotFound(w, r)
		return
	}
	var all []audit.Taken
	if err := audit.ReadBatch(bytes.NewReader(data), func(entry []byte) { all = append(all, l.take(entry)) }); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	l.batch = append(l.batch, len(all))
	_, _ = w.Write(audit.TakenLines(all))
}

func (l *ledger) take(data []byte) audit.Taken {
	if len(data) > audit.MaxRequest {
		return audit.Taken{Status: http.StatusRequestEntityTooLarge, Error: "it is too large"}
	}
	e, _, record, err := audit.ParseEntry(data)
	if err != nil {
		return audit.Taken{Status: http.StatusBadRequest, Error: err.Error()}
	}
	if l.poison != "" && record.About.Image.Value == l.poison {
		return audit.Taken{Status: http.StatusBadRequest, Error: "refused: poison"}
	}
	id := audit.ID(e.Envelope)
	if l.got[id] == nil {
		l.order = append(l.order, id)
	}
	l.got[id] = record
	return audit.Taken{Added: audit.Added{Index: int64(len(l.got)) - 1, ID: id}, Status: http.StatusOK}
}

func (l *ledger) answer(status int, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.status, l.text = status, text
}

func (l *ledger) records() (all []*audit.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.got {
		all = append(all, r)
	}
	return all
}

func (l *ledger) await(t *testing.T, n int) {
	t.Helper()
	await.True(t, fmt.Sprintf("the ledger has %d records", n), func() bool { return len(l.records()) >= n })
}

func start(t *testing.T, url, dir string, required bool) *Recorder {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(Config{Role: "gate", Instance: "edge", Key: key, URL: url, Spool: dir, Required: required, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func verdict() audit.Record {
	return audit.Record{Kind: audit.KindGate, Outcome: audit.Accepted, Effect: audit.Allowed, About: audit.About{Image: audit.Shown("example.com/app:v1")}}
}

// A decision is recorded when the ledger says that it has this record: not when anything answers 200,
// such as the login page of a proxy.
func TestOthersAnswer(t *testing.T) {
	for what, text := range map[string]string{
		"a page": "<html>log in</html>", "nothing": "", "another record": `{"index":7,"id":"sha256:` + strings.Repeat("a", 64) + `"}`, "no ID": `{"index":7}`,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }))
		defer server.Close()
		required := start(t, server.URL, t.TempDir(), true)
		if err := required.Record(context.Background(), verdict()); !errors.Is(err, ErrNotRecorded) {
			t.Errorf("%s: got %v, want that the decision is not recorded", what, err)
		}
		r := start(t, server.URL, t.TempDir(), false)
		if err := r.Record(context.Background(), verdict()); err != nil {
			t.Error(err)
		}
		time.Sleep(100 * time.Millisecond)
		if r.spool.bytes.Load() == 0 {
			t.Errorf("%s: the record is gone from the spool", what)
		}
	}
}

// Records that the ledger cannot take now arrive later, each once, also after a restart.
func TestSpool(t *testing.T) {
	l := &ledger{got: map[string]*audit.Record{}, status: http.StatusServiceUnavailable}
	server := httptest.NewServer(l)
	defer server.Close()
	dir := t.TempDir()
	r := start(t, server.URL, dir, false)
	var wait sync.WaitGroup
	for range 50 {
		wait.Go(func() {
			if err := r.Record(context.Background(), verdict()); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	l.answer(0, "")
	r = start(t, server.URL, dir, false)
	l.await(t, 50)
	await.True(t, "the spool is empty", func() bool { return r.spool.bytes.Load() == 0 })
	if n := len(l.records()); n != 50 {
		t.Errorf("the ledger has %d records, want 50", n)
	}
}

// Where the ledger is required, a decision that it did not record fails; later the ledger has both the
// decision and that it had no effect.
func TestRequired(t *testing.T) {
	l := &ledger{got: map[string]*audit.Record{}, status: http.StatusInsufficientStorage, text: "the disk of the audit ledger is full"}
	server := httptest.NewServer(l)
	defer server.Close()
	r := start(t, server.URL, t.TempDir(), true)
	err := r.Record(context.Background(), verdict())
	if !errors.Is(err, ErrNotRecorded) || !strings.Contains(err.Error(), "disk of the audit ledger is full") {
		t.Errorf("got %v", err)
	}
	l.answer(0, "")
	l.await(t, 2)
	effects := map[string]int{}
	for _, r := range l.records() {
		effects[r.Effect]++
	}
	if effects[audit.Allowed] != 1 || effects[audit.Refused] != 1 {
		t.Errorf("got %v", effects)
	}
	if err := r.Record(context.Background(), verdict()); err != nil {
		t.Error(err)
	}
	if n := len(l.records()); n != 3 {
		t.Errorf("Record returned, and the ledger has %d records", n)
	}
}

// A record that the ledger will never take does not keep the others waiting.
func TestRefusedIsPutAside(t *testing.T) {
	l := &ledger{got: map[string]*audit.Record{}, status: http.StatusBadRequest, text: "refused: for ever"}
	server := httptest.NewServer(l)
	defer server.Close()
	dir := t.TempDir()
	r := start(t, server.URL, dir, false)
	if err := r.Record(context.Background(), verdict()); err != nil {
		t.Fatal(err)
	}
	await.True(t, "the record is put aside", func() bool {
		files, _ := os.ReadDir(dir)
		return len(files) > 0 && strings.HasPrefix(files[len(files)-1].Name(), "refused-")
	})
	l.answer(0, "")
	if err := r.Record(context.Background(), verdict()); err != nil {
		t.Fatal(err)
	}
	l.await(t, 1)
}

// A ledger that refuses everything does not fill the disk: what is put aside has a limit, also over
// restarts, and each record beyond it is counted as lost.
func TestRefusedIsBounded(t *testing.T) {
	l := &ledger{got: map[string]*audit.Record{}, status: http.StatusBadRequest, text: "refused: for ever"}
	server := httptest.NewServer(l)
	defer server.Close()
	dir := t.TempDir()
	for n := range 3 { // three files, together as large as the limit but for two blocks
		size := int64(maxRefused/2 - block)
		if n == 2 {
			size = 1
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s%064d", refusedPrefix, n)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(filepath.Join(dir, fmt.Sprintf("%s%064d", refusedPrefix, n)), size); err != nil {
			t.Fatal(err)
		}
	}
	const sent = 20
	r := start(t, server.URL, dir, false)
	for range sent {
		if err := r.Record(context.Background(), verdict()); err != nil {
			t.Fatal(err)
		}
	}
	lost := func() float64 {
		metrics := prometheus.NewRegistry()
		metrics.MustRegister(r.lost)
		all, err := metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		return all[0].GetMetric()[0].GetCounter().GetValue()
	}
	await.True(t, "the spool is empty", func() bool { return r.spool.bytes.Load() == 0 })
	files, err := filepath.Glob(filepath.Join(dir, refusedPrefix+"*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 4 || lost() != sent-1 || r.spool.refused.Load() > maxRefused {
		t.Errorf("got %d files, %v lost and %d bytes, want 4 files, %d lost and at most %d bytes", len(files), lost(), r.spool.refused.Load(), sent-1, maxRefused)
	}
}

// What a power cut left of lines that nobody acknowledged does not keep the others waiting, however long
// it is.
func TestTornSpool(t *testing.T) {
	l := &ledger{got: map[string]*audit.Record{}}
	server := httptest.NewServer(l)
	defer server.Close()
	for _, torn := range []int{100, 2 * audit.MaxRequest} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "0000000000000001"), append(make([]byte, torn), '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
		half := filepath.Join(dir, "."+countsFile+".tmp-1")
		if err := os.WriteFile(half, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		before := len(l.records())
		if err := start(t, server.URL, dir, false).Record(context.Background(), verdict()); err != nil {
			t.Fatal(err)
		}
		l.await(t, before+1)
		if _, err := os.Lstat(half); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", half, err)
		}
	}
}

// An error 400 that is not the ledger's, such as a proxy's, refuses nothing: the record is sent again.
func TestRefusedByOthers(t *testing.T) {
	l := &ledger{got: map[string]*audit.Record{}, status: http.StatusBadRequest, text: "The plain HTTP request was sent to HTTPS port"}
	server := httptest.NewServer(l)
	defer server.Close()
	r := start(t, server.URL, t.TempDir(), false)
	if err := r.Record(context.Background(), verdict()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	l.answer(0, "")
	l.await(t, 1)
}

// A spool that is full loses decisions only where the ledger is not required, and says so.
func TestFullSpool(t *testing.T) {
	for _, required := range []bool{false, true} {
		l := &ledger{got: map[string]*audit.Record{}, status: http.StatusServiceUnavailable}
		server := httptest.NewServer(l)
		defer server.Close()
		r := start(t, server.URL, t.TempDir(), required)
		r.spool.bytes.Store(maxSpool + 1)
		if err := r.Record(context.Background(), verdict()); (err != nil) != required {
			t.Errorf("required %v: got %v", required, err)
		}
	}
}

func TestSettings(t *testing.T) {
	good := Settings{Ledger: "https://colophon.example.com", Key: "/key", Spool: "/spool"}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for what, change := range map[string]func(*Settings){
		"plain":     func(s *Settings) { s.Ledger = "http://colophon.example.com" },
		"no key":    func(s *Settings) { s.Key = "" },
		"no spool":  func(s *Settings) { s.Spool = "" },
		"no ledger": func(s *Settings) { s.Ledger = "" },
		"a field":   func(s *Settings) { s.Private = []string{"digest"} },
	} {
		s := good
		change(&s)
		if s.Check() == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}

// TestNote: what has happened already is kept on this machine, or in the ledger, and never withdrawn. If neither takes it,
// there is an error.
func TestNote(t *testing.T) {
	l := &ledger{got: map[string]*audit.Record{}, status: http.StatusInsufficientStorage}
	server := httptest.NewServer(l)
	defer server.Close()
	r := start(t, server.URL, t.TempDir(), true)
	act := audit.Record{Kind: audit.KindEvict, Outcome: audit.Done}
	if err := r.Note(t.Context(), act); err != nil {
		t.Fatal(err)
	}
	r.spool.bytes.Add(maxSpool + 1)
	if err := r.Note(t.Context(), act); !errors.Is(err, errSpoolFull) {
		t.Errorf("got %v, want that the record is nowhere", err)
	}
	l.answer(0, "")
	if err := r.Note(t.Context(), act); err != nil {
		t.Errorf("the spool is full, and the ledger takes records: %v", err)
	}
	l.await(t, 2)
	for _, r := range l.records() {
		if r.Outcome != audit.Done {
			t.Errorf("got %+v", r)
		}
	}
}

// TestFlush: who ends waits for what the ledger takes, and no longer than told.
func TestFlush(t *testing.T) {
	l := &ledger{got: map[string]*audit.Record{}, status: http.StatusInsufficientStorage}
	server := httptest.NewServer(l)
	defer server.Close()
	r := start(t, server.URL, t.TempDir(), false)
	if err := r.Record(t.Context(), audit.Record{Kind: audit.KindAdmission, Outcome: audit.Accepted, Effect: audit.Allowed}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := r.Flush(ctx); err == nil || !strings.Contains(err.Error(), "bytes of records") {
		t.Errorf("got %v, and the ledger takes nothing", err)
	}
	l.answer(0, "")
	if err := r.Flush(t.Context()); err != nil || len(l.records()) != 1 {
		t.Errorf("got %v, %d records", err, len(l.records()))
	}
}

// TestWithdrawnEviction: a verdict that did not arrive in time evicts nothing, and the ledger learns that.
func TestWithdrawnEviction(t *testing.T) {
	l := &ledger{got: map[string]*audit.Record{}, status: http.StatusInsufficientStorage}
	server := httptest.NewServer(l)
	defer server.Close()
	r := start(t, server.URL, t.TempDir(), true)
	if err := r.Record(t.Context(), audit.Record{Kind: audit.KindRunning, Outcome: audit.Rejected, Effect: audit.Refused}); !errors.Is(err, ErrNotRecorded) {
		t.Errorf("got %v", err)
	}
	l.answer(0, "")
	l.await(t, 2)
	effects := map[string]int{}
	for _, r := range l.records() {
		effects[r.Effect]++
	}
	if effects[audit.Refused] != 1 || effects[audit.Nothing] != 1 {
		t.Errorf("got the effects %v, want that nothing followed from the verdict", effects)
	}
}
