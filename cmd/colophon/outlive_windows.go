package main

import "os/exec"

// outlive does nothing: on Windows there is no colophond to start.
func outlive(*exec.Cmd) {}
