package verify

import (
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/sbom"
)

// readSBOM parses a document, and holds it to the image that it is attached to:
// a signed and true document about another image says nothing of this one.
func readSBOM(predicate []byte, kind string, digest v1.Hash) (*sbom.Info, error) {
	info, err := sbom.Summary(predicate, kind)
	if err != nil {
		return nil, err
	}
	if info.SubjectDigest != digest.String() {
		return nil, fmt.Errorf("the %s document describes %q, want %q", info.Format, info.SubjectDigest, digest)
	}
	return &info, nil
}
