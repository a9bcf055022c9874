package sbom

import (
	"encoding/json"
	"strings"
	"testing"
)

// FuzzRead: no document panics, and what is read names one image at most, and
// only packages.
func FuzzRead(f *testing.F) {
	digest := strings.Repeat("ab", 32)
	spdx, err := json.Marshal(map[string]any{"spdxVersion": "SPDX-2.3", "SPDXID": "SPDXRef-DOCUMENT", "name": "app", "dataLicense": "CC0-1.0", "documentNamespace": "https://example.com/app",
		"creationInfo": map[string]any{"created": "2026-01-02T03:04:05Z", "creators": []string{"Tool: test"}},
		"packages": []map[string]any{
			{"SPDXID": "SPDXRef-image", "name": "app", "versionInfo": "sha256:" + digest, "checksums": []map[string]string{{"algorithm": "SHA256", "checksumValue": digest}}},
			{"SPDXID": "SPDXRef-p", "name": "stdlib", "versionInfo": "go1.26"}},
		"relationships": []map[string]string{{"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-image"}}})
	if err != nil {
		f.Fatal(err)
	}
	cdx, err := json.Marshal(map[string]any{"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": []map[string]any{{"type": "library", "name": "stdlib", "version": "go1.26"}},
		"metadata": map[string]any{"timestamp": "2026-01-02T03:04:05Z", "component": map[string]any{"type": "container", "name": "app", "version": "sha256:" + digest}}})
	if err != nil {
		f.Fatal(err)
	}
	for kind, raw := range map[string][]byte{PredicateSPDX: spdx, PredicateCycloneDX: cdx} {
		if d, err := Read(raw, kind); err != nil || d.Packages != 1 {
			f.Fatalf("seed: got %+v, %v, want one package", d, err)
		}
		f.Add(raw, kind == PredicateSPDX)
	}
	f.Add([]byte(`{"@context":"https://spdx.org/rdf/3.0.1/spdx-context.jsonld","@graph":[{"type":"SpdxDocument","spdxId":"x","rootElement":["y"]}]}`), true)
	f.Fuzz(func(t *testing.T, raw []byte, spdx bool) {
		kind := PredicateCycloneDX
		if spdx {
			kind = PredicateSPDX
		}
		d, err := Read(raw, kind)
		if err == nil && (d.Packages != len(d.List) || d.Format == "" || d.Version == "") {
			t.Errorf("read as %+v", d.Info)
		}
		if info, err := ReadOfImage(raw, kind); err == nil && (info.SubjectDigest == "" || info.Created.IsZero()) {
			t.Errorf("summed up as %+v", info)
		}
	})
}
