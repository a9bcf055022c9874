package interop

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/needs"
)

// The columns of the table of readers: the pieces whose output stock clients read.
const (
	signImage   = "`sign IMAGE`"
	attestImage = "`attest IMAGE`"
	signFile    = "`sign FILE`, `sign DIR`"
	attestFile  = "`attest FILE`"
	copyImage   = "`copy`"
)

var columns = []string{signImage, attestImage, signFile, attestFile, copyImage}

// A reader is a stock client that reads what the pieces made.
type reader struct {
	name    string
	version string // script that prints it
	// asked means that only make clients installs or builds the client.
	asked bool
	reads map[string]reading // by column
}

// A reading is what a client does with the output of one piece.
type reading struct {
	cell string // in the table of docs/sign.md
	run  string // a script of bash -euo pipefail
	want string // words that the script prints; $DIGEST is that of the image
	// refuses means that the client must not accept it; the cell says why.
	refuses bool
}

// byCosign has what both versions of cosign do, with their flags. The loop has all types that
// attest knows, by cosign's names where it has one.
func byCosign(cosign, flags string) map[string]reading {
	r := strings.NewReplacer("COSIGN", cosign, "FLAGS", flags)
	return map[string]reading{
		signImage:   {"`verify`, by identity and by key", r.Replace(`COSIGN verify $SIGNED FLAGS $BYADA && COSIGN verify $KEYED FLAGS $BYKEY`), "$DIGEST", false},
		attestImage: {"`verify-attestation`, of each type", r.Replace(`for type in slsaprovenance slsaprovenance02 slsaprovenance1 spdx spdxjson cyclonedx vuln openvex link custom https://syft.dev/bom https://in-toto.io/attestation/test-result/v0.1 https://example.com/review/v1; do COSIGN verify-attestation --type $type $IMAGE FLAGS $BYADA >statement; echo verified $type; done`), "verified https://example.com/review/v1", false},
		signFile:    {"`verify-blob`", r.Replace(`COSIGN verify-blob FLAGS $BYKEY --bundle file.sigstore.json file && cd dist && COSIGN verify-blob FLAGS $BYKEY --bundle SHA256SUMS.sigstore.json SHA256SUMS && sha256sum -c SHA256SUMS`), "a.tar.gz: OK", false},
		attestFile:  {"`verify-blob-attestation`", r.Replace(`COSIGN verify-blob-attestation FLAGS $BYKEY --type https://example.com/review/v1 --bundle file.intoto.jsonl file`), "Verified OK", false},
		copyImage:   {"`verify`, `verify-attestation`", r.Replace(`COSIGN verify $COPY FLAGS $BYADA && COSIGN verify-attestation --type spdx $COPY FLAGS $BYADA >statement`), "$DIGEST", false},
	}
}

// policed is a policy that demands a signature with a key, in the words of podman and skopeo.
const policed = `cat >policy.json <<EOF
{"default": [{"type": "reject"}], "transports": {"docker": {"$HOST": [{"type": "sigstoreSigned", "keyPath": "$PUBLIC", "signedIdentity": {"type": "matchRepository"}}]}}}
EOF
`

// The library of both, go.podman.io/image, does not read bundles up to version 5.42.1, and
// Debian 12 compiles the check of the form of cosign 2 out.
const refusedByPolicy = "a policy of `sigstoreSigned` refuses it, as everything: it does not read bundles"

var readers = []reader{
	{name: "cosign 3", version: "cosign version | grep GitVersion", reads: byCosign("cosign", "--trusted-root $ROOT")},
	{name: "cosign 2", version: "cosign2 version | grep GitVersion", asked: true, reads: byCosign("cosign2", "--new-bundle-format --use-signed-timestamps --trusted-root $ROOT")},
	{name: "crane", version: "crane version", reads: map[string]reading{
		signImage: {"`manifest` of each bundle", `crane manifest $HOST/pieces/keyed@$(curl -sf http://$HOST/v2/pieces/keyed/referrers/$DIGEST | jq -r .manifests[0].digest)`, "application/vnd.dev.sigstore.bundle.v0.3+json", false},
		copyImage: {"`validate`, `digest`", `crane validate --remote $COPY && crane digest $COPY`, "$DIGEST", false},
	}},
	{name: "docker buildx", version: "go version -m $(command -v buildx) | grep docker/buildx", reads: map[string]reading{
		signImage: {"`imagetools inspect`: the image's digest stays", `buildx imagetools inspect $IMAGE`, "$DIGEST", false},
		copyImage: {"`imagetools inspect`", `buildx imagetools inspect $COPY`, "$DIGEST", false},
	}},
	{name: "oras", version: "oras version", asked: true, reads: map[string]reading{
		signImage:   {"`discover`", `oras discover --plain-http --artifact-type application/vnd.dev.sigstore.bundle.v0.3+json --format json $IMAGE`, "application/vnd.dev.sigstore.bundle.v0.3+json", false},
		attestImage: {"`discover`, `copy --recursive`: cosign verifies the copy", `oras copy --recursive --from-plain-http --to-plain-http $IMAGE $HOST/byoras/app:v1 && cosign verify-attestation --type spdx $HOST/byoras/app:v1 --trusted-root $ROOT $BYADA`, "The cosign claims were validated", false},
		copyImage:   {"`discover` of the registry, and of the layout", `oras discover --plain-http --format json $COPY && oras discover --oci-layout --format json layout:v1 | grep sigstore.bundle && echo layout read`, "layout read", false},
	}},
	{name: "regctl", version: "regctl version --format {{.VCSTag}}", asked: true, reads: map[string]reading{
		signImage:   {"`artifact list`", `regctl artifact list --filter-artifact-type application/vnd.dev.sigstore.bundle.v0.3+json $IMAGE`, "application/vnd.dev.sigstore.bundle.v0.3+json", false},
		attestImage: {"`artifact list`, `image copy --referrers`: cosign verifies the copy", `regctl image copy --referrers $IMAGE $HOST/byregctl/app:v1 && cosign verify-attestation --type spdx $HOST/byregctl/app:v1 --trusted-root $ROOT $BYADA`, "The cosign claims were validated", false},
		copyImage:   {"`artifact list`", `regctl artifact list $COPY`, "application/vnd.dev.sigstore.bundle.v0.3+json", false},
	}},
	{name: "skopeo", version: "skopeo --version", asked: true, reads: map[string]reading{
		signImage: {refusedByPolicy, policed + `skopeo --policy policy.json copy --src-tls-verify=false docker://$KEYED oci:new:v1`, "A signature was required, but no signature exists", true},
		copyImage: {"`copy` from the registry, layout and archive", `for from in docker://$COPY oci:layout:v1 oci-archive:app.tar:v1; do skopeo copy --src-tls-verify=false --digestfile digest $from oci:pulled:v1 && cat digest; done; skopeo inspect --tls-verify=false docker://$COPY`, "$DIGEST", false},
	}},
	{name: "podman", version: "podman --version", asked: true, reads: map[string]reading{
		signImage: {refusedByPolicy, policed + `podman $P pull --tls-verify=false --signature-policy policy.json $KEYED`, "A signature was required, but no signature exists", true},
		copyImage: {"`pull` from the registry and the archive", `podman $P pull -q --tls-verify=false $COPY && podman $P pull -q oci-archive:app.tar:v1 && podman $P inspect --format '{{.Digest}}' $COPY`, "$DIGEST", false},
	}},
}

// shop has what each piece made, for the readers.
type shop struct {
	*pieces
	dir string
	env []string
}

func openShop(t *testing.T) *shop {
	t.Helper()
	p := startPieces(t)
	s := &shop{pieces: p, dir: p.home}
	private, password, public := p.keys(t)
	ada := func(args ...string) {
		t.Helper()
		p.colophon(t, append(args, "--identity-token-file", p.staff.token(t, nil))...)
	}
	byKey := func(args ...string) {
		t.Helper()
		p.colophon(t, append(args, "--key", private, "--password-file", password)...)
	}
	digest := p.push(t, "pieces/app:v1")
	image := p.Addr + "/pieces/app:v1"
	for _, name := range []string{"keyed", "signed"} {
		p.run(t, "crane", "copy", image, p.Addr+"/pieces/"+name+":v1")
	}
	ada("sign", image)
	ada("sign", p.Addr+"/pieces/signed:v1") // without an attestation, which cosign verify accepts too
	byKey("sign", p.Addr+"/pieces/keyed:v1")
	for kind, document := range documents(digest) {
		harness.Write(t, s.dir, map[string]string{"document.json": document})
		ada("attest", image, "--type", kind, "--predicate", filepath.Join(s.dir, "document.json"))
	}
	harness.Write(t, s.dir, map[string]string{"file": "content", "review.json": `{"reviewed":true}`, "dist/a.tar.gz": "a", "dist/doc/a.1": "b"})
	byKey("sign", filepath.Join(s.dir, "file"))
	byKey("attest", filepath.Join(s.dir, "file"), "--type", "https://example.com/review/v1", "--predicate", filepath.Join(s.dir, "review.json"))
	byKey("sign", filepath.Join(s.dir, "dist"))
	for _, to := range []string{p.Addr + "/copies/app:v1", filepath.Join(s.dir, "layout"), filepath.Join(s.dir, "app.tar")} {
		cmd := p.Colophon(t.Context(), "copy", image, to)
		cmd.Env = append(cmd.Env, "DOCKER_CONFIG="+p.docker)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("copy to %s: %v\n%s", to, err, out)
		}
	}
	s.env = append(os.Environ(), "PATH="+filepath.Join(harness.Root(t), "out/bin")+":"+os.Getenv("PATH"), "HOME="+s.dir, "DOCKER_CONFIG="+p.docker, "REGISTRY_AUTH_FILE="+filepath.Join(p.docker, "config.json"), "XDG_RUNTIME_DIR="+s.dir, "XDG_CONFIG_HOME=",
		"TUF_ROOT="+s.dir+"/tuf", "HOST="+p.Addr, "IMAGE="+image, "KEYED="+p.Addr+"/pieces/keyed:v1", "SIGNED="+p.Addr+"/pieces/signed:v1", "COPY="+p.Addr+"/copies/app:v1", "DIGEST="+digest,
		"ROOT="+p.root, "PUBLIC="+public, "BYKEY=--key "+public, "BYADA=--certificate-identity ada@example.com --certificate-oidc-issuer "+p.staff.URL,
		"P=--root "+s.dir+"/storage --runroot "+s.dir+"/run --storage-driver vfs")
	harness.Write(t, s.dir, map[string]string{".regctl/config.json": `{"hosts": {"` + p.Addr + `": {"tls": "disabled"}}}`})
	return s
}

// documents has one of each type that attest knows.
func documents(digest string) map[string]string {
	const now = "2026-01-02T03:04:05Z"
	return map[string]string{
		"slsaprovenance1":               `{"buildDefinition":{"buildType":"https://example.com/build/v1","externalParameters":{"by":"hand"},"resolvedDependencies":[]},"runDetails":{"builder":{"id":"https://example.com/builder"}}}`,
		"slsaprovenance":                `{"builder":{"id":"https://example.com/builder"},"buildType":"https://example.com/build/v1","invocation":{"configSource":{}},"materials":[]}`,
		"spdx":                          `{"spdxVersion":"SPDX-2.3","dataLicense":"CC0-1.0","SPDXID":"SPDXRef-DOCUMENT","name":"app","documentNamespace":"https://example.com/app/1","creationInfo":{"created":"` + now + `","creators":["Tool: test"]},"packages":[{"name":"app","SPDXID":"SPDXRef-app","downloadLocation":"NOASSERTION","versionInfo":"1"}],"relationships":[{"spdxElementId":"SPDXRef-DOCUMENT","relationshipType":"DESCRIBES","relatedSpdxElement":"SPDXRef-app"}]}`,
		"cyclonedx":                     `{"bomFormat":"CycloneDX","specVersion":"1.6","version":1,"metadata":{"timestamp":"` + now + `","component":{"type":"container","name":"app","version":"` + digest + `"}},"components":[]}`,
		"syft":                          `{"artifacts":[],"descriptor":{"name":"syft"},"schema":{"version":"16.0.0"}}`,
		"vuln":                          `{"invocation":{"uri":"","event_id":"","builder.id":""},"scanner":{"uri":"pkg:github/anchore/grype@v0.99.0","version":"","db":{"uri":"","version":"","lastUpdate":""},"result":{}},"metadata":{"scanStartedOn":"` + now + `","scanFinishedOn":"` + now + `"}}`,
		"openvex":                       `{"@context":"https://openvex.dev/ns/v0.2.0","@id":"https://example.com/1","author":"ada","timestamp":"` + now + `","version":1,"statements":[]}`,
		"test-result":                   `{"result":"PASSED","configuration":[{"name":"ci.yml"}]}`,
		"link":                          `{"name":"build","command":["make"],"materials":{},"byproducts":{},"environment":{}}`,
		"custom":                        `{"reviewed":true}`,
		"https://example.com/review/v1": `{"reviewed":true}`,
	}
}

func (s *shop) bash(script string) (string, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), await.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir, cmd.Env = s.dir, s.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestReaders has each stock client read what each piece made. docs/sign.md has the table.
func TestReaders(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(harness.Root(t), "docs", "sign.md"))
	if err != nil {
		t.Fatal(err)
	}
	if head := "| client | version | " + strings.Join(columns, " | ") + " |"; !strings.Contains(string(page), head) {
		t.Errorf("docs/sign.md does not have %s", head)
	}
	asked := os.Getenv("COLOPHON_CLIENTS") != ""
	s := openShop(t)
	for _, r := range readers {
		t.Run(r.name, func(t *testing.T) {
			if r.asked && !asked {
				t.Skipf("NOT ASKED FOR: make clients installs or builds %s", r.name)
			}
			r.try(t, s, string(page))
		})
	}
}

var versionNumber = regexp.MustCompile(`\d+\.\d+\.\d+`)

func (r reader) try(t *testing.T, s *shop, page string) {
	version, err := s.bash(r.version)
	if err != nil {
		needs.Missing(t, "%s: %v: %s; make clients installs it", r.name, err, version)
	}
	t.Logf("%s: %s", r.name, version)
	cells := []string{r.name, versionNumber.FindString(version)}
	for _, column := range columns {
		read, ok := r.reads[column]
		if !ok {
			cells = append(cells, "")
			continue
		}
		cells = append(cells, read.cell)
		t.Run(column, func(t *testing.T) {
			out, err := s.bash(read.run)
			if want := os.Expand(read.want, s.getenv); (err != nil) != read.refuses || !strings.Contains(out, want) {
				t.Errorf("got %v, want %q, refused: %v\n%s", err, want, read.refuses, out)
			} else {
				t.Logf("%.2000s", out)
			}
		})
	}
	if row := fmt.Sprintf("| %s |", strings.Join(cells, " | ")); !strings.Contains(page, row) {
		t.Errorf("docs/sign.md does not have the row\n%s", row)
	}
}

func (s *shop) getenv(name string) (value string) {
	for _, line := range s.env {
		if n, v, _ := strings.Cut(line, "="); n == name {
			value = v
		}
	}
	return value
}
