package serving

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	core "github.com/notaryproject/notation-core-go/signature"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/bundle/notation"
	"github.com/colophon-build/colophon/test/prooftest"
)

// documents returns one document of each kind that is attached to images, by its name.
func documents() map[string]map[string]any {
	hex := strings.Repeat("a", 64)
	subject := []any{map[string]any{"name": "app", "digest": map[string]any{"sha256": hex}, "annotations": map[string]any{"more": "is allowed"}}}
	all := map[string]map[string]any{
		"spdx":      {"spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": "app", "documentNamespace": "https://example.com/app", "creationInfo": map[string]any{"created": "2026-01-02T03:04:05Z", "creators": []any{"Tool: x"}}, "packages": []any{map[string]any{"name": "x", "anything": 1}}},
		"cyclonedx": {"$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json", "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": []any{map[string]any{"name": "x"}}},
		"statement": {"_type": attest.StatementType, "subject": subject, "predicateType": "https://example.com/p", "predicate": map[string]any{"any": "thing"}},
		"lock":      {"version": 1, "fetches": []any{}},
	}
	var payload map[string]any
	digest := v1.Hash{Algorithm: "sha256", Hex: hex}
	if err := json.Unmarshal(bundle.SimpleSigning("example.com/app", digest), &payload); err != nil {
		panic(err)
	}
	payload["optional"] = map[string]any{"ref": "v1"}
	all["payload"] = payload
	signed, err := json.Marshal(all["statement"])
	if err != nil {
		panic(err)
	}
	all["envelope"] = map[string]any{"payloadType": attest.PayloadType, "payload": signed, "signatures": []any{map[string]any{"keyid": "", "sig": "YQ=="}}}
	return all
}

func reads(t *testing.T, kind string, document map[string]any) bool {
	t.Helper()
	raw, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	mediaType := "application/json"
	if kind == "lock" {
		mediaType = attest.LockMediaType
	}
	return isProof(mediaType, raw)
}

// TestProofsAlone: a document that has a proof's header, and members of something else or not those of the
// proof, is no proof: a runtime could mount it as a file that a program reads.
func TestProofsAlone(t *testing.T) {
	for kind, document := range documents() {
		if !reads(t, kind, document) {
			t.Errorf("%s: the document itself is refused", kind)
		}
		for _, member := range []string{"scripts", "apiVersion", "Name", "x"} {
			more := maps.Clone(document)
			more[member] = map[string]any{"preinstall": "sh"}
			if reads(t, kind, more) {
				t.Errorf("%s with the member %s is taken for a proof", kind, member)
			}
		}
		for member, value := range document {
			switch member {
			case "$schema", "packages", "components", "version", "optional", "predicate":
				if kind != "lock" {
					continue // optional
				}
			}
			less := maps.Clone(document)
			delete(less, member)
			if reads(t, kind, less) {
				t.Errorf("%s without %s is taken for a proof", kind, member)
			}
			if _, text := value.(string); text {
				less[member] = "$(sh)"
				if reads(t, kind, less) && member != "name" && member != "documentNamespace" && member != "predicateType" {
					t.Errorf("%s with another %s is taken for a proof", kind, member)
				}
			}
			less[member] = []any{"of another type"}
			if reads(t, kind, less) {
				t.Errorf("%s with a list of texts as %s is taken for a proof", kind, member)
			}
		}
	}
	for _, more := range []string{`{"spdxVersion":"SPDX-2.3"}`, `{"bomFormat":"CycloneDX"}`, `{"_type":"https://in-toto.io/Statement/v1"}`, `{"critical":{}}`, `{"payloadType":"x"}`, "[]", `"{}"`, " {}", ""} {
		if isProof(attest.LockMediaType, []byte(more)) {
			t.Errorf("%q is taken for a proof", more)
		}
	}
	whole, err := json.Marshal(documents()["spdx"])
	if err != nil {
		t.Fatal(err)
	}
	for _, after := range []string{"#!/bin/sh", "PK\x05\x06", "{}", "\x00"} {
		if isProof("application/spdx+json", append(whole[:len(whole):len(whole)], after...)) {
			t.Errorf("an SBOM with %q after it is taken for a proof", after)
		}
	}
}

// TestWrittenProofs: what the platform and syft write is served.
func TestWrittenProofs(t *testing.T) {
	release := prooftest.New(t).ReleaseOf(v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("a", 64)}})
	for kind, document := range map[string]any{"SPDX": release.SPDX, "CycloneDX": release.CDX} {
		raw, err := json.Marshal(document)
		if err != nil || !isProof("application/json", raw) {
			t.Errorf("%s of the platform is refused, %v", kind, err)
		}
	}
	// What syft 1.52.0 wrote about a go.mod: syft dir:x -o FORMAT.
	files, err := filepath.Glob("testdata/syft/*.json")
	if err != nil || len(files) != 4 {
		t.Fatalf("got %d files, %v, want 4", len(files), err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil || !isProof("application/json", raw) {
			t.Errorf("syft's %s is refused, %v: %.300s", file, err, raw)
		}
	}
}

// TestSignaturesOfNotation: an envelope that its own certificate signed is a proof; one around another payload,
// with another byte, or with something after it, is none.
func TestSignaturesOfNotation(t *testing.T) {
	signer := prooftest.NewNotary(t, "acme root").Signer()
	image := v1.Descriptor{MediaType: "application/vnd.oci.image.manifest.v1+json", Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("a", 64)}, Size: 1}
	for _, mediaType := range []string{notation.JWS, notation.COSE} {
		raw := signer.Sign(mediaType, image)
		if !isProof(mediaType, raw) {
			t.Errorf("%s is refused", mediaType)
		}
		script := signer.Sign(mediaType, image, func(r *core.SignRequest) { r.Payload.Content = []byte(`{"scripts":{}}`) })
		other := bytes.Clone(raw)
		other[len(other)-4] ^= 1
		for what, wrong := range map[string][]byte{"another payload": script, "another byte": other, "more": append(raw[:len(raw):len(raw)], "PK\x05\x06"...)} {
			if isProof(mediaType, wrong) {
				t.Errorf("%s with %s is taken for a proof", mediaType, what)
			}
		}
	}
}

// TestConfigsOfAttachments: the config of an attachment says nothing about running it, and is no other blob.
func TestConfigsOfAttachments(t *testing.T) {
	cosign := `"architecture":"","created":"0001-01-01T00:00:00Z","history":[{"created":"0001-01-01T00:00:00Z"}],"os":"","rootfs":{"type":"layers","diff_ids":["sha256:` + strings.Repeat("a", 64) + `"]}`
	for raw, want := range map[string]bool{
		"{}": true, "{" + cosign + `,"config":{}}`: true, "{" + cosign + "}": true,
		"{" + cosign + `,"config":{"Cmd":["sh"]}}`: false, "{" + cosign + `,"config":{"Env":[]}}`: false, "{" + cosign + `,"container_config":{}}`: false,
		"a layer": false, "": false, `{"scripts":{}}`: false, `{"config":{},"config":{}}`: false,
	} {
		if got := isConfig([]byte(raw)); got != want {
			t.Errorf("%s: got %v, want %v", raw, got, want)
		}
	}
}
