package registry

import (
	"errors"
	"io/fs"
	"net/http"
	"syscall"

	"github.com/colophon-build/colophon/internal/logs"
	"github.com/colophon-build/colophon/platform/distribution"
)

func errNameInvalid(format string, args ...any) error {
	return distribution.Failed(http.StatusBadRequest, distribution.CodeNameInvalid, format, args...)
}

func errMethod(req *request) error {
	return distribution.Failed(http.StatusMethodNotAllowed, distribution.CodeUnsupported, "method %q is not allowed for %s", req.Method, req.kind)
}

func errBlobUnknown(name string, d digest) error {
	return distribution.Failed(http.StatusNotFound, distribution.CodeBlobUnknown, "repository %q has no blob %s", name, d)
}

func errManifestUnknown(name, ref string) error {
	return distribution.Failed(http.StatusNotFound, distribution.CodeManifestUnknown, "repository %q has no manifest %q", name, ref)
}

// fail answers with err. If err is not a failure, it is internal: the client gets a general
// message, and the log gets the cause.
func (r *Registry) fail(w *logs.Answer, req *request, err error) {
	f, ok := errors.AsType[*distribution.Failure](err)
	if damaged(err) {
		r.alarm(err, req.name)
		f, ok = &distribution.Failure{Status: http.StatusInternalServerError, Code: distribution.CodeUnknown, Message: req.ref + " is damaged on the registry's disk; push it again to repair it"}, true
		if req.Method == http.MethodHead {
			f.Status = http.StatusNotFound // pushing clients ask this way what they may leave out
		}
	}
	if !ok {
		f = &distribution.Failure{Status: http.StatusInternalServerError, Code: distribution.CodeUnknown, Message: "the registry failed; its log has the reason"}
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			f.Status, f.Message = http.StatusInsufficientStorage, "the registry's disk is full"
		}
		if req.Context().Err() != nil {
			r.cfg.Log.InfoContext(req.Context(), "registry: the client disconnected", "method", req.Method, "repository", req.name, "ref", req.ref, "error", err)
		} else {
			r.cfg.Log.ErrorContext(req.Context(), "registry: request failed", "method", req.Method, "kind", req.kind, "repository", req.name, "ref", req.ref, "error", err)
		}
	}
	if w.Began {
		return // the answer has begun; the client sees that it is too short
	}
	f.Write(w, req.Method)
}

// alarm reports a damaged file to the operator.
func (r *Registry) alarm(err error, repository string) {
	r.damaged.Inc()
	r.cfg.Log.Error("registry: a file is damaged on the disk; push it again, or run colophond scrub", "repository", repository, "error", err)
}

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
