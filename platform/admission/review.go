package admission

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
)

// Limits on one request.
const (
	maxReview  = 8 << 20 // bytes: an object and its old version; the API server takes objects of 3 MiB
	maxImages  = 500     // images of one object
	maxMessage = 4 << 10 // bytes of a refusal's text
)

// review is what is read of an AdmissionReview (admission.k8s.io/v1).
type review struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Request    *request `json:"request"`
}

// request is what the API server is asked to do.
type request struct {
	UID         string          `json:"uid"`
	Kind        kind            `json:"kind"`
	SubResource string          `json:"subResource"`
	Name        string          `json:"name"`
	Namespace   string          `json:"namespace"`
	Operation   string          `json:"operation"`
	UserInfo    User            `json:"userInfo"`
	Object      json.RawMessage `json:"object"`
	OldObject   json.RawMessage `json:"oldObject"`
	DryRun      bool            `json:"dryRun"`
}

type kind struct {
	Group   string `json:"group"`
	Version string `json:"version"`
	Kind    string `json:"kind"`
}

func (k kind) String() string {
	if k.Group == "" {
		return k.Kind
	}
	return k.Kind + "." + k.Group
}

// apiVersion returns the member apiVersion of an object of the kind.
func (k kind) apiVersion() string {
	if k.Group == "" {
		return k.Version
	}
	return k.Group + "/" + k.Version
}

// User is who asks the API server.
type User struct {
	Username string              `json:"username"`
	UID      string              `json:"uid"`
	Groups   []string            `json:"groups"`
	Extra    map[string][]string `json:"extra"`
}

// response is the answer to a request (AdmissionResponse of admission.k8s.io/v1).
type response struct {
	UID       string            `json:"uid"`
	Allowed   bool              `json:"allowed"`
	Status    *status           `json:"status,omitempty"`
	Patch     []byte            `json:"patch,omitempty"` // JSON Patch (RFC 6902)
	PatchType string            `json:"patchType,omitempty"`
	Warnings  []string          `json:"warnings,omitempty"`
	Audit     map[string]string `json:"auditAnnotations,omitempty"`
}

type status struct {
	Code    int    `json:"code"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

func denied(message string) *response {
	return &response{Status: &status{http.StatusForbidden, "Forbidden", printable.Cut(message, maxMessage)}}
}

// denied returns a refusal with the warnings of r.
func (r *response) denied(refusals []string) *response {
	out := denied(strings.Join(refusals, "\n"))
	out.Warnings = r.Warnings
	return out
}

// readReview reads the request. An error means that it is none, with the status to answer.
func readReview(w http.ResponseWriter, r *http.Request) (*request, int, error) {
	if r.Method != http.MethodPost {
		return nil, http.StatusMethodNotAllowed, fmt.Errorf("method: expected POST, found %s", r.Method)
	}
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return nil, http.StatusUnsupportedMediaType, fmt.Errorf("content type: expected application/json, found %q", printable.Line(r.Header.Get("Content-Type")))
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReview))
	if err != nil {
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			return nil, http.StatusRequestEntityTooLarge, fmt.Errorf("expected at most %d bytes", maxReview)
		}
		return nil, http.StatusBadRequest, errors.New("the body ended too early")
	}
	var got review
	if err := strict.Unmarshal(body, maxReview, &got); err != nil {
		return nil, http.StatusBadRequest, fmt.Errorf("AdmissionReview: %w", err)
	}
	switch {
	case got.APIVersion != "admission.k8s.io/v1" || got.Kind != "AdmissionReview":
		return nil, http.StatusBadRequest, fmt.Errorf("expected an AdmissionReview of admission.k8s.io/v1, found %q of %q", got.Kind, got.APIVersion)
	case got.Request == nil || got.Request.UID == "":
		return nil, http.StatusBadRequest, errors.New("AdmissionReview: expected a request with a uid")
	}
	return got.Request, 0, nil
}

// writeReview writes the answer.
func writeReview(w http.ResponseWriter, out *response) {
	raw, err := json.Marshal(map[string]any{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": out})
	if err != nil {
		http.Error(w, "the answer could not be written", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(raw)
}

// budget is how long the answer may take: less than the API server waits, which it says in the
// query. After that, it would refuse the request without a reason.
func budget(r *http.Request) time.Duration {
	const longest, reserve = 9 * time.Second, 500 * time.Millisecond
	wait, err := time.ParseDuration(r.URL.Query().Get("timeout"))
	if err != nil || wait <= 0 {
		return longest
	}
	return min(longest, max(wait-reserve, wait/2))
}
