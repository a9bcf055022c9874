package interop

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/tlog"
)

// TestArchive: of each entry that a release logs, the archive has the statement; also after
// an admin deleted it from the registry, after kill -9, and if the image is in another
// registry. Stock cosign's signatures and attestations are kept too.
func TestArchive(t *testing.T) {
	p := harness.Start(t, "--config", harness.Config(t, nil))
	p.Trust()
	repo := harness.GoRepo(t)
	colophon := func(code int, args ...string) string {
		t.Helper()
		cmd := p.Colophon(t.Context(), args...)
		var errs strings.Builder
		cmd.Stderr = &errs
		out, _ := cmd.Output()
		if got := cmd.ProcessState.ExitCode(); got != code {
			t.Fatalf("%v: got exit code %d, want %d\n%s%s", args, got, code, out, &errs)
		}
		return string(out)
	}
	release := func(image string) (r api.Release) {
		t.Helper()
		if err := json.Unmarshal([]byte(colophon(0, "release", repo, "--ref", "v1.0.0", "--image", image, "--json")), &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	// everything gets each entry of the log, and returns how often each type was signed
	// about the digest.
	everything := func(digest string) map[string]int {
		t.Helper()
		types := map[string]int{}
		for i := range p.Checkpoint().Size {
			var g struct {
				Index         int64
				About         []string
				PredicateType string
				Invalid       string
				Digest        string
			}
			out := colophon(0, "log", "get", fmt.Sprint(i), "--json")
			if err := json.Unmarshal([]byte(out), &g); err != nil || g.Index != i || g.Invalid != "" {
				t.Fatalf("entry %d: got %s, %v", i, out, err)
			}
			if len(g.About) == 1 && g.About[0] == digest {
				types[g.PredicateType]++
			}
		}
		return types
	}
	r := release(p.Addr + "/team/app")
	want := map[string]int{"https://slsa.dev/provenance/v1": 1, "https://spdx.dev/Document": 1, "https://cyclonedx.org/bom": 1, "https://sigstore.dev/cosign/sign/v1": 1, "": 1}
	complete := func(digest string, times int) {
		t.Helper()
		got := everything(digest)
		for kind, n := range want {
			if got[kind] != n*times {
				t.Errorf("%s: got %d of %s, want %d", digest, got[kind], kind, n*times)
			}
		}
	}
	complete(r.Digest, 1)
	// The entries of a batch may come in any order: the plain signature may be entry 0.
	plain := foundByDigest(t, p, r.Digest)
	statement := fmt.Sprint((plain + 1) % p.Checkpoint().Size)
	if out := colophon(0, "log", "get", statement, "--statement"); !json.Valid([]byte(out)) || !strings.Contains(out, "in-toto.io/Statement") {
		t.Errorf("got %s, want a statement", out)
	}

	// Of the image's digest there is an entry that stock clients compute from the digest, and
	// verify as a plain signature of the manifest.
	dir := t.TempDir()
	proof, manifest, root := filepath.Join(dir, "bundle.json"), filepath.Join(dir, "manifest.json"), filepath.Join(dir, "root.json")
	for path, data := range map[string][]byte{
		proof: []byte(colophon(0, "log", "get", fmt.Sprint(plain), "--raw")), manifest: p.Get("/v2/team/app/manifests/" + r.Digest), root: p.Get("/trusted_root.json"),
	} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cosign := func(identity string) ([]byte, error) {
		return exec.CommandContext(t.Context(), harness.Bin(t, "cosign"), "verify-blob", "--bundle", proof, "--trusted-root", root, "--use-signed-timestamps",
			"--certificate-identity", identity, "--certificate-oidc-issuer", p.URL, manifest).CombinedOutput()
	}
	if out, err := cosign(r.Builder); err != nil {
		t.Errorf("cosign verify-blob: %v\n%s", err, out)
	}
	if out, err := cosign(r.Builder + "x"); err == nil {
		t.Errorf("cosign verify-blob, another signer: accepted\n%s", out)
	}

	// An admin deletes all that is attached.
	deleteReferrers(t, p, "team/app", r.Digest)
	if left := p.Referrers("team/app", r.Digest); len(left) != 0 {
		t.Fatalf("the registry still has %v", left)
	}
	complete(r.Digest, 1)
	if out := colophon(0, "log", "get", r.Digest); strings.Count(out, "about      "+r.Digest) < len(want) {
		t.Errorf("about the image: got %s", out)
	}
	p.Kill()
	p.Up()
	complete(r.Digest, 1)

	// In another registry.
	other := httptest.NewServer(registry.New(registry.WithReferrersSupport(true)))
	t.Cleanup(other.Close)
	host := strings.TrimPrefix(other.URL, "http://")
	before := p.Checkpoint().Size
	elsewhere := release(host + "/team/app")
	if after := p.Checkpoint().Size; after < before+int64(len(want)) {
		t.Fatalf("the release logged %d entries", after-before)
	}
	if elsewhere.Digest != r.Digest {
		t.Fatalf("the same build gave %s and %s", r.Digest, elsewhere.Digest)
	}
	complete(r.Digest, 2)

	if out, err := exec.CommandContext(t.Context(), harness.Bin(t, "colophond"), "scrub", "--data", p.Data).CombinedOutput(); err != nil || !strings.Contains(string(out), "archived evidence: ") {
		t.Errorf("scrub: %v\n%s", err, out)
	}
}

// foundByDigest returns the index of the only entry of the log whose data is the digest.
func foundByDigest(t *testing.T, p *harness.Platform, digest string) int64 {
	t.Helper()
	sum, err := hex.DecodeString(strings.TrimPrefix(digest, "sha256:"))
	if err != nil {
		t.Fatal(err)
	}
	cp, found := p.Checkpoint(), []int64{}
	for i := range cp.Size {
		entry, _, err := tlog.Entry(t.Context(), tlog.HTTP{URL: p.URL + "/api/v2"}, cp, i)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(entry), `"data":{"algorithm":"SHA2_256","digest":"`+base64.StdEncoding.EncodeToString(sum)+`"}`) {
			found = append(found, i)
		}
	}
	if len(found) != 1 {
		t.Fatalf("got entries %v of the digest, want one", found)
	}
	return found[0]
}

// deleteReferrers deletes all manifests that are attached to a digest.
func deleteReferrers(t *testing.T, p *harness.Platform, name, digest string) {
	t.Helper()
	var index struct{ Manifests []struct{ Digest string } }
	if err := json.Unmarshal(p.Get("/v2/"+name+"/referrers/"+digest), &index); err != nil {
		t.Fatal(err)
	}
	token := p.Token("admin.json")
	for _, m := range index.Manifests {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, p.URL+"/v2/"+name+"/manifests/"+m.Digest, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusAccepted {
			t.Fatalf("DELETE %s: %s", m.Digest, resp.Status)
		}
	}
}
