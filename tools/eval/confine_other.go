//go:build !linux

package main

import "errors"

// confineSelf fails: a process that is not confined evaluates nothing.
func confineSelf() error {
	return errors.New("policies in CUE and Rego are evaluated on Linux only")
}
