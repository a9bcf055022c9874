package confine

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// LimitData limits the data of this process, and of the processes that it starts, to
// most bytes (RLIMIT_DATA, getrlimit(2)). They may set another limit: this bounds
// honest programs that read hostile input, it does not confine hostile ones. 0 lifts a
// limit that was inherited.
func LimitData(most int64) error {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_DATA, &l); err != nil {
		return err
	}
	if l.Cur = l.Max; most > 0 {
		l.Cur = min(uint64(most), l.Max)
	}
	if err := unix.Setrlimit(unix.RLIMIT_DATA, &l); err != nil {
		return fmt.Errorf("limiting data to %d bytes: %w", most, err)
	}
	return nil
}

// KilledFirst is the highest value of KillEarlier.
const KilledFirst = 1000

// KillEarlier makes the kernel kill this process, and those that it starts, earlier than
// its parent when memory runs out (proc_pid_oom_score_adj(5)). Every process may do
// this; only root can do the opposite.
func KillEarlier(by int) error {
	const file = "/proc/self/oom_score_adj"
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	score, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, []byte(strconv.Itoa(min(score+by, KilledFirst))), 0)
}
