package distribution

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// Error codes of the distribution spec 1.1, "Error Codes", and two that clients treat as unknown.
const (
	CodeBlobUnknown         = "BLOB_UNKNOWN"
	CodeBlobUploadInvalid   = "BLOB_UPLOAD_INVALID"
	CodeBlobUploadUnknown   = "BLOB_UPLOAD_UNKNOWN"
	CodeDigestInvalid       = "DIGEST_INVALID"
	CodeManifestBlobUnknown = "MANIFEST_BLOB_UNKNOWN"
	CodeManifestInvalid     = "MANIFEST_INVALID"
	CodeManifestUnknown     = "MANIFEST_UNKNOWN"
	CodeNameInvalid         = "NAME_INVALID"
	CodeNameUnknown         = "NAME_UNKNOWN"
	CodeSizeInvalid         = "SIZE_INVALID"
	CodeUnauthorized        = "UNAUTHORIZED"
	CodeDenied              = "DENIED"
	CodeUnsupported         = "UNSUPPORTED"
	CodeTooManyRequests     = "TOOMANYREQUESTS"
	CodeUnavailable         = "UNAVAILABLE" // not in the spec
	CodeUnknown             = "UNKNOWN"     // not in the spec
)

// Failure is an error whose text the client gets.
type Failure struct {
	Status        int
	Code, Message string
	Detail        any // JSON; nil: none
}

func (f *Failure) Error() string { return f.Message }

// Failed returns a *Failure.
func Failed(status int, code, format string, args ...any) error {
	return &Failure{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

// Unavailable is the answer when nobody knows: another try may help.
func Unavailable(message string) error {
	return &Failure{Status: http.StatusServiceUnavailable, Code: CodeUnavailable, Message: message}
}

// retryAfter is when a client should ask again, in seconds.
const retryAfter = "5"

// Write answers a request of the method with the error document of the spec.
func (f *Failure) Write(w http.ResponseWriter, method string) {
	body, err := json.Marshal(map[string]any{"errors": []any{
		struct {
			Code    string `json:"code"`
			Message string `json:"message"`
			Detail  any    `json:"detail,omitempty"`
		}{f.Code, f.Message, f.Detail},
	}})
	if err != nil {
		body = []byte(`{"errors":[{"code":"UNKNOWN"}]}`)
	}
	h := w.Header()
	for _, k := range []string{"Docker-Content-Digest", "Etag", "Content-Length"} {
		h.Del(k)
	}
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	if f.Status == http.StatusTooManyRequests || f.Status == http.StatusServiceUnavailable {
		h.Set("Retry-After", retryAfter)
	}
	w.WriteHeader(f.Status)
	if method != http.MethodHead {
		_, _ = w.Write(body)
	}
}
