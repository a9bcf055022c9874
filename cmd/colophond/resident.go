package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// idle is when a process that was started with a platform has little to do.
const idle = 5 * time.Second

// forgetStart gives back what only the start needed, now and once the process
// is idle: every package of this large program ran through its own beginnings,
// which touched most of the program file and left garbage behind.
func forgetStart() {
	dropProgram()
	time.AfterFunc(idle, func() {
		debug.FreeOSMemory()
		dropProgram()
	})
}

// dropProgram unmaps the program's pages, which are as they are in its file: what
// is needed comes back from the kernel's cache. No harm where it fails.
func dropProgram() {
	f, err := os.Open("/proc/self/smaps") // proc(5)
	if err != nil {
		return
	}
	defer f.Close()
	var m mapping
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, value, ok := strings.Cut(lines.Text(), ":")
		switch {
		case !ok:
		case strings.Contains(name, " "):
			m = parseMapping(lines.Text())
		case name == "Anonymous", name == "Swap":
			m.changed = m.changed || strings.TrimSpace(value) != "0 kB"
		}
		if name == "Swap" && m.ofFile && !m.changed { // the last that matters
			unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED)
		}
	}
}

// mapping is one of the process's memory. Of a private one that was changed, the
// change would be lost with its pages: relocations are such, though nobody can
// write there any more.
type mapping struct {
	from, to uintptr
	ofFile   bool // and read-only
	changed  bool
}

// parseMapping reads "FROM-TO PERMISSIONS OFFSET DEVICE INODE PATH".
func parseMapping(line string) (m mapping) {
	f := strings.Fields(line)
	if n, err := fmt.Sscanf(f[0], "%x-%x", &m.from, &m.to); n == 2 && err == nil && len(f) > 5 {
		m.ofFile = !strings.Contains(f[1], "w") && strings.HasPrefix(f[5], "/")
	}
	return m
}
