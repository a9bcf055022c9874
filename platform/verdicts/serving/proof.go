package serving

import (
	"archive/tar"
	"bytes"
	"errors"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/bundle/notation"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
)

// isProof reports whether a blob is, by its content, of a kind that is attached to images: a Sigstore
// bundle, a DSSE envelope, a payload that cosign v2 signs, an envelope of notation, an in-toto statement,
// an SBOM in JSON, or a lock. The document must have all members that its specification requires, and no
// others at its top: what reads it for another purpose finds none of its own. No signature is trusted.
func isProof(mediaType string, raw []byte) bool {
	if bytes.Equal(raw, oci.EmptyConfig()) {
		return true
	}
	if _, err := tar.NewReader(bytes.NewReader(raw)).Next(); err == nil {
		return false
	}
	if mediaType == notation.JWS || mediaType == notation.COSE {
		_, err := notation.Parse(mediaType, raw)
		return err == nil
	}
	var head struct {
		SPDX     string  `json:"spdxVersion"`
		CDX      string  `json:"bomFormat"`
		InToto   string  `json:"_type"`
		Envelope string  `json:"payloadType"`
		Critical *object `json:"critical"`
	}
	if strict.Unmarshal(raw, limits.Bundle, &head) != nil {
		return false
	}
	switch {
	case head.SPDX != "":
		return isSPDX(raw)
	case head.CDX != "":
		return isCycloneDX(raw)
	case head.InToto != "":
		return isStatement(raw)
	case head.Critical != nil:
		return isPayload(raw)
	case head.Envelope != "":
		return isEnvelope(raw)
	case mediaType == attest.LockMediaType:
		return isLock(raw)
	}
	_, err := bundle.Parse(raw)
	return err == nil
}

// object is a JSON object with any members.
type object struct{}

// UnmarshalJSON fails for any other value.
func (*object) UnmarshalJSON(raw []byte) error {
	if !bytes.HasPrefix(raw, []byte("{")) {
		return errors.New("expected an object")
	}
	return nil
}

// known reports whether raw has no members but those of v.
func known(raw []byte, v any) bool { return strict.UnmarshalKnown(raw, limits.Bundle, v) == nil }

// isSPDX reports whether raw is an SPDX document (SPDX 2.2 and 2.3, clauses 6 to 13 and the JSON schema).
func isSPDX(raw []byte) bool {
	var d struct {
		Version   string `json:"spdxVersion"`
		License   string `json:"dataLicense"`
		ID        string `json:"SPDXID"`
		Name      string `json:"name"`
		Namespace string `json:"documentNamespace"`
		Comment   string `json:"comment"`
		Creation  struct {
			Created  string   `json:"created"`
			Creators []string `json:"creators"`
			Comment  string   `json:"comment"`
			Licenses string   `json:"licenseListVersion"`
		} `json:"creationInfo"`
		Describes     []string `json:"documentDescribes"`
		Packages      []object `json:"packages"`
		Files         []object `json:"files"`
		Snippets      []object `json:"snippets"`
		Relationships []object `json:"relationships"`
		Annotations   []object `json:"annotations"`
		Others        []object `json:"externalDocumentRefs"`
		Licenses      []object `json:"hasExtractedLicensingInfos"`
		Reviews       []object `json:"revieweds"`
	}
	return known(raw, &d) && (d.Version == "SPDX-2.2" || d.Version == "SPDX-2.3") && d.License == "CC0-1.0" && d.ID == "SPDXRef-DOCUMENT" &&
		d.Name != "" && d.Namespace != "" && d.Creation.Created != "" && len(d.Creation.Creators) > 0
}

// cycloneDXVersions are those with a JSON form.
var cycloneDXVersions = []string{"1.2", "1.3", "1.4", "1.5", "1.6", "1.7"}

// isCycloneDX reports whether raw is a CycloneDX document (the JSON schemas bom-1.2 to bom-1.7).
func isCycloneDX(raw []byte) bool {
	var d struct {
		Schema          string   `json:"$schema"`
		Format          string   `json:"bomFormat"`
		Version         string   `json:"specVersion"`
		Serial          string   `json:"serialNumber"`
		Revision        int64    `json:"version"`
		Metadata        *object  `json:"metadata"`
		Components      []object `json:"components"`
		Services        []object `json:"services"`
		References      []object `json:"externalReferences"`
		Dependencies    []object `json:"dependencies"`
		Compositions    []object `json:"compositions"`
		Vulnerabilities []object `json:"vulnerabilities"`
		Annotations     []object `json:"annotations"`
		Formulation     []object `json:"formulation"`
		Properties      []object `json:"properties"`
		Citations       []object `json:"citations"`
		Declarations    *object  `json:"declarations"`
		Definitions     *object  `json:"definitions"`
		Signature       *object  `json:"signature"`
	}
	return known(raw, &d) && d.Format == "CycloneDX" && slices.Contains(cycloneDXVersions, d.Version)
}

// isStatement reports whether raw is an in-toto statement (attestation spec v1 and v0.1, statement.md).
func isStatement(raw []byte) bool {
	var d struct {
		Type          string   `json:"_type"`
		Subject       []object `json:"subject"`
		PredicateType string   `json:"predicateType"`
		Predicate     *object  `json:"predicate"`
	}
	if !known(raw, &d) || d.PredicateType == "" {
		return false
	}
	_, err := attest.ParseAnyStatement(raw)
	return err == nil
}

// isPayload reports whether raw is a payload that cosign v2 signs (containers/image, signature.md).
func isPayload(raw []byte) bool {
	var d struct {
		Critical object  `json:"critical"`
		Optional *object `json:"optional"`
	}
	return known(raw, &d) && bundle.IsSimpleSigning(raw)
}

// isEnvelope reports whether raw is a DSSE envelope around an in-toto statement (dsse, envelope.md).
func isEnvelope(raw []byte) bool {
	var d struct {
		Payload     string   `json:"payload"`
		PayloadType string   `json:"payloadType"`
		Signatures  []object `json:"signatures"`
	}
	if !known(raw, &d) || len(d.Signatures) == 0 {
		return false
	}
	_, err := bundle.ParseEnvelope(raw)
	return err == nil
}

// isLock reports whether raw is a lock of Colophon (spec/lock/v1).
func isLock(raw []byte) bool {
	var d struct {
		Version int      `json:"version"`
		Fetches []object `json:"fetches"`
		Git     []object `json:"git"`
	}
	return known(raw, &d) && d.Version > 0 && d.Fetches != nil
}

// isConfig reports whether raw is the configuration of an attachment: none, or that of an image which says
// nothing about running it (image spec, config.md), as cosign v2 writes.
func isConfig(raw []byte) bool {
	if bytes.Equal(raw, oci.EmptyConfig()) {
		return true
	}
	var d struct {
		Created      string   `json:"created"`
		Author       string   `json:"author"`
		Architecture string   `json:"architecture"`
		Variant      string   `json:"variant"`
		OS           string   `json:"os"`
		History      []object `json:"history"`
		Config       struct{} `json:"config"` // with any member, the image would say how it is run
		RootFS       struct {
			Type  string    `json:"type"`
			Diffs []v1.Hash `json:"diff_ids"`
		} `json:"rootfs"`
	}
	return known(raw, &d)
}

// ofImage reports whether something says that it is a part of an image.
func ofImage(d v1.Descriptor) bool {
	t := strings.ToLower(string(d.MediaType))
	return t == "" || strings.HasPrefix(t, "application/vnd.oci.image.") || strings.HasPrefix(t, "application/vnd.docker.") || strings.Contains(t, "tar") || strings.HasPrefix(t, "application/octet-stream")
}
