package verify

import (
	"fmt"
	"maps"
	"slices"
	"strings"
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
func (opts Options) Explain(link string) Explanation {
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
			"the log and clock keys of the same trust root, and when they were believed; no time after " + show(opts.Now),
			"the entry must be about this signature, and a trusted time within the certificate's; only of a root that keeps no log none is asked" + demanded + opts.unlogged(),
		}
	case LinkProvenance:
		return Explanation{
			"the SLSA provenance: subject, builder, source, ref, commit, parameters, dependencies",
			"this digest; the certificate of who signed it; " + opts.demands(),
			"each field is compared whole, and one that contradicts another breaks it; unknown external parameters do, too" + demanded + " unless only who signed was asked",
		}
	case LinkSource:
		against := "commit, tree and ref of the provenance, in the repository that it names, and the signers where any were named"
		if opts.SourceCheck == nil {
			against += " (nobody was asked)"
		}
		rule := "a commit that is gone or has another tree, a tag that leads elsewhere, a branch whose history no longer has the commit, and a signature of none of the signers break it; "
		if p.RequireSource {
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
		if p.NoSBOM {
			rule += "; not demanded by the policy, and one that does not hold is passed over"
		} else {
			rule += "; demanded, but not of workflows, which attach none"
		}
		against := "the signer of the provenance, this digest, and the source of the provenance"
		if p.Contents {
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
		by := v.Signer.Identity
		if by == "" {
			by = "the key that the policy has"
		}
		out = append(out, "verifier "+v.ID+", signed by "+by)
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
	switch s := opts.Policy.Signer; {
	case s != nil && s.Key != "":
		return "the key that was named"
	case s != nil:
		return plain("signer " + s.Identity + ", vouched for by " + s.Issuer)
	}
	if len(opts.Policy.Builders) > 0 {
		return plain("signer " + strings.Join(opts.Policy.Builders, " or "))
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

// demands names what the policy wants of the provenance.
func (opts Options) demands() string {
	p := opts.Policy
	out := []string{"any source"}
	switch {
	case p.Source != "":
		out[0] = "source " + p.Source
	case !p.AnySource:
		out[0] = "no source"
	}
	if p.Ref != "" {
		out = append(out, "ref "+p.Ref)
	}
	if p.Version != "" {
		out = append(out, "version "+p.Version)
	}
	for _, name := range slices.Sorted(maps.Keys(p.WorkflowInputs)) {
		out = append(out, "workflow input "+name+"="+p.WorkflowInputs[name])
	}
	if p.Commit != "" {
		out = append(out, "commit "+p.Commit)
	}
	if p.MinLevel > 0 {
		out = append(out, fmt.Sprintf("Build level %d or more", p.MinLevel))
	}
	return plain(strings.Join(out, ", "))
}

// unlogged says that the policy wants no log entry.
func (opts Options) unlogged() string {
	if s := opts.Policy.Signer; s != nil && s.InsecureNoLog {
		return " of one that has an entry; dangerous: the policy accepts the key's signature without any"
	}
	return ""
}
