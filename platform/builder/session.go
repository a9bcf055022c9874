package builder

import (
	"github.com/colophon-build/colophon/attest"
)

// Session is what the attest zone allows one room before it is opened. The
// builder is handed its id alone (Request.Session); what passed the room's
// gateway goes to whoever began the session, never by way of the builder.
type Session struct {
	// Record keeps every byte that is fetched in the gateway's store, so that a
	// later session can replay them.
	Record bool `json:"record,omitempty"`
	// Lock, where set, is all that the gateway answers: from its store, and
	// unless Sealed from the network where the store lacks it. Bytes that
	// differ from the lock are never handed in.
	Lock *Lock `json:"lock,omitempty"`
	// Sealed takes the network away: what the store lacks is an error.
	Sealed bool `json:"sealed,omitempty"`
}

// Record is the trusted side's knowledge of one session: which room was opened
// and what went through its gateway.
type Record struct {
	Tools     []attest.ResourceDescriptor `json:"tools"`     // buildkitd, runtime: name, version annotation, sha256
	Config    map[string]string           `json:"config"`    // room, daemon and gateway settings that shaped the build
	Exchanges []Exchange                  `json:"exchanges"` // in the order of the requests
}

// Exchange is one HTTP request of a room and its answer, as the gateway saw
// them: after TLS ended, before anything inside the room could touch them. The
// room was given nothing of the answer but what stands here.
type Exchange struct {
	Method     string            `json:"method"`
	URL        string            `json:"url"`              // absolute, without credentials and fragment
	Accept     string            `json:"accept,omitempty"` // request headers that choose among answers
	Range      string            `json:"range,omitempty"`
	Request    string            `json:"request,omitempty"`    // hex sha256 of the request's body, where it had one
	Authorized bool              `json:"authorized,omitempty"` // the request carried an Authorization; never which
	Status     int               `json:"status"`               // 0 where nothing was answered
	Header     map[string]string `json:"header,omitempty"`     // headers of the answer that clients act on, by canonical name
	Size       int64             `json:"size"`                 // bytes of the answer's body
	SHA256     string            `json:"sha256,omitempty"`     // hex, of the body; only where all of it passed
	Denied     string            `json:"denied,omitempty"`     // why it was refused
}
