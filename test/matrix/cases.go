package matrix

import (
	"strings"

	"github.com/colophon-build/colophon/verify"
)

// row is a Case whose texts fill completes.
type row struct {
	name, image, policy string
	outcome             verify.Outcome
	reason, warning     string
}

const (
	accepted, rejected, undecided = verify.Accepted, verify.Rejected, verify.Undecided

	app    = "https://git.example.com/team/app"
	byAda  = `signer: {certificate: {issuer: "https://accounts.example.com", identity: {is: ada@example.com}}}`
	scans  = `attestations: [{predicateType: "` + scan + `", ` + byAda + `}]`
	clean  = `attestations: [{predicateType: "` + scan + `", ` + byAda + `, values: [{pointer: /passed, boolean: true}]}]`
	absent = `absent: [{predicateType: "` + withdrawn + `", ` + byAda + `}]`
	byVSA  = `verifiers: [{id: "` + verifier + `", ` + byAda + `}]`
	exempt = `exemptions: [{images: [{glob: "{host}/team/app@*"}], reason: is rewritten, owner: ops@example.com, until: `
)

// table returns all rows.
func table() (all []row) {
	for _, of := range [][]row{built(), matched(), moded(), attested(), conditioned(), signed(), notarized(), unknown()} {
		all = append(all, of...)
	}
	return all
}

// set returns a policy that denies what none of its rules is about.
func set(name string, rules ...string) string {
	return "apiVersion: colophon.build/v1\nkind: ImagePolicy\nmetadata: {name: " + name + "}\nspec:\n  unmatched: deny\n  rules:\n" + strings.Join(rules, "")
}

// rule returns a rule about images; the other arguments are its members.
func rule(name, images string, members ...string) string {
	return "    - name: " + name + "\n      images: [" + images + "]\n      " + strings.Join(members, "\n      ") + "\n"
}

// all is about every image of the registry.
const all = `{glob: "{host}/**"}`

// one returns a policy with one rule about every image of the registry.
func one(members ...string) string { return set("shop", rule("app", all, members...)) }

// source returns an alternative: built from a source, and what else is demanded.
func source(uri string, more ...string) string {
	return "accept: [{built: {" + strings.Join(append([]string{"source: " + uri}, more...), ", ") + "}}]"
}

func signature(signer string) string { return "accept: [{signature: {" + signer + "}}]" }

func condition(expression string) string {
	return "conditions: [{expression: '" + expression + "', message: not as we like it}]"
}

// built: who built the image, and from what.
func built() []row {
	good, any := one(source(app)), one(source("any"))
	return []row{
		{"built", "{host}/team/app:v1.2.0", good, accepted, "", ""},
		{"built, by digest", "{host}/team/app@{team/app:v1.2.0}", good, accepted, "", ""},
		{"built, of any source", "{host}/team/app:elsewhere", any, accepted, "", ""},
		{"built, of another source", "{host}/team/app:elsewhere", good, rejected, `rule "app" of policy "shop": rejected: provenance`, ""},
		{"built, nothing signed", "{host}/team/app:unsigned", good, rejected, "the image carries no signature", ""},
		{"built, no provenance", "{host}/team/app:no-provenance", good, rejected, "the image carries no", ""},
		{"built, no SBOM", "{host}/team/app:no-sbom", good, rejected, "sbom: the image carries no", ""},
		{"built, no SBOM needed", "{host}/team/app:no-sbom", one(source(app, "sbom: {optional: {}}")), accepted, "", ""},
		{"built, SBOMs without what is installed", "{host}/team/app:installed", one(source(app, "sbom: {required: {contents: true}}")), rejected, "sbom", ""},
		{"built, SBOMs of another commit", "{host}/team/app:mixed", good, rejected, "sbom", ""},
		{"built by a stranger", "{host}/team/app:stranger", any, rejected, "signature", ""},
		{"built, tampered statement", "{host}/team/app:tampered", any, rejected, "signature", ""},
		{"built, in a stranger's log", "{host}/team/app:foreign-log", any, rejected, `rule "app" of policy "shop": rejected`, ""},
		{"built, proofs of another image", "{host}/team/app:moved", any, rejected, "signature", ""},
		{"built, an index of a proved child", "{host}/team/app:child-signed", any, rejected, "the image carries no signature", ""},
		{"built, the proved child", "{host}/team/app@{signed child}", any, accepted, "", ""},
		{"built, its sibling", "{host}/team/app@{unsigned child}", any, rejected, "the image carries no signature", ""},
		{"version", "{host}/team/app:v1.2.0", one(source(app, "ref: {version: v1}")), accepted, "", ""},
		{"another version", "{host}/team/app:v2.0.0", one(source(app, "ref: {version: v1}")), rejected, `got "v2.0.0", want "v1"`, ""},
		{"a branch is no version", "{host}/team/app:main", one(source(app, "ref: {version: v1}")), rejected, `want a tag of version "v1"`, ""},
		{"branch", "{host}/team/app:main", one(source(app, "ref: {name: refs/heads/main}")), accepted, "", ""},
		{"commit", "{host}/team/app:v1.2.0", one(source(app, "commit: 381e42a0c0ffee00c0ffee00c0ffee00c0ffee00")), accepted, "", ""},
		{"another commit", "{host}/team/app:v1.2.0", one(source(app, "commit: 381e42a0c0ffee00c0ffee00c0ffee00c0ffee01")), rejected, "commit", ""},
		{"level", "{host}/team/app:v1.2.0", one(source(app, "minLevel: 2")), accepted, "", ""},
		{"higher level", "{host}/team/app:v1.2.0", one(source(app, "minLevel: 3")), rejected, "Build level", ""},
		{"another recipe", "{host}/team/app:worker", good, rejected, "worker/Dockerfile", ""},
		{"the recipe demanded", "{host}/team/app:worker", one(source(app, "recipe: {dockerfile: {path: {is: worker/Dockerfile}}}")), accepted, "", ""},
		{"not hermetic", "{host}/team/app:v1.2.0", one(source(app, "recipe: {declared: {downloads: hermetic}}")), rejected, "hermetic", ""},
		{"one of two sources", "{host}/team/app:elsewhere", one(`accept: [{built: {source: "` + app + `"}}, {built: {source: git.example.com/team/other}}]`), accepted, "", ""},
		{"none of two sources", "{host}/team/app:elsewhere", one(`accept: [{built: {source: "` + app + `"}}, {built: {source: git.example.com/team/third}}]`), rejected, "source", ""},
		{"workflow", "{host}/hub/app:built", one(source(workflows, "builders: [{id: "+workflows+"/.github/workflows/release.yml}]")), accepted, "", ""},
		{"another workflow", "{host}/hub/app:nightly", one(source(workflows, "builders: [{id: "+workflows+"/.github/workflows/release.yml}]")), rejected, "nightly.yml", ""},
		{"a workflow at a branch", "{host}/hub/app:branch", one(source(workflows, "ref: {version: v1}")), rejected, `want a tag of version "v1"`, ""},
		{"a workflow of a fork", "{host}/hub/app:fork", one(source(workflows)), rejected, "eve/app", ""},
		{"a workflow by its certificate", "{host}/hub/app:built", one(`accept: [{provenance: {source: ` + workflows + `, signer: {certificate: {issuer: "https://token.actions.githubusercontent.com", identity: {is: "` + workflows + `/.github/workflows/release.yml@refs/tags/v1.2.0"}}}}}]`), accepted, "", ""},
		{"another certificate than the workflow's", "{host}/hub/app:nightly", one(`accept: [{provenance: {source: ` + workflows + `, signer: {certificate: {issuer: "https://token.actions.githubusercontent.com", identity: {is: "` + workflows + `/.github/workflows/release.yml@refs/tags/v1.2.0"}}}}}]`), rejected, "signer", ""},
	}
}

// matched: which rules are about an image, and how several add up.
func matched() []row {
	apps := `{glob: "{host}/team/app@*"}`
	elsewhere := set("shop", rule("app", `{glob: "{host}/team/other@*"}`, source(app)))
	return []row{
		{"no rule, denied", "{host}/team/app:v1.2.0", elsewhere, rejected, `no rule of the policy "shop" is about this image`, ""},
		{"no rule, warned", "{host}/team/app:unsigned", strings.Replace(elsewhere, "deny", "warn", 1), accepted, "", `no rule of the policy "shop" is about this image`},
		{"no rule, allowed", "{host}/team/app:unsigned", strings.Replace(elsewhere, "deny", "allow", 1), accepted, "", ""},
		{"a rule about the tag", "{host}/team/app:v1.2.0", set("shop", rule("app", `{glob: "{host}/team/app@*", tag: "v1.*"}`, source(app))), accepted, "", ""},
		{"a rule about another tag", "{host}/team/app:v2.0.0", set("shop", rule("app", `{glob: "{host}/team/app@*", tag: "v1.*"}`, source(app))), rejected, "no rule", ""},
		{"a rule about the tag, and a digest beside it", "{host}/team/app:v1.2.0@{team/app:v1.2.0}", set("shop", rule("app", `{glob: "{host}/team/app@*", tag: "v1.*"}`, source(app))), rejected, "no rule", ""},
		{"a rule about the digest", "{host}/team/app:v1.2.0", set("shop", rule("app", `{digest: "{team/app:v1.2.0}"}`, source(app))), accepted, "", ""},
		{"a tag that moved from the digest", "{host}/team/app:moved", set("shop", rule("app", `{digest: "{team/app:v1.2.0}"}`, source(app))), rejected, "no rule", ""},
		{"all rules", "{host}/team/app:v1.2.0", set("shop", rule("app", apps, source(app)), rule("tags", all, source("any", "ref: {version: v1}"))), accepted, "", ""},
		{"all rules but one", "{host}/team/app:v2.0.0", set("shop", rule("app", apps, source(app)), rule("tags", all, source("any", "ref: {version: v1}"))), rejected, `rule "tags"`, ""},
		{"all policies", "{host}/team/app:v1.2.0", set("shop", rule("app", apps, source(app))) + "---\n" + set("house", rule("any", all, source("any"))), accepted, "", ""},
		{"all policies but one", "{host}/team/app:elsewhere", set("shop", rule("app", apps, source(app))) + "---\n" + set("house", rule("any", all, source("any"))), rejected, `rule "app" of policy "shop"`, ""},
		{"another policy answers for what one denies", "{host}/team/app:v1.2.0", elsewhere + "---\n" + set("house", rule("any", all, source("any"))), accepted, "", ""},
		{"a policy that only watches answers for nothing", "{host}/team/app:v1.2.0", elsewhere + "---\n" + set("house", rule("any", all, "mode: audit", source("any"))), rejected, `no rule of the policy "shop"`, ""},
	}
}

// moded: modes, dates and exemptions.
func moded() []row {
	return []row{
		{"warned", "{host}/team/app:unsigned", one("mode: warn", source(app)), accepted, "", `rule "app" of policy "shop": rejected: signature: the image carries no signature`},
		{"audited", "{host}/team/app:unsigned", one("mode: audit", source(app)), accepted, "", `rule "app" of policy "shop": rejected`},
		{"warned of nothing", "{host}/team/app:v1.2.0", one("mode: warn", source(app)), accepted, "", ""},
		{"enforced later", "{host}/team/app:unsigned", one("enforceFrom: 2999-01-01", source(app)), accepted, "", "enforced from 2999-01-01T00:00:00Z"},
		{"enforced since", "{host}/team/app:unsigned", one("mode: audit", "enforceFrom: 2026-01-01", source(app)), rejected, `rule "app"`, ""},
		{"warned by one rule, refused by another", "{host}/team/app:elsewhere", set("shop", rule("watch", all, "mode: warn", source(app)), rule("tags", all, source("any", "ref: {version: v2}"))), rejected, `rule "tags"`, `rule "watch"`},
		{"warned of what is undecided", "{host}/team/app:v1.2.0", one("mode: warn", "distrust: {maxAge: 1h}", source(app)), accepted, "", "undecided"},
		{"exempt", "{host}/team/app:unsigned", one(exempt+"2999-01-01}]", source(app)), accepted, "", ""},
		{"not exempt", "{host}/vendor/tool:unsigned", one(exempt+"2999-01-01}]", source(app)), rejected, "the image carries no signature", ""},
		{"was exempt", "{host}/team/app:unsigned", one(exempt+"2026-01-01}]", source(app)), rejected, "the image carries no signature", "the exemption of ops@example.com (is rewritten) ended on 2026-01-02"},
	}
}

// attested: attestations that must be there or must not, and who else verified.
func attested() []row {
	with := func(demand string) string { return one(source(app, demand)) }
	alone := one("accept: [{attested: {" + clean + "}}]")
	vendor := one("accept: [{summary: {minLevel: 2, " + byVSA + "}}]")
	return []row{
		{"attested", "{host}/team/app:scanned", with(clean), accepted, "", ""},
		{"not attested", "{host}/team/app:v1.2.0", with(clean), rejected, "the image carries no " + scan, ""},
		{"attested by another", "{host}/team/app:scanned-by-eve", with(clean), rejected, "attestation: " + scan, ""},
		{"attested by a stranger of the same name", "{host}/team/app:scanned-by-a-stranger", with(clean), rejected, "attestation: " + scan, ""},
		{"attested, the last says otherwise", "{host}/team/app:critical", with(clean), rejected, "the last one", ""},
		{"attested, the last says so", "{host}/team/app:mended", with(clean), accepted, "", ""},
		{"attested, and nothing else", "{host}/team/app:scanned", alone, accepted, "", ""},
		{"not attested, and nothing else", "{host}/team/app:v1.2.0", alone, rejected, "the image carries no " + scan, ""},
		{"attested by another, and nothing else", "{host}/team/app:scanned-by-eve", alone, rejected, "attestation: " + scan, ""},
		{"absent", "{host}/team/app:v1.2.0", with(absent), accepted, "", ""},
		{"not absent", "{host}/team/app:withdrawn", with(absent), rejected, withdrawn, ""},
		{"not absent, by somebody who may not", "{host}/team/app:withdrawn-by-eve", with(absent), accepted, "", ""},
		{"not absent, by a stranger of the same name", "{host}/team/app:withdrawn-by-a-stranger", with(absent), accepted, "", ""},
		{"verified by another", "{host}/vendor/app:verified", vendor, accepted, "", ""},
		{"verified lately", "{host}/vendor/app:verified", one("accept: [{summary: {minLevel: 2, " + strings.Replace(byVSA, "}]", ", maxAge: 24h}]", 1) + "}}]"), accepted, "", ""},
		{"verified for a lower level", "{host}/vendor/app:level-1", vendor, rejected, "summary", ""},
		{"verified by somebody who may not", "{host}/vendor/app:verified-by-eve", vendor, rejected, "summary", ""},
		{"verified under another name", "{host}/vendor/app:verified-elsewhere", vendor, rejected, "resource", ""},
		{"verified, and failed later", "{host}/vendor/app:recalled", vendor, rejected, "result", ""},
	}
}

// conditioned: expressions over what was verified.
func conditioned() []row {
	if_ := func(expression string) string { return one(condition(expression), source(app, "sbom: {optional: {}}")) }
	scanned := func(expression string) string { return one(condition(expression), source(app, scans)) }
	return []row{
		{"condition", "{host}/team/app:v1.2.0", if_(`source.ref == "refs/tags/v1.2.0" && level >= 2`), accepted, "", ""},
		{"condition not met", "{host}/team/app:v1.2.0", if_("build.hermetic"), rejected, "condition: not as we like it", ""},
		{"condition over a missing fact", "{host}/team/app:v1.2.0", if_(`source.within == "refs/heads/main"`), undecided, "source.within is missing", ""},
		{"condition over the tag of a digest", "{host}/team/app@{team/app:v1.2.0}", if_(`image.tag != "latest"`), undecided, "image.tag is missing", ""},
		{"condition over a package", "{host}/team/app:v1.2.0", if_(`!sbom.packages.exists(p, p.name == "xz-libs")`), accepted, "", ""},
		{"condition over a bad package", "{host}/team/app:v1.2.0", if_(`!sbom.packages.exists(p, p.name == "stdlib")`), rejected, "condition: not as we like it", ""},
		{"condition over packages of no SBOM", "{host}/team/app:no-sbom", if_(`!sbom.packages.exists(p, p.name == "xz-libs")`), undecided, "sbom is missing", ""},
		{"condition over a predicate", "{host}/team/app:scanned", scanned(`attestations.all(a, a.number("/critical") == 0)`), accepted, "", ""},
		{"condition over a predicate alone", "{host}/team/app:scanned", one(condition(`attestations.all(a, a.number("/critical") == 0)`), "accept: [{attested: {"+scans+"}}]"), accepted, "", ""},
		{"condition over a predicate alone, not met", "{host}/team/app:critical", one(condition(`attestations.all(a, a.number("/critical") == 0)`), "accept: [{attested: {"+scans+"}}]"), rejected, "condition: not as we like it", ""},
		{"condition over a predicate, not met", "{host}/team/app:critical", scanned(`attestations.all(a, a.number("/critical") == 0)`), rejected, "condition: not as we like it", ""},
		{"condition over a predicate of another type", "{host}/team/app:scanned", scanned(`attestations.all(a, a.text("/critical") == "0")`), undecided, "condition: not as we like it", ""},
		{"condition of an image that is not accepted", "{host}/team/app:unsigned", if_("true"), rejected, "the image carries no signature", ""},
	}
}

// signed: images that somebody signed, and nothing more.
func signed() []row {
	adas, keyed := one(signature(byAda)), one(signature("signer: {key: {pem: {key}}}"))
	loose := one(signature("signer: {insecureUnloggedKey: {pem: {loose}}}"))
	return []row{
		{"signed by a person", "{host}/vendor/tool:by-ada", adas, accepted, "", ""},
		{"signed by a person, as a bundle", "{host}/vendor/tool:bundle", adas, accepted, "", ""},
		{"signed by another person", "{host}/vendor/tool:by-eve", adas, rejected, "signer", ""},
		{"signed by a stranger of the same name", "{host}/vendor/tool:by-a-stranger", adas, rejected, "signature", ""},
		{"signed by a key, not by a person", "{host}/vendor/tool:by-key", adas, rejected, "signature", ""},
		{"signed by one of a pattern", "{host}/vendor/tool:by-eve", one(signature(`signer: {certificate: {issuer: "https://accounts.example.com", identity: {matches: "(ada|eve)@example\\.com"}}}`)), accepted, "", ""},
		{"signed under the trust root demanded", "{host}/vendor/tool:by-ada", one(signature(`signer: {certificate: {issuer: "https://accounts.example.com", identity: {is: ada@example.com}, root: "{plain}"}}`)), accepted, "", ""},
		{"signed under another trust root", "{host}/vendor/tool:by-ada", one(signature(`signer: {certificate: {issuer: "https://accounts.example.com", identity: {is: ada@example.com}, root: "{root}"}}`)), rejected, "signature", ""},
		{"signed by the key", "{host}/vendor/tool:by-key", keyed, accepted, "", ""},
		{"signed by another key", "{host}/vendor/tool:by-another-key", keyed, rejected, "signature", ""},
		{"signed by either key", "{host}/vendor/tool:by-another-key", one("accept: [{signature: {signer: {key: {pem: {key}}}}}, {signature: {signer: {key: {pem: {other}}}}}]"), accepted, "", ""},
		{"signed, another image", "{host}/vendor/tool:moved", keyed, rejected, "signature", ""},
		{"signed by nobody", "{host}/vendor/tool:unsigned", keyed, rejected, "the image carries no signature", ""},
		{"signed in no log", "{host}/vendor/tool:unlogged", one(signature("signer: {key: {pem: {loose}}}")), rejected, "log", ""},
		{"signed in no log, which is accepted", "{host}/vendor/tool:unlogged", loose, accepted, "", ""},
		{"a signature says nothing about a source", "{host}/vendor/tool:by-ada", one(source(app)), rejected, "signature", ""},
	}
}

// notarized: images that notation signed.
func notarized() []row {
	acme := one("accept: [{notation: {trustStores: {ca: {notary}}, trustedIdentities: {subjects: [{C: US, ST: WA, O: acme}]}}}]")
	return []row{
		{"signed by notation", "{host}/vendor/notary:jws", acme, accepted, "", ""},
		{"signed by notation, COSE", "{host}/vendor/notary:cose", acme, accepted, "", ""},
		{"signed by notation, under another authority of the same name", "{host}/vendor/notary:by-a-stranger", acme, rejected, "neither is in a trust store", ""},
		{"signed by notation, by another subject", "{host}/vendor/notary:by-evil", acme, rejected, "got O=evil, want O=acme", ""},
		{"signed by notation, another image", "{host}/vendor/notary:moved", acme, rejected, "signed image", ""},
		{"signed by notation, perhaps revoked", "{host}/vendor/notary:may-be-revoked", acme, undecided, "it is not known whether it was revoked", ""},
		{"signed by cosign, not by notation", "{host}/vendor/tool:by-ada", acme, rejected, "the image carries no signature of notation", ""},
		{"signed by notation, not by cosign", "{host}/vendor/notary:jws", one(signature(byAda)), rejected, "the image carries no signature", ""},
	}
}

// unknown: what cannot be decided is never accepted.
func unknown() []row {
	return []row{
		{"rebuilds, which nothing checks yet", "{host}/team/app:v1.2.0", one(`rebuilds: {atLeast: 1, by: ["https://rebuilder.example.com"]}`, source(app)), undecided, "rebuilds", ""},
		{"distrust, of which there is no list yet", "{host}/team/app:v1.2.0", one("distrust: {maxAge: 1h}", source(app)), undecided, "no longer trusted", ""},
		{"undecided, and refused by another rule", "{host}/team/app:elsewhere", set("shop", rule("later", all, "distrust: {maxAge: 1h}", source("any")), rule("app", all, source(app))), rejected, `rule "app"`, ""},
		{"undecided, and satisfied another rule", "{host}/team/app:v1.2.0", set("shop", rule("later", all, "distrust: {maxAge: 1h}", source("any")), rule("app", all, source(app))), undecided, `rule "later"`, ""},
		{"a trust root that is not trusted", "{host}/team/app:v1.2.0", one(source(app, "root: https://other.example.com")), undecided, `the trust root "https://other.example.com", which is not trusted here`, ""},
		{"trust roots that were never refreshed", "{host}/team/app:v1.2.0", one("trust: {maxAge: 1h}", source(app)), undecided, "refreshed", ""},
		{"one alternative is undecided", "{host}/team/app:elsewhere", one(`accept: [{built: {source: "` + app + `"}}, {built: {source: any, root: "https://other.example.com"}}]`), undecided, "not trusted here", ""},
		{"one alternative is undecided, another accepts", "{host}/team/app:v1.2.0", one(`accept: [{built: {source: any, root: "https://other.example.com"}}, {built: {source: "` + app + `"}}]`), accepted, "", ""},
	}
}
