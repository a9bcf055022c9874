package verify_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/verify"
)

// built makes the release one of this recipe, which is what the attestor writes for it.
func (c *scene) built(recipe string, byDefault *attest.DefaultRecipe) {
	c.r.Parameters.Recipe, c.r.Parameters.Default = json.RawMessage(recipe), byDefault
}

func declaredFor(image string) *attest.DefaultRecipe {
	return &attest.DefaultRecipe{
		Recipe: attest.Recipe{Builder: attest.BuildKit, Dockerfile: "deploy/Dockerfile", Target: "final"},
		File:   ".colophon.yaml", Digest: "sha256:" + strings.Repeat("ab", 32), Image: image,
	}
}

// TestChosenRecipe: everything is properly signed for the right commit and tag, and the
// holder of a release token chose what was built. Nobody who did not ask for it accepts it.
func TestChosenRecipe(t *testing.T) {
	plain := &attest.DefaultRecipe{Recipe: attest.Recipe{Builder: attest.BuildKit, Dockerfile: "Dockerfile"}}
	for name, tt := range map[string]struct {
		recipe    string
		byDefault *attest.DefaultRecipe
		chosen    string
		demand    policy.DocumentRecipe
	}{
		"target":         {`{"builder":"buildkit","dockerfile":"Dockerfile","target":"backdoor"}`, plain, "target backdoor", policy.DocumentRecipe{Target: &policy.DocumentValue{Exact: "backdoor"}}},
		"build argument": {`{"builder":"buildkit","buildArgs":{"BASE":"evil"}}`, plain, "build argument BASE=evil", policy.DocumentRecipe{BuildArgs: map[string]policy.DocumentValue{"BASE": {Pattern: "evil|good"}}}},
		"Dockerfile":     {`{"builder":"buildkit","dockerfile":"test/Dockerfile"}`, plain, "dockerfile test/Dockerfile", policy.DocumentRecipe{Dockerfile: &policy.DocumentValue{Exact: "test/Dockerfile"}}},
		"on top of what the commit declares": {`{"builder":"buildkit","dockerfile":"deploy/Dockerfile","target":"debug"}`, declaredFor("app"), "target debug",
			policy.DocumentRecipe{Target: &policy.DocumentValue{Exact: "debug"}}},
		"the top, though the commit declares another": {`{"builder":"buildkit"}`, declaredFor(""), "dockerfile Dockerfile, no target",
			policy.DocumentRecipe{Target: &policy.DocumentValue{}, Dockerfile: &policy.DocumentValue{Exact: "Dockerfile"}}},
		"a commit without a default": {`{"builder":"buildkit","dockerfile":"Dockerfile"}`, nil, "dockerfile Dockerfile", policy.DocumentRecipe{Dockerfile: &policy.DocumentValue{Exact: "Dockerfile"}}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newScene(t)
			c.built(tt.recipe, tt.byDefault)
			c.r.Attach(prooftest.Kinds...)
			c.want(verify.Rejected, verify.LinkProvenance, verify.Broken, "recipe: the requester of the build chose", tt.chosen)
			if v := c.verdict(); !strings.Contains(v.Hint, "if that is the recipe that you expect") || v.Facts != nil && v.Facts.Build != nil {
				t.Errorf("got hint %q, facts %+v", v.Hint, v.Facts)
			}
			c.wants.Recipe = &tt.demand
			c.want(verify.Accepted, verify.LinkProvenance, verify.Holds, "; the requester chose ", tt.chosen)
			c.wants.Recipe, c.wants.AnyRecipe = nil, true
			c.want(verify.Accepted, verify.LinkProvenance, verify.Holds, "; the requester chose ", tt.chosen)
			if v := c.verdict(); len(v.Dangers) != 1 || v.Facts.Build.Recipe == nil {
				t.Errorf("got dangers %q, facts %+v", v.Dangers, v.Facts.Build)
			}
		})
	}
}

// TestDeclaredRecipe: what the commit declares needs no demand, for the image that it
// names, and the claim says so.
func TestDeclaredRecipe(t *testing.T) {
	const recipe = `{"builder":"buildkit","dockerfile":"deploy/Dockerfile","target":"final"}`
	for image, rejected := range map[string]string{"": "", "app": "", "team/app": "", "other": `declares it for the image "other"`, "pp": `declares it for the image "pp"`} {
		c := newScene(t)
		c.built(recipe, declaredFor(image))
		c.r.Attach(prooftest.Kinds...)
		if rejected != "" {
			c.want(verify.Rejected, verify.LinkProvenance, verify.Broken, rejected)
			continue
		}
		c.want(verify.Accepted, verify.LinkProvenance, verify.Holds, "Build L2; .colophon.yaml of the commit says dockerfile deploy/Dockerfile, target final")
		// A layout has no name.
		c.opts.Layout = true
		outcome, status := verify.Accepted, verify.Holds
		if image != "" {
			outcome, status = verify.Rejected, verify.Broken
		}
		c.want(outcome, verify.LinkProvenance, status)
		c.wants.Recipe = &policy.DocumentRecipe{Image: image}
		c.want(verify.Accepted, verify.LinkProvenance, verify.Holds)
	}
}

// TestParametersAreBoundToTheSigner: the certificate names the external parameters, and
// evidence of two recipes is no proof of either.
func TestParametersAreBoundToTheSigner(t *testing.T) {
	c := newScene(t)
	c.r.Attach(missing(attest.PredicateSLSA1)...)
	c.r.Identity.Parameters = attest.ParametersDigest([]byte(`{}`))
	c.r.Attach(attest.PredicateSLSA1)
	c.want(verify.Rejected, verify.LinkProvenance, verify.Broken, "digest of the external parameters: the provenance says")
	for _, kind := range []string{attest.PredicateSign, attest.PredicateSPDX, attest.PredicateCDX} {
		c := newScene(t)
		c.r.Attach(missing(kind)...)
		c.built(`{"builder":"buildkit","target":"backdoor"}`, c.r.Parameters.Default)
		c.r.Attach(kind)
		link := verify.LinkSBOM
		if kind == attest.PredicateSign {
			link = verify.LinkSignature
		}
		c.want(verify.Rejected, link, verify.Broken, "digest of the external parameters in the certificate")
	}
}
