package search

import (
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/logtest"
	"github.com/colophon-build/colophon/tlog/prefix"
)

// BenchmarkAudit audits a log of 10⁶ entries (ENTRIES in the environment: another number), with a
// root for each 1,000 of them. Times are those of the CPU, both cores together.
func BenchmarkAudit(b *testing.B) {
	size, step := int64(1_000_000), int64(1000)
	if n, err := strconv.ParseInt(os.Getenv("ENTRIES"), 10, 64); err == nil {
		size = n
	}
	entry := logtest.Records(b)
	log := logtest.NewLarge(origin, size, entry)
	index := newShelf(IndexOrigin(origin))
	m := prefix.Map{}
	began := cpu(b)
	for from := int64(0); from < size; from += step {
		var list [][]byte
		for i := from; i < min(from+step, size); i++ {
			list = append(list, entry(i))
		}
		var err error
		if m, err = Extend(m, from, list); err != nil {
			b.Fatal(err)
		}
		index.entries = append(index.entries, Leaf{m.Root(), m.Len(), string(log.Signed(from + int64(len(list))))}.Bytes())
	}
	built := float64(size) / (cpu(b) - began).Seconds()
	for b.Loop() {
		began, wall := cpu(b), time.Now()
		if _, err := Audit(b.Context(), log, log.Verifier(), index, verifierOf(IndexOrigin(origin)), nil); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric((cpu(b) - began).Seconds(), "audit-CPU-s")
		b.ReportMetric(time.Since(wall).Seconds(), "audit-s")
		b.ReportMetric(built, "built/CPU-s")
	}
}

// BenchmarkKeysOf derives the keys of one entry.
func BenchmarkKeysOf(b *testing.B) {
	e := logtest.Records(b)(0)
	for b.Loop() {
		if len(KeysOf(e)) != 6 {
			b.Fatal("keys")
		}
	}
}

func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
