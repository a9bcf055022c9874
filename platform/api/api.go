// Package api is the platform's wire: the types of requests and answers, and
// the client that the CLI uses. Spec: docs/api.md.
package api

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/source"
)

// Paths of the API.
const (
	PathReleases = "/api/colophon/v1/releases"  // POST a ReleaseRequest; GET PathReleases/ID answers a Release
	PathLogs     = "/api/colophon/v1/logs"      // GET PathLogs/sha256:HEX answers a build log, or another file that a release kept
	PathDocument = "/.well-known/colophon.json" // trust.Document
	PathSigning  = "/signing_config.json"       // Sigstore signing config (protobuf-specs): CA, log and clock
)

// ClientConfig is what `serve` writes to client.json and `colophon login` takes.
type ClientConfig struct {
	URL         string `json:"url"`
	Token       string `json:"token"`
	Fingerprint string `json:"fingerprint"` // of the platform's trust document
}

// ReleaseRequest asks for one release. The answer is a stream of Events, one
// JSON object a line; the last has Result or Error.
type ReleaseRequest struct {
	Source         string        `json:"source"` // URI; file:///… only from a client on the platform's host
	Ref            string        `json:"ref"`
	Commit         string        `json:"commit,omitempty"` // what the client saw Ref lead to
	Image          string        `json:"image"`            // REGISTRY/NAME, without tag
	Recipe         attest.Recipe `json:"recipe"`
	AllowedSigners string        `json:"allowedSigners,omitempty"`
	Keyring        string        `json:"keyring,omitempty"`
	// Hermetic builds twice: the second time in a new room that gets what the
	// first fetched and nothing else. Only the second result is released.
	Hermetic bool `json:"hermetic,omitempty"`
	// Lock is a lock (spec/lock/v1), byte for byte: the build may fetch nothing else.
	Lock string `json:"lock,omitempty"`
}

// ReadReleaseRequest reads a request strictly, and returns its bytes too. All but
// a lock is as small as any other request.
func ReadReleaseRequest(r io.Reader) (*ReleaseRequest, []byte, error) {
	body, err := strict.Read(r, limits.Release)
	if err != nil {
		return nil, nil, err
	}
	var req ReleaseRequest
	if err := strict.UnmarshalKnown(body, limits.Release, &req); err != nil {
		return nil, nil, err
	}
	rest := req
	rest.Lock = ""
	if raw, err := json.Marshal(rest); err != nil || len(raw) > limits.Request {
		return nil, nil, fmt.Errorf("got more than %d bytes besides the lock", limits.Request)
	}
	if len(req.Lock) > limits.Lock {
		return nil, nil, fmt.Errorf("a lock of %d bytes, at most %d are taken", len(req.Lock), limits.Lock)
	}
	return &req, body, nil
}

// Event is one line of a release's progress.
type Event struct {
	Time   time.Time `json:"time"`
	Phase  string    `json:"phase"` // source, build, measure, sbom, sign, push, verify, tag
	Step   string    `json:"step,omitempty"`
	Line   string    `json:"line,omitempty"`
	Result *Release  `json:"result,omitempty"`
	Error  *Error    `json:"error,omitempty"`
}

// Release is a finished release. Spec: spec/release.
type Release struct {
	Image        string                   `json:"image"`
	Digest       string                   `json:"digest"`
	Tags         []string                 `json:"tags"`
	Source       source.Commit            `json:"source"`
	Builder      string                   `json:"builder"`
	Level        int                      `json:"level"`          // SLSA Build level that follows from Requirements
	Requirements []provenance.Requirement `json:"requirements"`   // of SLSA's Build track, as a stranger who believes this platform finds them
	Lock         string                   `json:"lock,omitempty"` // sha256:hex of what pins the build's fetches; GET PathLogs/Lock answers it
	Resumed      bool                     `json:"resumed"`        // all or part had been done by an earlier run
	Invocation   string                   `json:"invocation"`
	Started      time.Time                `json:"started"`
	Finished     time.Time                `json:"finished"`
}

// Error is why a request did not succeed.
type Error struct {
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"` // what the requester can do
	Kind    Kind   `json:"kind,omitempty"`
}

// Kind says what a requester can make of an Error. Every kind, also one that a
// client does not know, is a failure.
type Kind string

const (
	Failure Kind = ""      // the request was understood and did not succeed
	Usage   Kind = "usage" // no repetition helps: the request itself has to change
)

func (e *Error) Error() string { return e.Message }
