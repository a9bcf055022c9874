package sbom_test

import (
	"fmt"
	"log"

	"github.com/colophon-build/colophon/sbom"
)

// Read an SBOM: which image it describes, and which packages it lists.
func ExampleRead() {
	document := `{
		"spdxVersion": "SPDX-2.3", "SPDXID": "SPDXRef-DOCUMENT", "creationInfo": {"created": "2026-01-02T03:04:05Z"},
		"packages": [
			{"SPDXID": "SPDXRef-image", "name": "app", "checksums": [{"algorithm": "SHA256",
				"checksumValue": "e87d5964324ac2f84136617fd7dca5e47c40b754543c01bd0b662b86ee2bf90f"}]},
			{"SPDXID": "SPDXRef-text", "name": "golang.org/x/text", "versionInfo": "v0.40.0", "externalRefs": [
				{"referenceType": "purl", "referenceLocator": "pkg:golang/golang.org/x/text@v0.40.0"}]}],
		"relationships": [{"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-image"}]}`
	d, err := sbom.Read([]byte(document), "https://spdx.dev/Document/v2.3")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(d.Format, d.Version, d.Name, d.SubjectDigest)
	for _, p := range d.List {
		fmt.Println(p.Name, p.Version, p.PURL)
	}

	// Output:
	// SPDX 2.3 app sha256:e87d5964324ac2f84136617fd7dca5e47c40b754543c01bd0b662b86ee2bf90f
	// golang.org/x/text v0.40.0 pkg:golang/golang.org/x/text@v0.40.0
}
