package kube

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/harness"
)

// sinceWall are the seconds from 1885, when Go's times with a monotonic reading begin, to 1970. time.Now
// adds them to the time of the kernel; a process in which it adds others has another clock.
const sinceWall = 2_682_288_000

// clock sets the clock of a running colophond to a time after that of the machine, or before. Nothing in
// the program provides for that: a number in the code of its time.Now is replaced.
func clock(t *testing.T, pid int, ahead time.Duration) {
	t.Helper()
	at, err := clockOffset(harness.Bin(t, "colophond"))
	if err != nil {
		t.Fatal(err)
	}
	memory, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return // it has ended
	} else if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	number := binary.LittleEndian.AppendUint32(nil, uint32(sinceWall+int64(ahead/time.Second)))
	if _, err := memory.WriteAt(number, int64(at)); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Logf("the clock of %d: %v", pid, err) // it has ended
	}
}

// clockOffset returns the address of sinceWall in the code of a program.
func clockOffset(program string) (uint64, error) {
	file, err := elf.Open(program)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	symbols, err := file.Symbols()
	if err != nil {
		return 0, err
	}
	for _, s := range symbols {
		if s.Name != "time.Now" {
			continue
		}
		section := file.Sections[s.Section]
		code := make([]byte, s.Size)
		if _, err := section.ReadAt(code, int64(s.Value-section.Addr)); err != nil {
			return 0, err
		}
		number := binary.LittleEndian.AppendUint32(nil, sinceWall)
		if bytes.Count(code, number) != 1 {
			return 0, fmt.Errorf("%s: expected the number %d once in the code of time.Now, found it %d times", program, sinceWall, bytes.Count(code, number))
		}
		return s.Value + uint64(bytes.Index(code, number)), nil
	}
	return 0, fmt.Errorf("%s has no symbol time.Now", program)
}

// jumps are how far clocks are wrong: beyond the ends of certificates, leases and what is kept.
var jumps = []time.Duration{-400 * 24 * time.Hour, -2 * time.Hour, 20 * time.Minute, 25 * time.Hour, 70 * 24 * time.Hour, 2 * 365 * 24 * time.Hour}

// clocksJump sets the clocks of replicas wrong for a while, and right again.
func (s *shop) clocksJump(t *testing.T, r *rand.Rand, pids []int) {
	ahead := jumps[r.IntN(len(jumps))]
	t.Logf("clocks of %d replicas: %s ahead", len(pids), ahead)
	for _, pid := range pids {
		clock(t, pid, ahead)
	}
	pause(r)
	for _, pid := range pids {
		clock(t, pid, 0)
	}
}

// wrongClocks: all replicas have a wrong clock for so long that they make a certificate by it, which the API
// server does not take. Until the clocks are right again, no image of the policy runs; then all is as before.
func (s *shop) wrongClocks(t *testing.T) {
	c := s.Client(t)
	for _, ahead := range []time.Duration{70 * 24 * time.Hour, -400 * 24 * time.Hour} {
		refused := 0
		began := time.Now()
		wrong := map[int]bool{}
		for ; time.Since(began) < 75*time.Second || refused == 0 && time.Since(began) < await.Patience; time.Sleep(100 * time.Millisecond) { // replicas look at their certificate once a minute
			for _, pid := range s.Processes("colophond") { // those, too, that a kubelet starts late after earlier crashes
				if !wrong[pid] {
					clock(t, pid, ahead)
					wrong[pid] = true
				}
			}
			if err := ask(t.Context(), c, s.unsigned); err == nil {
				t.Fatalf("clocks %s ahead: an unsigned image is admitted", ahead)
			}
			if err := ask(t.Context(), c, s.signed); err != nil && !forWant(err) {
				t.Fatalf("clocks %s ahead: the signed image is rejected: %v", ahead, err)
			} else if err != nil {
				refused++
			}
		}
		for _, pid := range s.Processes("colophond") {
			clock(t, pid, 0)
		}
		start := time.Now()
		s.Eventually(t, "the signed image is admitted again", func() bool { return ask(t.Context(), c, s.signed) == nil })
		t.Logf("clocks of %d processes %s ahead: the signed image was refused %d times for want of an answer, and admitted %s after the clocks were right again", len(wrong), ahead, refused, time.Since(start).Round(time.Second))
		if refused == 0 {
			t.Errorf("clocks %s ahead: the API server took a certificate of that time", ahead)
		}
	}
}
