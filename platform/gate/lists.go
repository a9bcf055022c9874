package gate

import (
	"context"
	"encoding/json"
	"net/http"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/platform/distribution"
	"github.com/colophon-build/colophon/platform/verdicts/serving"
)

// referrers serves GET /v2/NAME/referrers/DIGEST: what is attached to a manifest, in one answer.
func (g *Gate) referrers(w http.ResponseWriter, req *request) error {
	subject, err := v1.NewHash(req.ref)
	if err != nil {
		return distribution.Failed(http.StatusBadRequest, distribution.CodeDigestInvalid, "expected a sha256, found %q", req.ref)
	}
	ctx, cancel := context.WithTimeout(req.Context(), serving.Patience)
	defer cancel()
	src, err := g.source(req)
	if err != nil {
		return err
	}
	all, err := src.Referrers(ctx, subject)
	if err != nil {
		return err
	}
	found, only := []v1.Descriptor{}, req.URL.Query().Get("artifactType")
	for _, d := range all {
		d.Data = nil // a manifest is asked for, and judged
		if only == "" || d.ArtifactType == only {
			found = append(found, d)
		}
	}
	if only != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	return answerJSON(w, req, string(types.OCIImageIndex), map[string]any{"schemaVersion": 2, "mediaType": types.OCIImageIndex, "manifests": found})
}

// tags serves GET /v2/NAME/tags/list, in one answer. A tag in it says nothing about its image.
func (g *Gate) tags(w http.ResponseWriter, req *request) error {
	ctx, cancel := context.WithTimeout(req.Context(), serving.Patience)
	defer cancel()
	src, err := g.source(req)
	if err != nil {
		return err
	}
	tags, _, err := src.Tags(ctx)
	if err != nil {
		return err
	}
	return answerJSON(w, req, "application/json", map[string]any{"name": req.name, "tags": append([]string{}, tags...)})
}

func answerJSON(w http.ResponseWriter, req *request, mediaType string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return answer(w, req, mediaType, raw)
}
