package search

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"crypto/ed25519"

	"github.com/colophon-build/colophon/platform/authority/indexlog"
	"github.com/colophon-build/colophon/platform/authority/tiles"
	"github.com/colophon-build/colophon/search"
	"github.com/colophon-build/colophon/test/logtest"
	"github.com/colophon-build/colophon/tlog"
)

// BenchmarkSearch searches a log of 10⁶ entries (ENTRIES in the environment: another number) over
// HTTP, as a client that verifies the answer; the search itself reads the log over HTTP too. Tiles
// that were read before are kept by the search, as ever: the first questions are slower. The first
// metrics are those of the index build, which a follower does once.
func BenchmarkSearch(b *testing.B) {
	size := int64(1_000_000)
	if n, err := strconv.ParseInt(os.Getenv("ENTRIES"), 10, 64); err == nil {
		size = n
	}
	log := logtest.NewLarge("log.example", size, logtest.Records(b))
	dir := b.TempDir()
	key := logtest.Key("log.example")
	name := search.IndexOrigin("log.example")
	signer, err := tlog.NewSigner(name, key)
	if err != nil {
		b.Fatal(err)
	}
	indexKey, err := tlog.NewVerifier(name, key.Public())
	if err != nil {
		b.Fatal(err)
	}
	index, err := indexlog.New(indexlog.Config{LogConfig: tiles.LogConfig{Dir: filepath.Join(dir, "index"), Record: filepath.Join(dir, "index.vkey"), Signer: signer, PublicKey: key.Public().(ed25519.PublicKey)}, Of: log, OfVerifier: log.Verifier()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { index.Close(context.Background()) })
	mux := http.NewServeMux()
	index.Register(mux)
	mux.Handle("/api/v2/", http.StripPrefix("/api/v2/", tlog.Handler{Source: log}))
	trust := httptest.NewServer(mux)
	b.Cleanup(trust.Close)
	s := New(Config{
		Dir: dir, Log: tlog.HTTP{URL: trust.URL + "/api/v2"}, LogKey: log.Verifier(), Index: tlog.HTTP{URL: trust.URL + "/index"}, IndexKey: indexKey,
		Append: func(ctx context.Context, entry []byte) error { _, err := index.Append(ctx, entry); return err },
	})
	began := time.Now()
	if err := s.step(b.Context()); err != nil {
		b.Fatal(err)
	}
	built := time.Since(began)
	var memory runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&memory)
	info, err := os.Stat(filepath.Join(dir, mapFile))
	if err != nil {
		b.Fatal(err)
	}
	b.Run("build", func(b *testing.B) {
		for b.Loop() {
		}
		b.ReportMetric(float64(size)/built.Seconds(), "entries/s")
		b.ReportMetric(float64(info.Size())/float64(size), "disk-B/entry")
		b.ReportMetric(float64(memory.HeapAlloc)/1e6, "heap-MB")
	})
	asks := http.NewServeMux()
	s.Register(asks)
	front := httptest.NewServer(asks)
	b.Cleanup(front.Close)
	for _, c := range []struct {
		name  string
		key   func(i int64) search.Key
		limit int
	}{
		{"digest", func(i int64) search.Key {
			return search.Key{Kind: search.Digest, Value: fmt.Sprintf("sha256:%x", logtest.RecordDigest(i%size))}
		}, 100},
		{"none", func(i int64) search.Key { return search.Key{Kind: search.Identity, Value: fmt.Sprint("nobody ", i)} }, 100},
		{"source-1", func(i int64) search.Key { return search.Key{Kind: search.Source, Value: logtest.Repository(i)} }, 1},
		{"source-10", func(i int64) search.Key { return search.Key{Kind: search.Source, Value: logtest.Repository(i)} }, 10},
		{"source-100", func(i int64) search.Key { return search.Key{Kind: search.Source, Value: logtest.Repository(i)} }, 100},
		{"issuer-100", func(i int64) search.Key { return search.Key{Kind: search.Issuer, Value: "https://token.example"} }, 100},
	} {
		b.Run(c.name, func(b *testing.B) {
			var took []time.Duration
			var proofs, answers []int
			i := int64(1)
			for b.Loop() {
				i = i * 48271 % 2147483647 // another place each time
				q := search.Question{Key: c.key(i)}
				if c.limit > 1 && c.name != "digest" {
					q.From = i % size
				}
				query := url.Values{"kind": {string(q.Kind)}, "value": {q.Value}, "from": {fmt.Sprint(q.From)}, "limit": {fmt.Sprint(c.limit)}}
				began := time.Now()
				resp, err := http.Get(front.URL + Path + "?" + query.Encode())
				if err != nil {
					b.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != http.StatusOK {
					b.Fatalf("got %s, %v", resp.Status, err)
				}
				a, err := search.ParseAnswer(body)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := a.Verify(q, log.Verifier(), indexKey); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began))
				proofs, answers = append(proofs, len(a.Proof)), append(answers, len(body))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
			b.ReportMetric(float64(slices.Max(proofs)), "proof-B")
			b.ReportMetric(float64(slices.Max(answers)), "answer-B")
		})
	}
}
