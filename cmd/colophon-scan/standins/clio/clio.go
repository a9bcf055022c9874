// Package clio stands in for github.com/anchore/clio, the frame of Syft's command line: flags,
// configuration files, profiles and colours. Syft's libraries use of it a description of the
// program, and an event that the command line reads.
package clio

import "github.com/wagoodman/go-partybus"

// Identification would describe the program to the servers from which Syft downloads.
type Identification struct{ Name, Version string }

// ExitEvent returns an event that nobody reads.
func ExitEvent(bool) partybus.Event { return partybus.Event{} }
