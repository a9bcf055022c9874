package verify

import (
	"fmt"
	"strings"
	"time"

	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/trust"
)

// Explanation says how a link is judged, for people. Its text may change.
type Explanation struct {
	Checked string // what was looked at
	Against string // what it was held to, with the values of these options
	Rule    string // what makes the link hold, and what it counts for
}

// Explain says how Image and files with a bundle judge the link of a name (one
// of the Link constants) under opts. It explains the rules and no verdict: a
// link that does not hold says by itself what was wrong. The zero value is for
// a name that is no link's.
func (opts Options) Explain(link string, now time.Time) Explanation {
	const demanded = "; demanded"
	p := opts.Policy
	switch link {
	case LinkImage:
		return Explanation{
			"every byte: the manifest or index, each platform's manifest, configuration and layers",
			"the digest and size that each is named by, beginning with the image's own digest",
			"other bytes than named break it; what cannot be read leaves it unknown" + demanded,
		}
	case LinkFile:
		return Explanation{
			"every byte of the file",
			"the digest that the bundle's signature is about",
			"a signature about another digest is none of this file" + demanded,
		}
	case LinkSignature:
		return Explanation{
			"the signature about this digest, its certificate or key, and who it is for",
			opts.believed() + "; " + opts.signers(),
			"the signature, the certificate's chain at a time that is proved, and its entry in a certificate log (where the root has one) must hold under one trust root, " +
				"and the signer is compared whole" + demanded,
		}
	case LinkLog:
		return Explanation{
			"the log entry, the proof or promise that it is in the log, and the time of signing",
			"the log and clock keys of the same trust root, and when they were believed; no time after " + trust.FormatTime(now),
			"the entry must be about this signature, and a trusted time within the certificate's; only of a root that keeps no log none is asked" + demanded + opts.unlogged(),
		}
	case LinkProvenance:
		return Explanation{
			"the SLSA provenance: subject, builder, source, ref, commit, parameters, dependencies",
			"this digest; the certificate of who signed it; " + plain(p.Provenance().String()),
			"each field is compared whole, and one that contradicts another breaks it; unknown external parameters do, too" + demanded + " unless only who signed was asked",
		}
	case LinkSource:
		against := "commit, tree and ref of the provenance, in the repository that it names, and the signers where any were named"
		if opts.SourceCheck == nil {
			against += " (nobody was asked)"
		}
		rule := "a commit that is gone or has another tree, a tag that leads elsewhere, a branch whose history no longer has the commit, and a signature of none of the signers break it; "
		if p.Provenance().RequireSource {
			return Explanation{"the repository as it is now", against, rule + "demanded by the policy"}
		}
		return Explanation{"the repository as it is now", against, rule + "a repository that cannot be asked refuses nothing, as the policy has no requireSource"}
	case LinkAttestation:
		return Explanation{
			"the attestations of the predicate types that the policy demands, and who signed them",
			"this digest, the signer that the policy names or that of the provenance, and the values that it wants",
			"each must be there, signed by that one, with each value as demanded" + demanded,
		}
	case LinkSBOM:
		rule := "an SPDX and a CycloneDX document must each be signed by the signer of the provenance and be about this digest"
		if p.SBOM() == policy.SBOMOptional {
			rule += "; not demanded by the policy, and one that does not hold is passed over"
		} else {
			rule += "; demanded, but not of workflows, which attach none"
		}
		against := "the signer of the provenance, this digest, and the source of the provenance"
		if p.SBOM() == policy.SBOMContents {
			against += "; what is installed in the image: Go binaries, dpkg, apk, npm and Python packages"
			rule += "; a package that only one of document and image has breaks it, and the policy demands that"
		}
		return Explanation{"the SBOM attestations", against, rule}
	}
	if link == LinkSummary {
		return Explanation{
			"the SLSA verification summaries about this digest",
			opts.believed() + "; " + opts.verifiers(),
			"of what one verifier says about the resource its last word counts: it must have passed, at the levels and within the time that the policy says; one verifier suffices" + demanded,
		}
	}
	return Explanation{}
}

// verifiers names whom the policy believes to have verified.
func (opts Options) verifiers() string {
	var out []string
	for _, v := range opts.Policy.Verifiers {
		out = append(out, fmt.Sprintf("verifier %s, signed by %s", v.ID, v.Signer))
	}
	return plain(strings.Join(out, " or "))
}

// believed names the trust roots.
func (opts Options) believed() string {
	var roots []string
	for _, r := range opts.Trust {
		name := "Sigstore trusted root"
		if r.URL != "" {
			name = "platform " + r.URL
		}
		roots = append(roots, name+" "+r.Fingerprint)
	}
	if len(roots) == 0 {
		return "nobody: no trust root is believed"
	}
	return plain(strings.Join(roots, ", "))
}

// signers names who may have signed.
func (opts Options) signers() string {
	if s := opts.Policy.Signer(); s != nil {
		return plain("signed by " + s.String())
	}
	if builders := opts.Policy.Provenance().Builders; len(builders) > 0 {
		return plain("signer " + strings.Join(builders, " or "))
	}
	var ids []string
	public := false
	for _, r := range opts.Trust {
		for _, b := range r.Builders {
			ids = append(ids, b.ID)
		}
		public = public || len(r.Builders) == 0
	}
	if public {
		ids = append(ids, "a public builder on GitHub or, where a source is demanded, a workflow or pipeline of that repository")
	}
	if len(ids) == 0 {
		return "no signer"
	}
	return plain("signer " + strings.Join(ids, " or "))
}

// unlogged says that the policy wants no log entry.
func (opts Options) unlogged() string {
	if key, ok := opts.Policy.Signer().(policy.Key); ok && key.InsecureNoLog {
		return " of one that has an entry; dangerous: the policy accepts the key's signature without any"
	}
	return ""
}
