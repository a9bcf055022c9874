package audit

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/colophon-build/colophon/internal/garbage"
	"github.com/colophon-build/colophon/platform/recorder"

	records "github.com/colophon-build/colophon/audit"
)

// benchWriters is how many writers record at the same time.
const benchWriters = 64

// BenchmarkRecord: 64 writers, in one process or in several, each of which has one recorder, sign records and record
// them, each one after another; Record returns when the record is on the disk of the ledger. 1x64 is a busy webhook,
// 64x1 is a writer on each of 64 hosts. The ledger runs in the same process: its time and that of the writers are one.
func BenchmarkRecord(b *testing.B) {
	garbage.CollectLess(Memory) // as the process of a ledger
	for _, processes := range []int{1, 4, benchWriters} {
		b.Run(fmt.Sprintf("%dx%d", processes, benchWriters/processes), func(b *testing.B) { benchRecord(b, processes) })
	}
}

func benchRecord(b *testing.B, processes int) {
	l := open(b, Config{Dir: b.TempDir()})
	server := serving(b, l)
	var recorders []*recorder.Recorder
	for range processes {
		recorders = append(recorders, recording(b, l, server, b.TempDir(), true))
	}
	var mu sync.Mutex
	var took []time.Duration
	next := make(chan int, b.N)
	for i := range b.N {
		next <- i
	}
	close(next)
	before := processorTime(b)
	b.ResetTimer()
	var wait sync.WaitGroup
	for i := range benchWriters {
		wait.Go(func() {
			var mine []time.Duration
			for n := range next {
				began := time.Now()
				if err := recorders[i%processes].Record(context.Background(), verdict(n)); err != nil {
					b.Error(err)
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
	settled(b, l)
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64((processorTime(b)-before).Microseconds())/float64(b.N), "cpu-us/record")
}

// processorTime returns the time that this process had processors so far.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
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
