package zone

import (
	"bufio"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// idle is when a process has little to do after the start of a platform.
const idle = 5 * time.Second

// FreeStartMemory gives back the memory that only the start needed, now and once
// the process is idle: the initialisation of every package of this large program
// touched most of the program file and left garbage behind.
func FreeStartMemory() {
	dropProgram()
	time.AfterFunc(idle, func() {
		debug.FreeOSMemory()
		dropProgram()
	})
}

// dropProgram gives back the pages of the program that are the same as in its file:
// the kernel reads what is needed again from its cache. No harm if it fails.
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

// mapping is a part of the process's memory. If it is private and was changed, the
// change would be lost with its pages. The loader's relocations are such changes,
// though nobody can write there any more.
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
