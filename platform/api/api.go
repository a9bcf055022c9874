// Package api defines the platform's HTTP API, its requests and answers, and the
// client of the CLI. Spec: docs/api.md.
package api

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/source"
)

// Paths of the API.
const (
	PathReleases = "/api/colophon/v1/releases"  // POST a ReleaseRequest; GET answers Runs, GET PathReleases/ID a Run
	PathDeclared = "/api/colophon/v1/declared"  // POST a ReleaseRequest without an image; the last event has Declared
	PathLogs     = "/api/colophon/v1/logs"      // GET PathLogs/sha256:HEX answers a build log, or another file that a release stored
	PathVersion  = "/api/colophon/v1/version"   // GET answers a Version
	PathDocument = "/.well-known/colophon.json" // trust.Document
	PathSigning  = "/signing_config.json"       // Sigstore signing config (protobuf-specs): CA, log and timestamp authority
)

// ClientConfig is the content of client.json, which `colophond serve` writes and
// `colophon login` reads.
type ClientConfig struct {
	URL         string `json:"url"`
	Token       string `json:"token"`
	Fingerprint string `json:"fingerprint"` // sha256:hex of the platform's trust document
}

// ReleaseRequest asks for one release. The answer is a stream of Events, one JSON
// object per line; the last event has Result or Error.
type ReleaseRequest struct {
	Source         string        `json:"source"` // URI; file:///… is for clients on the platform's host only
	Ref            string        `json:"ref"`
	Commit         string        `json:"commit,omitempty"` // the commit id that Ref pointed to when the client looked
	Image          string        `json:"image"`            // REGISTRY/NAME without a tag; empty in a request to PathDeclared only
	Tag            string        `json:"tag,omitempty"`    // the image's tag in place of the name of the git tag or branch
	Recipe         attest.Recipe `json:"recipe"`
	AllowedSigners string        `json:"allowedSigners,omitempty"`
	Keyring        string        `json:"keyring,omitempty"`
	// Hermetic asks for two builds. The second runs in a new room, which can fetch only
	// what the first fetched; its result is released.
	Hermetic bool `json:"hermetic,omitempty"`
	// CacheMounts asks that the cache mounts of this build are kept for later releases of
	// the same image, source repository and branch. It costs SLSA Build L3.
	CacheMounts bool `json:"cacheMounts,omitempty"`
	// DockerAttestations asks for an index that has, besides the image, its SBOMs and its
	// provenance in the unsigned form of BuildKit, for tools that read only that form.
	DockerAttestations bool `json:"dockerAttestations,omitempty"`
	// Lock is the content of a lock file (spec/lock/v1): the build may fetch only the
	// downloads that it lists.
	Lock string `json:"lock,omitempty"`
}

// ReadReleaseRequest reads a request strictly and also returns its bytes. Lock may have
// limits.Lock bytes, the rest limits.Request bytes.
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
		return nil, nil, fmt.Errorf("lock: got %d bytes, want at most %d", len(req.Lock), limits.Lock)
	}
	return &req, body, nil
}

// Version is the answer to PathVersion: the version of the platform's program.
type Version struct {
	Version string `json:"version"`
}

// Event is one line of a release's progress.
type Event struct {
	Time   time.Time `json:"time"`
	Phase  string    `json:"phase"`        // queue, source, build, measure, sbom, sign, push, verify, tag
	ID     string    `json:"id,omitempty"` // the release's id, in its first event
	Step   string    `json:"step,omitempty"`
	Line   string    `json:"line,omitempty"`
	Done   bool      `json:"done,omitempty"` // Step, one of the build, has ended
	Result *Release  `json:"result,omitempty"`
	Error  *Error    `json:"error,omitempty"`

	Declared *Declared `json:"declared,omitempty"`
}

// maxText is the maximum size of each text of an event, in bytes. No line then exceeds
// MaxEvent, even if JSON needs six bytes for each byte.
const maxText = 32 << 10

// Bounded returns e with its texts cut so that a line of it has at most MaxEvent bytes.
func (e Event) Bounded() Event {
	cut := func(s string) string { return printable.Cut(s, maxText) }
	e.Step, e.Line = cut(e.Step), cut(e.Line)
	if e.Error != nil {
		bounded := *e.Error
		bounded.Message, bounded.Hint = cut(bounded.Message), cut(bounded.Hint)
		e.Error = &bounded
	}
	return e
}

// Declared is what a commit declares in .colophon.yaml (spec/recipes).
type Declared struct {
	Commit string   `json:"commit"` // full id
	Images []string `json:"images"` // names in the file; empty: the commit has no such file
}

// Release is a finished release. Spec: spec/release.
type Release struct {
	Image        string                   `json:"image"`
	Digest       string                   `json:"digest"`
	Tags         []string                 `json:"tags"`
	Source       source.Commit            `json:"source"`
	Builder      string                   `json:"builder"`
	Level        int                      `json:"level"`           // SLSA Build level that follows from Requirements
	Requirements []provenance.Requirement `json:"requirements"`    // of SLSA's Build track, as a verifier that trusts this platform finds them
	Files        []File                   `json:"files,omitempty"` // of a release of files, which the manifest Digest lists, ordered by name; else absent
	Lock         string                   `json:"lock,omitempty"`  // sha256:hex of the lock file of the build's downloads; GET PathLogs/Lock answers the file
	Resumed      bool                     `json:"resumed"`         // an earlier run had done all or part of it
	Unchanged    bool                     `json:"unchanged"`       // an earlier run had done all of it: this one changed nothing
	Invocation   string                   `json:"invocation"`
	Started      time.Time                `json:"started"`
	Finished     time.Time                `json:"finished"`
}

// File is a file of a release.
type File struct {
	Name   string `json:"name"`
	Digest string `json:"digest"` // sha256:hex
	Size   int64  `json:"size"`   // bytes
}

// Error is the reason why a request failed.
type Error struct {
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"` // what the requester can do
	Kind    Kind   `json:"kind,omitempty"`
	Member  string `json:"member,omitempty"` // the member of the request that is wrong, such as "lock"
}

// Kind tells a client how to handle an Error. Every kind is a failure, also a kind that the
// client does not know.
type Kind string

const (
	Failure Kind = ""      // the platform understood the request but could not fulfil it
	Usage   Kind = "usage" // the request itself is wrong: repeating it does not help
)

func (e *Error) Error() string { return e.Message }
