package verify

import (
	"fmt"
	"strings"
	"time"

	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/trust"
)

// Explanation says for people how a link is checked. Its text may change.
type Explanation struct {
	Checked string // what is checked
	Against string // what it is compared with, with the values of these options
	Rule    string // when the link holds, and whether it is demanded
}

// demanded ends the rule of a link without which no image is accepted.
const demanded = "; demanded"

// Explain returns how Image and Bundled check the link with the given name (one of
// the Link constants) under opts at the time now. It explains the rules, not a
// verdict: the Reason of a link says what is wrong. An unknown name gives the zero
// Explanation.
func (opts Options) Explain(link string, now time.Time) Explanation {
	p := opts.Policy
	switch link {
	case LinkImage:
		return Explanation{
			"every byte: the manifest or index, each platform's manifest, configuration and layers, or those of --platform",
			"the digest and size that name each part, beginning with the image's own digest",
			"other bytes break it; bytes that cannot be read leave it unknown; a platform of the index that is not there is named" + demanded,
		}
	case LinkFile:
		return Explanation{
			"every byte of the file",
			"the digest that the bundle's signature is about",
			"a signature about another digest does not count" + demanded,
		}
	case LinkSignature:
		return Explanation{
			"the signature about this digest, its certificate or key, and the signer's name",
			opts.trusted() + "; " + opts.signers(),
			"under one trust root: the signature, the certificate's chain at a proved time, and its entry in a certificate log (if the root has one) must hold, " +
				"and the signer's whole name must match" + demanded,
		}
	case LinkLog:
		return Explanation{
			"the log entry, the proof or promise that it is in the log, and the time of signing",
			"the keys of the logs and timestamp authorities of the same trust root, and when they were trusted; no time after " + trust.FormatTime(now),
			"the entry must be about this signature, and a trusted time within the certificate's validity; a certificate needs no entry if the trust root has no log" + demanded + opts.unlogged() + opts.cosigned(),
		}
	case LinkProvenance:
		return Explanation{
			"the SLSA provenance: subject, builder, source, ref, commit, parameters, dependencies",
			"this digest; the signer's certificate; " + plain(p.Provenance().String()),
			"each field is compared whole; a contradiction or an unknown external parameter breaks it, and so does a recipe that the requester chose, unless it is demanded" + demanded + " unless the policy demands only a signer",
		}
	case LinkSource:
		return opts.explainSource()
	case LinkAttestation:
		return Explanation{
			"the attestations of the predicate types that the policy demands or forbids, and who signed them",
			"this digest, the signer that the policy names or else the signer of the provenance, and the values that the policy demands",
			"each must exist, with the right signer and all values; of those that must be absent none may exist, and everything attached must have been read" + demanded,
		}
	case LinkSBOM:
		return opts.explainSBOM()
	case LinkTrack:
		return Explanation{
			"the SLSA verification summaries about the commit of the provenance, or else what the forge of the repository says now",
			opts.trusted() + "; " + verifiers(p.Provenance().SourceVerifiers),
			"the last summary by a verifier about the commit in this repository must say PASSED, with the Source level and the reviewers; without one, the forge must show both" + demanded,
		}
	case LinkDistrust:
		return Explanation{
			"the lists of what is no longer trusted, of the issuers that this machine names",
			"digest, source, commit, builder, signers, base images, downloads and packages of the proofs that the verdict rests on",
			"no entry that counts may be about any of them, however old its list is; each list must have been read, and not have expired" + demanded,
		}
	case LinkRule:
		return Explanation{
			"the rules of the policy that are about this image",
			"the image's canonical name, tag and digest",
			"each rule that enforces must be satisfied by one of its alternatives with all conditions, or the image be exempt; an image that no rule is about is denied unless the policy says otherwise",
		}
	case LinkSummary:
		return Explanation{
			"the SLSA verification summaries about this digest",
			opts.trusted() + "; " + verifiers(p.Verifiers),
			"the latest summary by a verifier about the resource must say PASSED, with the levels and the age that the policy demands; one verifier is enough" + demanded,
		}
	}
	return Explanation{}
}

func (opts Options) explainSource() Explanation {
	against := "commit, tree and ref in the provenance, and the signers demanded, if any"
	if opts.SourceCheck == nil {
		against += " (the repository was not asked)"
	}
	rule := "it breaks if the commit is gone or has another tree, the tag leads to another commit, the branch no longer has the commit, or none of the signers signed; "
	if opts.Policy.Provenance().RequireSource {
		return Explanation{"the repository that the provenance names, today", against, rule + "demanded by the policy"}
	}
	return Explanation{"the repository that the provenance names, today", against, rule + "without an answer the image is still accepted, because the policy has no requireSource"}
}

func (opts Options) explainSBOM() Explanation {
	rule := "an SPDX and a CycloneDX document must each be signed by the signer of the provenance and be about this digest"
	against := "the signer of the provenance, this digest, and the source of the provenance"
	switch opts.Policy.SBOM() {
	case policy.SBOMOptional:
		rule += "; not demanded by the policy, so a document that does not hold is ignored"
	case policy.SBOMContents:
		against += "; what is installed in the image: Go binaries, dpkg, apk, npm and Python packages"
		rule += "; a package that only the document or only the image has breaks it" + demanded
	default:
		rule += "; demanded, but not of workflows on GitHub and pipelines on GitLab, which attach none"
	}
	return Explanation{"the SBOM attestations", against, rule}
}

// verifiers returns verifiers for people.
func verifiers(all []policy.Verifier) string {
	var out []string
	for _, v := range all {
		out = append(out, fmt.Sprintf("verifier %s, signed by %s", v.ID, v.Signer))
	}
	return plain(strings.Join(out, " or "))
}

// trusted returns the trust roots.
func (opts Options) trusted() string {
	var roots []string
	for _, r := range named(opts.Trust, opts.Policy.Root()) {
		name := "Sigstore trusted root"
		if r.URL != "" {
			name = "platform " + r.URL
		}
		roots = append(roots, name+" "+r.Fingerprint)
	}
	if len(roots) == 0 {
		return "no trust root"
	}
	return plain(strings.Join(roots, ", "))
}

// signers returns who may have signed.
func (opts Options) signers() string {
	if s := opts.Policy.Signer(); s != nil {
		return plain("signed by " + s.String())
	}
	if builders := opts.Policy.Provenance().Builders; len(builders) > 0 {
		return plain("signer " + strings.Join(builders, " or "))
	}
	var ids []string
	public := false
	for _, r := range named(opts.Trust, opts.Policy.Root()) {
		for _, b := range r.Builders {
			ids = append(ids, b.ID)
		}
		public = public || len(r.Builders) == 0
	}
	if public {
		ids = append(ids, "a public builder on GitHub or, if a source is demanded, a workflow or pipeline of that repository")
	}
	if len(ids) == 0 {
		return "no signer is trusted"
	}
	return plain("signer " + strings.Join(ids, " or "))
}

// cosigned returns what to add if the policy demands witnesses.
func (opts Options) cosigned() string {
	if opts.Policy.Witnesses.None() {
		return ""
	}
	return plain("; the checkpoint of one of its entries must be cosigned by " + opts.Policy.Witnesses.String())
}

// unlogged returns what to add if the policy demands no log entry.
func (opts Options) unlogged() string {
	if key, ok := opts.Policy.Signer().(policy.Key); ok && key.InsecureNoLog {
		return " if there is an entry; dangerous: the policy accepts the key's signature without one"
	}
	return ""
}
