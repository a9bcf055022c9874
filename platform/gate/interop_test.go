package gate_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/gate"
	"github.com/colophon-build/colophon/test/needs"
)

// program returns the path of another project's program: of out/bin, or of this machine.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../../out/bin", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if path, err = exec.LookPath(name); err != nil {
		needs.Missing(t, "%s is not there: %v", name, err)
	}
	return path
}

// TestStockClients: unmodified clients get the accepted image, and of the other one the reason.
func TestStockClients(t *testing.T) {
	for _, login := range []bool{false, true} {
		c := newScene(t, func(g *gate.Config) { g.AskClients = login })
		host := strings.TrimPrefix(c.url, "http://")
		good, bad, dir := host+"/team/app:v1.2.0", host+"/team/app:bad", shortDir(t)
		byDigest := host + "/team/app@" + c.good.Digest.String()
		auth := filepath.Join(dir, "config.json")
		if err := os.WriteFile(auth, []byte(`{"auths":{"`+host+`":{"auth":"YWRhOnNlY3JldA=="}}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		conf := filepath.Join(dir, "registries.conf")
		if err := os.WriteFile(conf, []byte("[[registry]]\nprefix = \"shop.example.com\"\nlocation = \""+host+"\"\ninsecure = true\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		mirrors := filepath.Join(dir, "mirrors.conf")
		if err := os.WriteFile(mirrors, []byte("[[registry]]\nlocation = \""+c.host+"\"\ninsecure = true\n[[registry.mirror]]\nlocation = \""+host+"\"\ninsecure = true\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		policyFile := filepath.Join(dir, "policy.json")
		if err := os.WriteFile(policyFile, []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`), 0o600); err != nil {
			t.Fatal(err)
		}
		podman := func(args ...string) []string {
			return append([]string{"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--storage-driver", "vfs"}, append(args[:1:1], append([]string{"--signature-policy", policyFile}, args[1:]...)...)...)
		}
		for _, one := range []struct {
			name   string
			args   []string
			reason string // empty: it must work
		}{
			{"crane", []string{"manifest", good}, ""},
			{"crane", []string{"pull", "--format=oci", good, filepath.Join(dir, "crane")}, ""},
			{"crane", []string{"pull", "--format=oci", byDigest, filepath.Join(dir, "crane2")}, ""},
			{"crane", []string{"pull", bad, filepath.Join(dir, "bad.tar")}, "the image carries no signature"},
			{"regctl", []string{"--host", "reg=" + host + ",tls=disabled", "manifest", "get", good}, ""},
			{"regctl", []string{"--host", "reg=" + host + ",tls=disabled", "artifact", "list", good}, ""},
			{"oras", []string{"discover", "--plain-http", good}, ""},
			{"skopeo", []string{"--policy", policyFile, "copy", "--all", "--src-tls-verify=false", "--authfile", auth, "docker://" + good, "oci:" + filepath.Join(dir, "skopeo")}, ""},
			{"skopeo", []string{"--policy", policyFile, "copy", "--all", "--src-tls-verify=false", "--authfile", auth, "docker://" + bad, "oci:" + filepath.Join(dir, "skopeo2")}, "the image carries no signature"},
			{"skopeo", []string{"--registries-conf", conf, "inspect", "--raw", "--authfile", auth, "docker://shop.example.com/team/app:v1.2.0"}, ""},
			{"skopeo", []string{"--registries-conf", conf, "inspect", "--raw", "--authfile", auth, "docker://shop.example.com/team/app:bad"}, "the image carries no signature"},
			// docs/gate.md says that a mirror which refuses lets clients around the gate.
			{"skopeo", []string{"--registries-conf", mirrors, "inspect", "--raw", "--tls-verify=false", "--authfile", auth, "docker://" + c.host + "/team/app:bad"}, ""},
			{"podman", podman("pull", "shop.example.com/team/app:bad"), "the image carries no signature"},
		} {
			t.Run(one.name, func(t *testing.T) {
				cmd := exec.Command(program(t, one.name), one.args...)
				cmd.Env, cmd.Dir = append(os.Environ(), "DOCKER_CONFIG="+dir, "HOME="+dir, "REGISTRY_AUTH_FILE="+auth, "CONTAINERS_REGISTRIES_CONF="+conf), dir
				out, err := cmd.CombinedOutput()
				if (err == nil) != (one.reason == "") || !strings.Contains(string(out), one.reason) {
					t.Errorf("%s: got %v\n%s\nwant %q", strings.Join(one.args, " "), err, out, one.reason)
				}
			})
		}
	}
}

// TestStockAttachments: stock cosign, regctl and oras find through the gate what they attached behind it. A file
// that is no proof is judged like an image.
func TestStockAttachments(t *testing.T) {
	c, dir := newScene(t, nil), t.TempDir()
	through := strings.TrimPrefix(c.url, "http://")
	image := "/team/app@" + c.good.Digest.String()
	run := func(name string, args ...string) (string, error) {
		cmd := exec.Command(program(t, name), args...)
		cmd.Env, cmd.Dir = append(os.Environ(), "DOCKER_CONFIG="+dir, "HOME="+dir, "COSIGN_PASSWORD=", "TUF_ROOT="+dir), dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	must := func(name string, args ...string) string {
		t.Helper()
		out, err := run(name, args...)
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return out
	}
	must("cosign2", "generate-key-pair")
	must("cosign2", "sign", "--yes", "--tlog-upload=false", "--key=cosign.key", "--allow-insecure-registry", c.host+image)
	if out := must("cosign2", "download", "signature", "--allow-insecure-registry", through+image); !strings.Contains(out, "Base64Signature") {
		t.Errorf("no signature: %s", out)
	}
	// Whoever verifies it need not fetch what cosign signed.
	signature := c.parts(c.want(200, "", manifests(oci.CosignSignatures.Of(c.good.Digest))).body)
	guess := bundle.SimpleSigning(c.host+"/team/app", c.good.Digest)
	if sum, n, err := v1.SHA256(bytes.NewReader(guess)); err != nil || len(signature.Layers) != 1 || signature.Layers[0].Digest != sum || signature.Layers[0].Size != n {
		t.Errorf("cosign signs another payload than %s", guess)
	}
	// An attestation and an SBOM under cosign's tags, and a referrer that regctl pushed.
	for name, content := range map[string]string{"predicate.json": `{"tests":"passed"}`, "app.spdx.json": spdx} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	must("cosign2", "attest", "--yes", "--tlog-upload=false", "--key=cosign.key", "--allow-insecure-registry", "--type=https://example.com/tests", "--predicate=predicate.json", c.host+image)
	if out := must("cosign2", "download", "attestation", "--allow-insecure-registry", through+image); !strings.Contains(out, "payloadType") {
		t.Errorf("no attestation: %s", out)
	}
	must("cosign2", "attach", "sbom", "--allow-insecure-registry", "--sbom=app.spdx.json", c.host+image)
	if out := must("cosign2", "download", "sbom", "--allow-insecure-registry", through+image); !strings.Contains(out, "SPDX-2.3") {
		t.Errorf("no SBOM: %s", out)
	}
	insecure := func(host string) string { return "reg=" + host + ",tls=disabled" }
	referrer := strings.TrimSpace(must("regctl", "--host", insecure(c.host), "artifact", "put", "--format={{.Manifest.GetDescriptor.Digest}}", "--artifact-type=application/vnd.example.sbom", "--file-media-type=application/spdx+json", "--file=app.spdx.json", "--subject="+c.host+image))
	if out := must("regctl", "--host", insecure(through), "artifact", "get", through+"/team/app@"+referrer); !strings.Contains(out, "SPDX-2.3") {
		t.Errorf("no referrer: %s", out)
	}
	for name, content := range map[string]string{"sbom.json": spdx, "run.sh": "#!/bin/sh\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		said := must("oras", "attach", "--plain-http", "--format=json", "--artifact-type=application/vnd.example", c.host+image, name+":application/json")
		var attached struct{ Digest string }
		if err := json.Unmarshal([]byte(said), &attached); err != nil {
			t.Fatalf("%v in %s", err, said)
		}
		out, err := run("oras", "pull", "--plain-http", "--output="+filepath.Join(dir, "out"), through+"/team/app@"+attached.Digest)
		if served := err == nil; served != (name == "sbom.json") {
			t.Errorf("%s: served %v\n%s", name, served, out)
		}
	}
}

// shortDir is t.TempDir with a short name: podman refuses a --runroot of more than 50 characters.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
