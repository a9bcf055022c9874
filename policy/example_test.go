package policy_test

import (
	"fmt"
	"log"

	"github.com/colophon-build/colophon/policy"
)

// Read a policy file, and compare what a verified provenance says with it.
func ExampleParse() {
	p, err := policy.Parse([]byte(`{"source": "git.example.com/team/app", "version": "v1.2", "minLevel": 2}`))
	if err != nil {
		log.Fatal(err)
	}
	want := p.Provenance()
	fmt.Println(want)
	fmt.Println(want.MatchSource("https://git.example.com/team/app.git"))
	fmt.Println(want.MatchRef("refs/tags/v1.20.0"))
	fmt.Println(want.MatchLevel(1))

	// Output:
	// source https://git.example.com/team/app, version v1.2, Build level 2 or more
	// <nil>
	// version: got "v1.20.0", want "v1.2"
	// Build level: got 1, want at least 2
}

// Demand in Go that an image was built by a trusted builder from one repository
// at one tag, and that the tests passed.
func ExamplePolicy() {
	source, err := policy.ParseSource("git.example.com/team/app")
	if err != nil {
		log.Fatal(err)
	}
	p := policy.Policy{
		Origin: policy.BuilderProvenance{
			Provenance: policy.Provenance{Source: source, Ref: policy.RefName("refs/tags/v1.2.0")},
			SBOM:       policy.SBOMOptional,
		},
		Attestations: []policy.Attestation{{
			PredicateType: "https://in-toto.io/attestation/test-result/v0.1",
			Signer:        policy.Identity{Name: "https://ci.example.com/tests", Issuer: "https://accounts.example.com"},
			Equals:        map[string]any{"/result": "PASSED"},
		}},
	}
	fmt.Println(p.Check())
	fmt.Println(p.Attestations[0].Match([]byte(`{"result": "FAILED"}`)))

	// Output:
	// <nil>
	// predicate: /result: got "FAILED", want "PASSED"
}

// Accept a signature by a key, whatever the image was built from.
func ExampleSignatureOnly() {
	key, err := policy.ParseKey(`-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
`)
	if err != nil {
		log.Fatal(err)
	}
	p := policy.Policy{Origin: policy.SignatureOnly{Signer: key}}
	fmt.Println(p.Check(), p.Dangers())

	key.InsecureNoLog = true
	p.Origin = policy.SignatureOnly{Signer: key}
	fmt.Println(p.Check(), p.Dangers())

	// Output:
	// <nil> []
	// <nil> [a signature without a transparency log entry is accepted]
}

// A policy that demands nothing is refused.
func ExamplePolicy_Check() {
	fmt.Println(policy.Policy{}.Check())
	fmt.Println(policy.Policy{Origin: policy.SummaryOnly{}}.Check())
	fmt.Println(policy.Policy{Origin: policy.BuilderProvenance{}}.Check())

	// Output:
	// policy names no source
	// policy names no source
	// policy names no source
}
