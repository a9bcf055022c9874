// Package build turns a recipe and a source tree into an OCI layout. What a
// builder says about its result is a claim; only the bytes it hands over count.
package builder

import (
	"context"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/source"
)

// Request is one build. Tree and Layout belong to the caller.
type Request struct {
	Recipe attest.Recipe
	Tree   string // directory with the exported source; read-only to the build
	// Source is what Tree was exported from: who hands Tree to another zone holds it to that.
	Source source.Tree
	Epoch  time.Time // SOURCE_DATE_EPOCH: the commit's committer time
	Layout string    // empty directory that receives the OCI layout
	Limits Limits    // zero fields mean the builder's default
	// Session is the id of the attest zone's session for this build's room; empty
	// on platforms that cannot open rooms.
	Session string
	Log     func(Event) // called for each progress event, in order; may be nil
}

// Limits bound one build.
type Limits struct {
	CPUs     float64       `json:"cpus,omitempty"`     // cores
	Memory   int64         `json:"memory,omitempty"`   // bytes
	PIDs     int64         `json:"pids,omitempty"`     // processes and threads
	Disk     int64         `json:"disk,omitempty"`     // bytes of everything it writes
	IO       int64         `json:"io,omitempty"`       // bytes per second read, and as many written; 0 is no limit
	WallTime time.Duration `json:"wallTime,omitempty"` // nanoseconds
}

// Event is one line of progress. Step names what is running ("[builder 3/5] RUN …");
// Line is output of that step, without its newline, where there is any.
type Event struct {
	Step string `json:"step,omitempty"`
	Line string `json:"line,omitempty"`
}

// Result is what a builder says of a build that succeeded. The layout's bytes
// are the result; everything in here is a claim to be checked or marked as one.
type Result struct {
	Digest       string                      `json:"digest"`       // claimed digest of the layout's one manifest or index
	Dependencies []attest.ResourceDescriptor `json:"dependencies"` // base images and every fetched URL, sorted by URI
	Tools        []attest.ResourceDescriptor `json:"tools"`        // buildkitd, runc, go: name, version annotation, sha256
	Config       map[string]string           `json:"config"`       // room and daemon settings that shaped the build
	Started      time.Time                   `json:"started"`
	Finished     time.Time                   `json:"finished"`
}

// A Builder runs builds. Cancelling ctx ends the build and erases its room
// before Build returns. A failing recipe is an *Error.
type Builder interface {
	Build(ctx context.Context, r Request) (*Result, error)
}

// Error says that the recipe failed, as opposed to the builder.
type Error struct {
	Step string // the step that failed, where known
	Err  error
}

func (e *Error) Error() string {
	if e.Step == "" {
		return "build failed: " + e.Err.Error()
	}
	return "build failed at " + e.Step + ": " + e.Err.Error()
}
func (e *Error) Unwrap() error { return e.Err }

// UnavailableError says that a builder cannot work on this platform.
type UnavailableError struct {
	Builder string // as recipes name it
	Reason  string // what is missing
}

func (e *UnavailableError) Error() string {
	return "this platform cannot build with " + e.Builder + ": " + e.Reason
}
