package interop

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/rekor/pkg/generated/models"
	rekortypes "github.com/sigstore/rekor/pkg/types"
	_ "github.com/sigstore/rekor/pkg/types/dsse/v0.0.1"
	_ "github.com/sigstore/rekor/pkg/types/hashedrekord/v0.0.1"
	_ "github.com/sigstore/rekor/pkg/types/intoto/v0.0.2"
	"github.com/sigstore/rekor/pkg/util"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/colophon-build/colophon/test/harness"
)

// rekor1 simulates a Rekor v1 log for clients. Each entry is in its own tree.
type rekor1 struct {
	url string
	key *ecdsa.PrivateKey
	id  string // hex
}

func newRekor1(t *testing.T) *rekor1 {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r := &rekor1{key: key}
	sum := sha256.Sum256(r.spki(t))
	r.id = hex.EncodeToString(sum[:])
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/log/entries", func(w http.ResponseWriter, req *http.Request) {
		entry, err := r.add(req)
		if err != nil {
			t.Errorf("log: %v", err)
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		for uuid := range entry {
			w.Header().Set("ETag", uuid)
		}
		w.WriteHeader(http.StatusCreated)
		json.NewEncoder(w).Encode(entry)
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	r.url = srv.URL
	return r
}

func (r *rekor1) spki(t *testing.T) []byte {
	spki, err := x509.MarshalPKIXPublicKey(r.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return spki
}

func (r *rekor1) add(req *http.Request) (map[string]any, error) {
	proposed, err := models.UnmarshalProposedEntry(io.LimitReader(req.Body, 1<<20), nopConsumer{})
	if err != nil {
		return nil, err
	}
	entry, err := rekortypes.UnmarshalEntry(proposed)
	if err != nil {
		return nil, err
	}
	body, err := rekortypes.CanonicalizeEntry(req.Context(), entry)
	if err != nil {
		return nil, err
	}
	payload, err := json.Marshal(struct {
		Body  []byte `json:"body"`
		Time  int64  `json:"integratedTime"`
		LogID string `json:"logID"`
		Index int64  `json:"logIndex"`
	}{body, time.Now().Unix(), r.id, 0})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(payload)
	set, err := ecdsa.SignASN1(rand.Reader, r.key, sum[:])
	if err != nil {
		return nil, err
	}
	leaf := rfc6962.DefaultHasher.HashLeaf(body)
	signer, err := signature.LoadECDSASignerVerifier(r.key, crypto.SHA256)
	if err != nil {
		return nil, err
	}
	checkpoint, err := util.CreateAndSignCheckpoint(req.Context(), "127.0.0.1", 1, 1, leaf, signer)
	if err != nil {
		return nil, err
	}
	var answer map[string]any
	if err := json.Unmarshal(payload, &answer); err != nil {
		return nil, err
	}
	answer["verification"] = map[string]any{"signedEntryTimestamp": set, "inclusionProof": map[string]any{
		"checkpoint": string(checkpoint), "hashes": []string{}, "logIndex": 0, "rootHash": hex.EncodeToString(leaf), "treeSize": 1}}
	return map[string]any{hex.EncodeToString(leaf): answer}, nil
}

// nopConsumer decodes JSON for go-openapi.
type nopConsumer struct{}

func (nopConsumer) Consume(r io.Reader, v any) error { return json.NewDecoder(r).Decode(v) }

// withLog returns a trusted root with another log added.
func withLog(t *testing.T, root []byte, r *rekor1) []byte {
	var doc map[string]any
	if err := json.Unmarshal(root, &doc); err != nil {
		t.Fatal(err)
	}
	id, err := hex.DecodeString(r.id)
	if err != nil {
		t.Fatal(err)
	}
	logs, _ := doc["tlogs"].([]any)
	doc["tlogs"] = append(logs, map[string]any{"baseUrl": r.url, "hashAlgorithm": "SHA2_256", "logId": map[string]any{"keyId": base64.StdEncoding.EncodeToString(id)},
		"publicKey": map[string]any{"rawBytes": base64.StdEncoding.EncodeToString(r.spki(t)), "keyDetails": "PKIX_ECDSA_P256_SHA_256",
			"validFor": map[string]any{"start": time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)}}})
	raw, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// cosigner signs images with stock cosign, and verifies them with colophon.
type cosigner struct {
	*bench
	log             *rekor1
	staff           *people
	key, pub, other string // files: cosign's key pair, and another public key
}

func newCosigner(t *testing.T) *cosigner {
	staff := newPeople(t)
	p := harness.Start(t, "--config", harness.Config(t, staff.ForPeople()))
	c := &cosigner{bench: &bench{Platform: p, t: t, home: t.TempDir(), docker: p.DockerConfig()}, log: newRekor1(t), staff: staff}
	c.root, c.config = filepath.Join(c.home, "trusted_root.json"), filepath.Join(c.home, "signing_config.json")
	harness.Write(t, c.home, map[string]string{
		"trusted_root.json": string(withLog(t, p.Get("/trusted_root.json"), c.log)), "signing_config.json": string(p.Get("/signing_config.json")),
		"predicate.json": `{"result":"PASSED"}`, "tree/hello": "hello\n",
		"sbom.json": `{"spdxVersion":"SPDX-2.3"}`,
	})
	if out, err := exec.Command("tar", "-C", filepath.Join(c.home, "tree"), "-cf", filepath.Join(c.home, "layer.tar"), "hello").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	cmd := c.command(t, "cosign", "generate-key-pair")
	cmd.Dir = c.home
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("generate-key-pair: %v\n%s", err, out)
	}
	c.key, c.pub, c.other = filepath.Join(c.home, "cosign.key"), filepath.Join(c.home, "cosign.pub"), filepath.Join(c.home, "other.pub")
	writeKey(t, c.other)
	if out, err := p.Colophon(t.Context(), "trust", "add", c.root, "--issuer", staff.URL, "--yes").CombinedOutput(); err != nil {
		t.Fatalf("trust add: %v\n%s", err, out)
	}
	return c
}

// verdict runs colophon verify, which must exit with code and print words.
func (c *cosigner) verdict(t *testing.T, code int, image string, words string, args ...string) {
	t.Helper()
	cmd := c.Colophon(t.Context(), append([]string{"verify", image, "--skip-source"}, args...)...)
	out, _ := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != code || !strings.Contains(string(out), words) {
		t.Errorf("verify %s: got exit code %d, want %d and %q\n%s", strings.Join(args, " "), got, code, words, out)
	}
}

// cosignForm is one way to sign with cosign.
type cosignForm struct {
	sign func(t *testing.T) []string // flags of cosign sign and attest
	good []string                    // flags with which verify accepts the image; nil if there are none
	bad  [][]string                  // flags with which verify rejects it
}

// forms returns the old forms of cosign (tags, simple signing, a log of Rekor v1) and
// the new ones (bundles as referrers), signed by people and by keys.
func (c *cosigner) forms() map[string]cosignForm {
	old := []string{"--yes", "--new-bundle-format=false", "--use-signing-config=false"}
	logged := append(old, "--rekor-url", c.log.url)
	keyless := func(t *testing.T) []string {
		return []string{"--trusted-root", c.root, "--fulcio-url", c.URL, "--identity-token", c.staff.token(t, nil)}
	}
	ada := []string{"--identity", "ada@example.com", "--issuer", c.staff.URL}
	key, pub, other := c.key, c.pub, c.other
	return map[string]cosignForm{
		"old form, people": {func(t *testing.T) []string { return append(logged, keyless(t)...) }, ada,
			[][]string{{"--identity", "bob@example.com", "--issuer", c.staff.URL}, {"--identity", "ada@example.com", "--issuer", c.URL}, {"--identity", "ada@example.co", "--issuer", c.staff.URL}, {"--key", pub}}},
		"old form, people, no log": {func(t *testing.T) []string {
			return append(append(old, "--tlog-upload=false", "--timestamp-server-url", c.URL+"/api/v1/timestamp"), keyless(t)...)
		}, nil, [][]string{ada}},
		"old form, key":         {func(*testing.T) []string { return append(logged, "--key", key) }, []string{"--key", pub}, [][]string{{"--key", other}, ada}},
		"old form, key, no log": {func(*testing.T) []string { return append(old, "--tlog-upload=false", "--key", key) }, []string{"--key", pub, "--insecure-no-log"}, [][]string{{"--key", pub}, {"--key", other, "--insecure-no-log"}}},
		"new form, people": {func(t *testing.T) []string {
			return []string{"--yes", "--signing-config", c.config, "--trusted-root", c.root, "--identity-token", c.staff.token(t, nil)}
		}, ada, [][]string{{"--identity", "bob@example.com", "--issuer", c.staff.URL}, {"--key", pub}}},
		"new form, key": {func(*testing.T) []string {
			return []string{"--yes", "--signing-config", c.config, "--trusted-root", c.root, "--key", key}
		}, []string{"--key", pub}, [][]string{{"--key", other}, ada}},
	}
}

// TestCosignForms: colophon verifies the images and attestations that stock cosign
// signed in each of its forms.
func TestCosignForms(t *testing.T) {
	c := newCosigner(t)
	for name, form := range c.forms() {
		t.Run(name, func(t *testing.T) { c.testForm(t, name, form) })
	}
}

func (c *cosigner) testForm(t *testing.T, name string, form cosignForm) {
	const kind = "https://in-toto.io/attestation/test-result/v0.1"
	repo := c.Addr + "/team/" + strings.NewReplacer(",", "", " ", "-").Replace(name)
	c.run(t, "crane", "append", "-f", filepath.Join(c.home, "layer.tar"), "-t", repo+":v1")
	digest := strings.TrimSpace(c.run(t, "crane", "digest", repo+":v1"))
	image := repo + "@" + digest
	c.run(t, "cosign", append([]string{"attest", image, "--type", kind, "--predicate", filepath.Join(c.home, "predicate.json")}, form.sign(t)...)...)
	if form.good != nil {
		c.verdict(t, 3, repo+":v1", "✗ signature", form.good...) // an attestation is not a signature
	}
	c.run(t, "cosign", append([]string{"sign", image}, form.sign(t)...)...)
	if form.good != nil {
		c.verdict(t, 0, repo+":v1", "accepted", form.good...)
		c.verdict(t, 3, repo+":v1", "the image carries no provenance", append([]string{"--any-source"}, form.good...)...)
		demand := map[string]any{"signer": signerOf(t, form.good), "attestations": []any{map[string]any{"predicateType": kind, "equals": map[string]string{"/result": "PASSED"}}}}
		c.verdict(t, 0, repo+":v1", "✓ attestation", "--policy", policyFile(t, demand))
		demand["attestations"] = []any{map[string]any{"predicateType": kind, "equals": map[string]string{"/result": "FAILED"}}}
		c.verdict(t, 3, repo+":v1", "✗ attestation", "--policy", policyFile(t, demand))
	}
	for _, args := range form.bad {
		c.verdict(t, 3, repo+":v1", "✗ ", args...) // the link is signature or log
	}
	c.testSaved(t, image, form)
	// The signatures of one image do not hold for another one.
	c.run(t, "crane", "mutate", image, "--entrypoint", "/bin/false", "-t", repo+":v2")
	moved := strings.TrimSpace(c.run(t, "crane", "digest", repo+":v2"))
	if strings.HasPrefix(name, "old form") && form.good != nil {
		c.run(t, "crane", "copy", repo+":"+strings.Replace(digest, ":", "-", 1)+".sig", repo+":"+strings.Replace(moved, ":", "-", 1)+".sig")
		c.verdict(t, 3, repo+":v2", "image of the signature", form.good...)
	}
}

// testSaved verifies the layout that cosign saves an image in.
func (c *cosigner) testSaved(t *testing.T, image string, form cosignForm) {
	saved := filepath.Join(t.TempDir(), "saved")
	c.run(t, "cosign", "save", "--dir", saved, image)
	if form.good != nil {
		c.verdict(t, 0, saved, "accepted", form.good...)
	}
	for _, args := range form.bad {
		c.verdict(t, 3, saved, "✗ ", args...)
	}
}

func writeKey(t *testing.T, path string) {
	t.Helper()
	if out, err := exec.Command("sh", "-c", "openssl ecparam -name prime256v1 -genkey -noout | openssl ec -pubout").Output(); err != nil {
		t.Fatalf("openssl: %v", err)
	} else if err := os.WriteFile(path, out, 0o600); err != nil {
		t.Fatal(err)
	}
}

// signerOf returns the member "signer" of a policy that means the same as the flags.
func signerOf(t *testing.T, args []string) map[string]any {
	t.Helper()
	if args[0] == "--identity" {
		return map[string]any{"identity": args[1], "issuer": args[3]}
	}
	key, err := os.ReadFile(args[1])
	if err != nil {
		t.Fatal(err)
	}
	s := map[string]any{"key": string(key)}
	if len(args) > 2 {
		s["insecureNoLog"] = true
	}
	return s
}

func policyFile(t *testing.T, doc any) string {
	t.Helper()
	raw, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
