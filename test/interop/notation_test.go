package interop

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/digitorus/timestamp"
	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/prooftest"
)

// notary is a stock notation with a home of its own, beside a registry.
type notary struct {
	t         *testing.T
	home, bin string
	repo      string // in the registry
	tsa       string // URL of a timestamp authority
	clock     *prooftest.Notary
}

// newNotary starts the registry, with images that nobody signed, and the timestamp authority.
func newNotary(t *testing.T, tags ...string) *notary {
	bin := harness.Bin(t, "notation")
	srv := httptest.NewServer(registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(srv.Close)
	n := &notary{t: t, home: t.TempDir(), bin: bin, clock: prooftest.NewNotary(t, "clock")}
	n.repo = strings.Replace(strings.TrimPrefix(srv.URL, "http://"), "127.0.0.1", "localhost", 1) + "/team/app" // notation speaks http to no other name
	store := prooftest.NewStore(t)
	for _, tag := range tags {
		store.Tar = []byte("the image " + tag)
		store.Image(tag)
	}
	dst, err := oci.OpenRegistry(n.repo, oci.RegistryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	store.Push(context.Background(), dst)
	tsa := httptest.NewServer(http.HandlerFunc(n.stamp))
	t.Cleanup(tsa.Close)
	n.tsa = tsa.URL
	return n
}

// stamp answers a timestamp query (RFC 3161).
func (n *notary) stamp(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	query, err := timestamp.ParseRequest(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	raw, err := n.clock.Stamper().Answer(query)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/timestamp-reply")
	_, _ = w.Write(raw)
}

func (n *notary) write(name string, content []byte) string {
	n.t.Helper()
	path := filepath.Join(n.home, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		n.t.Fatal(err)
	}
	return path
}

// exec runs a program and returns its exit code and output.
func (n *notary) exec(bin string, args ...string) (int, string) {
	n.t.Helper()
	cmd := exec.CommandContext(n.t.Context(), bin, args...)
	cmd.Env = []string{"HOME=" + n.home, "XDG_CONFIG_HOME=" + n.home, "COLOPHON_TRUST=" + filepath.Join(n.home, "trust"), "PATH=" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		n.t.Fatalf("%s %v: %v", bin, args, err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// sign lets notation sign an image.
func (n *notary) sign(tag string, by *prooftest.NotarySigner, args ...string) {
	n.t.Helper()
	key, chain := n.write("key.pem", by.PrivateKey()), n.write("chain.pem", []byte(prooftest.PEM(by.Chain...)))
	keys, err := json.Marshal(map[string]any{"default": "k", "keys": []map[string]string{{"name": "k", "keyPath": key, "certPath": chain}}})
	if err != nil {
		n.t.Fatal(err)
	}
	n.write("notation/signingkeys.json", keys)
	if code, out := n.exec(n.bin, append([]string{"sign", n.repo + ":" + tag}, args...)...); code != 0 {
		n.t.Fatalf("notation sign: %s", out)
	}
}

// TestNotationSigns: stock notation signs in both formats; notation and colophon, with the same
// trust store, trust policy and images, give the same answers.
func TestNotationSigns(t *testing.T) {
	acme, other := prooftest.NewNotary(t, "acme root"), prooftest.NewNotary(t, "acme root")
	n := newNotary(t, "jws", "cose", "expires", "stamped", "old", "other-root", "other-subject", "unsigned")
	n.sign("jws", acme.Signer())
	n.sign("cose", acme.Signer(), "--signature-format", "cose")
	n.sign("expires", acme.Signer(), "--expiry", "24h", "--user-metadata", "build=7")
	n.sign("stamped", acme.Signer(), "--timestamp-url", n.tsa, "--timestamp-root-cert", n.write("clock.pem", []byte(prooftest.PEM(n.clock.Root))))
	soon := acme.Signer(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(2 * time.Second) })
	n.sign("old", soon)
	n.sign("other-root", other.Signer())
	n.sign("other-subject", acme.Signer(func(c *x509.Certificate) { c.Subject.Organization = []string{"acme evil"} }))
	time.Sleep(time.Until(soon.Chain[0].NotAfter) + time.Second)

	n.write("notation/truststore/x509/ca/acme/root.pem", []byte(prooftest.PEM(acme.Root)))
	n.write("notation/truststore/x509/tsa/clock/root.pem", []byte(prooftest.PEM(n.clock.Root)))
	for _, stores := range [][]string{{"ca:acme"}, {"ca:acme", "tsa:clock"}} {
		policy, err := json.Marshal(map[string]any{"version": "1.0", "trustPolicies": []map[string]any{{
			"name": "acme", "registryScopes": []string{"*"}, "signatureVerification": map[string]string{"level": "strict"}, "trustStores": stores, "trustedIdentities": []string{"x509.subject: C=US, ST=WA, O=acme"},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		n.write("notation/trustpolicy.json", policy)
		indented := strings.ReplaceAll(strings.TrimSpace(prooftest.PEM(acme.Root)), "\n", "\n                ")
		document := "apiVersion: colophon.build/v1\nkind: ImagePolicy\nmetadata: {name: acme}\nspec:\n  unmatched: deny\n  rules:\n    - name: acme\n      images: [{glob: '**'}]\n      accept:\n        - notation:\n            trustStores:\n              ca: |\n                " + indented + "\n"
		if len(stores) > 1 {
			document += "              tsa: |\n                " + strings.ReplaceAll(strings.TrimSpace(prooftest.PEM(n.clock.Root)), "\n", "\n                ") + "\n"
		}
		document += "            trustedIdentities:\n              subjects: [{C: US, ST: WA, O: acme}]\n"
		file := n.write("policy.yaml", []byte(document))
		for _, tag := range []string{"jws", "cose", "expires", "stamped", "old", "other-root", "other-subject", "unsigned"} {
			theirs, said := n.exec(n.bin, "verify", n.repo+":"+tag)
			ours, says := n.exec(harness.Bin(t, "colophon"), "verify", n.repo+":"+tag, "--policy", file)
			t.Logf("%v %s: notation %d, colophon %d", stores, tag, theirs, ours)
			if (theirs == 0) != (ours == 0) || ours != 0 && ours != 3 {
				t.Errorf("%v %s: notation: %d, colophon: %d\n%s\n%s", stores, tag, theirs, ours, said, says)
			}
			want := map[string]bool{"stamped": true, "jws": len(stores) == 1, "cose": len(stores) == 1, "expires": len(stores) == 1}[tag]
			if (ours == 0) != want {
				t.Errorf("%v %s: accepted: got %v, want %v\n%s", stores, tag, ours == 0, want, says)
			}
		}
	}
	if code, out := n.exec(harness.Bin(t, "colophon"), "policy", "init", n.repo+":cose", "--notation-ca", n.write("root.pem", []byte(prooftest.PEM(acme.Root)))); code != 0 || !strings.Contains(out, "O: acme") {
		t.Errorf("policy init: got %d\n%s", code, out)
	}
}
