package log

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkEntries is the time from a request to its proof over loopback HTTP,
// for clients that each send one entry after the other.
func BenchmarkEntries(b *testing.B) {
	for _, clients := range []int{1, 8, 64, 256} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			r := start(b, config(b.TempDir()))
			transport := http.DefaultTransport.(*http.Transport).Clone()
			transport.MaxIdleConnsPerHost = clients
			client := &http.Client{Transport: transport}
			bodies := make([]string, b.N)
			for i := range bodies {
				bodies[i] = wire(b, request(b, fmt.Sprint(i)))
			}
			took := make([]time.Duration, b.N)
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			began := time.Now()
			for range clients {
				wg.Go(func() {
					for i := int(next.Add(1)) - 1; i < b.N; i = int(next.Add(1)) - 1 {
						sent := time.Now()
						resp, err := client.Post(r.url+"/api/v2/log/entries", "application/json", strings.NewReader(bodies[i]))
						if err != nil {
							b.Error(err)
							return
						}
						io.Copy(io.Discard, resp.Body) // as each client does; it keeps the connection
						resp.Body.Close()
						if resp.StatusCode != http.StatusCreated {
							b.Errorf("got %s, want 201", resp.Status)
						}
						took[i] = time.Since(sent)
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			slices.Sort(took)
			b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "entries/s")
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}
