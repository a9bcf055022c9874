package seeds

// answer says what a command of a seed does.
type answer string

const (
	works     answer = "works"
	wrong     answer = "wrong"        // it fails, or does not show what the seed says
	dangerous answer = "dangerous"    // it succeeds, and proves less than the seed says
	notRun    answer = "not run here" // it cannot run on a machine like this one
)

// row is one command or document of a seed.
type row struct {
	at    string // seed and line: "000:91"
	quote string // part of that line
	is    answer

	run   string // the command as the test runs it, with the names of hosts replaced
	tool  string // program of out/bin that the command needs, if not every test does
	fails bool   // whether the command fails
	want  string // part of what it prints

	why     string // Markdown: what was seen, and the reason
	instead string // Markdown: what colophon does

	ours     string // what colophon does, as the test runs it
	oursCode int    // its exit code
	oursWant string // part of what it prints
}

// titles of the seeds.
var titles = map[string]string{
	"000": "Container Security and Build Provenance",
	"001": "SLSA L3 Provenance for Docker Images",
	"002": "Image Signing & Provenance",
	"003": "Artifact Security and Supply Chain Protection",
	"004": "DOMAIN:SUPPLY_CHAIN:PROVENANCE",
}

// Parts of the commands.
const (
	apex     = `$HOST/fystack/apex/api:v1.0.0`
	admin    = `$HOST/ge-bootstrap/admin-ui:v1.2.3`
	onMain   = `https://github.com/myorg/myrepo/.github/workflows/build-sign.yml@refs/heads/main`
	byMain   = ` --certificate-identity "` + onMain + `" --certificate-oidc-issuer "$ISSUER" `
	anyone   = ` --certificate-identity-regexp=. --certificate-oidc-issuer-regexp=. `
	ofApex   = `"github.com/fystack/apex/.github/workflows/docker-push.yml@*"`
	withKey  = ` --key cosign.key --password-file password `
	myrepo   = `$HOST/myorg/myrepo`
	digestOf = `$(crane digest $HOST/myorg/myrepo:v1)`
	rewrite  = `git commit -q --amend -m rewritten && git tag -f -a -m rewritten v1.0.0 >/dev/null`
	selfMade = `cosign attest --yes --predicate <(echo '{"buildType":"https://github.com/actions","builder":{"id":"https://github.com/trusted"},"invocation":{"configSource":{"uri":"git+https://github.com/fystack/apex","digest":{"sha1":"ffff"}}}}') --type slsaprovenance `
)

// preparation makes the images, keys and documents that the commands name.
const preparation = `set -e
cosign initialize --mirror $PLATFORM/tuf --root 1.root.json
echo content >content; tar cf layer.tar content
as apex colophon sign ` + apex + `
for image in myorg/myrepo:v1 mallory/app:v1 mallory/slsa:v1 myorg/playground:v1 ge-bootstrap/admin-ui:v1.2.3 ge-bootstrap/attached:v1.2.3
do crane append -f layer.tar -t $HOST/$image; done
as myrepo colophon sign ` + myrepo + `:v1
as mallory colophon sign $HOST/mallory/app:v1
as slsa-workflows-of-others colophon sign $HOST/mallory/slsa:v1
as playground colophon sign $HOST/myorg/playground:v1
printf '' >password; cosign generate-key-pair
cosign sign --yes --key cosign.key ` + admin + `
echo '{"bomFormat":"CycloneDX","specVersion":"1.5","version":1}' >sbom.cyclonedx.json
echo '{"spdxVersion":"SPDX-2.3"}' >sbom.spdx.json
echo '{"of":"somebody else"}' >other.json
echo '{"passed":true}' >scan-results.json
echo app >myapp-linux-amd64; sha256sum myapp-* >checksums.txt; echo aGVsbG8= >checksums.txt.sig
`

var rows = []row{
	{
		at: "000:25", quote: "FROM golang:1.25 AS builder", is: works,
		run: `colophon verify ` + apex + ` --source file://$PWD/apex`, want: "Build L3",
		why:     "The Dockerfile is released word for word, with stand-ins for its two base images. Neither is pinned: the next build may differ.",
		instead: "The provenance has the digest of each base image.",
	},
	{
		at: "000:79", quote: "--format '{{ json .Provenance.SLSA }}'", is: works, tool: "buildx",
		run: `docker buildx imagetools inspect ` + apex + ` --format '{{ json .SBOM }}' | grep '"spdxVersion": "SPDX-2.3"' && docker buildx imagetools inspect ` + apex + ` --format '{{ json .Provenance.SLSA }}'`, want: `"commit": "$COMMIT"`,
		why:     "It works for images of `colophon release --docker-attestations`. It shows what stands in the index in BuildKit's form, whoever wrote it: that form has no signature.",
		instead: "`colophon inspect IMAGE --provenance`; `colophon verify` decides about it.",
		ours:    `colophon inspect ` + apex + ` --provenance`, oursWant: `"buildDefinition"`,
	},
	{
		at: "000:79", quote: "jq -r '.predicate.buildDefinition.resolvedDependencies[0].uri'", is: wrong, tool: "buildx",
		run:  `docker buildx imagetools inspect ` + apex + ` --format '{{ json .Provenance.SLSA }}' | jq -r '.predicate.buildDefinition.resolvedDependencies[0].uri'`,
		want: "null", why: "`.Provenance.SLSA` is the predicate itself and has no member `predicate`: `jq` prints `null` and succeeds, also for images of BuildKit.",
		instead: "`colophon verify IMAGE -o template='{{.facts.build.commit}}'`",
		ours:    `colophon verify ` + apex + ` --source file://$PWD/apex -o template='{{.facts.build.commit}}' | grep -x $COMMIT`,
	},
	{
		at: "000:92", quote: `--identity-token "https://token.actions.githubusercontent.com"`, is: wrong, fails: true,
		run:  `as apex cosign sign --identity-token "https://token.actions.githubusercontent.com" $HOST/fystack/apex/api@$(crane digest ` + apex + `)`,
		want: "no such file or directory", why: "The flag takes a token or a file, and this is the issuer's address. Without the flag, it works.",
		instead: "`colophon sign IMAGE` takes the job's token, and says which one.",
		ours:    `as apex colophon sign ` + apex, oursWant: "https://github.com/fystack/apex/.github/workflows/docker-push.yml@refs/tags/v1.0.0",
	},
	{
		at: "000:101", quote: `--certificate-identity-regexp="github.com/fystack/apex/.github/workflows/docker-push.yml@*"`, is: dangerous,
		run: `verify() { cosign verify --certificate-identity-regexp=` + ofApex + ` --certificate-oidc-issuer="$ISSUER" $1; }
verify ` + apex + ` && git check-ref-format --branch github.com/fystack/apex/xgithub/workflows/docker-push.yml && verify $HOST/mallory/app:v1`,
		want: `"docker-reference":"$HOST/mallory/app:v1"`,
		why: "It accepts the image of the seed, and also one of `mallory/app`, from a branch that is called `github.com/fystack/apex/xgithub/workflows/docker-push.yml`: " +
			"nothing anchors the expression, and `.` is any character. `@*` demands nothing of the tag or branch either.",
		instead: "`--identity-regexp` must match the whole identity. `--source` and `--tag` need no expression.",
		ours:    `colophon verify $HOST/mallory/app:v1 --identity-regexp ` + ofApex + ` --issuer $ISSUER`, oursCode: 3, oursWant: "✗ signature",
	},
	{
		at: "000:120", quote: "cosign verify-attestation --type slsaprovenance", is: dangerous,
		run: `cosign verify-attestation --type slsaprovenance ` + apex + ` | jq .`, want: "--certificate-identity-regexp is required",
		why:     "It fails, since it does not say who must have signed. But the exit code is that of `jq`, which is 0: a script goes on.",
		instead: "`colophon verify IMAGE --source URI` checks signature, log, provenance, source and SBOM, and its exit code is its own.",
		ours:    `colophon verify ` + apex, oursCode: 2, oursWant: "--source is required",
	},
	{
		at: "000:134", quote: "rekor-cli search --artifact docker.io/fystack/apex/api:v1.0.0", is: wrong, tool: "rekor-cli", fails: true,
		run: `rekor-cli search --artifact ` + apex, want: "URL must be for http or https scheme",
		why:     "`--artifact` is a file, or the URL of one, and never an image. The log has no index of images.",
		instead: "`colophon verify` checks the entry's proof of inclusion and shows its number.",
		ours:    `colophon verify ` + apex + ` --source file://$PWD/apex`, oursWant: "✓ log         entry",
	},
	{
		at: "000:143", quote: "git show <commit-sha>", is: dangerous,
		run: `cp -r apex rewritten && cd rewritten && ` + rewrite + ` && git show --no-patch --format='shown: %H' $COMMIT`, want: "shown: $COMMIT",
		why:      "It also shows a commit that no branch or tag has any more, so it does not prove that history was not rewritten.",
		instead:  "`colophon verify` asks the repository whether the tag still leads to the commit.",
		ours:     `cp -r apex kept; cd apex; ` + rewrite + `; colophon verify ` + apex + ` --source file://$PWD; code=$?; cd ..; rm -rf apex; mv kept apex; exit $code`,
		oursCode: 3, oursWant: "✗ source",
	},
	{
		at: "000:152", quote: "docker buildx imagetools inspect docker.io/fystack/apex/api:v1.0.0 | jq '.SBOM'", is: wrong, tool: "buildx", fails: true,
		run: `docker buildx imagetools inspect ` + apex + ` | jq '.SBOM'`, want: "parse error",
		why:     "Without `--format`, the output is text and no JSON.",
		instead: "`colophon inspect IMAGE --sbom`; `colophon verify` checks that the SBOM is about this image.",
		ours:    `colophon inspect ` + apex + ` --sbom`, oursWant: `"SPDX-2.3"`,
	},
	{
		at: "001:124", quote: "docker-build-slsa.yml@.*'", is: dangerous,
		run:     `cosign verify --certificate-identity-regexp='https://github.com/fystack/slsa-workflows/.github/workflows/docker-build-slsa.yml@.*' --certificate-oidc-issuer="$ISSUER" $HOST/mallory/slsa:v1`,
		want:    `"docker-reference":"$HOST/mallory/slsa:v1"`,
		why:     "The workflow is reusable: the identity is the same for every repository that calls it. Here `mallory/app` called it, and the image is accepted.",
		instead: "`--source github.com/fystack/apex` demands the repository that the certificate names (verify: TestWorkflowAgrees). `--identity` alone accepts this image too.",
	},
	{
		at: "001:129", quote: "slsa-verifier verify-image", is: notRun,
		why:     "slsa-verifier cannot be had here. The command demands the repository, but no tag: it accepts what any branch built.",
		instead: "`colophon verify IMAGE --source github.com/yourorg/your-repo --tag v1.0.54`",
	},
	{
		at: "002:33", quote: "name: Build, Push & Sign", is: notRun,
		why:     "A workflow, on one line, so no YAML. The actions are named by tag, which their owners can move, and the same job builds and signs.",
		instead: "`colophon release` builds on the platform: the job only asks for it. `colophon sign` in a job is tested in test/interop: TestJobs.",
	},
	{
		at: "002:33", quote: `cosign sign --yes \`, is: works,
		run: `as myrepo cosign sign --yes ` + myrepo + `@` + digestOf, want: "Pushing signature",
		why: "It works. A job that runs again attaches a second signature.", instead: "`colophon sign IMAGE` does not sign again what the same signer has signed.",
		ours: `as myrepo colophon sign ` + myrepo + `:v1`, oursWant: "signed already",
	},
	{
		at: "002:33", quote: `<(echo \'{"buildType"`, is: wrong, fails: true,
		run: `bash -c "$(printf '%s' 'cosign attest --yes --predicate <(echo \'"'"'{"buildType":"https://github.com/actions"}'"'"') --type slsaprovenance IMAGE')"`, want: "unexpected EOF",
		why: `The first quote is escaped and the second is not: the shell finds no end.`, instead: "`colophon attest IMAGE --type provenance` needs no document (test/interop: TestJobs).",
	},
	{
		at: "002:33", quote: `--type slsaprovenance \ ghcr.io`, is: dangerous,
		run:     `as myrepo ` + selfMade + myrepo + `@` + digestOf + ` && cosign verify-attestation --type slsaprovenance` + byMain + myrepo + `:v1 | jq -r .payload | base64 -d`,
		want:    `"uri":"git+https://github.com/fystack/apex"`,
		why:     "With the quotes mended, it works. But the job writes the document about itself, and says here that `myorg/myrepo` built `fystack/apex`: cosign accepts whatever it says.",
		instead: "`colophon verify` takes no provenance that the certificate does not confirm (verify: TestWorkflowAgrees).",
		ours:    `colophon verify ` + myrepo + `:v1 --source github.com/fystack/apex`, oursCode: 3, oursWant: "rejected",
	},
	{
		at: "002:40", quote: `--certificate-identity "https://github.com/myorg/myrepo/.github/workflows/build-sign.yml@refs/heads/main"`, is: works,
		run: `cosign verify` + byMain + myrepo + `@` + digestOf, want: "verified using trusted certificate authority certificates",
		why: "The identity is complete.", instead: "The same: `colophon verify IMAGE --identity … --issuer …`",
		ours: `colophon verify ` + myrepo + `:v1 --identity ` + onMain + ` --issuer $ISSUER`, oursWant: "accepted",
	},
	{
		at: "002:40", quote: "# Verify and print the full Rekor transparency log entry", is: wrong,
		run: `cosign verify` + byMain + myrepo + `@` + digestOf + ` | jq 'tostring | test("logIndex|logID|integratedTime")'`, want: "false",
		why: "The output has the digest of the image and nothing of the log.", instead: "`colophon verify` names the entry.",
		ours: `colophon verify ` + myrepo + `:v1 --identity ` + onMain + ` --issuer $ISSUER`, oursWant: "✓ log         entry",
	},
	{
		at: "002:40", quote: "--type slsaprovenance", is: wrong, fails: true,
		run: `cosign verify-attestation --type slsaprovenance` + anyone + apex, want: "none of the attestations matched the predicate type: slsaprovenance, found: ",
		why:     "To cosign, `slsaprovenance` is version 0.2. The name of version 1 is `slsaprovenance1`, which finds the provenance.",
		instead: "`colophon verify` reads both versions.",
		ours:    `cosign verify-attestation --type slsaprovenance1` + anyone + apex, oursWant: "verified using trusted certificate authority certificates",
	},
	{
		at: "002:40", quote: "| jq .payload | base64 -d | jq .", is: wrong, fails: true,
		run: `set -o pipefail; cosign verify-attestation --type slsaprovenance1` + anyone + apex + ` | jq .payload | base64 -d | jq .`, want: "base64: invalid input",
		why:     "`jq` prints the quotes of the string: it must be `jq -r`.",
		instead: "`colophon inspect IMAGE --provenance`",
		ours:    `colophon inspect ` + apex + ` --provenance`, oursWant: `"buildDefinition"`,
	},
	{
		at: "002:48", quote: "kind: ClusterPolicy", is: notRun,
		why:     "Kyverno cannot be had here. The policy is for one registry and two namespaces: it says nothing of images from elsewhere. `myrepo*` is also `myrepo-of-others`.",
		instead: "`kubectl get pods -o json | colophon verify - --policy policy.json` decides about every image.",
	},
	{
		at: "002:53", quote: "DOCKER_CONTENT_TRUST=1", is: notRun, why: "Docker Content Trust needs a Notary server, and ends in December 2026.", instead: "`colophon verify`",
	},
	{
		at: "002:72", quote: "cosign sign --yes IMAGE:TAG", is: dangerous,
		run: `as myrepo cosign sign --yes ` + myrepo + `:v1`, want: "This can lead you to sign a different image than the intended one",
		why:     "It works. It signs what the tag means at that time, which need not be what the job built.",
		instead: "`colophon sign` computes the digest from the bytes, prints it, and fails if the tag moves meanwhile.",
		ours:    `as myrepo colophon sign ` + myrepo + `:v1`, oursWant: "@sha256:",
	},
	{
		at: "003:91", quote: "COSIGN_EXPERIMENTAL: 1", is: works,
		run: `COSIGN_EXPERIMENTAL=1 as myrepo cosign sign --yes ` + myrepo + `@` + digestOf, want: "Pushing signature",
		why: "It works, with and without the variable.", instead: "`colophon sign IMAGE`",
	},
	{
		at: "003:97", quote: `--certificate-identity-regexp "https://github.com/myorg/.*"`, is: dangerous,
		run:     `cosign verify --certificate-identity-regexp "https://github.com/myorg/.*" --certificate-oidc-issuer "$ISSUER" $HOST/myorg/playground:v1`,
		want:    `"docker-reference":"$HOST/myorg/playground:v1"`,
		why:     "It accepts what any workflow of any repository of the organization signed, on any branch: here, the branch of a pull request in `myorg/playground`.",
		instead: "Name one repository and its tag: `--source github.com/myorg/myapp --tag v1.0.0`; or one workflow: `--identity`.",
		ours:    `colophon verify $HOST/myorg/playground:v1 --identity ` + onMain + ` --issuer $ISSUER`, oursCode: 3, oursWant: "✗ signature",
	},
	{
		at: "003:125", quote: `subject: "https://github.com/myorg/*"`, is: notRun,
		why:     "Kyverno cannot be had here. The policy accepts every workflow of the organization, as the line above, and says nothing of images from other registries.",
		instead: "`kubectl get pods -o json | colophon verify - --policy policy.json`",
	},
	{
		at: "003:156", quote: "slsa-github-generator", is: notRun,
		why:     "A workflow. `generator_container_slsa3.yml` signs the digest that the job hands over: it proves which workflow asked, and not that it built these bytes.",
		instead: "`colophon release`: who builds the image also computes its digest.",
	},
	{
		at: "003:167", quote: "go install github.com/slsa-framework/slsa-verifier/v2/cli/slsa-verifier@latest", is: notRun,
		why: "slsa-verifier cannot be had here. `@latest` is another program every week.", instead: "`colophon verify`",
	},
	{
		at: "003:170", quote: "slsa-verifier verify-image", is: notRun,
		why: "As above. `--source-branch main` demands the branch.", instead: "`colophon verify IMAGE --source github.com/myorg/myapp --branch main`",
	},
	{
		at: "003:201", quote: `cosign attach sbom \`, is: dangerous,
		run:     `cosign attach sbom --sbom sbom.spdx.json $HOST/ge-bootstrap/attached:v1.2.3 && cosign attach sbom --sbom other.json $HOST/ge-bootstrap/attached:v1.2.3 && cosign download sbom $HOST/ge-bootstrap/attached:v1.2.3`,
		want:    `{"of":"somebody else"}`,
		why:     "Nobody signs it, and whoever may push replaces it: here with a document that is no SBOM. The workflow also attaches the SBOM of a local image to whatever `latest` is.",
		instead: "`colophon attest IMAGE --type spdx --predicate sbom.spdx.json` signs, and refuses what is no SBOM or that of another image.",
		ours:    `colophon attest ` + admin + ` --type spdx --predicate other.json` + withKey, oursCode: 2, oursWant: "not an SBOM",
	},
	{
		at: "003:216", quote: "export DOCKER_CONTENT_TRUST=1", is: notRun, why: "As above.", instead: "`colophon verify`",
	},
	{
		at: "003:245", quote: `"ecr:PutImage"`, is: notRun,
		why:     "A policy of AWS. It lacks the actions that upload layers (`ecr:InitiateLayerUpload`, `ecr:UploadLayerPart`, `ecr:CompleteLayerUpload`), so a push of new layers is refused.",
		instead: "On the platform's registry, only its attestor and holders of a push token write, and a tag does not move.",
	},
	{
		at: "003:258", quote: "FROM golang:1.21 as builder", is: notRun,
		why:     "There is no stand-in for this base image. The Dockerfile differs from that of the first row only in flags of `go build`.",
		instead: "Two releases of one commit have one digest (test/reproducible).",
	},
	{
		at: "003:281", quote: "FROM node:20-alpine@sha256:abc123def456...", is: notRun,
		why:     "The digest is a placeholder. `apk add curl=8.5.0-r0` fails as soon as the mirror drops that version.",
		instead: "A [lock](release.md) has the digest of every download.",
	},
	{
		at: "003:316", quote: "sha256sum myapp-* > checksums.txt", is: works,
		run: `sha256sum myapp-* > checksums.txt && cat checksums.txt`, want: "myapp-linux-amd64",
		why: "It works.", instead: "`colophon sign dist/` makes the list and signs it.",
	},
	{
		at: "003:321", quote: "--output-signature checksums.txt.sig", is: wrong, fails: true,
		run: `as myrepo cosign sign-blob --yes --output-signature checksums.txt.sig checksums.txt`, want: "must specify --bundle",
		why: "cosign v3 wants `--bundle`. Of cosign v2, the release lacks the certificate.", instead: "`colophon sign FILE` writes one bundle with all of it.",
		ours: `as myrepo colophon sign checksums.txt`, oursWant: "checksums.txt.sigstore.json",
	},
	{
		at: "003:346", quote: "--signature checksums.txt.sig", is: wrong, fails: true,
		run:  `cosign verify-blob --certificate-identity-regexp "https://github.com/myorg/.*" --certificate-oidc-issuer "$ISSUER" --signature checksums.txt.sig checksums.txt`,
		want: "a certificate to verify against with --certificate, or a bundle with --bundle",
		why:  "A signature without its certificate cannot be verified, and the release does not have the certificate.", instead: "`colophon verify FILE` reads the bundle beside the file.",
		ours: `as myrepo colophon sign checksums.txt && colophon verify checksums.txt --bundle checksums.txt.sigstore.json --identity ` + onMain + ` --issuer $ISSUER`, oursWant: "accepted",
	},
	{
		at: "003:350", quote: "sha256sum -c checksums.txt --ignore-missing", is: dangerous,
		run: `cat >verify-download.sh <<'EOS'
cosign verify-blob --certificate-identity-regexp "https://github.com/myorg/.*" --certificate-oidc-issuer "$ISSUER" --signature checksums.txt.sig checksums.txt
sha256sum -c checksums.txt --ignore-missing
EOS
bash verify-download.sh`, want: "myapp-linux-amd64: OK",
		why:     "The script does not stop if the signature does not hold. Its exit code is that of the second check, of a list that anybody may have written: 0.",
		instead: "`colophon verify DIRECTORY` is one check of the list, its signature and every file.",
		ours:    `mkdir -p unsigned && cp myapp-linux-amd64 unsigned/ && (cd unsigned && sha256sum myapp-* >SHA256SUMS) && colophon verify unsigned --identity ` + onMain + ` --issuer $ISSUER`, oursCode: 3, oursWant: "rejected",
	},
	{
		at: "004:85", quote: "cosign sign ghcr.io/ge-bootstrap/admin-ui:v1.2.3", is: dangerous,
		run: `as myrepo cosign sign ` + admin + ` </dev/null`, want: "This can lead you to sign a different image than the intended one",
		why: "It works in a job. It signs what the tag means at that time.", instead: "`colophon sign IMAGE`",
	},
	{
		at: "004:88", quote: "cosign sign --key cosign.key ghcr.io/ge-bootstrap/admin-ui:v1.2.3", is: works,
		run: `cosign sign --key cosign.key ` + admin + ` </dev/null`, want: "Pushing signature",
		why: "It works, also with `cosign generate-key-pair` of the line before.", instead: "`colophon sign --key cosign.key IMAGE` takes the same key.",
		ours: `colophon sign ` + admin + withKey, oursWant: "@sha256:",
	},
	{
		at: "004:90", quote: "cosign attach sbom --sbom sbom.cyclonedx.json", is: wrong,
		run: `cosign attach sbom --sbom sbom.cyclonedx.json ` + admin, want: "mediaType [text/spdx+json]",
		why: "It attaches the CycloneDX document as SPDX, and does not sign it.", instead: "`colophon attest IMAGE --type cyclonedx --predicate sbom.cyclonedx.json`, which refuses this document: it describes nothing.",
		ours: `colophon attest ` + admin + ` --type cyclonedx --predicate sbom.cyclonedx.json` + withKey, oursCode: 2, oursWant: "it describes nothing",
	},
	{
		at: "004:92", quote: "cosign sign --attachment sbom", is: wrong, fails: true,
		run: `as myrepo cosign sign --yes --attachment sbom ` + admin + ` && cosign verify-attestation --type cyclonedx --key cosign.pub ` + admin, want: "none of the attestations matched the predicate type: cyclonedx",
		why:     "It signs the attachment, with a flag that is deprecated. No command of the seed verifies that signature: `verify-attestation --type cyclonedx`, below, does not find it.",
		instead: "`colophon attest IMAGE --type cyclonedx --predicate FILE`",
	},
	{
		at: "004:96", quote: "--certificate-identity=workflow@github.com", is: wrong, fails: true,
		run: `cosign verify ` + myrepo + `:v1 --certificate-identity=workflow@github.com --certificate-oidc-issuer=$ISSUER`, want: `expected SAN value "workflow@github.com", got "https://github.com/myorg/myrepo/`,
		why: "No job of GitHub has this identity.", instead: "The error of `colophon verify` names the identity that signed.",
		ours: `colophon verify ` + myrepo + `:v1 --identity workflow@github.com --issuer $ISSUER`, oursCode: 3, oursWant: `got "` + onMain,
	},
	{
		at: "004:99", quote: "cosign verify --key cosign.pub", is: works,
		run: `cosign verify --key cosign.pub ` + admin, want: "verified against the specified public key",
		why: "It works.", instead: "`colophon verify IMAGE --key cosign.pub`", ours: `colophon verify ` + admin + ` --key cosign.pub`, oursWant: "accepted",
	},
	{
		at: "004:117", quote: "actions/attest-build-provenance@v2", is: notRun,
		why:     "A step of a workflow, without its indentation. The action is named by tag, which the same seed calls bad. The digest is what the job says.",
		instead: "`colophon attest IMAGE --type provenance` (test/interop: TestJobs)",
	},
	{
		at: "004:125", quote: "cosign attest --predicate scan-results.json", is: works,
		run: `as myrepo cosign attest --predicate scan-results.json --type https://ge.nl/attestation/vuln-scan/v1 ` + admin + ` </dev/null`, want: "Using payload from: scan-results.json",
		why: "It works, and nothing checks the document.", instead: "`colophon attest IMAGE --type URI --predicate FILE --schema FILE`",
		ours: `colophon attest ` + admin + ` --type https://ge.nl/attestation/vuln-scan/v1 --predicate scan-results.json` + withKey, oursWant: "@sha256:",
	},
	{
		at: "004:160", quote: "cosign verify-attestation --type slsaprovenance $IMAGE", is: wrong, fails: true,
		run: `cosign verify-attestation --type slsaprovenance ` + apex, want: "--certificate-identity-regexp is required",
		why: "It does not say who must have signed; and the type is that of version 0.2.", instead: "`colophon verify IMAGE --source URI`",
	},
	{
		at: "004:162", quote: "cosign verify-attestation --type cyclonedx $IMAGE", is: wrong, fails: true,
		run: `cosign verify-attestation --type cyclonedx ` + apex, want: "--certificate-identity-regexp is required",
		why: "It does not say who must have signed.", instead: "`colophon verify IMAGE --source URI`",
	},
	{
		at: "004:184", quote: "subject: workflow@github.com", is: notRun,
		why:     "Kyverno cannot be had here. No job has this identity, so the policy admits none of the images that it is for. It has lost its indentation, too.",
		instead: "`kubectl get pods -o json | colophon verify - --policy policy.json`",
	},
	{
		at: "004:197", quote: "- uses: actions/checkout@v4", is: notRun,
		why: "The seed calls it bad, and it is right: a tag moves. The workflows of two other seeds have this line.", instead: "Colophon has no actions: a job runs one program, whose digest you can pin.",
	},
}
