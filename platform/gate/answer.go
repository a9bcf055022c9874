package gate

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/oci"
)

// Error codes of the distribution spec 1.1, "Error Codes", and two that clients treat as unknown.
const (
	codeBlobUnknown     = "BLOB_UNKNOWN"
	codeDenied          = "DENIED"
	codeDigestInvalid   = "DIGEST_INVALID"
	codeManifestInvalid = "MANIFEST_INVALID"
	codeManifestUnknown = "MANIFEST_UNKNOWN"
	codeNameInvalid     = "NAME_INVALID"
	codeTooMany         = "TOOMANYREQUESTS"
	codeUnauthorized    = "UNAUTHORIZED"
	codeUnsupported     = "UNSUPPORTED"
	codeUnavailable     = "UNAVAILABLE"
	codeUnknown         = "UNKNOWN"
)

// maxMessage limits the text of an error, in bytes.
const maxMessage = 4 << 10

// retryAfter is when a client should ask again, in seconds.
const retryAfter = "5"

// failure is an error that the client gets.
type failure struct {
	status        int
	code, message string
}

func (f *failure) Error() string { return f.message }

func failed(status int, code, format string, args ...any) error {
	return &failure{status, code, fmt.Sprintf(format, args...)}
}

// unavailable is the answer when nobody knows, or nothing can be read: never served, and worth
// another try.
func unavailable(message string) error {
	return &failure{http.StatusServiceUnavailable, codeUnavailable, message}
}

// unreadable is a manifest that two readers could understand differently.
type unreadable struct{ err error }

func (u *unreadable) Error() string { return u.err.Error() }

// errBegan means that the answer has begun, so that only a cut connection tells the client.
var errBegan = errors.New("the answer ended early")

// explain returns the failure that an error is for the client.
func (g *Gate) explain(w http.ResponseWriter, req *request, err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	if u, ok := errors.AsType[*unreadable](err); ok {
		return &failure{http.StatusForbidden, codeManifestInvalid, "the manifest is refused: " + u.Error()}
	}
	unknown := codeManifestUnknown
	if req.kind == "blobs" {
		unknown = codeBlobUnknown
	}
	switch {
	case errors.Is(err, oci.ErrNotFound):
		return &failure{http.StatusNotFound, unknown, "the registry behind this gate does not have it"}
	case errors.Is(err, oci.ErrDenied) && g.AskClients:
		challenge(w)
		return &failure{http.StatusUnauthorized, codeUnauthorized, "the registry behind this gate refuses these credentials: " + err.Error()}
	case errors.Is(err, oci.ErrDenied):
		return &failure{http.StatusForbidden, codeDenied, "the registry behind this gate does not give it to the gate: " + err.Error()}
	case errors.Is(err, oci.ErrMismatch):
		return &failure{http.StatusBadGateway, codeUnknown, err.Error()}
	}
	return &failure{http.StatusServiceUnavailable, codeUnavailable, "the registry behind this gate: " + err.Error()}
}

// fail answers with an error document of the distribution spec.
func (g *Gate) fail(w http.ResponseWriter, req *request, err error) {
	if errors.Is(err, errBegan) {
		g.Log.Warn("an answer was cut", "kind", req.kind, "repository", req.name, "ref", req.ref, "error", err)
		panic(http.ErrAbortHandler)
	}
	f := g.explain(w, req, err)
	raw, err := json.Marshal(map[string]any{"errors": []any{map[string]string{"code": f.code, "message": printable.Cut(printable.Line(f.message), maxMessage)}}})
	if err != nil {
		raw = []byte(`{"errors":[{"code":"UNKNOWN"}]}`) // strings always marshal
	}
	h := w.Header()
	for _, k := range []string{"Docker-Content-Digest", "Etag", "Content-Length"} {
		h.Del(k)
	}
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	if f.status == http.StatusServiceUnavailable || f.status == http.StatusTooManyRequests {
		h.Set("Retry-After", retryAfter)
	}
	w.WriteHeader(f.status)
	if req.Method != http.MethodHead {
		_, _ = w.Write(raw)
	}
}
