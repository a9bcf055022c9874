package bundle_test

import (
	"fmt"
	"log"
	"os"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/trust"
)

func mustRead(path string) []byte {
	raw, err := os.ReadFile(path)
	if err != nil {
		log.Fatal(err)
	}
	return raw
}

// Verify a bundle, and see who signed what, and when.
func ExampleBundle_Verify() {
	root, err := trust.Parse(mustRead("testdata/rekor2-dsse/trusted_root.json")) // whom to trust
	if err != nil {
		log.Fatal(err)
	}
	root, err = root.ForIssuers([]string{trust.GitHubIssuer}) // for what
	if err != nil {
		log.Fatal(err)
	}
	b, err := bundle.Parse(mustRead("testdata/rekor2-dsse/bundle.sigstore.json"))
	if err != nil {
		log.Fatal(err)
	}
	digest, err := v1.NewHash("sha256:a0cfc71271d6e278e57cd332ff957c3f7043fdda354c4cbb190a30d56efa01bf") // of the file or image to verify
	if err != nil {
		log.Fatal(err)
	}
	r := b.Verify(bundle.Subject{Digest: digest}, root.Material, time.Now())
	if err := r.Err(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.Identity.SubjectAlternativeName)
	fmt.Println(b.Statement.PredicateType)
	fmt.Println(trust.FormatTime(r.Times[0]))

	// Output:
	// https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main
	// https://slsa.dev/provenance/v1
	// 2026-05-13 19:23:33Z
}

// Verify that the expected signer signed a file.
func ExampleArtifact() {
	root, err := trust.Parse(mustRead("../trust/tuf/sigstore_trusted_root.json"))
	if err != nil {
		log.Fatal(err)
	}
	const dir = "../test/conformance/sigstore/testdata/cases/"
	file, err := os.Open(dir + "a.txt")
	if err != nil {
		log.Fatal(err)
	}
	defer file.Close()
	digest, _, err := v1.SHA256(file)
	if err != nil {
		log.Fatal(err)
	}
	signer := bundle.Signer{
		Identity: "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main",
		Issuer:   trust.GitHubIssuer,
	}
	r, err := bundle.Artifact(mustRead(dir+"happy-path-v0.3/bundle.sigstore.json"), bundle.Subject{Digest: digest}, signer, root.Material, time.Now())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("log entry", r.Index)

	// Output:
	// log entry 79571823
}
