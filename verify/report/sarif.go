package report

import (
	"fmt"

	"github.com/colophon-build/colophon/internal/sarif"
	"github.com/colophon-build/colophon/verify"
)

// demands says what each link demands: the descriptions of SARIF's rules.
var demands = map[string]string{
	verify.LinkImage:       "every byte of the image is what its digest says",
	verify.LinkFile:        "the file is the one that was signed",
	verify.LinkSignature:   "a signer that the trust root covers signed it, at a time that a timestamp proves",
	verify.LinkLog:         "the signature is in the transparency log",
	verify.LinkProvenance:  "it was built by the builder and from the source that are demanded",
	verify.LinkSource:      "the repository still has the commit",
	verify.LinkTrack:       "the commit has the SLSA Source level and the reviewers that are demanded",
	verify.LinkSBOM:        "an SBOM about this image, by the same signer",
	verify.LinkRule:        "the image satisfies each rule of the policy that is about it",
	verify.LinkDistrust:    "no list of what is no longer trusted has an entry about it",
	verify.LinkSummary:     "a verifier that the policy trusts verified it",
	verify.LinkAttestation: "the attestations that the policy demands are there, by the signers demanded, with the values demanded",
	ruleVerdict:            "the image is accepted",
}

// rules returns the rules that findings name: all links, and ruleVerdict.
func rules() (all []object) {
	for _, id := range append(verify.LinkNames(), ruleVerdict) {
		all = append(all, object{"id": id, "shortDescription": object{"text": demands[id]}})
	}
	return all
}

type object = sarif.Object

// SARIF returns the verdicts as SARIF 2.1.0: one run of colophon with the given
// version, and a result for each link. The level is "error" for a broken or absent
// link, "warning" for an unknown one, else "none" (section 3.27.10).
func SARIF(verdicts []*verify.Verdict, version string) ([]byte, error) {
	var results []object
	for _, v := range verdicts {
		place := object{
			"physicalLocation": object{"artifactLocation": sarif.Artifact(v.Image)},
			"logicalLocations": []object{{"fullyQualifiedName": v.Image}},
		}
		for _, r := range findings(v) {
			kind, level := "pass", "none"
			switch r.finding {
			case noted:
				kind = "notApplicable"
			case failed:
				kind, level = "fail", "error"
			case unknown:
				kind, level = "fail", "warning" // kind "open" has no level, so CI would not show it
			}
			results = append(results, object{
				"ruleId": r.rule, "kind": kind, "level": level,
				"message":    object{"text": fmt.Sprintf("%s, %s: %s", v.Image, r.rule, r.text)},
				"locations":  []object{place},
				"properties": object{"digest": v.Digest, "outcome": v.Outcome},
			})
		}
	}
	return sarif.Log(version, rules(), results)
}
