package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/test/prooftest"
)

// clusterPolicy is a ClusterImagePolicy about every image, with authorities.
func clusterPolicy(name, authorities string) string {
	return "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {name: " + name + "}\nspec:\n  images: [{glob: '**'}]\n  authorities:\n" + authorities
}

func clusterKey(h *prooftest.Holder) string {
	return "  - key:\n      data: |\n        " + strings.ReplaceAll(strings.TrimSpace(string(h.PublicKey())), "\n", "\n        ") + "\n"
}

// TestClusterImagePolicies: the commands read them, alone and beside ours in one file.
func TestClusterImagePolicies(t *testing.T) {
	var ours, theirs *prooftest.Holder
	s := stageWith(t, func(p *prooftest.Platform, store *prooftest.Store, _ *prooftest.Release) {
		ours, theirs = p.KeyHolder(), p.KeyHolder()
		for tag, h := range map[string]*prooftest.Holder{"ours": ours, "theirs": theirs} {
			h.Unlogged = true
			image := neighbour(t, store, tag)
			payload := []byte(`{"critical":{"identity":{"docker-reference":"r.example.com/team/app"},"image":{"docker-manifest-digest":"` + image.Digest.String() + `"},"type":"cosign container image signature"},"optional":null}`)
			store.Tagged(image, "sig", store.Layer(payload, attest.SimpleSigningMediaType, h.Simple(payload)))
		}
		neighbour(t, store, "unsigned")
	})
	repo := s.host + "/team/app:"
	policy := s.file("cip.yaml", []byte(clusterPolicy("signed", clusterKey(ours))))
	s.run(exitOK, []string{"policy", "test", policy, repo + "ours"}, "1 accepted")
	s.run(exitRejected, []string{"policy", "test", policy, repo + "theirs", repo + "unsigned"}, `rule "signed" of policy "ClusterImagePolicy": rejected: authority "authority-0": the image has no signature of the image by this authority`, "2 rejected")
	s.run(exitOK, []string{"policy", "explain", repo + "ours", "--policy", policy}, `rule "signed" of policy "ClusterImagePolicy": accepted, mode enforce`)
	s.run(exitOK, []string{"verify", repo + "ours", "--policy", policy}, "✓ image", "✓ rule", "accepted")
	s.run(exitRejected, []string{"verify", repo + "theirs", "--policy", policy}, "✗ rule", "rejected")
	s.run(exitRejected, []string{"verify", repo + "ours", repo + "theirs", "--policy", policy}, "has no signature of the image")

	s.run(exitOK, []string{"copy", repo + "ours", filepath.Join(t.TempDir(), "layout"), "--policy", policy})
	s.run(exitRejected, []string{"copy", repo + "theirs", filepath.Join(t.TempDir(), "layout"), "--policy", policy}, "has no signature of the image")

	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.TrustedRoot()), "--yes", "--issuer", "https://accounts.example.com"})

	// All policies about an image must be satisfied, whoever's they are.
	mixed := s.file("mixed.yaml", []byte(clusterPolicy("signed", clusterKey(ours))+"---\n"+strings.Replace(goodPolicy, "reg.example.com/team/**", "**", 1)))
	s.run(exitRejected, []string{"policy", "test", mixed, repo + "ours"}, `rule "app" of policy "shop"`)
	both := s.file("both.yaml", []byte(clusterPolicy("signed", clusterKey(ours))+"---\n"+strings.Replace(clusterPolicy("second", clusterKey(theirs)), "spec:", "spec:\n  mode: warn", 1)))
	s.run(exitOK, []string{"policy", "test", both, repo + "ours"}, "warning: rule \"second\"")
	s.run(exitRejected, []string{"policy", "diff", policy, mixed, repo + "ours"}, "newly rejected")

	// What nobody can answer here is undecided.
	secret := s.file("secret.yaml", []byte(clusterPolicy("signed", "  - key: {secretRef: {name: signing}}\n")))
	s.run(exitUndecided, []string{"policy", "test", secret, repo + "ours"}, "the key is in the secret signing")

	s.run(exitOK, []string{"policy", "check", policy}, "note: rule \"signed\": dangerous: a signature without a transparency log entry is accepted", "0 faults")
	s.run(exitRejected, []string{"policy", "check", secret}, "every image is undecided: the key is in the secret signing")
	broken := s.file("broken.yaml", []byte(strings.Replace(clusterPolicy("signed", clusterKey(ours)), "authorities:", "authority:", 1)))
	for _, args := range [][]string{{"policy", "check", broken}, {"policy", "test", broken, repo + "ours"}, {"verify", repo + "ours", "--policy", broken}} {
		s.run(exitUsage, args, broken+":6:3: ", `there is no member "authority"; did you mean "authorities"?`)
	}
	s.run(exitUsage, []string{"policy", "test", s.file("none.yaml", []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n")), repo + "ours"}, "the file has no policy")
}
