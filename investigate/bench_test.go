package investigate

import (
	"fmt"
	"maps"
	"os"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/prooftest"
)

// BenchmarkInvestigate investigates an image whose builder signed 100,000 others. The log answers in
// this process, from memory: what is measured is the work of whoever asks, and of the log's proofs.
func BenchmarkInvestigate(b *testing.B) {
	if os.Getenv("COLOPHON_BENCH") == "" {
		b.Skip("SKIPPED: make bench sets COLOPHON_BENCH")
	}
	const releases = 100_000
	s := newScene(b)
	l := manyEntries(b, s, releases)
	commit := s.commit("2")
	s.git("tag", "v1.2.0")
	r := s.release("refs/tags/v1.2.0", commit)
	r.Attach(prooftest.Kinds...)
	for _, kind := range prooftest.Kinds {
		l.add(s.blob(r.Blobs[kind]))
	}
	s.git("tag", "-d", "v1.2.0") // the tag is gone: the first line says so
	for b.Loop() {
		in := s.inquiry()
		maps.Copy(in.Askers, LogAskers(l, l, nil))
		start, first := time.Now(), time.Duration(0)
		in.First = func(string) { first = time.Since(start) }
		c, err := Run(b.Context(), in)
		if err != nil || c.Conclusion.State != Broken {
			b.Fatalf("got %+v, %v", c, err)
		}
		whole := time.Since(start)
		found := c.Answer(AskSameIdentity).Facts.Found
		fmt.Printf("%-58s %8.0f ms   aim 1000\n", "investigate, 100,000 entries by the builder, first line", float64(first.Microseconds())/1000)
		fmt.Printf("%-58s %8.0f ms   aim 5000\n", fmt.Sprintf("  whole; %d of %d entries read", len(found.Entries), found.Total), float64(whole.Microseconds())/1000)
		b.ReportMetric(float64(first.Milliseconds()), "ms-first")
		b.ReportMetric(float64(whole.Milliseconds()), "ms-whole")
	}
}
