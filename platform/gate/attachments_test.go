package gate_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/test/prooftest"
)

// spdx is an SPDX document with the members that the specification requires.
const spdx = `{"spdxVersion":"SPDX-2.3","dataLicense":"CC0-1.0","SPDXID":"SPDXRef-DOCUMENT","name":"app","documentNamespace":"https://example.com/app","creationInfo":{"created":"2026-01-02T03:04:05Z","creators":["Tool: x"]}}`

// attachment pushes a manifest of one layer behind the gate, with the tag if there is one.
func (c *scene) attachment(config v1.Descriptor, layer string, subject bool, tag string) (digest string) {
	c.t.Helper()
	manifest := map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": []any{c.blob(layer)}, "annotations": map[string]string{"n": tag}}
	if subject {
		manifest["subject"] = c.good
	}
	raw, err := json.Marshal(manifest)
	if err != nil {
		c.t.Fatal(err)
	}
	d, err := c.target().PushManifest(c.t.Context(), raw, "application/vnd.oci.image.manifest.v1+json")
	if err == nil && tag != "" {
		err = c.target().Tag(c.t.Context(), tag, d)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return d.Digest.String()
}

// blob pushes a JSON blob behind the gate.
func (c *scene) blob(content string) v1.Descriptor {
	c.t.Helper()
	d := v1.Descriptor{MediaType: "application/json", Size: int64(len(content))}
	var err error
	if d.Digest, _, err = v1.SHA256(strings.NewReader(content)); err == nil {
		err = c.target().PushBlob(c.t.Context(), d, opener([]byte(content)))
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return d
}

// TestContentAsAttachment: nobody gets content of their choice through the gate by calling it an attachment.
func TestContentAsAttachment(t *testing.T) {
	c := newScene(t, nil)
	empty, sbomTag := c.blob("{}"), "sha256-"+c.good.Digest.Hex+".sbom"
	get := func(what, ref string, want int) {
		t.Helper()
		if r := c.do(http.MethodGet, manifests(ref)); r.StatusCode != want {
			t.Errorf("%s: got %d, want %d", what, r.StatusCode, want)
		}
	}
	// A tag that people choose names no attachment: a runtime that mounts it would get unjudged content.
	c.attachment(empty, spdx, true, "files")
	get("an SBOM under a tag of its own", "files", 403)
	// Without a subject, it is attached to nothing, unless its tag says so.
	alone := c.attachment(empty, spdx, false, sbomTag)
	get("an SBOM without a subject", alone, 403)
	get("an SBOM under its tag", sbomTag, 200)
	get("what the tag opened", alone, 200)
	get("an SBOM with a subject", c.attachment(empty, spdx, true, ""), 200)

	// The header of an SBOM is no SBOM.
	for what, content := range map[string]string{
		"a package":      `{"spdxVersion":"SPDX-2.3","name":"x","scripts":{"preinstall":"sh"}}`,
		"SPDX and more":  strings.Replace(spdx, `{`, `{"scripts":{"preinstall":"sh"},`, 1),
		"a manifest":     `{"bomFormat":"CycloneDX","specVersion":"1.6","apiVersion":"v1","kind":"Pod"}`,
		"a short header": `{"spdxVersion":"SPDX-2.3"}`,
	} {
		get(what+" with a subject", c.attachment(empty, content, true, ""), 403)
		c.attachment(empty, content, false, sbomTag)
		get(what+" under an SBOM's tag", sbomTag, 403)
		c.want(403, "DENIED", blobs(c.blob(content)))
	}

	// The config is read, too: it would open a layer of an image that is refused.
	s := prooftest.NewStore(t)
	s.Tar = []byte("a third image")
	_, layers := s.Image("plain")
	c.push(s)
	for _, config := range []v1.Descriptor{layers[0], c.blob(`{"config":{"Cmd":["sh"]}}`)} {
		get("a layer, or a command, as the config", c.attachment(config, spdx, true, ""), 403)
		c.want(403, "DENIED", blobs(config))
	}
}
