package audit

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/colophon-build/colophon/internal/garbage"
	"github.com/colophon-build/colophon/platform/api"

	records "github.com/colophon-build/colophon/audit"
)

// benchWriters is how many writers record at the same time.
const benchWriters = 64

// BenchmarkRecord: 64 writers, each with a key of its own, sign records and send them over HTTP, one
// after another; the answer comes when the record is on the disk.
func BenchmarkRecord(b *testing.B) {
	garbage.CollectLess(Memory) // as the process of a ledger
	l := open(b, Config{Dir: b.TempDir()})
	mux := http.NewServeMux()
	l.Register(mux, func(*http.Request) Access { return Access{} })
	server := httptest.NewServer(mux)
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: benchWriters}}
	var writers []*writer
	for i := range benchWriters {
		writers = append(writers, enrolled(b, l, "gate", strconv.Itoa(i)))
	}
	var mu sync.Mutex
	var took []time.Duration
	next := make(chan int, b.N)
	for i := range b.N {
		next <- i
	}
	close(next)
	b.ResetTimer()
	var wait sync.WaitGroup
	for _, w := range writers {
		wait.Go(func() {
			var mine []time.Duration
			for n := range next {
				e, err := w.Seal(verdict(n), time.Now())
				if err != nil {
					b.Error(err)
					return
				}
				data, began := e.Marshal(), time.Now()
				for {
					resp, err := client.Post(server.URL+api.PathAuditRecords, "application/json", bytes.NewReader(data))
					if err != nil {
						b.Error(err)
						return
					}
					body, _ := io.ReadAll(resp.Body)
					resp.Body.Close()
					if resp.StatusCode == http.StatusServiceUnavailable {
						time.Sleep(10 * time.Millisecond)
						continue
					}
					if resp.StatusCode != http.StatusOK {
						b.Errorf("got %s: %s", resp.Status, body)
					}
					break
				}
				mine = append(mine, time.Since(began))
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
		})
	}
	wait.Wait()
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	settled(b, l)
}

// BenchmarkQuestion: questions about a ledger of COLOPHON_AUDIT_RECORDS records (default 20,000), with
// proofs of all that is answered, verified.
func BenchmarkQuestion(b *testing.B) {
	n := 20_000
	if text := os.Getenv("COLOPHON_AUDIT_RECORDS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	l := open(b, Config{Dir: b.TempDir()})
	w := enrolled(b, l, "admission", "")
	for from := 0; from < n; from += 5000 {
		fill(b, l, w, from, 5000)
	}
	last := verdict(n).Time
	for name, f := range map[string]records.Filter{
		"what ran":      {Cluster: "cluster-1", Policy: "production", Outcome: records.Accepted, From: last.Add(-time.Hour), To: last.Add(-time.Minute)},
		"what ran once": {Cluster: "cluster-1", Policy: "production", Outcome: records.Accepted, From: verdict(10).Time, To: verdict(500).Time},
		"digest":        {Digest: digest(3)},
		"commit":        {Commit: "0000000000000000000000000000000000000007"},
		"namespace":     {Cluster: "cluster-0", Namespace: "team-3", Outcome: records.Rejected},
		"nothing":       {Cluster: "cluster-1", Policy: "another", Outcome: records.Accepted},
		"no builder":    {Builder: "https://nobody.example.com"},
	} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				if _, err := l.Answer(context.Background(), f, 1<<62, 100); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
