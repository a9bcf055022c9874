package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"syscall"

	"github.com/colophon-build/colophon/internal/logs"
)

// Error codes of the distribution spec 1.1, "Error Codes".
const (
	codeBlobUnknown         = "BLOB_UNKNOWN"
	codeBlobUploadInvalid   = "BLOB_UPLOAD_INVALID"
	codeBlobUploadUnknown   = "BLOB_UPLOAD_UNKNOWN"
	codeDigestInvalid       = "DIGEST_INVALID"
	codeManifestBlobUnknown = "MANIFEST_BLOB_UNKNOWN"
	codeManifestInvalid     = "MANIFEST_INVALID"
	codeManifestUnknown     = "MANIFEST_UNKNOWN"
	codeNameInvalid         = "NAME_INVALID"
	codeNameUnknown         = "NAME_UNKNOWN"
	codeSizeInvalid         = "SIZE_INVALID"
	codeUnauthorized        = "UNAUTHORIZED"
	codeDenied              = "DENIED"
	codeUnsupported         = "UNSUPPORTED"
	codeTooManyRequests     = "TOOMANYREQUESTS"
	codeUnknown             = "UNKNOWN" // not in the spec; clients treat unknown codes like this
)

// A failure is an error whose text the client gets.
type failure struct {
	status  int
	code    string
	message string
	detail  any
}

func (f *failure) Error() string { return f.message }

func failed(status int, code, format string, args ...any) error {
	return &failure{status: status, code: code, message: fmt.Sprintf(format, args...)}
}

func errNameInvalid(format string, args ...any) error {
	return failed(http.StatusBadRequest, codeNameInvalid, format, args...)
}

func errMethod(req *request) error {
	return failed(http.StatusMethodNotAllowed, codeUnsupported, "method %q is not allowed for %s", req.Method, req.kind)
}

func errBlobUnknown(name string, d digest) error {
	return failed(http.StatusNotFound, codeBlobUnknown, "repository %q has no blob %s", name, d)
}

func errManifestUnknown(name, ref string) error {
	return failed(http.StatusNotFound, codeManifestUnknown, "repository %q has no manifest %q", name, ref)
}

// fail answers with err. If err is not a failure, it is internal: the client gets a general
// message, and the log gets the cause.
func (r *Registry) fail(w *logs.Answer, req *request, err error) {
	f, ok := errors.AsType[*failure](err)
	if damaged(err) {
		r.alarm(err, req.name)
		f, ok = &failure{status: http.StatusInternalServerError, code: codeUnknown, message: req.ref + " is damaged on the registry's disk; push it again to repair it"}, true
		if req.Method == http.MethodHead {
			f.status = http.StatusNotFound // pushing clients ask this way what they may leave out
		}
	}
	if !ok {
		f = &failure{status: http.StatusInternalServerError, code: codeUnknown, message: "the registry failed; its log has the reason"}
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			f.status, f.message = http.StatusInsufficientStorage, "the registry's disk is full"
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
	body, err := json.Marshal(map[string]any{"errors": []any{
		struct {
			Code    string `json:"code"`
			Message string `json:"message"`
			Detail  any    `json:"detail,omitempty"`
		}{f.code, f.message, f.detail},
	}})
	if err != nil {
		body = []byte(`{"errors":[{"code":"UNKNOWN"}]}`)
	}
	h := w.Header()
	for _, k := range []string{"Docker-Content-Digest", "Etag", "Content-Length", "Cache-Control"} {
		h.Del(k)
	}
	h.Set("Content-Type", "application/json")
	if f.status == http.StatusTooManyRequests {
		h.Set("Retry-After", "5")
	}
	w.WriteHeader(f.status)
	if req.Method != http.MethodHead {
		w.Write(body)
	}
}

// alarm reports a damaged file to the operator.
func (r *Registry) alarm(err error, repository string) {
	r.damaged.Inc()
	r.cfg.Log.Error("registry: a file is damaged on the disk; push it again, or run colophond scrub", "repository", repository, "error", err)
}

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
