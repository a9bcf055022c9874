package main

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/internal/confine"
	"github.com/colophon-build/colophon/policy/clusterimagepolicy/eval"
)

// confineSelf takes from this process what evaluation does not need: files, sockets and
// programs, and memory and time past the limits.
func confineSelf() error {
	if err := confine.LimitData(eval.MaxMemory); err != nil {
		return err
	}
	for name, limit := range map[string]struct {
		of   int
		most uint64
	}{
		"open files": {unix.RLIMIT_NOFILE, 0}, // those that are open stay open
		"CPU":        {unix.RLIMIT_CPU, eval.MaxCPU},
		"files":      {unix.RLIMIT_FSIZE, 0},
	} {
		if err := unix.Setrlimit(limit.of, &unix.Rlimit{Cur: limit.most, Max: limit.most}); err != nil {
			return fmt.Errorf("limiting %s: %w", name, err)
		}
	}
	return confine.Role(confine.Policy{})
}
