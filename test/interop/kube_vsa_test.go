package interop

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/test/harness"
)

// TestKubeVSA signs what the policies of a cluster decide about the images of a pod. Stock cosign
// accepts the summary, and jq computes the digest of the policies as docs/kubernetes.md says. A
// script stands in for kubectl: test/kube has the real one, and no platform.
func TestKubeVSA(t *testing.T) {
	p := harness.Start(t)
	p.Trust()
	b := &bench{Platform: p, t: t, home: t.TempDir(), docker: p.DockerConfig(), image: p.Addr + "/team/app:v1.0.0"}
	out, err := p.Colophon(t.Context(), "release", harness.GoRepo(t), "--ref", "v1.0.0", "--image", p.Addr+"/team/app", "--json").Output()
	if err != nil {
		t.Fatalf("release: %v", err)
	}
	var r api.Release
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	b.root = filepath.Join(b.home, "trusted_root.json")
	write := func(path string, content []byte, mode os.FileMode) string {
		t.Helper()
		if err := os.WriteFile(path, content, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write(b.root, p.Get("/trusted_root.json"), 0o600)
	dir := t.TempDir()
	object := func(name string, v any) {
		t.Helper()
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		write(filepath.Join(dir, name), raw, 0o600)
	}
	type m = map[string]any
	policy := func(kind, namespace, name, source string) m {
		meta := m{"name": name, "uid": "4711", "resourceVersion": "12"}
		if namespace != "" {
			meta["namespace"] = namespace
		}
		return m{"apiVersion": "colophon.build/v1", "kind": kind, "metadata": meta, "status": m{"conditions": []any{}}, "spec": m{"unmatched": "allow", "rules": []m{{
			"name": "app", "images": []m{{"glob": p.Addr + "/team/**"}}, "accept": []m{{"built": m{"source": source}}},
			"conditions": []m{{"expression": "1 < 2 && 'ü' != ''", "message": "<&>"}}}}}}
	}
	policies := func(source string) {
		object("policies", m{"kind": "List", "items": []any{policy("NamespacedImagePolicy", "elsewhere", "b", "https://git.example.com/x"), policy("ImagePolicy", "", "a", source)}})
	}
	policies(r.Source.URI)
	object("roots", m{"kind": "List", "items": []m{{"kind": "TrustRoot", "metadata": m{"name": "p"}, "spec": m{"document": string(p.Get("/.well-known/colophon.json"))}}}})
	object("pod", m{"apiVersion": "v1", "kind": "Pod", "metadata": m{"name": "web", "namespace": "shop"}, "spec": m{"containers": []m{{"name": "a", "image": p.Addr + "/team/app@" + r.Digest}}}})
	issuers := ""
	config := func(text string) {
		object("config", m{"kind": "List", "items": []m{{"metadata": m{"name": "colophon-admission", "namespace": "colophon"}, "data": m{"admission.yaml": text, "issuers.json": issuers}}}})
	}
	config("exempt: [kube-system]\n")
	write(filepath.Join(dir, "kubectl"), []byte("#!/bin/sh\ncase \"$*\" in *pod/web*) cat "+dir+"/pod;; *clusterimagepolicies*) echo '{\"items\":[]}';; *imagepolicies*) cat "+dir+"/policies;; *trustroots*) cat "+dir+"/roots;; *ValidatingWebhookConfiguration*) echo '{\"webhooks\":[{\"clientConfig\":{\"service\":{\"namespace\":\"colophon\"}}}]}';; *configmaps*) cat "+dir+"/config;; *) exit 1;; esac\n"), 0o700)

	key, public := keyPair(t)
	to := filepath.Join(dir, "summaries")
	file := filepath.Join(to, strings.TrimPrefix(r.Digest, "sha256:")+".vsa.json")
	vsa := func(code int, words string) {
		t.Helper()
		cmd := p.Colophon(t.Context(), "kube", "vsa", "web", "-n", "shop", "--to", to, "--verifier", "https://verifier.example.com/cluster", "--sign-key", key)
		cmd.Env = append(p.Env(), "PATH="+dir+":"+os.Getenv("PATH"))
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != code || !strings.Contains(string(out), words) {
			t.Fatalf("kube vsa: got exit code %d, want %d and %q\n%s", cmd.ProcessState.ExitCode(), code, words, out)
		}
	}
	signed := func(result string) {
		t.Helper()
		b.run(t, "cosign", "verify-blob-attestation", "--bundle", file, "--trusted-root", b.root, "--type", vsaType, "--key", public,
			"--digest", strings.TrimPrefix(r.Digest, "sha256:"), "--digestAlg", "sha256")
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var bundle struct {
			Envelope struct{ Payload []byte } `json:"dsseEnvelope"`
		}
		var statement struct {
			Predicate struct {
				VerificationResult string
				Policy             struct{ Digest map[string]string }
			}
		}
		if err := json.Unmarshal(raw, &bundle); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(bundle.Envelope.Payload, &statement); err != nil {
			t.Fatal(err)
		}
		lines, err := exec.Command("sh", "-c", `jq -cS '.items[] | {apiVersion, kind, metadata: (.metadata | {name, namespace} | with_entries(select(.value))), spec}' `+dir+`/policies | LC_ALL=C sort`).Output()
		if err != nil {
			t.Fatalf("jq: %v", err)
		}
		sum := sha256.Sum256(lines)
		if got := statement.Predicate; got.VerificationResult != result || got.Policy.Digest["sha256"] != hex.EncodeToString(sum[:]) {
			t.Errorf("got the summary %+v, want %s by the policies %x:\n%s", got, result, sum, lines)
		}
	}
	vsa(0, "accepted")
	signed("PASSED")
	policies("https://git.example.com/another")
	vsa(3, "rejected")
	signed("FAILED")
	for text, words := range map[string]string{"": "cannot be read", "clusterImagePolicies: {noMatchPolicy: allow}\n": "cannot name them"} {
		config(text)
		vsa(1, words)
	}

	policies(r.Source.URI)
	vsaByLists(t, p, dir, to, r.Source.ID, func(list string) {
		issuers = list
		config("distrust: {issuers: /etc/colophon/issuers.json, dir: /var/lib/colophon/lists}\n")
	}, vsa, signed)
	config("exempt: [kube-system]\n")
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	object("pod", m{"apiVersion": "v1", "kind": "Pod", "metadata": m{"name": "web", "namespace": "shop"}, "spec": m{"containers": []m{{"name": "a", "image": p.Addr + "/team/app@sha256:" + strings.Repeat("0", 64)}}}})
	vsa(4, "no summary")
	if all, _ := os.ReadDir(to); len(all) != 0 {
		t.Errorf("an undecided image left %v", all)
	}
}

// vsaByLists: what the cluster trusts no longer is rejected here too; if its lists cannot be read, nothing is
// signed. counts has the cluster's admission read the lists of issuers; vsa asks for summaries in to, and
// signed reads one.
func vsaByLists(t *testing.T, p *harness.Platform, dir, to, commit string, counts func(issuers string), vsa func(code int, words string), signed func(result string)) {
	t.Helper()
	tell := func(args ...string) {
		t.Helper()
		cmd := p.Colophon(t.Context(), args...)
		cmd.Env = append(cmd.Env, "COLOPHON_PLATFORM="+filepath.Join(p.Data, "admin.json"), "COLOPHON_TRUST="+filepath.Join(dir, "trust"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	key := filepath.Join(dir, "distrust.pub")
	if err := os.WriteFile(key, p.Get("/distrust/key"), 0o600); err != nil {
		t.Fatal(err)
	}
	tell("distrust", "issuer", "add", "shop", p.URL+"/distrust", "--key", key, "--insecure-no-log")
	raw, err := os.ReadFile(filepath.Join(dir, "trust", "distrust", "issuers.json"))
	if err != nil {
		t.Fatal(err)
	}
	issuers := string(raw)
	counts(issuers)
	vsa(0, "accepted")
	tell("distrust", "add", "--commit", commit, "--reason", "pushed with a stolen token")
	vsa(3, "rejected")
	signed("FAILED")
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{"a list elsewhere": "", "a list that is a file": strings.Replace(issuers, p.URL+"/distrust", "/etc/hosts", 1), "a server that has none": strings.Replace(issuers, "/distrust\"", "/none\"", 1)} {
		if text == issuers {
			t.Fatalf("%s: the issuers did not change", what)
		}
		counts(text)
		vsa(4, "lists of what is no longer trusted count in this cluster")
	}
	if all, _ := os.ReadDir(to); len(all) != 0 {
		t.Errorf("without the lists, there is a summary: %v", all)
	}
}
