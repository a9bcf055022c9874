package attest_test

import (
	"fmt"
	"log"
	"os"

	"github.com/colophon-build/colophon/attest"
)

// Read a statement, and see what its provenance says about the build. Only a
// verified signature makes this true: see package bundle.
func Example() {
	raw, err := os.ReadFile("../provenance/testdata/github-attestation/statement.json")
	if err != nil {
		log.Fatal(err)
	}
	statement, err := attest.ParseStatement(raw)
	if err != nil {
		log.Fatal(err)
	}
	if statement.PredicateType != attest.PredicateSLSA1 {
		log.Fatalf("predicate type: got %q, want %q", statement.PredicateType, attest.PredicateSLSA1)
	}
	provenance, err := attest.ParseProvenance(statement.Predicate)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("subject:", statement.Subject[0].Name)
	fmt.Println("builder:", provenance.RunDetails.Builder.ID)
	fmt.Println("source: ", provenance.BuildDefinition.ResolvedDependencies[0].URI)

	// Output:
	// subject: MODULE.bazel
	// builder: https://github.com/bazel-contrib/publish-to-bcr/.github/workflows/publish.yaml@refs/tags/v0.0.1
	// source:  git+https://github.com/aspect-build/rules_lint@refs/heads/publish-to-bcr
}
