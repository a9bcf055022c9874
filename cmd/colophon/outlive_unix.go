//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// outlive makes the process that cmd starts go on when this command and its terminal end.
func outlive(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }
