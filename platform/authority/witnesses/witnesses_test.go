package witnesses

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/platform/witness"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/logtest"
	"github.com/colophon-build/colophon/tlog"
)

const origin = "log.example.com"

// real starts a witness of l and returns its line of a policy.
func real(t testing.TB, name string, l *logtest.Log, wrap func(http.Handler) http.Handler) (line string) {
	t.Helper()
	w, err := witness.New(witness.Config{Dir: filepath.Join(t.TempDir(), name), Name: name + ".example/w", Logs: []note.Verifier{l.Verifier()}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	h := w.Handler()
	if wrap != nil {
		h = wrap(h)
	}
	s := httptest.NewServer(h)
	t.Cleanup(func() { s.Close(); _ = w.Close() })
	return "witness " + name + " " + w.Keys()[0].String() + " " + s.URL + "\n"
}

// set returns the witnesses of a policy.
func set(t testing.TB, policy string) *Set {
	t.Helper()
	p, err := tlog.ParseWitnessPolicy([]byte(policy))
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Policy: p, Name: "log", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func offer(l *logtest.Log, size int64) Offer {
	cp := l.At(size)
	return Offer{cp, l.Sign(cp), l}
}

func cosigned(t testing.TB, s *Set, size int64, wait time.Duration) (Cosigned, bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	return s.Await(ctx, size)
}

func TestQuorum(t *testing.T) {
	l := logtest.New(origin, 600)
	s := set(t, real(t, "a", l, nil)+real(t, "b", l, nil)+"group g all a b\nquorum g\n")
	for _, size := range []int64{1, 2, 300, 600} {
		s.Offer(offer(l, size))
		c, ok := cosigned(t, s, size, await.Patience)
		if !ok || !c.Quorum || c.Size != size {
			t.Fatalf("%d: got %v, %v", size, c.Checkpoint, ok)
		}
		all, err := tlog.Cosignatures(c.Envelope, s.policy.Keys(), time.Now())
		if err != nil || len(all) != 2 {
			t.Errorf("%d: got %v, %v", size, all, err)
		}
		if cp, err := tlog.OpenCheckpoint(c.Envelope, l.Verifier()); err != nil || cp.Size != size {
			t.Errorf("%d: got %v, %v", size, cp, err)
		}
	}
	if text, noQuorum := s.Problem(); text != "" || noQuorum {
		t.Errorf("got %q, %v", text, noQuorum)
	}
}

// TestBadWitnesses: whatever one witness does, a quorum without it is reached, and nothing of it gets
// into a checkpoint.
func TestBadWitnesses(t *testing.T) {
	l := logtest.New(origin, 100)
	other := logtest.New("other.example.com", 100)
	liar := logtest.Cosigner(t, "liar.example/w")
	cosign := func(cp tlog.Checkpoint, at time.Time) string {
		line, err := liar.Cosign(cp, at)
		if err != nil {
			t.Error(err)
		}
		return line
	}
	for name, bad := range map[string]http.HandlerFunc{
		"gone":    func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) },
		"slow":    func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); <-r.Context().Done() },
		"failing": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) },
		"unknown": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(404) },
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		},
		"endless": func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, zeros{}) },
		"empty":   func(w http.ResponseWriter, r *http.Request) {},
		"ahead": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/x.tlog.size")
			w.WriteHeader(409)
			fmt.Fprint(w, "1000000\n")
		},
		"circling": func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			w.Header().Set("Content-Type", "text/x.tlog.size")
			w.WriteHeader(409)
			fmt.Fprintf(w, "%d\n", 1+len(body)%2)
		},
		"another log": func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, cosign(other.At(10), time.Now())) },
		"older":       func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, cosign(l.At(9), time.Now())) },
		"future": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, cosign(l.At(10), time.Now().Add(time.Hour)))
		},
		"repeating": func(w http.ResponseWriter, r *http.Request) { // no room is left for others
			fmt.Fprint(w, strings.Repeat(cosign(l.At(10), time.Now()), 95))
		},
		"injecting": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, cosign(l.At(10), time.Now())+"\nlog.example.com\n99\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(bad)
			defer server.Close()
			var late func(http.Handler) http.Handler
			if name == "repeating" { // the bad one answers first
				late = func(h http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { time.Sleep(200 * time.Millisecond); h.ServeHTTP(w, r) })
				}
			}
			s := set(t, real(t, "a", l, late)+"witness bad "+liar.Key.String()+" "+server.URL+"\ngroup g any a bad\nquorum a\n")
			defer s.Close()
			s.Offer(offer(l, 10))
			c, ok := cosigned(t, s, 10, await.Patience)
			if !ok || !c.Quorum || strings.Contains(string(c.Envelope), "liar") {
				t.Fatalf("got %v, %v, %d bytes", c.Checkpoint, ok, len(c.Envelope))
			}
			s.Offer(offer(l, 20)) // does not wait for the bad one either
			if c, ok = cosigned(t, s, 20, await.Patience); !ok || !c.Quorum || c.Size != 20 {
				t.Fatalf("got %v, %v", c.Checkpoint, ok)
			}
			if strings.Contains(string(c.Envelope), "liar") {
				t.Errorf("something of the liar is in %s", c.Envelope)
			}
			if name == "slow" {
				return // nothing is known about it yet
			}
			await.True(t, "somebody is told about the bad witness", func() bool {
				text, _ := s.Problem()
				return strings.Contains(text, "bad")
			})
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestNoQuorum: without a quorum, Await returns what came in when its time is over.
func TestNoQuorum(t *testing.T) {
	l := logtest.New(origin, 20)
	gone := logtest.Cosigner(t, "gone.example/w")
	s := set(t, real(t, "a", l, nil)+"witness gone "+gone.Key.String()+" http://127.0.0.1:1\ngroup g all a gone\nquorum g\n")
	s.Offer(offer(l, 10))
	await.True(t, "what came in, without a quorum", func() bool {
		c, ok := cosigned(t, s, 10, 100*time.Millisecond)
		if c.Quorum {
			t.Fatalf("got a quorum: %s", c.Envelope)
		}
		return ok && strings.Contains(string(c.Envelope), "a.example/w")
	})
	if _, noQuorum := s.Problem(); !noQuorum {
		t.Error("nobody is told that there is no quorum")
	}
	if _, ok := s.Latest(); ok {
		t.Error("there is a checkpoint with a quorum")
	}
	// The next checkpoint does not wait for the missing one.
	s.Offer(offer(l, 20))
	await.True(t, "the next checkpoint", func() bool {
		c, ok := cosigned(t, s, 20, 100*time.Millisecond)
		return ok && c.Size == 20
	})
}

// TestComesBack: a witness that comes back cosigns the last checkpoint, without a new one.
func TestComesBack(t *testing.T) {
	l := logtest.New(origin, 20)
	down := make(chan struct{})
	s := set(t, real(t, "a", l, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-down:
				h.ServeHTTP(w, r)
			default:
				w.WriteHeader(503)
			}
		})
	})+"quorum a\n")
	s.Offer(offer(l, 20))
	if c, ok := cosigned(t, s, 20, 100*time.Millisecond); ok {
		t.Fatalf("got %v", c)
	}
	close(down)
	if c, ok := cosigned(t, s, 20, await.Patience); !ok || !c.Quorum {
		t.Errorf("got %v, %v", c.Checkpoint, ok)
	}
}

// TestKnowsBefore: the log starts anew and knows nothing of what the witness has seen.
func TestKnowsBefore(t *testing.T) {
	l := logtest.New(origin, 20)
	policy := real(t, "a", l, nil) + "quorum a\n"
	for _, size := range []int64{10, 10, 20} {
		s := set(t, policy)
		s.Offer(offer(l, size))
		if c, ok := cosigned(t, s, size, await.Patience); !ok || c.Size != size {
			t.Errorf("%d: got %v, %v", size, c.Checkpoint, ok)
		}
		s.Close()
	}
	// A log that was rolled back is told so, as an error.
	var text said
	p, err := tlog.ParseWitnessPolicy([]byte(policy))
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Policy: p, Name: "log", Log: slog.New(slog.NewTextHandler(&text, nil))})
	if err != nil {
		t.Fatal(err)
	}
	s.Offer(offer(l, 15))
	defer s.Close()
	await.True(t, "an error about another history in the log", func() bool {
		return strings.Contains(text.String(), "level=ERROR") && strings.Contains(text.String(), "another history")
	})
}

// said is what was logged.
type said struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *said) Write(p []byte) (int, error) { s.mu.Lock(); defer s.mu.Unlock(); return s.text.Write(p) }
func (s *said) String() string              { s.mu.Lock(); defer s.mu.Unlock(); return s.text.String() }

func TestNewRefuses(t *testing.T) {
	key := logtest.Cosigner(t, "a.example/w").Key.String()
	for _, url := range []string{"", " http://witness.example"} {
		p, err := tlog.ParseWitnessPolicy([]byte("witness a " + key + url + "\nquorum a\n"))
		if err != nil {
			t.Fatal(err)
		}
		if s, err := New(Config{Policy: p, Name: "log"}); err == nil {
			s.Close()
			t.Errorf("%q: want an error", url)
		}
	}
}

// BenchmarkAwait measures how long a checkpoint waits for two witnesses on this machine.
func BenchmarkAwait(b *testing.B) {
	l := logtest.New(origin, 1)
	s := set(b, real(b, "a", l, nil)+real(b, "b", l, nil)+"group g all a b\nquorum g\n")
	for b.Loop() {
		l.Grow(int(l.Size()) + 1)
		s.Offer(offer(l, l.Size()))
		if _, ok := cosigned(b, s, l.Size(), await.Patience); !ok {
			b.Fatal("no quorum")
		}
	}
}

// TestManyWitnesses: whatever witnesses answer, readers of signed notes can open the checkpoint.
func TestManyWitnesses(t *testing.T) {
	l := logtest.New(origin, 20)
	var policy strings.Builder
	for i := range 40 {
		seed := make([]byte, 32)
		seed[0] = byte(i)
		c, err := tlog.NewMLDSA44Cosigner(fmt.Sprintf("w%d.example/w", i), seed)
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			line, err := c.Cosign(l.At(20), time.Now())
			if err != nil {
				t.Error(err)
			}
			fmt.Fprint(w, line)
		}))
		t.Cleanup(server.Close)
		fmt.Fprintf(&policy, "witness w%d %s %s\n", i, c.Key, server.URL)
	}
	policy.WriteString("group g all")
	for i := range 40 {
		fmt.Fprintf(&policy, " w%d", i)
	}
	s := set(t, policy.String()+"\nquorum g\n")
	s.Offer(offer(l, 20))
	// There is no room for the quorum of all.
	await.True(t, "15 cosignatures", func() bool {
		c, ok := cosigned(t, s, 20, 500*time.Millisecond)
		if len(c.Envelope) > tlog.MaxCheckpoint {
			t.Fatalf("got %d bytes, want at most %d", len(c.Envelope), tlog.MaxCheckpoint)
		}
		all, err := tlog.Cosignatures(c.Envelope, s.policy.Keys(), time.Now())
		return ok && err == nil && len(all) >= 15
	})
	time.Sleep(time.Second) // what comes later makes it no larger
	if c, _ := cosigned(t, s, 20, 500*time.Millisecond); len(c.Envelope) > tlog.MaxCheckpoint {
		t.Errorf("got %d bytes, want at most %d", len(c.Envelope), tlog.MaxCheckpoint)
	}
}
