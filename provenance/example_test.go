package provenance_test

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log"
	"os"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/provenance"
)

// Read a GitHub Artifact Attestation whose signature was verified: first what
// the certificate says, so that it can be decided whether to trust the signer,
// then what the signer says.
func ExampleRead() {
	text, err := os.ReadFile("testdata/github-attestation/certificate.pem")
	if err != nil {
		log.Fatal(err)
	}
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		log.Fatal(err)
	}
	summary, err := certificate.SummarizeCertificate(cert)
	if err != nil {
		log.Fatal(err)
	}
	origin, err := provenance.OriginOf(summary)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(origin.System, "certified", origin.Workflow.Path, "in", origin.Workflow.Repository)

	raw, err := os.ReadFile("testdata/github-attestation/statement.json")
	if err != nil {
		log.Fatal(err)
	}
	statement, err := attest.ParseAnyStatement(raw)
	if err != nil {
		log.Fatal(err)
	}
	facts, err := provenance.Read(statement, origin)
	if err != nil {
		log.Fatal(err) // statement and certificate contradict each other
	}
	fmt.Println("built from", facts.Source)
	fmt.Println(facts.Ref, facts.Commit)

	// Which requirements of SLSA's Build track are met depends on whom you trust.
	requirements := facts.Requirements(provenance.Evidence{Level: 2, By: "the reader"})
	fmt.Println("Build level", provenance.BuildLevel(requirements))

	// Output:
	// GitHub certified .github/workflows/publish.yaml in https://github.com/bazel-contrib/publish-to-bcr
	// built from https://github.com/aspect-build/rules_lint
	// refs/heads/publish-to-bcr 8f70009fde0c94ade6ce2a054b94718c819126ec
	// Build level 2
}
