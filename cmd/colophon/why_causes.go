package main

import (
	"cmp"
	"strings"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/verify"
)

// likely is one likely cause of a rejection.
type likely struct {
	Cause string `json:"cause"`           // for people
	Check string `json:"check,omitempty"` // what to look at
	Run   string `json:"run,omitempty"`   // the command to run
}

// likelyCauses lists, for each kind of reason, what usually is behind it, the most likely
// first. IMAGE, GOT, WANT, AUTHORITY and TRUST stand for values of the verdict.
var likelyCauses = map[verify.CauseKind][]likely{
	verify.CauseUntrusted: {
		{"this machine does not trust the platform or Sigstore instance that released the image", "compare the fingerprint that the command shows with its operator's", "colophon trust add TRUST"},
		{"the image is not from where you think: anybody can sign with an authority of their own", "is AUTHORITY the authority that should have certified GOT?", "colophon inspect IMAGE"},
		{"the platform has a new certificate authority since you trusted it", "", "colophon trust refresh"},
	},
	verify.CauseUnvouched: {
		{"the signer logged in with an identity provider that this trust root was not added for", "should GOT be able to sign this?", "colophon trust add FILE --issuer GOT"},
		{"another trust root vouches for that provider, and is not on this machine", "", "colophon trust list"},
	},
	verify.CauseSigner: {
		{"it was released by another builder or person than you named", "compare the name that the command shows with the one you expect", "colophon inspect IMAGE"},
		{"the name is spelled in another way: with another ref, or with another case", "expected WANT, found GOT", ""},
		{"somebody else pushed to this name", "ask the owner of the image who releases it", ""},
	},
	verify.CauseSource: {
		{"the image was built from another repository, GOT: a fork, a mirror, or one that was renamed", "if GOT is the repository that you mean, demand it", "colophon verify IMAGE --source GOT"},
		{"it is the wrong image or tag", "does the name IMAGE belong to WANT?", "colophon inspect IMAGE --provenance"},
		{"somebody pushed an image of another project under this name", "ask the owner of the registry who pushed it", ""},
	},
	verify.CauseRef: {
		{"the tag of the image is not that of the git ref", "it was built from GOT, and you expect WANT", "colophon verify IMAGE --ref GOT"},
		{"the tag was moved, or a branch was released under the name of a version", "", "colophon inspect IMAGE --provenance"},
	},
	verify.CauseCommit: {
		{"the image is of another build than the one that you mean", "it was built from commit GOT", "git log --oneline WANT..GOT"},
		{"the git ref was moved between the two commits", "", "colophon inspect IMAGE --provenance"},
	},
	verify.CauseInput: {
		{"the workflow was started with another input", "the run had GOT, and you expect WANT", "colophon inspect IMAGE --provenance"},
		{"nobody started it by hand: only such runs have inputs", "", "colophon inspect IMAGE --provenance"},
	},
	verify.CauseRecipe: {
		{"whoever released the image chose how it is built", "if you expect that choice, name it: --dockerfile, --target, --build-arg, --package, --locked or --declared-as", "colophon verify --help"},
		{"the repository needs that choice, and does not declare it", "a .colophon.yaml at the top of the repository makes it part of the commit", ""},
	},
	verify.CauseLevel: {
		{"the builder does not reach the SLSA Build level that you demand", "it reaches level GOT, and you demand WANT", "colophon verify IMAGE --any-source --explain"},
		{"no build by this builder reaches more, such as 2 by golang; or the platform runs without root, on a self-hosted runner, opens private networks to builds, or kept cache mounts of other builds", "ask its operator for a builder of level WANT", ""},
	},
	verify.CauseDistrust: {
		{"AUTHORITY no longer trusts what the image rests on: GOT", "the reason stands in the link distrust", "colophon distrust list"},
		{"the entry is a mistake, or is too wide", "its issuer can lift it", "colophon distrust list --json"},
	},
	verify.CauseMissing: {
		{"the image was not released with a proof: it was built and pushed by hand", "", "colophon inspect IMAGE"},
		{"it was copied without its proofs", "copy it with its referrers, for example with colophon copy or oras copy -r", ""},
		{"the proof is about another digest: the tag was moved, or the image was rebuilt or squashed", "does the digest equal the one of the release?", ""},
	},
	verify.CauseContent: {
		{"somebody changed the image after it was signed, or a mirror serves other bytes", "do not run it; compare it with another copy", "colophon inspect IMAGE"},
		{"the copy is damaged or incomplete", "", "colophon copy IMAGE DIR"},
	},
	verify.CauseNotFound: {
		{"the name or the tag is wrong", "check the spelling of IMAGE", ""},
		{"the release has not finished: tags appear last", "", "colophon release"},
		{"the registry hides the image from those who are not logged in", "", "docker login HOST"},
	},
	verify.CauseUnreachable: {
		{"GOT is down, or a firewall is between", "does another client reach it?", "curl -v https://GOT/v2/"},
		{"the name of the registry is wrong", "check the spelling of GOT", ""},
		{"its certificate is from a private authority", "set SSL_CERT_FILE to a file that has it", ""},
	},
	verify.CauseDenied: {
		{"you are not logged in, or the credentials have expired", "", "docker login HOST"},
		{"your account may not read this repository", "ask the owner of the registry", ""},
		{"the repository does not exist: registries often answer so", "check the spelling of IMAGE", ""},
	},
	verify.CauseFailing: {
		{"the registry does not work now: it is busy, broken, or wants fewer requests", "try again later; what does its operator say?", ""},
		{"something else answers in its place: a proxy, or a login page of the network", "what does it answer?", "curl -v https://HOST/v2/"},
	},
	verify.CauseTimeout: {
		{"the network or the registry is slow", "give it more time with a longer --timeout", ""},
		{"the image is large, and every byte of it is read", "read only one platform with --platform", ""},
	},
	verify.CauseNoRoot: {
		{"nobody is trusted on this machine yet", "compare the fingerprint that the command shows with the operator's", "colophon trust add URL"},
		{"the trust roots are another user's, or COLOPHON_TRUST names another directory", "", "colophon trust list"},
	},
	verify.CauseMoved: {
		{"the tag was moved, or the branch rewritten, after the release", "is what the repository says on purpose?", "git ls-remote GOT"},
		{"somebody took over the repository", "ask its owner before you run the image", ""},
	},
	verify.CauseUnanswered: {
		{"the repository needs credentials, or is not reachable from here", "", "git ls-remote GOT"},
		{"you demand an answer that this machine cannot get", "leave out --signers, --gitsign-identity and requireSource if you can", ""},
	},
}

// causesByLink lists the likely causes of reasons without a kind, by the link.
var causesByLink = map[string][]likely{
	verify.LinkSignature: {
		{"the signature is damaged, or of a form that this version does not read", "", "colophon inspect IMAGE"},
		{"somebody attached a false signature", "verify another copy of the image", ""},
	},
	verify.LinkLog: {
		{"it was logged in a transparency log that your trust root does not have", "", "colophon trust refresh"},
		{"the clock of this machine is wrong", "is this the time?", "date -u"},
		{"the proof of the log is damaged, or false", "", "colophon inspect IMAGE"},
	},
	verify.LinkProvenance: {
		{"the provenance contradicts the certificate of its signer, or the form that its builder writes", "", "colophon inspect IMAGE --provenance"},
		{"it is from a builder whose form this version does not read", "", "colophon version"},
	},
	verify.LinkTrack: {
		{"the commit was pushed, or merged without the reviews that you demand", "", "colophon level REPOSITORY --commit ID"},
		{"nobody signed a summary of the commit, and its forge shows its rules to administrators only", "", ""},
	},
	verify.LinkSBOM: {
		{"the SBOM is of another build of the same image", "", "colophon inspect IMAGE --sbom"},
		{"packages were added to the image after the scan, or the scanner missed some", "", "colophon verify IMAGE --explain"},
	},
	verify.LinkAttestation: {
		{"the attestation that your policy demands is from another signer, or says something else", "", "colophon inspect IMAGE"},
		{"the check that makes it has not run for this digest", "", ""},
	},
	verify.LinkRule: {
		{"the image does not meet a rule of the policy", "which rule, and what does it demand?", "colophon verify IMAGE --policy FILE --json"},
		{"no rule of the policy is about the image's name", "compare the globs with the canonical name: docker.io is index.docker.io", ""},
	},
	verify.LinkDistrust: {
		{"a list of what is no longer trusted is old, or cannot be read", "is its issuer reached from this machine?", "colophon distrust list"},
		{"the list was rolled back or forked, or is signed by somebody else", "ask its issuer, over another way than that list", "colophon distrust list"},
	},
	verify.LinkSummary: {
		{"the verifier has not verified this digest, or rejected it", "", "colophon inspect IMAGE"},
		{"the summary is older than the policy allows", "", ""},
	},
	verify.LinkFile: {
		{"files were changed, added or are missing", "download the release again", ""},
		{"the list of digests is of another release", "", ""},
	},
	verify.LinkImage: {
		{"the image is of a form that this version does not read, or refuses", "", "colophon inspect IMAGE"},
		{"the layout or archive holds more than this image", "save it again", "colophon copy IMAGE DIR"},
	},
	verify.LinkSource: {
		{"the repository was not asked", "leave out --skip-source and --offline", ""},
		{"you demand an answer that this machine cannot get", "leave out --signers, --gitsign-identity and requireSource if you can", ""},
	},
}

// causesOf returns the likely causes of a verdict whose first link that does not hold is l.
func causesOf(v *verify.Verdict, l verify.Link) (found []likely) {
	host, _, _ := strings.Cut(v.Image, "/")
	fill := strings.NewReplacer("IMAGE", v.Image, "GOT", cmp.Or(l.Cause.Got, "nothing"), "WANT", cmp.Or(l.Cause.Want, "nothing"),
		"AUTHORITY", l.Cause.Authority, "TRUST", cmp.Or(l.Cause.Trust, "URL|FILE"), "HOST", host)
	list := likelyCauses[l.Cause.Kind]
	if list == nil {
		list = causesByLink[l.Name]
	}
	for _, c := range list {
		c.Cause, c.Check = fill.Replace(c.Cause), fill.Replace(c.Check)
		if c.Run != "" {
			c.Run = command(c.Run, v, l, host)
		}
		found = append(found, c)
	}
	return found
}

// command fills in a command. Values come from strangers, so each is quoted for a shell.
func command(run string, v *verify.Verdict, l verify.Link, host string) string {
	fill := strings.NewReplacer("IMAGE", printable.ShellWord(v.Image), "GOT", printable.ShellWord(l.Cause.Got), "WANT", printable.ShellWord(l.Cause.Want),
		"TRUST", cmp.Or(l.Cause.Trust, "URL|FILE"), "HOST", printable.ShellWord(host))
	return fill.Replace(run)
}
