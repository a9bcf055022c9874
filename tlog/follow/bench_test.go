package follow_test

import (
	"context"
	"crypto/rand"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/tlogtest"
	"github.com/colophon-build/colophon/tlog/follow"
)

// BenchmarkFollow follows a log of 10⁶ entries of 1,500 bytes over HTTP on loopback, without
// and with a copy. It reports entries per minute.
func BenchmarkFollow(b *testing.B) {
	const size = 1_000_000
	noise := make([]byte, 1500)
	rand.Read(noise)
	log := tlogtest.New(b, "log.example")
	entries := make([][]byte, size)
	for i := range entries {
		entries[i] = noise
	}
	log.Add(b, entries...)
	url := log.Serve(b)
	for name, keep := range map[string]bool{"verify": false, "copy": true} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				n := 0
				f, err := follow.Open(follow.Config{Key: log.Verifier(b), Source: follow.HTTP(url), Dir: b.TempDir(), Copy: keep,
					Entries: func(_ context.Context, batch follow.Batch) error { n += len(batch.Entries); return nil }})
				if err != nil {
					b.Fatal(err)
				}
				began := time.Now()
				if err := f.Follow(b.Context()); err != nil || n != size {
					b.Fatalf("got %v after %d entries", err, n)
				}
				b.ReportMetric(size/time.Since(began).Minutes(), "entries/min")
				f.Close()
			}
		})
	}
}
