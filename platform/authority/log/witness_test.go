package log

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/platform/authority/witnesses"
	"github.com/colophon-build/colophon/platform/witness"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/needs"
	"github.com/colophon-build/colophon/tlog"
)

// witnessed starts a log, and a witness of it that answers only while up returns true.
func witnessed(t testing.TB, cfg Config, up func() bool) (*running, tlog.WitnessKey) {
	t.Helper()
	r := start(t, cfg) // its key
	key := r.PublicKey()
	r.close()
	v, err := tlog.NewVerifier(origin, key)
	if err != nil {
		t.Fatal(err)
	}
	w, err := witness.New(witness.Config{Dir: filepath.Join(t.TempDir(), "w"), Name: "witness.example/w", Logs: []note.Verifier{v}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		if !up() {
			rw.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Handler().ServeHTTP(rw, req)
	}))
	p, err := tlog.ParseWitnessPolicy(fmt.Appendf(nil, "witness w %s %s\nquorum w\n", w.Keys()[0], s.URL))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Witnesses, err = witnesses.New(witnesses.Config{Policy: p, Name: "log", Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cfg.Witnesses.Close(); s.Close(); _ = w.Close() })
	return start(t, cfg), w.Keys()[0]
}

// TestWitnessedAnswers: the checkpoint of an answer has the cosignature, and Sigstore's client and
// verifier take it.
func TestWitnessedAnswers(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.WitnessWait = 10 * time.Second
	r, key := witnessed(t, cfg, func() bool { return true })
	for i := range 3 {
		e := r.add(t, request(t, fmt.Sprint(i)))
		signed := []byte(e.GetInclusionProof().GetCheckpoint().GetEnvelope())
		all, err := tlog.Cosignatures(signed, []tlog.WitnessKey{key}, time.Now())
		if err != nil || len(all) != 1 {
			t.Errorf("got %v, %v in\n%s", all, err, signed)
		}
		shown, err := r.source().Checkpoint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tlog.Cosignatures(shown, []tlog.WitnessKey{key}, time.Now()); err != nil {
			t.Errorf("what the log shows: %v\n%s", err, shown)
		}
	}
}

// TestWitnessesAreGone: the log goes on, and no answer waits long; if witnesses are needed, entries
// are not acknowledged until a quorum is back.
func TestWitnessesAreGone(t *testing.T) {
	for _, need := range []bool{false, true} {
		t.Run(fmt.Sprintf("need=%v", need), func(t *testing.T) {
			up := make(chan struct{})
			cfg := config(t.TempDir())
			cfg.WitnessWait, cfg.NeedWitnesses = 50*time.Millisecond, need
			r, key := witnessed(t, cfg, func() bool {
				select {
				case <-up:
					return true
				default:
					return false
				}
			})
			if !need {
				n := 0
				await.Quick(t, "an answer without a witness", 5*time.Second, func() {
					n++
					resp, answer := post(t, r.url, wire(t, request(t, fmt.Sprint("entry ", n))))
					if resp.StatusCode != http.StatusCreated || strings.Contains(answer, "witness.example") {
						t.Errorf("got %s %s", resp.Status, answer)
					}
				})
				return
			}
			body := wire(t, request(t, "entry"))
			// The request waits, and is answered when the witness is back.
			time.AfterFunc(300*time.Millisecond, func() { close(up) })
			resp, answer := post(t, r.url, body)
			if resp.StatusCode != http.StatusCreated || !strings.Contains(answer, key.Name()) {
				t.Errorf("got %s %s", resp.Status, answer)
			}
		})
	}
}

// TestNoQuorumNoAnswer: without a quorum in time, a log that needs one answers 503.
func TestNoQuorumNoAnswer(t *testing.T) {
	needs.Long(t) // it waits for the whole time of an answer
	cfg := config(t.TempDir())
	cfg.NeedWitnesses = true
	r, _ := witnessed(t, cfg, func() bool { return false })
	client := &http.Client{Timeout: answerTimeout + 20*time.Second}
	resp, err := client.Post(r.url+"/api/v2/log/entries", "application/json", strings.NewReader(wire(t, request(t, "entry"))))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("got %s %s, want 503", resp.Status, answer)
	}
}

// TestShownNeverGoesBack: a cosignature that comes late does not make the log show an older checkpoint
// than before: to those who follow it, the log would have been rolled back.
func TestShownNeverGoesBack(t *testing.T) {
	answers := make(chan struct{}, 16)
	cfg := config(t.TempDir())
	r, _ := witnessed(t, cfg, func() bool {
		select {
		case <-answers:
			return true
		case <-t.Context().Done():
			return false
		}
	})
	shown := func() int64 {
		t.Helper()
		signed, err := r.source().Checkpoint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		cp, err := tlog.OpenCheckpoint(signed, r.Verifier())
		if err != nil {
			t.Fatal(err)
		}
		return cp.Size
	}
	cosigned := func(size int64) {
		t.Helper()
		answers <- struct{}{}
		await.True(t, fmt.Sprintf("a cosigned checkpoint of %d entries", size), func() bool {
			c, ok := r.witnesses.Latest()
			return ok && c.Size >= size
		})
	}
	r.add(t, request(t, "0"))
	answers <- struct{}{} // for the empty log, if the witness is asked about that
	cosigned(1)
	for len(answers) > 0 {
		<-answers
	}
	time.Sleep(maxBehind + 100*time.Millisecond) // the log is quiet, then it gets two entries
	r.add(t, request(t, "1"))
	r.add(t, request(t, "2"))
	if got := shown(); got != 3 {
		t.Fatalf("got a checkpoint of %d entries, want 3", got)
	}
	cosigned(2) // the one before the newest
	if c, _ := r.witnesses.Latest(); c.Size != 2 {
		t.Fatalf("got a cosigned checkpoint of %d entries, want 2", c.Size)
	}
	if got := shown(); got != 3 {
		t.Errorf("got a checkpoint of %d entries after one of 3", got)
	}
	cosigned(3)
	if got := shown(); got != 3 {
		t.Errorf("got a checkpoint of %d entries, want 3", got)
	}
}

// BenchmarkWitnessed is BenchmarkEntries of one client without a witness, with one and without
// waiting for it, and with waiting for the quorum.
func BenchmarkWitnessed(b *testing.B) {
	for name, wait := range map[string]time.Duration{"none": -1, "wait=0": 0, "wait=1s": time.Second} {
		b.Run(name, func(b *testing.B) {
			cfg := config(b.TempDir())
			cfg.WitnessWait = wait
			var r *running
			if wait < 0 {
				r = start(b, cfg)
			} else {
				r, _ = witnessed(b, cfg, func() bool { return true })
			}
			bodies := make([]string, b.N)
			for i := range bodies {
				bodies[i] = wire(b, request(b, fmt.Sprint(i)))
			}
			took := make([]time.Duration, b.N)
			b.ResetTimer()
			for i, body := range bodies {
				began := time.Now()
				resp, err := http.Post(r.url+"/api/v2/log/entries", "application/json", strings.NewReader(body))
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				took[i] = time.Since(began)
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
		})
	}
}
