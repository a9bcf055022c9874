package prefix

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// entryKeys returns the keys of entry i of a log in which 2,000 repositories sign with
// certificates: seven, two of which no other entry has.
func entryKeys(i int) (keys [][]byte) {
	repo := fmt.Sprintf("https://github.com/organization-%d/repository-%d", i%97, i*7919%2000)
	digest := sha256.Sum256(fmt.Append(nil, "d", i))
	commit := sha256.Sum256(fmt.Append(nil, "c", i))
	for _, value := range []string{
		fmt.Sprintf("digest\x00sha256:%x", digest), fmt.Sprintf("commit\x00%x", commit[:20]),
		"identity\x00" + repo + "/.github/workflows/release.yml@refs/heads/main", "issuer\x00https://token.actions.githubusercontent.com",
		"source\x00" + repo, "ref\x00refs/heads/main", "key\x00" + repo,
	} {
		keys = append(keys, binary.BigEndian.AppendUint64([]byte(value+"\x00"), uint64(i)))
	}
	return keys
}

// BenchmarkMap builds a map of 10⁶ entries (ENTRIES in the environment: another number), with
// a root after each 16,384 of them, writes, opens and asks it, and then inserts single entries.
func BenchmarkMap(b *testing.B) {
	entries, step := 1_000_000, 16384
	if n, err := strconv.Atoi(os.Getenv("ENTRIES")); err == nil {
		entries = n
	}
	path := filepath.Join(b.TempDir(), "map")
	for b.Loop() {
		m := Map{}
		var inserting, busy time.Duration
		for i := 0; i < entries; i += step {
			var keys [][]byte
			for j := i; j < min(i+step, entries); j++ {
				keys = append(keys, entryKeys(j)...)
			}
			began, before := time.Now(), cpu(b)
			m = mustInsert(b, m, keys...)
			inserting, busy = inserting+time.Since(began), busy+cpu(b)-before
		}
		b.ReportMetric(float64(entries)/inserting.Seconds(), "entries/s")
		b.ReportMetric(float64(entries)/busy.Seconds(), "entries/CPU-s")
		began := time.Now()
		if err := m.Write(path, nil); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(began).Seconds(), "write-s")
		st, err := os.Stat(path)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(st.Size())/float64(entries), "disk-B/entry")
		began = time.Now()
		root := m.Root()
		if m, _, err = Open(path); err != nil || m.Root() != root {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(began).Seconds(), "open-s")
		runtime.GC()
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		b.ReportMetric(float64(memory.HeapAlloc)/float64(entries), "memory-B/entry")
		ask(b, m, entries)
		before := cpu(b)
		for i := range 1000 {
			m = mustInsert(b, m, entryKeys(entries+i)...)
		}
		b.ReportMetric(float64((cpu(b)-before).Microseconds())/1000, "one-CPU-µs")
	}
}

// ask asks for keys with one hit, none, and as many as there are entries.
func ask(b *testing.B, m Map, entries int) {
	var longest int
	began, asked := cpu(b), 0
	for i := 0; i < entries; i += entries / 50 {
		var prefixes [][]byte
		for _, key := range entryKeys(i) {
			prefixes = append(prefixes, key[:len(key)-8])
		}
		prefixes = append(prefixes, fmt.Appendf(nil, "digest\x00sha256:%x\x00", sha256.Sum256(fmt.Append(nil, i))))
		for _, prefix := range prefixes {
			r := Range{Prefix: prefix, From: binary.BigEndian.AppendUint64(nil, uint64(i))}
			_, to, err := m.Page(r, 100)
			if err != nil {
				b.Fatal(err)
			}
			r.To = to
			proof, err := m.Prove(r)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := Verify(m.Root(), r, proof); err != nil {
				b.Fatal(err)
			}
			longest, asked = max(longest, len(proof)), asked+1
		}
	}
	b.ReportMetric(float64((cpu(b)-began).Microseconds())/float64(asked), "search-CPU-µs")
	b.ReportMetric(float64(longest), "proof-B")
}

// cpu returns the CPU time of this process, which other processes of a busy machine do not
// change.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
