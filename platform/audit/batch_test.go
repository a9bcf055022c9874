package audit

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/recorder"

	records "github.com/colophon-build/colophon/audit"
)

// serving serves a ledger, and returns its URL.
func serving(t testing.TB, l *Ledger) string {
	t.Helper()
	mux := http.NewServeMux()
	l.Register(mux, func(*http.Request) Access { return Access{} })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

// recording returns a recorder whose key the ledger has enrolled.
func recording(t testing.TB, l *Ledger, url, spool string, required bool) *recorder.Recorder {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Enrol(context.Background(), records.Writer{Role: "gate", Key: spki}); err != nil {
		t.Fatal(err)
	}
	r, err := recorder.New(recorder.Config{Role: "gate", Key: key, URL: url, Spool: spool, Required: required, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// sent sends a batch, and returns the answers.
func sent(t testing.TB, url string, entries ...[]byte) []records.Taken {
	t.Helper()
	batch, rest := records.Batch(entries)
	if len(rest) > 0 {
		t.Fatal("that is more than a batch")
	}
	resp, err := http.Post(url+api.PathAuditBatches, "application/x-ndjson", bytes.NewReader(batch))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", resp.Status, body, err)
	}
	all, err := records.ParseTaken(body, len(entries))
	if err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return all
}

// Each record of a batch has its own answer: those that the ledger refuses keep no other from it, nor its place.
func TestBatchOfGoodAndBad(t *testing.T) {
	l := open(t, Config{Dir: t.TempDir()})
	url := serving(t, l)
	a, b, stranger := enrolled(t, l, "gate", "a"), enrolled(t, l, "admission", "b"), newWriter(t, "gate", "c")
	forged := bytes.Replace(a.entry(t, verdict(1)), []byte(`"sig":"`), []byte(`"sig":"AAAA`), 1)
	long := verdict(1)
	long.Kind = records.Kind(strings.Repeat("\x1b[2J", 4000)) // the error quotes it
	_, env, _, err := records.ParseEntry(a.entry(t, verdict(7)))
	if err != nil {
		t.Fatal(err)
	}
	if env.Payload, err = json.Marshal(&long); err != nil {
		t.Fatal(err)
	}
	first := a.entry(t, verdict(2))
	entries := [][]byte{
		first, []byte("{"), a.entry(t, verdict(3)), stranger.entry(t, verdict(4)), b.entry(t, verdict(5)), forged, nil,
		records.Entry{Envelope: env.Bytes()}.Marshal(), first, a.entry(t, verdict(6)),
	}
	got := sent(t, url, entries...)
	begin := got[0].Index
	order := map[int]int64{0: 0, 2: 2, 4: 1, 8: 0, 9: 3} // of the two writers in turn: a, b, a, a
	for i, taken := range got {
		place, good := order[i]
		switch {
		case good && (taken.Status != http.StatusOK || taken.Index != begin+place || taken.Error != ""):
			t.Errorf("record %d: got %+v, want the index %d", i, taken, begin+place)
		case !good && (taken.Status != http.StatusBadRequest || !strings.HasPrefix(taken.Error, "refused: ") || len(taken.Error) > records.MaxError+4 || !printable.IsASCII(strings.TrimSuffix(taken.Error, "…"))):
			t.Errorf("record %d: got %+v", i, taken)
		}
	}
	if !got[8].Known || got[0].Known {
		t.Errorf("the same record twice: got %+v and %+v", got[0], got[8])
	}
	// Sent again, as after an answer that was lost: nothing is there twice.
	for i, taken := range sent(t, url, entries...) {
		if _, good := order[i]; good && (taken.Index != got[i].Index || !taken.Known) {
			t.Errorf("record %d again: got %+v, want the index %d", i, taken, got[i].Index)
		}
	}
	settled(t, l)
	if n := int64(len(whole(t, l))); n != begin+4 {
		t.Errorf("the ledger has %d entries, want %d", n, begin+4)
	}
}

// What is no batch adds nothing, also of what it begins with.
func TestNoBatch(t *testing.T) {
	l := open(t, Config{Dir: t.TempDir()})
	url := serving(t, l)
	w := enrolled(t, l, "gate", "")
	good := string(w.entry(t, verdict(1))) + "\n"
	for what, c := range map[string]struct {
		body   string
		status int
	}{
		"cut":            {good + "{}", http.StatusBadRequest},
		"a long line":    {good + strings.Repeat("x", records.MaxRequest+1) + "\n", http.StatusBadRequest},
		"too many lines": {good + strings.Repeat("{}\n", records.MaxTogether), http.StatusBadRequest},
		"too large":      {good + strings.Repeat(strings.Repeat("x", records.MaxRequest)+"\n", 8), http.StatusRequestEntityTooLarge},
		"nothing":        {"", http.StatusBadRequest},
	} {
		resp, err := http.Post(url+api.PathAuditBatches, "application/x-ndjson", strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.status || strings.HasPrefix(string(body), "refused: ") {
			t.Errorf("%s: got %s: %s", what, resp.Status, body)
		}
	}
	settled(t, l)
	if n := len(whole(t, l)); n != 1 { // who may write
		t.Errorf("the ledger has %d entries", n)
	}
}

// Batches of one writer, as many as it can send, do not keep the record of another one waiting.
func TestBatchesAreFair(t *testing.T) {
	var mu sync.Mutex
	held := true
	stands := make(chan struct{}, 1)
	turn := sync.NewCond(&mu)
	l := open(t, Config{Dir: t.TempDir(), step: func(name string) {
		if name == "journal" {
			mu.Lock()
			defer mu.Unlock()
			for held {
				select {
				case stands <- struct{}{}:
				default:
				}
				turn.Wait()
			}
		}
	}})
	set := func(h bool) { mu.Lock(); held = h; mu.Unlock(); turn.Broadcast() }
	set(false)
	url := serving(t, l)
	busy, other := enrolled(t, l, "gate", "busy"), enrolled(t, l, "gate", "other")
	set(true) // the disk stands still, and the queues fill
	var wait sync.WaitGroup
	last := make(chan int64, 4*records.MaxTogether)
	for i := range 4 {
		if i == 1 {
			<-stands // nothing is taken from the queues any more: they fill
		}
		var entries [][]byte
		for n := range records.MaxTogether {
			entries = append(entries, busy.entry(t, verdict(n)))
		}
		wait.Go(func() {
			for _, taken := range sent(t, url, entries...) {
				if taken.Status == http.StatusOK { // else there is no room: sent back
					last <- taken.Index
				}
			}
		})
	}
	waits := func(n int) {
		for {
			l.mu.Lock()
			queued := l.queued
			l.mu.Unlock()
			if queued >= n {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
	waits(maxQueued)
	var alone records.Taken
	wait.Go(func() {
		added, err := l.Append(context.Background(), other.entry(t, verdict(1)))
		if err != nil {
			t.Error(err)
		}
		alone.Added = added
	})
	waits(maxQueued + 1)
	set(false)
	wait.Wait()
	close(last)
	after := 0
	for index := range last {
		if index > alone.Index {
			after++
		}
	}
	// Of the busy writer: what the disk held, one in turn, and nothing else comes before.
	if after < maxQueued-2 {
		t.Errorf("only %d records of the busy writer came after the other's", after)
	}
}
