// Package garbage lets a process use more memory to spend less time on collecting garbage.
package garbage

import (
	"math"
	"runtime/debug"
)

// CollectLess makes the garbage collector of this process run a quarter as often, until the process has limit
// bytes; then as often as it must. What GOGC and GOMEMLIMIT say wins.
func CollectLess(limit int64) {
	if percent := debug.SetGCPercent(400); percent != 100 {
		debug.SetGCPercent(percent)
	}
	if debug.SetMemoryLimit(-1) == math.MaxInt64 {
		debug.SetMemoryLimit(limit)
	}
}
