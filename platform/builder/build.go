// Package builder defines the contract of a builder: it turns a recipe and a
// source tree into an OCI layout. Callers trust only the bytes of the layout;
// everything else in a builder's result is a claim.
package builder

import (
	"context"
	"errors"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/source"
)

// Request is one build. Tree and Layout belong to the caller.
type Request struct {
	Recipe attest.Recipe
	// Tree is the directory with the exported source; read-only to the build. Its links may
	// lead out of it. The golang builder replaces these.
	Tree string
	// Source is the git tree that Tree was exported from. Whoever sends Tree to
	// another zone checks the sent files against it.
	Source source.Tree
	Added  []Added   // the git repositories that the Dockerfile adds
	Epoch  time.Time // SOURCE_DATE_EPOCH: the commit's committer time
	Layout string    // empty directory that receives the OCI layout
	Limits Limits    // zero fields mean the builder's default
	// Session is the id of the session that the attest zone began for this build's
	// room; empty on platforms that cannot open rooms.
	Session string
	// KeepCaches asks the builder to leave its cache mounts in a state that the room can
	// keep. Whether it does so is the session's business.
	KeepCaches bool
	Log        func(Event) // called for each progress event, in order; may be nil
}

// Added is a git repository that a Dockerfile adds, as the attest zone fetched it.
type Added struct {
	Name   string      `json:"name"`          // BuildKit's name: git://HOST/PATH#REF:DIR
	Remote string      `json:"remote"`        // the address in the Dockerfile
	Dir    string      `json:"dir,omitempty"` // the directory of the repository that is added; empty is all
	Tree   string      `json:"-"`             // directory with the exported files
	Source source.Tree `json:"-"`             // the git tree that Tree was exported from
}

// Limits bound one build.
type Limits struct {
	CPUs     float64       `json:"cpus,omitempty"`     // cores
	Memory   int64         `json:"memory,omitempty"`   // bytes
	PIDs     int64         `json:"pids,omitempty"`     // processes and threads
	Disk     int64         `json:"disk,omitempty"`     // bytes that the build may store
	IO       int64         `json:"io,omitempty"`       // bytes per second, for reads and for writes separately; 0 is no limit
	WallTime time.Duration `json:"wallTime,omitempty"` // nanoseconds
}

// Event is one line of progress. Step names the running step ("[builder 3/5] RUN …").
// Line is one line of that step's output, without its newline; it may be empty. Done ends
// the step; it has no Line.
type Event struct {
	Step string `json:"step,omitempty"`
	Line string `json:"line,omitempty"`
	Done bool   `json:"done,omitempty"`
}

// Result describes a build that succeeded. All fields are the builder's claims:
// the caller checks them against the layout's bytes or records them as claims.
type Result struct {
	Digest       string                      `json:"digest"`       // claimed digest of the layout's one manifest or index
	Dependencies []attest.ResourceDescriptor `json:"dependencies"` // base images and every fetched URL, sorted by URI
	Tools        []attest.ResourceDescriptor `json:"tools"`        // buildkitd, runc, go: name, version annotation, sha256
	Config       map[string]string           `json:"config"`       // room and daemon settings that shaped the build
	Started      time.Time                   `json:"started"`
	Finished     time.Time                   `json:"finished"`
}

// A Builder runs builds. If ctx is cancelled, Build ends the build and erases its
// room before it returns. If the recipe fails, Build returns an *Error.
type Builder interface {
	Build(ctx context.Context, r Request) (*Result, error)
}

// Error means that the recipe failed; the builder itself worked.
type Error struct {
	Step string // the step that failed; empty if unknown
	Err  error
}

func (e *Error) Error() string {
	if e.Step == "" {
		return "build failed: " + e.Err.Error()
	}
	return "build failed at " + e.Step + ": " + e.Err.Error()
}
func (e *Error) Unwrap() error { return e.Err }

// LackError means that a host lacks what a builder needs.
type LackError struct {
	Err  error
	Hint string // what to do about it
}

func (e *LackError) Error() string { return e.Err.Error() }
func (e *LackError) Unwrap() error { return e.Err }

// Lack is what a host lacks for a builder, as roles tell it each other.
type Lack struct {
	Reason string `json:"reason"`
	Hint   string `json:"hint,omitempty"` // what to do about it
}

// LackOf returns what an error says, and its hint if it is a *LackError.
func LackOf(err error) Lack {
	l := Lack{Reason: err.Error()}
	if lack, ok := errors.AsType[*LackError](err); ok {
		l.Hint = lack.Hint
	}
	return l
}

// String returns reason and hint as one line.
func (l Lack) String() string {
	if l.Hint == "" {
		return l.Reason
	}
	return l.Reason + " (" + l.Hint + ")"
}

// UnavailableError means that a builder cannot work on this platform.
type UnavailableError struct {
	Builder string // its name in recipes
	Lack
}

func (e *UnavailableError) Error() string {
	return "this platform cannot build with " + e.Builder + ": " + e.Reason
}
