package builder

import (
	"github.com/colophon-build/colophon/attest"
)

// Session states which downloads the gateway of one room allows. The attest zone
// begins it before the room is opened. The builder receives only the session's id
// (Request.Session). The gateway's record goes directly to the attest zone, which
// began the session; it never passes through the builder.
type Session struct {
	// Record keeps every downloaded byte in the gateway's store, so that a later
	// session can replay the download.
	Record bool `json:"record,omitempty"`
	// Lock, if set, lists the only downloads that the gateway serves. The gateway
	// takes them from its store and, unless Sealed, downloads what the store lacks.
	// The room never receives bytes that differ from the lock.
	Lock *Lock `json:"lock,omitempty"`
	// Sealed cuts the gateway off from the network: a download that the store lacks
	// is an error.
	Sealed bool `json:"sealed,omitempty"`
	// Credentials are those that the gateway may use for this build. Neither the room nor
	// the record has one.
	Credentials []Credential `json:"credentials,omitempty"`
	// Demands lists downloads whose digest the commit pins. The gateway may take these
	// from its store.
	Demands []Demand `json:"demands,omitempty"`
	// Scope is the source repository. Bodies that were fetched with a credential, and all of
	// a session that has Credentials, are kept for sessions of the same scope.
	Scope string `json:"scope,omitempty"`
	// CacheMounts says whose cache mounts the room gets and leaves to later sessions; nil:
	// they begin empty, and nothing of them is kept.
	CacheMounts *CacheScope `json:"cacheMounts,omitempty"`
}

// CacheScope is what two builds must have in common to share their cache mounts. The
// attest zone fills it in, from what it found out itself; a build has no say in it.
type CacheScope struct {
	Account string        `json:"account"` // who asked for the release
	Source  string        `json:"source"`  // repository, canonical
	Ref     string        `json:"ref"`     // the branch, refs/heads/NAME
	Image   string        `json:"image"`   // REGISTRY/NAME
	Recipe  attest.Recipe `json:"recipe"`  // complete: Dockerfile, target, platforms, build arguments
}

// Demand is a download that a file of the commit pins by digest.
type Demand struct {
	// URL is the download's address, or
	//
	//	/example.com/mod/@v/v1.0.0.zip   the end of a path, on any host
	//	pkg:pypi/flask@3.0.0             an archive of a version of a Python package, as pypi.Archive
	//	                                 tells from the end of a path, on any host; each archive
	//	                                 has a Demand of its own
	URL string `json:"url"`
	// Digest is what the file says: sha256:HEX, sha512-BASE64 (npm's integrity), or
	// h1:BASE64 (go.sum) of a module's zip or go.mod.
	Digest string `json:"digest"`
}

// Credential is added by the gateway to a build's requests in its scope, out of the
// room's reach.
type Credential struct {
	Scope string `json:"scope"` // https://HOST/PATH, as credential.Scope
	// Realm is where the registry at Scope has its clients fetch tokens. If it is set,
	// the credential is sent there only, and requests in Scope get the token.
	Realm         string `json:"realm,omitempty"`
	Authorization string `json:"authorization"` // the value of the header
}

// MinSecret is the length in bytes of the shortest secret of a Credential. The gateway
// recognizes secrets in what builds get, and would take many a text for a shorter one.
const MinSecret = 8

// String keeps the secret out of texts.
func (c Credential) String() string { return "the credential for " + c.Scope }

// Record is the trusted side's own record of one session: the room that was
// opened and the traffic through its gateway.
type Record struct {
	Tools     []attest.ResourceDescriptor `json:"tools"`     // buildkitd, runtime: name, version annotation, sha256
	Config    map[string]string           `json:"config"`    // room, daemon and gateway settings that shaped the build
	Exchanges []Exchange                  `json:"exchanges"` // in the order of the requests
}

// Exchange is one HTTP request of a room and its answer, as the gateway saw
// them: decrypted, and out of reach of the room's processes. Of the answer's
// headers the room received only those listed here.
type Exchange struct {
	Method     string            `json:"method"`
	URL        string            `json:"url"`              // absolute, without fragment and with credentials redacted (package credential)
	Accept     string            `json:"accept,omitempty"` // request headers that choose among answers
	Range      string            `json:"range,omitempty"`
	Request    string            `json:"request,omitempty"`    // hex sha256 of the request's body; empty if it had none
	Authorized bool              `json:"authorized,omitempty"` // the request had an Authorization header; its value is never recorded
	Credential bool              `json:"credential,omitempty"` // the gateway added a credential of the platform, or a token got with one
	Status     int               `json:"status"`               // 0 if there was no answer
	Header     map[string]string `json:"header,omitempty"`     // headers of the answer that clients act on, by canonical name
	Size       int64             `json:"size"`                 // bytes of the answer's body
	SHA256     string            `json:"sha256,omitempty"`     // hex, of the answer's body; empty if the body broke off
	Denied     string            `json:"denied,omitempty"`     // why the gateway denied the request; empty if it did not
	Failed     string            `json:"failed,omitempty"`     // why the gateway got no answer that it may hand on; Status is then its own, 502
	// Stored says that the gateway sent no request: the body came from its store, where an
	// earlier build left it, and it has the digest that the request or the commit demands.
	// A lock never says so.
	Stored bool `json:"stored,omitempty"`
}
