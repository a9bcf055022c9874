package witness

import (
	"bytes"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/platform/cosigner"
	"github.com/colophon-build/colophon/test/logtest"
	"github.com/colophon-build/colophon/tlog"
	protocol "github.com/colophon-build/colophon/tlog/witness"
)

const origin = "log.example.com"

func open(t testing.TB, dir string, logs ...*logtest.Log) *Witness {
	t.Helper()
	var keys []note.Verifier
	for _, l := range logs {
		keys = append(keys, l.Verifier())
	}
	w, err := New(Config{Dir: dir, Name: "witness.example/w", Logs: keys})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

// request returns a request that goes from old to size entries of l.
func request(t testing.TB, l *logtest.Log, old, size int64) []byte {
	t.Helper()
	proof, err := tlog.Consistency(t.Context(), l, old, l.At(size))
	if err != nil {
		t.Fatal(err)
	}
	return protocol.Request{Old: old, Proof: proof, Checkpoint: l.Signed(size)}.Marshal()
}

// status returns the status with which the witness answers, and the cosignatures under signed.
func status(t testing.TB, w *Witness, body []byte) (int, string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, protocol.PathAdd, bytes.NewReader(body))
	rec := httptest.NewRecorder()
	w.Handler().ServeHTTP(rec, r)
	return rec.Code, rec.Body.String()
}

func TestWitness(t *testing.T) {
	l := logtest.New(origin, 300)
	dir := filepath.Join(t.TempDir(), "w")
	w := open(t, dir, l)
	hash := protocol.OriginHash(origin)
	if _, err := w.Latest(hash); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before the first checkpoint: got %v", err)
	}
	for _, step := range [][2]int64{{0, 1}, {1, 1}, {1, 256}, {256, 300}} {
		code, lines := status(t, w, request(t, l, step[0], step[1]))
		if code != http.StatusOK {
			t.Fatalf("%v: got %d %s", step, code, lines)
		}
		all, err := tlog.Cosignatures(append(l.Signed(step[1]), lines...), w.Keys(), time.Now())
		if err != nil || len(all) != 2 || len(tlog.Witnesses(all)) != 1 {
			t.Fatalf("%v: got %v, %v", step, all, err)
		}
		latest, err := w.Latest(hash)
		if err != nil {
			t.Fatal(err)
		}
		if cp, err := tlog.OpenCheckpoint(latest, l.Verifier()); err != nil || cp.Size != step[1] {
			t.Errorf("%v: latest: got %v, %v", step, cp, err)
		}
		if again, err := tlog.Cosignatures(latest, w.Keys(), time.Now()); err != nil || len(again) != 2 {
			t.Errorf("%v: latest: got %v, %v", step, again, err)
		}
	}
	// What it knew, it knows after a new start.
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w = open(t, dir, l)
	if code, body := status(t, w, request(t, l, 0, 300)); code != http.StatusConflict || body != "300\n" {
		t.Errorf("after a new start: got %d %q", code, body)
	}
	for name, mode := range map[string]fs.FileMode{cosigner.KeyFile: 0o600, cosigner.PublicFile: 0o644} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: got %v, %v, want %o", name, st.Mode(), err, mode)
		}
	}
}

// TestWitnessRefuses: what a log, or somebody in its name, may try.
func TestWitnessRefuses(t *testing.T) {
	l, other := logtest.New(origin, 20), logtest.New("other.example.com", 20)
	fork := l.Fork(5, 20)
	stranger := logtest.New(origin, 20)
	stranger.Key = logtest.Key("stranger")
	empty := l.Sign(tlog.Checkpoint{Origin: origin, Root: tlog.Hash{1}})
	long := protocol.Request{Old: 10, Checkpoint: append(l.Signed(10), strings.Repeat("— x.example AAAAAAAA\n", 3000)...)}.Marshal()
	wrong := l.Signed(12)
	wrong = bytes.Replace(wrong, []byte("\n12\n"), []byte("\n13\n"), 1)
	for name, test := range map[string]struct {
		body []byte
		code int
	}{
		"a fork of the same size":     {request(t, fork, 10, 10), http.StatusUnprocessableEntity},
		"a fork that goes on":         {request(t, fork, 10, 20), http.StatusUnprocessableEntity},
		"a roll back":                 {request(t, l, 5, 8), http.StatusConflict},
		"an old size that is wrong":   {request(t, l, 9, 12), http.StatusConflict},
		"no old size":                 {request(t, l, 0, 12), http.StatusConflict},
		"old size beyond the new one": {protocol.Request{Old: 10, Checkpoint: l.Signed(8)}.Marshal(), http.StatusBadRequest},
		"no proof":                    {protocol.Request{Old: 10, Checkpoint: l.Signed(12)}.Marshal(), http.StatusUnprocessableEntity},
		"a proof for nothing":         {protocol.Request{Old: 10, Proof: []tlog.Hash{{}}, Checkpoint: l.Signed(10)}.Marshal(), http.StatusUnprocessableEntity},
		"another log":                 {request(t, other, 0, 5), http.StatusNotFound},
		"another key":                 {request(t, stranger, 10, 12), http.StatusForbidden},
		"a wrong signature":           {protocol.Request{Old: 10, Checkpoint: wrong}.Marshal(), http.StatusForbidden},
		"a root of nothing":           {protocol.Request{Checkpoint: empty}.Marshal(), http.StatusUnprocessableEntity},
		"no request":                  {[]byte("hello"), http.StatusBadRequest},
		"no checkpoint":               {[]byte("old 10\n\nhello"), http.StatusNotFound},
		"a sign":                      {[]byte("old +10\n\n" + string(l.Signed(12))), http.StatusBadRequest},
		"more than a request":         {append(long, make([]byte, protocol.MaxRequest)...), http.StatusBadRequest},
		"a checkpoint without room":   {long, http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			w := open(t, filepath.Join(t.TempDir(), "w"), l)
			if code, body := status(t, w, request(t, l, 0, 10)); code != http.StatusOK {
				t.Fatalf("got %d %s", code, body)
			}
			before, err := w.Latest(protocol.OriginHash(origin))
			if err != nil {
				t.Fatal(err)
			}
			code, body := status(t, w, test.body)
			if code != test.code || strings.Contains(body, "witness.example/w") {
				t.Errorf("got %d %s, want %d", code, body, test.code)
			}
			if after, err := w.Latest(protocol.OriginHash(origin)); err != nil || !bytes.Equal(before, after) {
				t.Errorf("the state changed: got %s, %v", after, err)
			}
			// The honest log goes on.
			if code, body := status(t, w, request(t, l, 10, 12)); code != http.StatusOK {
				t.Errorf("afterwards: got %d %s", code, body)
			}
		})
	}
}

// TestForkIsKept: two signed checkpoints of one size are the proof that a log forked.
func TestForkIsKept(t *testing.T) {
	l := logtest.New(origin, 10)
	dir := filepath.Join(t.TempDir(), "w")
	w := open(t, dir, l)
	status(t, w, request(t, l, 0, 10))
	status(t, w, request(t, l.Fork(5, 10), 10, 10))
	kept, err := os.ReadFile(filepath.Join(dir, forkDir, protocol.OriginHash(origin)))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(kept), origin+"\n10\n"); n != 2 {
		t.Errorf("got %d checkpoints, want 2:\n%s", n, kept)
	}
}

// TestConcurrentCheckpoints: of requests for checkpoints of two histories at once, one history wins.
func TestConcurrentCheckpoints(t *testing.T) {
	l := logtest.New(origin, 64)
	fork := l.Fork(1, 64)
	w := open(t, filepath.Join(t.TempDir(), "w"), l)
	status(t, w, request(t, l, 0, 1))
	var mu sync.Mutex
	won := map[*logtest.Log]int{}
	var wg sync.WaitGroup
	for i := range 16 {
		from := l
		if i%2 == 1 {
			from = fork
		}
		body := request(t, from, 1, int64(2+i))
		wg.Go(func() {
			if _, err := w.Add(body); err == nil {
				mu.Lock()
				won[from]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if won[l]+won[fork] != 1 {
		t.Errorf("got %d checkpoints of one history and %d of the other cosigned from size 1, want one in all", won[l], won[fork])
	}
}

// TestClock: a cosignature says that its tree is the largest at its time.
func TestClock(t *testing.T) {
	l := logtest.New(origin, 9)
	now := time.Now()
	w, err := New(Config{Dir: filepath.Join(t.TempDir(), "w"), Name: "witness.example/w", Logs: []note.Verifier{l.Verifier()}, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.Add(request(t, l, 0, 5)); err != nil {
		t.Fatal(err)
	}
	now = now.Add(-time.Hour)
	if code, _ := status(t, w, request(t, l, 5, 9)); code != http.StatusServiceUnavailable {
		t.Errorf("with a clock that went back: got %d", code)
	}
	now = now.Add(2 * time.Hour)
	if code, body := status(t, w, request(t, l, 5, 9)); code != http.StatusOK {
		t.Errorf("with a clock that is right again: got %d %s", code, body)
	}
}

// TestLongOrigin: a log whose origin leaves no room in a cosignature keeps the witness from starting.
func TestLongOrigin(t *testing.T) {
	name := "log.example/" + strings.Repeat("x", 255-len("log.example/"))
	open(t, filepath.Join(t.TempDir(), "w"), logtest.New(name, 0))
	l := logtest.New(name+"x", 0)
	if w, err := New(Config{Dir: filepath.Join(t.TempDir(), "w"), Name: "witness.example/w", Logs: []note.Verifier{l.Verifier()}}); err == nil || !strings.Contains(err.Error(), "want at most 255") {
		t.Errorf("got %v, %v", w, err)
	}
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// TestLostState: a witness that lost something does not start.
func TestLostState(t *testing.T) {
	l := logtest.New(origin, 9)
	for name, harm := range map[string]func(dir string) error{
		"key":      func(dir string) error { return os.Remove(filepath.Join(dir, cosigner.KeyFile)) },
		"key open": func(dir string) error { return os.Chmod(filepath.Join(dir, cosigner.KeyFile), 0o644) },
		"key cut":  func(dir string) error { return os.Truncate(filepath.Join(dir, cosigner.KeyFile), 50) },
		"key with much after it": func(dir string) error {
			return appendTo(filepath.Join(dir, cosigner.KeyFile), strings.Repeat(" ", 16<<10))
		},
		"key without public file": func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, cosigner.KeyFile)), os.Remove(filepath.Join(dir, cosigner.PublicFile)))
		},
		"key alone restored": func(dir string) error {
			return errors.Join(os.RemoveAll(filepath.Join(dir, stateDir)), os.RemoveAll(filepath.Join(dir, forkDir)), os.Remove(filepath.Join(dir, cosigner.PublicFile)))
		},
		"state cut": func(dir string) error {
			return os.Truncate(filepath.Join(dir, stateDir, protocol.OriginHash(origin)), 100)
		},
		"state emptied": func(dir string) error {
			return os.Truncate(filepath.Join(dir, stateDir, protocol.OriginHash(origin)), 0)
		},
		"state older": func(dir string) error { // made by somebody else
			return os.WriteFile(filepath.Join(dir, stateDir, protocol.OriginHash(origin)), l.Signed(1), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "w")
			w := open(t, dir, l)
			status(t, w, request(t, l, 0, 9))
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if err := harm(dir); err != nil {
				t.Fatal(err)
			}
			if w, err := New(Config{Dir: dir, Name: "witness.example/w", Logs: []note.Verifier{l.Verifier()}}); err == nil {
				w.Close()
				t.Error("it started")
			}
		})
	}
	dir := filepath.Join(t.TempDir(), "w")
	if err := open(t, dir, l).Close(); err != nil {
		t.Fatal(err)
	}
	// What a crash left half-written is no state, and goes.
	half := filepath.Join(dir, stateDir, "."+protocol.OriginHash(origin)+".tmp-1")
	if err := os.WriteFile(half, l.Signed(1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := open(t, dir, l).Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(half); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there: %v", half, err)
	}
	if _, err := New(Config{Dir: dir, Name: "another.example/w", Logs: []note.Verifier{l.Verifier()}}); err == nil {
		t.Error("a witness was renamed")
	}
}

func TestSettings(t *testing.T) {
	key := logtest.New(origin, 0).VKey()
	for name, s := range map[string]Settings{
		"nothing":   {},
		"no logs":   {Name: "w", Dir: "d"},
		"no key":    {Name: "w", Dir: "d", Logs: []string{"x"}},
		"key twice": {Name: "w", Dir: "d", Logs: []string{key, key}},
		"many logs": {Name: "w", Dir: "d", Logs: make([]string, maxLogs+1)},
	} {
		if _, err := s.Check(); err == nil {
			t.Errorf("%s: want an error", name)
		}
	}
	s := Settings{Name: "w", Dir: "d", Logs: []string{key}}
	if logs, err := s.Check(); err != nil || len(logs) != 1 || s.Listen == "" {
		t.Errorf("got %v, %v", logs, err)
	}
	s.Listen = "0.0.0.0:80"
	if _, err := s.Check(); err == nil {
		t.Error("other machines are answered without TLS")
	}
}
