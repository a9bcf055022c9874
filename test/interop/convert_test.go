package interop

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/harness"
)

// converter converts policies about images that stock cosign signed, and asks everybody.
type converter struct {
	*cosigner
	keyB, pubB string
	root       string // fingerprint of the trust root
	trustRoot  string // file with the TrustRoot "platform", for the peers
	images     map[string]string
	order      []string
}

const scanType = "https://example.com/scan/v1"

// decided is what is decided about one image: accept or reject, and of the peers - if they were
// not asked.
type decided struct {
	policy, image      string
	original, back     string // the policy itself, and what it is after it was converted there and back
	controller, kyvern string // policy-controller about the ClusterImagePolicies, Kyverno about its own
}

func (a decided) String() string {
	return fmt.Sprintf("%-16s %-14s %-8s %-8s %-10s %s", a.policy, a.image, a.original, a.back, a.controller, a.kyvern)
}

// TestConvertedPoliciesDecideTheSame: for each policy and image, testdata/converted.txt has the
// answer of the policy, of the same after a round trip, and those of the peers' own programs about
// what it was converted to. The first two are asked each time; the peers, if
// COLOPHON_POLICY_TESTER (policy-controller v0.14.0, cmd/tester) and COLOPHON_KYVERNO (v1.19.1,
// kubectl-kyverno) name them. No converted policy accepts what its original refuses.
func TestConvertedPoliciesDecideTheSame(t *testing.T) {
	c := newConverter(t)
	there, err := os.ReadFile("testdata/converted.txt")
	if err != nil && os.Getenv("UPDATE") == "" {
		t.Fatal(err)
	}
	recorded := map[string]decided{}
	for line := range strings.Lines(string(there)) {
		if f := strings.Fields(line); len(f) == 6 && f[0] != "#" {
			recorded[f[0]+" "+f[1]] = decided{f[0], f[1], f[2], f[3], f[4], f[5]}
		}
	}
	var out strings.Builder
	fmt.Fprintln(&out, "# Of each policy and image: the policy, the same after it was converted there and back, policy-controller v0.14.0\n# about it as ClusterImagePolicies, and Kyverno v1.19.1 about it as ImageValidatingPolicies.\n# TestConvertedPoliciesDecideTheSame asks; UPDATE=1 writes.")
	asked := 0
	for _, p := range c.policies() {
		for _, got := range c.ask(t, p) {
			was := recorded[got.policy+" "+got.image]
			if got.controller == "-" {
				got.controller = was.controller
			}
			if got.kyvern == "-" {
				got.kyvern = was.kyvern
			}
			fmt.Fprintln(&out, got)
			asked++
			if got != was && os.Getenv("UPDATE") == "" {
				t.Errorf("got %v\nwant %v", got, was)
			}
			c.compare(t, p, got)
		}
	}
	if asked < 100 || os.Getenv("UPDATE") == "" && asked != len(recorded) {
		t.Errorf("asked about %d policies and images, want those in the file, %d", asked, len(recorded))
	}
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile("testdata/converted.txt", []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// compare fails if a result accepts what its original refuses. The original of a
// ClusterImagePolicy is what policy-controller says about it. What is in another format is not
// compared: policy-controller does not see bundles by keys. With --lossy, Kyverno takes
// attestations for signatures, as the list says.
func (c *converter) compare(t *testing.T, p convertible, a decided) {
	original, results := a.original, []string{a.back, a.controller}
	if p.theirs {
		original, results = a.controller, []string{a.original, a.back}
	}
	if !p.lossy {
		results = append(results, a.kyvern)
	}
	unseen := p.theirs && strings.HasPrefix(a.image, "new-")
	if !unseen && original == "reject" && slices.Contains(results, "accept") {
		t.Errorf("%v: a result accepts what the original refuses", a)
	}
}

func newConverter(t *testing.T) *converter {
	c := &converter{cosigner: newCosigner(t), images: map[string]string{}}
	dir := t.TempDir()
	cmd := c.command(t, "cosign", "generate-key-pair")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("generate-key-pair: %v\n%s", err, out)
	}
	c.keyB, c.pubB = filepath.Join(dir, "cosign.key"), filepath.Join(dir, "cosign.pub")
	c.root = strings.TrimSpace(c.ours(t, 0, "trust", "list", "-q"))
	if strings.Contains(c.root, "\n") {
		t.Fatalf("got several trust roots, want one: %s", c.root)
	}
	c.writeTrustRoot(t)
	harness.Write(t, c.home, map[string]string{"pass.json": `{"result":"PASSED","critical":0}`, "fail.json": `{"result":"FAILED","critical":3}`})
	old := []string{"--yes", "--new-bundle-format=false", "--use-signing-config=false", "--tlog-upload=false"}
	bundle := []string{"--yes", "--signing-config", c.config, "--trusted-root", c.root1()}
	person := func() []string {
		return []string{"--yes", "--new-bundle-format=false", "--use-signing-config=false", "--rekor-url", c.log.url, "--trusted-root", c.root1(), "--fulcio-url", c.URL, "--identity-token", c.staff.token(t, nil)}
	}
	for _, i := range []struct {
		name string
		make func(image string)
	}{
		{"unsigned", func(string) {}},
		{"old-a", func(i string) { c.sign(t, i, append(old, "--key", c.key)) }},
		{"old-b", func(i string) { c.sign(t, i, append(old, "--key", c.keyB)) }},
		{"old-both", func(i string) {
			c.sign(t, i, append(old, "--key", c.key))
			c.sign(t, i, append(old, "--key", c.keyB))
		}},
		{"new-a", func(i string) { c.sign(t, i, append(bundle, "--key", c.key)) }},
		{"new-b", func(i string) { c.sign(t, i, append(bundle, "--key", c.keyB)) }},
		{"old-attested", func(i string) { c.attest(t, i, "pass", append(old, "--key", c.key)) }},
		{"new-attested", func(i string) { c.attest(t, i, "pass", append(bundle, "--key", c.key)) }},
		{"old-scanned", func(i string) {
			c.sign(t, i, append(old, "--key", c.key))
			c.attest(t, i, "pass", append(old, "--key", c.key))
		}},
		{"old-failed", func(i string) {
			c.sign(t, i, append(old, "--key", c.key))
			c.attest(t, i, "fail", append(old, "--key", c.key))
		}},
		{"new-scanned", func(i string) {
			c.sign(t, i, append(bundle, "--key", c.key))
			c.attest(t, i, "pass", append(bundle, "--key", c.key))
		}},
		{"new-failed", func(i string) {
			c.sign(t, i, append(bundle, "--key", c.key))
			c.attest(t, i, "fail", append(bundle, "--key", c.key))
		}},
		{"person", func(i string) { c.sign(t, i, person()) }},
		{"person-scanned", func(i string) { c.sign(t, i, person()); c.attest(t, i, "pass", person()) }},
	} {
		repo := c.Addr + "/vendor/" + i.name
		c.run(t, "crane", "append", "-f", filepath.Join(c.home, "layer.tar"), "-t", repo+":base")
		c.run(t, "crane", "mutate", repo+":base", "--label", "name="+i.name, "-t", repo+":v1")
		image := repo + "@" + strings.TrimSpace(c.run(t, "crane", "digest", repo+":v1"))
		i.make(image)
		c.images[i.name], c.order = image, append(c.order, i.name)
	}
	return c
}

// root1 is the file with the trusted root.
func (c *converter) root1() string { return filepath.Join(c.home, "trusted_root.json") }

func (c *converter) sign(t *testing.T, image string, args []string) {
	c.run(t, "cosign", append([]string{"sign", image}, args...)...)
}

func (c *converter) attest(t *testing.T, image, result string, args []string) {
	c.run(t, "cosign", append([]string{"attest", image, "--type", scanType, "--predicate", filepath.Join(c.home, result+".json")}, args...)...)
}

// writeTrustRoot writes the trusted root as the TrustRoot "platform".
func (c *converter) writeTrustRoot(t *testing.T) {
	raw, err := os.ReadFile(c.root1())
	if err != nil {
		t.Fatal(err)
	}
	type key struct {
		BaseURL   string `json:"baseUrl"`
		PublicKey struct {
			RawBytes []byte `json:"rawBytes"`
		} `json:"publicKey"`
	}
	var doc struct {
		CertificateAuthorities []struct {
			URI       string `json:"uri"`
			CertChain struct {
				Certificates []struct {
					RawBytes []byte `json:"rawBytes"`
				} `json:"certificates"`
			} `json:"certChain"`
		} `json:"certificateAuthorities"`
		TLogs  []key `json:"tlogs"`
		CTLogs []key `json:"ctlogs"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "apiVersion: policy.sigstore.dev/v1alpha1\nkind: TrustRoot\nmetadata: {name: %s}\nspec:\n  sigstoreKeys:\n    certificateAuthorities:\n", "NAME")
	for _, a := range doc.CertificateAuthorities {
		var chain []byte
		for _, cert := range a.CertChain.Certificates {
			chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.RawBytes})...)
		}
		fmt.Fprintf(&out, "      - {subject: {organization: a, commonName: b}, uri: %q, certChain: %s}\n", a.URI, base64.StdEncoding.EncodeToString(chain))
	}
	logs := func(all []key) {
		for _, l := range all {
			block := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: l.PublicKey.RawBytes})
			fmt.Fprintf(&out, "      - {baseURL: %q, hashAlgorithm: sha-256, publicKey: %s}\n", l.BaseURL, base64.StdEncoding.EncodeToString(block))
		}
	}
	out.WriteString("    tLogs:\n")
	logs(doc.TLogs[len(doc.TLogs)-1:]) // the original reads ECDSA keys only
	out.WriteString("    ctLogs:\n")
	logs(doc.CTLogs)
	c.trustRoot = out.String()
}

// convertible is a policy that is converted.
type convertible struct {
	name   string
	theirs bool // a ClusterImagePolicy
	lossy  bool
	text   string
}

// policies returns policies of ours, and ClusterImagePolicies in the style of those that
// policy-controller's own end-to-end tests, Chainguard's catalogue, securesign's operator and
// GitHub's charts have.
func (c *converter) policies() []convertible {
	key := func(path, indent string) string {
		raw, err := os.ReadFile(path)
		if err != nil {
			c.t.Fatal(err)
		}
		return "|\n" + indent + strings.ReplaceAll(strings.TrimSpace(string(raw)), "\n", "\n"+indent) + "\n"
	}
	ours := func(name string, rules ...string) string {
		text := "apiVersion: colophon.build/v1\nkind: ImagePolicy\nmetadata: {name: " + name + "}\nspec:\n  unmatched: deny\n  rules:\n"
		for i, r := range rules {
			text += fmt.Sprintf("    - name: rule%d\n      images: [{glob: \"%s/vendor/**\"}]\n      accept:\n%s", i, c.Addr, r)
		}
		return text
	}
	signed := func(path string) string {
		return "        - signature:\n            signer:\n              insecureUnloggedKey:\n                pem: " + key(path, "                  ")
	}
	person := fmt.Sprintf("        - signature:\n            signer: {certificate: {issuer: %q, identity: {is: ada@example.com}, root: %q}}\n", c.staff.URL, c.root)
	scan := "            attestations:\n              - predicateType: " + scanType + "\n"
	values := scan + "                values: [{pointer: /critical, integer: 0}, {pointer: /result, string: PASSED}]\n"
	theirs := func(name, authorities string) string {
		return "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {name: " + name + "}\nspec:\n  images: [{glob: \"" + c.Addr + "/vendor/**\"}]\n  authorities:\n" + authorities
	}
	keyed := func(path string) string { return "    - key:\n        data: " + key(path, "          ") }
	keyless := "    - keyless:\n        url: " + c.URL + "\n        trustRootRef: platform\n        identities: [{issuer: \"" + c.staff.URL + "\", %s}]\n      ctlog: {url: \"" + c.log.url + "\", trustRootRef: platform}\n"
	attested := "      attestations:\n        - name: scan\n          predicateType: " + scanType + "\n"
	cue := attested + "          policy:\n            type: cue\n            data: |\n              predicateType: \"" + scanType + "\"\n              predicate: {\n                result: \"PASSED\"\n                critical: 0\n              }\n"
	return []convertible{
		{"signed", false, false, ours("signed", signed(c.pub))},
		{"either", false, false, ours("either", signed(c.pub)+signed(c.pubB))},
		{"both", false, false, ours("both", signed(c.pub), signed(c.pubB))},
		{"scanned", false, false, ours("scanned", signed(c.pub)+scan)},
		{"scanned-or-b", false, false, ours("scanned-or-b", signed(c.pub)+scan+signed(c.pubB))},
		{"values", false, true, ours("values", signed(c.pub)+values)},
		{"person", false, false, ours("person", person)},
		{"person-or-a", false, false, ours("person-or-a", person+signed(c.pub))},
		{"cip-key", true, false, theirs("cip-key", keyed(c.pub))},
		{"cip-two-keys", true, false, theirs("cip-two-keys", keyed(c.pub)+keyed(c.pubB))},
		{"cip-attested", true, false, theirs("cip-attested", keyed(c.pub)+attested)},
		{"cip-cue", true, true, theirs("cip-cue", keyed(c.pub)+cue)},
		{"cip-person", true, false, theirs("cip-person", fmt.Sprintf(keyless, "subject: ada@example.com"))},
		{"cip-people", true, false, theirs("cip-people", fmt.Sprintf(keyless, `subjectRegExp: ".*@example\\.com"`))},
		{"cip-others", true, false, theirs("cip-others", fmt.Sprintf(keyless, `subjectRegExp: "^bob@"`))},
		{"cip-person-scan", true, true, theirs("cip-person-scan", fmt.Sprintf(keyless, "subject: ada@example.com")+cue)},
		{"cip-fail", true, false, theirs("cip-fail", "    - static: {action: fail, message: not these}\n")},
	}
}

// ask converts a policy to all formats and back, and asks about all images.
func (c *converter) ask(t *testing.T, p convertible) (out []decided) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	convert := func(path, to, name string) string {
		args := []string{"policy", "convert", path, "--to", to, "--name", name, "--trust-root", "platform=" + c.root, "--trust-root", strings.Replace(c.root, ":", "-", 1) + "=" + c.root}
		if p.lossy {
			args = append(args, "--lossy")
		}
		cmd := c.Colophon(t.Context(), args...)
		text, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s, convert --to %s: %v\n%s", p.name, to, err, cmd.Stderr)
		}
		return file(name+".yaml", string(text))
	}
	ours, name := file("original.yaml", p.text), "platform"
	cips := ours
	if p.theirs {
		ours = convert(cips, "colophon", "ours")
	} else {
		cips, name = convert(ours, "clusterimagepolicy", "cips"), strings.Replace(c.root, ":", "-", 1)
	}
	there := cips
	if p.theirs {
		there = convert(ours, "clusterimagepolicy", "there")
	}
	back := convert(there, "colophon", "back")
	kyverno := convert(ours, "kyverno", "kyverno")
	root := file("root.yaml", strings.Replace(c.trustRoot, "NAME", name, 1))
	originals, backs := c.decides(t, ours), c.decides(t, back)
	for _, image := range c.order {
		ref := c.images[image]
		out = append(out, decided{p.name, image, originals[ref], backs[ref], c.controllerSays(t, cips, root, ref), c.kyvernoSays(t, kyverno, ref)})
	}
	return out
}

// decides returns what a policy says about each of the images, by name.
func (c *converter) decides(t *testing.T, policy string) map[string]string {
	cmd := c.Colophon(t.Context(), "policy", "test", policy, "--json")
	for _, image := range c.order {
		cmd.Args = append(cmd.Args, c.images[image])
	}
	raw, _ := cmd.Output() // exit codes 3 and 4 are answers
	var answers []struct {
		Image    string
		Decision struct{ Outcome string }
	}
	if err := json.Unmarshal(raw, &answers); err != nil || len(answers) != len(c.order) {
		t.Fatalf("policy test: %v, answers about %d images, want %d: %s\n%s", err, len(answers), len(c.order), raw, cmd.Stderr)
	}
	says := map[string]string{}
	for _, a := range answers {
		says[a.Image] = map[string]string{"accepted": "accept", "rejected": "reject", "undecided": "reject"}[a.Decision.Outcome]
	}
	return says
}

// controllerSays asks policy-controller about each of the policies: all must accept the image.
func (c *converter) controllerSays(t *testing.T, cips, root, image string) string {
	program := os.Getenv("COLOPHON_POLICY_TESTER")
	if program == "" {
		return "-"
	}
	raw, err := os.ReadFile(cips)
	if err != nil {
		t.Fatal(err)
	}
	for i, one := range strings.Split(string(raw), "\n---\n") {
		path := filepath.Join(t.TempDir(), fmt.Sprintf("%d.yaml", i))
		if err := os.WriteFile(path, []byte(one), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(program, "-policy", path, "-image", image, "-trustroot", root, "-log-level", "error").CombinedOutput()
		if strings.Contains(string(out), "CIP is invalid") || strings.Contains(string(out), "Usage of") {
			t.Fatalf("policy-tester: %s", out)
		}
		if err != nil {
			return "reject"
		}
	}
	return "accept"
}

func (c *converter) kyvernoSays(t *testing.T, policies, image string) string {
	program := os.Getenv("COLOPHON_KYVERNO")
	if program == "" {
		return "-"
	}
	pod := filepath.Join(t.TempDir(), "pod.yaml")
	if err := os.WriteFile(pod, fmt.Appendf(nil, "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: default}\nspec: {containers: [{name: c, image: %q}]}\n", image), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ := exec.Command(program, "apply", policies, "-r", pod, "--registry").CombinedOutput()
	switch text := string(out); {
	case strings.Contains(text, "pass: 1, fail: 0, warn: 0, error: 0"):
		return "accept"
	case strings.Contains(text, "pass: 0, fail: 1,"), strings.Contains(text, "error: 1,"):
		return "reject"
	}
	t.Fatalf("kyverno: %s", out)
	return ""
}
