// Package eval is what colophon-eval, which evaluates policies in CUE and Rego, and those who
// start it tell each other: one Order, one Answer, each a JSON object.
package eval

import (
	"encoding/json"
	"time"
)

// Program is the name of the program. It is beside colophon, or in PATH.
const Program = "colophon-eval"

// Languages of a policy.
const (
	CUE  = "cue"
	Rego = "rego" // v0
)

// Limits on one evaluation. What needs more is undecided.
const (
	MaxOrder  = 48 << 20  // bytes
	MaxAnswer = 64 << 10  // bytes
	MaxReason = 4 << 10   // bytes
	MaxMemory = 512 << 20 // bytes of data of the process
	MaxCPU    = 5         // seconds

	MaxWait = 15 * time.Second // until the process is killed

	MaxAtOnce = 2 // processes that one process starts; more wait
)

// Order asks whether a policy holds of a JSON value.
type Order struct {
	Type   string          `json:"type"`   // CUE or Rego
	Policy string          `json:"policy"` // its text
	Input  json.RawMessage `json:"input"`
	Time   time.Time       `json:"time"` // what time it is for the policy

	// AbsentPasses lets a policy in CUE hold although it names a member that the input does not
	// have, as CUE's Unify does.
	AbsentPasses bool `json:"absentPasses,omitempty"`
}

// Results of an evaluation.
const (
	Holds     = "holds"
	Fails     = "fails"
	Undecided = "undecided" // the policy, or the input, cannot be read
)

// Answer says whether the policy holds.
type Answer struct {
	Result string `json:"result"`           // Holds, Fails or Undecided
	Reason string `json:"reason,omitempty"` // one or more lines for people; strangers wrote most of it
}
