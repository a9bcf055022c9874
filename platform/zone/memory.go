package zone

import (
	"bufio"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/internal/confine"
)

// LimitMemory limits the data of this process, which then collects garbage before it
// reaches the limit. Processes that it starts inherit the limit and may change it.
func LimitMemory(most int64) error {
	if most <= 0 {
		return fmt.Errorf("limit of memory: got %d, want a positive number", most)
	}
	debug.SetMemoryLimit(most / 8 * 7)
	return confine.LimitData(most)
}

// idle is how long after its start a process has little left to do.
const idle = 5 * time.Second

// FreeStartMemory returns memory to the kernel that only the start needed, now and
// again after 5 seconds. The initialisation of every package of this large program
// reads most of the program file and leaves garbage.
func FreeStartMemory() {
	dropProgram()
	time.AfterFunc(idle, func() {
		debug.FreeOSMemory()
		dropProgram()
	})
}

// dropProgram releases the pages of the program that equal its file: the kernel maps
// a page again from its cache when it is needed. Failure does no harm.
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
		if name == "Swap" && m.ofFile && !m.changed { // Swap is the last member that matters
			unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED)
		}
	}
}

// mapping is a part of the process's memory. Dropping the pages of a private mapping
// that was changed would lose the change. The loader's relocations are such changes,
// in mappings that are read-only now.
type mapping struct {
	from, to uintptr
	ofFile   bool // a read-only mapping of a file
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
