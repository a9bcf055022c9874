package gate

import (
	"errors"
	"net/http"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/distribution"
	"github.com/colophon-build/colophon/platform/verdicts/serving"
)

// maxMessage limits the text of an error, in bytes.
const maxMessage = 4 << 10

// refused returns the failure that a refusal is for the client, and other errors as they are.
func refused(err error) error {
	r, ok := errors.AsType[*serving.Refusal](err)
	switch {
	case !ok:
		return err
	case r.Undecided:
		return distribution.Unavailable(r.Reason)
	}
	return &distribution.Failure{Status: http.StatusForbidden, Code: distribution.CodeDenied, Message: r.Reason}
}

// unreadable is a manifest that two readers could understand differently.
type unreadable struct{ err error }

func (u *unreadable) Error() string { return u.err.Error() }

// errBegan means that the answer has begun, so that only a cut connection tells the client.
var errBegan = errors.New("the answer ended early")

// explain returns the failure that an error is for the client.
func (g *Gate) explain(w http.ResponseWriter, req *request, err error) *distribution.Failure {
	if f, ok := errors.AsType[*distribution.Failure](err); ok {
		return f
	}
	if u, ok := errors.AsType[*unreadable](err); ok {
		return &distribution.Failure{Status: http.StatusForbidden, Code: distribution.CodeManifestInvalid, Message: "the manifest is refused: " + u.Error()}
	}
	unknown := distribution.CodeManifestUnknown
	if req.kind == "blobs" {
		unknown = distribution.CodeBlobUnknown
	}
	switch {
	case errors.Is(err, oci.ErrNotFound):
		return &distribution.Failure{Status: http.StatusNotFound, Code: unknown, Message: "the registry behind this gate does not have it"}
	case errors.Is(err, oci.ErrDenied) && g.AskClients:
		challenge(w)
		return &distribution.Failure{Status: http.StatusUnauthorized, Code: distribution.CodeUnauthorized, Message: "the registry behind this gate refuses these credentials: " + err.Error()}
	case errors.Is(err, oci.ErrDenied):
		return &distribution.Failure{Status: http.StatusForbidden, Code: distribution.CodeDenied, Message: "the registry behind this gate does not give it to the gate: " + err.Error()}
	case errors.Is(err, oci.ErrMismatch):
		return &distribution.Failure{Status: http.StatusBadGateway, Code: distribution.CodeUnknown, Message: err.Error()}
	}
	return &distribution.Failure{Status: http.StatusServiceUnavailable, Code: distribution.CodeUnavailable, Message: "the registry behind this gate: " + err.Error()}
}

// fail answers with an error document of the distribution spec.
func (g *Gate) fail(w http.ResponseWriter, req *request, err error) {
	if errors.Is(err, errBegan) {
		g.Log.Warn("an answer was cut", "kind", req.kind, "repository", req.name, "ref", req.ref, "error", err)
		panic(http.ErrAbortHandler)
	}
	f := g.explain(w, req, err)
	f.Message = printable.Cut(printable.Line(f.Message), maxMessage)
	f.Write(w, req.Method)
}
