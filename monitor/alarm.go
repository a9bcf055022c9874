package monitor

import (
	"time"

	"github.com/colophon-build/colophon/tlog/follow"
)

// Kind says what an alarm is about. docs/log.md says what to do.
type Kind string

const (
	// Unexplained: somebody signed under a watched name, and no known release explains it.
	Unexplained Kind = "unexplained"
	// Forged: a watched name stands in a certificate that no authority of the trust roots
	// issued. Anybody can log such a one, and no verifier with these roots accepts it: it is
	// reported, and is no alarm.
	Forged Kind = "forged"
	// Unread: an entry cannot be parsed, so that nobody can say whose it is.
	Unread Kind = "unread"
	// Undecided: entries could not be compared with the known releases, or not reported.
	// They are read again.
	Undecided Kind = "undecided"
	// Unreachable, KeySuspect and Misbehaves are those of follow.Failure.
	Unreachable = Kind(follow.Unreachable)
	KeySuspect  = Kind(follow.KeySuspect)
	Misbehaves  = Kind(follow.Misbehaves)
	// Recovered: a log is followed again that was not. It is no alarm.
	Recovered Kind = "recovered"
)

// Alarms are the kinds that somebody must look at, the worst first.
var Alarms = []Kind{Misbehaves, KeySuspect, Unexplained, Unread, Undecided, Unreachable}

// Alarm is one line of the output, and one element of what a webhook gets.
type Alarm struct {
	Kind Kind      `json:"kind"`
	Time time.Time `json:"time"` // when it was found
	Log  string    `json:"log"`  // origin
	URL  string    `json:"url"`  // of the log
	Why  string    `json:"why"`  // for people

	Entry *Entry `json:"entry,omitempty"` // of kinds unexplained and unread

	Reason   string   `json:"reason,omitempty"`   // of a failure: see the package tlog/follow
	Evidence []string `json:"evidence,omitempty"` // files with what the log signed or served
}

// Entry is an entry of a log, as an alarm says it. All texts but LeafHash are strangers'.
type Entry struct {
	Index       int64      `json:"index"`    // from 0
	LeafHash    string     `json:"leafHash"` // base64
	EntryKind   string     `json:"entryKind,omitempty"`
	Digests     []string   `json:"digests,omitempty"`     // ALGORITHM:hex of what was signed
	Names       []string   `json:"names,omitempty"`       // subject alternative names of the certificate
	Issuers     []string   `json:"issuers,omitempty"`     // OIDC issuers
	Sources     []string   `json:"sources,omitempty"`     // URIs of the source repository
	Ref         string     `json:"ref,omitempty"`         // of the source repository
	Commit      string     `json:"commit,omitempty"`      // hex
	Run         string     `json:"run,omitempty"`         // URI of the run that signed
	Fingerprint string     `json:"fingerprint,omitempty"` // sha256:hex of the certificate or key in DER
	NotBefore   *time.Time `json:"notBefore,omitempty"`   // of the certificate
	Matched     []string   `json:"matched,omitempty"`     // the patterns, such as "source: https://…"
}
