package registry

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/verdicts"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/prooftest"
)

// ClusterImagePolicies decide what gets a tag and what is served. What would need a program or another
// registry is undecided: the registry of a platform starts none, and asks none.
func TestGateClusterImagePolicies(t *testing.T) {
	g := startGated(t, Config{})
	key := g.p.KeyHolder()
	key.Unlogged = true
	about := "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {name: team}\nspec:\n  images: [{glob: '" + g.host + "/team/*'}]\n  authorities:\n  - key:\n      data: |\n        " +
		strings.ReplaceAll(strings.TrimSpace(string(key.PublicKey())), "\n", "\n        ") + "\n"
	tell := func(text string) {
		t.Helper()
		l := verdicts.NewLoader(g.reg.Verdicts(), slog.New(slog.DiscardHandler), nil)
		l.WithClusterImagePolicies(&verdicts.ClusterImagePolicies{NoMatchPolicy: policy.DenyUnmatched, Alone: true})
		l.Tell(verdicts.TrustDocuments, []verdicts.Document{{Name: "root", Raw: g.p.Document()}})
		l.Tell(verdicts.PolicyDocuments, []verdicts.Document{{Name: "team", Raw: []byte(text)}})
		if _, problem := l.Ready(); problem != "" {
			t.Fatal(problem)
		}
	}
	g.use(others)
	s := prooftest.NewStore(t)
	s.Tar = []byte("signed as cosign does")
	image, _ := s.Image("cosigned")
	payload := bundle.SimpleSigning(g.host+"/team/app", image.Digest)
	s.Tagged(image, oci.CosignSignatures, s.Layer(payload, "application/vnd.dev.cosign.simplesigning.v1+json", key.Simple(payload)))
	s.Push(t.Context(), g.target("team/app"))
	tell(about)
	g.want(200, "GET", at("cosigned"), nil)
	g.denied("GET", at("bad"), "")
	g.denied("GET", at("v1.2.0"), "")
	if r := g.as("pusher").put("team/app", "again", g.bytesOf(image.Digest)); r.StatusCode != 201 {
		t.Errorf("a tag for what is signed: got %d %s", r.StatusCode, r.body)
	}
	if r := g.as("pusher").put("team/app", "not", g.bytesOf(g.bad.Digest)); r.StatusCode != 403 {
		t.Errorf("a tag for what is not: got %d %s", r.StatusCode, r.body)
	}
	for what, text := range map[string]string{
		"evaluated here": about + "  policy:\n    type: rego\n    data: |\n      package sigstore\n      isCompliant = true\n",
		"asked here":     about + "    source: [{oci: " + g.host + "/team/signatures}]\n",
	} {
		tell(text)
		if r := g.do("GET", at("cosigned"), nil); r.StatusCode != 503 || !strings.Contains(string(r.body), what) {
			t.Errorf("%s: got %d %s, want 503", what, r.StatusCode, r.body)
		}
	}
}
