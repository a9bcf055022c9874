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

// rekor1 is a log of Rekor v1 as clients see it, of trees of one entry each.
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

// nopConsumer decodes JSON as go-openapi wants it.
type nopConsumer struct{}

func (nopConsumer) Consume(r io.Reader, v any) error { return json.NewDecoder(r).Decode(v) }

// withLog is a trusted root with one more log.
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

// TestCosignForms: images that stock cosign signed in its old form (tags, simple
// signing, a log of Rekor v1) and its new one (bundles as referrers), by people
// and by key, as colophon verify and inspect see them.
func TestCosignForms(t *testing.T) {
	staff := newPeople(t)
	p := harness.Start(t, "--config", harness.Config(t, map[string]any{"fulcio": map[string]any{
		"OIDCIssuers": map[string]any{staff.url: map[string]any{"IssuerURL": staff.url, "ClientID": "sigstore", "Type": "email"}},
	}}))
	log := newRekor1(t)
	b := &bench{Platform: p, t: t, home: t.TempDir(), docker: p.DockerConfig()}
	b.root, b.config = filepath.Join(b.home, "trusted_root.json"), filepath.Join(b.home, "signing_config.json")
	harness.Write(t, b.home, map[string]string{
		"trusted_root.json": string(withLog(t, p.Get("/trusted_root.json"), log)), "signing_config.json": string(p.Get("/signing_config.json")),
		"predicate.json": `{"result":"PASSED"}`, "tree/hello": "hello\n",
		"sbom.json": `{"spdxVersion":"SPDX-2.3"}`,
	})
	if out, err := exec.Command("tar", "-C", filepath.Join(b.home, "tree"), "-cf", filepath.Join(b.home, "layer.tar"), "hello").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	cmd := b.command(t, "cosign", "generate-key-pair")
	cmd.Dir = b.home
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("generate-key-pair: %v\n%s", err, out)
	}
	key, pub := filepath.Join(b.home, "cosign.key"), filepath.Join(b.home, "cosign.pub")
	other := filepath.Join(b.home, "other.pub")
	writeKey(t, other)
	if out, err := p.Colophon(t.Context(), "trust", "add", b.root, "--yes").CombinedOutput(); err != nil {
		t.Fatalf("trust add: %v\n%s", err, out)
	}
	verdict := func(t *testing.T, code int, image string, words string, args ...string) {
		t.Helper()
		cmd := p.Colophon(t.Context(), append([]string{"verify", image, "--skip-source"}, args...)...)
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != code || !strings.Contains(string(out), words) {
			t.Errorf("verify %s: got exit code %d, want %d and %q\n%s", strings.Join(args, " "), got, code, words, out)
		}
	}
	old := []string{"--yes", "--new-bundle-format=false", "--use-signing-config=false"}
	logged := append(old, "--rekor-url", log.url)
	keyless := func(t *testing.T) []string {
		return []string{"--trusted-root", b.root, "--fulcio-url", p.URL, "--identity-token", staff.token(t, nil)}
	}
	ada := []string{"--identity", "ada@example.com", "--issuer", staff.url}
	const kind = "https://in-toto.io/attestation/test-result/v0.1"
	attest := []string{"--type", kind, "--predicate", filepath.Join(b.home, "predicate.json")}
	for name, tt := range map[string]struct {
		sign   func(t *testing.T) []string
		attest bool
		good   []string
		bad    [][]string
	}{
		"old form, people": {func(t *testing.T) []string { return append(logged, keyless(t)...) }, true, ada,
			[][]string{{"--identity", "bob@example.com", "--issuer", staff.url}, {"--identity", "ada@example.com", "--issuer", p.URL}, {"--identity", "ada@example.co", "--issuer", staff.url}, {"--key", pub}}},
		"old form, people, no log": {func(t *testing.T) []string {
			return append(append(old, "--tlog-upload=false", "--timestamp-server-url", p.URL+"/api/v1/timestamp"), keyless(t)...)
		}, true, nil, [][]string{ada}},
		"old form, key":         {func(*testing.T) []string { return append(logged, "--key", key) }, true, []string{"--key", pub}, [][]string{{"--key", other}, ada}},
		"old form, key, no log": {func(*testing.T) []string { return append(old, "--tlog-upload=false", "--key", key) }, true, []string{"--key", pub, "--insecure-no-log"}, [][]string{{"--key", pub}, {"--key", other, "--insecure-no-log"}}},
		"new form, people": {func(t *testing.T) []string {
			return []string{"--yes", "--signing-config", b.config, "--trusted-root", b.root, "--identity-token", staff.token(t, nil)}
		}, true, ada, [][]string{{"--identity", "bob@example.com", "--issuer", staff.url}, {"--key", pub}}},
		"new form, key": {func(*testing.T) []string {
			return []string{"--yes", "--signing-config", b.config, "--trusted-root", b.root, "--key", key}
		}, true, []string{"--key", pub}, [][]string{{"--key", other}, ada}},
	} {
		t.Run(name, func(t *testing.T) {
			repo := p.Addr + "/team/" + strings.NewReplacer(",", "", " ", "-").Replace(name)
			b.run(t, "crane", "append", "-f", filepath.Join(b.home, "layer.tar"), "-t", repo+":v1")
			digest := strings.TrimSpace(b.run(t, "crane", "digest", repo+":v1"))
			image := repo + "@" + digest
			if tt.attest {
				b.run(t, "cosign", append(append([]string{"attest", image}, attest...), tt.sign(t)...)...)
				if tt.good != nil {
					verdict(t, 3, repo+":v1", "✗ signature", tt.good...) // an attestation is no signature
				}
			}
			b.run(t, "cosign", append([]string{"sign", image}, tt.sign(t)...)...)
			if tt.good != nil {
				verdict(t, 0, repo+":v1", "accepted", tt.good...)
				verdict(t, 3, repo+":v1", "the image carries no provenance", append([]string{"--any-source"}, tt.good...)...)
				demand := map[string]any{"signer": signerOf(t, tt.good), "attestations": []any{map[string]any{"predicateType": kind, "equals": map[string]string{"/result": "PASSED"}}}}
				verdict(t, 0, repo+":v1", "✓ attestation", "--policy", policyFile(t, demand))
				demand["attestations"] = []any{map[string]any{"predicateType": kind, "equals": map[string]string{"/result": "FAILED"}}}
				verdict(t, 3, repo+":v1", "✗ attestation", "--policy", policyFile(t, demand))
			}
			for _, args := range tt.bad {
				verdict(t, 3, repo+":v1", "✗ ", args...) // signature or log, as the case may be
			}
			// The signatures of one image, moved to another.
			b.run(t, "crane", "mutate", image, "--entrypoint", "/bin/false", "-t", repo+":v2")
			moved := strings.TrimSpace(b.run(t, "crane", "digest", repo+":v2"))
			if strings.HasPrefix(name, "old form") && tt.good != nil {
				b.run(t, "crane", "copy", repo+":"+strings.Replace(digest, ":", "-", 1)+".sig", repo+":"+strings.Replace(moved, ":", "-", 1)+".sig")
				verdict(t, 3, repo+":v2", "image of the signature", tt.good...)
			}
		})
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

// signerOf is the flags of a signer as a policy has them.
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
